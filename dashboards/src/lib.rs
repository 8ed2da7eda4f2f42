//! Operators' pages.
//!
//! The path of a page: the orchestrator publishes an overview on the bus each round → [`board`] keeps the newest one
//! and a short history of shares → [`view`] turns both into words and numbers for people (what is wrong, where, what
//! is done about it) → the templates make HTML of it → [`pages`] answers `GET /` with it, and [`feed`] sends the same
//! HTML to every open page, where a small script puts it in place. Without the script the page reloads itself.
//!
//! Invariant: reads only. No page changes what the orchestrator does, and nothing here is asked for a decision.

mod assets;
mod board;
mod config;
mod feed;
mod history;
mod pages;
mod run;
pub mod sample;
mod view;

#[cfg(test)]
mod http_tests;
#[cfg(test)]
mod template_tests;

pub use config::DashboardConfig;
pub use run::{Shell, run};

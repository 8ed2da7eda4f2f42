//! Headless players: over real HTTP they do what players do, and what the real ones were measured to do when
//! something breaks.
//!
//! A view's path: [`population`] draws it → `view` opens the playlist and loads segments (`playlist`, `abr`,
//! `fetch`) → [`playback`] plays them → [`steering`] moves it → [`behaviour`] says how it takes failures → `report`
//! and `post` tell the collector, [`record`] tells us.
//!
//! Invariant: measurements are made from [`record`] alone; beacons are what the system under test gets to see.

pub mod abr;
pub mod behaviour;
mod fetch;
pub mod playback;
pub mod playlist;
pub mod population;
mod post;
pub mod record;
pub mod report;
pub mod rng;
mod state;
pub mod steering;
pub mod view;

#[cfg(test)]
mod tests;

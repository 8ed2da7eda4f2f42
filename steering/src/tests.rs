//! A node and its parts under test.

mod agreement;
mod dash_writer;
mod far;
pub(crate) mod fixtures;
mod fled;
mod hls_checker;
mod hls_writer;
pub(crate) mod node;
mod origins;
mod param_fuzz;
mod playlist_samples;
mod refusal_rules;
mod refusals;
mod samples;
mod sessions;
pub(crate) mod signed_urls;
mod size;
mod why;
mod world;
mod writer_fuzz;

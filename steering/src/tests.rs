//! A node and its parts under test.

mod agreement;
mod dash_writer;
pub(crate) mod fixtures;
mod hls_writer;
mod node;
mod refusals;
mod samples;
mod sessions;
mod world;

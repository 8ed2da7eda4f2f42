//! Decisions on synthetic evidence, one behaviour each, with production timings.

mod detection;
mod filling;
mod random_worlds;
mod restart;
mod world;

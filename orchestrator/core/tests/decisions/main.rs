//! Decisions on synthetic evidence, one behaviour each, with production timings.

mod capacity;
mod detection;
mod evidence;
mod explaining;
mod filling;
mod guards;
mod networks;
mod random_worlds;
mod reloading;
mod restart;
mod world;

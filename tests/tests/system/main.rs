//! The real binary: bad configuration, garbage, kills and restarts, and where detection comes from.

mod configuration;
mod detection;
mod durability;
mod fail_static;

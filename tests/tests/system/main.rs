//! The real binary: bad configuration, garbage, kills and restarts, and where detection comes from.

mod backtest;
mod by_hand;
mod configuration;
mod crash;
mod detection;
mod disk_full;
mod durability;
mod fail_static;
mod flow;
mod lake_tools;
mod reloading;

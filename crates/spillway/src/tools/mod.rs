//! Tools: each does one thing and ends.

pub mod backtest;
pub mod check_config;
pub mod drill;
pub mod explain;
pub mod keygen;
pub mod lake;
pub mod lake_files;
pub mod lake_import;
pub mod load;
pub mod query;
pub mod simulate;
pub mod token;

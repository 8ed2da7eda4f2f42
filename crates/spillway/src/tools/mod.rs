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
pub mod manifest;
pub mod pathway;
pub mod purge;
pub mod query;
pub mod reload;
pub mod simulate;
pub mod token;

/// An argument that means nothing: the program ends with 2, as for arguments that it doesn't know.
#[derive(Debug)]
pub struct BadUsage(pub String);

impl std::fmt::Display for BadUsage {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for BadUsage {}

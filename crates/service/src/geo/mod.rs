//! Where a client is: routing region, network and country of its address.
//!
//! Four sources, in this order, and each only fills what the ones before left open: the `[[prefix]]` table, what a
//! trusted proxy says in a header, the databases, the default. A country becomes a region by `[[region]] countries`,
//! else `continents`. The address goes no further than here.

mod client;
mod config;
mod country;
mod database;
mod prefixes;
#[cfg(test)]
mod test_database;

use spillway_model::Cohort;

pub use client::{Client, Stated};
pub use config::GeoConfig;
pub use country::{CONTINENTS, Country};
pub use database::{Databases, Found, Reload, watch};

pub(crate) use config::Proxies;
pub(crate) use prefixes::PrefixTable;

/// What is known of where a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Routing region and network.
    pub cohort: Cohort,
    /// Country.
    pub country: Option<Country>,
    /// Which source gave the region: `prefix`, `header`, `database` or `default`.
    pub told_by: &'static str,
}

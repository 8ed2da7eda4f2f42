//! Where a viewer is, as far as decisions care.

use crate::RegionId;

/// Region × network: the finest place a decision is made for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cohort {
    /// Routing region.
    pub region: RegionId,
    /// Autonomous system number; `None` where it is unknown.
    pub asn: Option<u32>,
}

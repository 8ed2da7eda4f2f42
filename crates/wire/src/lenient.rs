//! Helpers of the shapes.

/// For `skip_serializing_if`: unknown and zero counters of *our own* frames are left out. Never for beacons, where
/// absence means unknown.
#[must_use]
pub fn is_zero(value: &u64) -> bool {
    *value == 0
}

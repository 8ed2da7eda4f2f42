//! Seventh stage: who has room for those whose first pathway fails.

use std::collections::BTreeMap;

use spillway_model::PathwayId;
use spillway_routing::{Target, Weights};

use crate::Parameters;

/// Spare weights in proportion to ceiling minus plan (both bit/s), with a least weight so that a usable pathway
/// without spare capacity still ranks before a dead one. `rank()` sees to it that the second place doesn't die
/// together with the first.
pub(crate) fn spare_weights(usable: &BTreeMap<PathwayId, (f64, f64)>, p: &Parameters) -> Weights {
    let room = |(ceiling, planned): &(f64, f64)| (ceiling - planned).max(0.0);
    let all: f64 = usable.values().map(room).sum();
    usable
        .iter()
        .map(|(id, pathway)| {
            let part = if all > 0.0 { room(pathway) / all } else { 0.0 };
            (Target::Pathway(id.clone()), ((part * 1e6) as u32).max(p.spare_min_ppm))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_places_go_by_room_not_by_weight() {
        let id = |name| PathwayId::new(name).expect("id");
        let usable = [(id("own-1"), (57.0, 48.0)), (id("cdn-a"), (76.0, 80.0)), (id("cdn-b"), (76.0, 12.0))].into();
        let spare = spare_weights(&usable, &Parameters::default());
        assert_eq!(spare[&Target::Pathway(id("cdn-b"))], 876_712);
        assert_eq!(spare[&Target::Pathway(id("cdn-a"))], 1_000);
    }
}

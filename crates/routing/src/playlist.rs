//! Which pathways a playlist declares.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use spillway_model::PathwayId;
use spillway_model::limits::{PLAYLIST_MAX_PATHWAYS, PLAYLIST_MIN_PATHWAYS, PLAYLIST_NODES_PER_GROUP};

use crate::{Manifest, Place, Ranked};

/// The pathways of `order` that a playlist declares, in that order: all commercial CDNs and the best two nodes of each
/// group, at most six, and at least two where the region has two. Where six are too few, second nodes go first: a
/// playlist of own nodes alone would have nowhere to spill to. A dead own node leaves its place to a sister; a dead CDN
/// stays declared (last), since a view outlives most outages.
#[must_use]
pub fn playlist_pathways(order: &[Ranked], manifest: &Manifest) -> Vec<PathwayId> {
    let mut nodes_of_group: BTreeMap<&str, usize> = BTreeMap::new();
    // Index in `order` by urgency: 0 = CDNs and best nodes, 1 = second nodes, 2 = only to reach the minimum.
    let mut by_urgency: [Vec<usize>; 3] = Default::default();
    for (index, ranked) in order.iter().enumerate() {
        let Some(pathway) = manifest.pathways.get(&ranked.pathway) else { continue };
        let urgency = match &pathway.group {
            None => 0,
            Some(_) if ranked.place == Place::Dead && index > 0 => 2,
            Some(group) => {
                let count = nodes_of_group.entry(group.as_str()).or_default();
                *count += 1;
                if *count == 1 { 0 } else { 1 + usize::from(*count > PLAYLIST_NODES_PER_GROUP) }
            }
        };
        by_urgency[urgency].push(index);
    }
    let [urgent, second, spare] = by_urgency;
    let mut chosen: Vec<usize> = urgent.into_iter().chain(second).take(PLAYLIST_MAX_PATHWAYS).collect();
    let missing = PLAYLIST_MIN_PATHWAYS.saturating_sub(chosen.len());
    chosen.extend(spare.into_iter().take(missing));
    chosen.sort_unstable();
    chosen.into_iter().filter_map(|index| order.get(index)).map(|ranked| ranked.pathway.clone()).collect()
}

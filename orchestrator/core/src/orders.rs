//! Overrides that are in force, by region and pathway. Operators come before incidents, incidents before
//! optimisation; only a pin reaches a DOWN pathway.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{BitsPerSecond, PathwayId, RegionId, TimestampMs};
use spillway_routing::{OverrideNote, Target};

use crate::{Override, OverrideKind, Setup};

/// What operators want of one pathway in one region.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Order {
    /// Draining since, and why.
    pub drain: Option<(TimestampMs, String)>,
    pub exclude: bool,
    pub pin: bool,
    pub weight: Option<f64>,
    pub cap: Option<BitsPerSecond>,
}

/// A region's orders.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orders {
    pub pathways: BTreeMap<PathwayId, Order>,
    pub notes: Vec<OverrideNote>,
    /// Ids in force: a change of them is carried out at once.
    pub ids: BTreeSet<String>,
}

impl Orders {
    /// The orders for `region` among `overrides` at `now`.
    pub(crate) fn of(region: &RegionId, overrides: &[Override], setup: &Setup, now: TimestampMs) -> Self {
        let mut out = Self::default();
        let mut sorted: Vec<&Override> = overrides
            .iter()
            .filter(|order| order.since <= now && now < order.expires)
            .filter(|order| order.region.as_ref().is_none_or(|wanted| wanted == region))
            .collect();
        sorted.sort_by(|a, b| a.id.cmp(&b.id));
        for order in sorted {
            let nodes = setup.pathways.iter().filter(|(id, pathway)| match &order.target {
                Target::Pathway(target) => target == *id,
                Target::Group(group) => pathway.group.as_ref() == Some(group),
            });
            let mut served = false;
            for (id, pathway) in nodes {
                if pathway.regions.is_empty() || pathway.regions.contains(region) {
                    out.pathways.entry(id.clone()).or_default().take(order);
                    served = true;
                }
            }
            if served {
                out.ids.insert(order.id.clone());
                out.notes.push(OverrideNote {
                    id: order.id.clone(),
                    kind: order.kind.as_str().to_owned(),
                    target: order.target.as_str().to_owned(),
                    by: order.by.clone(),
                    reason: order.reason.clone(),
                    expires: order.expires,
                });
            }
        }
        out
    }

    /// What is wanted of one pathway.
    pub(crate) fn get(&self, id: &PathwayId) -> Option<&Order> {
        self.pathways.get(id)
    }

    /// The pinned pathway, if one is.
    pub(crate) fn pinned(&self) -> Option<&PathwayId> {
        self.pathways.iter().find(|(_, order)| order.pin).map(|(id, _)| id)
    }
}

impl Order {
    fn take(&mut self, order: &Override) {
        match order.kind {
            OverrideKind::Drain => {
                let why = format!("drained by {}: {}", order.by, order.reason);
                let earlier = self.drain.as_ref().is_some_and(|(since, _)| *since <= order.since);
                if !earlier {
                    self.drain = Some((order.since, why));
                }
            }
            OverrideKind::Exclude => self.exclude = true,
            OverrideKind::Pin => self.pin = true,
            OverrideKind::Weight(weight) if weight.is_finite() => self.weight = Some(weight.clamp(0.0, 1.0)),
            OverrideKind::Weight(_) => {}
            OverrideKind::Cap(cap) => self.cap = Some(self.cap.map_or(cap, |other| other.min(cap))),
        }
    }
}

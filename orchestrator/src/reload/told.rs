//! What a reload answers.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use spillway_model::{PathwayId, RegionId};
use spillway_orchestrator_core::{self as core, Reconfigured, RegionPlan};
use spillway_routing::Manifest;
use spillway_wire::diff::{Change, diff};

use super::KeyChange;

/// It is in force.
pub(super) const APPLIED: &str = "applied";
/// It was only tried.
pub(super) const DRY_RUN: &str = "dry_run";
/// Nothing that can change differs.
pub(super) const UNCHANGED: &str = "unchanged";

/// Smaller differences of what is headed for are not told of, ppm.
const WORTH_TELLING_PPM: u32 = 1_000;

/// What a reload answers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Told {
    /// `applied`, `dry_run` or `unchanged`.
    pub(crate) outcome: &'static str,
    /// Keys that differ, and can.
    pub(crate) changed: Vec<KeyChange>,
    /// Keys that differ and were not applied.
    pub(crate) needs_restart: Vec<String>,
    /// Pathways that serve a region from now on.
    pub(crate) added: Vec<Cell>,
    /// Pathways that serve a region no more, with the views that leave them at their next poll.
    pub(crate) removed: Vec<Left>,
    /// Orders by operators that name what is gone, and do nothing any more.
    pub(crate) orders: Vec<String>,
    /// By region: how the next manifest differs from the one in force.
    pub(crate) regions: BTreeMap<String, Difference>,
}

/// A pathway in a region.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    region: String,
    pathway: String,
}

/// A pathway that is gone from a region.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Left {
    region: String,
    pathway: String,
    views: u64,
}

/// How a region's next manifest differs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Difference {
    /// `new`, `gone`, `changed`, or `same` if nothing would be published.
    state: &'static str,
    /// Epoch in force.
    from: Option<u64>,
    /// As `manifest diff` has it.
    changes: Vec<Change>,
    /// The same for people.
    text: Vec<String>,
    /// Where weights head for, in steps where nothing is urgent, ppm: without the change and with it, where that differs.
    heads_for_ppm: BTreeMap<String, (u32, u32)>,
}

impl Told {
    pub(super) fn new(changed: Vec<KeyChange>, needs_restart: Vec<String>) -> Self {
        Self {
            outcome: UNCHANGED,
            changed,
            needs_restart,
            added: vec![],
            removed: vec![],
            orders: vec![],
            regions: BTreeMap::new(),
        }
    }

    pub(super) fn reshaped(&mut self, out: &Reconfigured) {
        let added = |(region, pathway): &(RegionId, PathwayId)| Cell {
            region: region.to_string(),
            pathway: pathway.to_string(),
        };
        let removed = |(region, pathway, views): &(RegionId, PathwayId, u64)| Left {
            region: region.to_string(),
            pathway: pathway.to_string(),
            views: *views,
        };
        self.added = out.added.iter().map(added).collect();
        self.removed = out.removed.iter().map(removed).collect();
    }
}

impl Difference {
    /// Of one region: `in_force`, what the next round would give without the change (`same`) and with it (`next`).
    pub(super) fn of(in_force: Option<&Manifest>, same: Option<&RegionPlan>, next: Option<&RegionPlan>) -> Self {
        let changes = match (in_force, next) {
            (Some(from), Some(to)) if !core::same_routing(from, &to.manifest) => diff(from, &to.manifest),
            _ => vec![],
        };
        let state = match (in_force, next) {
            (_, None) => "gone",
            (None, Some(_)) => "new",
            _ if changes.is_empty() => "same",
            _ => "changed",
        };
        let (before, after) = (wanted(same), wanted(next));
        let of = |shares: &BTreeMap<String, u32>, id: &String| shares.get(id).copied().unwrap_or(0);
        let ids: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let pairs = ids.into_iter().map(|id| (id.clone(), (of(&before, id), of(&after, id))));
        Self {
            state,
            from: in_force.map(|manifest| manifest.epoch),
            text: changes.iter().map(ToString::to_string).collect(),
            changes,
            heads_for_ppm: pairs.filter(|(_, (a, b))| a.abs_diff(*b) >= WORTH_TELLING_PPM).collect(),
        }
    }
}

fn wanted(plan: Option<&RegionPlan>) -> BTreeMap<String, u32> {
    let ppm = |share: f64| (share.clamp(0.0, 1.0) * 1e6).round() as u32;
    plan.into_iter().flat_map(|plan| &plan.trace).map(|(id, trace)| (id.to_string(), ppm(trace.wanted))).collect()
}

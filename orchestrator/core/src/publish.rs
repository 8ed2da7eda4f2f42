//! From weights to the region's plan: the manifest with its reasons, and what pages show.

use std::collections::BTreeMap;

use spillway_model::{BitsPerSecond, ContentId, PathwayId, PathwayState, Ppm, RegionId, TimestampMs, Verdict};
use spillway_routing::{CohortRule, Weights};

use crate::decide::Round;
use crate::engine::{Engine, drain_kept};
use crate::plan::{Line, Parts, describe, groups, manifest, pathways, running_shares, static_shares, static_weights};
use crate::spare::spare_weights;
use crate::weights::{Shares, to_weights};
use crate::wish::Wish;
use crate::{FindingNote, Parameters, PathwayTrace, RegionPlan, RoundInput};

impl Engine {
    pub(crate) fn region_plan(
        &self,
        round: &Round<'_>,
        region: &RegionId,
        wish: &Wish,
        planned: &BTreeMap<PathwayId, f64>,
    ) -> RegionPlan {
        let (now, p) = (round.tick.now, round.p_of(region));
        let views = self.observed.views(region);
        let memory = &self.regions[region];
        let lines = self.lines(round, region, wish);
        let declared = &self.setup.regions[region];
        let pathways = pathways(&self.setup, &lines);
        let groups = groups(&self.setup, &lines);
        let static_weights = static_weights(declared, &pathways, &groups);
        let current = if memory.course.current.is_empty() {
            static_shares(&static_weights, &groups)
        } else {
            memory.course.current.clone()
        };
        let cohort = self.cohort(round, region, (wish, &lines, planned), &current, &static_weights);
        let of_networks = self.network_rules(region, &cohort, p);
        let of_classes = self.class_rules(region, wish, &cohort);
        let cohorts = std::iter::once(cohort).chain(of_networks).chain(of_classes).collect();
        let suspect = !memory.networks.is_empty()
            || memory.last_unhealthy.is_some_and(|at| now.since(at).as_secs_f64() <= p.suspect_after_s);
        let parts = Parts {
            region: region.clone(),
            pathways,
            groups,
            static_weights,
            cohorts,
            max_bitrate_kbps: self.regions[region].caps.in_force(),
            policy: self.policy_of(region).to_owned(),
            hot_titles: memory.hot.clone(),
            suspect,
        };
        let mut manifest = manifest(parts, p, declared, now);
        manifest.probes = self.probes_now(region, now, p);
        manifest.overrides = round.orders.get(region).map(|orders| orders.notes.clone()).unwrap_or_default();
        manifest.drill = round.input.drill.clone().filter(|drill| manifest.pathways.contains_key(&drill.pathway));
        let cells = || self.observed.region(region);
        let share = |count: u64| Ppm::from_fraction(count as f64 / views.max(1) as f64);
        RegionPlan {
            manifest,
            views_active: views,
            demand: BitsPerSecond(wish.demand as u64),
            shares: cells().map(|(id, seen)| (id.clone(), share(seen.views))).collect(),
            good: cells()
                .map(|(id, seen)| {
                    let (windows, bad) = seen.windows_between(0, u64::MAX);
                    (id.clone(), (windows > 0.0).then(|| Ppm::from_fraction(1.0 - bad / windows)))
                })
                .collect(),
            views: cells().map(|(id, seen)| (id.clone(), seen.views)).collect(),
            probes: memory.cells.iter().map(|(id, cell)| (id.clone(), cell.probes.verdict(now, p))).collect(),
            verdicts: self.verdicts(round, region, wish),
            findings: memory.findings.clone(),
            guards: memory.guards.clone(),
            trace: self.trace(round, region, wish),
            unmet: Ppm::from_fraction(wish.unmet),
            cost_usd_per_hour: wish.cost_usd_per_hour,
        }
    }

    /// The rule for everybody.
    fn cohort(
        &self,
        round: &Round<'_>,
        region: &RegionId,
        (wish, lines, planned): (&Wish, &BTreeMap<PathwayId, Line>, &BTreeMap<PathwayId, f64>),
        current: &Shares,
        static_weights: &Weights,
    ) -> CohortRule {
        let (running, running_before) = self.running(round, region, current);
        let weights_new = to_weights(current).unwrap_or_else(|| static_weights.clone());
        let usable = lines
            .iter()
            .filter(|(id, _)| wish.factors.get(*id).is_some_and(|factor| *factor > 0.0))
            .map(|(id, line)| {
                let ceiling = line.learned_capacity.0 as f64 * round.p.ceiling;
                (id.clone(), (ceiling, planned.get(id).copied().unwrap_or(0.0)))
            })
            .collect();
        CohortRule {
            asn: None,
            class: None,
            device_class: None,
            weights_running: running.as_ref().and_then(to_weights).unwrap_or_else(|| weights_new.clone()),
            spare: if self.setup.switches.spare_order { spare_weights(&usable, round.p) } else { weights_new.clone() },
            weights_new,
            running_before,
            reason: describe(&self.setup, current, lines),
        }
    }

    fn verdicts(&self, round: &Round<'_>, region: &RegionId, wish: &Wish) -> Vec<String> {
        let mut out: Vec<String> = self.regions[region].findings.iter().map(words).collect();
        if round.tick.mass_change {
            let mark = Verdict::Telemetry;
            out.push(format!("{mark}: too many pathways changed state at once, nothing is optimised"));
        }
        if wish.unmet > wish.filled.unmet {
            out.push(format!(
                "LIMIT: {:.0} % of the demand is beyond the region's ceiling or budget",
                wish.unmet * 100.0
            ));
        }
        if wish.filled.panic {
            let why = if wish.filled.unmet > 0.0 { "demand exceeds all capacity" } else { "no pathway is usable" };
            out.push(format!("PANIC: {why}"));
        }
        out
    }

    fn lines(&self, round: &Round<'_>, region: &RegionId, wish: &Wish) -> BTreeMap<PathwayId, Line> {
        let memory = &self.regions[region];
        let targets: BTreeMap<&PathwayId, f64> =
            wish.candidates.iter().map(|candidate| (&candidate.id, candidate.target * candidate.factor)).collect();
        memory
            .cells
            .iter()
            .map(|(id, cell)| {
                let room = &round.rooms[id];
                let blind = memory.lost_since.is_some() && cell.machine.state == PathwayState::Healthy;
                let (state, reason) = if blind {
                    (PathwayState::Unknown, "measurements are missing, weights stay as they are".to_owned())
                } else {
                    (cell.machine.state, cell.machine.reason.clone())
                };
                let line = Line {
                    state,
                    reason,
                    since: cell.machine.since,
                    utilisation: round.utilisation[id].unwrap_or(0.0),
                    capacity: room.capacity,
                    learned_capacity: BitsPerSecond(room.learned as u64),
                    node_weight: targets.get(id).copied().unwrap_or(0.0),
                };
                (id.clone(), line)
            })
            .collect()
    }

    /// Weights of running views while something drains, and the line between running and new views.
    fn running(&self, round: &Round<'_>, region: &RegionId, current: &Shares) -> (Option<Shares>, TimestampMs) {
        let memory = &self.regions[region];
        let orders = round.orders.get(region);
        if orders.is_some_and(|orders| orders.pinned().is_some()) {
            return (None, TimestampMs::ZERO);
        }
        let mut kept = Shares::new();
        let mut begin: Option<TimestampMs> = None;
        for (id, cell) in memory.cells.iter().filter(|(_, cell)| cell.machine.state == PathwayState::Draining) {
            let order = orders.and_then(|orders| orders.get(id));
            if order.is_some_and(|order| order.exclude) {
                continue;
            }
            let since = order
                .and_then(|order| order.drain.as_ref().map(|(since, _)| *since))
                .or(self.pathways[id].draining_since)
                .unwrap_or(cell.machine.since);
            let part = drain_kept(since, round.tick.now, round.p) * cell.drain_from;
            if part > 0.0 {
                kept.insert(id.clone(), part);
                begin = Some(begin.map_or(since, |begin| begin.min(since)));
            }
        }
        match begin {
            Some(begin) => (Some(running_shares(current, &kept)), begin),
            None => (None, TimestampMs::ZERO),
        }
    }

    /// The numbers behind the weights.
    fn trace(&self, round: &Round<'_>, region: &RegionId, wish: &Wish) -> BTreeMap<PathwayId, PathwayTrace> {
        let p = round.p_of(region);
        let memory = &self.regions[region];
        let parents = &round.parents;
        let of = |shares: &Shares, id: &PathwayId| shares.get(id).copied().unwrap_or(0.0);
        wish.candidates
            .iter()
            .map(|candidate| {
                let (id, cell) = (&candidate.id, &memory.cells[&candidate.id]);
                let trace = PathwayTrace {
                    rate: cell.health.estimate(parents[id], p),
                    rate_interval: cell.health.interval(parents[id], p),
                    windows: cell.health.effective_windows(),
                    baseline: cell.baseline,
                    reference: cell.cusum.reference(),
                    cusum: cell.cusum.sum,
                    factor: candidate.factor,
                    target_bps: candidate.target,
                    ceiling_bps: candidate.ceiling,
                    price_usd_per_gb: candidate.price_at(of(&wish.filled.shares, id) * wish.movable),
                    in_floor: candidate.in_floor,
                    wanted: of(&wish.filled.shares, id),
                    share: of(&memory.course.current, id),
                };
                (id.clone(), trace)
            })
            .collect()
    }

    /// Titles become hot at a share of the views and cool at half of it.
    pub(crate) fn heat(&mut self, region: &RegionId, input: &RoundInput, p: &Parameters) {
        let views = self.observed.views(region);
        let Some(memory) = self.regions.get_mut(region) else { return };
        let of_region = || input.content.iter().filter(|content| &content.region == region);
        if views == 0 || of_region().next().is_none() {
            return;
        }
        let mut counts: BTreeMap<&ContentId, u64> = BTreeMap::new();
        for content in of_region() {
            let count = counts.entry(&content.content).or_default();
            *count = (*count).max(content.views_active);
        }
        let hot = memory.hot.clone();
        memory.hot = counts
            .into_iter()
            .filter(|(title, count)| {
                let least = if hot.contains(*title) { p.hot_title_share / 2.0 } else { p.hot_title_share };
                *count as f64 >= least * views as f64
            })
            .map(|(title, _)| title.clone())
            .collect();
    }
}

/// "PATHxASN cdn-a: …"
fn words(note: &FindingNote) -> String {
    let of = note.pathway.as_ref().map(|id| format!(" {id}")).unwrap_or_default();
    format!("{}{of}: {}", note.verdict, note.text)
}

//! Load and state of origin groups, as own edges see them.
//!
//! Known is what own edges fetch, and whether that works. Not known is what commercial CDNs fetch: their part of an
//! origin's load is missing here, so that its room looks larger than it is; a ceiling in
//! `[orchestrator.ceilings] origin_groups` should leave theirs out. Nobody counts failures by title, so that no title
//! is ever called failing alone.

use std::collections::{BTreeMap, VecDeque};

use spillway_model::limits::{LOAD_REPORT_INTERVAL_MS, LOAD_REPORTS_MISSED_MAX};
use spillway_model::{BitsPerSecond, OriginGroupId, PathwayId, TimestampMs};
use spillway_orchestrator_core::{OriginEvidence, OriginSeen};
use spillway_service::deployment::Deployment;
use spillway_wire::load::LoadReport;

/// Load is the mean of so long, ms.
const MEAN_MS: u64 = 10_000;
/// An edge that is silent for so long says nothing any more, ms.
pub(crate) const GONE_MS: u64 = LOAD_REPORTS_MISSED_MAX as u64 * LOAD_REPORT_INTERVAL_MS + 1_000;
/// Reports of one edge that are kept; it sends one each two seconds.
const REPORTS_MAX: usize = 64;

/// A state of the origin by its word.
pub(crate) fn seen(word: &str) -> OriginSeen {
    match word {
        "up" => OriginSeen::Up,
        "failing" => OriginSeen::Failing,
        _ => OriginSeen::Unknown,
    }
}

/// What one edge fetched in one interval.
#[derive(Clone, Copy, Debug)]
struct Fetched {
    at: TimestampMs,
    bytes: u64,
    interval_ms: u64,
}

#[derive(Debug, Default)]
struct Edge {
    fetched: VecDeque<Fetched>,
    state: OriginSeen,
}

/// What edges said of their origins lately.
#[derive(Debug, Default)]
pub(crate) struct Origins(BTreeMap<PathwayId, Edge>);

impl Origins {
    /// Takes a load report, which came at `at`.
    pub(crate) fn take(&mut self, pathway: &PathwayId, report: &LoadReport, at: TimestampMs) {
        let edge = self.0.entry(pathway.clone()).or_default();
        edge.state = seen(&report.origin.state);
        edge.fetched.push_back(Fetched { at, bytes: report.origin.bytes, interval_ms: report.interval_ms });
        if edge.fetched.len() > REPORTS_MAX {
            edge.fetched.pop_front();
        }
    }

    /// By origin group that an edge told of lately: the sum of what edges fetch, and the state that most of those see
    /// that asked it.
    pub(crate) fn evidence(&mut self, now: TimestampMs, deployment: &Deployment) -> Vec<OriginEvidence> {
        self.0.retain(|_, edge| edge.fetched.back().is_some_and(|last| now.since(last.at).0 <= GONE_MS));
        let mut groups: BTreeMap<OriginGroupId, (TimestampMs, u64, [usize; 2])> = BTreeMap::new();
        for (id, edge) in &mut self.0 {
            edge.fetched.retain(|fetched| now.since(fetched.at).0 < MEAN_MS);
            let group = deployment.pathways.get(id).and_then(|config| OriginGroupId::new(&config.origin_group).ok());
            let Some((group, last)) = group.zip(edge.fetched.back().map(|last| last.at)) else { continue };
            let (at, bits, [up, failing]) = groups.entry(group).or_default();
            *at = last.max(*at);
            *bits = bits.saturating_add(edge.bits_per_s());
            *up += usize::from(edge.state == OriginSeen::Up);
            *failing += usize::from(edge.state == OriginSeen::Failing);
        }
        let evidence = |(origin_group, (at, bits, votes)): (_, (_, _, [usize; 2]))| OriginEvidence {
            origin_group,
            at,
            bits_out_10s: BitsPerSecond(bits),
            state: match votes {
                [0, 0] => OriginSeen::Unknown,
                [up, failing] if failing > up => OriginSeen::Failing,
                _ => OriginSeen::Up,
            },
            failing_content: Vec::new(),
        };
        groups.into_iter().map(evidence).collect()
    }
}

impl Edge {
    fn bits_per_s(&self) -> u64 {
        let sum = |of: fn(&Fetched) -> u64| self.fetched.iter().map(of).fold(0, u64::saturating_add);
        let (bytes, ms) = (sum(|fetched| fetched.bytes), sum(|fetched| fetched.interval_ms));
        bytes.saturating_mul(8_000).checked_div(ms).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{deployment, id};

    fn report(state: &str, bytes: u64) -> LoadReport {
        let origin = spillway_wire::load::OriginSeen { state: state.into(), fetches: 1, failed: 0, bytes };
        LoadReport { v: 1, interval_ms: 2_000, origin, ..LoadReport::default() }
    }

    #[test]
    fn what_edges_fetch_adds_up_and_most_of_them_say_how_the_origin_is() {
        let deployment = deployment();
        let at = |s: u64| TimestampMs(1_000_000 + s * 1_000);
        let mut origins = Origins::default();
        assert_eq!(origins.evidence(at(0), &deployment), []);
        for s in [0, 2, 4, 6, 8] {
            origins.take(&id("own-x-1"), &report("up", 1_000_000), at(s));
            origins.take(&id("own-x-2"), &report("failing", 500_000), at(s));
            origins.take(&id("own-x-3"), &report("unknown", 0), at(s));
        }
        let told = |origins: &mut Origins, s| {
            let all = origins.evidence(at(s), &deployment);
            all.into_iter()
                .map(|of| (of.origin_group.to_string(), of.at, of.bits_out_10s.0, of.state))
                .collect::<Vec<_>>()
        };
        // 1.5 MB in 2 s are 6 Mbit/s; one edge against one is not most.
        assert_eq!(told(&mut origins, 8), [("origin".into(), at(8), 6_000_000, OriginSeen::Up)]);

        origins.take(&id("own-x-3"), &report("failing", 0), at(10));
        assert_eq!(told(&mut origins, 10)[0].3, OriginSeen::Failing);
        origins.take(&id("own-x-1"), &report("up", 11_000_000), at(12));
        // 3 MB of 6 s and 11 MB of 2 s; 1.5 MB of 6 s by the second edge.
        assert_eq!(told(&mut origins, 12)[0].2, 14_000_000 + 2_000_000);
        // The second edge is gone after three missed reports, then all are.
        assert_eq!(told(&mut origins, 17), [("origin".into(), at(12), 24_000_000, OriginSeen::Up)]);
        assert_eq!(told(&mut origins, 30), []);
    }

    #[test]
    fn reports_without_a_length_and_absurd_ones_do_no_harm() {
        let mut origins = Origins::default();
        let now = TimestampMs(1_000_000);
        origins.take(&id("own-x-1"), &LoadReport { interval_ms: 0, ..report("up", 5) }, now);
        assert_eq!(origins.evidence(now, &deployment())[0].bits_out_10s, BitsPerSecond(0));
        for _ in 0..1_000 {
            origins.take(&id("own-x-1"), &report("up", u64::MAX), now);
        }
        assert_eq!(origins.0[&id("own-x-1")].fetched.len(), REPORTS_MAX);
        assert_eq!(origins.evidence(now, &deployment()).len(), 1);
    }
}

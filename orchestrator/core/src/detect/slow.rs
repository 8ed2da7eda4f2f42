//! The slow lane: bad windows over a minute or two, by CUSUM against the other pathways.

use std::collections::BTreeMap;

use spillway_model::{PathwayId, RegionId, Verdict};

use crate::FindingNote;
use crate::detect::{Alarm, Finding, Scene, note};
use crate::memory::CellMemory;
use crate::observe::CellSeen;

impl Scene<'_> {
    pub(super) fn slow_lane(
        &self,
        id: &PathwayId,
        memory: &CellMemory,
        seen: &CellSeen,
        networks: &BTreeMap<u32, Finding>,
        notes: &mut Vec<FindingNote>,
    ) -> Option<(Alarm, String)> {
        if self.telemetry_lost {
            return None;
        }
        let p = self.parameters;
        let rate = memory.health.estimate(self.parent(id, memory), p);
        let sum = memory.cusum.sum;
        let well = !self.compares || memory.cusum.others_are_well(p);
        let ill = sum > p.cusum_degraded && rate > self.ill_rate(memory) && well;
        let dead = (ill && sum > p.cusum_down && rate > p.down_rate)
            || (sum > p.tick_cusum && well && self.bad_ticks(id, seen));
        if (!ill && !dead) || self.is_one_networks_fault(memory, seen, networks) {
            return None;
        }
        let text = format!("{:.1} % of windows bad (S {sum:.0}, usual {:.1} %)", rate * 100.0, memory.baseline * 100.0);
        if self.shielded_by_origin(id, memory) {
            notes.push(note(Verdict::Origin, id, format!("{text}, but its origin is failing")));
            return None;
        }
        if !dead && self.origin_of.get(id).is_some_and(|origin| self.origins_full.contains(origin)) {
            notes.push(note(self.origin(), id, format!("{text}, but its origin is at its ceiling")));
            return None;
        }
        if let Some(strain) = self.strained.get(id).filter(|_| !self.is_well_elsewhere(id, seen)) {
            notes.push(note(Verdict::Capacity, id, format!("{text} {strain}")));
            return None;
        }
        let alarm = if dead { Alarm::Down } else { Alarm::Degraded };
        Some((alarm, text))
    }

    /// Whether the same pathway is well in the other regions, now and with enough windows: what is too full is so
    /// everywhere.
    fn is_well_elsewhere(&self, id: &PathwayId, seen: &CellSeen) -> bool {
        let recent = |region: &RegionId, seen: &CellSeen| {
            let latest = self.observed.latest_s(region) + 1;
            seen.windows_between(latest.saturating_sub(20), latest)
        };
        let (own, own_bad) = recent(self.region, seen);
        let others = self.cells_elsewhere(id).map(|(region, seen)| recent(region, seen));
        let (windows, bad) = others.fold((0.0, 0.0), |sum, other| (sum.0 + other.0, sum.1 + other.1));
        let p = self.parameters;
        let rate = own_bad / own.max(1.0);
        windows >= p.common_windows_min.max(p.elsewhere_share * own)
            && bad / windows < (rate / p.fast_times_reference).min(p.degraded_rate)
    }

    fn cells_elsewhere(&self, id: &PathwayId) -> impl Iterator<Item = (&RegionId, &CellSeen)> {
        let others = self.failing.keys().filter(|region| *region != self.region);
        others.filter_map(move |region| Some((region, self.observed.cell(region, id)?)))
    }

    /// Whether a few networks make the rate, and the rest, which is enough to judge by, is well. Networks are chosen by
    /// their own CUSUM: chosen by their rate, the rest of any brownout would look well.
    fn is_one_networks_fault(&self, memory: &CellMemory, seen: &CellSeen, networks: &BTreeMap<u32, Finding>) -> bool {
        let p = self.parameters;
        let (mut all, mut bad, mut rest, mut rest_bad) = (0.0, 0.0, 0.0, 0.0);
        for network in &seen.networks {
            let suspect = network.asn.is_some_and(|asn| networks.contains_key(&asn))
                || (network.cusum > p.cusum_degraded / 2.0 && network.neighbours_are_well(p));
            all += network.health.all;
            bad += network.health.bad;
            if !suspect {
                rest += network.health.all;
                rest_bad += network.health.bad;
            }
        }
        let enough = rest >= p.network_rest_windows_min && rest >= p.network_rest_share * all && rest < all;
        enough && rest_bad / rest < self.ill_rate(memory) && rest_bad / rest < bad / all / 2.0
    }

    /// Two ticks of 10 s (one, if it has many windows; both together, if they are clear), with a bad share that is high
    /// and far above the others'.
    fn bad_ticks(&self, id: &PathwayId, seen: &CellSeen) -> bool {
        let latest = self.observed.latest_s(self.region) + 1;
        let p = self.parameters;
        let is_bad = |from: u64, to: u64, least: f64, share: f64| {
            let (windows, bad) = seen.windows_between(from, to);
            let (others_windows, others_bad) = self
                .comparable(id)
                .map(|(_, seen)| seen.windows_between(from, to))
                .fold((0.0, 0.0), |sum, tick| (sum.0 + tick.0, sum.1 + tick.1));
            let reference = (others_bad + 10.0 * p.baseline_default) / (others_windows + 10.0);
            windows >= least && bad > share * windows && bad / windows > p.fast_times_reference * reference
        };
        let [now, tick, two] = [0, 10, 20].map(|ago| latest.saturating_sub(ago));
        is_bad(tick, now, p.tick_windows_sure, p.tick_bad_share)
            || is_bad(two, now, 2.0 * p.tick_windows_min, p.ticks_bad_share)
            || (is_bad(tick, now, p.tick_windows_min, p.tick_bad_share)
                && is_bad(two, tick, p.tick_windows_min, p.tick_bad_share))
    }
}

//! Faults that the pathways share: behind them (ORIGIN), in front of them (ACCESS), or no audience at all (ABUSE).

use std::collections::BTreeMap;

use spillway_model::{PathwayId, Verdict};

use crate::FindingNote;
use crate::detect::reference::is_hard;
use crate::detect::{Alarm, Found, Scene, general, network_name, note};
use crate::observe::{Failing, Windows};

impl Scene<'_> {
    pub(super) fn common_faults(&self, found: &mut Found) {
        let fast = self.common_failures(found);
        let slow = if fast.is_none() && !self.telemetry_lost { self.common_windows(found) } else { None };
        if slow.is_none() && fast.is_none() && !self.telemetry_lost {
            found.notes.extend(self.ill_access_networks());
        }
        found.notes.extend(fast);
        found.notes.extend(slow);
        found.notes.extend(self.abuse());
        found.notes.extend(self.accused());
        if !self.content_failing.is_empty() {
            let count = self.content_failing.len();
            found.notes.push(FindingNote {
                content: self.content_failing.iter().cloned().collect(),
                ..general(self.origin(), format!("{count} titles fail at their origin, the others are well"))
            });
        }
    }

    /// The origin's fault; our own, if we have just moved views.
    pub(super) fn origin(&self) -> Verdict {
        if self.moved_lately { Verdict::OriginSelf } else { Verdict::Origin }
    }

    fn common_failures(&self, found: &Found) -> Option<FindingNote> {
        let here = self.failing.get(self.region)?;
        let unmoved = |id: &PathwayId| {
            found.pathways.get(id).is_some_and(|finding| finding.alarm == Alarm::None)
                && !found.networks.keys().any(|(_, on)| on == id)
        };
        let mut hard = here.iter().filter(|(id, failing)| is_hard(failing, self.parameters) && unmoved(id));
        hard.next()?;
        let mut all = Failing::default();
        here.values().for_each(|failing| all.add(failing));
        let count = format!("{:.0} of {:.0} views failing on all pathways alike", all.failing, all.views);
        let worst = all.networks.iter().max_by(|(_, (_, a)), (_, (_, b))| a.total_cmp(b));
        if let Some((asn, (views, failing))) = worst
            && *failing >= self.parameters.asn_concentration * all.failing
            && *views < 0.9 * all.views
        {
            let text = format!("{count}, nearly all in {}", network_name(*asn));
            return Some(FindingNote { asn: *asn, ..general(Verdict::Access, text) });
        }
        Some(general(self.origin(), count))
    }

    /// Every pathway with enough windows is ill, and none stands out.
    fn common_windows(&self, found: &mut Found) -> Option<FindingNote> {
        let p = self.parameters;
        let mut judged = Vec::new();
        for (id, memory) in self.cells {
            if found.pathways.get(id).is_some_and(|finding| finding.alarm != Alarm::None) {
                return None;
            }
            if memory.health.effective_windows() < p.common_windows_min || !memory.machine.is_reference() {
                continue;
            }
            if memory.health.at_least(self.parent(id, memory), p) < self.ill_rate(memory) {
                return None;
            }
            judged.push(id);
        }
        if judged.len() < p.origin_pathways_min {
            return None;
        }
        let rates = || self.cells.values().map(|memory| memory.health.sums());
        let (windows, bad) = rates().fold((0.0, 0.0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1));
        let text = format!("{:.1} % of windows bad on {} pathways alike", 100.0 * bad / windows.max(1.0), judged.len());
        if judged.iter().all(|id| self.full.contains(*id)) {
            // All are full: there is no other reason to look for.
            let too_full = |id: &&PathwayId| note(Verdict::Capacity, id, format!("{text}, all of them full"));
            found.notes.extend(judged.iter().map(too_full));
            return None;
        }
        Some(general(self.origin(), text))
    }

    /// Networks that are far worse than the region, on whatever pathway.
    fn ill_access_networks(&self) -> Vec<FindingNote> {
        let p = self.parameters;
        let mut networks: BTreeMap<u32, Windows> = BTreeMap::new();
        let mut all = Windows::default();
        for network in self.observed.region(self.region).flat_map(|(_, seen)| &seen.networks) {
            all.add(&network.health);
            // Nothing to add where nothing is bad.
            if let Some(asn) = network.asn.filter(|_| network.health.bad > 1.0) {
                networks.entry(asn).or_default().add(&network.health);
            }
        }
        let mut out = Vec::new();
        for (asn, sums) in networks {
            let rest = Windows { all: all.all - sums.all, bad: all.bad - sums.bad, squares: 0.0 };
            if sums.effective() < p.common_windows_min || rest.all < p.common_windows_min {
                continue;
            }
            let usual = rest.bad / rest.all;
            let rate = sums.bad / sums.all;
            let error = (rate * (1.0 - rate) / sums.effective()).sqrt();
            if rate - p.access_sigma * error > (p.fast_times_reference * usual).max(usual + p.degraded_rate) {
                let text = format!("{:.1} % of windows bad in AS{asn}, {:.1} % elsewhere", rate * 100.0, usual * 100.0);
                out.push(FindingNote { asn: Some(asn), ..general(Verdict::Access, text) });
            }
        }
        out.truncate(p.cohort_rules_max);
        out
    }

    /// Pathways of which views complain that nobody sent there.
    fn accused(&self) -> impl Iterator<Item = FindingNote> {
        let accused = self.observed.region(self.region).filter(|(_, seen)| seen.unsent > 0.0);
        accused.map(|(id, seen)| {
            let text =
                format!("{:.0} of {} views complain, but were sent elsewhere: not believed", seen.unsent, seen.views);
            note(Verdict::Abuse, id, text)
        })
    }

    /// Many requests without a valid token.
    fn abuse(&self) -> Option<FindingNote> {
        let p = self.parameters;
        let from = (self.observed.latest_s(self.region) + 1).saturating_sub(p.silence_window_s);
        let (mut untrusted, mut assigned) = (0, 0);
        for (_, seen) in self.observed.region(self.region) {
            untrusted += seen.ghosts_since(from).1;
            assigned += seen.assigned_since(from).0;
        }
        let flood =
            untrusted >= p.abuse_requests_min && untrusted as f64 >= p.abuse_share * (untrusted + assigned) as f64;
        flood.then(|| {
            let text =
                format!("{untrusted} requests without a valid token in {} s, {assigned} with", p.silence_window_s);
            general(Verdict::Abuse, text)
        })
    }
}

//! One pathway in one region: the last minute by second, and its networks.

use std::collections::{BTreeMap, VecDeque};

use spillway_model::limits::ASNS_PER_REGION_MAX;

use crate::observe::network::{Gauges, Network};

/// Seconds that are kept: the longest look-back is the good share of the last minute.
pub(crate) const SECONDS_KEPT: u64 = 60;

/// Counters of one second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Second {
    /// Which second, since the epoch.
    pub at_s: u64,
    /// Weight of windows closed.
    pub windows: f64,
    /// Weight of the bad ones.
    pub bad: f64,
    /// Heartbeats due.
    pub due: u64,
    /// Heartbeats that came.
    pub received: u64,
    /// Sessions assigned by steering nodes.
    pub assigned: u64,
    /// Views started.
    pub started: u64,
    /// Playlists issued of which nothing was heard again.
    pub ghosts: u64,
    /// Requests without a valid token.
    pub untrusted: u64,
    /// Media requests answered well.
    pub ok: u64,
    /// Media requests failed or late.
    pub failed: u64,
    /// Views whose reports of this second are not believed; `None`: not judged yet.
    pub unsent: Option<f64>,
}

/// What came since the last round.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fresh {
    pub windows: f64,
    pub bad: f64,
    pub weight_sq: f64,
    pub bits: f64,
    pub view_s: f64,
}

/// One pathway in one region.
#[derive(Clone, Debug, Default)]
pub(crate) struct CellSeen {
    /// Views now.
    pub views: u64,
    /// Of them, those whose player ignores steering.
    pub fixed: u64,
    /// Of them, those with a bad window in the last minute; 0 if nobody counts them.
    pub views_bad: u64,
    /// Sessions whose last steering answer names this pathway first.
    pub polling: u64,
    /// The same by steering node.
    pub polls: Gauges,
    /// Views whose reports are not believed: ill, and sent elsewhere.
    pub unsent: f64,
    /// The last minute, oldest first.
    pub seconds: VecDeque<Second>,
    /// Since the last round; the bad ones already without what few views repeat.
    pub fresh: Fresh,
    /// Part of the bad windows that is believed.
    pub trust: f64,
    /// By number, the unknown one first.
    pub networks: Vec<Network>,
    /// Distinct views with a failed or late request by network and second.
    failing: BTreeMap<Option<u32>, Vec<(u64, u64)>>,
    /// (second, sessions that had been told to stay here, those of them that left) by network.
    settled: BTreeMap<Option<u32>, Vec<(u64, u64, u64)>>,
    hint: usize,
}

/// Distinct failing views of a few seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failing {
    /// (views, failing) by network; only filled where something fails.
    pub networks: BTreeMap<Option<u32>, (f64, f64)>,
    /// Views of all networks.
    pub views: f64,
    /// Failing ones.
    pub failing: f64,
}

impl Failing {
    pub(crate) fn share(&self) -> f64 {
        if self.views > 0.0 { self.failing / self.views } else { 0.0 }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (asn, (views, failing)) in &other.networks {
            let entry = self.networks.entry(*asn).or_default();
            entry.0 += views;
            entry.1 += failing;
        }
        self.views += other.views;
        self.failing += other.failing;
    }

    /// Without one network.
    pub(crate) fn without(&self, asn: Option<u32>) -> Self {
        let mut out = self.clone();
        if let Some((views, failing)) = out.networks.remove(&asn) {
            out.views -= views;
            out.failing -= failing;
        }
        out
    }
}

impl CellSeen {
    /// The network's entry, made if there is room; else the one of the unknown.
    pub(crate) fn network(&mut self, asn: Option<u32>) -> &mut Network {
        // Frames come in order, so the next one is most often the one wanted.
        let next = self.hint + 1;
        let index = if self.networks.get(next).is_some_and(|network| network.asn == asn) {
            next
        } else {
            match self.networks.binary_search_by_key(&asn, |network| network.asn) {
                Ok(index) => index,
                Err(_) if asn.is_some() && self.networks.len() >= ASNS_PER_REGION_MAX => return self.network(None),
                Err(index) => {
                    self.networks.insert(index, Network::new(asn));
                    index
                }
            }
        };
        self.hint = index;
        &mut self.networks[index]
    }

    pub(crate) fn second(&mut self, at_s: u64) -> Option<&mut Second> {
        let newest = self.seconds.back().map_or(0, |second| second.at_s);
        if at_s == newest && newest > 0 {
            return self.seconds.back_mut();
        }
        if at_s + SECONDS_KEPT <= newest {
            return None;
        }
        let index = self.seconds.partition_point(|second| second.at_s < at_s);
        if self.seconds.get(index).is_none_or(|second| second.at_s != at_s) {
            self.seconds.insert(index, Second { at_s, ..Second::default() });
        }
        self.seconds.get_mut(index)
    }

    pub(crate) fn fail(&mut self, asn: Option<u32>, at_s: u64, views: u64) {
        let seconds = self.failing.entry(asn).or_default();
        match seconds.iter_mut().find(|(second, _)| *second == at_s) {
            Some((_, count)) => *count += views,
            None => seconds.push((at_s, views)),
        }
    }

    pub(crate) fn settle(&mut self, asn: Option<u32>, at_s: u64, sessions: u64, fled: u64) {
        let seconds = self.settled.entry(asn).or_default();
        match seconds.iter_mut().find(|(second, ..)| *second == at_s) {
            Some((_, all, left)) => (*all, *left) = (*all + sessions, *left + fled),
            None => seconds.push((at_s, sessions, fled)),
        }
    }

    /// Forgets what is older than a minute before `latest_s`, failing views older than `window_s`, polls older than
    /// `fled_window_s`.
    pub(crate) fn age(&mut self, latest_s: u64, window_s: u64, fled_window_s: u64) {
        self.settled.retain(|_, seconds| {
            seconds.retain(|(at_s, ..)| at_s + fled_window_s > latest_s);
            !seconds.is_empty()
        });
        while self.seconds.front().is_some_and(|second| second.at_s + SECONDS_KEPT <= latest_s) {
            self.seconds.pop_front();
        }
        self.failing.retain(|_, seconds| {
            seconds.retain(|(at_s, _)| at_s + window_s.max(10) > latest_s);
            !seconds.is_empty()
        });
    }

    fn since(&self, from_s: u64) -> impl Iterator<Item = &Second> {
        self.seconds.iter().rev().take_while(move |second| second.at_s >= from_s)
    }

    /// Failing views from second `from_s` on, without the networks that have none. A frame counts distinct views of its
    /// own second only, so that over several seconds the truth lies between the fullest second and the sum: the middle
    /// is taken, or two players that retry every second would look like six.
    pub(crate) fn failing_since(&self, from_s: u64) -> Failing {
        let mut out = Failing { views: self.views as f64, ..Failing::default() };
        let believed = self.believed_by_second(from_s);
        for (asn, seconds) in &self.failing {
            let counts = || {
                let since = seconds.iter().filter(|(at_s, _)| *at_s >= from_s);
                since.map(|(at_s, count)| *count as f64 * believed.get(at_s).copied().unwrap_or(1.0))
            };
            let (fullest, sum) = (counts().fold(0.0, f64::max), counts().sum::<f64>());
            if sum <= 0.0 {
                continue;
            }
            let found = self.networks.binary_search_by_key(asn, |network| network.asn).ok();
            let known = found.map_or(0.0, |index| self.networks[index].views as f64);
            let views = known.max(fullest);
            let failing = f64::midpoint(fullest, sum.min(views)).min(views);
            out.networks.insert(*asn, (views, failing));
            out.views += views - known;
            out.failing += failing;
        }
        out
    }

    /// Part of each second's failing views that is believed, where it isn't all of them.
    fn believed_by_second(&self, from_s: u64) -> BTreeMap<u64, f64> {
        let mut out = BTreeMap::new();
        let unsent = |second: &Second| second.unsent.filter(|unsent| *unsent > 0.0);
        for (at_s, unsent) in self.since(from_s).filter_map(|second| Some((second.at_s, unsent(second)?))) {
            let here = self.failing.values().flatten().filter(|(second, _)| *second == at_s);
            let failing: u64 = here.map(|(_, count)| count).sum();
            out.insert(at_s, (1.0 - unsent / failing.max(1) as f64).max(0.0));
        }
        out
    }

    /// Sessions that polled, and those of them that had left by themselves, of all seconds kept.
    pub(crate) fn fled(&self) -> Failing {
        let mut out = Failing::default();
        for (asn, seconds) in &self.settled {
            let sums = seconds.iter().fold((0, 0), |(all, left), (_, more, gone)| (all + more, left + gone));
            let (views, failing) = (sums.0 as f64, sums.1.min(sums.0) as f64);
            out.add(&Failing { networks: [(*asn, (views, failing))].into(), views, failing });
        }
        out
    }

    /// [`CellSeen::failing_since`] with every network.
    pub(crate) fn failing_in_detail(&self, from_s: u64) -> Failing {
        let mut out = self.failing_since(from_s);
        for network in self.networks.iter().filter(|network| network.views > 0) {
            out.networks.entry(network.asn).or_insert((network.views as f64, 0.0));
        }
        out
    }

    /// (windows, bad ones that are believed) from second `from_s` on, up to but without `to_s`.
    pub(crate) fn windows_between(&self, from_s: u64, to_s: u64) -> (f64, f64) {
        let (windows, bad) = self
            .since(from_s)
            .filter(|second| second.at_s < to_s)
            .fold((0.0, 0.0), |(windows, bad), second| (windows + second.windows, bad + second.bad));
        (windows, bad * self.trust)
    }

    /// (due, received) heartbeats from second `from_s` on.
    pub(crate) fn heartbeats_since(&self, from_s: u64) -> (u64, u64) {
        self.since(from_s).fold((0, 0), |(due, received), second| (due + second.due, received + second.received))
    }

    /// (assigned, started) sessions from second `from_s` on.
    pub(crate) fn assigned_since(&self, from_s: u64) -> (u64, u64) {
        self.since(from_s)
            .fold((0, 0), |(assigned, started), second| (assigned + second.assigned, started + second.started))
    }

    /// (good, failed or late) media requests from second `from_s` on.
    pub(crate) fn requests_since(&self, from_s: u64) -> (u64, u64) {
        self.since(from_s).fold((0, 0), |(ok, failed), second| (ok + second.ok, failed + second.failed))
    }

    /// (ghosts, untrusted requests) from second `from_s` on.
    pub(crate) fn ghosts_since(&self, from_s: u64) -> (u64, u64) {
        self.since(from_s).fold((0, 0), |(ghosts, untrusted), s| (ghosts + s.ghosts, untrusted + s.untrusted))
    }

    /// Decides how much of the bad windows to believe. Few views that are bad in every window are broken or lie; a
    /// fault of the pathway meets each view now and then. From the share `d` of views with any bad window in `m`
    /// windows each, the rate that a fault of all would need is `1 - (1 - d)^(1/m)`; more than that is not believed.
    /// Before that, views that steering sent elsewhere count as if they had said nothing.
    pub(crate) fn weigh(&mut self) {
        let part = without(self.unsent, self.views as f64, self.fresh.windows, self.fresh.bad);
        self.fresh.bad *= part;
        for second in self.seconds.iter_mut().rev().take_while(|second| second.unsent.is_none()) {
            second.bad *= part;
            second.unsent = Some(self.unsent);
        }
        self.trust = 1.0;
        let (windows, bad) = self.windows_between(0, u64::MAX);
        let unsent = self.unsent;
        self.trust = believed(windows, bad, self.views as f64 - unsent, self.views_bad as f64 - unsent);
        self.fresh.bad *= self.trust;
        let part = if self.views_bad > 0 { unsent / self.views_bad as f64 } else { 0.0 };
        self.networks.iter_mut().for_each(|network| network.unsent = part * network.views_bad as f64);
    }
}

/// Part of `bad` of `windows` that is left without `unsent` of `views`, if those are bad in every window.
pub(crate) fn without(unsent: f64, views: f64, windows: f64, bad: f64) -> f64 {
    if unsent > 0.0 && bad > 0.0 { (1.0 - windows * unsent / views.max(unsent) / bad).max(0.0) } else { 1.0 }
}

/// Part of `bad` of a minute's `windows` that is believed, if `views_bad` of `views` had any.
pub(crate) fn believed(windows: f64, bad: f64, views: f64, views_bad: f64) -> f64 {
    let views = views.max(views_bad);
    if views_bad <= 0.0 || bad <= 0.0 || windows < 1.0 {
        return 1.0;
    }
    let each = (windows / views).max(1.0);
    let spread = 1.0 - (1.0 - views_bad / views).powf(1.0 / each);
    (spread * windows / bad).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_views_that_are_always_bad_weigh_as_few_and_a_brownout_of_all_counts_in_full() {
        // 1,000 views with six windows each; one in twenty lies in each of them, the others have 1 % bad.
        let lies = 50.0 * 6.0 + 950.0 * 6.0 * 0.01;
        let hit = 50 + (950.0 * (1.0 - 0.99_f64.powi(6))) as u64;
        let told = |bad: f64, hit: u64| believed(6000.0, bad, 1000.0, hit as f64);
        let rate = lies * told(lies, hit) / 6000.0;
        assert!(rate < 0.02, "within a point of 1 %: {rate}");
        let bad = 6000.0 * 0.08;
        let hit = (1000.0 * (1.0 - 0.92_f64.powi(6))) as u64;
        assert!(told(bad, hit) > 0.98);
        assert!((told(5400.0, 1000) - 1.0).abs() < 1e-9, "all views bad in nine of ten windows");
    }
}

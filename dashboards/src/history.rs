//! Shares per region and pathway over the last minutes, in columns: one list of times, one list of shares per series.

use std::collections::{BTreeMap, VecDeque};

use spillway_wire::overview::Overview;

/// How far back.
pub(crate) const WINDOW_MS: u64 = 600_000;
/// One point per round; what comes more often replaces the last point of the same step.
const STEP_MS: u64 = 2_000;
const POINTS_MAX: usize = (WINDOW_MS / STEP_MS) as usize + 1;

/// The columns.
#[derive(Debug, Default)]
pub(crate) struct History {
    times_ms: VecDeque<u64>,
    regions: BTreeMap<String, BTreeMap<String, VecDeque<u32>>>,
}

impl History {
    /// Adds the shares of `overview`, which is not older than the last.
    pub(crate) fn push(&mut self, overview: &Overview) {
        if self.times_ms.back().is_some_and(|last| overview.at_ms / STEP_MS == last / STEP_MS) {
            self.times_ms.pop_back();
            self.each_series(|series| {
                series.pop_back();
            });
        }
        let length = self.times_ms.len();
        for (region, view) in &overview.regions {
            let known = self.regions.entry(region.clone()).or_default();
            for (pathway, at) in &view.pathways {
                let series = known.entry(pathway.clone()).or_insert_with(|| VecDeque::from(vec![0; length]));
                series.push_back(at.share_ppm);
            }
        }
        self.times_ms.push_back(overview.at_ms);
        self.each_series(|series| series.resize(length + 1, 0));
        while self.times_ms.len() > POINTS_MAX
            || self.times_ms.front().is_some_and(|first| first + WINDOW_MS < overview.at_ms)
        {
            self.times_ms.pop_front();
            self.each_series(|series| {
                series.pop_front();
            });
        }
        self.forget_what_is_gone(overview);
    }

    /// Times of the points, oldest first, ms since epoch.
    pub(crate) const fn times_ms(&self) -> &VecDeque<u64> {
        &self.times_ms
    }

    /// Share of `pathway` in `region` at each of the times, ppm; none if it was never there.
    pub(crate) fn shares(&self, region: &str, pathway: &str) -> Option<&VecDeque<u32>> {
        self.regions.get(region)?.get(pathway)
    }

    fn each_series(&mut self, mut with: impl FnMut(&mut VecDeque<u32>)) {
        self.regions.values_mut().flat_map(BTreeMap::values_mut).for_each(&mut with);
    }

    /// Series of pathways that nobody declares any more, once nothing of them can be drawn.
    fn forget_what_is_gone(&mut self, overview: &Overview) {
        for (region, series) in &mut self.regions {
            let declared = overview.regions.get(region);
            series.retain(|pathway, shares| {
                declared.is_some_and(|view| view.pathways.contains_key(pathway))
                    || shares.iter().any(|share| *share > 0)
            });
        }
        self.regions.retain(|_, series| !series.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use spillway_wire::overview::{PathwayView, RegionView};

    use super::*;

    fn overview(at_ms: u64, shares: &[(&str, u32)]) -> Overview {
        let pathways = shares
            .iter()
            .map(|(name, share_ppm)| ((*name).to_owned(), PathwayView { share_ppm: *share_ppm, ..Default::default() }))
            .collect();
        let region = RegionView { pathways, ..Default::default() };
        Overview { v: 1, at_ms, regions: [("r".to_owned(), region)].into(), ..Default::default() }
    }

    #[test]
    fn it_holds_ten_minutes_and_no_more() {
        let mut history = History::default();
        for round in 0..2_000 {
            history.push(&overview(round * 2_000, &[("a", 1)]));
        }
        assert_eq!(history.times_ms().len(), 301);
        assert_eq!(history.shares("r", "a").expect("series").len(), 301);
        assert_eq!(history.times_ms().back(), Some(&3_998_000));
    }

    #[test]
    fn overviews_in_quick_succession_are_one_point() {
        let mut history = History::default();
        for at_ms in 0..1_000 {
            history.push(&overview(at_ms, &[("a", u32::try_from(at_ms).expect("small"))]));
        }
        assert_eq!(history.times_ms().len(), 1);
        assert_eq!(history.shares("r", "a").expect("series").back(), Some(&999));
    }

    #[test]
    fn a_pathway_that_comes_later_lines_up_and_one_that_went_is_forgotten() {
        let mut history = History::default();
        history.push(&overview(0, &[("a", 5)]));
        history.push(&overview(2_000, &[("a", 4), ("b", 1)]));
        history.push(&overview(4_000, &[("b", 9)]));
        assert_eq!(history.shares("r", "a").expect("a"), &[5, 4, 0]);
        assert_eq!(history.shares("r", "b").expect("b"), &[0, 1, 9]);
        for round in 3..303 {
            history.push(&overview(round * 2_000, &[("b", 9)]));
        }
        assert!(history.shares("r", "a").is_none());
    }
}

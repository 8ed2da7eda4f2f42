//! Cells while their second lasts, and the weights that they get at its end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use spillway_wire::frame::{Cell, CellKey};

/// γ of the TTFB sketch: 2 % relative error.
const GAMMA: f64 = 1.02 / 0.98;

/// Where a view is counted; the pathway of `key` is empty.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) key: Arc<CellKey>,
    /// Hash of the view.
    pub(super) view: u64,
    /// Hash of the address's prefix.
    pub(super) prefix: u64,
}

#[derive(Default)]
struct Work {
    cell: Cell,
    /// Closed windows: prefix, and whether bad.
    windows: Vec<(u64, bool)>,
    /// Views with a failed request: prefix and view.
    failing: BTreeSet<(u64, u64)>,
    late: BTreeSet<(u64, u64)>,
    /// 403s, each with its prefix and view: whose fault they are is judged at the end of the second.
    denied: Vec<(u64, u64)>,
}

/// Cells of the running second.
#[derive(Default)]
pub(super) struct Cells {
    at: BTreeMap<CellKey, usize>,
    work: Vec<Work>,
}

/// Views by property, pathway and region, and by prefix in them: what a cap is a share of.
#[derive(Default)]
pub(super) struct Crowd<'a>(HashMap<[&'a str; 3], Views>);

#[derive(Default)]
struct Views {
    all: usize,
    by_prefix: HashMap<u64, usize>,
}

/// Where the counts of one beacon's events go. A muted sink counts nothing.
pub(super) struct Sink<'a> {
    cells: &'a mut Cells,
    place: &'a Place,
    muted: bool,
    scratch: Work,
    /// The pathway that was asked for last, and its cell: one beacon's events are nearly always of one.
    last: Option<(String, usize)>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(cells: &'a mut Cells, place: &'a Place) -> Self {
        Self { cells, place, muted: false, scratch: Work::default(), last: None }
    }

    pub(super) fn mute(&mut self, muted: bool) {
        self.muted = muted;
    }

    pub(super) const fn is_muted(&self) -> bool {
        self.muted
    }

    fn work(&mut self, pathway: &str) -> &mut Work {
        if self.muted {
            return &mut self.scratch;
        }
        let at = match &self.last {
            Some((name, at)) if name == pathway => *at,
            _ => {
                let key = CellKey { pathway: pathway.to_owned(), ..CellKey::clone(&self.place.key) };
                let at = self.cells.at(key);
                self.last = Some((pathway.to_owned(), at));
                at
            }
        };
        &mut self.cells.work[at]
    }

    pub(super) fn cell(&mut self, pathway: &str) -> &mut Cell {
        &mut self.work(pathway).cell
    }

    /// A closed window, and why it is bad if it is.
    pub(super) fn window(&mut self, pathway: &str, bad: Option<&'static str>) {
        let prefix = self.place.prefix;
        let work = self.work(pathway);
        work.windows.push((prefix, bad.is_some()));
        work.cell.windows += 1;
        if let Some(reason) = bad {
            *work.cell.bad.entry(reason.into()).or_default() += 1;
        }
    }

    pub(super) fn failed(&mut self, pathway: &str, requests: u64) {
        let id = (self.place.prefix, self.place.view);
        let work = self.work(pathway);
        work.cell.requests_failed += requests;
        work.failing.insert(id);
    }

    pub(super) fn late(&mut self, pathway: &str, requests: u64) {
        let id = (self.place.prefix, self.place.view);
        let work = self.work(pathway);
        work.cell.requests_late += requests;
        work.late.insert(id);
    }

    /// A 403.
    pub(super) fn denied(&mut self, pathway: &str) {
        let id = (self.place.prefix, self.place.view);
        self.work(pathway).denied.push(id);
    }

    pub(super) fn ttfb(&mut self, pathway: &str, ms: u64, requests: u64) {
        let index = ((ms.max(1) as f64).ln() / GAMMA.ln()).ceil() as i32;
        *self.cell(pathway).ttfb_sketch.entry(index).or_default() += requests;
    }
}

impl<'a> Crowd<'a> {
    /// Views of a property in a region, by pathway; those that have none yet are left out.
    pub(super) fn views(&self, property: &str, region: &str) -> BTreeMap<&'a str, usize> {
        let here =
            self.0.iter().filter(|([of, pathway, at], _)| *of == property && *at == region && !pathway.is_empty());
        here.map(|([_, pathway, _], views)| (*pathway, views.all)).collect()
    }

    pub(super) fn add(&mut self, place: &'a Place, pathway: &'a str) {
        let views = self.0.entry([&place.key.property, pathway, &place.key.region]).or_default();
        views.all += 1;
        *views.by_prefix.entry(place.prefix).or_default() += 1;
    }

    /// Views that one prefix may count for on a pathway in a region, and those that it has there; `None`: no cap.
    fn cap(&self, key: &CellKey, prefix: u64, share: f64, min_views: usize) -> Option<(f64, usize)> {
        let views = self.0.get(&[key.property.as_str(), key.pathway.as_str(), key.region.as_str()])?;
        let has = views.by_prefix.get(&prefix).copied().unwrap_or(1).max(1);
        let allowed = share * views.all as f64;
        (views.all >= min_views && has as f64 > allowed).then_some((allowed, has))
    }
}

impl Cells {
    /// The second's 403s with their cells.
    pub(super) fn take_denied(&mut self) -> Vec<(CellKey, (u64, u64))> {
        let mut out = Vec::new();
        for (key, at) in &self.at {
            out.extend(std::mem::take(&mut self.work[*at].denied).into_iter().map(|id| (key.clone(), id)));
        }
        out
    }

    /// Counts a failed request of a view.
    pub(super) fn failed(&mut self, key: &CellKey, id: (u64, u64)) {
        let at = self.at(key.clone());
        let work = &mut self.work[at];
        work.cell.requests_failed += 1;
        work.failing.insert(id);
    }

    /// Where the work of a cell is.
    fn at(&mut self, key: CellKey) -> usize {
        *self.at.entry(key).or_insert_with(|| {
            self.work.push(Work::default());
            self.work.len() - 1
        })
    }

    /// The cells of the second that ends, in order of their keys.
    pub(super) fn finish(self, crowd: &Crowd<'_>, share: f64, min_views: usize) -> Vec<Cell> {
        let Self { at, mut work } = self;
        let finished = at.into_iter().map(|(key, at)| {
            let mut work = std::mem::take(&mut work[at]);
            for (prefix, bad) in &work.windows {
                let cap = crowd.cap(&key, *prefix, share, min_views);
                let weight = cap.map_or(1.0, |(allowed, has)| allowed / has as f64);
                let milli = (weight * 1e3).round() as u64;
                work.cell.weight_milli += milli;
                work.cell.bad_weight_milli += if *bad { milli } else { 0 };
                work.cell.weight_sq_micro += (weight * weight * 1e6).round() as u64;
            }
            let distinct = |ids: &BTreeSet<(u64, u64)>| -> u64 {
                let mut by_prefix: BTreeMap<u64, u64> = BTreeMap::new();
                for (prefix, _) in ids {
                    *by_prefix.entry(*prefix).or_default() += 1;
                }
                // A small cell's prefixes are not cut, and no prefix is cut to nothing.
                let capped = |(prefix, views): (&u64, &u64)| match crowd.cap(&key, *prefix, share, min_views) {
                    Some((allowed, _)) => (*views).min((allowed as u64).max(1)),
                    None => *views,
                };
                by_prefix.iter().map(capped).sum()
            };
            work.cell.views_failing = distinct(&work.failing);
            work.cell.views_late = distinct(&work.late);
            work.cell.key = key;
            work.cell
        });
        finished.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(view: u64, prefix: u64) -> Place {
        Place { key: Arc::new(CellKey { region: "eu-a".into(), ..CellKey::default() }), view, prefix }
    }

    #[test]
    fn a_prefix_weighs_at_most_its_share_of_a_large_cell() {
        let (mut cells, mut crowd) = (Cells::default(), Crowd::default());
        // 60 views of one prefix with a bad window each, 40 others of prefixes of their own with a good one.
        let places: Vec<Place> = (0..100).map(|view| place(view, if view < 60 { 0 } else { view })).collect();
        for place in &places {
            crowd.add(place, "cdn-a");
            let mut sink = Sink::new(&mut cells, place);
            sink.window("cdn-a", (place.view < 60).then_some("stall"));
            if place.view < 60 {
                sink.failed("cdn-a", 2);
            }
        }
        let cell = cells.finish(&crowd, 0.05, 50).remove(0);
        assert_eq!((cell.windows, cell.bad_windows(), cell.requests_failed), (100, 60, 120));
        // 60 × 5/60, rounded to thousandths each.
        assert_eq!(cell.bad_weight_milli, 60 * 83);
        assert_eq!(cell.weight_milli, 60 * 83 + 40_000);
        assert_eq!(cell.weight_sq_micro, 60 * 6_944 + 40_000_000);
        assert_eq!(cell.views_failing, 5);
    }

    #[test]
    fn a_small_cell_has_no_cap() {
        let (mut cells, mut crowd) = (Cells::default(), Crowd::default());
        let places: Vec<Place> = (0..49).map(|view| place(view, 0)).collect();
        for place in &places {
            crowd.add(place, "cdn-a");
            let mut sink = Sink::new(&mut cells, place);
            sink.window("cdn-a", Some("stall"));
            sink.late("cdn-a", 1);
        }
        let cell = cells.finish(&crowd, 0.05, 50).remove(0);
        assert_eq!((cell.weight_milli, cell.bad_weight_milli, cell.views_late), (49_000, 49_000, 49));
    }

    #[test]
    fn the_sketch_keeps_its_relative_error() {
        let (mut cells, place) = (Cells::default(), place(0, 0));
        for ms in [0, 1, 7, 120, 4_000] {
            Sink::new(&mut cells, &place).ttfb("cdn-a", ms, 1);
        }
        let cell = cells.finish(&Crowd::default(), 0.05, 50).remove(0);
        let back: Vec<f64> = cell.ttfb_sketch.keys().map(|index| 2.0 * GAMMA.powi(*index) / (GAMMA + 1.0)).collect();
        for (found, ms) in back.iter().zip([1.0, 7.0, 120.0, 4_000.0]) {
            assert!((found - ms).abs() / ms <= 0.0201, "{found} for {ms}");
        }
    }
}

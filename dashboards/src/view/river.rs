//! The river of a region: shares of its pathways over the last minutes, stacked, own edges at the bottom.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::history::{History, WINDOW_MS};

/// Width of the picture's own coordinates; it is stretched to its place.
const WIDTH: u64 = 600;
/// Height of the picture's own coordinates.
const HEIGHT: u64 = 100;
/// Points across: more could not be told apart, and each costs every open page bytes.
const POINTS: u64 = 120;
/// A shorter history does not fill the picture.
const SPAN_MIN_MS: u64 = 60_000;
/// Silence longer than this is a gap, not a line.
const GAP_MS: u64 = 9_000;

/// One pathway's area. Areas are painted over each other, the uppermost first: each reaches down to the bottom.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) class: &'static str,
    /// Path data.
    pub(crate) d: String,
}

/// The picture.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct River {
    pub(crate) layers: Vec<Layer>,
    /// What it spans, ms.
    pub(crate) span_ms: u64,
    /// Where decisions fall into it, as x.
    pub(crate) marks: Vec<u64>,
}

/// A moment: its place, and the sum of shares up to and with each pathway.
struct Column {
    x: u64,
    at_ms: u64,
    tops: Vec<u64>,
}

/// Draws `pathways` (bottom first, with their classes) of `region`, and `marks` (ms since epoch).
pub(crate) fn draw(history: &History, region: &str, pathways: &[(&str, &'static str)], marks: &[u64]) -> River {
    let (Some(first), Some(last)) = (history.times_ms().front(), history.times_ms().back()) else {
        return River::default();
    };
    let span_ms = (last - first).clamp(SPAN_MIN_MS, WINDOW_MS);
    let columns = columns(history, region, pathways, span_ms, *last);
    if columns.len() < 2 {
        return River { span_ms, ..River::default() };
    }
    let layers = pathways
        .iter()
        .enumerate()
        .rev()
        .filter_map(|(index, (_, class))| Some(Layer { class, d: path(&columns, index)? }))
        .collect();
    let mut marks: Vec<u64> = marks.iter().filter_map(|at_ms| place(*at_ms, span_ms, *last)).collect();
    marks.sort_unstable();
    marks.dedup();
    River { layers, span_ms, marks }
}

/// Where `at_ms` lies, if it does.
fn place(at_ms: u64, span_ms: u64, last_ms: u64) -> Option<u64> {
    let ago = last_ms.checked_sub(at_ms)?;
    (ago <= span_ms).then(|| WIDTH - ago * WIDTH / span_ms)
}

/// One column per step of the span: the newest of each step, so that old ones stand still while new ones come.
fn columns(
    history: &History,
    region: &str,
    pathways: &[(&str, &'static str)],
    span_ms: u64,
    last_ms: u64,
) -> Vec<Column> {
    let series: Vec<_> = pathways.iter().map(|(name, _)| history.shares(region, name)).collect();
    let mut newest: BTreeMap<u64, Column> = BTreeMap::new();
    for (index, at_ms) in history.times_ms().iter().enumerate() {
        let Some(x) = place(*at_ms, span_ms, last_ms) else { continue };
        let mut sum = 0;
        let tops: Vec<u64> = series
            .iter()
            .map(|shares| {
                sum += shares.and_then(|shares| shares.get(index)).map_or(0, |share| u64::from(*share));
                sum
            })
            .collect();
        // Nobody watches: there is nothing to share, which is a gap too.
        if sum > 0 {
            newest.insert(at_ms / (span_ms / POINTS), Column { x, at_ms: *at_ms, tops });
        }
    }
    newest.into_values().collect()
}

/// The area under pathway `index`, in one piece per stretch without a gap; none if it never carries anything.
fn path(columns: &[Column], index: usize) -> Option<String> {
    let carries = |column: &Column| column.tops[index] > if index == 0 { 0 } else { column.tops[index - 1] };
    if !columns.iter().any(carries) {
        return None;
    }
    let mut d = String::new();
    for stretch in columns.chunk_by(|a, b| b.at_ms - a.at_ms <= GAP_MS) {
        let (Some(first), Some(last)) = (stretch.first(), stretch.last()) else { continue };
        let _ = write!(d, "M{} {HEIGHT}", first.x);
        for column in stretch {
            let total = column.tops.last().copied().unwrap_or(1).max(1);
            let _ = write!(d, "L{} {}", column.x, HEIGHT - column.tops[index] * HEIGHT / total);
        }
        let _ = write!(d, "L{} {HEIGHT}Z", last.x);
    }
    Some(d)
}

#[cfg(test)]
mod tests {
    use spillway_wire::overview::{Overview, PathwayView, RegionView};

    use super::*;

    fn history(points: &[(u64, u32, u32)]) -> History {
        let mut history = History::default();
        for (at_ms, own, cdn) in points {
            let pathways = [("own-a", *own), ("cdn-b", *cdn)]
                .map(|(name, share_ppm)| (name.to_owned(), PathwayView { share_ppm, ..Default::default() }))
                .into();
            let region = RegionView { pathways, ..Default::default() };
            let regions = [("r".to_owned(), region)].into();
            history.push(&Overview { v: 1, at_ms: *at_ms, regions, ..Default::default() });
        }
        history
    }

    const BOTH: [(&str, &str); 2] = [("own-a", "own-0"), ("cdn-b", "cdn-0")];

    #[test]
    fn the_newest_is_at_the_right_and_the_uppermost_is_painted_first() {
        let river = draw(&history(&[(0, 750_000, 250_000), (6_000, 500_000, 500_000)]), "r", &BOTH, &[6_000, 3_000]);
        assert_eq!(river.span_ms, 60_000);
        assert_eq!(river.marks, [570, 600]);
        let drawn: Vec<_> = river.layers.iter().map(|layer| (layer.class, layer.d.as_str())).collect();
        assert_eq!(drawn, [("cdn-0", "M540 100L540 0L600 0L600 100Z"), ("own-0", "M540 100L540 25L600 50L600 100Z")]);
    }

    #[test]
    fn silence_and_an_empty_region_are_gaps() {
        let river =
            draw(&history(&[(0, 1, 0), (2_000, 1, 0), (4_000, 0, 0), (20_000, 1, 0), (22_000, 1, 0)]), "r", &BOTH, &[]);
        assert_eq!(river.layers.len(), 1, "what never carries anything is not drawn");
        assert_eq!(river.layers[0].d.matches('M').count(), 2);
    }

    #[test]
    fn ten_minutes_are_at_most_121_columns() {
        let points: Vec<_> = (0..400).map(|round| (round * 2_000, 600_000, 400_000)).collect();
        let river = draw(&history(&points), "r", &BOTH, &[]);
        assert_eq!(river.span_ms, WINDOW_MS);
        assert!(river.layers.iter().all(|layer| layer.d.matches('L').count() <= 122), "{river:?}");
    }

    #[test]
    fn one_point_is_not_a_picture() {
        assert_eq!(draw(&history(&[(0, 1, 1)]), "r", &BOTH, &[]).layers, []);
        assert_eq!(draw(&History::default(), "r", &BOTH, &[]), River::default());
    }
}

//! One card per region: its figures, its river, a row per pathway.

use spillway_wire::overview::{Overview, PathwayView, RegionView};

use super::anchor;
use super::format::{count, lasting, percent, rate, shorten, span, width};
use super::palette::{Palette, is_own};
use super::river::{self, River};
use super::totals::ppm_of;
use super::words::{self, Level, Tag};
use crate::history::History;

/// The plan counts as different from what is from here on: below, views only haven't been dealt out yet.
const OFF_PLAN_PPM: u32 = 30_000;
/// Where a utilisation bar ends.
const GAUGE_FULL_PPM: u32 = 1_250_000;
/// From here on an edge gets fewer new views.
pub(crate) const NEARLY_FULL_PPM: u32 = 800_000;
/// Nothing more fits.
const FULL_PPM: u32 = 1_000_000;
const REASON_MAX_CHARS: usize = 300;
const VERDICTS_MAX: usize = 6;

/// One region.
pub(crate) struct Card {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) level: &'static str,
    pub(crate) views: String,
    pub(crate) demand: String,
    pub(crate) own: Option<String>,
    pub(crate) mode: Tag,
    pub(crate) epoch: u64,
    pub(crate) cap: Option<String>,
    pub(crate) verdicts: Vec<String>,
    pub(crate) river: River,
    pub(crate) river_span: String,
    pub(crate) river_label: String,
    pub(crate) rows: Vec<Row>,
}

/// One pathway in one region.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) badge: Tag,
    /// Class of its colour.
    pub(crate) series: &'static str,
    /// Class of the row.
    pub(crate) level: &'static str,
    pub(crate) state: Tag,
    pub(crate) since: String,
    pub(crate) share: String,
    pub(crate) share_width: String,
    pub(crate) plan: String,
    pub(crate) plan_x: String,
    pub(crate) off_plan: bool,
    pub(crate) views: String,
    pub(crate) good: Tag,
    pub(crate) gauge: Option<Gauge>,
    pub(crate) probe: Tag,
    pub(crate) why: String,
}

/// A utilisation bar.
pub(crate) struct Gauge {
    pub(crate) text: String,
    pub(crate) width: String,
    pub(crate) class: &'static str,
}

impl Gauge {
    pub(crate) fn new(ppm: u32) -> Self {
        let class = match ppm {
            ..NEARLY_FULL_PPM => "g-ok",
            NEARLY_FULL_PPM..=FULL_PPM => "g-near",
            _ => "g-over",
        };
        Self { text: percent(ppm), width: width(ppm, GAUGE_FULL_PPM), class }
    }
}

/// Cards, the one that most needs to be looked at first, else in order of names.
pub(crate) fn cards(overview: &Overview, history: &History, palette: &Palette) -> Vec<Card> {
    let mut regions: Vec<(Level, &String, &RegionView)> =
        overview.regions.iter().map(|(name, region)| (level(region), name, region)).collect();
    // Something on purpose doesn't move a card: only what is worse than it should be does.
    regions.sort_by_key(|(level, ..)| std::cmp::Reverse((*level).max(Level::Info)));
    regions.into_iter().map(|(level, name, region)| card(overview, history, palette, level, name, region)).collect()
}

/// The worst of the region.
pub(crate) fn level(region: &RegionView) -> Level {
    let worst = region.pathways.values().map(words::level).max().unwrap_or(Level::Ok);
    if region.max_bitrate_kbps.is_some() { worst.max(Level::Bad) } else { worst }
}

fn card(
    overview: &Overview,
    history: &History,
    palette: &Palette,
    level: Level,
    name: &str,
    region: &RegionView,
) -> Card {
    // Own edges first, in rows as in the river.
    let mut pathways: Vec<(&String, &PathwayView)> = region.pathways.iter().collect();
    pathways.sort_by_key(|(name, _)| !is_own(overview, name));
    let stacked: Vec<(&str, &'static str)> =
        pathways.iter().map(|(name, _)| (name.as_str(), palette.class(name))).collect();
    let marks: Vec<u64> = overview.log.iter().filter(|line| line.region == name).map(|line| line.at_ms).collect();
    let river = river::draw(history, name, &stacked, &marks);
    let on = |own: bool| {
        let cells = pathways.iter().filter(|(name, _)| !own || is_own(overview, name));
        cells.map(|(_, pathway)| pathway.views_active).fold(0, u64::saturating_add)
    };
    let has_own = pathways.iter().any(|(name, _)| is_own(overview, name));
    Card {
        id: anchor(name),
        name: name.to_owned(),
        level: level.class(),
        views: count(region.views_active),
        demand: rate(region.demand_bps),
        own: if has_own { ppm_of(on(true), on(false)).map(percent) } else { None },
        mode: words::mode(&region.mode),
        epoch: region.epoch,
        cap: region.max_bitrate_kbps.map(|kbps| rate(u64::from(kbps) * 1_000)),
        verdicts: region.verdicts.iter().take(VERDICTS_MAX).map(|text| shorten(text, REASON_MAX_CHARS)).collect(),
        river_span: span(river.span_ms),
        river_label: river_label(&pathways, &river),
        river,
        rows: pathways.iter().map(|(name, pathway)| row(overview, palette, name, pathway)).collect(),
    }
}

/// The picture in words, for who does not see it.
fn river_label(pathways: &[(&String, &PathwayView)], river: &River) -> String {
    let now: Vec<String> = pathways
        .iter()
        .filter(|(_, pathway)| pathway.share_ppm > 0)
        .map(|(name, pathway)| format!("{name} {}", percent(pathway.share_ppm)))
        .collect();
    let now = if now.is_empty() { "nobody watches".to_owned() } else { now.join(", ") };
    format!("Share of views over the last {}; now: {now}", span(river.span_ms))
}

fn row(overview: &Overview, palette: &Palette, name: &str, pathway: &PathwayView) -> Row {
    let totals = overview.pathways.get(name);
    let kind = totals.map_or("", |totals| totals.kind.as_str());
    let plan = percent(pathway.weight_ppm);
    Row {
        name: name.to_owned(),
        badge: words::badge(kind),
        series: palette.class(name),
        level: words::level(pathway).class(),
        state: words::state(&pathway.state),
        since: lasting(pathway.since_ms, overview.at_ms).unwrap_or_default(),
        share: percent(pathway.share_ppm),
        share_width: width(pathway.share_ppm, 1_000_000),
        plan_x: width(pathway.weight_ppm, 1_000_000),
        off_plan: pathway.share_ppm.abs_diff(pathway.weight_ppm) > OFF_PLAN_PPM,
        plan,
        views: count(pathway.views_active),
        good: words::good(pathway.good_ppm),
        gauge: totals.and_then(|totals| totals.utilisation_ppm).map(Gauge::new),
        probe: words::probe(&pathway.probe),
        why: shorten(&pathway.reason, REASON_MAX_CHARS),
    }
}

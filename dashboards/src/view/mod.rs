//! The board as people read it: every word and number is made here, the templates only place them.

mod fleet;
mod format;
mod headline;
mod notes;
mod palette;
mod region;
mod river;
mod totals;
mod words;

use askama::Template;
use spillway_wire::overview::Overview;

use crate::DashboardConfig;
use crate::board::{Board, STALE_MS};
use format::{iso, shorten, span, time_of_day};
use headline::Headline;
use palette::Palette;
use words::Level;

/// Lines of the log on the page.
const LOG_MAX: usize = 50;
/// Characters of one line of the log.
const LOG_LINE_MAX_CHARS: usize = 600;

/// The whole document.
#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    board: BoardView,
}

/// What an event carries: everything inside the body that changes.
#[derive(Template)]
#[template(path = "board.html")]
struct Fragment {
    board: BoardView,
}

/// The board's contents.
struct BoardView {
    /// Of the browser's tab: what is wrong comes first, as tabs are narrow.
    tab: String,
    title: Option<String>,
    watch_url: Option<String>,
    level: &'static str,
    freshness: Option<Freshness>,
    headline: Headline,
    facts: Vec<totals::Fact>,
    regions: Vec<region::Card>,
    notes: Vec<notes::Row>,
    /// How many are not listed.
    more_notes: usize,
    fleet: Vec<fleet::Row>,
    log: Vec<LogRow>,
}

/// How old the data is.
struct Freshness {
    iso: String,
    time: String,
    age: String,
    age_ms: u64,
    stale: bool,
}

/// One line of the log.
struct LogRow {
    /// Tells lines apart when the page is patched.
    key: String,
    iso: String,
    time: String,
    region: String,
    text: String,
}

/// `GET /` at `now_ms`.
pub(crate) fn page(config: &DashboardConfig, board: &Board, now_ms: u64) -> String {
    rendered(Page { board: BoardView::new(config, board, now_ms) }.render())
}

/// The part of the page that changes, at `now_ms`.
pub(crate) fn fragment(config: &DashboardConfig, board: &Board, now_ms: u64) -> String {
    rendered(Fragment { board: BoardView::new(config, board, now_ms) }.render())
}

fn rendered(html: askama::Result<String>) -> String {
    html.expect("templates only format text, and writing to a string cannot fail")
}

impl BoardView {
    fn new(config: &DashboardConfig, board: &Board, now_ms: u64) -> Self {
        let Some(overview) = &board.overview else {
            return Self::empty(config);
        };
        let freshness = Freshness::new(overview.at_ms, now_ms);
        let palette = Palette::new(overview);
        let headline = headline::of(overview);
        let prefix = match headline.level {
            _ if freshness.stale => "OLD DATA · ",
            Level::Bad => "DOWN · ",
            Level::Warn => "degraded · ",
            Level::Ok | Level::Info => "",
        };
        let (notes, more_notes) = notes::rows(overview);
        Self {
            notes,
            more_notes,
            tab: format!("{prefix}{}", product(config)),
            title: config.title.clone(),
            watch_url: config.watch_url.clone(),
            level: if freshness.stale { "stale" } else { headline.level.class() },
            headline,
            facts: totals::facts(overview),
            regions: region::cards(overview, &board.history, &palette),
            fleet: fleet::rows(overview, &palette),
            log: log(overview),
            freshness: Some(freshness),
        }
    }

    fn empty(config: &DashboardConfig) -> Self {
        Self {
            tab: product(config),
            title: config.title.clone(),
            watch_url: config.watch_url.clone(),
            level: "empty",
            freshness: None,
            headline: Headline::waiting(),
            facts: Vec::new(),
            regions: Vec::new(),
            notes: Vec::new(),
            more_notes: 0,
            fleet: Vec::new(),
            log: Vec::new(),
        }
    }
}

fn product(config: &DashboardConfig) -> String {
    config.title.as_ref().map_or_else(|| "Spillway".to_owned(), |title| format!("{title} · Spillway"))
}

impl Freshness {
    fn new(at_ms: u64, now_ms: u64) -> Self {
        let age_ms = now_ms.saturating_sub(at_ms);
        Self { iso: iso(at_ms), time: time_of_day(at_ms), age: span(age_ms), age_ms, stale: age_ms > STALE_MS }
    }
}

/// Newest first.
fn log(overview: &Overview) -> Vec<LogRow> {
    let skipped = overview.log.len().saturating_sub(LOG_MAX);
    let mut same = 0;
    let mut before = None;
    let mut rows: Vec<LogRow> = overview
        .log
        .iter()
        .skip(skipped)
        .map(|line| {
            same = if before == Some(line.at_ms) { same + 1 } else { 0 };
            before = Some(line.at_ms);
            LogRow {
                key: format!("{}-{same}", line.at_ms),
                iso: iso(line.at_ms),
                time: time_of_day(line.at_ms),
                region: line.region.clone(),
                text: shorten(&line.text, LOG_LINE_MAX_CHARS),
            }
        })
        .collect();
    rows.reverse();
    rows
}

/// A name as the id of an element.
fn anchor(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect()
}

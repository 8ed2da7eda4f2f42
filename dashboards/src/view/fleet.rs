//! Each pathway over all regions: how full it is, what it can carry, what it costs.

use spillway_wire::overview::Overview;

use super::format::{count, rate, span};
use super::palette::{Palette, is_own};
use super::region::Gauge;
use super::words::{self, Tag};

/// An edge reports every 2 s; after three missed reports it counts as gone.
const REPORT_LATE_MS: u64 = 6_000;

/// One pathway.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) badge: Tag,
    pub(crate) series: &'static str,
    pub(crate) views: String,
    pub(crate) gauge: Option<Gauge>,
    pub(crate) capacity: String,
    pub(crate) price: String,
    /// What is missing about its load reports.
    pub(crate) missing: Option<String>,
}

/// Own edges first.
pub(crate) fn rows(overview: &Overview, palette: &Palette) -> Vec<Row> {
    let mut names: Vec<&str> = palette.pathways().collect();
    names.sort_by_key(|name| !is_own(overview, name));
    names.into_iter().map(|name| row(overview, palette, name)).collect()
}

fn row(overview: &Overview, palette: &Palette, name: &str) -> Row {
    let totals = overview.pathways.get(name);
    let views = overview.regions.values().filter_map(|region| region.pathways.get(name));
    Row {
        name: name.to_owned(),
        badge: words::badge(totals.map_or("", |totals| totals.kind.as_str())),
        series: palette.class(name),
        views: count(views.map(|pathway| pathway.views_active).fold(0, u64::saturating_add)),
        gauge: totals.and_then(|totals| totals.utilisation_ppm).map(Gauge::new),
        capacity: match totals.map(|totals| totals.capacity_bps) {
            Some(1..) => rate(totals.map_or(0, |totals| totals.capacity_bps)),
            _ => "capacity unknown".to_owned(),
        },
        price: totals.map_or_else(String::new, |totals| price(totals.price_usd_per_gb)),
        missing: if is_own(overview, name) {
            report(totals.and_then(|totals| totals.reported_ms), overview.at_ms)
        } else {
            None
        },
    }
}

fn price(usd_per_gb: f64) -> String {
    if usd_per_gb > 0.0 && usd_per_gb.is_finite() { format!("${usd_per_gb:.4}/GB") } else { String::new() }
}

fn report(reported_ms: Option<u64>, at_ms: u64) -> Option<String> {
    match reported_ms {
        None => Some("no load report".to_owned()),
        Some(reported_ms) => {
            let ago_ms = at_ms.saturating_sub(reported_ms);
            (ago_ms > REPORT_LATE_MS).then(|| format!("no load report for {}", span(ago_ms)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_that_missed_three_reports_is_named() {
        assert_eq!(report(Some(10_000), 16_000), None);
        assert_eq!(report(Some(10_000), 24_500).as_deref(), Some("no load report for 14\u{202f}s"));
        assert_eq!(report(None, 24_500).as_deref(), Some("no load report"));
    }

    #[test]
    fn a_price_that_is_none_is_not_shown() {
        assert_eq!(price(0.0), "");
        assert_eq!(price(f64::NAN), "");
        assert_eq!(price(0.0085), "$0.0085/GB");
    }
}

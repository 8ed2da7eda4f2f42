//! What a terminal shows while the story runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use spillway_wire::overview::Overview;

use super::observe::Seen;
use crate::cdn::Cdn;
use crate::viewer::population::Census;

/// Where text for people goes: standard output is kept free for the JSON line if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Voice {
    /// Whether standard output ends with a JSON line.
    pub json: bool,
}

impl Voice {
    /// Prints a line or several.
    #[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the demo's terminal")]
    pub fn say(self, text: &str) {
        if self.json {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }
}

/// One block: phase, shares of views per region, stalls, utilisation, and what was decided since the last one; where
/// nothing is steered, what would have been.
#[must_use]
pub fn block(
    (at_s, phase, steered): (f64, &str, bool),
    census: &Census,
    seen: &mut Seen,
    cdns: &BTreeMap<String, std::sync::Arc<Cdn>>,
) -> String {
    let mut out = format!("\n{at_s:>5.0} s  {phase}\n");
    for (region, pathways) in &census.views {
        let views: u64 = pathways.values().sum();
        let stalled = census.stalled.get(region).copied().unwrap_or(0);
        let shares: Vec<String> = pathways
            .iter()
            .filter(|(pathway, _)| !pathway.is_empty())
            .map(|(pathway, count)| format!("{pathway} {}%{}", percent(*count, views), state(seen, region, pathway)))
            .collect();
        let stalls = if stalled > 0 { format!("   {stalled} stalled") } else { String::new() };
        line(&mut out, format_args!("  {region:<11} {views:>4} views   {}{stalls}", shares.join("  ")));
    }
    let mut used: Vec<String> = own_utilisation(seen.overview.as_ref());
    used.extend(cdns.iter().map(|(id, cdn)| {
        let stats = cdn.stats();
        format!("{id} {}%", percent(stats.total.mean_10s_bps, stats.capacity_bps))
    }));
    line(&mut out, format_args!("  used        {}", used.join("  ")));
    for entry in std::mem::take(&mut seen.fresh_log) {
        let region = if entry.region.is_empty() { String::new() } else { format!("{}: ", entry.region) };
        let mark = if steered { ">" } else { "> (not applied)" };
        line(&mut out, format_args!("  {mark} {region}{}", entry.text));
    }
    out.truncate(out.trim_end().len());
    out
}

fn state(seen: &Seen, region: &str, pathway: &str) -> String {
    let view = seen.overview.as_ref().and_then(|overview| overview.regions.get(region)?.pathways.get(pathway));
    match view.map(|view| view.state.as_str()) {
        None | Some("HEALTHY") => String::new(),
        Some(other) => format!(" [{other}]"),
    }
}

fn own_utilisation(overview: Option<&Overview>) -> Vec<String> {
    let own = overview.into_iter().flat_map(|overview| &overview.pathways).filter(|(_, totals)| totals.kind == "own");
    own.map(|(id, totals)| match totals.utilisation_ppm {
        Some(ppm) => format!("{id} {}%", ppm / 10_000),
        None => format!("{id} ?"),
    })
    .collect()
}

fn percent(part: u64, whole: u64) -> u64 {
    (part * 100 + whole / 2).checked_div(whole).unwrap_or(0)
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_wire::overview::{LogLine, PathwayTotals, PathwayView, RegionView};

    #[test]
    fn a_block_tells_shares_stalls_utilisation_and_reasons() {
        let census = Census {
            views: BTreeMap::from([(
                "eu-south".to_owned(),
                BTreeMap::from([("cdn-a".to_owned(), 2), ("cdn-b".to_owned(), 1)]),
            )]),
            stalled: BTreeMap::from([("eu-south".to_owned(), 1)]),
        };
        let down = PathwayView { state: "DOWN".into(), ..PathwayView::default() };
        let region = RegionView { pathways: BTreeMap::from([("cdn-a".to_owned(), down)]), ..RegionView::default() };
        let own = PathwayTotals { kind: "own".into(), utilisation_ppm: Some(715_000), ..PathwayTotals::default() };
        let overview = Overview {
            regions: BTreeMap::from([("eu-south".to_owned(), region)]),
            pathways: BTreeMap::from([("own-west-1".to_owned(), own)]),
            ..Overview::default()
        };
        let log = vec![LogLine { at_ms: 1, region: "eu-south".into(), text: "cdn-a is DOWN".into() }];
        let mut seen = Seen { overview: Some(overview), fresh_log: log, ..Seen::default() };
        let text = block((41.0, "outage: errors", true), &census, &mut seen, &BTreeMap::new());
        let expected = "\n   41 s  outage: errors\n  \
            eu-south       3 views   cdn-a 67% [DOWN]  cdn-b 33%   1 stalled\n  \
            used        own-west-1 71%\n  > eu-south: cdn-a is DOWN";
        assert_eq!(text, expected);
        assert!(seen.fresh_log.is_empty(), "said once");
    }
}

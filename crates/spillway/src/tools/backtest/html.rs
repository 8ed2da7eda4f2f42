//! The report as one HTML page. Nothing is fetched.

use std::fmt::Write as _;

use spillway_lake::iso;
use spillway_orchestrator::replay::report::{PathwayFigures, PolicyFigures, RegionReport, Sample};

use super::{Backtested, text};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 180.0;
/// Lines that differ for colour-blind readers too (Okabe and Ito).
const LINES: [(&str, &str); 3] = [("really", "#666666"), ("base", "#0072b2"), ("new", "#d55e00")];

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:2em auto;max-width:1100px;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:1em 0}th,td{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:right;\
vertical-align:top}th:first-child,td:first-child,td.t{text-align:left}.w{color:#b00020;font-weight:600}\
svg text{font:11px system-ui,sans-serif}small{color:#666}";

/// The page.
pub(super) fn page(said: &Backtested<'_>) -> String {
    let (report, fidelity) = (said.report, &said.report.fidelity);
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Backtest</title><style>{STYLE}</style>\
         <h1>Backtest</h1><p>{} rounds of {} in {}, {} to {}.<br>Base: {}. New: {}.</p>",
        report.rounds,
        escape(said.orchestrator),
        escape(said.lake),
        iso(report.first_ms),
        iso(report.last_ms),
        escape(said.base),
        escape(said.new)
    );
    let _ = write!(
        out,
        "<p>After <b>{:.2} %</b> of the rounds the base routes as was really published ({} epochs replayed, {} recorded).",
        fidelity.share * 100.0,
        fidelity.epochs_replayed,
        fidelity.epochs_recorded
    );
    if let Some(first) = &fidelity.first_difference {
        let _ = write!(
            out,
            " First difference {} in {}: <small>replayed {}; recorded {}</small>",
            iso(first.at_ms),
            escape(&first.region),
            escape(&first.replayed),
            escape(&first.recorded)
        );
    }
    out.push_str("</p>");
    for warning in said.warnings {
        let _ = write!(out, "<p class=w>{}</p>", escape(warning));
    }
    out.push_str("<h2>What the new configuration changes</h2><table><tr><th>What<th>Base<th>New</tr>");
    for change in &report.changed {
        let (what, base, new) = (escape(&change.what), escape(&change.base), escape(&change.new));
        let _ = write!(out, "<tr><td>{what}<td class=t>{base}<td class=t>{new}</tr>");
    }
    out.push_str("</table><h2>Bad windows over time</h2>");
    plot(&mut out, &report.timeline);
    section(&mut out, "All regions", &report.total);
    for (id, region) in &report.regions {
        section(&mut out, id, region);
        pathways(&mut out, region);
    }
    out.push_str("<h2>Planned utilisation at its highest</h2><table><tr><th>Pathway<th>Base<th>New</tr>");
    for (pathway, peak) in &report.planned_peak_utilisation {
        let of = |peak: Option<f64>| peak.map_or("–".to_owned(), |peak| format!("{:.1} %", peak * 100.0));
        let _ = write!(out, "<tr><td>{}<td>{}<td>{}</tr>", escape(pathway), of(peak.base), of(peak.new));
    }
    out.push_str("</table><h2>What these figures can't say</h2><ul>");
    for limit in said.limits {
        let _ = write!(out, "<li>{}", escape(limit));
    }
    out.push_str("</ul></html>\n");
    out
}

fn plot(out: &mut String, timeline: &[Sample]) {
    let (Some(first), Some(last)) = (timeline.first(), timeline.last()) else { return };
    let share = |bad: f64, sample: &Sample| if sample.windows > 0.0 { bad / sample.windows } else { 0.0 };
    let values = |sample: &Sample| [sample.observed_bad, sample.base_bad, sample.new_bad].map(|bad| share(bad, sample));
    let top = timeline.iter().flat_map(values).fold(1e-3, f64::max) * 1.05;
    let span_ms = (last.at_ms - first.at_ms).max(1) as f64;
    let _ = write!(
        out,
        "<svg width={WIDTH} height={HEIGHT} viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"share of bad windows\">\
         <rect width={WIDTH} height={HEIGHT} fill=\"#fafafa\"/><text x=2 y=12>{:.2} %</text>",
        top * 100.0
    );
    for (index, (name, colour)) in LINES.into_iter().enumerate() {
        let point = |sample: &Sample| {
            let x = (sample.at_ms - first.at_ms) as f64 / span_ms * WIDTH;
            format!("{x:.1},{:.1}", HEIGHT - values(sample)[index] / top * HEIGHT)
        };
        let points: Vec<String> = timeline.iter().map(point).collect();
        let _ = write!(
            out,
            "<polyline fill=none stroke=\"{colour}\" stroke-width=1.5 points=\"{}\"/>\
             <text x={} y=12 fill=\"{colour}\">{name}</text>",
            points.join(" "),
            80 + 70 * index
        );
    }
    out.push_str("</svg>");
}

fn section(out: &mut String, name: &str, of: &RegionReport) {
    let _ = write!(
        out,
        "<h2>{}</h2><p>{:.0} windows, {:.0} of them really bad ({:.3} %).</p><table><tr><th><th>Base<th>New</tr>",
        escape(name),
        of.windows,
        of.bad_windows_observed,
        of.bad_windows_observed / of.windows.max(1e-9) * 100.0
    );
    let mut row = |what: &str, value: &dyn Fn(&PolicyFigures) -> String| {
        let _ = write!(out, "<tr><td>{what}<td>{}<td>{}</tr>", value(&of.base), value(&of.new));
    };
    row("Bad windows, estimated", &|f| format!("{:.1}", f.bad_windows));
    row("of all, %", &|f| format!("{:.3}", f.bad_share * 100.0));
    row("Resting on hardly any evidence, %", &|f| format!("{:.1}", f.hardly_observed_share * 100.0));
    row("Epochs", &|f| f.epochs.to_string());
    row("Shares moved, %", &|f| format!("{:.1}", f.shares_moved * 100.0));
    row("Planned cost, USD", &|f| format!("{:.4}", f.cost_usd));
    row("Planned cost, USD per hour", &|f| format!("{:.4}", f.cost_usd_per_hour));
    out.push_str("</table>");
}

fn pathways(out: &mut String, region: &RegionReport) {
    out.push_str(
        "<table><tr><th>Pathway<th>Policy<th>New views %<th>DEGRADED s<th>DOWN s<th>First DOWN<th>States</tr>",
    );
    for (id, of) in &region.pathways {
        for (name, figures) in [("base", &of.base), ("new", &of.new)] {
            let Some(figures) = figures else {
                let _ = write!(out, "<tr><td>{}<td>{name}<td colspan=5>not declared</tr>", escape(id));
                continue;
            };
            let later = of.down_later_s.filter(|_| name == "new").map(text::difference).unwrap_or_default();
            let _ = write!(
                out,
                "<tr><td>{}<td>{name}<td>{:.1}<td>{:.0}<td>{:.0}<td class=t>{} <small>{later}</small><td class=t>{}</tr>",
                escape(id),
                figures.mean_share * 100.0,
                figures.degraded_s,
                figures.down_s,
                figures.first_down_ms.map_or("never".to_owned(), iso),
                changes(figures)
            );
        }
    }
    out.push_str("</table>");
}

fn changes(figures: &PathwayFigures) -> String {
    let one = |change: &spillway_orchestrator::replay::report::StateChange| {
        format!("{} {} <small>{}</small>", iso(change.at_ms), change.state, escape(&change.reason))
    };
    figures.changes.iter().map(one).collect::<Vec<_>>().join("<br>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

//! The report for terminals.

use std::fmt::Write as _;

use spillway_lake::iso;
use spillway_orchestrator::replay::report::{PathwayFigures, PolicyFigures, RegionReport};

use super::Backtested;

/// The whole report.
pub(super) fn lines(said: &Backtested<'_>) -> String {
    let mut out = String::new();
    let (report, fidelity) = (said.report, &said.report.fidelity);
    let _ = writeln!(out, "backtest of {} (orchestrator {})", said.lake, said.orchestrator);
    if !said.other_orchestrators.is_empty() {
        let _ = writeln!(out, "  also recorded here: {}", said.other_orchestrators.join(", "));
    }
    let _ = writeln!(out, "  base  {}\n  new   {}", said.base, said.new);
    let _ = writeln!(
        out,
        "  {} rounds from {} to {}, {} start(s) of the process",
        report.rounds,
        iso(report.first_ms),
        iso(report.last_ms),
        report.runs
    );
    let _ = writeln!(
        out,
        "fidelity: after {:.2} % of the rounds the base routes as was really published ({} epochs replayed, {} recorded)",
        fidelity.share * 100.0,
        fidelity.epochs_replayed,
        fidelity.epochs_recorded
    );
    if let Some(first) = &fidelity.first_difference {
        let _ = writeln!(out, "  first difference {} in {}", iso(first.at_ms), first.region);
        let _ = writeln!(out, "    replayed {}\n    recorded {}", first.replayed, first.recorded);
    }
    for warning in said.warnings {
        let _ = writeln!(out, "WARNING: {warning}");
    }
    let _ = writeln!(out, "changed:{}", if report.changed.is_empty() { " nothing that decides" } else { "" });
    for change in &report.changed {
        let _ = writeln!(out, "  {}: {} → {}", change.what, change.base, change.new);
    }
    region(&mut out, "all regions", &report.total);
    for (id, of) in &report.regions {
        region(&mut out, id, of);
        for (pathway, of) in &of.pathways {
            let _ = writeln!(out, "  {pathway}");
            figures(&mut out, "base", of.base.as_ref());
            figures(&mut out, "new", of.new.as_ref());
            for (state, later) in [("DEGRADED", of.degraded_later_s), ("DOWN", of.down_later_s)] {
                if let Some(later) = later {
                    let _ = writeln!(out, "    first {state} {}", difference(later));
                }
            }
        }
    }
    let _ = writeln!(out, "planned utilisation at its highest, base / new");
    for (pathway, peak) in &report.planned_peak_utilisation {
        let of = |peak: Option<f64>| peak.map_or("–".to_owned(), |peak| format!("{:.1} %", peak * 100.0));
        let _ = writeln!(out, "  {pathway:<24} {:>8} / {:>8}", of(peak.base), of(peak.new));
    }
    let _ = writeln!(out, "what these figures can't say");
    for limit in said.limits {
        let _ = writeln!(out, "  - {limit}");
    }
    out
}

/// "4.0 s later", "as early".
pub(super) fn difference(later_s: f64) -> String {
    match later_s {
        later if later > 0.0 => format!("{later:.1} s later under the new policy"),
        later if later < 0.0 => format!("{:.1} s earlier under the new policy", -later),
        _ => "at the same time under both".to_owned(),
    }
}

fn region(out: &mut String, name: &str, of: &RegionReport) {
    let _ = writeln!(
        out,
        "{name}: {:.0} windows, {:.0} of them really bad ({:.3} %)",
        of.windows,
        of.bad_windows_observed,
        of.bad_windows_observed / of.windows.max(1e-9) * 100.0
    );
    let mut line = |what: &str, value: &dyn Fn(&PolicyFigures) -> String| {
        let _ = writeln!(out, "  {what:<34} {:>14} {:>14}", value(&of.base), value(&of.new));
    };
    line("", &|figures| if std::ptr::eq(figures, &of.base) { "base".into() } else { "new".into() });
    line("bad windows, estimated", &|f| format!("{:.1}", f.bad_windows));
    line("  of all, %", &|f| format!("{:.3}", f.bad_share * 100.0));
    line("  resting on hardly any evidence, %", &|f| format!("{:.1}", f.hardly_observed_share * 100.0));
    line("epochs", &|f| f.epochs.to_string());
    line("shares moved, %", &|f| format!("{:.1}", f.shares_moved * 100.0));
    line("planned cost, USD", &|f| format!("{:.4}", f.cost_usd));
    line("  per hour", &|f| format!("{:.4}", f.cost_usd_per_hour));
}

fn figures(out: &mut String, name: &str, figures: Option<&PathwayFigures>) {
    let Some(figures) = figures else {
        let _ = writeln!(out, "    {name:<5} not declared");
        return;
    };
    let at = |ms: Option<u64>| ms.map_or("never".to_owned(), iso);
    let _ = writeln!(
        out,
        "    {name:<5} {:.1} % of new views; DEGRADED {} ({:.0} s), DOWN {} ({:.0} s)",
        figures.mean_share * 100.0,
        at(figures.first_degraded_ms),
        figures.degraded_s,
        at(figures.first_down_ms),
        figures.down_s
    );
    for change in &figures.changes {
        let _ = writeln!(out, "          {} {} ({})", iso(change.at_ms), change.state, change.reason);
    }
}

//! One HTML page of a suite: verdicts, a table, and plots as SVG. Nothing is fetched.

mod plots;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::Outcome;
use crate::estimate::Estimate;
use crate::policies::Policy;
use crate::suite::{Job, Line, Suite};
use crate::verdicts::Verdict;

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:2em auto;max-width:1500px;padding:0 1em;color:#222}\
div.wide{overflow-x:auto}table{border-collapse:collapse;margin:1em 0}th,td{padding:.2em .5em;border-bottom:1px solid #ddd;\
text-align:right;white-space:nowrap;vertical-align:top}th{vertical-align:bottom;white-space:normal}\
th:first-child,td:first-child{text-align:left}td.t{text-align:left;white-space:normal}tr.us td{font-weight:600}\
.no{color:#b00020}.ok{color:#00693e}td small{display:block;font-weight:400}small{color:#666}\
.plots{display:grid;grid-template-columns:7em repeat(4,1fr);gap:.3em .8em;align-items:center;font-size:12px}\
.plots svg{width:100%;height:auto}.plots b{text-align:center}.legend span{margin-right:1em}\
svg text{font:9px system-ui,sans-serif;fill:#555}";

/// The page.
#[must_use]
pub fn html(suite: &Suite, runs: &BTreeMap<Job, Outcome>, lines: &[Line], verdicts: &[Verdict]) -> String {
    let mut out = String::from("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">");
    let name = escape(&suite.name);
    let _ = write!(out, "<title>Simulation: {name}</title><style>{STYLE}</style><h1>Simulation: {name}</h1>");
    out.push_str(
        "<p>Medians over seeds with 95 % bootstrap intervals over paired seeds in small print. A difference is claimed \
         only if its interval excludes 0. J = bad % + 0.1 × overload % + cost ÷ the oracle's − 1.</p>",
    );
    verdict_table(&mut out, verdicts);
    for (index, scenario) in suite.scenarios.iter().enumerate() {
        let events = &scenario.events;
        let _ = write!(out, "<h2>{}</h2><p>{}</p>", escape(&events.name), escape(&events.about));
        let own: Vec<&Line> = lines.iter().filter(|line| line.scenario == events.name).collect();
        table(&mut out, &own, index, runs);
        plots::plots(&mut out, index, events, runs);
    }
    out.push_str("</html>\n");
    out
}

fn verdict_table(out: &mut String, verdicts: &[Verdict]) {
    if verdicts.is_empty() {
        return;
    }
    out.push_str("<table><tr><th>Verdict<th>Target<th>Measured<th>Holds<th>Where</tr>");
    for verdict in verdicts {
        let value = verdict.value.map_or("–".to_owned(), number);
        let (class, word) = if verdict.ok { ("ok", "yes") } else { ("no", "no") };
        let _ = write!(
            out,
            "<tr><td>{}<td class=t>{}<td>{value}<td class={class}>{word}<td class=t>{}</tr>",
            escape(&verdict.name),
            escape(&verdict.target),
            escape(&verdict.detail)
        );
    }
    out.push_str("</table>");
}

fn table(out: &mut String, lines: &[&Line], scenario: usize, runs: &BTreeMap<Job, Outcome>) {
    out.push_str(
        "<div class=wide><table><tr><th>Policy<th>Mode<th>Bad %<th>Regret, points<th>Excess view-min<th>Overload %<th>Cost ratio<th>J\
         <th>J − ours<th>States<th>Detect s<th>Leave s<th>Oscillation<th>Origin peak<th>Bitrate</tr>",
    );
    for line in lines {
        let class = if line.policy == Policy::Spillway.as_str() { " class=us" } else { "" };
        let percent = |estimate: Estimate| {
            let of = |value: f64| 100.0 * value;
            Estimate { value: of(estimate.value), low: of(estimate.low), high: of(estimate.high) }
        };
        let _ = write!(out, "<tr{class}><td>{}<td>{}", escape(&line.policy), line.mode);
        let cells = [
            Some(percent(line.bad_share)),
            line.regret,
            Some(line.excess_view_minutes),
            Some(percent(line.overload_share)),
            line.cost_ratio,
            line.j,
            difference(line, scenario, runs),
            line.state_changes,
            line.detect_s_p95,
            line.leave_s_p95,
            line.oscillation,
            Some(line.origin_peak),
            Some(line.bitrate_share),
        ];
        cells.iter().for_each(|cell| out.push_str(&estimate(*cell)));
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
}

/// J of a policy minus ours on the same seeds.
fn difference(line: &Line, scenario: usize, runs: &BTreeMap<Job, Outcome>) -> Option<Estimate> {
    let policy = Policy::named(&line.policy)?;
    let mut values = Vec::new();
    for (job, run) in runs.iter().filter(|(job, _)| job.scenario == scenario && job.policy == policy) {
        if job.mode.as_str() != line.mode {
            continue;
        }
        let of = |policy| runs.get(&Job { policy, ..*job });
        let (ours, oracle) = (of(Policy::Spillway)?, of(Policy::Oracle)?);
        values.push(crate::suite::headline(run, oracle) - crate::suite::headline(ours, oracle));
    }
    (policy != Policy::Spillway && !values.is_empty()).then(|| Estimate::median(&values))
}

fn estimate(estimate: Option<Estimate>) -> String {
    match estimate {
        None => "<td>–".into(),
        Some(e) if e.low == e.high => format!("<td>{}", number(e.value)),
        Some(e) => {
            let high = if e.high >= f64::MAX { "never".into() } else { number(e.high) };
            format!("<td>{} <small>{}…{high}</small>", number(e.value), number(e.low))
        }
    }
}

/// Three figures that matter.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= f64::MAX => "never".into(),
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

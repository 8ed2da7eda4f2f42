//! One HTML page of a suite: verdicts, a table, and plots as SVG. Nothing is fetched.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::estimate::Estimate;
use crate::outcome::{Sample, Timeline};
use crate::policies::Policy;
use crate::suite::{Job, Line, Suite};
use crate::verdicts::Verdict;
use crate::{Mode, Outcome};

/// Width and height of a plot.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 130.0;
/// Colours of lines that differ for colour-blind readers too (Okabe and Ito).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666", "#000000"];
/// Policies that are plotted.
const PLOTTED: [Policy; 4] = [Policy::PlayerOnly, Policy::GreedyCapacity, Policy::Spillway, Policy::Oracle];

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:2em auto;max-width:1500px;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:1em 0}th,td{padding:.2em .6em;border-bottom:1px solid #ddd;text-align:right;\
white-space:nowrap}th:first-child,td:first-child,td.t{text-align:left;white-space:normal}tr.us td{font-weight:600}\
.no{color:#b00020}.ok{color:#00693e}small{color:#666}figure{display:inline-block;margin:.4em}figcaption{font-size:12px}\
svg text{font:10px system-ui,sans-serif}";

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
        plots(&mut out, index, runs);
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
        "<table><tr><th>Policy<th>Mode<th>Bad %<th>Regret, points<th>Excess view-min<th>Overload %<th>Cost ratio<th>J\
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
    out.push_str("</table>");
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

fn plots(out: &mut String, scenario: usize, runs: &BTreeMap<Job, Outcome>) {
    for policy in PLOTTED {
        let of_mode = |mode| runs.get(&Job { scenario, mode, policy, seed: 1 });
        let Some(run) = of_mode(Mode::Fluid).or_else(|| of_mode(Mode::Session)) else { continue };
        let of = |sample: &Sample, values: &[f64], line: usize| (sample.at_s as f64, values[line]);
        let lines = |f: &dyn Fn(&Sample) -> &Vec<f64>| -> Vec<Vec<(f64, f64)>> {
            let count = run.timeline.lines.len();
            (0..count).map(|l| run.timeline.samples.iter().map(|s| of(s, f(s), l)).collect()).collect()
        };
        let single = |f: &dyn Fn(&Sample) -> f64| -> Vec<Vec<(f64, f64)>> {
            vec![run.timeline.samples.iter().map(|s| (s.at_s as f64, f(s))).collect()]
        };
        let name = policy.as_str();
        figure(out, &format!("{name}: share of views"), &run.timeline, &lines(&|s| &s.shares));
        figure(out, &format!("{name}: load ÷ ceiling"), &run.timeline, &lines(&|s| &s.utilisation));
        figure(out, &format!("{name}: bad windows %"), &run.timeline, &single(&|s| 100.0 * s.bad));
        figure(out, &format!("{name}: origin ÷ before"), &run.timeline, &single(&|s| s.origin));
        figure(out, &format!("{name}: USD per hour"), &run.timeline, &single(&|s| s.cost));
        out.push_str("<br>");
    }
}

fn figure(out: &mut String, caption: &str, timeline: &Timeline, lines: &[Vec<(f64, f64)>]) {
    let top = lines.iter().flatten().map(|(_, y)| *y).fold(0.0, f64::max).max(1e-6) * 1.05;
    let right = lines.iter().flatten().map(|(x, _)| *x).fold(1.0, f64::max);
    let _ = write!(
        out,
        "<figure><svg width={WIDTH} height={HEIGHT} viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"{0}\">\
         <rect width={WIDTH} height={HEIGHT} fill=\"#fafafa\"/><text x=2 y=10>{1}</text>\
         <text x=2 y={2}>0</text><text x={3} y={2} text-anchor=end>{4} s</text>",
        escape(caption),
        number(top),
        HEIGHT - 3.0,
        WIDTH - 2.0,
        number(right)
    );
    for (index, line) in lines.iter().enumerate() {
        let points: Vec<String> =
            line.iter().map(|(x, y)| format!("{:.1},{:.1}", x / right * WIDTH, HEIGHT - y / top * HEIGHT)).collect();
        let colour = COLOURS[index % COLOURS.len()];
        let _ =
            write!(out, "<polyline fill=none stroke=\"{colour}\" stroke-width=1.3 points=\"{}\"/>", points.join(" "));
        if lines.len() > 1 {
            let _ = write!(
                out,
                "<text x={} y={} fill=\"{colour}\">{}</text>",
                60 + 70 * index,
                10,
                escape(&timeline.lines[index])
            );
        }
    }
    let _ = write!(out, "</svg><figcaption>{}</figcaption></figure>", escape(caption));
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

//! Small multiples: a row per measure, a column per policy, one scale per row, so that heights compare. Grey: the time of
//! faults and crowds. Of seed 1.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{escape, number};
use crate::Mode;
use crate::Outcome;
use crate::format::Events;
use crate::outcome::Sample;
use crate::policies::Policy;
use crate::suite::Job;

/// Width and height of a plot in its own units.
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 110.0;
/// Colours of lines that differ for colour-blind readers too (Okabe and Ito).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666", "#000000"];
/// Policies that are plotted.
const PLOTTED: [Policy; 4] = [Policy::PlayerOnly, Policy::GreedyCapacity, Policy::Spillway, Policy::Oracle];

type Of = fn(&Sample) -> Vec<f64>;

/// Measures by row: name, values, whether 1 is a limit.
const ROWS: [(&str, Of, bool); 5] = [
    ("share of views", |sample| sample.shares.clone(), false),
    ("load ÷ ceiling", |sample| sample.utilisation.clone(), true),
    ("bad windows, %", |sample| vec![100.0 * sample.bad], false),
    ("origin's load ÷ before", |sample| vec![sample.origin], false),
    ("USD per hour", |sample| vec![sample.cost], false),
];

pub(super) fn plots(out: &mut String, scenario: usize, events: &Events, runs: &BTreeMap<Job, Outcome>) {
    let of_mode = |policy, mode| runs.get(&Job { scenario, mode, policy, seed: 1 });
    let run = |policy| of_mode(policy, Mode::Fluid).or_else(|| of_mode(policy, Mode::Session));
    let shown: Vec<(Policy, &Outcome)> =
        PLOTTED.into_iter().filter_map(|policy| run(policy).map(|run| (policy, run))).collect();
    let Some((_, first)) = shown.first() else { return };
    out.push_str("<p class=legend>");
    for (name, colour) in first.timeline.lines.iter().zip(COLOURS.iter().cycle()) {
        let _ = write!(out, "<span style=\"color:{colour}\">— {}</span>", escape(name));
    }
    out.push_str("</p><div class=plots><span></span>");
    for column in 0..PLOTTED.len() {
        let name = shown.get(column).map_or("", |(policy, _)| policy.as_str());
        let _ = write!(out, "<b>{}</b>", escape(name));
    }
    for (name, of, limit) in ROWS {
        let samples = || shown.iter().flat_map(|(_, run)| &run.timeline.samples);
        let top = samples().flat_map(of).fold(if limit { 1.0 } else { 0.0 }, f64::max).max(1e-6) * 1.05;
        let _ = write!(out, "<span>{name}</span>");
        for column in 0..PLOTTED.len() {
            match shown.get(column) {
                Some((policy, run)) => {
                    plot(out, &format!("{}: {name}", policy.as_str()), events, run, (of, limit, top))
                }
                None => out.push_str("<span></span>"),
            }
        }
    }
    out.push_str("</div>");
}

fn plot(out: &mut String, label: &str, events: &Events, run: &Outcome, (of, limit, top): (Of, bool, f64)) {
    let samples = &run.timeline.samples;
    let right = samples.iter().map(|sample| sample.at_s as f64).fold(1.0, f64::max);
    let x = |second: f64| second / right * WIDTH;
    let y = |value: f64| HEIGHT - value / top * HEIGHT;
    let _ = write!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"{}\"><rect width={WIDTH} height={HEIGHT} \
         fill=\"#fafafa\"/>",
        escape(label)
    );
    let faults = events.fault.iter().map(|fault| (fault.start_s, fault.end_s));
    let crowds = events.surge.iter().map(|surge| (surge.start_s, surge.end_s));
    for (start_s, end_s) in faults.chain(crowds) {
        let (from, to) = (x(start_s as f64), x((end_s as f64).min(right)));
        let width = (to - from).max(1.0);
        let _ = write!(out, "<rect x={from:.1} width={width:.1} height={HEIGHT} fill=\"#000\" opacity=.06 />");
    }
    if limit {
        let _ = write!(out, "<path d=\"M0 {0:.1}H{WIDTH}\" stroke=\"#b00020\" stroke-dasharray=\"3 3\"/>", y(1.0));
    }
    let lines = samples.first().map_or(0, |sample| of(sample).len());
    for line in 0..lines {
        let points: Vec<String> =
            samples.iter().map(|sample| format!("{:.1},{:.1}", x(sample.at_s as f64), y(of(sample)[line]))).collect();
        let colour = COLOURS[line % COLOURS.len()];
        let _ =
            write!(out, "<polyline fill=none stroke=\"{colour}\" stroke-width=1.3 points=\"{}\"/>", points.join(" "));
    }
    let _ = write!(
        out,
        "<text x=2 y=9>{}</text><text x=2 y={2}>0</text><text x={3} y={2} text-anchor=end>{1} min</text></svg>",
        number(top),
        number(right / 60.0),
        HEIGHT - 3.0,
        WIDTH - 2.0,
    );
}

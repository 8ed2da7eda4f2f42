//! Client bandwidth: real traces if there are any, else a seeded model.

use crate::random::{normal, unit};
use crate::world::World;

/// Bandwidth traces of clients: lines of seconds and Mbit/s.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    traces: Vec<Vec<(f64, f64)>>,
}

/// Spread between clients and over time of the model (log-normal), and the length of a stretch, s. Orders of magnitude
/// as in public fixed-line and mobile traces; a median client has `players.bandwidth_mbps`.
const SPREAD_CLIENTS: f64 = 0.6;
const SPREAD_TIME: f64 = 0.4;
const STRETCH_S: f64 = 5.0;

impl Traces {
    /// Adds the text of one trace: a line per sample, `seconds Mbit/s`, separated by blanks, commas or tabs; brackets
    /// and empty lines are ignored.
    ///
    /// # Errors
    /// Names the line that isn't one, or a trace without two rising times.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let mut trace: Vec<(f64, f64)> = Vec::new();
        for line in text.lines() {
            let words: Vec<&str> = line
                .split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']'))
                .filter(|w| !w.is_empty())
                .collect();
            if words.is_empty() {
                continue;
            }
            let numbers: Vec<f64> = words.iter().filter_map(|word| word.parse().ok()).collect();
            let [at, mbps] = numbers[..] else { return Err(format!("trace line {line:?} is not \"seconds Mbit/s\"")) };
            let rises = trace.last().is_none_or(|(last, _)| at > *last);
            if !(rises && mbps >= 0.0 && mbps.is_finite()) {
                return Err(format!("trace line {line:?}: seconds must rise and Mbit/s be 0 or more"));
            }
            trace.push((at, mbps));
        }
        if trace.len() < 2 {
            return Err("a trace needs two lines or more".into());
        }
        self.traces.push(trace);
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.traces.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.traces.is_empty()
    }

    /// Bit/s of a client at a moment; `luck` names the client.
    pub(crate) fn bandwidth(&self, world: &World, luck: u64, at_s: f64) -> f64 {
        if self.traces.is_empty() {
            return model(world, luck, at_s);
        }
        let trace = &self.traces[(unit(&[luck, 41]) * self.traces.len() as f64) as usize];
        let (first, last) = (trace[0].0, trace[trace.len() - 1].0);
        let into = (at_s + unit(&[luck, 42]) * (last - first)) % (last - first) + first;
        let next = trace.partition_point(|(at, _)| *at <= into);
        (trace[next.saturating_sub(1)].1 * 1e6).max(1e4)
    }
}

fn model(world: &World, luck: u64, at_s: f64) -> f64 {
    let client = normal(&[luck, 43]) * SPREAD_CLIENTS;
    let stretch = (at_s / STRETCH_S).floor();
    let part = at_s / STRETCH_S - stretch;
    let at = |stretch: f64| normal(&[luck, stretch as u64, 44]);
    let now = (at(stretch) * (1.0 - part) + at(stretch + 1.0) * part) * SPREAD_TIME;
    world.players.bandwidth_mbps * 1e6 * (client + now).exp()
}

//! What really happened to a view: the ground truth that measurements are made from, whatever beacons say.

use std::collections::BTreeMap;

use super::behaviour::Behaviour;
use super::playback::Stall;

/// Entries of each list that are kept of one view.
const MAX_ENTRIES: usize = 4_096;

/// Media requests in a row to one pathway, ms on the viewers' clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Pathway.
    pub pathway: String,
    /// First request.
    pub first_ms: u64,
    /// Last request.
    pub last_ms: u64,
}

/// A steering answer that the view was handed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// When, ms on the viewers' clock.
    pub at_ms: u64,
    /// Seconds until the next poll.
    pub ttl_s: u32,
}

/// Why a view changed its pathway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A steering answer.
    Steering,
    /// The player's own doing.
    Player,
}

/// A change of pathway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// When, ms on the viewers' clock.
    pub at_ms: u64,
    /// From where.
    pub from: String,
    /// To where.
    pub to: String,
    /// Why.
    pub cause: Cause,
}

/// Everything that is measured of one view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewRecord {
    /// Its id.
    pub view_id: String,
    /// Its region.
    pub region: String,
    /// Its kind of player.
    pub behaviour: Behaviour,
    /// When it wanted to play, ms on the viewers' clock.
    pub joined_ms: u64,
    /// First picture.
    pub first_frame_ms: Option<u64>,
    /// When it was over.
    pub ended_ms: Option<u64>,
    /// Why it never played, or broke off.
    pub failure: Option<String>,
    /// Stalls in order.
    pub stalls: Vec<Stall>,
    /// Media requests in order.
    pub runs: Vec<Run>,
    /// Steering answers in order.
    pub answers: Vec<Answer>,
    /// Changes of pathway in order.
    pub switches: Vec<Switch>,
    /// Media bytes by pathway.
    pub bytes: BTreeMap<String, u64>,
    /// Events that the collector acknowledged, each once.
    pub events_acknowledged: u64,
}

impl ViewRecord {
    /// A view that joins now.
    #[must_use]
    pub fn new(view_id: &str, region: &str, behaviour: Behaviour, joined_ms: u64) -> Self {
        Self {
            view_id: view_id.to_owned(),
            region: region.to_owned(),
            behaviour,
            joined_ms,
            first_frame_ms: None,
            ended_ms: None,
            failure: None,
            stalls: Vec::new(),
            runs: Vec::new(),
            answers: Vec::new(),
            switches: Vec::new(),
            bytes: BTreeMap::new(),
            events_acknowledged: 0,
        }
    }

    /// Notes a media request.
    pub fn requested(&mut self, at_ms: u64, pathway: &str) {
        let full = self.runs.len() >= MAX_ENTRIES;
        match self.runs.last_mut() {
            Some(run) if run.pathway == pathway => run.last_ms = at_ms,
            _ if full => {}
            _ => self.runs.push(Run { pathway: pathway.to_owned(), first_ms: at_ms, last_ms: at_ms }),
        }
    }

    /// Notes media bytes.
    pub fn received(&mut self, pathway: &str, bytes: u64) {
        match self.bytes.get_mut(pathway) {
            Some(sum) => *sum += bytes,
            None => {
                self.bytes.insert(pathway.to_owned(), bytes);
            }
        }
    }

    /// Notes a steering answer.
    pub fn answered(&mut self, at_ms: u64, ttl_s: u32) {
        if self.answers.len() < MAX_ENTRIES {
            self.answers.push(Answer { at_ms, ttl_s });
        }
    }

    /// Notes a change of pathway.
    pub fn switched(&mut self, at_ms: u64, from: &str, to: &str, cause: Cause) {
        if self.switches.len() < MAX_ENTRIES {
            self.switches.push(Switch { at_ms, from: from.to_owned(), to: to.to_owned(), cause });
        }
    }

    /// The pathway of the last media request before `at_ms`, if the view was there then.
    #[must_use]
    pub fn pathway_at(&self, at_ms: u64) -> Option<&str> {
        if self.joined_ms > at_ms || self.ended_ms.is_some_and(|ended_ms| ended_ms <= at_ms) {
            return None;
        }
        self.runs.iter().rev().find(|run| run.first_ms <= at_ms).map(|run| run.pathway.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_a_row_are_one_run_and_tell_where_a_view_was() {
        let mut record = ViewRecord::new("v", "eu", Behaviour::Hls, 100);
        for (at_ms, pathway) in [(200, "a"), (300, "a"), (400, "b"), (500, "a")] {
            record.requested(at_ms, pathway);
        }
        assert_eq!(record.runs.len(), 3);
        assert_eq!(record.runs[0], Run { pathway: "a".into(), first_ms: 200, last_ms: 300 });
        assert_eq!(record.pathway_at(150), None);
        assert_eq!(record.pathway_at(450), Some("b"));
        record.ended_ms = Some(600);
        assert_eq!(record.pathway_at(700), None);
    }
}

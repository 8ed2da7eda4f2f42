//! What isn't heard: heartbeats, playlists after which nothing followed, load reports; and probes where viewers can't
//! tell.

use spillway_model::PathwayId;

use crate::detect::{Alarm, Scene};
use crate::memory::CellMemory;
use crate::observe::CellSeen;

impl Scene<'_> {
    /// An own edge that neither reports nor answers is dead.
    pub(super) fn gone(&self, id: &PathwayId, memory: &CellMemory) -> Option<(Alarm, String)> {
        let dead = self.reports_gone.contains(id) && memory.probes.bad_rounds(self.now, self.parameters) > 0;
        dead.then(|| (Alarm::Down, "no load reports and probes fail".to_owned()))
    }

    /// Heartbeats that are due and don't come, while the neighbours' do.
    pub(super) fn silence(&self, id: &PathwayId, memory: &CellMemory, seen: &CellSeen) -> Option<(Alarm, String)> {
        let from = self.silence_from();
        let (due, received) = seen.heartbeats_since(from);
        let missing = (due.saturating_sub(received), due);
        let others = self
            .comparable(id)
            .map(|(_, seen)| seen.heartbeats_since(from))
            .fold((0, 0), |sum, (due, received)| (sum.0 + due.saturating_sub(received), sum.1 + due));
        self.missing(memory, missing, others, "heartbeats missing")
    }

    /// Playlists that name the pathway and after which nothing is heard, while others' viewers do start.
    pub(super) fn ghosts(&self, id: &PathwayId, memory: &CellMemory, seen: &CellSeen) -> Option<(Alarm, String)> {
        let from = self.silence_from();
        // A ghost is told when its time is over; those that started count as well as those that were assigned.
        let ghosts_of = |seen: &CellSeen| {
            let (ghosts, _) = seen.ghosts_since(from);
            (ghosts, ghosts + seen.assigned_since(from).1)
        };
        let others = self
            .comparable(id)
            .map(|(_, seen)| ghosts_of(seen))
            .fold((0, 0), |sum, (ghosts, all)| (sum.0 + ghosts, sum.1 + all));
        self.missing(memory, ghosts_of(seen), others, "starts of which nothing was heard again")
    }

    fn silence_from(&self) -> u64 {
        (self.observed.latest_s(self.region) + 1).saturating_sub(self.parameters.silence_window_s)
    }

    fn missing(
        &self,
        memory: &CellMemory,
        (missing, due): (u64, u64),
        (others_missing, others_due): (u64, u64),
        what: &str,
    ) -> Option<(Alarm, String)> {
        let p = self.parameters;
        if self.telemetry_lost || due < p.silence_due_min || (missing as f64) < p.silence_share * due as f64 {
            return None;
        }
        let reference = (others_missing as f64 + 0.2) / (others_due as f64 + 4.0);
        let share = missing as f64 / due as f64;
        if others_due < p.silence_due_min / 2 || share <= p.fast_times_reference * reference {
            return None;
        }
        let confirmed = memory.probes.bad_rounds(self.now, p) > 0;
        let text = format!(
            "{missing} of {due} {what} in {} s, others {:.0} %{}",
            p.silence_window_s,
            reference * 100.0,
            if confirmed { ", probes fail too" } else { "" }
        );
        Some((if confirmed { Alarm::Down } else { Alarm::Degraded }, text))
    }

    /// Probes decide alone only where viewers can't tell.
    pub(super) fn probes_alone(&self, id: &PathwayId, memory: &CellMemory, seen: &CellSeen) -> Option<(Alarm, String)> {
        let p = self.parameters;
        let thin = seen.views < p.probe_views_max;
        let rounds = memory.probes.bad_rounds(self.now, p);
        let wanted = (thin || self.telemetry_lost) && rounds >= p.probe_rounds;
        if !wanted || !self.someone_answers(memory) || self.shielded_by_origin(id, memory) {
            return None;
        }
        let detail = memory.probes.detail.as_str();
        let detail = if detail.is_empty() { "failed" } else { detail };
        Some((Alarm::Down, format!("{rounds} probes in a row bad ({detail}), others good")))
    }
}

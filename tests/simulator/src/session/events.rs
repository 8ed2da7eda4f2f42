//! What happens to one player: a window closes, a poll is answered, a request goes out, is late, answered, or fails.

use super::player::{HANG_MAX_S, Player, Request, TRIP_S};
use super::stage::{Done, HIT, Moment, Stage};
use crate::evidence::Evidence;
use crate::fluid::players::leaves_s;
use crate::format::Status;

/// What luck is for.
const USUAL: u64 = 71;
const FULL: u64 = 72;
const LOST: u64 = 73;
const WRONG: u64 = 74;
const FAILS: u64 = 75;
const SLOW: u64 = 76;
const MISSES: u64 = 78;

impl Stage<'_> {
    /// The next thing that happens to a player; false when it ends.
    pub(super) fn event(
        &mut self,
        player: &mut Player,
        moment: &Moment<'_>,
        evidence: &mut Evidence,
        done: &mut Done,
        rates: (&mut f64, &mut f64),
    ) -> bool {
        let now = player.wakes();
        player.advance(now);
        if now >= player.ends {
            return false;
        }
        let before = player.path;
        if now >= player.next_beat {
            self.beat(player, now, moment, evidence, done);
        } else if now >= player.next_poll {
            let region = self.world.cohorts[player.cohort].region;
            if moment.broken.no_steering {
                player.next_poll = now + player.ttl_s.max(1.0);
            } else {
                self.answer(player, now, moment.manifests[region], false, moment.broken);
            }
        } else if let Some(request) = player.request {
            self.answered(player, now, request, evidence);
        } else {
            self.ask(player, now, moment, evidence, done, rates);
        }
        if player.path != before {
            let fixed = u64::from(player.kind.is_none());
            let (old, new) = (self.world.cell(player.cohort, before), self.world.cell(player.cohort, player.path));
            (self.here[old], self.here[new]) = (self.here[old] - 1, self.here[new] + 1);
            (self.fixed[old], self.fixed[new]) = (self.fixed[old] - fixed, self.fixed[new] + fixed);
        }
        true
    }

    /// A media request goes out.
    fn ask(
        &self,
        player: &mut Player,
        now: f64,
        moment: &Moment<'_>,
        evidence: &mut Evidence,
        done: &mut Done,
        (got, wanted): (&mut f64, &mut f64),
    ) {
        let (world, broken) = (self.world, moment.broken);
        let cell = world.cell(player.cohort, player.path);
        let region = world.cohorts[player.cohort].region;
        let segment_s = world.players.segment_s as f64;
        let caps = moment.manifests[region].max_bitrate_kbps.iter().map(|(_, kbps)| f64::from(*kbps) * 1e3);
        let most = caps.fold(f64::INFINITY, f64::min);
        let rate = player.choose(&world.ladder_bps, segment_s, world.players.buffer_s as f64, most);
        let number = player.requests;
        player.requests += 1;
        let hit = player.luck(HIT, 0) < broken.hard[cell];
        let miss = moment.delivery.miss[region * world.paths.len() + player.path];
        let missed = player.luck(MISSES, number) < miss;
        let fails = if hit {
            Some(broken.status[cell])
        } else if player.luck(FAILS, number) < world.players.usual_failures
            || (missed && player.luck(SLOW, number ^ 1 << 40) < moment.delivery.origin_fails)
        {
            Some(Status::Unavailable)
        } else {
            None
        };
        let used = moment.load[player.path] / (world.paths[player.path].claimed * broken.capacity[player.path]);
        let slower = if player.luck(SLOW, number) < broken.slow[cell] { broken.slower[cell] } else { 1.0 };
        let quality = (world.usual[cell] / world.quality.usual_bad_windows.max(1e-6)).powf(-0.3);
        let speed = self.traces.bandwidth(world, player.luck, now) * quality / used.max(1.0) / slower;
        let bits = rate * segment_s;
        let patience = player.kind.and_then(|k| world.players.kind[k].leaves_hang_s).unwrap_or(HANG_MAX_S);
        let ends = now
            + match fails {
                None => (TRIP_S + bits / speed.max(1e3)) * if missed { 1.2 } else { 1.0 },
                Some(Status::Hang) => patience,
                Some(_) => TRIP_S,
            };
        player.request = Some(Request { path: player.path, began: now, ends, fails, bits, late_told: false });
        *wanted += world.bits_per_view * segment_s;
        if fails.is_none() {
            done.bits[player.path] += bits;
            evidence.cells[cell].bits += bits as u64;
            *got += rate * segment_s;
        }
        done.requests.push((player.number, player.path, player.moved_by));
    }

    /// A request is answered, fails, or is late.
    fn answered(&self, player: &mut Player, now: f64, request: Request, evidence: &mut Evidence) {
        let world = self.world;
        let cell = world.cell(player.cohort, request.path);
        let counts = &mut evidence.cells[cell];
        if now < request.ends {
            player.request = Some(Request { late_told: true, ..request });
            counts.late += 1;
            return;
        }
        player.request = None;
        let Some(status) = request.fails else {
            counts.ok += 1;
            counts.new += u64::from(player.is_new());
            player.receive(&request, world.players.segment_s as f64, world.players.buffer_s as f64);
            return;
        };
        counts.failed += 1;
        if player.failing_frame != evidence.second {
            player.failing_frame = evidence.second;
            counts.failing += 1;
        }
        // It was steered elsewhere meanwhile: the next request goes there.
        if request.path != player.path {
            player.next_request = now;
            return;
        }
        let kind = player.kind.filter(|_| self.policy.fails_over()).map(|kind| &world.players.kind[kind]);
        player.fail(request.began, now, kind.and_then(|kind| leaves_s(kind, status)));
        if let Some(kind) = kind
            && player.leaves(now, kind, status)
        {
            player.next_request = now;
        }
    }

    /// A window closes and is reported.
    fn beat(&self, player: &mut Player, now: f64, moment: &Moment<'_>, evidence: &mut Evidence, done: &mut Done) {
        let (world, players) = (self.world, &self.world.players);
        let beat = player.beats;
        let cell = world.cell(player.cohort, player.path);
        let felt = player.close_window(now, players.heartbeat_s as f64);
        let used = moment.load[player.path] / (world.paths[player.path].claimed * moment.broken.capacity[player.path]);
        let full = (world.quality.load_slope * (used - world.quality.load_knee)).clamp(0.0, 1.0);
        let usual = player.luck(USUAL, beat) < world.usual[cell];
        let extra = felt || player.luck(FULL, beat) < full;
        done.windows[cell] += 1;
        done.bad[cell] += u64::from(extra || usual);
        done.excess[cell] += u64::from(extra && !usual);
        let silent = player.failing_since.is_some() && player.luck(HIT, 1) < moment.broken.silent[cell];
        let counts = &mut evidence.cells[cell];
        counts.due += 1;
        if silent || player.luck(LOST, beat) < players.beacons_lost {
            return;
        }
        counts.received += 1;
        // The first window after a switch tells of the pathway that was left.
        if !std::mem::take(&mut player.switched) {
            let lie = player.luck(WRONG, beat) < players.beacons_wrong;
            counts.windows += 1;
            counts.bad += u64::from((extra || usual) != lie);
        }
    }
}

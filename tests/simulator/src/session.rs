//! A player: fetches a segment when its buffer has room, retries, stalls, polls, reports.

use spillway_model::{ContentId, PathwayId, RegionId, TimestampMs};
use spillway_routing::{Manifest, Session, rank, share_of};

use crate::Players;
use crate::evidence::Tally;
use crate::random::Random;

/// One view.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub id: String,
    pub region: RegionId,
    pub asn: Option<u32>,
    started: TimestampMs,
    pub ends_s: u64,
    pub pathway: PathwayId,
    /// Order of the last answer, for those that leave by themselves.
    order: Vec<PathwayId>,
    kind: Kind,
    next_poll_s: u64,
    /// TTL of the last answer with jitter, s.
    pub ttl_s: f64,
    next_request_s: u64,
    next_heartbeat_s: u64,
    retries: u32,
    failing_s: u64,
    buffer_s: f64,
    playing: bool,
    stalled_s: u64,
    switched: bool,
    /// What moved it last.
    pub moved_by: MovedBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ignores,
    Leaves,
    Retries,
}

/// What moved a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MovedBy {
    Nothing,
    Steering,
    Itself,
}

/// What a player knows of the world in one second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<'a> {
    /// Seconds since the start.
    pub second: u64,
    /// The same as a moment.
    pub at: TimestampMs,
    /// What steering nodes answer from.
    pub manifest: &'a Manifest,
    /// How players behave.
    pub players: &'a Players,
    /// Bitrate of each view.
    pub bitrate_kbps: u64,
}

/// What a second brought.
#[derive(Clone, Debug, Default)]
pub(crate) struct Second {
    /// Pathway of the media request made, if one was.
    pub requested: Option<PathwayId>,
    /// Bits received.
    pub bits: u64,
    /// A window closed: was it bad?
    pub window: Option<bool>,
}

impl View {
    pub(crate) fn start(
        id: String,
        (region, asn): (RegionId, Option<u32>),
        ends_s: u64,
        moment: Moment<'_>,
        random: &mut Random,
    ) -> Self {
        let Moment { second, at, manifest, players, .. } = moment;
        let draw = share_of(&id, "player kind");
        let ignores = (players.ignore_steering * 1e6) as u32;
        let leaves = ignores + (players.leave_by_themselves * 1e6) as u32;
        let kind = match draw {
            _ if draw < ignores => Kind::Ignores,
            _ if draw < leaves => Kind::Leaves,
            _ => Kind::Retries,
        };
        let mut view = Self {
            id,
            region,
            asn,
            started: at,
            ends_s,
            pathway: manifest.pathways.keys().next().expect("a manifest has pathways").clone(),
            order: Vec::new(),
            kind,
            next_poll_s: 0,
            ttl_s: 0.0,
            next_request_s: if second == 0 { random.below(players.segment_s) } else { second },
            next_heartbeat_s: second + 1 + random.below(players.heartbeat_s),
            retries: 0,
            failing_s: 0,
            // Who was there before the beginning plays already; who comes fills the buffer first.
            buffer_s: if second == 0 { players.buffer_s as f64 } else { 0.0 },
            playing: second == 0,
            stalled_s: 0,
            switched: false,
            moved_by: MovedBy::Nothing,
        };
        view.answer(second, manifest, true);
        // Players come at any time of their interval.
        view.next_poll_s = second + 1 + random.below(view.ttl_s.ceil() as u64);
        view
    }

    pub(crate) fn follows(&self) -> bool {
        self.kind != Kind::Ignores
    }

    /// Takes the order of a steering answer; the first one comes with the playlist, which nobody ignores.
    fn answer(&mut self, now_s: u64, manifest: &Manifest, with_playlist: bool) {
        let content = ContentId::new("live/match").expect("a valid id");
        let mut session = Session::new(&self.id, self.started);
        session.asn = self.asn;
        self.order = rank(&session, &content, manifest).into_iter().map(|ranked| ranked.pathway).collect();
        let spread = f64::from(share_of(&self.id, "jitter")) / 1e6 * 2.0 - 1.0;
        self.ttl_s = f64::from(manifest.ttl.live_s) * (1.0 + manifest.ttl.jitter.as_fraction() * spread);
        self.next_poll_s = now_s + self.ttl_s.round().max(1.0) as u64;
        let Some(first) = self.order.first().filter(|first| **first != self.pathway).cloned() else { return };
        if with_playlist {
            self.pathway = first;
        } else if self.kind != Kind::Ignores {
            self.move_to(now_s, first, MovedBy::Steering);
        }
    }

    fn move_to(&mut self, now_s: u64, pathway: PathwayId, by: MovedBy) {
        self.pathway = pathway;
        self.moved_by = by;
        self.switched = true;
        self.retries = 0;
        self.failing_s = 0;
        // A request that waits for its retry is made at the new place at once.
        if self.buffer_s < 1.0 || self.next_request_s > now_s + 1 {
            self.next_request_s = self.next_request_s.min(now_s + 1);
        }
    }

    /// One second. `fails` says whether a request to the view's pathway fails.
    pub(crate) fn second(
        &mut self,
        moment: Moment<'_>,
        fails: &mut dyn FnMut(&PathwayId) -> bool,
        random: &mut Random,
        tally: &mut Tally,
    ) -> Second {
        let mut out = Second::default();
        let (now_s, players) = (moment.second, moment.players);
        if now_s >= self.next_poll_s {
            self.answer(now_s, moment.manifest, false);
        }
        let room = self.buffer_s + players.segment_s as f64 <= players.buffer_s as f64 + 1.0;
        if now_s >= self.next_request_s && room {
            out.requested = Some(self.pathway.clone());
            let failed = fails(&self.pathway);
            let cell = tally.cell(&self.region, &self.pathway, self.asn);
            if failed {
                cell.requests_failed += 1;
                cell.views_failing += 1;
                self.next_request_s = now_s + (1 << self.retries.min(2));
                self.retries += 1;
            } else {
                cell.requests_ok += 1;
                out.bits = moment.bitrate_kbps * 1000 * players.segment_s;
                cell.bits += out.bits;
                self.buffer_s += players.segment_s as f64;
                self.playing = true;
                self.next_request_s = now_s + 1;
                self.retries = 0;
                self.failing_s = 0;
            }
        }
        if self.retries > 0 {
            self.failing_s += 1;
            if self.failing_s >= 3 && self.kind == Kind::Leaves {
                let next = self.order.iter().find(|id| **id != self.pathway).cloned();
                if let Some(next) = next {
                    self.move_to(now_s, next, MovedBy::Itself);
                }
            }
        }
        if self.playing && self.buffer_s >= 1.0 {
            self.buffer_s -= 1.0;
        } else {
            self.stalled_s += 1;
        }
        out.window = self.heartbeat(now_s, players, random, tally);
        tally.cell(&self.region, &self.pathway, self.asn).views_active += 1;
        out
    }

    fn heartbeat(&mut self, now_s: u64, players: &Players, random: &mut Random, tally: &mut Tally) -> Option<bool> {
        if now_s < self.next_heartbeat_s {
            return None;
        }
        self.next_heartbeat_s = now_s + players.heartbeat_s;
        let bad = self.stalled_s as f64 > 0.02 * players.heartbeat_s as f64 || random.chance(players.usual_bad_windows);
        let cell = tally.cell(&self.region, &self.pathway, self.asn);
        cell.heartbeats_due += 1;
        cell.heartbeats_received += 1;
        // The first window after a switch tells of the pathway that was left.
        if !self.switched {
            cell.windows += 1;
            cell.bad_windows += u64::from(bad);
        }
        self.switched = false;
        self.stalled_s = 0;
        Some(bad)
    }
}

//! How far a region moves now, and what holds it back. No guard holds a view on a dead or overfull pathway.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{PathwayId, PathwayState, RegionId, TimestampMs, Verdict};

use crate::course::Pace;
use crate::decide::Round;
use crate::engine::{Engine, LastMove, RegionMemory};
use crate::fill::Limits;
use crate::relief::relieves;
use crate::weights::{Shares, distance, towards};
use crate::wish::{Wish, apply_orders};
use crate::{LogEntry, Parameters};

/// Bits that views brought which were moved to a pathway.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrived {
    /// Of views that still fill their buffers, bit/s.
    pub refill: f64,
    /// In the last minute, bit/s.
    pub minute: f64,
}

impl RegionMemory {
    /// Views leave a dead pathway, or have just left one.
    pub(crate) fn in_emergency(&self, p: &Parameters) -> bool {
        let dead = |id: &PathwayId| self.cells.get(id).is_some_and(|cell| cell.machine.factor(p) <= 0.0);
        let refill: f64 = self.arrived.values().map(|arrived| arrived.refill).sum();
        self.course.current.iter().any(|(id, share)| *share > 0.0 && dead(id))
            || refill > p.refill_emergency * self.demand.now(p)
    }

    /// Charges what a move brings to each pathway.
    fn charge(&mut self, before: &Shares, demand: f64) {
        for (id, share) in &self.course.current {
            let more = (share - before.get(id).copied().unwrap_or(0.0)) * demand;
            if more > 0.0 {
                let arrived = self.arrived.entry(id.clone()).or_default();
                arrived.refill += more;
                arrived.minute += more;
            }
        }
    }

    fn settle_in(&mut self, dt_s: f64, p: &Parameters) {
        let (refill, minute) = ((-dt_s / p.refill_s).exp(), (-dt_s / 60.0).exp());
        for arrived in self.arrived.values_mut() {
            arrived.refill *= refill;
            arrived.minute *= minute;
        }
        self.arrived.retain(|_, arrived| arrived.minute > 1.0);
    }
}

impl Engine {
    /// Moves all regions as far as each may go now.
    pub(crate) fn move_regions(
        &mut self,
        round: &Round<'_>,
        wishes: &BTreeMap<RegionId, Wish>,
        log: &mut Vec<LogEntry>,
    ) {
        let has_begun = |region: &&RegionId| {
            let memory = &self.regions[*region];
            !memory.course.current.is_empty() || memory.left.is_some()
        };
        let begun: BTreeSet<&RegionId> = wishes.keys().filter(has_begun).collect();
        let crowded = self.crowded(wishes, &round.rooms, round.p);
        let mut moved = false;
        for (region, wish) in wishes {
            moved |= self.move_region(round, region, wish, &crowded, log);
        }
        // Who has moved may have taken the room that another region was to leave, and who leaves it may do the same: each
        // time at least one gets to its target.
        for _ in wishes {
            if !std::mem::take(&mut moved) {
                break;
            }
            let crowded = self.crowded(wishes, &round.rooms, round.p);
            for (region, wish) in wishes {
                moved |= self.relieve_region(round, region, wish, &crowded, log);
            }
        }
        for region in wishes.keys() {
            self.follow_region(round, region, begun.contains(region));
        }
    }

    /// Moves a region as far as it may go by itself; whether it did.
    fn move_region(
        &mut self,
        round: &Round<'_>,
        region: &RegionId,
        wish: &Wish,
        crowded: &BTreeSet<PathwayId>,
        log: &mut Vec<LogEntry>,
    ) -> bool {
        let (tick, p) = (round.tick, round.p_of(region));
        let guards_on = self.setup.switches.guards;
        // An order holds also where nobody is known yet.
        let mut statics = self.static_shares_of(region, wish);
        apply_orders(&mut statics, round.orders.get(region), &wish.candidates);
        let ids = round.orders.get(region).map(|orders| orders.ids.clone()).unwrap_or_default();
        let Some(memory) = self.regions.get_mut(region) else { return false };
        memory.guards.clear();
        memory.settle_in(tick.dt_s, p);
        let nobody_yet = memory.has_nobody_yet(p);
        let target = if nobody_yet { &statics } else { &wish.filled.shares };
        let factor_before = |id: &PathwayId| memory.factors.get(id).copied().unwrap_or(1.0);
        let worse = wish.factors.iter().any(|(id, factor)| *factor < factor_before(id) - 1e-9);
        let better = wish.factors.iter().any(|(id, factor)| *factor > factor_before(id) + 1e-9);
        let relieved = crowded.iter().any(|id| relieves(id, &memory.course.current, target));
        let evacuates = wish.evacuates(&memory.course.current);
        let reordered = ids != memory.orders;
        let holds = if guards_on { holds(memory, round, region, wish, p) } else { Holds::default() };
        // Neither is an optimisation: where measurements come at all, no guard keeps a view on a dead pathway or a
        // pathway above its ceiling, and the target is the one way to do it that all capacities allow.
        // Who was on a pathway that a reload took away moves anyway.
        let left = memory.left.take();
        let urgent = worse || relieved || evacuates || nobody_yet || left.is_some();
        let pace = match () {
            () if reordered => Pace::AtOnce,
            () if memory.telemetry_lost => Pace::Frozen,
            () if holds.all && !relieved && !evacuates && left.is_none() => Pace::Frozen,
            () if urgent || !guards_on => Pace::AtOnce,
            () if holds.optional => Pace::Frozen,
            () if better => Pace::StepsNow,
            () => Pace::Steps,
        };
        if pace == Pace::Frozen || pace == Pace::Steps {
            memory.guards.clone_from(&holds.reasons);
        }
        let gone = left.is_some();
        let before = left.unwrap_or_else(|| memory.course.current.clone());
        let dead = |id: &PathwayId| wish.is_dead(id);
        let mut moved = memory.course.advance(tick.now, target, &dead, pace, p);
        let mut why = match () {
            () if reordered => "an override began or ended",
            () if gone => "the configuration has a pathway no more",
            () if worse => "a pathway got worse",
            () if relieved => "a pathway would be too full",
            () => "by cost and capacity",
        };
        moved |= gone;
        let taken_back = guards_on && !moved && memory.take_back(tick.now, &dead, p);
        if taken_back {
            (moved, why) = (true, "the origin suffers from our last move, which is taken back");
        }
        if memory.telemetry_lost && memory.drift(tick.now, &statics, p) {
            (moved, why) = (true, "nothing has been measured for long, back to static weights");
        }
        if moved {
            let optional = matches!(pace, Pace::Steps | Pace::StepsNow);
            if !optional && !before.is_empty() {
                memory.charge(&before, wish.movable);
            }
            if !before.is_empty() && !taken_back {
                memory.note_move(tick.now, &before, optional, p);
            }
            tell_move(region, &before, &memory.course.current, why, log);
        }
        memory.advance_classes(tick.now, wish, pace, p);
        memory.settled |= memory.demand.is_known(p);
        memory.factors.clone_from(&wish.factors);
        memory.orders = ids;
        if memory.cells.values().any(|cell| cell.machine.state != PathwayState::Healthy) {
            memory.last_unhealthy = Some(tick.now);
        }
        moved
    }

    /// Moves a region to its target if that takes it off a pathway that is too full; whether it did.
    fn relieve_region(
        &mut self,
        round: &Round<'_>,
        region: &RegionId,
        wish: &Wish,
        crowded: &BTreeSet<PathwayId>,
        log: &mut Vec<LogEntry>,
    ) -> bool {
        let (now, p) = (round.tick.now, round.p_of(region));
        let Some(memory) = self.regions.get_mut(region) else { return false };
        let target = &wish.filled.shares;
        let relieved = crowded.iter().any(|id| relieves(id, &memory.course.current, target));
        if !relieved || memory.telemetry_lost || memory.has_nobody_yet(p) {
            return false;
        }
        let before = memory.course.current.clone();
        if !memory.course.advance(now, target, &|id| wish.is_dead(id), Pace::AtOnce, p) {
            return false;
        }
        memory.guards.clear();
        memory.charge(&before, wish.movable);
        memory.note_move(now, &before, false, p);
        memory.advance_classes(now, wish, Pace::AtOnce, p);
        tell_move(region, &before, &memory.course.current, "a pathway would be too full", log);
        true
    }

    /// Notes what its players will have followed; until it has `begun` to have weights, who is there has followed
    /// nothing else than the first.
    fn follow_region(&mut self, round: &Round<'_>, region: &RegionId, begun: bool) {
        let p = round.p_of(region);
        let views: BTreeMap<PathwayId, u64> = self
            .observed
            .region(region)
            .map(|(id, seen)| (id.clone(), seen.views.saturating_sub(seen.fixed)))
            .collect();
        let fixed: u64 = self.observed.region(region).map(|(_, seen)| seen.fixed).sum();
        let Some(memory) = self.regions.get_mut(region) else { return };
        // Views that fall silent on one pathway don't make the others fuller.
        let all = (views.values().sum::<u64>() as f64).max(memory.demand.views() - fixed as f64);
        for (id, cell) in &mut memory.cells {
            let weight = memory.course.current.get(id).copied().unwrap_or(0.0);
            if !begun {
                (cell.followed, cell.warm) = (weight, weight);
            }
            cell.follow(weight, views.get(id).copied().unwrap_or(0), all, round.tick.dt_s, p);
        }
    }
}

impl RegionMemory {
    /// Nothing is known of the audience: the demand of nobody would put everybody onto own edges.
    fn has_nobody_yet(&self, p: &Parameters) -> bool {
        !self.demand.is_known(p) && !self.settled && !self.adopted
    }

    /// Classes go as their region does.
    fn advance_classes(&mut self, now: TimestampMs, wish: &Wish, pace: Pace, p: &Parameters) {
        for (class, of_class) in &wish.classes {
            let course = self.class_courses.entry(class.clone()).or_default();
            course.advance(now, &of_class.filled.shares, &|id| wish.is_dead(id), pace, p);
        }
        self.class_courses.retain(|class, _| wish.classes.contains_key(class));
    }

    /// Notes a move; small ones of one kind that follow each other count as one.
    fn note_move(&mut self, now: TimestampMs, before: &Shares, optional: bool, p: &Parameters) {
        let recent =
            |last: &&mut LastMove| last.optional == optional && now.since(last.begun).as_secs_f64() <= p.own_fault_s;
        match self.last_move.as_mut().filter(recent) {
            Some(last) => last.at = now,
            None => {
                self.last_move = Some(LastMove { begun: now, at: now, before: before.clone(), optional });
            }
        }
    }

    /// Whether so many views were moved so shortly ago that an origin's fault is taken for our own.
    pub(crate) fn moved_lately(&self, now: TimestampMs, p: &Parameters) -> bool {
        self.last_move.as_ref().is_some_and(|last| {
            now.since(last.at).as_secs_f64() <= p.own_fault_s
                && distance(&last.before, &self.course.current) >= p.own_fault_move
        })
    }

    /// Goes back to the weights before our last move, if that could have waited and the origin suffers from it.
    fn take_back(&mut self, now: TimestampMs, dead: &dyn Fn(&PathwayId) -> bool, p: &Parameters) -> bool {
        let own_fault = self.findings.iter().any(|note| note.verdict == Verdict::OriginSelf);
        let Some(last) = self.last_move.as_ref().filter(|last| own_fault && last.optional) else { return false };
        let recent = now.since(last.at).as_secs_f64() <= p.own_fault_s;
        if !recent || last.before.iter().any(|(id, share)| *share > 0.0 && dead(id)) {
            return false;
        }
        let before = last.before.clone();
        self.last_move = None;
        self.course.jump(now, &before);
        true
    }

    /// After long blindness goes to the static weights, in steps of a minute.
    fn drift(&mut self, now: TimestampMs, statics: &Shares, p: &Parameters) -> bool {
        let Some(since) = self.lost_since else { return false };
        let late_s = now.since(since).as_secs_f64() - p.telemetry_static_after_s;
        if late_s <= 0.0 {
            self.drift_from = None;
            return false;
        }
        let from = self.drift_from.get_or_insert_with(|| self.course.current.clone());
        let part = ((late_s / 60.0).floor() * 60.0 / p.telemetry_static_over_s.max(1.0)).min(1.0);
        let to = towards(from, statics, part);
        distance(&to, &self.course.current) > 1e-4 && self.course.jump(now, &to)
    }
}

/// What holds a region back.
#[derive(Default)]
struct Holds {
    /// Nothing moves but out of dead and overfull pathways.
    all: bool,
    /// What could wait, waits.
    optional: bool,
    reasons: Vec<String>,
}

fn holds(memory: &RegionMemory, round: &Round<'_>, region: &RegionId, wish: &Wish, p: &Parameters) -> Holds {
    let mut out = Holds::default();
    if round.tick.mass_change {
        out.all = true;
        out.reasons.push("many pathways changed state at once: rather the measurement than the pathways".into());
    }
    if round.tick.warming && memory.adopted {
        out.all = true;
        out.reasons.push("just started: not every view has been heard yet".into());
    }
    for calm in round.calm(region) {
        if calm.kind != crate::CalmKind::Event {
            out.optional = true;
            out.reasons.push(format!("{}: {}", calm.kind.as_str(), calm.reason));
        }
    }
    if memory.findings.iter().any(|note| matches!(note.verdict, Verdict::OriginSelf | Verdict::Origin)) {
        out.optional = true;
        out.reasons.push("an origin suffers: no move adds to its misses".into());
    }
    let drill = round.input.drill.as_ref();
    if let Some(drill) = drill.filter(|drill| memory.cells.contains_key(&drill.pathway)) {
        out.optional = true;
        out.reasons.push(format!("drill {} on {}: its effect must be seen alone", drill.id, drill.pathway));
    }
    if !out.optional && !is_worth_it(&memory.course.current, wish, p) {
        out.optional = distance(&memory.course.current, &wish.filled.shares) >= p.move_min;
        if out.optional {
            out.reasons.push("a move would gain too little".into());
        }
    }
    out
}

/// Whether the target is enough cheaper, better, fairer to capacity or richer in own edges to move anybody.
fn is_worth_it(current: &Shares, wish: &Wish, p: &Parameters) -> bool {
    let target = &wish.filled.shares;
    let share = |shares: &Shares, id: &PathwayId| shares.get(id).copied().unwrap_or(0.0);
    let gain = |value: &dyn Fn(&crate::fill::Candidate) -> f64| wish.mean(current, value) - wish.mean(target, value);
    let now = wish.usd_per_gb(current);
    let cost = now - wish.usd_per_gb(target);
    let bad = gain(&|c| c.rate);
    let own = -gain(&|c| f64::from(u8::from(c.own)));
    let full = wish.candidates.iter().any(|c| share(current, &c.id) * wish.movable > c.target + 1.0);
    let warm = Limits::of(&wish.candidates, p).warm;
    let cold = wish.candidates.iter().any(|c| {
        let least = if c.own { c.explore } else { warm.max(c.explore) };
        share(current, &c.id) < least / 2.0 && share(target, &c.id) >= least && least > 0.0
    });
    let held_down = wish.candidates.iter().any(|c| c.factor < 1.0);
    cost > p.gain_cost * now || bad > p.gain_bad || own >= p.move_min || full || cold || held_down
}

/// Tells of a move, if it can be seen and is not the first.
fn tell_move(region: &RegionId, before: &Shares, after: &Shares, why: &str, log: &mut Vec<LogEntry>) {
    let moves = moves(before, after);
    if !before.is_empty() && !moves.is_empty() {
        log.push(LogEntry { region: Some(region.clone()), text: format!("{moves}: {why}") });
    }
}

/// "cdn-a 65→0 %, cdn-b 30→95 %".
fn moves(before: &Shares, after: &Shares) -> String {
    let ids: BTreeSet<&PathwayId> = before.keys().chain(after.keys()).collect();
    let percent = |shares: &Shares, id: &PathwayId| (shares.get(id).copied().unwrap_or(0.0) * 100.0).round() as u32;
    let words: Vec<String> = ids
        .into_iter()
        .map(|id| (id, percent(before, id), percent(after, id)))
        .filter(|(_, from, to)| from != to)
        .map(|(id, from, to)| format!("{id} {from}→{to} %"))
        .collect();
    words.join(", ")
}

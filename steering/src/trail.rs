//! Pathways that a player left by itself, from its own polls.
//!
//! Players leave a dead pathway seconds before anybody else knows of it, and obey an answer that sends them back: dash.js
//! gave up for good when it was (`docs/players.md`). So what a player left stays behind all others for a while, whatever
//! the plan says. A poll names where the player is; to tell who fled from who has not followed yet, one must know where
//! it was told to stay. RELOAD-URI says that back, unsigned: a player that lies there only steers itself.

use std::fmt::Write as _;

use spillway_model::limits::PLAYLIST_MAX_PATHWAYS;
use spillway_model::{Millis, PathwayId, PathwayState, TimestampMs};
use spillway_routing::Manifest;
use spillway_wire::token::Token;

use crate::params::Query;

/// Query parameter: where the player was when it was told to stay there.
const SETTLED: &str = "at";
/// Query parameter: what it left, as `second:pathway` (seconds since epoch), `~` between them.
const FLED: &str = "fled";

/// A pathway that a player left comes last for so long: the penalty that the HLS specification advises players
/// themselves (draft-pantos-content-steering-05 §7). After it, the plan is tried again.
pub(crate) const FLED_FOR: Millis = Millis::from_secs(120);

/// What a poll tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Not known: it says nothing, or had just been told to move.
    Nothing,
    /// It is still where it was told to stay.
    Stayed,
    /// It is elsewhere.
    Fled,
}

/// What RELOAD-URI says of a session's moves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trail {
    /// Where it was told to stay, and was.
    settled: Option<PathwayId>,
    /// What it left by itself and when, oldest first.
    fled: Vec<(PathwayId, TimestampMs)>,
}

impl Trail {
    /// Reads what the last answer wrote. A playlist's own token names where the player begins.
    pub(crate) fn read(query: &Query<'_>, token: &Token, now: TimestampMs) -> Self {
        let known = |name: &str| token.pathways.iter().find(|id| id.as_str() == name).cloned();
        let settled = match query.first(SETTLED) {
            Some(name) => known(name),
            None => token.first.clone(),
        };
        let one = |text: &str| {
            let (second, name) = text.split_once(':')?;
            let at = TimestampMs(second.parse::<u64>().ok()?.checked_mul(1_000)?);
            // Nodes' clocks differ by less than this; a later time was not written by us and would never end.
            let fresh = now.since(at) < FLED_FOR && at <= now.after(FLED_FOR);
            fresh.then_some((known(name)?, at))
        };
        let list = query.first(FLED).unwrap_or_default().split('~').take(PLAYLIST_MAX_PATHWAYS);
        Self { settled, fled: list.filter_map(one).collect() }
    }

    /// Where it was told to stay, and was.
    pub(crate) fn settled(&self) -> Option<&PathwayId> {
        self.settled.as_ref()
    }

    /// Takes what the poll says of where the player is.
    pub(crate) fn hear(&mut self, player_is_on: Option<&str>, now: TimestampMs) -> Told {
        let (Some(settled), Some(on)) = (&self.settled, player_is_on) else { return Told::Nothing };
        if settled.as_str() == on {
            return Told::Stayed;
        }
        self.fled.retain(|(id, _)| id != settled);
        self.fled.push((settled.clone(), now));
        Told::Fled
    }

    /// Pathways that it left and that still come last, oldest first.
    pub(crate) fn fled(&self) -> impl Iterator<Item = &PathwayId> {
        self.fled.iter().map(|(id, _)| id)
    }

    /// Puts what it left behind all that lives, the longest ago first. Nobody is sent to a dead pathway for it.
    pub(crate) fn put_last(&self, order: &mut [PathwayId], manifest: &Manifest) {
        if self.fled.is_empty() {
            return;
        }
        let is_down =
            |id: &PathwayId| manifest.pathways.get(id).is_some_and(|pathway| pathway.state == PathwayState::Down);
        order.sort_by_key(|id| match self.fled().position(|fled| fled == id) {
            _ if is_down(id) => usize::MAX,
            None => 0,
            Some(at) => at + 1,
        });
    }

    /// Writes it for the next poll, after an answer with `first` in front. Who said nothing at its first answer is
    /// where its playlist began.
    pub(crate) fn write(&self, out: &mut String, first: Option<&PathwayId>, on: Option<&str>, first_answer: bool) {
        let stays = first.filter(|first| on.map_or(first_answer, |on| first.as_str() == on));
        if let Some(stays) = stays {
            let _ = write!(out, "&{SETTLED}={stays}");
        }
        for (index, (id, at)) in self.fled.iter().enumerate() {
            if index == 0 {
                let _ = write!(out, "&{FLED}=");
            }
            let _ = write!(out, "{}{}:{id}", if index == 0 { "" } else { "~" }, at.0 / 1_000);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fixtures::{NOW, id, manifest, token};

    const PLAYLIST: [&str; 3] = ["cdn-a", "cdn-b", "cdn-c"];

    fn session(first: Option<&str>) -> Token {
        Token { first: first.map(id), pathways: PLAYLIST.map(id).into(), ..token("v", "vod/lake") }
    }

    /// The answer to a poll of `raw` by a player that is on `on`, and what it carries on.
    fn poll(raw: &str, first: Option<&str>, on: Option<&str>, now: TimestampMs) -> (Told, Vec<String>, String) {
        let query = Query::parse(Some(raw));
        let token = session(first);
        let mut trail = Trail::read(&query, &token, now);
        let told = trail.hear(on, now);
        let mut order = PLAYLIST.map(id);
        if first.is_none() {
            trail.put_last(&mut order, &manifest(1, &[("cdn-a", 1_000_000)]));
        }
        let mut out = String::new();
        trail.write(&mut out, Some(&order[0]), on, first.is_some());
        (told, order.iter().map(ToString::to_string).collect(), out)
    }

    fn after(seconds: u64) -> TimestampMs {
        NOW.after(Millis::from_secs(seconds))
    }

    #[test]
    fn who_was_told_to_stay_and_is_elsewhere_has_fled_and_is_not_sent_back_for_two_minutes() {
        // The playlist's own answer: it says where it begins.
        let (told, order, carried) = poll("t=x", Some("cdn-a"), None, NOW);
        assert_eq!((told, order[0].as_str(), carried.as_str()), (Told::Nothing, "cdn-a", "&at=cdn-a"));
        let (told, _, carried) = poll(&carried, None, Some("cdn-a"), after(10));
        assert_eq!((told, carried.as_str()), (Told::Stayed, "&at=cdn-a"));
        let (told, order, carried) = poll(&carried, None, Some("cdn-b"), after(20));
        assert_eq!((told, order), (Told::Fled, vec!["cdn-b".to_owned(), "cdn-c".into(), "cdn-a".into()]));
        assert_eq!(carried, format!("&at=cdn-b&fled={}:cdn-a", after(20).0 / 1_000));
        // It stays; what it left is still last.
        let (told, order, carried) = poll(&carried, None, Some("cdn-b"), after(130));
        assert_eq!((told, order[2].as_str()), (Told::Stayed, "cdn-a"));
        // Then the plan holds again.
        let (told, order, carried) = poll(&carried, None, Some("cdn-b"), after(140));
        assert_eq!((told, order[0].as_str(), carried.as_str()), (Told::Stayed, "cdn-a", ""));
    }

    #[test]
    fn who_has_not_followed_yet_has_not_fled() {
        // It is on B and is told to go to A: nothing is said of where it was told to stay.
        let (told, order, carried) = poll("t=x", None, Some("cdn-b"), NOW);
        assert_eq!((told, order[0].as_str(), carried.as_str()), (Told::Nothing, "cdn-a", ""));
        assert_eq!(poll(&carried, None, Some("cdn-b"), after(10)).0, Told::Nothing);
        // Nor has who says nothing, at any poll but its first.
        let (told, _, carried) = poll("t=x&at=cdn-a", None, None, after(20));
        assert_eq!((told, carried.as_str()), (Told::Nothing, ""));
    }

    #[test]
    fn who_fled_before_its_first_answer_gets_that_one_as_the_playlist_has_it() {
        let (told, order, carried) = poll("t=x", Some("cdn-a"), Some("cdn-b"), NOW);
        assert_eq!((told, order[0].as_str()), (Told::Fled, "cdn-a"), "a first answer that disagrees hangs players");
        let (_, order, _) = poll(&carried, None, Some("cdn-b"), after(5));
        assert_eq!(order, ["cdn-b", "cdn-c", "cdn-a"]);
    }

    #[test]
    fn who_left_all_gets_what_it_left_longest_ago_and_never_a_dead_one_first() {
        let second = NOW.0 / 1_000;
        let all = format!("fled={}:cdn-b~{}:cdn-c~{}:cdn-a", second - 60, second - 30, second - 10);
        assert_eq!(poll(&all, None, None, NOW).1, ["cdn-b", "cdn-c", "cdn-a"]);
        let mut plan = manifest(1, &[("cdn-a", 1_000_000)]);
        plan.pathways.get_mut("cdn-b").expect("there").state = PathwayState::Down;
        let trail = Trail::read(&Query::parse(Some(&all)), &session(None), NOW);
        let mut order = PLAYLIST.map(id);
        trail.put_last(&mut order, &plan);
        assert_eq!(order, ["cdn-c", "cdn-a", "cdn-b"].map(id));
    }

    #[test]
    fn what_nobody_of_us_wrote_is_passed_over() {
        let second = NOW.0 / 1_000;
        for odd in [
            "fled=",
            "fled=~~",
            "fled=x:cdn-a",
            "fled=99999999999999999999:cdn-a",
            "fled=18446744073709551615:cdn-a",
            &format!("fled={second}:cdn-x"),
            &format!("fled={}:cdn-a", second + 121),
            &format!("fled={}:cdn-a", second - 120),
            &format!("fled={second}"),
            "at=cdn-x",
            "at=%00",
        ] {
            let trail = Trail::read(&Query::parse(Some(odd)), &session(None), NOW);
            assert_eq!(trail, Trail::default(), "{odd}");
        }
        let many = format!("fled={}", vec![format!("{second}:cdn-a"); 500].join("~"));
        let trail = Trail::read(&Query::parse(Some(&many)), &session(None), NOW);
        assert!(trail.fled().count() <= PLAYLIST_MAX_PATHWAYS);
    }
}

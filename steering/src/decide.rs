//! Pure decisions: which pathways a playlist declares, in which order a poll is answered, and when to ask again.

use spillway_model::limits::{TTL_MAX_S, TTL_MIN_S};
use spillway_model::{Millis, PathwayId, PathwayState, TimestampMs};
use spillway_routing::{AddressFamily, Manifest, Place, Ranked, Session, playlist_pathways, share_of};
use spillway_wire::token::{Token, Word};

use crate::prepared::Prepared;
use crate::trail::Trail;

/// A playlist's own token repeats its first pathway for so long. A player that never follows RELOAD-URI would
/// otherwise be kept there for ever.
const FIRST_ANSWER_MAX_AGE: Millis = Millis::from_secs(300);

/// Longest TTL of a first answer whose pathway has gone bad since; the shortest is [`TTL_MIN_S`].
const UNSETTLED_TTL_MAX_S: u32 = 5;

/// TTLs stretch by at most this under load, in thousandths.
pub(crate) const STRETCH_MAX_MILLI: u64 = 30_000;
/// No stretch.
pub(crate) const STRETCH_NONE_MILLI: u64 = 1_000;

/// What a playlist or a decision offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// Every eligible pathway, best first.
    pub(crate) ranked: Vec<Ranked>,
    /// Those that a playlist declares, best first.
    pub(crate) declared: Vec<PathwayId>,
}

/// What a poll is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PollAnswer {
    /// Best first; never empty.
    pub(crate) order: Vec<PathwayId>,
    pub(crate) ttl_s: u32,
    /// The playlist's first pathway was repeated.
    pub(crate) first_answer: bool,
}

fn word(word: &Option<Word>) -> Option<&str> {
    word.as_ref().map(Word::as_str)
}

/// The session that `token` tells of.
pub(crate) fn session(token: &Token, family: Option<AddressFamily>) -> Session<'_> {
    Session {
        asn: token.asn,
        class: token.class.as_ref(),
        device_class: word(&token.needs.device_class),
        codec: word(&token.needs.codec),
        drm: word(&token.needs.drm),
        territory: word(&token.needs.territory),
        address_family: family,
        ..Session::new(token.view.as_str(), token.started)
    }
}

/// Orders the pathways for a new playlist or decision.
pub(crate) fn assign(token: &Token, family: Option<AddressFamily>, manifest: &Prepared) -> Assignment {
    let mut ranked = ranked(token, family, manifest);
    if !token.pathways.is_empty() {
        // It was said beforehand which ones it may use: the polls' order among them.
        ranked = among_declared(ranked, token, manifest);
    }
    let declared = playlist_pathways(&ranked, manifest);
    if manifest.keyless().is_empty() {
        return Assignment { ranked, declared };
    }
    // A CDN refuses URLs that nobody signed; but a playlist without any pathway plays nowhere at all.
    let signable: Vec<Ranked> = ranked.iter().filter(|r| !manifest.keyless().contains(&r.pathway)).cloned().collect();
    let declared = if signable.is_empty() { declared } else { playlist_pathways(&signable, manifest) };
    Assignment { ranked, declared }
}

/// Every eligible pathway, best first; never empty. A class that nothing serves here must not end in no playlist, so it
/// then counts as none.
pub(crate) fn ranked(token: &Token, family: Option<AddressFamily>, manifest: &Prepared) -> Vec<Ranked> {
    let mut ranked = manifest.rank(&session(token, family), &token.content);
    if ranked.is_empty() {
        let anyone = Session::new(token.view.as_str(), token.started);
        ranked = manifest.rank(&anyone, &token.content);
    }
    if ranked.is_empty() {
        ranked = manifest.pathways.keys().map(|id| Ranked { pathway: id.clone(), place: Place::Leftover }).collect();
    }
    ranked
}

/// Answers a poll: every pathway of its playlist, by today's order. The playlist's own token names the pathway that
/// the playlist put first, and that one is repeated whatever has happened since, since a first answer that disagrees
/// hangs players at startup; the move then comes with the next poll, soon. What the player left by itself a short while
/// ago comes last.
pub(crate) fn answer(
    token: &Token,
    family: Option<AddressFamily>,
    manifest: &Prepared,
    now: TimestampMs,
    stretch_milli: u64,
    trail: &Trail,
) -> PollAnswer {
    let ranked = among_declared(ranked(token, family, manifest), token, manifest);
    let mut order: Vec<PathwayId> = ranked.into_iter().map(|ranked| ranked.pathway).collect();
    trail.put_last(&mut order, manifest);
    let mut ttl_s = ttl_s(token, manifest, stretch_milli);
    let first = token.first.as_ref().filter(|_| now.since(token.started) <= FIRST_ANSWER_MAX_AGE);
    if let Some(first) = first {
        let healthy = manifest.pathways.get(first).is_some_and(|pathway| pathway.state == PathwayState::Healthy);
        if !healthy || order.first() != Some(first) {
            let spread = UNSETTLED_TTL_MAX_S - TTL_MIN_S + 1;
            ttl_s = TTL_MIN_S + per_session(token, "first-ttl", spread);
        }
        order.retain(|id| id != first);
        order.insert(0, first.clone());
    }
    PollAnswer { order, ttl_s, first_answer: first.is_some() }
}

/// The playlist's pathways in the order of `ranked`, unknown ones last; all of `ranked` if the playlist is unknown.
fn among_declared(mut ranked: Vec<Ranked>, token: &Token, manifest: &Manifest) -> Vec<Ranked> {
    if token.pathways.is_empty() {
        return ranked;
    }
    let is_declared = |ranked: &Ranked| token.pathways.contains(&ranked.pathway);
    let missing = ranked.first().filter(|best| !is_declared(best)).map(|best| best.pathway.clone());
    ranked.retain(is_declared);
    // The playlist holds two nodes of a group. Where the plan now wants a third, a sister is meant, not a CDN.
    if let Some(best) = missing
        && let Some(index) = ranked.iter().position(|ranked| is_fit_sister(&ranked.pathway, &best, manifest))
    {
        ranked[..=index].rotate_right(1);
    }
    if ranked.len() < token.pathways.len() {
        for id in &token.pathways {
            if !ranked.iter().any(|ranked| ranked.pathway == *id) {
                ranked.push(Ranked { pathway: id.clone(), place: Place::Leftover });
            }
        }
    }
    ranked
}

fn is_fit_sister(id: &PathwayId, of: &PathwayId, manifest: &Manifest) -> bool {
    let group = |id| manifest.pathways.get(id).and_then(|pathway| pathway.group.as_ref());
    let Some(common) = group(of).filter(|common| group(id) == Some(*common)) else { return false };
    let weight = manifest.groups.get(common).and_then(|group| group.nodes.get(id)).copied().unwrap_or(0);
    let state = manifest.pathways.get(id).map(|pathway| pathway.state);
    weight > 0 && !matches!(state, Some(PathwayState::Down | PathwayState::Draining))
}

/// Seconds until the next poll, spread by session; short while any pathway of the region is suspect or being left.
pub(crate) fn ttl_s(token: &Token, manifest: &Prepared, stretch_milli: u64) -> u32 {
    let policy = &manifest.ttl;
    let quiet = if is_live(token) { policy.live_s } else { policy.vod_s };
    let base = if manifest.is_suspect() { policy.suspect_s.min(quiet) } else { quiet };
    let base_ms = u64::from(base) * stretch_milli.clamp(STRETCH_NONE_MILLI, STRETCH_MAX_MILLI);
    let jitter = u64::from(policy.jitter.0.min(1_000_000));
    let place = u64::from(share_of(token.view.as_str(), "ttl"));
    // From base × (1 − jitter) to base × (1 + jitter), rounded to whole seconds.
    let ppm = 1_000_000 - jitter + 2 * jitter * place / 1_000_000;
    let seconds = (base_ms * ppm / 1_000_000 + 500) / 1_000;
    u32::try_from(seconds).unwrap_or(TTL_MAX_S).clamp(TTL_MIN_S, TTL_MAX_S)
}

/// A player that tells how much it has left to play asks again when half of that is gone, so that it learns of a move
/// while it can still afford one.
pub(crate) fn within_buffer(ttl_s: u32, buffer_ms: Option<u64>) -> u32 {
    let half_s = buffer_ms.map(|buffer| u32::try_from(buffer / 2_000).unwrap_or(TTL_MAX_S).max(TTL_MIN_S));
    half_s.map_or(ttl_s, |half_s| ttl_s.min(half_s))
}

/// By name: `live/…`, or a class that begins with `live`.
fn is_live(token: &Token) -> bool {
    let content = token.content.as_str();
    content == "live"
        || content.starts_with("live/")
        || token.class.as_ref().is_some_and(|c| c.as_str().starts_with("live"))
}

/// 0 to `below` − 1 by session.
fn per_session(token: &Token, salt: &str, below: u32) -> u32 {
    (u64::from(share_of(token.view.as_str(), salt)) * u64::from(below) / 1_000_000) as u32
}

/// The highest bitrate a playlist may offer to the token's class, kbit/s.
pub(crate) fn max_bitrate_kbps(token: &Token, manifest: &Manifest) -> Option<u32> {
    let fits = |class: &Option<_>| class.as_ref().is_none_or(|class| Some(class) == token.class.as_ref());
    manifest.max_bitrate_kbps.iter().find(|(class, _)| fits(class)).map(|(_, kbps)| *kbps)
}

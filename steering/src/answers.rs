//! `GET /v1/steer/hls` and `/v1/steer/dash`: one handler, two protocols, always 200 and always a valid answer.
//!
//! A platform's players ask this a million times a second: nothing here copies what it can borrow, and a session's own
//! token goes back as it came.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use metrics::Counter;
use spillway_model::{ContentId, PathwayId, Protocol};
use spillway_wire::cmcd::parse_request;
use spillway_wire::steering::{STEERING_MEDIA_TYPE, SteeringAnswer};

use crate::asker::Asker;
use crate::caller::Caller;
use crate::counters::Asked;
use crate::manifests::Source;
use crate::params::{DEBUG, DEBUG_ARGUMENT, Query, reported};
use crate::samples::Sample;
use crate::trail::Trail;
use crate::why::Onlookers;
use crate::{SteerState, decide, reply};

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static(STEERING_MEDIA_TYPE);
/// Players' CMCD, where they send it as headers.
const CMCD_REQUEST: HeaderName = HeaderName::from_static("cmcd-request");
/// What is said where nothing else can be: a player keeps its own order.
const LAST_WORD: &[u8] = br#"{"VERSION":1,"TTL":30,"PATHWAY-PRIORITY":["."]}"#;

/// `GET /v1/steer/hls?t=TOKEN`.
pub(crate) async fn hls(State(state): State<Arc<SteerState>>, request: Request) -> Response {
    steer(&state, Protocol::Hls, &request)
}

/// `GET /v1/steer/dash?t=TOKEN`.
pub(crate) async fn dash(State(state): State<Arc<SteerState>>, request: Request) -> Response {
    steer(&state, Protocol::Dash, &request)
}

fn steer(state: &SteerState, protocol: Protocol, request: &Request) -> Response {
    let Caller { query, headers, client } = Caller::of(state, request);
    let now = state.clock.now();
    let asker = Asker::by_token(state, &query, &client, now).unwrap_or_else(|error| {
        metrics::counter!("spillway_steer_bad_tokens_total", "reason" => error.name()).increment(1);
        let unknown = ContentId::new("unknown").expect("letters make an id");
        Asker::anonymous(state, &query, &client, unknown)
    });
    let current = state.manifests.current(&asker.token.region, now);
    let stretch = state.counters.stretch_milli();
    let player_is_on = reported(&query, protocol).last().map(|(id, _)| id);
    let mut trail = Trail::read(&query, &asker.token, now);
    let told = trail.hear(player_is_on, now);
    let mut answer = decide::answer(&asker.token, asker.family, &current.manifest, now, stretch, &trail);
    answer.ttl_s = decide::within_buffer(answer.ttl_s, buffer_ms(request.uri().query(), headers));
    let debug = query.first(DEBUG).is_some();
    if let Some(first) = answer.order.first() {
        if asker.known {
            let asked = Asked { token: &asker.token, device: state.device(headers), protocol };
            state.counters.polled(asked, first, answer.ttl_s, (told, trail.settled()), now);
        } else {
            state.counters.untrusted(&asker.token, protocol, first);
        }
    }
    let kind = Kind::of(&asker, answer.first_answer);
    state.answered.count(protocol, current.source, kind, Follows::of(player_is_on, answer.order.first()));
    let mut reload = reload_uri(state, protocol, &asker, &query, debug);
    if asker.known {
        trail.write(&mut reload, answer.order.first(), player_is_on, answer.first_answer);
    }
    let built = SteeringAnswer::new(answer.ttl_s, Some(Cow::Owned(reload)), &answer.order);
    let bytes = built.map(|answer| answer.to_json()).unwrap_or_else(|error| {
        // A manifest has at least one pathway and the public URL is absolute: this is for the day that breaks.
        tracing::error!(%error, "no steering answer");
        LAST_WORD.to_vec()
    });
    let response = reply::open(MEDIA_TYPE, bytes, current.manifest.epoch_header());
    let Some(onlookers) = Onlookers::of(state, &asker, headers, debug, now) else { return response };
    let decide::PollAnswer { order, ttl_s, first_answer } = answer;
    let player_is_on = player_is_on.and_then(|id| PathwayId::new(id).ok());
    let fled = trail.fled().cloned().collect();
    let sample = Sample {
        asker,
        current,
        protocol,
        order,
        ttl_s,
        first_answer,
        player_is_on,
        fled,
        stretch_milli: stretch,
        at: now,
    };
    onlookers.show(state, response, sample)
}

/// What the player has left to play, if it says so by CMCD (dash.js can, with steering requests); the least of several.
fn buffer_ms(query: Option<&str>, headers: &HeaderMap) -> Option<u64> {
    if !query.is_some_and(|query| query.contains("CMCD=")) && !headers.contains_key(CMCD_REQUEST) {
        return None;
    }
    let header = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let record = parse_request(query, header).ok().flatten()?;
    record.bl_ms?.into_iter().map(|buffer| buffer.value).min()
}

/// Absolute, and with identity only. A stranger gets no token: it would make an audience of a flood.
fn reload_uri(state: &SteerState, protocol: Protocol, asker: &Asker, query: &Query<'_>, debug: bool) -> String {
    let url = &state.settings.public_url;
    let mut out = String::with_capacity(url.len() + 320);
    for part in [url, "/v1/steer/", protocol.as_str()] {
        out.push_str(part);
    }
    if !asker.known {
        return out;
    }
    out.push_str("?t=");
    out.push_str(&asker.identity_token(state, query));
    out.push_str(if debug { DEBUG_ARGUMENT } else { "" });
    out
}

/// Which of a session's answers.
#[derive(Clone, Copy)]
enum Kind {
    Anonymous,
    First,
    Poll,
}

impl Kind {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Anonymous, "anonymous"), (Self::First, "first"), (Self::Poll, "poll")];

    fn of(asker: &Asker, first: bool) -> Self {
        match (asker.known, first) {
            (false, _) => Self::Anonymous,
            (true, true) => Self::First,
            (true, false) => Self::Poll,
        }
    }
}

/// Where the player says that it is.
#[derive(Clone, Copy)]
enum Follows {
    Unknown,
    First,
    Other,
}

impl Follows {
    const ALL: [(Self, &'static str); 3] = [(Self::Unknown, "unknown"), (Self::First, "first"), (Self::Other, "other")];

    fn of(player_is_on: Option<&str>, first: Option<&PathwayId>) -> Self {
        match player_is_on {
            None => Self::Unknown,
            Some(id) if first.is_some_and(|first| first.as_str() == id) => Self::First,
            Some(_) => Self::Other,
        }
    }
}

/// `spillway_steer_answers_total` of this handler, each of its counters looked up once.
pub(crate) struct Answered(Vec<Counter>);

const PROTOCOLS: [Protocol; 2] = [Protocol::Hls, Protocol::Dash];

impl Default for Answered {
    fn default() -> Self {
        let mut counters = Vec::new();
        for protocol in PROTOCOLS {
            for plan in Source::ALL {
                for (_, kind) in Kind::ALL {
                    for (_, follows) in Follows::ALL {
                        counters.push(metrics::counter!(
                            "spillway_steer_answers_total",
                            "protocol" => protocol.as_str(), "plan" => plan.as_str(), "kind" => kind,
                            "player_is_on" => follows,
                        ));
                    }
                }
            }
        }
        Self(counters)
    }
}

impl Answered {
    fn count(&self, protocol: Protocol, plan: Source, kind: Kind, follows: Follows) {
        let protocol = usize::from(protocol == PROTOCOLS[1]);
        let at =
            ((protocol * Source::ALL.len() + plan as usize) * Kind::ALL.len() + kind as usize) * Follows::ALL.len();
        self.0[at + follows as usize].increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_stand_where_they_are_looked_up() {
        assert!(Kind::ALL.iter().zip(0..).all(|((kind, _), at)| *kind as usize == at));
        assert!(Follows::ALL.iter().zip(0..).all(|((follows, _), at)| *follows as usize == at));
        assert!(Source::ALL.iter().zip(0..).all(|(source, at)| *source as usize == at));
        assert_eq!(Answered::default().0.len(), 2 * 3 * 3 * 3);
    }

    #[test]
    fn the_buffer_is_read_in_every_form_that_players_send() {
        let none = HeaderMap::new();
        assert_eq!(buffer_ms(Some("t=x&CMCD=bl%3D%283900%3Bv%204100%3Ba%29%2Cv%3D2"), &none), Some(3_900));
        assert_eq!(buffer_ms(Some("CMCD=bl%3D4000%2Cbr%3D300"), &none), Some(4_000));
        let mut headers = HeaderMap::new();
        headers.insert("cmcd-request", HeaderValue::from_static("bl=21300,mtp=48100"));
        assert_eq!(buffer_ms(None, &headers), Some(21_300));
        for nothing in ["", "t=x", "CMCD=", "CMCD=bl%3D%22x%22", "CMCD=%zz", "CMCD=bl%3D-5"] {
            assert_eq!(buffer_ms(Some(nothing), &none), None, "{nothing}");
        }
    }
}

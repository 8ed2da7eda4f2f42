//! `GET /v1/steer/hls` and `/v1/steer/dash`: one handler, two protocols, always 200 and always a valid answer.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use spillway_model::{ContentId, Protocol};
use spillway_wire::steering::{STEERING_MEDIA_TYPE, SteeringAnswer};

use crate::asker::Asker;
use crate::counters::Asked;
use crate::params::{DEBUG, DEBUG_ARGUMENT, Query, reported};
use crate::samples::Sample;
use crate::{SteerState, decide, reply};

/// `GET /v1/steer/hls?t=TOKEN`.
pub(crate) async fn hls(
    State(state): State<Arc<SteerState>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    steer(&state, Protocol::Hls, peer, &headers, query.as_deref())
}

/// `GET /v1/steer/dash?t=TOKEN`.
pub(crate) async fn dash(
    State(state): State<Arc<SteerState>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    steer(&state, Protocol::Dash, peer, &headers, query.as_deref())
}

fn steer(
    state: &SteerState,
    protocol: Protocol,
    peer: SocketAddr,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Response {
    let query = Query::parse(query);
    let client = state.deployment.client(peer, headers, state.settings.trusted_header.as_deref());
    let asker = Asker::by_token(state, &query, &client).unwrap_or_else(|error| {
        metrics::counter!("spillway_steer_bad_tokens_total", "reason" => error.name()).increment(1);
        let unknown = ContentId::new("unknown").expect("letters make an id");
        Asker::anonymous(state, &query, &client, unknown)
    });
    let now = state.clock.now();
    let current = state.manifests.current(&asker.token.region, now);
    let stretch = state.counters.stretch_milli();
    let answer = decide::answer(&asker.token, asker.family, &current.manifest, now, stretch);
    let debug = query.first(DEBUG).is_some();
    if let Some(first) = answer.order.first() {
        if asker.known {
            let asked = Asked { token: &asker.token, device: state.device(headers), protocol };
            state.counters.polled(asked, first, answer.ttl_s, now);
        } else {
            state.counters.untrusted(&asker.token, protocol, first);
        }
    }
    let player_is_on = reported(&query, protocol).pathways.pop().map(|(id, _)| id);
    let follows = match &player_is_on {
        None => "unknown",
        Some(id) if Some(id) == answer.order.first() => "first",
        Some(_) => "other",
    };
    metrics::counter!(
        "spillway_steer_answers_total",
        "protocol" => protocol.as_str(), "plan" => current.source.as_str(),
        "kind" => if !asker.known { "anonymous" } else if answer.first_answer { "first" } else { "poll" },
        "player_is_on" => follows,
    )
    .increment(1);
    let reload = reload_uri(state, protocol, &asker, debug);
    let built = SteeringAnswer::new(answer.ttl_s, Some(reload), &answer.order)
        .map_err(|error| error.to_string())
        .and_then(|answer| serde_json::to_vec(&answer).map_err(|error| error.to_string()));
    let bytes = built.unwrap_or_else(|error| {
        // A manifest has at least one pathway and the public URL is absolute: this is for the day that breaks.
        tracing::error!(error, "no steering answer");
        br#"{"VERSION":1,"TTL":30,"PATHWAY-PRIORITY":["."]}"#.to_vec()
    });
    let epoch = current.manifest.epoch;
    if let Some(samples) = &state.samples
        && let Some(rate) = samples.rate(&asker, debug, now)
    {
        let decide::PollAnswer { order, ttl_s, first_answer } = answer;
        let sample = Sample {
            asker,
            current,
            protocol,
            order,
            ttl_s,
            first_answer,
            player_is_on,
            stretch_milli: stretch,
            at: now,
        };
        samples.push(sample, rate);
    }
    reply::with_epoch(reply::body(StatusCode::OK, STEERING_MEDIA_TYPE, bytes), epoch)
}

/// Absolute, and with identity only. A stranger gets no token: it would make an audience of a flood.
fn reload_uri(state: &SteerState, protocol: Protocol, asker: &Asker, debug: bool) -> String {
    let url = format!("{}/v1/steer/{protocol}", state.settings.public_url);
    if !asker.known {
        return url;
    }
    let debug = if debug { DEBUG_ARGUMENT } else { "" };
    format!("{url}?t={}{debug}", state.settings.keys.sign(&asker.identity()))
}

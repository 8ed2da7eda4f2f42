//! For what knows neither HLS nor DASH steering: `GET /v1/decide` (JSON), `GET /v1/go/{path}` (redirect); and
//! `GET /v1/explain`, which says why.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use spillway_model::{ContentClass, PathwayId, Protocol, TimestampMs};
use spillway_routing::{CohortRule, Manifest, Ranked, Weights, rank_shadow, rule_for};
use spillway_service::auth::{AuthError, Role, authorize};
use spillway_service::geo::Client;

use crate::asker::{Asker, content_of};
use crate::counters::Asked;
use crate::decide::{self, Assignment};
use crate::params::{DEBUG, Query, percent_decode};
use crate::prepared::Prepared;
use crate::samples::Sample;
use crate::signers::{Grant, title_folder};
use crate::trail::Told;
use crate::{SteerState, reply};

#[derive(Serialize)]
struct Decision<'a> {
    /// Best first.
    pathways: Vec<Choice<'a>>,
    ttl_s: u32,
    epoch: u64,
    sid: &'a str,
    /// Identity for the next question (`t=`), and for `/v1/explain`.
    token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bitrate_kbps: Option<u32>,
    reason: &'a str,
}

#[derive(Serialize)]
struct Choice<'a> {
    id: &'a str,
    /// What media paths are appended to, with the token where that stands in the path.
    base_url: String,
    /// Query that each URL needs, where the pathway's token stands there and is good for the whole title.
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    /// The signed URL of `content`, if that is a path and the pathway is signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    place: &'static str,
}

#[derive(Serialize)]
struct Explanation<'a> {
    epoch: u64,
    plan: &'static str,
    policy: &'a str,
    region: &'a str,
    asn: Option<u32>,
    class: Option<&'a str>,
    sid: &'a str,
    content: &'a str,
    started_ms: u64,
    ttl_s: u32,
    rule: Option<Rule<'a>>,
    order: Vec<Step<'a>>,
    /// Where the shadow plan would send it first; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow_first: Option<Step<'a>>,
    declared: Vec<&'a str>,
    static_weights: BTreeMap<&'a str, u32>,
}

#[derive(Serialize)]
struct Rule<'a> {
    reason: &'a str,
    asn: Option<u32>,
    class: Option<&'a str>,
    device_class: Option<&'a str>,
    /// `new` or `running`: which weights hold for this session.
    session_is: &'static str,
    weights_ppm: BTreeMap<&'a str, u32>,
    spare_ppm: BTreeMap<&'a str, u32>,
}

#[derive(Serialize)]
struct Step<'a> {
    id: &'a str,
    place: &'static str,
    state: &'static str,
    reason: &'a str,
    utilisation_ppm: u32,
}

/// `GET /v1/decide?content=&sid=&region=` (or `t=` from the last answer).
pub(crate) async fn decide(
    State(state): State<Arc<SteerState>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let query = Query::parse(query.as_deref());
    let asker = asker(&state, &query, &client(&state, peer, &headers), query.first("content").unwrap_or_default());
    let now = state.clock.now();
    let current = state.manifests.current(&asker.token.region, now);
    let manifest = &*current.manifest;
    let Assignment { ranked, declared } = decide::assign(&asker.token, asker.family, manifest);
    let ttl_s = decide::ttl_s(&asker.token, manifest, state.counters.stretch_milli());
    if let Some(first) = declared.first() {
        let asked = Asked { token: &asker.token, device: state.device(&headers), protocol: Protocol::Other };
        if asker.known {
            state.counters.polled(asked, first, ttl_s, (Told::Nothing, None), now);
        } else if query.first("t").is_some() {
            // It shows a token that is none of ours.
            state.counters.untrusted(&asker.token, Protocol::Other, first);
        } else {
            state.counters.assigned(asked, first, ttl_s, false, now);
        }
    }
    metrics::counter!("spillway_steer_answers_total", "protocol" => "decide", "plan" => current.source.as_str())
        .increment(1);
    if let Some(samples) = &state.samples
        && let Some(rate) = samples.rate(&asker, query.first(DEBUG).is_some(), now)
    {
        let sample = Sample {
            asker: asker.clone(),
            current: current.clone(),
            protocol: Protocol::Other,
            order: declared.clone(),
            ttl_s,
            first_answer: false,
            player_is_on: None,
            fled: vec![],
            stretch_milli: state.counters.stretch_milli(),
            at: now,
        };
        samples.push(sample, rate);
    }
    let session = decide::session(&asker.token, asker.family);
    // As it stands in a URL. What a token says of the title is its folder, unless that was no id.
    let content = query.first("content").map(|path| encoded(path.trim_start_matches('/')));
    let content = content.filter(|path| !path.is_empty());
    let title = content.as_deref().unwrap_or(asker.token.content.as_str());
    let granted = granted(&state, manifest, &declared, title, now);
    let decision = Decision {
        pathways: ranked.iter().filter_map(|r| Some(choice(r, granted.get(&r.pathway)?, content.as_deref()))).collect(),
        ttl_s,
        epoch: manifest.epoch,
        sid: asker.token.view.as_str(),
        token: state.settings.keys.sign(&asker.identity()),
        max_bitrate_kbps: decide::max_bitrate_kbps(&asker.token, manifest),
        reason: rule_for(&session, manifest).map_or("", |rule| rule.reason.as_str()),
    };
    let cookies = granted.values().flat_map(Grant::cookies);
    reply::with_cookies(reply::with_epoch(reply::json(&decision), manifest.epoch), cookies)
}

/// `GET /v1/go/{path}`: 307 to the path on the best pathway. The same session, or else the same address, always goes
/// to the same one while the plan stands.
pub(crate) async fn go(
    State(state): State<Arc<SteerState>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    uri: Uri,
) -> Response {
    let path = uri.path().strip_prefix("/v1/go/").unwrap_or_default();
    let query = Query::parse(query.as_deref());
    let client = client(&state, peer, &headers);
    let asker = match query.first("sid").or(query.first("t")) {
        Some(_) => asker(&state, &query, &client, &percent_decode(path)),
        None => Asker::anonymous(&state, &query, &client, content_of(&percent_decode(path))),
    };
    let now = state.clock.now();
    let current = state.manifests.current(&asker.token.region, now);
    let assignment = decide::assign(&asker.token, asker.family, &current.manifest);
    let granted = granted(&state, &current.manifest, &assignment.declared, path, now);
    let first = assignment.declared.first().and_then(|id| granted.get(id));
    metrics::counter!("spillway_steer_answers_total", "protocol" => "go", "plan" => current.source.as_str())
        .increment(1);
    match first {
        Some(grant) => {
            let answer = reply::with_epoch(reply::redirect(&grant.url(&format!("/{path}"))), current.manifest.epoch);
            reply::with_cookies(answer, granted.values().flat_map(Grant::cookies))
        }
        None => reply::refusal(StatusCode::BAD_GATEWAY, "no_pathway", "no pathway serves this region"),
    }
}

/// `GET /v1/explain?t=TOKEN`, or `?sid=&content=&region=` with a viewer's bearer token: it tells of policy.
pub(crate) async fn explain(
    State(state): State<Arc<SteerState>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let query = Query::parse(query.as_deref());
    let client = client(&state, peer, &headers);
    let asker = match Asker::by_token(&state, &query, &client) {
        Ok(asker) => asker,
        Err(error) => match authorize(&headers, &state.tokens, Role::Viewer) {
            Ok(_) => asker(&state, &query, &client, query.first("content").unwrap_or_default()),
            Err(AuthError::Forbidden { .. }) => {
                return reply::refusal(StatusCode::FORBIDDEN, "forbidden", "the bearer token allows too little");
            }
            Err(AuthError::Unknown(_)) => {
                let detail = format!("{error}; a signed t, or a bearer token of role viewer, is needed");
                return reply::refusal(StatusCode::UNAUTHORIZED, "unauthorized", &detail);
            }
        },
    };
    let current = state.manifests.current(&asker.token.region, state.clock.now());
    let explanation = explanation(&state, &asker, &current.manifest, current.source.as_str());
    reply::with_epoch(reply::json(&explanation), current.manifest.epoch)
}

fn explanation<'a>(
    state: &SteerState,
    asker: &'a Asker,
    manifest: &'a Prepared,
    plan: &'static str,
) -> Explanation<'a> {
    let token = &asker.token;
    let session = decide::session(token, asker.family);
    let Assignment { ranked, declared } = decide::assign(token, asker.family, manifest);
    let shadow = rank_shadow(&session, &token.content, manifest);
    let names = |id: &spillway_model::PathwayId| manifest.pathways.get_key_value(id).map(|(id, _)| id.as_str());
    Explanation {
        epoch: manifest.epoch,
        plan,
        policy: &manifest.policy,
        region: manifest.region.as_str(),
        asn: token.asn,
        class: token.class.as_ref().map(ContentClass::as_str),
        sid: token.view.as_str(),
        content: token.content.as_str(),
        started_ms: token.started.0,
        ttl_s: decide::ttl_s(token, manifest, state.counters.stretch_milli()),
        rule: rule_for(&session, manifest).map(|rule| explained(rule, token.started < rule.running_before)),
        order: ranked.iter().filter_map(|ranked| step(manifest, ranked)).collect(),
        shadow_first: shadow.and_then(|order| step(manifest, order.first()?)),
        declared: declared.iter().filter_map(names).collect(),
        static_weights: by_name(&manifest.static_weights),
    }
}

fn explained(rule: &CohortRule, running: bool) -> Rule<'_> {
    Rule {
        reason: &rule.reason,
        asn: rule.asn,
        class: rule.class.as_ref().map(ContentClass::as_str),
        device_class: rule.device_class.as_deref(),
        session_is: if running { "running" } else { "new" },
        weights_ppm: by_name(if running { &rule.weights_running } else { &rule.weights_new }),
        spare_ppm: by_name(&rule.spare),
    }
}

fn step<'a>(manifest: &'a Manifest, ranked: &Ranked) -> Option<Step<'a>> {
    let (id, pathway) = manifest.pathways.get_key_value(&ranked.pathway)?;
    Some(Step {
        id: id.as_str(),
        place: ranked.place.as_str(),
        state: pathway.state.as_str(),
        reason: &pathway.reason,
        utilisation_ppm: pathway.utilisation.0,
    })
}

/// Grants of all declared pathways for the title of `content`: a session keeps them when it moves.
fn granted(
    state: &SteerState,
    manifest: &Manifest,
    declared: &[PathwayId],
    content: &str,
    now: TimestampMs,
) -> BTreeMap<PathwayId, Grant> {
    let folder = title_folder(content);
    let grant = |id: &PathwayId| {
        let pathway = manifest.pathways.get(id)?;
        Some((id.clone(), state.settings.signers.grant(pathway, &folder, now)))
    };
    declared.iter().filter_map(grant).collect()
}

fn choice<'a>(ranked: &'a Ranked, grant: &Grant, content: Option<&str>) -> Choice<'a> {
    Choice {
        id: ranked.pathway.as_str(),
        base_url: grant.base_url(),
        query: grant.query().map(str::to_owned),
        url: content.filter(|_| grant.is_signed()).map(|path| grant.url(&format!("/{path}"))),
        place: ranked.place.as_str(),
    }
}

/// A decoded path as a URL has it.
fn encoded(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.bytes().map(one).collect()
}

fn by_name(weights: &Weights) -> BTreeMap<&str, u32> {
    weights.iter().map(|(target, ppm)| (target.as_str(), *ppm)).collect()
}

fn client(state: &SteerState, peer: SocketAddr, headers: &HeaderMap) -> Client {
    state.deployment.client(peer, headers, state.settings.trusted_header.as_deref())
}

fn asker(state: &SteerState, query: &Query<'_>, client: &Client, content: &str) -> Asker {
    Asker::by_token(state, query, client)
        .unwrap_or_else(|_| Asker::new_session(state, query, client, content_of(content)))
}

//! `GET /v1/explain`: why a session goes where it goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use spillway_model::ContentClass;
use spillway_routing::{CohortRule, Manifest, Ranked, Weights, rank_shadow, rule_for};
use spillway_service::auth::{AuthError, Role, authorize};

use crate::asker::Asker;
use crate::caller::Caller;
use crate::custom::asker;
use crate::decide::{self, Assignment};
use crate::prepared::Prepared;
use crate::{SteerState, reply, why};

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
    /// Value of `x-spillway-debug` for an hour: answers to requests with it say why. Only for a bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    debug_header: Option<String>,
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

/// `GET /v1/explain?t=TOKEN`, or `?sid=&content=&region=` with a viewer's bearer token: it tells of policy.
pub(crate) async fn explain(State(state): State<Arc<SteerState>>, request: Request) -> Response {
    let caller = Caller::of(&state, &request);
    let now = state.clock.now();
    let asker = match Asker::by_token(&state, &caller.query, &caller.client, now) {
        Ok(asker) => asker,
        Err(error) => match authorize(caller.headers, &state.tokens, Role::Viewer) {
            Ok(_) => asker(&state, &caller, caller.query.first("content").unwrap_or_default(), now),
            Err(AuthError::Forbidden { .. }) => {
                return reply::refusal(StatusCode::FORBIDDEN, "forbidden", "the bearer token allows too little");
            }
            Err(AuthError::Unknown(_)) => {
                let detail = format!("{error}; a signed t, or a bearer token of role viewer, is needed");
                return reply::refusal(StatusCode::UNAUTHORIZED, "unauthorized", &detail);
            }
        },
    };
    let current = state.manifests.current(&asker.token.region, now);
    let mut explanation = explanation(&state, &asker, &current.manifest, current.source.as_str());
    if authorize(caller.headers, &state.tokens, Role::Viewer).is_ok() {
        explanation.debug_header = Some(why::issue(&state, now));
    }
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
        debug_header: None,
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

fn by_name(weights: &Weights) -> BTreeMap<&str, u32> {
    weights.iter().map(|(target, ppm)| (target.as_str(), *ppm)).collect()
}

//! `POST /v1/sessions`, server to server: a playback service asks, while it entitles a viewer, where that viewer should
//! go. The answer comes from the same decision as playlists and polls, and its token leads to them.
//!
//! A service that gets no answer hands out the origin's own playlist: without us everything still plays.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use spillway_model::{ContentClass, ContentId, PathwayId, Protocol, RegionId, ViewId};
use spillway_service::auth;
use spillway_service::device::CLASSES;
use spillway_service::geo::Client;
use spillway_wire::session::{SESSION_VERSION, SessionAnswer, SessionPathway, SessionRequest};
use spillway_wire::token::{Token, Word};

use crate::asker::{Asker, content_of};
use crate::counters::Asked;
use crate::decide::{self, Assignment};
use crate::params::{Query, percent_decode};
use crate::playlists::origin::is_plain;
use crate::prepared::Prepared;
use crate::signers::title_folder;
use crate::{SteerState, reply};

/// What is wrong with a request: field, value, and what would be valid.
#[derive(Debug, thiserror::Error)]
#[error("{field} {value:?} is not valid (valid: {valid})")]
struct Invalid {
    field: &'static str,
    value: String,
    valid: String,
}

/// A refusal of `field`'s value; long values are cut.
fn invalid(field: &'static str, value: &str, valid: impl Into<String>) -> Invalid {
    Invalid { field, value: value.chars().take(80).collect(), valid: valid.into() }
}

/// `POST /v1/sessions` with the service token.
pub(crate) async fn create(
    State(state): State<Arc<SteerState>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !auth::is_service(&headers, &state.service_token) {
        return reply::refusal(StatusCode::UNAUTHORIZED, "unauthorized", "the service token is needed");
    }
    let request: SessionRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return reply::refusal(StatusCode::BAD_REQUEST, "bad_json", &error.to_string()),
    };
    match answer(&state, peer, &headers, &request) {
        Ok((answer, epoch)) => {
            let created = (StatusCode::CREATED, reply::json(&answer)).into_response();
            reply::with_epoch(created, epoch)
        }
        Err(error) => reply::refusal(StatusCode::BAD_REQUEST, "bad_value", &error.to_string()),
    }
}

fn answer(
    state: &SteerState,
    peer: SocketAddr,
    headers: &HeaderMap,
    request: &SessionRequest,
) -> Result<(SessionAnswer, u64), Invalid> {
    if request.v != SESSION_VERSION {
        return Err(invalid("v", &request.v.to_string(), SESSION_VERSION.to_string()));
    }
    let protocol: Protocol =
        request.protocol.parse().map_err(|_| invalid("protocol", &request.protocol, "hls, dash, other"))?;
    let path = request.path.trim_start_matches('/');
    if !is_plain(path) {
        return Err(invalid("path", &request.path, "a relative path without query, empty, . or .. parts"));
    }
    let asker = asker(state, peer, headers, request, path)?;
    let now = state.clock.now();
    let current = state.manifests.current(&asker.token.region, now);
    let manifest = &*current.manifest;
    let allowed = allowed(&request.pathways, manifest)?;
    let Assignment { ranked, declared } =
        decide::assign(&Token { pathways: allowed.clone(), ..asker.token.clone() }, asker.family, manifest);
    let token = &asker.token;
    let ttl_s = decide::ttl_s(token, manifest, state.counters.stretch_milli());
    if let Some(first) = declared.first() {
        // Demand from now on; whether polls will come is not known, so that none can be missed.
        let device = token.needs.device_class.as_ref().map(Word::as_str);
        let device = spillway_service::device::class_of(device);
        state.counters.assigned(Asked { token, device, protocol }, first, ttl_s, false, now);
    }
    // Identity, and what it may use if that was said: the playlist and each poll go by the same.
    let pathways = if allowed.is_empty() { vec![] } else { declared.clone() };
    let signed = state.settings.keys.sign(&Token { pathways, ..token.clone() });
    let folder = title_folder(path);
    let named = ranked.iter().filter(|ranked| declared.contains(&ranked.pathway));
    let pathways = named.filter_map(|ranked| {
        let (id, pathway) = manifest.pathways.get_key_value(&ranked.pathway)?;
        let url = state.settings.signers.grant(pathway, &folder, now).url(&format!("/{path}"));
        Some(SessionPathway { id: id.to_string(), url, place: ranked.place.as_str().to_owned() })
    });
    let session = decide::session(token, asker.family);
    let answer = SessionAnswer {
        v: SESSION_VERSION,
        sid: token.view.to_string(),
        epoch: manifest.epoch,
        region: token.region.to_string(),
        asn: token.asn,
        pathways: pathways.collect(),
        playlist_url: (protocol != Protocol::Other)
            .then(|| format!("{}/v1/playlists/{protocol}/{path}?t={signed}", state.settings.public_url)),
        token: signed,
        ttl_s,
        max_bitrate_kbps: decide::max_bitrate_kbps(token, manifest),
        reason: spillway_routing::rule_for(&session, manifest).map(|rule| rule.reason.clone()).unwrap_or_default(),
    };
    metrics::counter!("spillway_steer_sessions_total", "protocol" => protocol.as_str(), "plan" => current.source.as_str())
        .increment(1);
    Ok((answer, manifest.epoch))
}

fn asker(
    state: &SteerState,
    peer: SocketAddr,
    headers: &HeaderMap,
    request: &SessionRequest,
    path: &str,
) -> Result<Asker, Invalid> {
    let client = match &request.client_ip {
        None => state.deployed.now().client(peer, headers, state.settings.trusted_header.as_deref()),
        Some(text) => {
            let address: IpAddr = text.parse().map_err(|_| invalid("client_ip", text, "an IPv4 or IPv6 address"))?;
            Client::at(address)
        }
    };
    let content = match &request.content {
        None => content_of(&percent_decode(path)),
        Some(text) => ContentId::new(text).map_err(|error| invalid("content", text, error.to_string()))?,
    };
    let mut asker = Asker::new_session(state, &Query::default(), &client, content);
    let token = &mut asker.token;
    if let Some(text) = &request.sid {
        token.view = ViewId::new(text).map_err(|error| invalid("sid", text, error.to_string()))?;
    }
    if let Some(text) = &request.region {
        if !state.manifests.knows(text) {
            let deployment = state.deployed.now();
            let names: Vec<&str> = deployment.regions.keys().map(RegionId::as_str).collect();
            return Err(invalid("region", text, names.join(", ")));
        }
        let region = RegionId::new(text).map_err(|error| invalid("region", text, error.to_string()))?;
        if region != token.region {
            (token.region, token.asn) = (region, None);
        }
    }
    token.asn = request.asn.or(token.asn);
    if let Some(text) = &request.class {
        token.class = Some(ContentClass::new(text).map_err(|error| invalid("class", text, error.to_string()))?);
    }
    if let Some(text) = &request.device_class {
        let known = CLASSES.contains(&text.as_str()).then(|| Word::new(text)).flatten();
        token.needs.device_class = Some(known.ok_or_else(|| invalid("device_class", text, CLASSES.join(", ")))?);
    }
    for (field, text, need) in [
        ("codec", &request.codec, &mut token.needs.codec),
        ("drm", &request.drm, &mut token.needs.drm),
        ("territory", &request.territory, &mut token.needs.territory),
    ] {
        if let Some(text) = text {
            let valid = "1 to 32 of A-Z, a-z, 0-9, dot, dash, underscore";
            *need = Some(Word::new(text).ok_or_else(|| invalid(field, text, valid))?);
        }
    }
    Ok(asker)
}

/// The pathways that the service allows. One that the region doesn't have is an error: a wrong name must not go unseen.
fn allowed(names: &[String], manifest: &Prepared) -> Result<Vec<PathwayId>, Invalid> {
    let find = |name: &String| {
        let known = manifest.pathways.keys().find(|id| id.as_str() == name);
        known.cloned().ok_or_else(|| {
            let known: Vec<&str> = manifest.pathways.keys().map(PathwayId::as_str).collect();
            invalid("pathways", name, known.join(", "))
        })
    };
    names.iter().map(find).collect()
}

//! `GET /v1/playlists/{hls,dash}/{path}` and `POST /v1/playlists/{hls,dash}?content=path`: the origin's playlist with
//! steering written into it. What the writer can't understand plays unsteered: fail open.

pub(crate) mod dash;
pub(crate) mod hls;
pub(crate) mod origin;
mod rewrite;
pub(crate) mod space;
pub(crate) mod writer;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use spillway_model::{PathwayId, Protocol};
use spillway_routing::Manifest;
use spillway_wire::token::Token;

pub use self::rewrite::Rewrite;

use self::origin::FetchError;
use self::space::Space;
use self::writer::{Offer, Steering, WriteError};
use crate::asker::{Asker, content_of};
use crate::counters::Asked;
use crate::decide::{self, Assignment};
use crate::manifests::Current;
use crate::params::{DEBUG, DEBUG_ARGUMENT, Query, percent_decode};
use crate::signers::{Grant, title_folder};
use crate::{SteerState, players, reply};

const HLS_MEDIA_TYPE: &str = "application/vnd.apple.mpegurl";
const DASH_MEDIA_TYPE: &str = "application/dash+xml";

/// One request for a playlist.
struct Request<'r> {
    state: &'r SteerState,
    protocol: Protocol,
    /// As in the URL: percent-encoded, without leading slash.
    path: &'r str,
    asker: Asker,
    current: Current,
    /// It shows a token that is none of ours: no audience.
    forged: bool,
    /// The player doesn't follow steering: one pathway, and no word of it.
    unsteered: bool,
    /// Class of the device that asks.
    device: &'static str,
    /// To hand on.
    debug: &'static str,
}

/// A playlist with steering in it, and what goes with it.
struct Written {
    body: String,
    /// The pathway that it puts first.
    first: Option<PathwayId>,
    /// Values of `Set-Cookie`.
    cookies: Vec<String>,
}

/// `GET /v1/playlists/{protocol}/{path}?sid=&region=`.
pub(crate) async fn fetched(
    protocol: Protocol,
    State(state): State<Arc<SteerState>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    uri: Uri,
) -> Response {
    let path = uri.path().strip_prefix(&format!("/v1/playlists/{protocol}/")).unwrap_or_default();
    let request = Request::new(&state, protocol, peer, &headers, &Query::parse(query.as_deref()), path);
    match state.origins.get(path).await {
        Ok(found) => match request.write(&found.body, &found.space) {
            Ok(written) => {
                request.count(if found.stale { "stale" } else { request.outcome() });
                request.answer(written)
            }
            Err(error) => request.fail_open(error.name(), &error),
        },
        // Too large to rewrite is not too large to play.
        Err(error @ FetchError::TooLarge) => request.fail_open(error.name(), &error),
        Err(error) => {
            request.count(error.name());
            tracing::warn!(path, %error, reason = error.name(), "playlist not fetched");
            reply::refusal(error.status(), error.name(), &error.to_string())
        }
    }
}

/// `POST /v1/playlists/{protocol}?content=path`.
pub(crate) async fn posted(
    protocol: Protocol,
    State(state): State<Arc<SteerState>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let query = Query::parse(query.as_deref());
    let path = query.first("content").unwrap_or_default().trim_start_matches('/').to_owned();
    let request = Request::new(&state, protocol, peer, &headers, &query, &path);
    let space = match state.origins.space_of(&path) {
        Ok(space) => space,
        Err(error) => {
            let detail = format!("content: {error}");
            return reply::refusal(StatusCode::UNPROCESSABLE_ENTITY, error.name(), &detail);
        }
    };
    match request.write(&body, &space) {
        Ok(written) => {
            request.count(request.outcome());
            request.answer(written)
        }
        Err(error) => {
            request.count(error.name());
            reply::refusal(StatusCode::UNPROCESSABLE_ENTITY, error.name(), &error.to_string())
        }
    }
}

impl<'r> Request<'r> {
    fn new(
        state: &'r SteerState,
        protocol: Protocol,
        peer: SocketAddr,
        headers: &HeaderMap,
        query: &Query<'_>,
        path: &'r str,
    ) -> Self {
        let client = state.deployed.now().client(peer, headers, state.settings.trusted_header.as_deref());
        let content = content_of(&percent_decode(path));
        // A changing MPD is read again with the token of its session.
        let now = state.clock.now();
        let shown = query.first("t").map(|_| Asker::by_token(state, query, &client, now));
        let forged = matches!(shown, Some(Err(_)));
        let known = shown.and_then(Result::ok).filter(|asker| asker.token.content == content);
        let asker = known.unwrap_or_else(|| Asker::new_session(state, query, &client, content));
        let current = state.manifests.current(&asker.token.region, now);
        let debug = if query.first(DEBUG).is_some() { DEBUG_ARGUMENT } else { "" };
        let unsteered = state.unsteered.asks(query, headers);
        Self { state, protocol, path, asker, current, forged, unsteered, device: state.device(headers), debug }
    }

    fn write(&self, body: &[u8], space: &Space) -> Result<Written, WriteError> {
        let manifest = &*self.current.manifest;
        let mut assignment = decide::assign(&self.asker.token, self.asker.family, manifest);
        if self.unsteered {
            let safest = players::safest(&assignment.ranked, manifest);
            assignment.declared = vec![assignment.ranked[safest].pathway.clone()];
        }
        let steering = self.steering(manifest, &assignment);
        let write = if self.protocol == Protocol::Dash { dash::write } else { hls::write };
        let body = write(body, space, &steering)?;
        let grants = steering.offers.iter().filter_map(|offer| offer.grant.as_ref());
        Ok(Written {
            body,
            first: assignment.declared.into_iter().next(),
            cookies: grants.flat_map(Grant::cookies).collect(),
        })
    }

    fn steering(&self, manifest: &Manifest, assignment: &Assignment) -> Steering {
        let (settings, identity) = (&self.state.settings, &self.asker.token);
        let declared = assignment.declared.clone();
        let token = Token { first: declared.first().cloned(), pathways: declared, ..identity.clone() };
        let again = Token { first: None, ..identity.clone() };
        let (url, protocol, debug) = (&settings.public_url, self.protocol, self.debug);
        Steering {
            server_uri: (!self.unsteered)
                .then(|| format!("{url}/v1/steer/{protocol}?t={}{debug}", settings.keys.sign(&token))),
            offers: self.offers(manifest, assignment),
            max_bitrate_kbps: decide::max_bitrate_kbps(identity, manifest),
            reload_url: (protocol == Protocol::Dash).then(|| {
                format!("{url}/v1/playlists/{protocol}/{}?t={}{debug}", self.path, settings.keys.sign(&again))
            }),
            query_before_start: settings.query_before_start,
        }
    }

    fn answer(&self, written: Written) -> Response {
        let Written { body, first, cookies } = written;
        let manifest = &*self.current.manifest;
        if let (false, Some(first)) = (self.asker.known, &first) {
            let (counters, token) = (&self.state.counters, &self.asker.token);
            if self.forged {
                counters.untrusted(token, self.protocol, first);
            } else {
                let ttl_s = decide::ttl_s(token, manifest, counters.stretch_milli());
                let asked = Asked { token, device: self.device, protocol: self.protocol };
                counters.assigned(asked, first, ttl_s, !self.unsteered, self.state.clock.now());
            }
        }
        let media_type = if self.protocol == Protocol::Dash { DASH_MEDIA_TYPE } else { HLS_MEDIA_TYPE };
        let response = reply::with_cookies(reply::body(StatusCode::OK, media_type, body), cookies.into_iter());
        reply::with_epoch(response, manifest.epoch)
    }

    /// What is declared, each with its URLs signed for the title.
    fn offers(&self, manifest: &Manifest, assignment: &Assignment) -> Vec<Offer> {
        let folder = title_folder(self.path);
        let offer = |id| {
            let (id, pathway) = manifest.pathways.get_key_value(id)?;
            let sign = || self.state.settings.signers.grant(pathway, &folder, self.state.clock.now());
            let grant = pathway.signer.as_ref().map(|_| sign());
            Some(Offer { id: id.clone(), base_url: pathway.base_url.clone(), grant })
        };
        assignment.declared.iter().filter_map(offer).collect()
    }

    /// Sends the player to the playlist on its best pathway: relative URIs hold there, as they would not here.
    fn fail_open(&self, reason: &'static str, error: &dyn std::fmt::Display) -> Response {
        self.count(reason);
        tracing::warn!(path = self.path, %error, reason, "playlist not rewritten");
        let manifest = &*self.current.manifest;
        let assignment = decide::assign(&self.asker.token, self.asker.family, manifest);
        let Some(offer) = self.offers(manifest, &assignment).into_iter().next() else {
            return reply::refusal(StatusCode::BAD_GATEWAY, "no_pathway", "no pathway serves this region");
        };
        let mut response = reply::redirect(&offer.url(&format!("/{}", self.path)));
        response.headers_mut().insert(reply::REASON_HEADER, HeaderValue::from_static(reason));
        reply::with_epoch(response, manifest.epoch)
    }

    const fn outcome(&self) -> &'static str {
        if self.unsteered { "unsteered" } else { "written" }
    }

    fn count(&self, outcome: &'static str) {
        metrics::counter!("spillway_steer_playlists_total", "protocol" => self.protocol.as_str(), "outcome" => outcome)
            .increment(1);
    }
}

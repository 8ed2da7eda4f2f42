//! Faults and counters over HTTP, for operators and drills. Not for the media port.
//!
//! - `GET /faults`: CDN → its faults;
//! - `PUT /faults/{cdn}` with one fault: `{"kind": "status", "status": 503, "region": "eu-south"}`;
//!   kinds are `latency` (`ms`), `throttle` (`kbps`), `status` (`status`), `reset`, `hang`;
//!   optional: `region`, `asn`, `share_percent` (100), `share_of` (`requests` or `clients`);
//! - `DELETE /faults/{cdn}`, or `…?region=eu-south` for those set for that region;
//! - `GET /stats`: CDN → its counters.
//!
//! Errors are `{"error": "…"}`: 400 names the value and what is valid, 404 the known CDNs.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::faults::{Fault, MAX_FAULTS};
use super::{Cdn, CdnStats, fault_json};

const MAX_BODY_BYTES: usize = 16 * 1024;

type Cdns = Arc<BTreeMap<String, Arc<Cdn>>>;

/// The routes above, for these CDNs.
pub fn control_router(cdns: Vec<Arc<Cdn>>) -> Router {
    let cdns: Cdns = Arc::new(cdns.into_iter().map(|cdn| (cdn.name().to_owned(), cdn)).collect());
    Router::new()
        .route("/faults", get(list_faults))
        .route("/faults/{cdn}", put(set_fault).delete(clear_faults))
        .route("/stats", get(stats))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(cdns)
}

struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scope {
    region: Option<String>,
}

async fn list_faults(State(cdns): State<Cdns>) -> Json<BTreeMap<String, Vec<Fault>>> {
    Json(cdns.iter().map(|(name, cdn)| (name.clone(), cdn.faults().list())).collect())
}

async fn set_fault(
    State(cdns): State<Cdns>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Vec<Fault>>, Refusal> {
    let cdn = known(&cdns, &name)?;
    let fault = fault_json::parse(&body, cdn.config()).map_err(|why| Refusal(StatusCode::BAD_REQUEST, why))?;
    tracing::info!(cdn = name, ?fault, "fault set");
    if !cdn.faults().set(fault) {
        let why = format!("add a fault to `{name}` (valid: at most {MAX_FAULTS})");
        return Err(Refusal(StatusCode::BAD_REQUEST, why));
    }
    Ok(Json(cdn.faults().list()))
}

async fn clear_faults(
    State(cdns): State<Cdns>,
    Path(name): Path<String>,
    Query(scope): Query<Scope>,
) -> Result<Json<Vec<Fault>>, Refusal> {
    let cdn = known(&cdns, &name)?;
    match &scope.region {
        Some(region) => cdn.faults().clear_region(region),
        None => cdn.faults().clear(),
    }
    tracing::info!(cdn = name, region = scope.region, "faults cleared");
    Ok(Json(cdn.faults().list()))
}

async fn stats(State(cdns): State<Cdns>) -> Json<BTreeMap<String, CdnStats>> {
    Json(cdns.iter().map(|(name, cdn)| (name.clone(), cdn.stats())).collect())
}

fn known<'a>(cdns: &'a Cdns, name: &str) -> Result<&'a Arc<Cdn>, Refusal> {
    cdns.get(name).ok_or_else(|| {
        let names: Vec<_> = cdns.keys().map(String::as_str).collect();
        let why = format!("find the CDN `{name}` (known: {})", names.join(", "));
        Refusal(StatusCode::NOT_FOUND, why)
    })
}

//! `POST /v1/deliveries` and `POST /v1/steers`: rows of edges and steering nodes, with the service token.
//!
//! A batch is named by its source and sequence. It goes into the WAL as one record, so it is stored whole or not at
//! all, and is answered 202 after the fsync. Repeated to this collector it is known (the memory of duplicates is
//! rebuilt from WAL and table at the start) and answered 202 without being stored; repeated to another one it is
//! stored twice, and the reading view shows it once.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use spillway_lake::LakeError;
use spillway_lake::deliveries::{self, DeliveryBatch};
use spillway_lake::schema::TableName;
use spillway_lake::steers::{self, SteerBatch};
use spillway_model::limits::EVENT_MAX_AGE_MS;
use spillway_service::deployment::Deployment;
use spillway_service::geo::{Client, Country};
use spillway_wire::beacon::{Refused, Rejected};
use spillway_wire::delivery::Delivery;
use spillway_wire::rows::{self, BatchName, Row, RowsError, RowsReceived, RowsStored};
use spillway_wire::scrub;
use spillway_wire::steer_answer::SteerAnswer;

use crate::App;
use crate::dedupe::{all_stored, view_key};
use crate::refusal::Refusal;

/// Clocks of roles may differ by this much; a later time is a mistake.
const AHEAD_MAX_MS: u64 = 60_000;
/// The form of rows that came this way.
const FORMAT: &str = "rows";

/// Why a batch was not taken.
enum Denied {
    /// Bad query or body.
    Rows(RowsError),
    /// Body, disk, back-pressure: as for beacons.
    Refusal(Refusal),
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<RowsError> for Denied {
    fn from(error: RowsError) -> Self {
        Self::Rows(error)
    }
}

/// `POST /v1/deliveries?v=1&source=…&seq=…`.
pub(crate) async fn deliveries(
    State(app): State<Arc<App>>,
    Query(name): Query<BatchName>,
    request: Request<Body>,
) -> Response {
    let arrow = |app: &App, name: &BatchName, received_ms: u64, mut rows: Vec<(u64, Delivery)>| {
        let deployment = app.deployed.now();
        rows.iter_mut().for_each(|(_, row)| complete(&deployment, row));
        let (source, batch_seq, format) = (name.source.clone(), name.seq, FORMAT.to_owned());
        deliveries::to_arrow(&DeliveryBatch { source, batch_seq, received_ms, format }, &rows)
    };
    answer(take(&app, TableName::Deliveries, &name, request, |row: &Delivery| row.delivered_ms, arrow).await)
}

/// `POST /v1/steers?v=1&source=…&seq=…`.
pub(crate) async fn steers(
    State(app): State<Arc<App>>,
    Query(name): Query<BatchName>,
    request: Request<Body>,
) -> Response {
    let arrow = |_: &App, name: &BatchName, received_ms: u64, mut rows: Vec<(u64, SteerAnswer)>| {
        for (_, row) in &mut rows {
            row.reason = row.reason.as_deref().map(|reason| scrub::without_queries(reason).into_owned());
            row.why = row.why.take().map(scrub::json_without_queries);
        }
        let batch = SteerBatch { node: name.source.clone(), batch_seq: name.seq, received_ms };
        steers::to_arrow(&batch, &rows)
    };
    answer(take(&app, TableName::Steers, &name, request, |row: &SteerAnswer| row.issued_ms, arrow).await)
}

/// Fills what `row` leaves open and its address and host tell; then takes out what must not come to rest.
pub fn complete(deployment: &Deployment, row: &mut Delivery) {
    let code = |country: Country| country.as_str().to_owned();
    row.country = row.country.as_deref().and_then(Country::new).map(code);
    if let Some(address) = row.address.as_deref().and_then(|address| address.trim().parse().ok()) {
        let place = deployment.locate(&Client::at(address));
        row.region.get_or_insert_with(|| place.cohort.region.as_str().to_owned());
        row.asn = row.asn.or(place.cohort.asn);
        row.country = row.country.take().or_else(|| place.country.map(code));
    }
    row.scrub();
    if row.pathway.is_none() {
        let by_host = row.host.as_deref().and_then(|host| deployment.pathway_of_host(host));
        row.pathway = by_host.map(|id| id.as_str().to_owned());
    }
}

async fn take<T: Row>(
    app: &Arc<App>,
    table: TableName,
    name: &BatchName,
    request: Request<Body>,
    time_of: impl Fn(&T) -> u64,
    arrow: impl Fn(&App, &BatchName, u64, Vec<(u64, T)>) -> Result<RecordBatch, LakeError>,
) -> Result<Option<RowsStored>, Denied> {
    let (parts, body) = request.into_parts();
    if !crate::internal::allowed(app, &parts.headers) {
        return Ok(None);
    }
    name.check()?;
    let plain = body_of(app, &parts.headers, body).await?;
    let received_ms = app.clock.now().0;
    let RowsReceived { rows: parsed, mut rejected } = rows::parse::<T>(&plain)?;
    let mut good = Vec::with_capacity(parsed.len());
    for (index, row) in parsed {
        match timely(time_of(&row), received_ms) {
            Ok(()) => good.push((index as u64, row)),
            Err(reason) => rejected.push(Rejected { index, reason: reason.into() }),
        }
    }
    rejected.sort_by_key(|row| row.index);
    count(table, "rejected", rejected.len());
    let accepted = good.len();
    if accepted == 0 {
        return Ok(Some(RowsStored { accepted, rejected, duplicate: false }));
    }
    let batch = arrow(app, name, received_ms, good).map_err(|error| {
        tracing::error!(%error, table = table.as_str(), "rows could not be written");
        Refusal::DiskTimeout
    })?;
    let duplicate = store(app, table, name, batch, plain.len()).await?;
    count(table, if duplicate { "duplicate" } else { "accepted" }, accepted);
    Ok(Some(RowsStored { accepted, rejected, duplicate }))
}

async fn body_of(app: &App, headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
    let timeout = Duration::from_millis(app.config.body_timeout_ms);
    let bytes = tokio::time::timeout(timeout, crate::receive::read(body)).await.map_err(|_| Refusal::BodyTimeout)??;
    if !crate::receive::is_gzip(headers, &bytes)? {
        return Ok(bytes);
    }
    let plain = tokio::task::spawn_blocking(move || crate::receive::gunzip(&bytes)).await;
    Ok(Bytes::from(plain.map_err(|_| Refusal::BodyCut)??))
}

fn timely(at_ms: u64, received_ms: u64) -> Result<(), &'static str> {
    if at_ms > received_ms + AHEAD_MAX_MS {
        Err("bad_value")
    } else if received_ms.saturating_sub(at_ms) > EVENT_MAX_AGE_MS {
        Err("too_old")
    } else {
        Ok(())
    }
}

/// The batch into the log, unless it is there; whether it was.
async fn store(
    app: &Arc<App>,
    table: TableName,
    name: &BatchName,
    batch: RecordBatch,
    bytes: usize,
) -> Result<bool, Refusal> {
    let admission = app.dedupe.admit(batch_key(table, &name.source), &[name.seq], app.clock.monotonic().0);
    // A sender that hangs up must not leave a batch half accounted for.
    let work = tokio::spawn({
        let app = Arc::clone(app);
        async move {
            let fresh = admission.fresh.first().copied().unwrap_or(true);
            if fresh {
                let stored = app.log.append_rows(table, &batch, bytes).await;
                admission.ticket.finish(stored.is_ok());
                stored.map_err(Refusal::NotDurable)?;
            } else {
                admission.ticket.finish(true);
                if !all_stored(admission.originals).await {
                    return Err(Refusal::OriginalFailed);
                }
            }
            Ok(!fresh)
        }
    });
    let ended = tokio::time::timeout(crate::batch::DISK_MAX, work).await.map_err(|_| Refusal::DiskTimeout)?;
    ended.map_err(|_| Refusal::DiskTimeout)?
}

/// Key of a source's batches in the memory of duplicates. No property is empty, so no view has it.
pub(crate) fn batch_key(table: TableName, source: &str) -> String {
    view_key("", source, table.as_str())
}

fn count(table: TableName, outcome: &'static str, rows: usize) {
    if rows > 0 {
        metrics::counter!("spillway_collector_rows_total", "table" => table.as_str(), "outcome" => outcome)
            .increment(rows as u64);
    }
}

fn answer(taken: Result<Option<RowsStored>, Denied>) -> Response {
    let refused = |status: StatusCode, error: &str, detail: String| {
        (status, Json(Refused { error: error.into(), detail })).into_response()
    };
    match taken {
        Ok(Some(stored)) => (StatusCode::ACCEPTED, Json(stored)).into_response(),
        Ok(None) => {
            let mut response =
                refused(StatusCode::UNAUTHORIZED, "unauthorized", "the service token is needed as bearer".into());
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        Err(Denied::Rows(error)) => refused(StatusCode::BAD_REQUEST, error.reason(), error.to_string()),
        Err(Denied::Refusal(refusal)) => refusal.into_response(),
    }
}

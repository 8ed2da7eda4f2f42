//! What other roles ask: counters and the tail, with the service token.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use spillway_lake::schema::TableName;
use spillway_service::auth::{bearer, token_hash};

use crate::App;

pub(crate) fn allowed(app: &App, headers: &HeaderMap) -> bool {
    // Hashes are compared, so timing tells nothing of the token.
    bearer(headers).is_some_and(|token| token_hash(token) == app.service_token_hash)
}

/// `GET /internal/counters`.
pub(crate) async fn counters(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    if !allowed(&app, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    Json(app.account.body(&app.log.tail())).into_response()
}

/// `GET /internal/tail?table=NAME`: rows that are durable and not yet in that table, as an Arrow IPC stream.
pub(crate) async fn tail(
    State(app): State<Arc<App>>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if !allowed(&app, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let named = query.get("table").map_or("", String::as_str);
    let Some(table) = TableName::FED.into_iter().find(|table| table.as_str() == named) else {
        let valid = TableName::FED.map(TableName::as_str).join(", ");
        return (StatusCode::NOT_FOUND, format!("table {named:?} has no tail (valid: {valid})\n")).into_response();
    };
    let tail = app.log.tail();
    match tokio::task::spawn_blocking(move || tail.to_ipc(table)).await {
        Ok(Ok(bytes)) => {
            let headers =
                [(header::CONTENT_TYPE, "application/vnd.apache.arrow.stream"), (header::CACHE_CONTROL, "no-store")];
            (headers, bytes).into_response()
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the tail could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

//! Style, script and icon, inside the binary.

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// One file: path, media type, bytes.
type Asset = (&'static str, &'static str, &'static str);

const ASSETS: [Asset; 4] = [
    ("/assets/tokens.css", "text/css; charset=utf-8", include_str!("../assets/tokens.css")),
    ("/assets/board.css", "text/css; charset=utf-8", include_str!("../assets/board.css")),
    ("/assets/live.js", "text/javascript; charset=utf-8", include_str!("../assets/live.js")),
    ("/assets/icon.svg", "image/svg+xml", include_str!("../assets/icon.svg")),
];

/// `/assets/*`.
pub(crate) fn router() -> Router {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        router.route(asset.0, get(move |headers: HeaderMap| async move { answer(asset, &headers) }))
    })
}

/// Browsers ask each time and get 304: a new binary's files are in use at the next load.
fn answer((_, media_type, text): &Asset, request: &HeaderMap) -> Response {
    let tag = tag(text);
    let known = request.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::ETAG, HeaderValue::from_str(&tag).expect("a quoted hexadecimal number is a header value")),
    ];
    if known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag)) {
        (StatusCode::NOT_MODIFIED, headers).into_response()
    } else {
        (headers, *text).into_response()
    }
}

/// FNV-1a of the text: tells versions apart, proves nothing.
fn tag(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("\"{hash:016x}\"")
}

//! `/watch`: a page that plays the stream with hls.js, steered and measured like any viewer.
//!
//! `GET /watch` (also `/`), and below it `watch.js`, `watch.css`, `hls.js`, `sdk.js`, `config.json`. The first two and
//! the page stand in this binary; hls.js and the SDK's bundle are files that the build made.

use std::collections::BTreeMap;
use std::net::TcpListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const PAGE: &str = include_str!("../../watch/index.html");
const SCRIPT: &str = include_str!("../../watch/watch.js");
const STYLE: &str = include_str!("../../watch/watch.css");
const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

/// What the page needs to know, and where its libraries are.
#[derive(Debug, Clone, Serialize)]
pub struct Pages {
    /// Multivariant playlist.
    pub playlist: String,
    /// Base URL of the steering node.
    pub steer: String,
    /// Base URL of the collector.
    pub collector: String,
    /// Public write key.
    pub key: String,
    /// Title.
    pub content: String,
    /// Regions to choose from.
    pub regions: Vec<String>,
    /// Base URL by pathway.
    pub pathways: BTreeMap<String, String>,
    /// Base URL of the dashboard.
    pub dashboard: String,
    /// hls.js, as the package has it.
    #[serde(skip)]
    pub hls_js: Option<PathBuf>,
    /// The SDK's bundle for script tags.
    #[serde(skip)]
    pub sdk: Option<PathBuf>,
}

impl Pages {
    /// What is not there, in words.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let files = [("--hls-js", &self.hls_js), ("--sdk", &self.sdk)];
        files
            .into_iter()
            .filter_map(|(option, path)| match path {
                None => Some(format!("{option} was not given")),
                Some(path) if !path.is_file() => Some(format!("{option}: there is no {}", path.display())),
                Some(_) => None,
            })
            .collect()
    }
}

/// Serves the page until the task is aborted.
///
/// # Errors
/// If the socket can't be used.
pub fn serve(socket: StdListener, pages: Pages) -> anyhow::Result<JoinHandle<()>> {
    socket.set_nonblocking(true).context("set up /watch")?;
    let listener = TcpListener::from_std(socket).context("set up /watch")?;
    let router = router(pages);
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "/watch ended");
        }
    }))
}

fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/watch") }))
        .route("/watch", get(page))
        .route("/watch/watch.js", get(|| async { text(JAVASCRIPT, SCRIPT) }))
        .route("/watch/watch.css", get(|| async { text(CSS, STYLE) }))
        .route("/watch/config.json", get(|State(pages): State<Arc<Pages>>| async move { Json(pages.as_ref().clone()) }))
        .route(
            "/watch/hls.js",
            get(|State(pages): State<Arc<Pages>>| async move { file(pages.hls_js.as_deref()).await }),
        )
        .route("/watch/sdk.js", get(|State(pages): State<Arc<Pages>>| async move { file(pages.sdk.as_deref()).await }))
        .with_state(Arc::new(pages))
}

async fn page(State(pages): State<Arc<Pages>>) -> Response {
    let mut response = text(HTML, PAGE);
    // Media, steering and beacons go to these hosts and nowhere else.
    let hosts: Vec<&str> =
        pages.pathways.values().chain([&pages.steer, &pages.collector]).map(String::as_str).collect();
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; media-src blob:; \
         connect-src 'self' {}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hosts.join(" ")
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    // The collector checks origins; full addresses are nobody's business.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("origin"));
    response
}

fn text(content_type: &'static str, body: impl IntoResponse) -> Response {
    let headers = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, body.into_response().into_body()).into_response()
}

async fn file(path: Option<&Path>) -> Response {
    let Some(path) = path else {
        return (StatusCode::NOT_FOUND, "not built: `cargo xtask demo` builds it\n").into_response();
    };
    match tokio::fs::read(path).await {
        Ok(bytes) => text(JAVASCRIPT, without_source_map(bytes)),
        Err(error) => (StatusCode::NOT_FOUND, format!("read {}: {error}\n", path.display())).into_response(),
    }
}

/// A map that is not served would be an error in the console of everyone who opens the developer tools.
fn without_source_map(mut bytes: Vec<u8>) -> Vec<u8> {
    const MARK: &[u8] = b"//# sourceMappingURL=";
    if let Some(at) = bytes.windows(MARK.len()).rposition(|window| window == MARK) {
        bytes.truncate(at);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(dir: &Path) -> Pages {
        Pages {
            playlist: "http://127.0.0.1:1/v1/playlists/hls/live/river/master.m3u8".into(),
            steer: "http://127.0.0.1:1".into(),
            collector: "http://127.0.0.1:2".into(),
            key: "demo-write-key".into(),
            content: "live/river".into(),
            regions: vec!["eu-south".into()],
            pathways: BTreeMap::from([("cdn-a".into(), "http://127.0.0.1:3".into())]),
            dashboard: "http://127.0.0.1:4".into(),
            hls_js: Some(dir.join("hls.min.js")),
            sdk: None,
        }
    }

    #[tokio::test]
    async fn the_page_may_reach_what_it_needs_and_says_what_is_missing() {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::write(dir.path().join("hls.min.js"), "var Hls;\n//# sourceMappingURL=hls.min.js.map").expect("write");
        let pages = pages(dir.path());
        assert_eq!(pages.missing(), ["--sdk was not given"]);
        let socket = StdListener::bind("127.0.0.1:0").expect("port");
        let base = format!("http://{}", socket.local_addr().expect("address"));
        let serving = serve(socket, pages).expect("serves");
        let get = |path: &str| reqwest::get(format!("{base}{path}"));
        let answer = get("/").await.expect("answer");
        let policy = answer.headers()["content-security-policy"].to_str().expect("text").to_owned();
        assert!(
            policy.contains("connect-src 'self' http://127.0.0.1:3 http://127.0.0.1:1 http://127.0.0.1:2;"),
            "{policy}"
        );
        let html = answer.text().await.expect("text");
        for path in html.split(['"', '\'']).filter(|part| part.starts_with("/watch/")) {
            let expected = if path == "/watch/sdk.js" { 404 } else { 200 };
            assert_eq!(get(path).await.expect("answer").status(), expected, "{path}");
        }
        let config: serde_json::Value = get("/watch/config.json").await.expect("answer").json().await.expect("JSON");
        assert_eq!(config["pathways"]["cdn-a"], "http://127.0.0.1:3");
        assert!(config.get("hls_js").is_none(), "no paths of this machine");
        let library = get("/watch/hls.js").await.expect("answer").text().await.expect("text");
        assert_eq!(library, "var Hls;\n");
        serving.abort();
    }
}

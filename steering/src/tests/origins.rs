//! Fetches from origins: by their own rules, bounded, and from nobody else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use spillway_model::Millis;
use spillway_model::limits::PLAYLIST_MAX_BYTES;
use tokio::net::TcpListener;

use super::fixtures::StoppedClock;
use crate::playlists::origin::{FetchError, Fetched, Origin, Origins};
use crate::playlists::space::Place;

type Answer = (u16, Vec<(&'static str, String)>, String);

/// An origin that answers every path as it was last told.
struct TestOrigin {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
    /// Of the last request.
    headers: Arc<Mutex<HeaderMap>>,
    origins: Arc<Origins>,
    clock: Arc<StoppedClock>,
}

impl TestOrigin {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new((200, vec![], "first".into())));
        let (asked, headers) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<HeaderMap>>::default());
        let (told, count, last) = (Arc::clone(&answer), Arc::clone(&asked), Arc::clone(&headers));
        let router = Router::new().fallback(move |request: Request<Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            *last.lock().expect("lock") = request.headers().clone();
            let (status, lines, body) = told.lock().expect("lock").clone();
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let mut response: Response = (StatusCode::from_u16(status).expect("status"), body).into_response();
                for (name, value) in lines {
                    response.headers_mut().append(name, value.parse().expect("value"));
                }
                response
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        let clock = StoppedClock::new();
        let origin = Origin::new(&format!("http://{address}/media")).expect("origin");
        let origins = Origins::new(BTreeMap::from([("default".into(), origin)]), Arc::clone(&clock) as _);
        let origins = Arc::new(origins.expect("client"));
        Self { address, answer, asked, headers, origins, clock }
    }

    fn answers(&self, status: u16, headers: &[(&'static str, &str)], body: &str) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        *self.answer.lock().expect("lock") = (status, headers, body.to_owned());
    }

    async fn get(&self) -> Result<Fetched, FetchError> {
        self.origins.get("vod/a.m3u8").await
    }

    async fn body(&self) -> String {
        String::from_utf8(self.get().await.expect("a playlist").body.to_vec()).expect("text")
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::SeqCst)
    }

    fn header(&self, name: &str) -> Option<String> {
        Some(self.headers.lock().expect("lock").get(name)?.to_str().expect("text").to_owned())
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Millis::from_secs(seconds));
    }
}

#[tokio::test]
async fn an_expired_playlist_is_asked_for_by_its_validators() {
    let origin = TestOrigin::start().await;
    let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
    origin.answers(200, &[("cache-control", "max-age=4"), ("etag", "W/\"1\""), ("last-modified", modified)], "first");
    assert_eq!((origin.body().await.as_str(), origin.asked()), ("first", 1));
    assert_eq!(origin.header("if-none-match"), None);
    origin.pass(3);
    assert_eq!((origin.body().await.as_str(), origin.asked()), ("first", 0), "fresh");

    origin.answers(304, &[], "");
    origin.pass(2);
    assert_eq!((origin.body().await.as_str(), origin.asked()), ("first", 1), "it still holds");
    assert_eq!(origin.header("if-none-match").as_deref(), Some("W/\"1\""));
    assert_eq!(origin.header("if-modified-since").as_deref(), Some(modified));
    origin.pass(3);
    assert_eq!((origin.body().await.as_str(), origin.asked()), ("first", 0), "fresh again, by the rules it had");
    origin.answers(304, &[("cache-control", "max-age=1")], "");
    origin.pass(2);
    assert_eq!((origin.body().await.as_str(), origin.asked()), ("first", 1));
    origin.answers(200, &[("etag", "\"2\"")], "second");
    origin.pass(1);
    assert_eq!((origin.body().await.as_str(), origin.asked()), ("second", 1), "by the rules that the 304 told");
}

#[tokio::test]
async fn a_304_that_nobody_asked_for_is_no_playlist() {
    let origin = TestOrigin::start().await;
    origin.answers(304, &[], "");
    assert_eq!(origin.get().await.expect_err("nothing"), FetchError::Status(304));
}

#[tokio::test]
async fn a_failing_origin_is_covered_for_as_long_as_it_allows() {
    for (rules, covered_s) in [
        ("max-age=4", 59),
        ("max-age=4, stale-if-error=100", 103),
        ("max-age=4, must-revalidate", 3),
        ("no-store", 0),
        ("no-cache", 0),
    ] {
        let origin = TestOrigin::start().await;
        origin.answers(200, &[("cache-control", rules)], "first");
        assert!(!origin.get().await.expect("fetched").stale);
        origin.answers(503, &[], "");
        if covered_s > 0 {
            origin.pass(covered_s);
            let found = origin.get().await.expect(rules);
            assert_eq!((found.stale, &found.body[..]), (covered_s > 3, &b"first"[..]), "{rules}");
        }
        origin.pass(1);
        assert_eq!(origin.get().await.expect_err(rules), FetchError::Status(503));
        origin.answers(404, &[], "");
        assert_eq!(origin.get().await.expect_err(rules), FetchError::Status(404));
        origin.answers(503, &[], "");
        assert_eq!(origin.get().await.expect_err("what is gone is gone"), FetchError::Status(503));
    }
}

#[tokio::test]
async fn what_varies_by_everything_or_may_not_be_kept_is_asked_for_each_time() {
    for headers in
        [[("cache-control", "max-age=9"), ("vary", "*")], [("cache-control", "no-store"), ("vary", "origin")]]
    {
        let origin = TestOrigin::start().await;
        origin.answers(200, &headers, "first");
        origin.body().await;
        origin.body().await;
        assert_eq!(origin.asked(), 2, "{headers:?}");
        let origins = Arc::clone(&origin.origins);
        let many = futures::future::join_all((0..50).map(|_| origins.get("vod/a.m3u8"))).await;
        assert!(many.iter().all(Result::is_ok));
        assert_eq!(origin.asked(), 1, "one fetch, however many wait");
    }
    let origin = TestOrigin::start().await;
    origin.answers(200, &[("cache-control", "max-age=9"), ("vary", "accept-encoding, origin")], "first");
    origin.body().await;
    origin.body().await;
    assert_eq!(origin.asked(), 1, "we ask for all alike");
}

#[tokio::test]
async fn a_viewer_who_leaves_does_not_end_the_fetch_for_the_others() {
    let origin = TestOrigin::start().await;
    let origins = Arc::clone(&origin.origins);
    let impatient = tokio::spawn(async move { origins.get("vod/a.m3u8").await.map(|_| ()) });
    tokio::time::sleep(Duration::from_millis(5)).await;
    impatient.abort();
    assert_eq!((origin.body().await.as_str(), origin.asked()), ("first", 1));
}

#[tokio::test]
async fn too_much_is_refused_before_it_is_kept() {
    let origin = TestOrigin::start().await;
    origin.answers(200, &[], &"x".repeat(PLAYLIST_MAX_BYTES + 1));
    assert_eq!(origin.get().await.expect_err("too large"), FetchError::TooLarge);
    origin.answers(200, &[], &"x".repeat(PLAYLIST_MAX_BYTES));
    assert_eq!(origin.body().await.len(), PLAYLIST_MAX_BYTES);
}

#[tokio::test]
async fn an_origin_that_never_ends_its_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await.expect("written");
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if stream.write_all(b"x").await.is_err() {
                return;
            }
        }
    });
    let origin = Origin::new(&format!("http://{address}")).expect("origin");
    let origins = Origins::new(BTreeMap::from([("default".into(), origin)]), StoppedClock::new()).expect("client");
    let error = origins.get("a.m3u8").await.expect_err("a trickle");
    assert_eq!(error.name(), "origin_unreachable");
}

#[tokio::test]
async fn redirects_stay_on_the_origin() {
    let origin = TestOrigin::start().await;
    let stranger = TestOrigin::start().await;
    let (home, away) = (origin.address, stranger.address);
    for location in [
        format!("http://{away}/media/vod/a.m3u8"),
        format!("//{away}/a"),
        format!("https://{home}/a"),
        format!("http://localhost:{}/a", home.port()),
        format!("http://{home}@{away}/a"),
        "/media/vod/a.m3u8".into(),
    ] {
        origin.answers(302, &[("location", location.as_str())], "");
        let error = origin.get().await.expect_err(&location);
        assert_eq!(error.name(), "origin_unreachable", "{location}");
    }
    assert_eq!(stranger.asked(), 0);
}

#[tokio::test]
async fn a_redirect_on_the_origin_moves_what_uris_are_relative_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    let moved = || async { (StatusCode::FOUND, [("location", "/media/v2/a.m3u8")]) };
    let router = Router::new()
        .route("/media/vod/a.m3u8", axum::routing::get(moved))
        .route("/media/v2/a.m3u8", axum::routing::get(|| async { "body" }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let origin = Origin::new(&format!("http://{address}/media")).expect("origin");
    let origins = Origins::new(BTreeMap::from([("default".into(), origin)]), StoppedClock::new()).expect("client");
    let found = origins.get("vod/a.m3u8").await.expect("followed");
    assert_eq!(found.space.locate("b.m3u8"), Place::OnOrigin("/v2/b.m3u8".into()));
}

#[tokio::test]
async fn no_path_reaches_another_host() {
    let origin = TestOrigin::start().await;
    let stranger = TestOrigin::start().await;
    let away = stranger.address;
    let paths = [
        format!("@{away}/x.m3u8"),
        format!("http:%2F%2F{away}/x.m3u8"),
        format!("http://{away}/x.m3u8"),
        format!("//{away}/x.m3u8"),
        format!("%2F%2F{away}/x.m3u8"),
        format!("x%00@{away}/y"),
        format!("\\\\{away}\\x"),
        "..;/x".into(),
        "%2e%2e/%2e%2e/x".into(),
        "x?y".into(),
        "x#y".into(),
    ];
    for path in &paths {
        let _ = origin.origins.get(path).await;
    }
    assert_eq!(stranger.asked(), 0);
    for base in ["ftp://x", "x", "http://", "http://x/?q", "http://x/#f", "file:///etc"] {
        assert!(Origin::new(base).is_none(), "{base}");
    }
}

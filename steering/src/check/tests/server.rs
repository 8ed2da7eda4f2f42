//! A small media server with one fault, and what asks it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use spillway_model::Clock as _;
use spillway_service::{CancellationToken, SystemClock};
use spillway_wire::signed_url::own::{Keys, Reject};
use tokio::net::TcpListener;

use crate::check::{Known, Line, Report, Target, Verdict, Wanted};
use crate::tests::fixtures::{config, deployment, id};

pub(super) const HOST: &str = "media.example";
pub(super) const KEY: &str = "a-key-of-the-edges-of-40-characters-here";

/// The one thing that a server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    NoCorsOn(u16),
    WrongBytes,
    WrongPart,
    IgnoresRange,
    IgnoresRangeBeyond,
    LongLiveCache,
    OldCopy,
    AnotherKey,
    AcceptsUnsigned,
    AcceptsTampered,
    AcceptsExpired,
    AcceptsOtherTitles,
    ClockOff(i64),
    FoundAlways,
    Redirects(SocketAddr),
    RedirectsWithin,
    HangsOnSegments,
    BreaksOff,
    HeadRefused,
    No304,
}

/// Serves media.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) fault: Fault,
    /// Takes signed URLs only.
    pub(super) signed: bool,
    /// Requests with a token in their path.
    pub(super) tokens: Arc<AtomicUsize>,
}

impl Server {
    pub(super) fn new(fault: Fault) -> Self {
        Self { fault, signed: false, tokens: Arc::default() }
    }

    pub(super) fn router(&self) -> Router {
        Router::new().fallback(respond).with_state(self.clone())
    }

    pub(super) async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        tokio::spawn(spillway_service::serve(listener, self.router(), CancellationToken::new()));
        address
    }
}

fn body_of(path: &str) -> Option<(&'static str, &'static str, Vec<u8>)> {
    let hls = "application/vnd.apple.mpegurl";
    let text = |text: &str| text.as_bytes().to_vec();
    let long = "max-age=86400";
    Some(match path {
        "/vod/master.m3u8" => (hls, "max-age=60", text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv360/i.m3u8\n")),
        "/vod/v360/i.m3u8" => {
            (hls, "max-age=60", text("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n1.m4s\n#EXT-X-ENDLIST\n"))
        }
        "/vod/astray.m3u8" => (
            hls,
            "max-age=60",
            text("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://ads.example/1.m4s\n#EXT-X-ENDLIST\n"),
        ),
        "/vod/x.mpd" => {
            let mpd = r#"<MPD type="static"><Period><AdaptationSet><SegmentTemplate media="$RepresentationID$/$Number$.m4s"/>
                <Representation id="v360" bandwidth="1"/></AdaptationSet></Period></MPD>"#;
            ("application/dash+xml", "max-age=60", text(mpd))
        }
        "/live/master.m3u8" => {
            (hls, "max-age=2", text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n7.m4s\n#EXTINF:2,\n8.m4s\n"))
        }
        "/vod/big.mp4" => ("video/mp4", long, vec![7; 65 * 1024 * 1024]),
        "/vod/v360/1.m4s" | "/live/8.m4s" => {
            ("video/iso.segment", long, (0..5_000_u32).map(|n| (n % 251) as u8).collect())
        }
        _ => return None,
    })
}

fn opened(server: &Server, path: &str) -> Result<String, StatusCode> {
    if path.starts_with("/~") {
        server.tokens.fetch_add(1, Ordering::SeqCst);
    }
    if !server.signed {
        return Ok(path.to_owned());
    }
    let key = if server.fault == Fault::AnotherKey { KEY.to_uppercase() } else { KEY.into() };
    let keys = Keys::new(&key, None).expect("key");
    let behind = path.trim_start_matches('/').split_once('/').map_or(String::new(), |(_, rest)| format!("/{rest}"));
    let other = |token: &str| {
        let title = "/spillway-check-other-title/x";
        keys.verify(&format!("/{token}{title}"), SystemClock::new().now().0 / 1_000).is_ok()
    };
    match keys.verify(path, SystemClock::new().now().0 / 1_000) {
        Ok(opened) => Ok(opened.path.to_owned()),
        Err(Reject::Missing) if server.fault == Fault::AcceptsUnsigned => Ok(path.to_owned()),
        Err(Reject::Expired { .. }) if server.fault == Fault::AcceptsExpired => Ok(behind),
        Err(Reject::BadSignature) => {
            let token = path.trim_start_matches('/').split('/').next().unwrap_or_default();
            let taken = match server.fault {
                Fault::AcceptsTampered => !other(token),
                Fault::AcceptsOtherTitles => other(token),
                _ => false,
            };
            if taken { Ok(behind) } else { Err(StatusCode::FORBIDDEN) }
        }
        Err(_) => Err(StatusCode::FORBIDDEN),
    }
}

async fn respond(State(server): State<Server>, request: Request) -> Response {
    let headers = request.headers();
    let (status, more, body) = match opened(&server, request.uri().path()) {
        Err(status) => (status, vec![], b"no".to_vec()),
        Ok(path) => {
            if path.ends_with(".m4s") && server.fault == Fault::HangsOnSegments {
                std::future::pending::<()>().await;
            }
            media(&server, &path, headers, request.method())
        }
    };
    let mut response = Response::builder().status(status);
    if server.fault != Fault::NoCorsOn(status.as_u16()) {
        response = response.header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    }
    if let Fault::ClockOff(off_ms) = server.fault {
        let now_ms = SystemClock::new().now().0.saturating_add_signed(off_ms);
        let at = std::time::UNIX_EPOCH + Duration::from_millis(now_ms);
        response = response.header(header::DATE, httpdate::fmt_http_date(at));
    }
    for (name, value) in more {
        response = response.header(name, value);
    }
    if server.fault == Fault::BreaksOff && status == StatusCode::OK && body.len() > 1_000 {
        let first = futures::stream::iter([Ok(body[..100].to_vec())]);
        let then = futures::stream::once(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Err(std::io::Error::other("broken"))
        });
        let body = Body::from_stream(futures::StreamExt::chain(first, then));
        return response.header(header::CONTENT_LENGTH, 5_000).body(body).expect("response");
    }
    response = response.header(header::CONTENT_LENGTH, body.len());
    let body = if request.method() == Method::HEAD { Body::empty() } else { Body::from(body) };
    response.body(body).expect("response")
}

type Answer = (StatusCode, Vec<(header::HeaderName, String)>, Vec<u8>);

fn media(server: &Server, path: &str, headers: &HeaderMap, method: &Method) -> Answer {
    let fault = server.fault;
    let Some((media_type, cache_control, mut body)) = body_of(path) else {
        let status = if fault == Fault::FoundAlways { StatusCode::OK } else { StatusCode::NOT_FOUND };
        return (status, vec![], b"nothing".to_vec());
    };
    let is_segment = path.ends_with(".m4s");
    match fault {
        Fault::Redirects(to) if is_segment => {
            let location = format!("http://{to}{path}?secret=1");
            return (StatusCode::FOUND, vec![(header::LOCATION, location)], vec![]);
        }
        Fault::RedirectsWithin if path == "/vod/master.m3u8" && !headers.contains_key("x") => {
            return (StatusCode::FOUND, vec![(header::LOCATION, "/vod/v360/i.m3u8".into())], vec![]);
        }
        Fault::HeadRefused if method == Method::HEAD && is_segment => {
            return (StatusCode::METHOD_NOT_ALLOWED, vec![], vec![]);
        }
        Fault::WrongBytes if is_segment => body[4_321] ^= 1,
        _ => {}
    }
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let etag = format!("\"{}\"", body.len());
    let is_live = path.starts_with("/live/master");
    let cache_control = if fault == Fault::LongLiveCache && is_live { "max-age=600" } else { cache_control };
    let mut more = vec![
        (header::CONTENT_TYPE, media_type.to_owned()),
        (header::CACHE_CONTROL, cache_control.to_owned()),
        (header::ETAG, etag.clone()),
    ];
    if fault == Fault::OldCopy && is_live {
        more.push((header::AGE, "30".into()));
    }
    if text(header::IF_NONE_MATCH) == Some(&etag) && fault != Fault::No304 {
        return (StatusCode::NOT_MODIFIED, more, vec![]);
    }
    let total = body.len();
    let range = text(header::RANGE).and_then(|text| text.strip_prefix("bytes=")?.split_once('-'));
    let Some((first, last)) = range.filter(|_| fault != Fault::IgnoresRange) else {
        return (StatusCode::OK, more, body);
    };
    let first: usize = first.parse().expect("first");
    if first >= total {
        if fault == Fault::IgnoresRangeBeyond {
            return (StatusCode::OK, more, body);
        }
        more.push((header::CONTENT_RANGE, format!("bytes */{total}")));
        return (StatusCode::RANGE_NOT_SATISFIABLE, more, vec![]);
    }
    let last = last.parse().unwrap_or(total).min(total - 1);
    more.push((header::CONTENT_RANGE, format!("bytes {first}-{last}/{total}")));
    let mut part = body[first..=last].to_vec();
    if fault == Fault::WrongPart {
        part.rotate_left(1);
    }
    (StatusCode::PARTIAL_CONTENT, more, part)
}

/// How a pathway is asked.
pub(super) struct Asked<'a> {
    pub(super) scheme: &'a str,
    pub(super) at: SocketAddr,
    pub(super) path: Option<&'a str>,
    pub(super) origin: SocketAddr,
    pub(super) signed: bool,
    pub(super) authorities: Option<&'a str>,
}

impl Asked<'_> {
    /// The pathway `cdn-a` at these addresses, by a configuration.
    pub(super) fn target(&self) -> Target {
        let mut deployment = (*deployment()).clone();
        let mut steer = config(&format!("http://{}", self.origin));
        let pathway = deployment.pathways.get_mut(&id("cdn-a")).expect("declared");
        pathway.base_url = format!("{}://{HOST}:{}", self.scheme, self.at.port());
        if self.signed {
            pathway.signer = Some("edges".into());
            let signer = format!("kind = \"own\"\nkey = \"{KEY}\"");
            steer.signers.insert("edges".into(), toml::from_str(&signer).expect("a signer"));
        }
        let wanted = Wanted {
            what: "cdn-a",
            path: self.path,
            probed: ["/vod/master.m3u8", "/vod/v360/1.m4s"],
            authorities: self.authorities.map(str::as_bytes),
            at: &[self.at],
            ..Wanted::default()
        };
        let known = Known { deployment: &deployment, steer: Some(&steer) };
        Target::new(&wanted, Some(known)).expect("a target")
    }

    pub(super) async fn report(&self) -> Report {
        report(&self.target()).await
    }
}

pub(super) async fn report(target: &Target) -> Report {
    crate::check::run(target, Arc::new(SystemClock::new())).await.expect("a report")
}

/// Asks a server with `fault` beside an origin without.
pub(super) async fn asked(server: &Server, path: Option<&str>) -> Report {
    let (at, origin) = (server.start().await, Server::new(Fault::None).start().await);
    Asked { scheme: "http", at, path, origin, signed: server.signed, authorities: None }.report().await
}

pub(super) fn faults(report: &Report) -> Vec<&Line> {
    report.lines.iter().filter(|line| line.verdict == Verdict::Fault).collect()
}

/// The lines of one question.
pub(super) fn lines_of<'r>(report: &'r Report, check: &str) -> Vec<&'r Line> {
    report.lines.iter().filter(|line| line.check == check).collect()
}

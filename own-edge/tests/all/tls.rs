//! Viewers over TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use spillway_service::tls::{CertificateFiles, Listener, TlsConfig, authorities, client_config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

use crate::client::LONG;
use crate::scripted::{Gate, Scripted, Step, response};
use crate::support::{TestEdge, media};

const KEPT: &str = "Cache-Control: max-age=60";

/// An edge with certificates for `localhost` and `media.example`.
struct Secure {
    edge: TestEdge,
    at: SocketAddr,
    client: ClientConfig,
    _folder: tempfile::TempDir,
}

impl Secure {
    async fn start(origin: &Scripted, lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut pems = String::new();
        let mut files = ["localhost", "media.example"].map(|name| {
            let made = rcgen::generate_simple_self_signed(vec![name.into()]).unwrap();
            let path = |end: &str| folder.path().join(format!("{name}.{end}"));
            std::fs::write(path("pem"), made.cert.pem()).unwrap();
            std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
            pems.push_str(&made.cert.pem());
            CertificateFiles { cert: path("pem"), key: path("key") }
        });
        let more = vec![files[1].clone()];
        let first = std::mem::replace(&mut files[0], more[0].clone());
        let config = TlsConfig { listen: "127.0.0.1:0".parse().unwrap(), cert: first.cert, key: first.key, more };
        let listener = Listener::tls("edge.tls", &config).await.unwrap();
        let at = listener.local_addr().unwrap();
        let edge = TestEdge::behind(&origin.url(), lines, Some(listener)).await;
        let client = client_config(authorities(Some(pems.as_bytes())).unwrap()).unwrap();
        Self { edge, at, client, _folder: folder }
    }

    async fn connect(&self, name: &'static str) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.at).await.unwrap();
        TlsConnector::from(Arc::new(self.client.clone())).connect(name.try_into().unwrap(), stream).await.unwrap()
    }

    /// All that comes of `request`; an error where the end is none of TLS's.
    async fn ask(&self, name: &'static str, request: &str) -> (Vec<u8>, std::io::Result<usize>) {
        let mut stream = self.connect(name).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("it ends");
        (bytes, read)
    }
}

fn request(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

#[tokio::test]
async fn bodies_come_whole_over_tls_from_memory_from_fills_and_from_files() {
    let origin = Scripted::start().await;
    origin.answer("/1", KEPT, media(700_000));
    let folder = tempfile::tempdir().unwrap();
    let disk = format!("disk = {{ path = {:?}, size_mb = 10 }}", folder.path().join("cache"));
    let secure = Secure::start(&origin, &disk).await;
    for n in 0..4 {
        // Two on one connection.
        let both = request("/1", "") + &request("/1", "Range: bytes=100-299999\r\nConnection: close\r\n");
        let (bytes, end) = secure.ask(["localhost", "media.example"][n % 2], &both).await;
        end.expect("closed as TLS is");
        let heads = bytes.windows(4).filter(|four| four == b"\r\n\r\n").count();
        assert!(heads >= 2 && bytes.windows(700_000).any(|whole| whole == media(700_000)), "{n}");
        assert!(bytes.ends_with(&media(700_000)[100..300_000]), "{n}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(origin.count("/1"), 1);
}

#[tokio::test]
async fn http2_is_negotiated() {
    let origin = Scripted::start().await;
    origin.answer("/1", KEPT, media(3_000_000));
    let secure = Secure::start(&origin, "").await;
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(secure.client.clone())
        .https_only()
        .enable_http2()
        .build();
    let client: Client<_, http_body_util::Empty<bytes::Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
    for _ in 0..2 {
        let uri: http::Uri = format!("https://localhost:{}/1", secure.at.port()).parse().unwrap();
        let reply = client.get(uri).await.unwrap();
        assert_eq!((reply.status(), reply.version()), (http::StatusCode::OK, http::Version::HTTP_2));
        assert_eq!(reply.into_body().collect().await.unwrap().to_bytes(), media(3_000_000));
    }
    assert_eq!(origin.count("/1"), 1);
}

#[tokio::test]
async fn a_cut_shows() {
    let origin = Scripted::start().await;
    let body = media(100_000);
    let begun = response(200, KEPT, &body)[..50_000].to_vec();
    origin.on("/1", move |_| vec![Step::Send(begun.clone()), Step::Reset]);
    let secure = Secure::start(&origin, "").await;
    let (bytes, end) = secure.ask("localhost", &request("/1", "")).await;
    assert!(end.is_err() && bytes.len() < 100_000, "{} bytes, {end:?}", bytes.len());
}

#[tokio::test]
async fn who_does_not_shake_hands_is_cut_and_the_drain_waits_for_who_is_answered() {
    let origin = Scripted::start().await;
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/1", move |_| vec![Step::Wait(held.clone()), Step::Send(response(200, KEPT, b"late"))]);
    let secure = Secure::start(&origin, "header_timeout_ms = 300").await;
    for sent in [&b""[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let mut stream = TcpStream::connect(secure.at).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("cut");
        assert!(read.is_err() || !bytes.starts_with(b"HTTP"), "{bytes:?}");
    }
    let mut stream = secure.connect("localhost").await;
    stream.write_all(request("/1", "").as_bytes()).await.unwrap();
    origin.asked("/1", 1).await;
    secure.edge.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.open();
    let mut bytes = Vec::new();
    tokio::time::timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("it ends").unwrap();
    assert!(bytes.ends_with(b"late") && String::from_utf8_lossy(&bytes).contains("connection: close"));
}

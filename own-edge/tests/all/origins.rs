//! Origins behind TLS.

use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use spillway_service::CancellationToken;
use spillway_service::tls::{Listener, TlsConfig};
use tempfile::TempDir;

use crate::client;
use crate::support::{TestEdge, media};

/// An origin with a certificate for `localhost`, which nobody vouches for but the file `cert.pem`.
struct Secure {
    dir: TempDir,
    port: u16,
    shutdown: CancellationToken,
}

impl Secure {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let tls = TlsConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            cert: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
            more: Vec::new(),
        };
        std::fs::write(&tls.cert, made.cert.pem()).unwrap();
        std::fs::write(&tls.key, made.signing_key.serialize_pem()).unwrap();
        let kept = [("cache-control", "max-age=60")];
        let router = Router::new()
            .route("/version", get(async move |request: Request| (kept, format!("{:?}", request.version()))))
            .route("/media", get(async move || (kept, media(3_000_000))));
        let listener = Listener::tls("origin.tls", &tls).await.unwrap();
        let (port, shutdown) = (listener.local_addr().unwrap().port(), CancellationToken::new());
        tokio::spawn(spillway_service::serve(listener, router, shutdown.clone()));
        Self { dir, port, shutdown }
    }

    async fn edge(&self, ca: bool) -> TestEdge {
        let ca = if ca { format!("origin_ca = {:?}", self.dir.path().join("cert.pem")) } else { String::new() };
        TestEdge::with(&format!("https://localhost:{}", self.port), &ca).await
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test]
async fn an_origin_behind_tls_is_asked_by_http_2_and_its_answers_are_kept() {
    let origin = Secure::start().await;
    let edge = origin.edge(true).await;
    assert_eq!(client::get(edge.address, "/version").await.body, b"HTTP/2.0");
    edge.hit("/version").await;
    let reply = client::get(edge.address, "/media").await;
    assert!(reply.complete && reply.body == media(3_000_000), "{}", reply.head);
    assert_eq!(edge.hit("/media").await.body, media(3_000_000));
}

#[tokio::test]
async fn an_origin_that_nobody_vouches_for_is_not_believed() {
    let origin = Secure::start().await;
    let edge = origin.edge(false).await;
    let reply = client::get(edge.address, "/version").await;
    assert_eq!(reply.status, 502, "{}", reply.head);
    assert!(reply.cache_status().contains("detail=origin-connect"), "{}", reply.head);
}

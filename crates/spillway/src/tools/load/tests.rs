//! The load against collectors that answer by a script.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use clap::Parser as _;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto};

use super::*;
use crate::cli::{Cli, Command, Load, LoadWhat};

/// A collector that answers with these statuses, then with 202.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Scene>>);

#[derive(Default)]
struct Scene {
    statuses: VecDeque<u16>,
    bodies: Vec<Bytes>,
}

impl Script {
    fn of(statuses: &[u16]) -> Self {
        let statuses = statuses.iter().copied().collect();
        Self(Arc::new(Mutex::new(Scene { statuses, bodies: Vec::new() })))
    }

    /// View and sequences of each body.
    fn seen(&self) -> Vec<(String, Vec<u64>)> {
        let script = self.0.lock().expect("a script");
        let parsed = script.bodies.iter().map(|body| {
            let body: Value = serde_json::from_slice(body).expect("JSON");
            let events = body["events"].as_array().expect("events");
            let seqs = events.iter().map(|event| event["seq"].as_u64().expect("a number")).collect();
            (body["ctx"]["view_id"].as_str().expect("an id").to_owned(), seqs)
        });
        parsed.collect()
    }

    fn router(&self) -> Router {
        Router::new().route("/v1/beacons", post(answer)).with_state(self.clone())
    }

    /// Serves it on a free port; the URL.
    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(spillway_service::serve(listener, self.router(), CancellationToken::new()));
        url
    }
}

async fn answer(State(script): State<Script>, body: Bytes) -> (StatusCode, HeaderMap, String) {
    let mut script = script.0.lock().expect("a script");
    let events = serde_json::from_slice::<Value>(&body).expect("JSON")["events"].as_array().map_or(0, Vec::len);
    script.bodies.push(body);
    let status = script.statuses.pop_front().unwrap_or(202);
    let mut headers = HeaderMap::new();
    headers.insert("retry-after", "0".parse().expect("a value"));
    let body = format!(r#"{{"accepted":{events},"rejected":[],"heartbeat_s":10,"sample_rate":1.0}}"#);
    (StatusCode::from_u16(status).expect("a status"), headers, body)
}

fn arguments(more: &[&str]) -> LoadBeacons {
    let line = ["spillway", "load", "beacons", "--key", "a-write-key", "--max", "--seed", "7"];
    let cli = Cli::try_parse_from(line.iter().chain(more)).expect("valid arguments");
    match cli.command {
        Command::Load(Load { what: LoadWhat::Beacons(beacons) }) => *beacons,
        other => panic!("{other:?}"),
    }
}

async fn ran(arguments: &LoadBeacons) -> (Tally, Value) {
    let (tally, summary) = send(arguments, &CancellationToken::new()).await.expect("a run");
    (tally, serde_json::to_value(&summary).expect("JSON"))
}

#[tokio::test]
async fn a_beacon_that_is_put_off_is_sent_again_with_the_same_sequences_and_noted_once() {
    let script = Script::of(&[503, 429]);
    let dir = tempfile::tempdir().expect("dir");
    let ledger = dir.path().join("ledger");
    let url = script.serve().await;
    let mut arguments =
        arguments(&["--url", &url, "--count", "3", "--connections", "1", "--views", "2", "--events-per-beacon", "5"]);
    arguments.ledger = Some(ledger.clone());
    let (_, summary) = ran(&arguments).await;
    let first = ("load-7-0".to_owned(), vec![0, 1, 2, 3, 4]);
    let other = ("load-7-1".to_owned(), vec![0, 1, 2, 3, 4]);
    let second = ("load-7-0".to_owned(), vec![5, 6, 7, 8, 9]);
    assert_eq!(script.seen(), [first.clone(), first.clone(), first, other, second]);
    assert_eq!(std::fs::read_to_string(&ledger).expect("a ledger"), "load-7-0 0 5\nload-7-1 0 5\nload-7-0 5 5\n");
    assert_eq!(summary["by_status"], serde_json::json!({"202": 3, "429": 1, "503": 1}));
    assert_eq!((&summary["beacons_sent"], &summary["retries"]), (&3.into(), &2.into()));
    assert_eq!(summary["events_acknowledged"], 15);
}

#[tokio::test]
async fn what_one_collector_does_not_take_goes_to_the_other() {
    let (full, free) = (Script::of(&[503; 1_000]), Script::default());
    let (url, other) = (full.serve().await, free.serve().await);
    let (tally, _) =
        ran(&arguments(&["--url", &url, "--failover", &other, "--count", "4", "--connections", "2"])).await;
    assert_eq!(tally.beacons_acknowledged, 4);
    assert_eq!(free.seen().len(), 4);
    assert!(!full.seen().is_empty());
}

#[tokio::test]
async fn a_final_refusal_ends_the_run_with_its_reason() {
    let script = Script::of(&[403; 1_000]);
    let url = script.serve().await;
    let (tally, _) = ran(&arguments(&["--url", &url, "--connections", "2"])).await;
    assert_eq!(tally.beacons_acknowledged, 0);
    assert!(tally.refused.expect("a reason").contains("403"));
}

#[tokio::test]
async fn a_run_ends_in_time_though_nobody_answers() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let url = format!("http://{}", nobody.local_addr().expect("bound"));
    drop(nobody);
    let mut arguments = arguments(&["--url", &url, "--connections", "2"]);
    arguments.seconds = 0;
    let (tally, _) = ran(&arguments).await;
    assert_eq!(tally.beacons_acknowledged, 0);
}

#[tokio::test]
async fn other_machines_need_a_wish_and_https_needs_trust() {
    for (more, expected) in [
        (vec!["--url", "http://192.0.2.1:4300"], "--allow-remote"),
        (vec!["--url", "https://127.0.0.1:4300"], "--tls-ca"),
        (vec!["--url", "ftp://127.0.0.1"], "scheme"),
        (vec!["--url", "http://127.0.0.1:1", "--views", "3", "--connections", "4"], "--views 3"),
    ] {
        let error = send(&arguments(&more), &CancellationToken::new()).await.err().expect("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// Serves `script` over TLS; its URL and the file of its certificate.
async fn serve_tls(script: &Script, dir: &std::path::Path) -> (String, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let file = dir.join("ca.pem");
    std::fs::write(&file, made.cert.pem()).expect("written");
    let key = made.signing_key.serialize_der().try_into().expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a server");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let url = format!("https://localhost:{}", listener.local_addr().expect("bound").port());
    let router = script.router();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a client");
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let service = hyper_util::service::TowerToHyperService::new(router);
                    let io = hyper_util::rt::TokioIo::new(stream);
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
                }
            });
        }
    });
    (url, file)
}

#[tokio::test]
async fn over_tls_the_certificate_counts_unless_it_is_told_not_to() {
    let (script, dir) = (Script::default(), tempfile::tempdir().expect("dir"));
    let (url, file) = serve_tls(&script, dir.path()).await;
    let file = file.to_str().expect("a path");
    let base = ["--url", &url, "--count", "2", "--connections", "1"];
    for more in [vec!["--tls-ca", file], vec!["--insecure"]] {
        let (tally, _) = ran(&arguments(&[&base[..], &more[..]].concat())).await;
        assert_eq!(tally.beacons_acknowledged, 2, "{more:?}: {:?}", tally.unanswered);
    }
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let wrong = dir.path().join("other.pem");
    std::fs::write(&wrong, other.cert.pem()).expect("written");
    let mut arguments = arguments(&[&base[..], &["--tls-ca", wrong.to_str().expect("a path")]].concat());
    arguments.seconds = 0;
    let (tally, _) = ran(&arguments).await;
    assert_eq!(tally.beacons_acknowledged, 0);
}

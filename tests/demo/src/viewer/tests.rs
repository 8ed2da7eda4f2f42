//! Views against the real origin and CDNs, and a scripted steering node and collector.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use spillway_model::Clock as _;
use spillway_service::{CancellationToken, SystemClock};
use spillway_wire::beacon::{self, Event};
use tokio::net::TcpListener;
use tokio::time::Instant;
use url::Url;

use super::behaviour::Behaviour;
use super::population::{Surroundings, Totals, ViewPlan};
use super::record::Cause;
use super::view::View;
use crate::cdn::faults::{Fault, FaultKind};
use crate::cdn::{self, Cdn, CdnConfig};
use crate::media::Clip;
use crate::origin::{self, OriginState};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Script {
    bases: Vec<(String, String)>,
    first: String,
    steering_uri: String,
    priority: Vec<String>,
    polls: Vec<String>,
    /// Statuses that the collector answers with before it accepts.
    refusals: Vec<u16>,
    events: Vec<Event>,
    beacons: usize,
}

type Shared = Arc<Mutex<Script>>;

struct Scene {
    script: Shared,
    cdns: BTreeMap<String, Arc<Cdn>>,
    around: Surroundings,
}

async fn listen(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    base
}

impl Scene {
    async fn new() -> Self {
        let clock = SystemClock::new();
        let origin = OriginState::new(Clip::embedded().unwrap(), Arc::new(move || clock.now().0));
        let origin_base_url = listen(origin::router(origin)).await;
        let script: Shared = Arc::default();
        let mut cdns = BTreeMap::new();
        for name in ["a", "b"] {
            let config = CdnConfig {
                name: name.to_owned(),
                origin_base_url: origin_base_url.clone(),
                capacity_bps: 1_000_000_000,
                price_usd_per_gb: 0.01,
                base_latency_ms: 0,
                cache_bytes: 64 * 1024 * 1024,
                regions: BTreeMap::from([(13, "eu-south".to_owned())]),
                asns: BTreeMap::from([(1, 64_501)]),
            };
            let cdn = Cdn::new(config).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            script.lock().unwrap().bases.push((name.to_owned(), format!("http://{}", listener.local_addr().unwrap())));
            tokio::spawn(cdn::serve(listener, Arc::clone(&cdn)));
            cdns.insert(name.to_owned(), cdn);
        }
        let routes = Router::new()
            .route("/master.m3u8", get(playlist))
            .route("/steer", get(steer))
            .route("/v1/beacons", post(collect))
            .with_state(Arc::clone(&script));
        let base = listen(routes).await;
        {
            let mut script = script.lock().unwrap();
            script.first = "a".to_owned();
            script.priority = vec!["a".to_owned(), "b".to_owned()];
            script.steering_uri = format!("{base}/steer?t=x");
        }
        let around = Surroundings {
            playlist_url: Url::parse(&format!("{base}/master.m3u8")).unwrap(),
            beacon_url: Url::parse(&format!("{base}/v1/beacons?k=demo-key")).unwrap(),
            content_id: "live/river".to_owned(),
            clock,
            totals: Arc::new(Totals::default()),
        };
        Self { script, cdns, around }
    }

    fn start(&self, behaviour: Behaviour) -> (Arc<View>, CancellationToken) {
        let plan = ViewPlan {
            view_id: "view-1".to_owned(),
            region: "eu-south".to_owned(),
            address: Ipv4Addr::new(127, 13, 1, 2),
            behaviour,
            device_class: "tv",
            access_bps: 8_000_000,
            start_after_ms: 2_000,
            stay_ms: 600_000,
            seed: 7,
        };
        let view = Arc::new(View::new(plan, self.around.clone()).unwrap());
        let leave = CancellationToken::new();
        let (running, token) = (Arc::clone(&view), leave.clone());
        tokio::spawn(async move { running.run(&token).await });
        (view, leave)
    }

    fn fault(&self, kind: FaultKind) {
        assert!(self.cdns["a"].faults().set(Fault::in_region("eu-south", kind)));
    }

    fn steer_to(&self, priority: [&str; 2]) {
        self.script.lock().unwrap().priority = priority.map(str::to_owned).to_vec();
    }

    fn kinds(&self) -> Vec<String> {
        self.script.lock().unwrap().events.iter().map(|event| event.kind.clone()).collect()
    }
}

async fn playlist(State(script): State<Shared>) -> String {
    let script = script.lock().unwrap();
    let mut out = String::from("#EXTM3U\n");
    let (uri, first) = (&script.steering_uri, &script.first);
    out += &format!("#EXT-X-CONTENT-STEERING:SERVER-URI=\"{uri}\",PATHWAY-ID=\"{first}\"\n");
    for (name, base) in &script.bases {
        out += &format!("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{name}\",NAME=\"x\",URI=\"{base}/live/river/a48.m3u8\"\n");
        for (video, bandwidth) in [("v144", 200_000), ("v360", 450_000)] {
            out += &format!(
                "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},AUDIO=\"{name}\",PATHWAY-ID=\"{name}\",\
                 STABLE-VARIANT-ID=\"{video}\"\n{base}/live/river/{video}.m3u8\n"
            );
        }
    }
    out
}

async fn steer(State(script): State<Shared>, RawQuery(query): RawQuery) -> Json<serde_json::Value> {
    let mut script = script.lock().unwrap();
    script.polls.push(query.unwrap_or_default());
    let (uri, priority) = (&script.steering_uri, &script.priority);
    Json(json!({ "VERSION": 1, "TTL": 2, "RELOAD-URI": uri, "PATHWAY-PRIORITY": priority }))
}

async fn collect(State(script): State<Shared>, body: bytes::Bytes) -> Response {
    let received = beacon::parse(&body).unwrap();
    assert_eq!(received.rejected, []);
    let mut script = script.lock().unwrap();
    script.beacons += 1;
    if let Some(status) = script.refusals.pop() {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    let answer =
        json!({ "accepted": received.beacon.events.len(), "rejected": [], "heartbeat_s": 2, "sample_rate": 1.0 });
    script.events.extend(received.beacon.events);
    (StatusCode::ACCEPTED, Json(answer)).into_response()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_view_plays_the_live_loop_climbs_the_ladder_and_reports_it() {
    let scene = Scene::new().await;
    let (view, leave) = scene.start(Behaviour::Hls);
    until("a heartbeat after playing", || {
        let script = scene.script.lock().unwrap();
        script.events.iter().any(|event| event.kind == "heartbeat" && event.bitrate_kbps == Some(450))
    })
    .await;
    leave.cancel();
    until("view_end", || scene.kinds().iter().any(|kind| kind == "view_end")).await;
    let record = view.snapshot();
    assert!(record.first_frame_ms.unwrap() - record.joined_ms < 3_000, "{record:?}");
    assert!(record.stalls.is_empty() && record.failure.is_none(), "{record:?}");
    assert_eq!(record.runs.len(), 1);
    assert!(record.bytes["a"] > 100_000);
    let script = scene.script.lock().unwrap();
    assert_eq!(record.events_acknowledged, script.events.len() as u64);
    let seqs: Vec<u64> = script.events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>());
    assert!(script.polls[0].contains("_HLS_pathway=a"), "{:?}", script.polls);
    let last = script.events.last().unwrap();
    assert!(last.counters.as_ref().unwrap().switch_up >= Some(1));
    assert_eq!(last.pathways["a"].requests_failed, None);
}

#[tokio::test]
async fn on_a_503_an_hls_view_stays_until_steering_moves_it() {
    let scene = Scene::new().await;
    let (view, _leave) = scene.start(Behaviour::Hls);
    until("playing", || view.snapshot().first_frame_ms.is_some()).await;
    scene.fault(FaultKind::Status { status: 503 });
    until("two failures of one pathway", || {
        let script = scene.script.lock().unwrap();
        let failed = |event: &Event| event.request.as_ref().is_some_and(|request| request.status == Some(503));
        script.events.iter().filter(|event| failed(event)).count() >= 2
    })
    .await;
    assert!(view.snapshot().switches.is_empty());
    scene.steer_to(["b", "a"]);
    until("media from b", || view.snapshot().bytes.contains_key("b")).await;
    let record = view.snapshot();
    assert_eq!((record.switches.len(), record.switches[0].cause), (1, Cause::Steering));
    let after_ms = record.runs.last().unwrap().first_ms - record.switches[0].at_ms;
    assert!(after_ms < 500, "{after_ms} ms from the answer to the first request");
    until("the switch is reported", || scene.kinds().iter().filter(|kind| *kind == "pathway_switch").count() == 2)
        .await;
}

#[tokio::test]
async fn a_dash_view_leaves_by_itself_and_flaps_back_at_the_next_poll() {
    let scene = Scene::new().await;
    let (view, _leave) = scene.start(Behaviour::Dash);
    until("playing", || view.snapshot().first_frame_ms.is_some()).await;
    scene.fault(FaultKind::Status { status: 503 });
    until("left and came back", || view.snapshot().switches.len() >= 2).await;
    let record = view.snapshot();
    assert_eq!(record.switches[0].cause, Cause::Player);
    assert_eq!((record.switches[1].to.as_str(), record.switches[1].cause), ("a", Cause::Steering));
}

#[tokio::test]
async fn a_404_is_left_at_once_and_an_unsteered_view_never_polls() {
    let scene = Scene::new().await;
    let (view, _leave) = scene.start(Behaviour::Ignores);
    until("playing", || view.snapshot().first_frame_ms.is_some()).await;
    scene.fault(FaultKind::Status { status: 404 });
    until("left", || !view.snapshot().switches.is_empty()).await;
    let switch = view.snapshot().switches[0].clone();
    assert_eq!((switch.to.as_str(), switch.cause), ("b", Cause::Player));
    assert!(scene.script.lock().unwrap().polls.is_empty());
}

#[tokio::test]
async fn a_hanging_request_is_late_after_four_seconds_and_dropped_when_steered() {
    let scene = Scene::new().await;
    let (view, _leave) = scene.start(Behaviour::Hls);
    until("playing", || view.snapshot().first_frame_ms.is_some()).await;
    scene.fault(FaultKind::Hang);
    until("late", || {
        let script = scene.script.lock().unwrap();
        script.events.iter().any(|event| event.request.as_ref().is_some_and(|r| r.late == Some(true)))
    })
    .await;
    scene.steer_to(["b", "a"]);
    until("media from b", || view.snapshot().bytes.contains_key("b")).await;
}

#[tokio::test]
async fn beacons_are_repeated_with_the_same_numbers_until_they_are_taken() {
    let scene = Scene::new().await;
    scene.script.lock().unwrap().refusals = vec![503, 408, 429];
    let (view, leave) = scene.start(Behaviour::Hls);
    until("taken", || scene.kinds().iter().any(|kind| kind == "first_frame")).await;
    leave.cancel();
    until("view_end", || scene.kinds().iter().any(|kind| kind == "view_end")).await;
    let script = scene.script.lock().unwrap();
    let seqs: Vec<u64> = script.events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>());
    assert_eq!(view.snapshot().events_acknowledged, seqs.len() as u64);
    assert!(script.beacons >= 4);
}

#[tokio::test]
async fn a_view_without_a_playlist_has_failed_and_says_so() {
    let mut scene = Scene::new().await;
    scene.around.playlist_url.set_path("/nothing");
    let (view, _leave) = scene.start(Behaviour::Hls);
    until("failed", || scene.kinds().iter().any(|kind| kind == "view_end")).await;
    assert_eq!(view.snapshot().failure.as_deref(), Some("playlist"));
    let kinds = scene.kinds();
    assert_eq!(kinds, ["view_start", "error", "view_end"]);
}

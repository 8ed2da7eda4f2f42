//! Load reports say what was served, and orders are obeyed.

use std::sync::{Arc, Mutex};

use spillway_wire::load::{Directives, LoadReport, Misses};

use crate::client::{Reply, get, get_from, get_with};
use crate::scripted::{Gate, Scripted, Step, response};
use crate::support::{TOKEN, TestEdge, media};

/// An orchestrator that takes reports and answers with what it is told to.
pub struct Orchestrator {
    server: Scripted,
    directives: Arc<Mutex<Directives>>,
}

pub fn admit() -> Directives {
    Directives { v: 1, epoch: 1, admit: true, ..Directives::default() }
}

impl Orchestrator {
    pub async fn start() -> Self {
        let (server, directives) = (Scripted::start().await, Arc::new(Mutex::new(admit())));
        let answers = directives.clone();
        server.on("/v1/loads", move |_| {
            let body = serde_json::to_vec(&*answers.lock().unwrap()).unwrap();
            vec![Step::Send(response(200, "Content-Type: application/json", &body))]
        });
        Self { server, directives }
    }

    pub async fn edge(&self, origin: &Scripted, lines: &str) -> TestEdge {
        let lines = format!("orchestrators = [\"{}\"]\n{lines}", self.server.url());
        TestEdge::with(&origin.url(), &lines).await
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Reports that came.
    pub fn count(&self) -> usize {
        self.server.count("/v1/loads")
    }

    /// The next report that is not under way yet.
    pub async fn next(&self) -> LoadReport {
        let seen = self.server.asked("/v1/loads", self.server.count("/v1/loads") + 1).await;
        serde_json::from_str(&seen.last().unwrap().body).unwrap()
    }

    /// Gives `directives` and waits until they have been sent and a further report has come, by when they hold.
    pub async fn order(&self, directives: Directives) -> LoadReport {
        *self.directives.lock().unwrap() = directives;
        self.next().await;
        self.next().await
    }
}

#[tokio::test]
async fn a_report_says_what_was_served() {
    let (origin, orchestrator) = (Scripted::start().await, Orchestrator::start().await);
    origin.answer("/vod/film/1.m4s", "Cache-Control: max-age=60", media(500_000));
    origin.answer("/live/river/720p/1.m4s", "Cache-Control: max-age=60", media(100_000));
    let edge = orchestrator.edge(&origin, "ceiling_mbps = 4000").await;
    let mut wire_bytes = 0;
    for viewer in 1..=4 {
        for target in ["/vod/film/1.m4s", "/live/river/720p/1.m4s"] {
            let reply = get_from(edge.address, [127, 0, 0, viewer], &format!("{target}?CMCD=sid%3D%22v%22")).await;
            assert_eq!(reply.status, 200);
            wire_bytes += reply.wire_bytes;
        }
    }
    wire_bytes += get(edge.address, "/missing").await.wire_bytes;
    wire_bytes += get_with(edge.address, "/vod/film/1.m4s", "TE: x\nTransfer-Encoding: chunked").await.wire_bytes;

    let report = orchestrator.next().await;
    let head = &orchestrator.server.seen("/v1/loads")[0];
    assert!(head.head.starts_with("POST /v1/loads "));
    assert_eq!(head.header("authorization"), Some(&*format!("Bearer {TOKEN}")));
    assert_eq!((report.v, report.seq, report.draining), (1, 0, false));
    assert_eq!(
        (&*report.pathway, &*report.region, report.group.as_deref()),
        ("own-test-1", "eu-test", Some("own-test"))
    );
    assert_eq!((&*report.base_url, report.ceiling_bps), ("http://edge.example", 4_000_000_000));
    assert!((1_900..20_000).contains(&report.interval_ms), "{} ms", report.interval_ms);
    let bytes = report.bits_out_bps as f64 * report.interval_ms as f64 / 8_000.0;
    assert!((bytes - wire_bytes as f64).abs() <= 1.0, "{bytes} reported, {wire_bytes} read");
    assert_eq!(report.bits_out_10s_bps, wire_bytes * 8 / 10);
    // Four with an id, and one device without.
    assert_eq!(report.viewers, 5);
    assert_eq!(report.bits_per_viewer_bps, report.bits_out_10s_bps / 5);
    assert_eq!((report.requests, report.requests_failed), (10, 0));
    assert_eq!(report.hit_ratio_ppm, Some(600_000));
    assert_eq!(report.misses, Some(Misses { content: 3, origin: 0, other: 1 }));
    assert_eq!(report.bits_out_p95_bps, None, "of a node that has just begun nobody knows");
    assert_eq!((report.origin.fetches, report.origin.failed, &*report.origin.state), (3, 0, "up"));
    assert_eq!(report.origin.bytes, 600_000 + "no script".len() as u64);
    let content: Vec<_> = report.top_content.iter().map(|load| (&*load.content, load.bits)).collect();
    assert_eq!(content, [("vod/film", 16_000_000), ("live/river", 3_200_000), ("", 72)]);
    assert!(report.memory_bytes.is_none_or(|bytes| bytes > 1_000_000));

    let next = orchestrator.next().await;
    assert_eq!((next.seq, next.requests, next.hit_ratio_ppm, next.bits_out_bps), (1, 0, None, 0));
    assert_eq!(next.viewers, 5);
    edge.clock.forward(11);
    let later = orchestrator.next().await;
    assert_eq!((later.viewers, later.bits_out_10s_bps), (0, 0));
    // The second of the start is no whole one.
    assert!(later.bits_out_p95_bps.is_some());
    assert_eq!(later.bits_out_in_60s_bps, Some(0));
}

#[tokio::test]
async fn an_edge_that_may_not_admit_serves_running_sessions_only() {
    let (origin, orchestrator) = (Scripted::start().await, Orchestrator::start().await);
    origin.answer("/1", "Cache-Control: max-age=600", "x");
    let edge = orchestrator.edge(&origin, "").await;
    let (running, new) = ([127, 0, 0, 1], [127, 0, 0, 2]);
    assert_eq!(get_from(edge.address, running, "/1").await.status, 200);

    orchestrator.order(Directives { admit: false, ..admit() }).await;
    let refused = get_from(edge.address, new, "/1").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("4")));
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"));
    assert!(refused.cache_status().contains("not-admitted"), "{}", refused.head);
    assert_eq!(get_from(edge.address, running, "/1").await.status, 200);
    assert_eq!(get_from(edge.address, new, "/1").await.status, 503, "a refusal doesn't make a session run");

    let elsewhere = Some("http://other.example/base/".to_owned());
    orchestrator.order(Directives { admit: false, redirect_to: elsewhere, ..admit() }).await;
    let moved = get_from(edge.address, new, "/1?sid=a").await;
    assert_eq!((moved.status, moved.header("location")), (307, Some("http://other.example/base/1?sid=a")));

    orchestrator.order(admit()).await;
    assert_eq!(get_from(edge.address, new, "/1").await.status, 200);
}

#[tokio::test]
async fn an_edge_near_its_ceiling_tells_players_what_it_could_carry() {
    let (origin, orchestrator) = (Scripted::start().await, Orchestrator::start().await);
    origin.answer("/1", "Cache-Control: max-age=600\nCMSD-Dynamic: \"shield\";rd=7", media(1_000_000));
    // A megabyte in ten seconds is some 0.8 Mbit/s.
    let edge = orchestrator.edge(&origin, "ceiling_mbps = 0.8").await;
    let calm = get_from(edge.address, [127, 0, 0, 1], "/1").await;
    let says = |reply: &Reply, word: &str| reply.header("cmsd-dynamic").is_some_and(|told| told.contains(word));
    assert!(!says(&calm, "du") && !says(&calm, "mb=") && !says(&calm, "shield"), "{}", calm.head);
    orchestrator.order(admit()).await;
    let running = get_from(edge.address, [127, 0, 0, 1], "/1").await;
    let told = running.header("cmsd-dynamic");
    assert!(told.is_some_and(|told| told.starts_with("\"own-test-1\";du;mb=700")), "{}", running.head);
    assert!(running.header("access-control-expose-headers").is_some_and(|names| names.contains("CMSD-Dynamic")));
    edge.clock.forward(11);
    orchestrator.order(admit()).await;
    let after = get_from(edge.address, [127, 0, 0, 3], "/1").await;
    assert!(!says(&after, "du") && !says(&after, "mb="), "{}", after.head);
}

#[tokio::test]
async fn a_drained_edge_says_so_and_lets_its_sessions_finish() {
    let (origin, orchestrator) = (Scripted::start().await, Orchestrator::start().await);
    origin.answer("/1", "Cache-Control: max-age=600", "x");
    let edge = orchestrator.edge(&origin, "").await;
    assert_eq!(get_from(edge.address, [127, 0, 0, 1], "/1").await.status, 200);

    let report = orchestrator.order(Directives { drain: true, ..admit() }).await;
    assert!(report.draining);
    assert_eq!(get_from(edge.address, [127, 0, 0, 2], "/1").await.status, 503);
    assert_eq!(get_from(edge.address, [127, 0, 0, 1], "/1").await.status, 200);
    assert_eq!(get(edge.address, "/.spillway/readyz").await.status, 503);
    edge.clock.forward(31);
    assert_eq!(get_from(edge.address, [127, 0, 0, 1], "/1").await.status, 200, "orders that nobody renews end");
}

#[tokio::test]
async fn paths_to_prewarm_are_fetched_before_they_are_asked_for() {
    let (origin, orchestrator) = (Scripted::start().await, Orchestrator::start().await);
    origin.answer("/next.m4s?x=1", "Cache-Control: max-age=600", "next");
    let edge = orchestrator.edge(&origin, "").await;
    let prewarm = vec!["/../etc/passwd".to_owned(), "no-slash".into(), "/next.m4s?x=1".into()];
    orchestrator.order(Directives { prewarm, ..admit() }).await;
    origin.asked("/next.m4s?x=1", 1).await;
    let reply = get(edge.address, "/next.m4s?x=1").await;
    assert_eq!(reply.body, b"next");
    assert_eq!((origin.count("/next.m4s?x=1"), origin.count("/../etc/passwd")), (1, 0));
}

#[tokio::test]
async fn an_edge_at_its_ceiling_admits_no_new_session_by_itself() {
    let origin = Scripted::start().await;
    origin.answer("/1", "Cache-Control: max-age=600", media(1_000_000));
    let edge = TestEdge::with(&origin.url(), "ceiling_mbps = 0.5").await;
    assert_eq!(get_from(edge.address, [127, 0, 0, 1], "/1").await.status, 200);
    let refused = get_from(edge.address, [127, 0, 0, 2], "/1").await;
    assert_eq!(refused.status, 503);
    assert!(refused.cache_status().contains("full"), "{}", refused.head);
    assert_eq!(get_from(edge.address, [127, 0, 0, 1], "/1").await.status, 200);
    edge.clock.forward(12);
    assert_eq!(get_from(edge.address, [127, 0, 0, 2], "/1").await.status, 200);
}

#[tokio::test]
async fn requests_do_not_wait_for_an_orchestrator_that_hangs_or_talks_nonsense() {
    let (origin, hanging, silly) = (Scripted::start().await, Scripted::start().await, Scripted::start().await);
    origin.answer("/1", "Cache-Control: max-age=600", "x");
    let never = Gate::new();
    hanging.on("/v1/loads", move |_| vec![Step::Wait(never.clone())]);
    silly.answer("/v1/loads", "", r#"{"v":2,"epoch":9,"admit":false,"drain":true}"#);
    let dead = Scripted::start().await.url();
    let lines = format!("orchestrators = [\"{}\", \"{}\", \"{dead}\"]", hanging.url(), silly.url());
    let edge = TestEdge::with(&origin.url(), &lines).await;
    hanging.asked("/v1/loads", 1).await;
    for _ in 0..20 {
        assert_eq!(get(edge.address, "/1").await.status, 200);
    }
    silly.asked("/v1/loads", 2).await;
    assert_eq!(get_from(edge.address, [127, 0, 0, 2], "/1").await.status, 200);
}

#[tokio::test]
async fn the_last_report_says_that_the_edge_goes() {
    let (origin, orchestrator) = (Scripted::start().await, Orchestrator::start().await);
    let edge = orchestrator.edge(&origin, "").await;
    assert!(!orchestrator.next().await.draining);
    edge.shutdown.cancel();
    let last = loop {
        let report = orchestrator.next().await;
        if report.draining {
            break report;
        }
    };
    assert!(last.seq >= 1);
}

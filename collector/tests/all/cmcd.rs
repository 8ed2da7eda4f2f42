//! CMCD in event mode goes all the way, as real players send it.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Hand, KEY, NOW_MS, Running, answer, beacon, config, event, of, start, start_with};

async fn post_to(running: &Running, query: &str, media_type: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
    let request = running.client.post(format!("{}/v1/cmcd{query}", running.base));
    let request = request.header("content-type", media_type).header("x-client", "10.1.2.3").body(body);
    answer(request.send().await.expect("answer")).await
}

async fn post(running: &Running, body: impl Into<reqwest::Body>) -> (u16, Value) {
    post_to(running, &format!("?k={KEY}"), "application/cmcd", body).await
}

/// A record of view `v`; its numbers and its times are seconds.
fn record(sn: u64, keys: &str) -> String {
    format!("{keys},sid=\"v\",sn={sn},ts={},v=2\n", NOW_MS + sn * 1_000)
}

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/wire/golden/cmcd").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

async fn balanced(running: &Running) -> Value {
    let counters = running.counters().await;
    let discarded: u64 = counters["discarded"].as_object().expect("map").values().filter_map(Value::as_u64).sum();
    let of = |name: &str| counters[name].as_u64().expect("count");
    assert_eq!(of("received"), of("accepted") + discarded, "{counters}");
    assert_eq!(running.query("SELECT count(*) FROM events_raw").await, of("accepted"));
    counters
}

#[tokio::test]
async fn what_the_players_send_is_stored_record_by_record_and_committed() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, spillway_collector::CollectorConfig { commit_interval_s: 1, ..config() }).await;
    let mut lines = 0;
    for name in ["hlsjs.txt", "dashjs.txt", "shaka.txt", "v1-scalars.txt", "every-key.txt"] {
        let body = golden(name);
        let records = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
        let (status, answer) = post(&running, body).await;
        assert_eq!((status, answer["accepted"].as_u64(), &answer["rejected"]), (200, Some(records as u64), &json!([])));
        lines += records as u64;
    }
    let counters = balanced(&running).await;
    assert_eq!((counters["received"].as_u64(), counters["accepted"].as_u64()), (Some(lines), Some(lines)));
    assert_eq!((counters["cmcd_records"].as_u64(), counters["cmcd_unlinked"].as_u64()), (Some(lines), Some(3)));
    let committed = async {
        while running.tail.stats().committed_rows < lines {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), committed).await.expect("a commit");
    assert_eq!(running.query("SELECT count(*) FROM events_committed").await, lines);
    for (sql, count) in [
        (
            "source = 'cmcd' AND sdk = 'cmcd/2' AND region = 'eu-a' AND watched_ms IS NULL AND dropped_events IS NULL",
            lines,
        ),
        ("view_id LIKE 'unlinked-%' AND content_id IS NULL", 3),
        ("type = 'segment' AND request_status = 503", 2),
        ("live_latency_ms = 4100 AND cmcd['com.example-who'] = 'me' AND startup_ms = 640 AND stall_ms = 1200", 1),
        ("cmcd['url'] LIKE '%secret%' OR cmcd['nor'] LIKE '%token%'", 0),
        ("cmcd['com.example-tok'] = 'ünï'", 1),
        ("request_host = 'a.example:81' AND request_pathway = 'cdn-a'", 1),
    ] {
        assert_eq!(running.query(&format!("SELECT count(*) FROM events WHERE {sql}")).await, count, "{sql}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_retry_is_a_duplicate_and_a_new_generation_of_sn_is_not_also_after_a_restart() {
    let dir = tempfile::tempdir().expect("dir");
    let clock = Arc::new(Hand::default());
    let running = start_with(dir.path(), config(), Arc::clone(&clock)).await;
    let body = format!("{}{}", record(0, "e=t"), record(1, "e=ps,sta=s"));
    assert_eq!(post(&running, body.clone()).await.1["accepted"], 2);
    assert_eq!(post(&running, body.clone()).await.1["accepted"], 2, "accepted silently");
    // The same page loads again: the same sid, sn from 0.
    let again = body.replace("ts=17672256", "ts=17672257");
    assert_eq!(post(&running, again).await.1["accepted"], 2);
    // POSTs overtake each other.
    assert_eq!(post(&running, record(9, "e=t")).await.1["accepted"], 1);
    assert_eq!(post(&running, record(8, "e=t")).await.1["accepted"], 1);
    // Another target of the same player sends the same records once more: another source.
    assert_eq!(post_to(&running, &format!("?k={KEY}&t=tv"), "text/plain", body.clone()).await.1["accepted"], 2);
    let counters = balanced(&running).await;
    assert_eq!((&counters["discarded"], counters["accepted"].as_u64()), (&json!({"duplicate": 2}), Some(8)));
    assert_eq!(running.query("SELECT count(*) FROM events WHERE source = 'cmcd:tv'").await, 2);
    running.kill().await;
    let running = start_with(dir.path(), config(), clock).await;
    assert_eq!(post(&running, body).await.1["accepted"], 2);
    assert_eq!(running.counters().await["discarded"], json!({"duplicate": 2}));
    assert_eq!(running.stored().await, 8);
    running.stop().await;
}

#[tokio::test]
async fn records_without_sid_are_counted_stored_and_of_no_view() {
    let dir = tempfile::tempdir().expect("dir");
    let mut running = start(&dir, config()).await;
    let bare = format!("e=rr,ts={NOW_MS},v=2\n").repeat(2)
        + &format!("e=rr,rc=503,ts={NOW_MS},url=\"http://a.example:81/1\",v=2");
    assert_eq!(post(&running, bare.clone()).await.1["accepted"], 3);
    assert_eq!(post(&running, bare.clone()).await.1["accepted"], 3, "a retry");
    let elsewhere = running.client.post(format!("{}/v1/cmcd?k={KEY}", running.base)).header("x-client", "10.1.9.9");
    let response = elsewhere.header("content-type", "application/cmcd").body(bare).send().await.expect("answer");
    assert_eq!(response.status(), 200, "another viewer says the same in the same millisecond");
    let counters = balanced(&running).await;
    assert_eq!((counters["cmcd_unlinked"].as_u64(), counters["accepted"].as_u64()), (Some(9), Some(6)));
    assert_eq!(counters["discarded"], json!({"duplicate": 3}));
    let frame = running.frame().await;
    assert!(frame.cells.is_empty(), "{frame:?}");
    running.stop().await;
}

#[tokio::test]
async fn each_bad_line_costs_itself_and_has_its_reason() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let lines: [(&[u8], Option<&str>); 12] = [
        (b"e=t,sid=\"v\",sn=0,ts=1767225600000", None),
        (b"{\"e\":\"t\"}", Some("bad_syntax")),
        (b"e=t,cid=\"\xff\",ts=1", Some("bad_syntax")),
        (b"e=t,pr=NaN,,ts=1", Some("bad_syntax")),
        (b"e=t,ts=17672256000000000", Some("bad_syntax")),
        (b"sid=\"v\",ts=1767225600000", Some("missing_field")),
        (b"e=t,sid=\"v\"", Some("missing_field")),
        (b"e=t,sid=\"v\",ts=-1", Some("bad_value")),
        (b"e=t,sid=\"v\",ts=5000", Some("too_old")),
        (b"e=t,sid=\"\",ts=1767225600000", Some("bad_id")),
        (b"e=zz,sid=\"v\",sn=1,ts=4102444800000", None),
        (b"br=fast,e=t,sid=\"v\",sn=2,ts=1767225600000,bl=(-4;v)", None),
    ];
    let body: Vec<u8> = lines.iter().flat_map(|(line, _)| [*line, b"\r\n"].concat()).collect();
    let (status, answer) = post(&running, body).await;
    let found: Vec<(usize, &str)> = answer["rejected"]
        .as_array()
        .expect("list")
        .iter()
        .map(|event| (event["index"].as_u64().expect("index") as usize, event["reason"].as_str().expect("reason")))
        .collect();
    let expected: Vec<(usize, &str)> =
        lines.iter().enumerate().filter_map(|(index, (_, reason))| Some((index, (*reason)?))).collect();
    assert_eq!((status, answer["accepted"].as_u64(), found), (200, Some(3), expected));
    balanced(&running).await;
    let future = format!("SELECT count(*) FROM events WHERE type = 'other' AND event_ms = {NOW_MS}");
    assert_eq!(running.query(&future).await, 1, "the future is now, and an unknown event is kept");
    assert_eq!(running.query("SELECT count(*) FROM events WHERE cmcd['br'] = 'fast' AND buffer_ms IS NULL").await, 1);
    running.stop().await;
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("write");
    encoder.finish().expect("finish")
}

#[tokio::test]
async fn bad_bodies_are_refused_whole() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let good = record(0, "e=t").into_bytes();
    let bodies: [(Vec<u8>, u16, &str); 6] = [
        (vec![], 400, "empty_body"),
        (b"\r\n\n  \n".to_vec(), 400, "empty_body"),
        (vec![b'\n'; 10 << 20], 413, "body_too_large"),
        (gzip(&vec![b' '; 100 << 20]), 413, "body_too_large"),
        (gzip(&good)[..20].to_vec(), 400, "bad_gzip"),
        (gzip(&b"e=t,ts=1\n".repeat(4_001)), 400, "too_many_events"),
    ];
    for (body, status, reason) in bodies {
        let (found, answer) = post(&running, body).await;
        assert_eq!((found, answer["error"].as_str()), (status, Some(reason)), "{answer}");
    }
    let key = format!("?k={KEY}");
    for (query, media_type, status, reason) in [
        ("", "application/cmcd", 401, "missing_key"),
        ("?k=key-of-nobody", "application/cmcd", 403, "unknown_key"),
        (key.as_str(), "application/json", 415, "unsupported_media_type"),
        (&format!("{key}&t=a%2Fb"), "application/cmcd", 400, "bad_target"),
        (&format!("{key}&t="), "application/cmcd", 400, "bad_target"),
    ] {
        let (found, answer) = post_to(&running, query, media_type, good.clone()).await;
        assert_eq!((found, answer["error"].as_str()), (status, Some(reason)), "{query} {media_type}");
    }
    let (status, answer) = post(&running, gzip(format!("e=t,sid=\"{}\",ts=1", "v".repeat(1 << 20)).as_bytes())).await;
    assert_eq!((status, answer["rejected"][0]["reason"].as_str()), (200, Some("too_long")));
    assert_eq!(running.tail.stats().wal_seq, 0, "nothing of it is stored");
    assert_eq!(post(&running, gzip(&good)).await.1["accepted"], 1, "gzip without its header");
    running.stop().await;
}

#[tokio::test]
async fn a_slow_body_is_given_up() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, spillway_collector::CollectorConfig { body_timeout_ms: 100, ..config() }).await;
    let mut stream = TcpStream::connect(running.address).await.expect("connect");
    let head = format!(
        "POST /v1/cmcd?k={KEY} HTTP/1.1\r\nhost: x\r\ncontent-type: application/cmcd\r\ncontent-length: 500\r\n\r\ne=t"
    );
    stream.write_all(head.as_bytes()).await.expect("write");
    let mut answer = vec![0; 1024];
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer)).await;
    let text = String::from_utf8_lossy(&answer[..read.expect("in time").expect("answer")]).into_owned();
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");
    running.stop().await;
}

#[tokio::test]
async fn browsers_may_send_and_keep_the_preflights_answer() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let url = format!("{}/v1/cmcd?k={KEY}", running.base);
    let preflight = running.client.request(reqwest::Method::OPTIONS, &url).header("origin", "https://x.example");
    let preflight = preflight.header("access-control-request-headers", "content-type").send().await.expect("answer");
    assert_eq!(
        (preflight.status().as_u16(), &preflight.headers()["access-control-max-age"]),
        (204, &"7200".parse().expect("value"))
    );
    assert!(preflight.headers()["access-control-allow-headers"].to_str().expect("text").contains("content-type"));
    let strict = running.client.post(format!("{}/v1/cmcd?k=key-of-strict", running.base));
    let strict = strict.header("origin", "https://evil.example").header("content-type", "application/cmcd");
    assert_eq!(strict.body(record(0, "e=t")).send().await.expect("answer").status(), 403);
    let post =
        running.client.post(&url).header("origin", "https://x.example").header("content-type", "application/cmcd");
    let post = post.body(record(0, "e=t")).send().await.expect("answer");
    assert_eq!(post.headers()["access-control-allow-origin"], "https://x.example");
    running.stop().await;
}

/// A view of cdn-a that plays.
async fn playing(running: &mut Running) {
    let start = [
        record(0, "e=t"),
        record(1, "e=ps,sta=s,sf=d"),
        record(2, "e=rr,ot=v,rc=200,ttfb=40,ttlb=90,url=\"http://a.example:81/1.m4s?t=1\""),
        record(3, "e=ps,sta=p,msd=900"),
    ];
    assert_eq!(post(running, start.concat()).await.0, 200);
    let frame = running.frame().await;
    let a = of(&frame, "cdn-a").expect("cdn-a");
    assert_eq!((a.views_new, a.views_active, a.requests_ok, a.requests_failed), (1, 1, 1, 0));
    assert_eq!((a.key.protocol.as_str(), a.key.region.as_str(), a.key.asn), ("dash", "eu-a", Some(64_500)));
    assert_eq!(a.ttfb_sketch.values().sum::<u64>(), 1);
}

#[tokio::test]
async fn failed_and_late_responses_and_stalls_reach_the_health_of_their_pathway() {
    let dir = tempfile::tempdir().expect("dir");
    let mut running = start(&dir, config()).await;
    playing(&mut running).await;
    let body = [
        record(20, "e=t,sta=p"),
        record(21, "e=rr,ot=v,rc=503,url=\"http://b.example/2.m4s\""),
        record(22, "e=rr,ot=v,rc=200,ttfb=4900,ttlb=5000,url=\"http://a.example:81/3.m4s\""),
        record(23, "e=rr,ot=k,rc=500,url=\"https://keys.example/k\""),
        record(24, "e=rr,rc=403,url=\"http://a.example:81/4.m4s\""),
        record(30, "e=ps,sta=r,bsa=(1)"),
        record(33, "e=ps,sta=p,bsd=(3000),bsda=(3000)"),
        record(50, "e=t,sta=p"),
    ];
    assert_eq!(post(&running, body.concat()).await.1["accepted"], 8);
    let frame = running.frame().await;
    let (a, b) = (of(&frame, "cdn-a").expect("cdn-a"), of(&frame, "cdn-b").expect("cdn-b"));
    assert_eq!((b.requests_failed, b.views_failing, b.views_active), (1, 1, 0));
    assert_eq!((a.requests_failed, a.requests_late, a.requests_ok), (0, 1, 1), "keys and rights are not of the path");
    assert_eq!((a.windows, a.bad.get("stall"), a.stall_ms), (2, Some(&1), 3_000));
    assert_eq!((a.heartbeats_received, a.views_active), (2, 1));
    running.stop().await;
}

#[tokio::test]
async fn a_fatal_error_counts_once_also_if_the_state_comes_first() {
    let dir = tempfile::tempdir().expect("dir");
    let mut running = start(&dir, config()).await;
    playing(&mut running).await;
    post(&running, record(5, "e=ps,sta=f")).await;
    post(&running, record(6, "e=e,ec=(\"fragLoadTimeOut\"),sta=f")).await;
    post(&running, record(7, "e=e,ec=(\"fragLoadTimeOut\"),sta=f")).await;
    let frame = running.frame().await;
    assert_eq!(of(&frame, "cdn-a").expect("cdn-a").bad["fatal_error"], 1);
    running.stop().await;
}

#[tokio::test]
async fn the_sdk_wins_over_cmcd_in_health_and_both_are_stored() {
    let dir = tempfile::tempdir().expect("dir");
    let mut running = start(&dir, config()).await;
    playing(&mut running).await;
    let start = event("view_start", 0, json!({"pathway": "cdn-b"}));
    assert_eq!(running.post(beacon("v", json!([start]))).await.0, 202);
    let frame = running.frame().await;
    assert_eq!(frame.cells.iter().map(|cell| cell.views_new).sum::<u64>(), 0, "the view is known");
    assert_eq!(frame.cells.iter().map(|cell| cell.views_active).sum::<u64>(), 1);
    let failed = record(40, "e=rr,ot=v,rc=503,url=\"http://a.example:81/2.m4s\"");
    assert_eq!(post(&running, failed).await.1["accepted"], 1);
    let frame = running.frame().await;
    assert!(frame.cells.iter().all(|cell| cell.requests_failed == 0), "{frame:?}");
    assert_eq!(running.query("SELECT count(*) FROM events WHERE view_id = 'v' AND request_status = 503").await, 1);
    running.stop().await;
}

#[tokio::test]
async fn silence_of_a_player_that_sends_no_heartbeats_is_not_held_against_the_path() {
    let dir = tempfile::tempdir().expect("dir");
    let mut running = start(&dir, config()).await;
    post(&running, record(1, "e=ps,sta=s") + &record(2, "e=rr,rc=200,url=\"http://a.example:81/1.m4s\"")).await;
    running.clock.advance_ms(80_000);
    let frame = running.frame().await;
    assert_eq!(of(&frame, "cdn-a").map(|cell| cell.windows), Some(0));
    running.stop().await;
}

#[tokio::test]
async fn cdn_and_host_name_the_pathway() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let body = [record(1, "cdn=\"cdn-b\",e=t"), record(2, "cdn=\"made-up\",e=t"), record(3, "e=h,h=\"A.example:81\"")];
    assert_eq!(post(&running, body.concat()).await.1["accepted"], 3);
    for (sql, count) in [
        ("pathway = 'cdn-b' AND type = 'heartbeat'", 1),
        ("pathway IS NULL AND cmcd['cdn'] = 'made-up'", 1),
        ("type = 'pathway_switch' AND pathway = 'cdn-a' AND to_pathway = 'cdn-a'", 1),
    ] {
        assert_eq!(running.query(&format!("SELECT count(*) FROM events WHERE {sql}")).await, count, "{sql}");
    }
    running.stop().await;
}

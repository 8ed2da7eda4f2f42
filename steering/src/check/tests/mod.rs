//! Real sockets: servers with one fault each, the own edge, certificates.

mod certificates;
mod kinds;
mod server;

use std::time::Duration;

use server::{Asked, Fault, Server, asked, faults, lines_of, report};
use spillway_own_edge::{EdgeConfig, EdgeShell};
use spillway_service::{CancellationToken, Readiness, SystemClock};
use tokio::net::TcpListener;

use super::{Report, Target, Verdict, Wanted};

const LIVE: Option<&str> = Some("live/master.m3u8");

/// The only fault of a server, and a word that its line says.
async fn only_fault(fault: Fault, path: Option<&str>, check: &str, word: &str) -> Report {
    found_once(Server::new(fault), path, check, word).await
}

async fn found_once(server: Server, path: Option<&str>, check: &str, word: &str) -> Report {
    let report = asked(&server, path).await;
    let found = faults(&report);
    assert!(!found.is_empty(), "{:?}: no fault in\n{report}", server.fault);
    for line in found {
        assert_eq!(line.check, check, "{:?}\n{report}", server.fault);
        assert!(line.to_string().contains(word), "{line}");
        assert!(line.to_string().starts_with("FAULT"), "{line}");
    }
    report
}

#[tokio::test]
async fn a_healthy_server_has_no_fault_in_hls_live_and_dash() {
    for path in [None, LIVE, Some("vod/x.mpd"), Some("vod/v360/1.m4s")] {
        let report = asked(&Server::new(Fault::None), path).await;
        assert_eq!(report.faults, 0, "{report}");
        let warned: Vec<&str> =
            report.lines.iter().filter(|line| line.verdict != Verdict::Ok).map(|line| line.check).collect();
        // No AAAA, no TLS.
        assert_eq!(warned, ["ipv6", "tls.handshake"], "{report}");
        for check in
            ["cors.200", "cors.206", "cors.304", "cors.404", "range.middle", "origin.whole", "origin.range", "clock"]
        {
            assert!(!lines_of(&report, check).is_empty(), "{check} in {path:?}\n{report}");
        }
    }
}

#[tokio::test]
async fn each_status_without_cors_is_named() {
    for (status, check) in
        [(200, "cors.200"), (206, "cors.206"), (304, "cors.304"), (404, "cors.404"), (416, "cors.416")]
    {
        only_fault(Fault::NoCorsOn(status), None, check, &format!("{status} without Access-Control-Allow-Origin"))
            .await;
    }
    let refusing = Server { signed: true, ..Server::new(Fault::NoCorsOn(403)) };
    found_once(refusing, None, "cors.403", "403 without").await;
}

#[tokio::test]
async fn wrong_bytes_and_wrong_ranges_are_named() {
    only_fault(Fault::WrongBytes, None, "origin.whole", "SHA-256").await;
    let report = asked(&Server::new(Fault::WrongPart), None).await;
    let found: Vec<&str> = faults(&report).iter().map(|line| line.check).collect();
    assert_eq!(found, ["range.first", "range.middle", "origin.range"], "{report}");
    let report = asked(&Server::new(Fault::IgnoresRange), None).await;
    let found: Vec<&str> = faults(&report).iter().map(|line| line.check).collect();
    assert_eq!(found, ["range.first", "range.middle", "range.beyond"], "{report}");
    assert!(lines_of(&report, "range.first")[0].came.contains("Range is ignored"), "{report}");
    only_fault(Fault::IgnoresRangeBeyond, None, "range.beyond", "valid: 416").await;
    only_fault(Fault::HeadRefused, None, "head", "405").await;
}

#[tokio::test]
async fn a_live_playlist_that_is_kept_too_long_is_named() {
    only_fault(Fault::LongLiveCache, LIVE, "cache.control", "max-age of 2 or less").await;
    only_fault(Fault::OldCopy, LIVE, "cache.age", "Age: 30").await;
    let report = asked(&Server::new(Fault::No304), None).await;
    assert_eq!((report.faults, lines_of(&report, "cache.validator")[0].verdict), (0, Verdict::Warn), "{report}");
}

#[tokio::test]
async fn signed_urls_open_and_no_other_does() {
    let signed = |fault| Server { signed: true, ..Server::new(fault) };
    for path in [None, LIVE, Some("vod/x.mpd"), Some("vod/v360/1.m4s")] {
        let report = asked(&signed(Fault::None), path).await;
        assert_eq!(report.faults, 0, "{report}");
        for check in
            ["token.signed", "token.unsigned", "token.tampered", "token.other_title", "token.expired", "cors.403"]
        {
            let lines = lines_of(&report, check);
            assert!(!lines.is_empty() && lines.iter().all(|line| line.verdict == Verdict::Ok), "{check}\n{report}");
        }
        let text = serde_json::to_string(&report).expect("JSON") + &report.to_string();
        assert!(!text.contains("/~"), "a token is told:\n{text}");
    }
    let report = asked(&signed(Fault::AnotherKey), LIVE).await;
    let found: Vec<&str> = faults(&report).iter().map(|line| line.check).collect();
    assert_eq!(found, ["get", "token.signed"], "{report}");
    assert!(lines_of(&report, "token.signed")[0].valid.contains("[steer.signers.edges]"), "{report}");
    for (fault, check, word) in [
        (Fault::AcceptsUnsigned, "token.unsigned", "anybody is let in"),
        (Fault::AcceptsTampered, "token.tampered", "not looked at"),
        (Fault::AcceptsExpired, "token.expired", "never ends"),
        (Fault::AcceptsOtherTitles, "token.other_title", "titles that it is not for"),
    ] {
        found_once(signed(fault), None, check, word).await;
    }
}

#[tokio::test]
async fn a_clock_that_is_off_is_named() {
    for off_ms in [10_000, -10_000] {
        only_fault(Fault::ClockOff(off_ms), None, "clock", "of").await;
    }
    let report = asked(&Server::new(Fault::ClockOff(4_000)), None).await;
    assert_eq!((report.faults, lines_of(&report, "clock")[0].verdict), (0, Verdict::Warn), "{report}");
}

#[tokio::test]
async fn what_is_not_there_must_not_look_like_media() {
    only_fault(Fault::FoundAlways, None, "get.absent", "take this for media").await;
}

#[tokio::test]
async fn a_redirect_to_another_host_is_named_and_not_followed() {
    let other = Server::new(Fault::None);
    let to = other.start().await;
    let report = only_fault(Fault::Redirects(to), None, "get", "(not followed)").await;
    let text = report.to_string();
    assert!(text.contains(&to.to_string()) && !text.contains("secret"), "{text}");
    let report = asked(&Server::new(Fault::RedirectsWithin), None).await;
    assert_eq!(report.faults, 0, "{report}");
    let first = lines_of(&report, "get")[0];
    assert_eq!(first.verdict, Verdict::Warn, "{first}");
    assert!(first.came.contains("302 to /vod/v360/i.m3u8"), "{first}");
}

#[tokio::test]
async fn a_playlist_that_leads_elsewhere_is_named_and_not_followed() {
    let report = asked(&Server::new(Fault::None), Some("vod/astray.m3u8")).await;
    let line = lines_of(&report, "path")[0];
    assert_eq!(line.verdict, Verdict::Warn, "{line}");
    assert!(line.came.contains("http://ads.example"), "{line}");
    assert_eq!(lines_of(&report, "segment")[0].verdict, Verdict::Untried, "{report}");
}

#[tokio::test]
async fn an_answer_that_hangs_or_breaks_off_ends_in_time() {
    let (at, origin) = (Server::new(Fault::HangsOnSegments).start().await, Server::new(Fault::None).start().await);
    let asked = Asked { scheme: "http", at, path: None, origin, signed: false, authorities: None };
    let target = Target { timeout: Duration::from_millis(200), ..asked.target() };
    let report = report(&target).await;
    let found: Vec<(&str, &str)> = faults(&report).iter().map(|line| (line.check, line.came.as_str())).collect();
    assert_eq!(found, [("get", "no answer in 0.2 s"), ("get.absent", "no answer in 0.2 s")], "{report}");
    only_fault(Fault::BreaksOff, None, "get", "breaks off after").await;
}

#[tokio::test]
async fn of_a_body_beyond_the_bound_a_part_is_compared() {
    let report = asked(&Server::new(Fault::None), Some("vod/big.mp4")).await;
    assert_eq!(report.faults, 0, "{report}");
    assert!(lines_of(&report, "get")[0].came.starts_with("200, more than 67108864 bytes"), "{report}");
    assert_eq!(lines_of(&report, "origin.whole")[0].verdict, Verdict::Untried, "{report}");
    assert_eq!(lines_of(&report, "origin.range")[0].verdict, Verdict::Ok, "{report}");
    assert_eq!(lines_of(&report, "head")[0].came, "200, 68157440 bytes", "{report}");
}

#[tokio::test]
async fn nobody_there_is_said_once() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("port").local_addr().expect("address");
    let what = format!("http://{closed}");
    let wanted = Wanted { what: &what, probed: ["vod/master.m3u8", "vod/1.m4s"], ..Wanted::default() };
    let report = report(&Target::new(&wanted, None).expect("a target")).await;
    let found: Vec<&str> = faults(&report).iter().map(|line| line.check).collect();
    assert_eq!(found, ["ipv4"], "{report}");
    assert_eq!(lines_of(&report, "get")[0].verdict, Verdict::Untried, "{report}");
    let wanted = Wanted { what: "http://no-such-name.invalid", ..wanted };
    let report = self::report(&Target::new(&wanted, None).expect("a target")).await;
    assert!(lines_of(&report, "ipv4")[0].came.contains("no-such-name.invalid is not found"), "{report}");
}

#[tokio::test]
async fn each_family_is_tried_by_itself() {
    let here = TcpListener::bind("[::1]:0").await.ok().and_then(|listener| listener.local_addr().ok());
    let closed = here.unwrap_or_else(|| "[::1]:9".parse().expect("address"));
    let (at, origin) = (Server::new(Fault::None).start().await, Server::new(Fault::None).start().await);
    let asked = Asked { scheme: "http", at, path: None, origin, signed: false, authorities: None };
    let target = Target { at: vec![at, closed], ..asked.target() };
    let report = report(&target).await;
    // A machine without IPv6 can say nothing of it.
    let expected = if here.is_some() { Verdict::Fault } else { Verdict::Untried };
    let line = lines_of(&report, "ipv6")[0];
    assert_eq!(line.verdict, expected, "{line}");
    assert!(line.came.contains("::1: "), "{line}");
    assert_eq!(lines_of(&report, "ipv4")[0].verdict, Verdict::Ok, "{report}");
    assert_eq!(report.faults, usize::from(here.is_some()), "the rest is asked by the address that answers\n{report}");
}

#[tokio::test]
async fn the_own_edge_is_healthy() {
    let origin = Server::new(Fault::None).start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let at = listener.local_addr().expect("address");
    let lines = format!(
        "pathway = \"own-x-1\"\nregion = \"eu-a\"\nbase_url = \"http://{0}\"\norigin = \"http://{origin}\"\nceiling_mbps = 1000",
        server::HOST
    );
    let edge: EdgeConfig = toml::from_str(&lines).expect("an edge");
    let shutdown = CancellationToken::new();
    let shell = EdgeShell {
        service_token: "a-token-between-roles".into(),
        clock: std::sync::Arc::new(SystemClock::new()),
        readiness: Readiness::default(),
        metrics: None,
        shutdown: shutdown.clone(),
        reload: None,
        faults: None,
    };
    let edge = tokio::spawn(spillway_own_edge::run(edge, shell, listener));
    for path in [None, LIVE, Some("vod/x.mpd")] {
        let report = Asked { scheme: "http", at, path, origin, signed: false, authorities: None }.report().await;
        assert_eq!(report.faults, 0, "{report}");
    }
    shutdown.cancel();
    edge.await.expect("it ends").expect("it served");
}

#[test]
fn a_report_is_read_by_people_and_by_programs() {
    let line = super::Line {
        verdict: Verdict::Fault,
        check: "cors.404",
        asked: "GET /x".into(),
        came: "404 without Access-Control-Allow-Origin".into(),
        valid: "*".into(),
    };
    assert_eq!(line.to_string(), "FAULT  cors.404          GET /x: 404 without Access-Control-Allow-Origin (valid: *)");
    let wanted = Wanted { what: "https://h/b/", probed: ["a", "b"], ..Wanted::default() };
    let report = Report::new(&Target::new(&wanted, None).expect("a target"), vec![line]);
    let json: serde_json::Value = serde_json::to_value(&report).expect("JSON");
    assert_eq!(json["faults"], 1);
    assert_eq!((&json["base_url"], &json["path"]), (&"https://h/b".into(), &"a".into()));
    assert_eq!(json["lines"][0]["verdict"], "fault");
    assert!(report.to_string().ends_with("1 faults, 0 warnings, 1 questions"), "{report}");
}

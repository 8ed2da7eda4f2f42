//! A title's URL is enough to have its beginning here before the first viewer.

use spillway_wire::load::Directives;

use crate::client::get;
use crate::reports::{Orchestrator, admit};
use crate::scripted::{Scripted, Step, response};
use crate::support::{TestEdge, media};

const KEPT: &str = "Cache-Control: max-age=600";

async fn prewarmed(orchestrator: &Orchestrator, paths: &[&str]) {
    let prewarm = paths.iter().map(|path| (*path).to_owned()).collect();
    orchestrator.order(Directives { prewarm, ..admit() }).await;
}

/// All of these are hits, and were fetched once.
async fn are_there(edge: &TestEdge, origin: &Scripted, targets: &[&str]) {
    for target in targets {
        origin.asked(target, 1).await;
        edge.hit(target).await;
        assert_eq!(origin.count(target), 1, "{target}");
    }
}

fn segments(names: std::ops::Range<u32>) -> String {
    names.map(|n| format!("#EXTINF:4,\n{n}.m4s\n")).collect()
}

#[tokio::test]
async fn a_multivariant_playlist_brings_what_a_player_asks_for_first() {
    let (origin, orchestrator) = (Scripted::start().await, Orchestrator::start().await);
    let master = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\",URI=\"a/list.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\nv/list.m3u8?q=1\n\
        #EXT-X-STREAM-INF:BANDWIDTH=2,AUDIO=\"a\"\nhttps://elsewhere.example/list.m3u8\n";
    origin.answer("/film/master.m3u8", KEPT, master);
    let list = format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"init.mp4\"\n{}#EXT-X-MAP:URI=\"other.mp4\"\n{}#EXT-X-ENDLIST\n",
        segments(1..4),
        segments(4..9)
    );
    for (folder, name) in [("a", "list.m3u8"), ("v", "list.m3u8?q=1")] {
        origin.answer(&format!("/film/{folder}/{name}"), KEPT, list.clone());
        for name in ["init.mp4", "1.m4s", "2.m4s", "3.m4s", "8.m4s", "other.mp4"] {
            origin.answer(&format!("/film/{folder}/{name}"), KEPT, name);
        }
    }
    let edge = orchestrator.edge(&origin, "prefetch = \"off\"").await;
    prewarmed(&orchestrator, &["/film/master.m3u8"]).await;
    let first = ["/film/master.m3u8", "/film/a/list.m3u8", "/film/v/list.m3u8?q=1"];
    are_there(&edge, &origin, &first).await;
    for folder in ["a", "v"] {
        let of = |name: &str| format!("/film/{folder}/{name}");
        are_there(&edge, &origin, &[&of("init.mp4"), &of("1.m4s"), &of("2.m4s")]).await;
        for name in ["3.m4s", "8.m4s", "other.mp4"] {
            assert_eq!(origin.count(&of(name)), 0, "{name} comes later");
        }
    }
    // The same order comes with every answer to a report.
    let before = origin.count("/film/master.m3u8");
    orchestrator.next().await;
    assert_eq!(origin.count("/film/master.m3u8"), before);
}

#[tokio::test]
async fn of_a_live_playlist_that_may_not_be_kept_the_last_segments_come() {
    let (origin, orchestrator) = (Scripted::start().await, Orchestrator::start().await);
    let list = format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:10\n{}", segments(10..20));
    origin.answer("/live/list", "Content-Type: application/vnd.apple.mpegurl", list);
    for n in 10..20 {
        origin.answer(&format!("/live/{n}.m4s"), KEPT, "media");
    }
    let edge = orchestrator.edge(&origin, "prefetch = \"off\"").await;
    prewarmed(&orchestrator, &["/live/list"]).await;
    are_there(&edge, &origin, &["/live/17.m4s", "/live/18.m4s", "/live/19.m4s"]).await;
    assert_eq!((origin.count("/live/10.m4s"), origin.count("/live/16.m4s")), (0, 0));
}

#[tokio::test]
async fn an_mpd_brings_its_renditions_beginnings_where_play_begins() {
    let (origin, orchestrator) = (Scripted::start().await, Orchestrator::start().await);
    let period = |name: &str| {
        format!(
            "<Period duration=\"PT20S\"><AdaptationSet><SegmentTemplate duration=\"2\" startNumber=\"1\" \
             initialization=\"$RepresentationID$/init.mp4\" media=\"$RepresentationID$/$Number$.m4s\"/>\
             <Representation id=\"{name}1\"/><Representation id=\"{name}2\"/></AdaptationSet></Period>"
        )
    };
    let mpd = format!("<MPD type=\"static\">{}{}</MPD>", period("v"), period("ad"));
    origin.answer("/m.mpd", KEPT, mpd);
    for folder in ["v1", "v2", "ad1", "ad2"] {
        for name in ["init.mp4", "1.m4s", "2.m4s", "3.m4s"] {
            origin.answer(&format!("/{folder}/{name}"), KEPT, name);
        }
    }
    let edge = orchestrator.edge(&origin, "prefetch = \"off\"").await;
    prewarmed(&orchestrator, &["/m.mpd"]).await;
    are_there(&edge, &origin, &["/v1/init.mp4", "/v2/init.mp4", "/v1/1.m4s", "/v2/1.m4s", "/v1/2.m4s", "/v2/2.m4s"])
        .await;
    assert_eq!((origin.count("/v1/3.m4s"), origin.count("/ad1/1.m4s")), (0, 0));
}

#[tokio::test]
async fn an_order_takes_a_share_of_the_memory_and_no_more() {
    let (origin, orchestrator) = (Scripted::start().await, Orchestrator::start().await);
    let mut paths = Vec::new();
    for n in 0..40 {
        paths.push(format!("/{n}.m4s"));
        origin.answer(&paths[n], KEPT, media(1024 * 1024));
    }
    origin.answer("/watched", KEPT, "watched");
    let edge = orchestrator.edge(&origin, "memory_mb = 32\nmax_object_mb = 2").await;
    edge.hit("/watched").await;
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    prewarmed(&orchestrator, &paths).await;
    origin.asked("/7.m4s", 1).await;
    orchestrator.next().await;
    let fetched = paths.iter().filter(|path| origin.count(path) > 0).count();
    assert!((8..=11).contains(&fetched), "{fetched} of 1 MiB: 8 MiB, and what was under way");
    edge.hit("/watched").await;
    assert_eq!(origin.count("/watched"), 1);
}

#[tokio::test]
async fn a_failing_origin_and_a_garbled_playlist_end_an_order_quietly() {
    let (origin, orchestrator) = (Scripted::start().await, Orchestrator::start().await);
    origin.answer("/garbled.m3u8", KEPT, "#EXTM3U\n#EXTINF:\n\n#EXT-X-MAP:URI=\n\u{0}");
    origin.answer("/good.m4s", KEPT, "good");
    for n in 0..20 {
        origin.on(&format!("/bad/{n}"), |_| vec![Step::Send(response(500, "", b"bad"))]);
    }
    let edge = orchestrator.edge(&origin, "").await;
    prewarmed(&orchestrator, &["/garbled.m3u8", "/missing.mpd", "/good.m4s"]).await;
    are_there(&edge, &origin, &["/good.m4s"]).await;
    let bad: Vec<String> = (0..20).map(|n| format!("/bad/{n}")).collect();
    prewarmed(&orchestrator, &bad.iter().map(String::as_str).collect::<Vec<_>>()).await;
    origin.asked("/bad/2", 1).await;
    orchestrator.next().await;
    let asked = bad.iter().filter(|path| origin.count(path) > 0).count();
    assert!(asked < 10, "{asked} of 20 were asked of an origin that fails");
    assert_eq!(get(edge.address, "/good.m4s").await.body, b"good");
}

#[tokio::test]
async fn what_is_watched_is_reported_by_title_and_what_one_report_names_another_edge_can_prewarm() {
    let (origin, orchestrator) = (Scripted::start().await, Orchestrator::start().await);
    origin.answer("/film/master.m3u8", KEPT, "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlist.m3u8\n");
    let list = |names| format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n{}#EXT-X-ENDLIST\n", segments(names));
    origin.answer("/film/list.m3u8", KEPT, list(1..4));
    // Its multivariant playlist comes from elsewhere.
    origin.answer("/alone/list.m3u8", KEPT, list(4..6));
    for target in ["/film/1.m4s", "/film/2.m4s", "/film/3.m4s", "/alone/4.m4s", "/alone/5.m4s"] {
        origin.answer(target, KEPT, target);
    }
    let edge = orchestrator.edge(&origin, "").await;
    assert_eq!(orchestrator.next().await.top_titles, []);
    for target in ["/film/master.m3u8", "/film/list.m3u8", "/alone/list.m3u8"] {
        get(edge.address, target).await;
    }
    for target in ["/film/1.m4s", "/film/2.m4s", "/film/1.m4s", "/alone/4.m4s"] {
        get(edge.address, &format!("{target}?CMCD=sid%3D%22v%22")).await;
    }
    let titles = orchestrator.next().await.top_titles;
    let told: Vec<_> = titles.iter().map(|title| (&*title.playlist, title.requests)).collect();
    assert_eq!(told, [("/film/master.m3u8", 3), ("/alone/list.m3u8", 1)]);
    assert_eq!(orchestrator.next().await.top_titles, []);

    let (others, other_origin) = (Orchestrator::start().await, Scripted::start().await);
    for (target, body) in [
        ("/film/master.m3u8", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlist.m3u8\n".to_owned()),
        ("/film/list.m3u8", list(1..4)),
        ("/alone/list.m3u8", list(4..6)),
    ] {
        other_origin.answer(target, KEPT, body);
    }
    for target in ["/film/1.m4s", "/film/2.m4s", "/alone/4.m4s", "/alone/5.m4s"] {
        other_origin.answer(target, KEPT, target);
    }
    let other = others.edge(&other_origin, "").await;
    let named: Vec<&str> = titles.iter().map(|title| &*title.playlist).collect();
    prewarmed(&others, &named).await;
    are_there(&other, &other_origin, &["/film/1.m4s", "/film/2.m4s", "/alone/4.m4s", "/alone/5.m4s"]).await;
}

#[tokio::test]
async fn what_an_order_names_again_is_not_looked_at_again_for_a_while() {
    let (origin, orchestrator) = (Scripted::start().await, Orchestrator::start().await);
    for target in ["/a", "/b"] {
        origin.answer(target, "Cache-Control: no-store", target);
    }
    let _edge = orchestrator.edge(&origin, "").await;
    prewarmed(&orchestrator, &["/a"]).await;
    origin.asked("/a", 1).await;
    prewarmed(&orchestrator, &["/b", "/a"]).await;
    origin.asked("/b", 1).await;
    prewarmed(&orchestrator, &["/a", "/b"]).await;
    assert_eq!((origin.count("/a"), origin.count("/b")), (1, 1));
}

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpListener;

use super::*;

/// A moment when segment `newest` of the live loop has just been completed.
fn after(newest: u64) -> u64 {
    LIVE_EPOCH_MS + (newest + 1) * crate::media::SEGMENT_MS
}

struct Running {
    state: OriginState,
    now_ms: Arc<AtomicU64>,
    base: String,
    client: reqwest::Client,
}

async fn running(now_ms: u64) -> Running {
    let now_ms = Arc::new(AtomicU64::new(now_ms));
    let clock = Arc::clone(&now_ms);
    let state = OriginState::new(Clip::embedded().unwrap(), Arc::new(move || clock.load(Ordering::SeqCst)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = router(state.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    Running { state, now_ms, base, client }
}

impl Running {
    async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(format!("{}{path}", self.base)).send().await.unwrap()
    }

    async fn text(&self, path: &str) -> String {
        self.get(path).await.text().await.unwrap()
    }
}

fn live_playlist(name: &str, now_ms: u64) -> String {
    let clip = Clip::embedded().unwrap();
    hls::live_playlist(clip.rendition(name).unwrap(), &LiveLoop::new(10), now_ms)
}

#[test]
fn a_live_playlist_inside_the_first_loop_has_no_discontinuity() {
    let expected = "\
#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:2
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA-SEQUENCE:2
#EXT-X-DISCONTINUITY-SEQUENCE:0
#EXT-X-MAP:URI=\"hls/a48/init.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2020-01-01T00:00:04.000Z
#EXTINF:2.01600,
hls/a48/2.m4s
#EXT-X-PROGRAM-DATE-TIME:2020-01-01T00:00:06.016Z
#EXTINF:1.98400,
hls/a48/3.m4s
#EXT-X-PROGRAM-DATE-TIME:2020-01-01T00:00:08.000Z
#EXTINF:2.01600,
hls/a48/4.m4s
#EXT-X-PROGRAM-DATE-TIME:2020-01-01T00:00:10.016Z
#EXTINF:1.98400,
hls/a48/5.m4s
#EXT-X-PROGRAM-DATE-TIME:2020-01-01T00:00:12.000Z
#EXTINF:2.01600,
hls/a48/6.m4s
#EXT-X-PROGRAM-DATE-TIME:2020-01-01T00:00:14.016Z
#EXTINF:1.98400,
hls/a48/7.m4s
";
    assert_eq!(live_playlist("a48", after(7)), expected);
    assert_eq!(live_playlist("a48", after(8) - 1), expected);
}

#[test]
fn a_live_playlist_across_a_loop_point_marks_the_discontinuity() {
    let expected = "\
#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:2
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA-SEQUENCE:107
#EXT-X-DISCONTINUITY-SEQUENCE:10
#EXT-X-MAP:URI=\"hls/v360/init.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2020-01-01T00:03:34.000Z
#EXTINF:2.00000,
hls/v360/107.m4s
#EXT-X-PROGRAM-DATE-TIME:2020-01-01T00:03:36.000Z
#EXTINF:2.00000,
hls/v360/108.m4s
#EXT-X-PROGRAM-DATE-TIME:2020-01-01T00:03:38.000Z
#EXTINF:2.00000,
hls/v360/109.m4s
#EXT-X-DISCONTINUITY
#EXT-X-PROGRAM-DATE-TIME:2020-01-01T00:03:40.000Z
#EXTINF:2.00000,
hls/v360/110.m4s
#EXT-X-PROGRAM-DATE-TIME:2020-01-01T00:03:42.000Z
#EXTINF:2.00000,
hls/v360/111.m4s
#EXT-X-PROGRAM-DATE-TIME:2020-01-01T00:03:44.000Z
#EXTINF:2.00000,
hls/v360/112.m4s
";
    assert_eq!(live_playlist("v360", after(112)), expected);
}

#[test]
fn the_discontinuity_sequence_grows_only_when_the_tag_has_left() {
    let leading = live_playlist("v144", after(115));
    assert!(leading.contains("#EXT-X-MEDIA-SEQUENCE:110\n#EXT-X-DISCONTINUITY-SEQUENCE:10\n"));
    assert!(leading.contains("init.mp4\"\n#EXT-X-DISCONTINUITY\n"));
    let left = live_playlist("v144", after(116));
    assert!(left.contains("#EXT-X-MEDIA-SEQUENCE:111\n#EXT-X-DISCONTINUITY-SEQUENCE:11\n"));
    assert!(!left.contains("#EXT-X-DISCONTINUITY\n"));
}

#[test]
fn a_segment_keeps_its_discontinuity_number_in_every_playlist_it_is_in() {
    let mut numbers = std::collections::BTreeMap::new();
    for newest in 0..60 {
        let playlist = live_playlist("v144", after(newest));
        let mut number = 0;
        for line in playlist.lines() {
            if let Some(start) = line.strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:") {
                number = start.parse::<u64>().unwrap();
            } else if line == "#EXT-X-DISCONTINUITY" {
                number += 1;
            } else if !line.starts_with('#') {
                assert_eq!(*numbers.entry(line.to_owned()).or_insert(number), number, "{line}");
            }
        }
    }
    assert_eq!(numbers.len(), 60);
}

#[test]
fn before_the_first_complete_segment_the_playlist_is_empty() {
    assert!(!live_playlist("v144", after(0) - 1).contains("#EXTINF"));
    assert!(!live_playlist("v144", 0).contains("#EXTINF"));
}

#[tokio::test]
async fn the_multivariant_playlist_names_three_variants_and_the_audio_group() {
    let origin = running(after(9)).await;
    let response = origin.get("/live/river/master.m3u8").await;
    assert_eq!(response.headers()["content-type"], "application/vnd.apple.mpegurl");
    assert_eq!(response.headers()["cache-control"], "public, max-age=2");
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert_eq!(response.headers()["timing-allow-origin"], "*");
    let exposed = response.headers()["access-control-expose-headers"].to_str().unwrap();
    assert!(exposed.contains("Retry-After"));
    let text = response.text().await.unwrap();
    assert_eq!(text.matches("#EXT-X-STREAM-INF:BANDWIDTH=").count(), 3);
    assert!(text.contains("RESOLUTION=640x360,FRAME-RATE=25.000,AUDIO=\"audio\""));
    assert!(text.contains("CODECS=\"avc1.42c01e,mp4a.40.2\""));
    assert!(text.ends_with("\nv360.m3u8\n"));
    assert_eq!(text, origin.text("/vod/master.m3u8").await);
}

#[tokio::test]
async fn every_uri_of_the_vod_playlists_is_there() {
    let origin = running(after(9)).await;
    for name in ["v144", "v240", "v360", "a48"] {
        let playlist = origin.text(&format!("/vod/{name}.m3u8")).await;
        assert!(playlist.ends_with("#EXT-X-ENDLIST\n"));
        let uris: Vec<_> = playlist.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(uris.len(), 10);
        for uri in uris.into_iter().chain([format!("{name}/init.mp4").as_str()]) {
            let response = origin.get(&format!("/vod/{uri}")).await;
            assert_eq!(response.status(), 200, "{uri}");
            assert_eq!(response.headers()["cache-control"], "public, max-age=3600");
        }
    }
}

#[tokio::test]
async fn live_hls_serves_the_fragment_as_it_is_and_dash_with_its_time() {
    let origin = running(after(119)).await;
    let vod = origin.get("/vod/v240/3.m4s").await.bytes().await.unwrap();
    let hls = origin.get("/live/lake/hls/v240/113.m4s").await;
    assert_eq!(hls.headers()["cache-control"], "public, max-age=60");
    assert_eq!(hls.bytes().await.unwrap(), vod);
    let dash = origin.get("/live/lake/dash/v240/113.m4s").await.bytes().await.unwrap();
    let moved = crate::media::with_decode_time(&vod, 113 * 180_000).unwrap();
    assert_eq!(dash, moved);
}

#[tokio::test]
async fn segments_far_ahead_or_long_past_are_not_found() {
    let origin = running(after(999)).await;
    let status =
        async |sequence: u64| origin.get(&format!("/live/river/hls/v144/{sequence}.m4s")).await.status().as_u16();
    assert_eq!(status(999).await, 200);
    assert_eq!(status(1_005).await, 200);
    assert_eq!(status(1_006).await, 404);
    assert_eq!(status(849).await, 200);
    assert_eq!(status(848).await, 404);
    let ahead = origin.get("/live/river/hls/v144/1006.m4s").await;
    assert_eq!(ahead.headers()["cache-control"], "public, max-age=1");
    assert_eq!(ahead.text().await.unwrap(), "segment 1006 does not exist yet\n");
    origin.now_ms.store(after(1_000), Ordering::SeqCst);
    assert_eq!(status(1_006).await, 200);
}

#[tokio::test]
async fn an_unknown_path_says_what_would_be_valid() {
    let origin = running(after(9)).await;
    assert_eq!(origin.text("/vod/v720.m3u8").await, "no rendition `v720` (known: v144, v240, v360, a48)\n");
    assert!(origin.text("/live/ocean/master.m3u8").await.contains("titles: river, lake, delta"));
    assert!(origin.text("/vod/v144/10.m4s").await.contains("(valid: 0 to 9)"));
    let response = origin.get("/else").await;
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn manifests_hold_no_absolute_url() {
    let origin = running(after(9)).await;
    for path in ["/vod/manifest.mpd", "/live/river/manifest.mpd", "/live/delta/v144.m3u8"] {
        let text = origin.text(path).await.replace("urn:mpeg", "").to_lowercase();
        assert!(!text.contains("http") && !text.contains("=\"/"), "{text}");
    }
}

#[tokio::test]
async fn the_live_mpd_starts_at_the_epoch_and_carries_the_clock() {
    let origin = running(after(9)).await;
    let response = origin.get("/live/river/manifest.mpd").await;
    assert_eq!(response.headers()["content-type"], "application/dash+xml");
    let text = response.text().await.unwrap();
    assert!(text.contains("type=\"dynamic\" availabilityStartTime=\"2020-01-01T00:00:00.000Z\""));
    assert!(text.contains("direct:2014\" value=\"2020-01-01T00:00:20.000Z\""));
    assert!(text.contains("media=\"dash/$RepresentationID$/$Number$.m4s\""));
}

#[tokio::test]
async fn head_has_the_length_without_the_body_and_both_are_counted() {
    let origin = running(after(9)).await;
    let url = format!("{}/vod/v144/init.mp4", origin.base);
    let head = origin.client.head(&url).send().await.unwrap();
    let length: u64 = head.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(origin.get("/vod/v144/init.mp4").await.bytes().await.unwrap().len() as u64, length);
    origin.get("/nowhere").await;
    let stats = origin.state.stats();
    assert_eq!(stats.requests, 3);
    assert_eq!(stats.by_class["init"], ClassStats { requests: 2, bytes: length });
    assert_eq!(stats.by_class["not_found"].requests, 1);
}

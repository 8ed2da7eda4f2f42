//! The HLS writer: snapshots of whole playlists, refusals, and that untouched bytes stay.

use proptest::prelude::*;
use url::Url;

use super::fixtures::id;
use crate::playlists::hls::write;
use crate::playlists::space::Space;
use crate::playlists::writer::{Offer, Steering, WriteError};

fn space() -> Space {
    let url = |text| Url::parse(text).expect("url");
    Space::new(&url("http://origin.example/media"), &url("http://origin.example/media/vod/lake/master.m3u8"))
}

fn steering(pathways: &[&str], max_bitrate_kbps: Option<u32>) -> Steering {
    let offer = |name: &&str| Offer { id: id(name), base_url: format!("http://{name}.example/p") };
    Steering {
        server_uri: Some("http://steer.example/v1/steer/hls?t=v~r".into()),
        offers: pathways.iter().map(offer).collect(),
        max_bitrate_kbps,
        reload_url: None,
        query_before_start: false,
    }
}

fn two(playlist: &str) -> Result<String, WriteError> {
    write(playlist.as_bytes(), &space(), &steering(&["cdn-b", "own-x-1"], None))
}

#[test]
fn a_simple_playlist() {
    insta::assert_snapshot!(
        two("#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n\n\
         #EXT-X-STREAM-INF:BANDWIDTH=800000,CODECS=\"avc1.42c01e,mp4a.40.2\",RESOLUTION=640x360\n360/index.m3u8\n\
         #EXT-X-STREAM-INF:BANDWIDTH=2400000,CODECS=\"avc1.4d401f,mp4a.40.2\",RESOLUTION=1280x720\n720/index.m3u8\n")
        .expect("written")
    );
}

const FULL: &str = "\u{feff}#EXTM3U\r\n#EXT-X-VERSION:7\r\n## made by hand\r\n\
    #EXT-X-SESSION-KEY:METHOD=SAMPLE-AES,URI=\"skd://key\",KEYFORMAT=\"com.apple.streamingkeydelivery\"\r\n\
    #EXT-X-SESSION-DATA:DATA-ID=\"com.example.title\",URI=\"title.json\"\r\n\
    #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aac\",NAME=\"English\",DEFAULT=YES,URI=\"audio/en.m3u8\"\r\n\
    #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"subs\",NAME=\"Deutsch\",URI=\"../subs/de.m3u8?x=1~2\"\r\n\
    #EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID=\"cc\",NAME=\"CC\",INSTREAM-ID=\"CC1\"\r\n\
    #EXT-X-STREAM-INF:BANDWIDTH=800000,AUDIO=\"aac\",SUBTITLES=\"subs\",CLOSED-CAPTIONS=\"cc\",STABLE-VARIANT-ID=\"low\"\r\n\
    # between\r\n360/index.m3u8\r\n\
    #EXT-X-X-UNKNOWN:A=\"b\"\r\n\
    #EXT-X-STREAM-INF:BANDWIDTH=2400000,AUDIO=\"aac\",CLOSED-CAPTIONS=NONE\r\n/media/vod/720 p/index.m3u8\r\n\
    #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=90000,URI=\"360/iframes.m3u8\"\r\n\
    # the end";

#[test]
fn groups_iframes_crlf_and_a_bom() {
    let written = two(FULL).expect("written");
    assert!(written.starts_with("\u{feff}#EXTM3U\r\n"));
    assert!(!written.replace("\r\n", "").contains(['\r', '\n']), "every line ends as the first does");
    insta::assert_snapshot!(written.replace('\r', "␍"));
}

#[test]
fn absolute_uris_on_the_origin_move_and_others_stay() {
    insta::assert_snapshot!(
        two("#EXTM3U\n\
         #EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://origin.example/media/vod/a.m3u8?sig=a%7Eb~c\n\
         #EXT-X-STREAM-INF:BANDWIDTH=2\n//origin.example/media/vod/b.m3u8\n\
         #EXT-X-STREAM-INF:BANDWIDTH=3\nhttps://ads.example/session/9f/index.m3u8\n\
         #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"https://ads.example/i.m3u8\"\n")
        .expect("written")
    );
}

#[test]
fn an_ad_session_on_another_host_is_not_ours_to_steer() {
    let playlist = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttps://ssai.example/s/1/index.m3u8\n";
    assert_eq!(two(playlist), Err(WriteError::NothingOnOrigin));
}

#[test]
fn an_origin_that_repeats_its_variants_is_steered_by_one_of_them() {
    insta::assert_snapshot!(
        two("#EXTM3U\n#EXT-X-CONTENT-STEERING:SERVER-URI=\"https://old.example/\",PATHWAY-ID=\"B\"\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a-A\",NAME=\"en\",URI=\"http://a.example/en.m3u8\"\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a-B\",NAME=\"en\",URI=\"en.m3u8\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a-A\",PATHWAY-ID=\"A\"\nhttp://a.example/1.m3u8\n\
         #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a-B\",PATHWAY-ID=\"B\"\n1.m3u8\n")
        .expect("written")
    );
}

#[test]
fn variables_are_filled_in_where_a_uri_moves() {
    let playlist =
        "#EXTM3U\n#EXT-X-DEFINE:NAME=\"dir\",VALUE=\"sub/x\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{$dir}/1.m3u8\n";
    let written = two(playlist).expect("written");
    assert!(written.contains("\nhttp://cdn-b.example/p/vod/lake/sub/x/1.m3u8\n"), "{written}");
    let unknown = playlist.replace("{$dir}", "{$nope}");
    assert_eq!(two(&unknown).expect_err("unknown").name(), "unknown_variable");
}

#[test]
fn a_bitrate_limit_leaves_variants_out_but_never_the_last() {
    let playlist = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=800000\na\n#EXT-X-STREAM-INF:BANDWIDTH=2400000\nb\n\
                    #EXT-X-STREAM-INF:BANDWIDTH=5000000\nc\n";
    let names = |limit| {
        let written = write(playlist.as_bytes(), &space(), &steering(&["cdn-b"], limit)).expect("written");
        written
            .lines()
            .filter_map(|line| line.strip_prefix("http://cdn-b.example/p/vod/lake/").map(str::to_owned))
            .collect::<String>()
    };
    assert_eq!((names(None), names(Some(2_400)), names(Some(100))), ("abc".into(), "ab".into(), "a".into()));
}

#[test]
fn a_broken_playlist_says_what_is_wrong() {
    let fails = |playlist: &str| two(playlist).expect_err(playlist).name();
    assert_eq!(fails(""), "not_hls");
    assert_eq!(fails("<html>"), "not_hls");
    assert_eq!(fails("#EXTM3U\n"), "no_variant");
    assert_eq!(fails("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.m4s\n"), "media_playlist");
    assert_eq!(fails("#EXTM3U\n#EXT-X-STREAM-INF:CODECS=\"a\nb\n"), "broken_line");
    assert_eq!(fails("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n"), "broken_line");
    assert_eq!(fails("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n../../../x.m3u8\n"), "nothing_on_origin");
    let outside = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na\n#EXT-X-STREAM-INF:BANDWIDTH=1\n/other/b\n";
    assert_eq!(fails(outside), "outside_base");
    assert_eq!(write(b"#EXTM3U\n\xff", &space(), &steering(&["a"], None)), Err(WriteError::NotUtf8));
}

fn plain_line() -> impl Strategy<Value = String> {
    prop_oneof![
        "#[ -~]{0,40}".prop_filter("no tag that the writer knows", |line| !line.starts_with("#EXT")),
        "#EXT-X-VENDOR:[ -~]{0,40}",
        Just(String::new()),
    ]
}

proptest! {
    #[test]
    fn lines_that_are_not_steered_stay_byte_for_byte_and_in_order(
        plain in proptest::collection::vec(plain_line(), 2..12),
        crlf in any::<bool>(),
        pathways in 1_usize..4,
    ) {
        let ending = if crlf { "\r\n" } else { "\n" };
        let names = &["cdn-a", "cdn-b", "cdn-c"][..pathways];
        let (head, tail) = plain.split_at(plain.len() / 2);
        let mut playlist = format!("#EXTM3U{ending}");
        head.iter().for_each(|line| playlist.push_str(&format!("{line}{ending}")));
        playlist.push_str(&format!("#EXT-X-STREAM-INF:BANDWIDTH=1{ending}v.m3u8{ending}"));
        tail.iter().for_each(|line| playlist.push_str(&format!("{line}{ending}")));
        playlist.push_str(&format!("#EXT-X-STREAM-INF:BANDWIDTH=2{ending}w.m3u8"));

        let written = write(playlist.as_bytes(), &space(), &steering(names, None)).expect("written");
        let ours = |line: &&str| {
            line.starts_with("#EXT-X-STREAM-INF") || line.starts_with("#EXT-X-CONTENT-STEERING") || line.starts_with("http://cdn-")
        };
        let rest: String = written.split_inclusive('\n').filter(|line| !ours(line)).collect();
        let expected: String =
            std::iter::once("#EXTM3U").chain(plain.iter().map(String::as_str)).map(|line| format!("{line}{ending}")).collect();
        prop_assert_eq!(rest, expected);
        prop_assert_eq!(written.matches("#EXT-X-STREAM-INF").count(), 2 * pathways);
        prop_assert_eq!(written.matches("PATHWAY-ID=\"cdn-a\"").count(), 3);
    }

    #[test]
    fn no_input_makes_the_writer_panic(text in "(#EXTM3U\n)?(#EXT-X-(STREAM-INF|MEDIA|DEFINE|I-FRAME-STREAM-INF):)?[ -~\r\n\"={$}é]{0,200}") {
        let _ = two(&text);
    }
}

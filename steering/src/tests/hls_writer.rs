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
    let offer = |name: &&str| Offer::plain(id(name), format!("http://{name}.example/p"));
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
    assert_eq!(fails("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,BANDWIDTH=2\na\n"), "broken_line");
    assert_eq!(fails("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n#EXT-X-MEDIA:GROUP-ID=\"a\"\na\n"), "broken_line");
    assert_eq!(fails("#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,URI=\"b\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\na\n"), "broken_line");
    assert_eq!(fails("#EXTM3U\n#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1\n"), "broken_line");
    assert_eq!(
        write(b"#EXTM3U\n#EXT-X-STREAM-INF:A=1\na\n", &space(), &steering(&[], None)),
        Err(WriteError::NoPathway)
    );
    assert_eq!(fails("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n../../../x.m3u8\n"), "nothing_on_origin");
    let outside = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na\n#EXT-X-STREAM-INF:BANDWIDTH=1\n/other/b\n";
    assert_eq!(fails(outside), "outside_base");
    assert_eq!(write(b"#EXTM3U\n\xff", &space(), &steering(&["a"], None)), Err(WriteError::NotUtf8));
}

#[test]
fn who_does_not_follow_gets_the_first_pathway_and_no_word_of_steering() {
    let plain = Steering { server_uri: None, ..steering(&["cdn-b", "own-x-1"], None) };
    let of = |playlist: &str| write(playlist.as_bytes(), &space(), &plain).expect("written");
    let written = of(FULL);
    for absent in ["STEERING", "PATHWAY-ID", "own-x-1", "aac/"] {
        assert!(!written.contains(absent), "{absent} in {written}");
    }
    let moved = "http://cdn-b.example/p/vod";
    let expected = FULL
        .replace("\"title.json", &format!("\"{moved}/lake/title.json"))
        .replace("\"audio/en", &format!("\"{moved}/lake/audio/en"))
        .replace("\"../subs", &format!("\"{moved}/subs"))
        .replace("\n360/index", &format!("\n{moved}/lake/360/index"))
        .replace("\n/media/vod/720", &format!("\n{moved}/720"))
        .replace("\"360/iframes", &format!("\"{moved}/lake/360/iframes"));
    assert_eq!(written, expected);
    let steered =
        "#EXTM3U\n#EXT-X-CONTENT-STEERING:SERVER-URI=\"https://old.example/\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\na\n";
    assert!(!of(steered).contains("STEERING"), "nor of anybody else's");
}

#[test]
fn a_variable_of_the_query_stays_for_the_player_to_fill_in() {
    let head = "#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"token\"\n#EXT-X-DEFINE:NAME=\"v\",VALUE=\"video\"\n";
    let of = |uri: &str| two(&format!("{head}#EXT-X-STREAM-INF:BANDWIDTH=1\n{uri}\n"));
    let written = of("{$v}/a.m3u8?token={$token}").expect("written");
    assert!(written.contains("\nhttp://cdn-b.example/p/vod/lake/video/a.m3u8?token={$token}\n"), "{written}");
    assert!(written.contains("STABLE-VARIANT-ID=\"vod/lake/video/a.m3u8\""), "{written}");
    assert_eq!(of("{$token}/a.m3u8").expect_err("it may lead anywhere").name(), "unknown_variable");
    let imported = head.replace("QUERYPARAM=\"token\"", "IMPORT=\"token\"");
    let imported = format!("{imported}#EXT-X-STREAM-INF:BANDWIDTH=1\na?{{$token}}\n");
    assert_eq!(two(&imported).expect_err("only media playlists import").name(), "unknown_variable");
}

#[test]
fn groups_are_told_apart_by_what_their_variables_say() {
    let written = two("#EXTM3U\n#EXT-X-DEFINE:NAME=\"g\",VALUE=\"aac\"\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{$g}\",NAME=\"en\",URI=\"en.m3u8\",STABLE-RENDITION-ID=\"e\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"aac\"\na\n")
    .expect("written");
    assert!(written.contains("GROUP-ID=\"{$g}/cdn-b\"") && written.contains("AUDIO=\"aac/cdn-b\""), "{written}");
    assert_eq!(written.matches("STABLE-RENDITION-ID=\"e\"").count(), 2);
}

#[test]
fn different_uris_of_one_path_have_different_stable_ids() {
    let of = |limit| {
        let playlist = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9000\ni?b=1\n#EXT-X-STREAM-INF:BANDWIDTH=2000\ni?b=2\n\
                        #EXT-X-STREAM-INF:BANDWIDTH=2000,AUDIO=\"x\"\ni?b=2\n";
        let written = write(playlist.as_bytes(), &space(), &steering(&["cdn-b"], limit)).expect("written");
        let ids = written.lines().filter_map(|line| line.split_once("STABLE-VARIANT-ID="));
        ids.map(|(_, id)| id.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of(None), ["\"vod/lake/i\"", "\"vod/lake/i=2\"", "\"vod/lake/i=2\""]);
    assert_eq!(of(Some(2)), ["\"vod/lake/i=2\"", "\"vod/lake/i=2\""], "also while the first is left out");
}

#[test]
fn a_bitrate_limit_never_leaves_sound_alone_or_what_few_can_play() {
    let variant = |kbps: u32, rest: &str| format!("#EXT-X-STREAM-INF:BANDWIDTH={kbps}000,{rest}\n{kbps}\n");
    let left = |playlist: &[(u32, &str)], limit| {
        let body: String = playlist.iter().map(|(kbps, rest)| variant(*kbps, rest)).collect();
        let written = write(format!("#EXTM3U\n{body}").as_bytes(), &space(), &steering(&["c"], Some(limit)));
        let written = written.expect("written");
        let kbps = |line: &str| line.strip_prefix("http://c.example/p/vod/lake/").and_then(|kbps| kbps.parse().ok());
        written.lines().filter_map(kbps).collect::<Vec<u32>>()
    };
    let avc = "CODECS=\"avc1.4d401f,mp4a.40.2\"";
    let hevc = "CODECS=\"hvc1.2.4.L123.B0,mp4a.40.2\"";
    let sound = "CODECS=\"mp4a.40.2\"";
    let ladder = [(64, sound), (500, hevc), (800, avc), (2_400, avc), (4_000, hevc)];
    assert_eq!(left(&ladder, 600), [64, 500, 800], "H.264 is above the limit, and stays");
    assert_eq!(left(&ladder, 1_000), [64, 500, 800]);
    assert_eq!(left(&ladder, 2_400), [64, 500, 800, 2_400]);
    let hdr = "CODECS=\"hvc1.2.4.L123.B0,mp4a.40.2\",VIDEO-RANGE=PQ";
    assert_eq!(left(&[(800, avc), (2_400, avc), (3_000, hdr)], 1_000), [800], "whoever plays HDR plays the rest");
    assert_eq!(left(&[(3_000, hdr), (5_000, hdr), (2_000, hevc)], 1_000), [3_000, 2_000], "the lowest of each kind");
    assert_eq!(left(&[(128, sound), (64, sound)], 10), [64], "radio");
    assert_eq!(left(&[(800, avc), (900, "RESOLUTION=1x1")], 100), [800]);
    let silent = "#EXTM3U\n#EXT-X-STREAM-INF:CODECS=\"avc1\"\na\n";
    assert!(write(silent.as_bytes(), &space(), &steering(&["c"], Some(1))).is_ok(), "no bandwidth said");
}

#[test]
fn what_only_left_out_variants_use_goes_with_them() {
    let playlist = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"hi\",NAME=\"a\",URI=\"hi.m3u8\"\n\
                    #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"lo\",NAME=\"a\",URI=\"lo.m3u8\"\n\
                    #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"hi\",NAME=\"a\",URI=\"subs.m3u8\"\n\
                    #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=9000000,URI=\"i-hi\"\n\
                    #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=90000,URI=\"i-lo\"\n\
                    #EXT-X-STREAM-INF:BANDWIDTH=9000000,AUDIO=\"hi\"\nv-hi\n#EXT-X-STREAM-INF:BANDWIDTH=1000000,AUDIO=\"lo\"\nv-lo\n";
    let written = write(playlist.as_bytes(), &space(), &steering(&["cdn-b"], Some(2_000))).expect("written");
    let has = |text: &str| written.contains(text);
    assert!(!has("v-hi") && !has("i-hi") && !has("hi.m3u8"), "{written}");
    assert!(has("v-lo") && has("i-lo") && has("lo.m3u8") && has("subs.m3u8"), "another type's group stays: {written}");
}

#[test]
fn of_an_origin_s_pathways_the_one_that_lies_on_it_is_steered() {
    let playlist = "#EXTM3U\n#EXT-X-CONTENT-STEERING:SERVER-URI=\"https://old.example/\",PATHWAY-ID=\"A\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=1,PATHWAY-ID=\"A\"\nhttp://a.example/1.m3u8\n\
         #EXT-X-STREAM-INF:BANDWIDTH=1,PATHWAY-ID=\"B\"\n1.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2,PATHWAY-ID=\"B\"\n2.m3u8\n";
    let written = two(playlist).expect("written");
    assert!(!written.contains("a.example") && !written.contains("old.example"), "{written}");
    assert_eq!(written.matches("#EXT-X-STREAM-INF").count(), 4);
    let elsewhere = playlist.replace("\n1.m3u8", "\nhttp://b.example/1").replace("\n2.m3u8", "\nhttp://b.example/2");
    assert_eq!(two(&elsewhere), Err(WriteError::NothingOnOrigin));
}

#[test]
fn pictures_and_keys_are_moved_once_since_the_playlist_has_moved() {
    let written = two("#EXTM3U\n#EXT-X-IMAGE-STREAM-INF:BANDWIDTH=1,URI=\"t.m3u8\"\n\
         #EXT-X-SESSION-KEY:METHOD=AES-128,URI=\"/media/key\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\na\n")
    .expect("written");
    assert_eq!(written.matches("URI=\"http://cdn-b.example/p/vod/lake/t.m3u8\"").count(), 1);
    assert_eq!(written.matches("URI=\"http://cdn-b.example/p/key\"").count(), 1);
    assert!(!written.contains("own-x-1.example/p/key"));
}

#[test]
fn line_endings_of_all_sorts_stay() {
    let written = two("#EXTM3U\r\n# a\n#EXT-X-STREAM-INF:BANDWIDTH=1\r\na\n\r\n# b\r\n").expect("written");
    assert!(written.starts_with("#EXTM3U\r\n#EXT-X-CONTENT-STEERING:"), "{written:?}");
    assert!(written.contains("\"\r\n# a\n#EXT-X-STREAM-INF:") && written.ends_with("/a\n\r\n# b\r\n"), "{written:?}");
}

#[test]
fn nothing_makes_the_writer_write_without_end() {
    let bomb = format!(
        "#EXTM3U\n#EXT-X-DEFINE:NAME=\"a\",VALUE=\"{}\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n",
        "x".repeat(10_000),
        "{$a}".repeat(1_000)
    );
    assert_eq!(two(&bomb), Err(WriteError::LongUri));
    let define = bomb.split("#EXT-X-STREAM").next().expect("the definition");
    let often = format!("{define}{}", "#EXT-X-STREAM-INF:A=1\n{$a}\n".repeat(1_000));
    assert_eq!(two(&often).expect_err("a smaller one, often").name(), "outgrown");
    let many = |n| two(&format!("#EXTM3U\n{}", "#EXT-X-STREAM-INF:\na\n".repeat(n))).expect_err("too many").name();
    assert_eq!((many(9_000), many(200_000)), ("outgrown", "too_many_variants"));
    let long = format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n", "x".repeat(20_000));
    assert_eq!(two(&long), Err(WriteError::LongUri));
    let padded = format!("#EXTM3U\n{}#EXT-X-STREAM-INF:BANDWIDTH=1\na\n", "# nothing\n".repeat(500_000));
    let written = two(&padded).expect("5 MB of comments are still a playlist");
    assert_eq!(written.matches("# nothing").count(), 500_000);
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

//! The DASH writer: snapshots of whole MPDs, refusals, and that untouched bytes stay.

use proptest::prelude::*;
use url::Url;

use super::fixtures::id;
use crate::playlists::dash::write;
use crate::playlists::space::Space;
use crate::playlists::writer::{Offer, Steering, WriteError};

fn space() -> Space {
    let url = |text| Url::parse(text).expect("url");
    Space::new(&url("http://origin.example"), &url("http://origin.example/live/river/manifest.mpd"))
}

fn steering(max_bitrate_kbps: Option<u32>) -> Steering {
    let offer = |name: &str| Offer::plain(id(name), format!("http://{name}.example/p?a=1&b"));
    Steering {
        server_uri: Some("http://steer.example/v1/steer/dash?t=v~r".into()),
        offers: ["cdn-b", "own-x-1"].map(offer).into(),
        max_bitrate_kbps,
        reload_url: Some("http://steer.example/v1/playlists/dash/live/river/manifest.mpd?t=v".into()),
        query_before_start: false,
    }
}

fn written(mpd: &str) -> Result<String, WriteError> {
    write(mpd.as_bytes(), &space(), &steering(None))
}

#[test]
fn a_static_mpd() {
    insta::assert_snapshot!(
        written(
            "<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\">\n  \
         <ProgramInformation><Title>a &amp; b</Title></ProgramInformation>\n  \
         <Period id='1'><AdaptationSet><Representation id=\"v\" bandwidth=\"1\"/></AdaptationSet></Period>\n</MPD>\n"
        )
        .expect("written")
    );
}

const LIVE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- kept -->
<m:MPD xmlns:m="urn:mpeg:dash:schema:mpd:2011" type="dynamic" minimumUpdatePeriod="PT2S">
    <m:BaseURL availabilityTimeOffset="1.5" serviceLocation='old'>video/</m:BaseURL>
    <m:BaseURL>http://backup.example/video/</m:BaseURL>
    <m:Location>http://origin.example/live/river/manifest.mpd</m:Location>
    <m:PatchLocation ttl="60">patch.mpp</m:PatchLocation>
    <m:ServiceDescription id="0"><m:ContentSteering>https://old.example/</m:ContentSteering></m:ServiceDescription>
    <m:Period id="1" start="PT0S">
        <m:BaseURL>part-1/</m:BaseURL>
        <m:AdaptationSet mimeType="video/mp4"><m:SegmentTemplate media="$Number$.m4s"/></m:AdaptationSet>
    </m:Period>
    <m:Period id="ad" start="PT60S"><m:BaseURL>https://ads.example/x/</m:BaseURL></m:Period>
    <m:Period id="2" start="PT90S">
        <m:BaseURL>http://origin.example/archive/</m:BaseURL>
    </m:Period>
    <m:UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-iso:2014" value="/time?x&amp;y"/>
</m:MPD>
"#;

#[test]
fn several_periods_a_prefix_and_base_urls() {
    insta::assert_snapshot!(written(LIVE).expect("written"));
}

#[test]
fn a_bitrate_limit_leaves_representations_out_but_never_the_last_of_a_set() {
    let mpd = "<MPD><Period><AdaptationSet><Representation bandwidth=\"800000\"/>\
               <Representation bandwidth=\"2400000\"><BaseURL>/abs/</BaseURL></Representation></AdaptationSet>\
               <AdaptationSet><Representation bandwidth=\"5000000\"/></AdaptationSet></Period></MPD>";
    let of = |limit| write(mpd.as_bytes(), &space(), &steering(limit)).expect("written");
    assert_eq!(of(None).matches("<Representation").count(), 3);
    let limited = of(Some(1_000));
    assert!(!limited.contains("2400000") && !limited.contains("/abs/"), "{limited}");
    assert!(limited.contains("5000000") && limited.contains("</Period></MPD>"));
}

#[test]
fn a_set_of_video_above_the_limit_goes_if_another_can_do() {
    let set = |attributes: &str, inside: &str, kbps: &[u32]| {
        let of = |kbps: &u32| format!("<Representation bandwidth=\"{kbps}000\"/>");
        let representations: String = kbps.iter().map(of).collect();
        format!("<AdaptationSet mimeType=\"video/mp4\" {attributes}>{inside}{representations}</AdaptationSet>")
    };
    let left = |sets: &[String]| {
        let mpd = format!("<MPD><Period>{}</Period></MPD>", sets.concat());
        let out = write(mpd.as_bytes(), &space(), &steering(Some(1_000))).expect("written");
        let number = |part: &str| part.split('"').next().and_then(|text| text.parse::<u32>().ok());
        out.split("bandwidth=\"").skip(1).filter_map(number).map(|bits| bits / 1_000).collect::<Vec<_>>()
    };
    let hd = set("codecs=\"avc1.640028\"", "", &[800, 3_000]);
    let uhd = |inside| set("codecs=\"hvc1.2\"", inside, &[9_000, 15_000]);
    assert_eq!(left(&[hd.clone(), uhd("")]), [800]);
    assert_eq!(left(&[uhd("")]), [9_000], "never the last");
    assert_eq!(left(&[hd.clone(), uhd("<Viewpoint/>")]), [800, 9_000], "another camera is another thing");
    assert_eq!(left(&[hd.clone(), uhd("<Role value=\"main\"/>")]), [800]);
    let trick = set("codecs=\"avc1.640028\"", "<EssentialProperty/>", &[300]);
    assert_eq!(left(&[trick, uhd("")]), [300, 9_000], "trick play can not do");
    let av1 = set("codecs=\"av01.0\"", "", &[500]);
    assert_eq!(left(&[av1, uhd("")]), [500, 9_000], "nor can what few can play");
    let other = format!("{}</Period><Period>{}", hd, uhd(""));
    assert_eq!(left(&[other]), [800, 9_000], "nor another period");
}

#[test]
fn who_does_not_follow_gets_one_base_url_and_no_word_of_steering() {
    let plain = Steering { server_uri: None, ..steering(None) };
    let out = write(LIVE.as_bytes(), &space(), &plain).expect("written");
    assert!(!out.contains("ContentSteering") && !out.contains("own-x-1"), "{out}");
    assert_eq!(out.matches("serviceLocation=\"cdn-b\"").count(), 2, "of the MPD and of the second period: {out}");
    assert!(out.contains("<m:Location>http://steer.example/v1/playlists/"), "the next one must be the same: {out}");
}

#[test]
fn players_ask_before_they_start_only_by_choice() {
    let ask = |query_before_start| {
        let steering = Steering { query_before_start, ..steering(None) };
        let out = write(b"<MPD><Period/></MPD>", &space(), &steering).expect("written");
        out.contains("defaultServiceLocation=\"cdn-b\" queryBeforeStart=\"true\"")
    };
    assert!(ask(true) && !ask(false));
}

#[test]
fn what_is_relative_to_another_host_is_not_ours() {
    let ads = "<Period><BaseURL>https://ads.example/x/</BaseURL><AdaptationSet><BaseURL>/y/</BaseURL>\
               <SegmentTemplate media=\"/z/$Number$.m4s\"/></AdaptationSet></Period>";
    let out = written(&format!("<MPD>{ads}</MPD>")).expect("written");
    assert!(out.contains(ads), "{out}");
}

#[test]
fn segments_that_are_named_from_the_root_become_relative() {
    let mpd = |media: &str| {
        format!(
            "<MPD><BaseURL>video/</BaseURL><Period><AdaptationSet><BaseURL>hd/</BaseURL><SegmentTemplate \
             media='{media}' initialization=\"init.mp4\"/></AdaptationSet></Period></MPD>"
        )
    };
    let media = |uri: &str| {
        let out = written(&mpd(uri)).expect("written");
        assert!(out.contains("initialization=\"init.mp4\""), "{out}");
        out.split("media='").nth(1).and_then(|rest| rest.split('\'').next()).expect("there").to_owned()
    };
    assert_eq!(media("/live/river/video/hd/$Number%05d$.m4s"), "$Number%05d$.m4s");
    assert_eq!(media("http://origin.example/live/other/$Time$.m4s?a=1&amp;b"), "../../../other/$Time$.m4s?a=1&amp;b");
    assert_eq!(media("https://ads.example/$Time$.m4s"), "https://ads.example/$Time$.m4s");
    assert_eq!(media("../$Time$.m4s"), "../$Time$.m4s");
    let url = |text| Url::parse(text).expect("url");
    let below = Space::new(&url("http://origin.example/media"), &url("http://origin.example/media/x.mpd"));
    for outside in ["/other/$Time$.m4s", "../../../$Time$.m4s", "http://origin.example/$Time$.m4s"] {
        let refused = write(mpd(outside).as_bytes(), &below, &steering(None)).expect_err(outside);
        assert_eq!(refused.name(), "outside_base");
    }
}

#[test]
fn a_base_url_that_is_a_file_stays_one_and_loses_only_its_old_location() {
    let out = written(
        "<MPD><BaseURL>film.mp4</BaseURL><Period><BaseURL serviceLocation=\"x\" a='1'>b/</BaseURL></Period></MPD>",
    )
    .expect("written");
    assert!(out.contains("p?a=1&amp;b/live/river/film.mp4</BaseURL>"), "{out}");
    assert!(out.contains("<Period><BaseURL a='1'>b/</BaseURL></Period>"), "{out}");
}

#[test]
fn another_vocabulary_is_left_alone() {
    let event = "<Event><x:BaseURL>/x/</x:BaseURL><x:ContentSteering/><x:Period/></Event>";
    let mpd = format!("<MPD><Period><EventStream>{event}</EventStream></Period></MPD>");
    assert!(written(&mpd).expect("written").contains(event));
}

#[test]
fn a_broken_mpd_says_what_is_wrong() {
    let fails = |mpd: &str| written(mpd).expect_err(mpd).name();
    assert_eq!(fails(""), "bad_xml");
    assert_eq!(fails("#EXTM3U"), "bad_xml");
    assert_eq!(fails("<html/>"), "not_mpd");
    assert_eq!(fails("<MPD/>"), "no_variant");
    assert_eq!(fails("<MPD><Period></MPD>"), "bad_xml");
    assert_eq!(fails("<MPD><Period/>"), "bad_xml");
    assert_eq!(fails("<MPD><Period/></MPD><MPD/>"), "bad_xml");
    let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><MPD><Period>&b;</Period></MPD>";
    assert_eq!(fails(bomb), "doctype");
    assert_eq!(fails(&format!("<MPD>{}", "<a>".repeat(100))), "too_deep");
    assert_eq!(fails("<MPD><Period xlink:href=\"remote.xml\"/></MPD>"), "remote_element");
    assert_eq!(fails("<MPD><Period y:href='remote.xml'/></MPD>"), "remote_element");
    assert_eq!(fails("<MPD><Period><ImportedMPD>x.mpd</ImportedMPD></Period></MPD>"), "remote_element");
    assert!(written("<MPD><Period xlink:href='https://ads.example/x'/></MPD>").is_ok(), "asked of its own host");
    assert_eq!(fails("<MPD><Period a=1/></MPD>"), "bad_xml");
    assert_eq!(fails("<MPD><Period a='1' a='2'/></MPD>"), "bad_xml");
    assert_eq!(
        fails("<MPD><BaseURL>../../../x/</BaseURL><Period><BaseURL>..\\x</BaseURL></Period></MPD>"),
        "outside_base"
    );
    let many = format!("<MPD><Period>{}</Period></MPD>", "<BaseURL>/</BaseURL>".repeat(60_000));
    assert_eq!(fails(&many), "outgrown");
    let long = format!("<MPD><BaseURL>{}</BaseURL><Period/></MPD>", "x".repeat(20_000));
    assert_eq!(fails(&long), "long_uri");
    assert_eq!(fails("<MPD><BaseURL>https://else.example/</BaseURL><Period/></MPD>"), "nothing_on_origin");
    assert_eq!(fails("<MPD><BaseURL>&nope;</BaseURL><Period/></MPD>"), "bad_xml");
    assert_eq!(write(b"<MPD>\xff", &space(), &steering(None)), Err(WriteError::NotUtf8));
    assert!(written("<MPD><Period xlink:href='urn:mpeg:dash:resolve-to-zero:2013'/></MPD>").is_ok());
}

fn filler() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ \t\r\n]{0,6}",
        "<!--[ a-z\r\n]{0,12}-->",
        "<x:Vendor a='[ -%(-;=?-~]{0,8}'\r?\n? />",
        "<EssentialProperty schemeIdUri=\"urn:x\"  >text &lt; &amp;</EssentialProperty >",
        "<!\\[CDATA\\[[ -Z]{0,8}\\]\\]>",
    ]
}

proptest! {
    #[test]
    fn what_is_inserted_is_all_that_changes(
        before in proptest::collection::vec(filler(), 0..6),
        inside in proptest::collection::vec(filler(), 0..6),
        bom in any::<bool>(),
    ) {
        let before: String = before.concat();
        let bom = if bom { "\u{feff}" } else { "" };
        let mpd = format!("{bom}<MPD a=\"1\" >{before}<Period >{}</Period></MPD >\n", inside.concat());
        let out = written(&mpd).expect("written");
        let begin = bom.len() + "<MPD a=\"1\" >".len();
        prop_assert!(out.starts_with(&mpd[..begin]));
        let inserted = out.len() - mpd.len();
        prop_assert_eq!(&out[begin + inserted..], &mpd[begin..]);
        prop_assert!(out[begin..begin + inserted].ends_with("</ContentSteering>"));
    }

    #[test]
    fn no_input_makes_the_writer_panic(text in "(<MPD[ -~]{0,20}>)?(<BaseURL|<Period|<UTCTiming)?[ -~\r\n<>=\"'/&é]{0,120}(</MPD>)?") {
        let _ = written(&text);
    }
}

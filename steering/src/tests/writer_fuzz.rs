//! The playlist writers on random playlists, and on what mutation makes of real ones.

use proptest::prelude::*;
use quick_xml::Reader;
use quick_xml::events::Event;
use url::Url;

use super::fixtures::id;
use super::playlist_samples::{DASH, HLS, changes, mutated};
use super::{hls_checker, playlist_samples};
use crate::playlists::space::Space;
use crate::playlists::writer::{ADDED_MAX_BYTES, Offer, Steering, WriteError};
use crate::playlists::{dash, hls};

const PATHWAYS: [(&str, &str); 3] = [
    ("cdn-b", "http://cdn-b.example/p"),
    ("own-x-1", "http://own-x-1.example"),
    ("cdn-a", "https://cdn-a.example/p/q"),
];
const SERVER: &str = "http://steer.example/v1/steer/hls?t=v~r";

fn steering(pathways: &[(&str, &str)], max_bitrate_kbps: Option<u32>) -> Steering {
    let offer = |(name, base): &(&str, &str)| Offer::plain(id(name), (*base).to_owned());
    Steering {
        server_uri: Some(SERVER.into()),
        offers: pathways.iter().map(offer).collect(),
        max_bitrate_kbps,
        reload_url: Some("http://steer.example/v1/playlists/dash/live/river/manifest.mpd?t=v".into()),
        query_before_start: true,
    }
}

/// The folder `folder` of an origin with a base path or none.
fn space(base: &str, folder: &str) -> Space {
    let url = |text: &str| Url::parse(text).expect("url");
    Space::new(&url(base), &url(&format!("{base}/{folder}/manifest")))
}

fn write_hls(body: &[u8], steering: &Steering) -> Result<String, WriteError> {
    hls::write(body, &space("http://origin.example/media", "vod/lake"), steering)
}

fn write_dash(body: &[u8], steering: &Steering) -> Result<String, WriteError> {
    dash::write(body, &space("http://origin.example", "live/river"), steering)
}

/// A playlist that `choices` make: every kind of tag, group, URI, ending and odd line.
fn playlist(choices: &[u8]) -> String {
    let mut choices = choices.iter().copied();
    let mut draw = |below: usize| usize::from(choices.next().unwrap_or(0)) % below;
    let ending = ["\n", "\r\n"][draw(2)];
    let mut out = format!("{}#EXTM3U{ending}", ["", "\u{feff}"][draw(2)]);
    let kinds = ["AUDIO", "SUBTITLES", "VIDEO", "CLOSED-CAPTIONS"];
    let groups = draw(4);
    for (group, kind) in kinds.into_iter().enumerate().take(groups) {
        let uri = if kind == "CLOSED-CAPTIONS" || draw(4) == 0 {
            "INSTREAM-ID=\"CC1\"".to_owned()
        } else {
            format!("URI=\"{}\"", uri(&mut draw, 100 + group))
        };
        for language in 0..=draw(2) {
            out.push_str(&format!("#EXT-X-MEDIA:TYPE={kind},GROUP-ID=\"g, {kind}\",NAME=\"{language}\",{uri}{ending}"));
        }
    }
    for variant in 0..=draw(7) {
        let odd = ["", "# x", "#EXT-X-VENDOR:A=\"b\",C", "#EXT-X-START:TIME-OFFSET=1", "##", "#EXTINFO"];
        if draw(3) == 0 {
            out.push_str(&format!("{}{}", odd[draw(odd.len())], ["\n", "\r\n"][draw(2)]));
        }
        let mut attributes = format!("BANDWIDTH={}", 100_000 * (variant + 1));
        for kind in kinds.iter().take(groups) {
            if draw(3) > 0 {
                attributes.push_str(&format!(",{kind}=\"g, {kind}\""));
            }
        }
        attributes.push_str(["", ",AUDIO-X=\"g, AUDIO\"", ",CODECS=\"avc1.1,mp4a\"", ",SCORE=1.0 ", ","][draw(5)]);
        let unique = uri(&mut draw, variant);
        match draw(5) {
            0 => out.push_str(&format!("#EXT-X-I-FRAME-STREAM-INF:{attributes},URI=\"{unique}\"{ending}")),
            1 => out.push_str(&format!("#EXT-X-STREAM-INF:{attributes}{ending}# between{ending}{unique}{ending}")),
            _ => out.push_str(&format!("#EXT-X-STREAM-INF:{attributes}{ending}{unique}{ending}")),
        }
    }
    out.push_str(&format!("#EXT-X-STREAM-INF:BANDWIDTH=1{ending}last.m3u8{}", [ending, ""][draw(2)]));
    out
}

fn uri(draw: &mut impl FnMut(usize) -> usize, n: usize) -> String {
    match draw(7) {
        0 => format!("/media/vod/{n}.m3u8"),
        1 => format!("http://origin.example/media/vod/{n}/é.m3u8?s=a~b%7E"),
        2 => format!("https://ads.example/{n}.m3u8"),
        3 => format!("index.m3u8?v={n}"),
        4 => format!("../x/./{n} .m3u8#f"),
        _ => format!("v/{n}.m3u8"),
    }
}

/// Start tags of the elements of an MPD with their depth, and its texts.
fn elements(mpd: &str) -> Result<Vec<(usize, String)>, String> {
    let mut reader = Reader::from_str(mpd.trim_start_matches('\u{feff}'));
    let (mut out, mut depth) = (Vec::new(), 0);
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(tag) => {
                out.push((depth, String::from_utf8_lossy(&tag).into_owned()));
                depth += 1;
            }
            Event::Empty(tag) => out.push((depth, String::from_utf8_lossy(&tag).into_owned())),
            Event::End(_) => depth -= 1,
            Event::Eof if depth == 0 => return Ok(out),
            Event::Eof => return Err("open elements at the end".into()),
            _ => {}
        }
    }
}

/// What must hold of every written MPD.
fn check_mpd(written: &str, pathways: &[(&str, &str)]) -> Result<(), String> {
    let ensure = |holds: bool, words: &str| if holds { Ok(()) } else { Err(format!("{words}\n{written}")) };
    let found = elements(written)?;
    let name_of = |tag: &str| tag.split(|c: char| c.is_ascii_whitespace()).next().unwrap_or_default().to_owned();
    let prefix = found[0].1.split_once("MPD").map_or("", |(prefix, _)| prefix);
    let own = |depth: usize, name: &str| -> Vec<&String> {
        let fits = |(at, tag): &&(usize, String)| *at == depth && name_of(tag) == format!("{prefix}{name}");
        found.iter().filter(fits).map(|(_, tag)| tag).collect()
    };
    let steering = own(1, "ContentSteering");
    ensure(steering.len() == 1, "not exactly one ContentSteering")?;
    let default = format!("defaultServiceLocation=\"{}\"", pathways[0].0);
    ensure(steering[0].contains(&default), "not exactly one default, or not the first")?;
    let locations = own(1, "BaseURL");
    ensure(locations.len() == pathways.len(), "not one BaseURL per pathway")?;
    for (tag, (name, _)) in locations.iter().zip(pathways) {
        ensure(tag.contains(&format!("serviceLocation=\"{name}\"")), "BaseURLs are not in the pathways' order")?;
    }
    ensure(own(1, "PatchLocation").is_empty(), "a patch of another MPD")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn every_playlist_is_written_whole_for_every_pathway(
        choices in proptest::collection::vec(any::<u8>(), 0..80),
        pathways in 1_usize..=3,
    ) {
        let original = playlist(&choices);
        let written = write_hls(original.as_bytes(), &steering(&PATHWAYS[..pathways], None)).expect("written");
        hls_checker::check(&original, &written, &PATHWAYS[..pathways]).map_err(TestCaseError::fail)?;
        let again = write_hls(written.as_bytes(), &steering(&PATHWAYS[..pathways], None));
        prop_assert_eq!(again, Err(WriteError::NothingOnOrigin), "what is written is on no origin");
    }

    #[test]
    fn a_playlist_that_is_on_a_pathway_already_is_written_the_same_again(
        choices in proptest::collection::vec(any::<u8>(), 0..80),
        pathways in 1_usize..=3,
    ) {
        // The first pathway is the origin itself.
        let mut offers = PATHWAYS;
        offers[0].1 = "http://origin.example/media";
        let steering = steering(&offers[..pathways], None);
        let original = playlist(&choices).replace("https://ads.example", "/media");
        let once = write_hls(original.as_bytes(), &steering).expect("written");
        prop_assert_eq!(write_hls(once.as_bytes(), &steering), Ok(once));
    }

    #[test]
    fn a_bitrate_limit_leaves_every_pathway_the_same(
        choices in proptest::collection::vec(any::<u8>(), 0..80),
        limit in 0_u32..900,
    ) {
        let written = write_hls(playlist(&choices).as_bytes(), &steering(&PATHWAYS, Some(limit))).expect("written");
        hls_checker::check_loosely(&written, &PATHWAYS).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_mutated_playlist_is_written_or_refused_by_name(
        sample in 0..HLS.len(),
        changes in changes(),
        limit in proptest::option::of(0_u32..4_000),
    ) {
        let body = mutated(HLS[sample], &changes);
        match write_hls(&body, &steering(&PATHWAYS, limit)) {
            Ok(written) => {
                prop_assert!(written.len() <= body.len() * PATHWAYS.len() + ADDED_MAX_BYTES);
                hls_checker::check_loosely(&written, &PATHWAYS).map_err(TestCaseError::fail)?;
            }
            Err(error) => prop_assert!(!error.name().is_empty() && error.to_string().len() < 2_000, "{}", error),
        }
    }

    #[test]
    fn a_mutated_mpd_is_written_or_refused_by_name(
        sample in 0..DASH.len(),
        changes in changes(),
        limit in proptest::option::of(0_u32..4_000),
    ) {
        let body = mutated(DASH[sample], &changes);
        match write_dash(&body, &steering(&PATHWAYS, limit)) {
            Ok(written) => {
                prop_assert!(written.len() <= body.len() * PATHWAYS.len() + ADDED_MAX_BYTES);
                check_mpd(&written, &PATHWAYS).map_err(TestCaseError::fail)?;
            }
            Err(error) => prop_assert!(!error.name().is_empty() && error.to_string().len() < 2_000, "{}", error),
        }
    }

    #[test]
    fn either_writer_refuses_the_other_s_playlists(sample in 0..playlist_samples::DASH.len(), other in 0..HLS.len()) {
        prop_assert_eq!(write_hls(DASH[sample].as_bytes(), &steering(&PATHWAYS, None)), Err(WriteError::NotHls));
        prop_assert_eq!(write_dash(HLS[other].as_bytes(), &steering(&PATHWAYS, None)).expect_err("HLS").name(), "bad_xml");
    }
}

#[test]
fn real_playlists_are_written_for_every_pathway() {
    for sample in HLS {
        let written = write_hls(sample.as_bytes(), &steering(&PATHWAYS, None)).expect(sample);
        hls_checker::check_loosely(&written, &PATHWAYS).expect(sample);
        assert_eq!(written.matches("#EXT-X-VERSION").count(), sample.matches("#EXT-X-VERSION").count());
    }
    for sample in DASH {
        let written = write_dash(sample.as_bytes(), &steering(&PATHWAYS, None)).expect(sample);
        check_mpd(&written, &PATHWAYS).expect(sample);
    }
}

#[test]
fn an_mpd_that_is_on_a_pathway_already_is_written_the_same_again() {
    let mut offers = PATHWAYS;
    offers[0].1 = "http://origin.example";
    let steering = steering(&offers, None);
    for sample in DASH {
        let once = write_dash(sample.as_bytes(), &steering).expect(sample);
        assert_eq!(write_dash(once.as_bytes(), &steering), Ok(once));
        let elsewhere = write_dash(sample.as_bytes(), &self::steering(&PATHWAYS, None)).expect(sample);
        assert_eq!(write_dash(elsewhere.as_bytes(), &steering), Err(WriteError::NothingOnOrigin));
    }
}

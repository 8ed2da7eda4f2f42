use super::boxes::{children, find};
use super::*;

fn clip() -> Clip {
    Clip::embedded().unwrap()
}

fn decode_time(fragment: &[u8]) -> u64 {
    let tfdt = find(fragment, 0, fragment.len(), &["moof", "traf", "tfdt"]).unwrap();
    let field = &fragment[tfdt.payload() + 4..tfdt.end];
    field.iter().fold(0, |time, &byte| time << 8 | u64::from(byte))
}

/// The same fragment with a 32-bit decode time, as other packagers write it.
fn narrowed(fragment: &[u8]) -> Vec<u8> {
    let at = |path| find(fragment, 0, fragment.len(), path).unwrap();
    let (moof, traf, tfdt) = (at(&["moof"]), at(&["moof", "traf"]), at(&["moof", "traf", "tfdt"]));
    let trun = at(&["moof", "traf", "trun"]);
    let mut out = fragment.to_vec();
    for offset in [moof.start, traf.start, tfdt.start, trun.payload() + 8] {
        let shorter = u32::from_be_bytes(out[offset..offset + 4].try_into().unwrap()) - 4;
        out[offset..offset + 4].copy_from_slice(&shorter.to_be_bytes());
    }
    out[tfdt.payload()] = 0;
    out.drain(tfdt.payload() + 4..tfdt.payload() + 8);
    out
}

#[test]
fn the_embedded_ladder_has_three_videos_and_an_audio_track() {
    let clip = clip();
    let names: Vec<_> = clip.renditions.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["v144", "v240", "v360", "a48"]);
    assert_eq!(clip.rendition("v144").unwrap().track, Track::Video { width: 256, height: 144 });
    assert_eq!(clip.rendition("v360").unwrap().codec, "avc1.42c01e");
    let audio = clip.audios().next().unwrap();
    assert_eq!(audio.track, Track::Audio { sample_rate_hz: 32_000, channels: 2 });
    assert!(clip.videos().map(Rendition::average_bps).is_sorted());
    assert!(clip.renditions.iter().all(|r| r.peak_bps() >= r.average_bps()));
}

#[test]
fn every_fragment_starts_where_the_one_before_it_ends() {
    for rendition in &clip().renditions {
        assert_eq!(rendition.fragments.len(), 10);
        let mut expected = 0;
        for fragment in &rendition.fragments {
            assert_eq!(fragment.base_decode_time, expected, "{}", rendition.name);
            expected += fragment.duration;
        }
        assert_eq!(expected, 20 * u64::from(rendition.timescale));
    }
}

#[test]
fn video_fragments_last_two_seconds_and_audio_fragments_63_or_62_frames() {
    for rendition in &clip().renditions {
        for (index, fragment) in rendition.fragments.iter().enumerate() {
            let expected = match (rendition.is_video(), index % 2) {
                (true, _) => 180_000,
                (false, 0) => 63 * 1024,
                (false, _) => 62 * 1024,
            };
            assert_eq!(fragment.duration, expected, "{} {index}", rendition.name);
        }
    }
}

#[test]
fn init_segments_end_with_the_movie_box_and_fragments_hold_two_boxes() {
    for rendition in &clip().renditions {
        let kinds =
            |data: &[u8]| -> Vec<_> { children(data, 0, data.len()).unwrap().iter().map(|found| found.kind).collect() };
        assert_eq!(kinds(&rendition.init), [*b"ftyp", *b"moov"]);
        for fragment in &rendition.fragments {
            assert_eq!(kinds(&fragment.bytes), [*b"moof", *b"mdat"]);
        }
    }
}

#[test]
fn rewritten_decode_times_are_continuous_across_a_loop() {
    for rendition in &clip().renditions {
        let mut expected = 41 * rendition.duration();
        for loops in 41..43 {
            for index in 0..rendition.fragments.len() {
                let bytes = rendition.fragment_in_loop(index, loops).unwrap();
                assert_eq!(decode_time(&bytes), expected);
                assert_eq!(bytes.len(), rendition.fragments[index].bytes.len());
                expected += rendition.fragments[index].duration;
            }
        }
    }
}

#[test]
fn a_32_bit_decode_time_stays_narrow_while_it_fits() {
    let original = &clip().renditions[0].fragments[3].bytes.clone();
    let narrow = narrowed(original);
    let moved = with_decode_time(&narrow, 4_000_000_000).unwrap();
    assert_eq!(decode_time(&moved), 4_000_000_000);
    assert_eq!(moved.len(), narrow.len());
}

#[test]
fn a_32_bit_decode_time_is_widened_when_it_no_longer_fits() {
    let original = &clip().renditions[0].fragments[3].bytes.clone();
    let moved = with_decode_time(&narrowed(original), 5_000_000_000).unwrap();
    // Byte for byte what rewriting the 64-bit original gives: sizes and data offset included.
    assert_eq!(moved, with_decode_time(original, 5_000_000_000).unwrap());
}

#[test]
fn a_fragment_cut_short_is_refused_with_the_place() {
    let original = clip().renditions[0].fragments[0].bytes.clone();
    let error = with_decode_time(&original[..200], 0).unwrap_err();
    assert_eq!(error.to_string(), "read `moof` at byte 0: it is cut short");
}

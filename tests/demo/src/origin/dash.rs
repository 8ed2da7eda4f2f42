//! DASH manifests (ISO/IEC 23009-1), one period, relative URLs.

use std::fmt::Write as _;

use super::live::{LIVE_EPOCH_MS, WINDOW_SEGMENTS};
use super::timestamp::iso_8601;
use crate::media::{Clip, FRAMES_PER_SECOND, Rendition, SEGMENT_MS, Track};

const UPDATE_S: u64 = 10;
const SHIFT_BUFFER_S: u64 = 30;
const LIVE_DELAY_S: u64 = WINDOW_SEGMENTS * SEGMENT_MS / 2_000;

/// The clip once, with exact segment times.
pub(crate) fn vod(clip: &Clip) -> String {
    let clip_s = clip.fragment_count() as u64 * SEGMENT_MS / 1_000;
    let attributes = format!("type=\"static\" mediaPresentationDuration=\"PT{clip_s}S\"");
    let templates = |rendition: &Rendition| {
        let mut times = String::new();
        for fragment in &rendition.fragments {
            write!(times, "<S t=\"{}\" d=\"{}\"/>", fragment.base_decode_time, fragment.duration)
                .expect("a String takes any text");
        }
        format!(
            "<SegmentTemplate timescale=\"{}\" startNumber=\"0\" \
             initialization=\"$RepresentationID$/init.mp4\" \
             media=\"$RepresentationID$/$Number$.m4s\">\
             <SegmentTimeline>{times}</SegmentTimeline></SegmentTemplate>",
            rendition.timescale,
        )
    };
    mpd(clip, &attributes, "", templates)
}

/// The live loop: numbered segments from [`LIVE_EPOCH_MS`], which is the period's start too.
///
/// Times follow from the number alone, so a player needs no update to go on. The clock it carries
/// is as old as a cache lets it get: a player then runs late by that, never early.
pub(crate) fn live(clip: &Clip, now_ms: u64) -> String {
    let (start, now) = (iso_8601(LIVE_EPOCH_MS), iso_8601(now_ms));
    let attributes = format!(
        "type=\"dynamic\" availabilityStartTime=\"{start}\" publishTime=\"{now}\" \
         minimumUpdatePeriod=\"PT{UPDATE_S}S\" timeShiftBufferDepth=\"PT{SHIFT_BUFFER_S}S\" \
         suggestedPresentationDelay=\"PT{LIVE_DELAY_S}S\""
    );
    let timing = format!("  <UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:direct:2014\" value=\"{now}\"/>\n");
    let templates = |rendition: &Rendition| {
        let duration = SEGMENT_MS * u64::from(rendition.timescale) / 1_000;
        format!(
            "<SegmentTemplate timescale=\"{}\" duration=\"{duration}\" startNumber=\"0\" \
             initialization=\"dash/$RepresentationID$/init.mp4\" \
             media=\"dash/$RepresentationID$/$Number$.m4s\"/>",
            rendition.timescale,
        )
    };
    mpd(clip, &attributes, &timing, templates)
}

fn mpd(clip: &Clip, attributes: &str, after_period: &str, template: impl Fn(&Rendition) -> String) -> String {
    let mut sets = String::new();
    let videos: Vec<_> = clip.videos().collect();
    let audios: Vec<_> = clip.audios().collect();
    for (id, kind, renditions) in [(0, "video", videos), (1, "audio", audios)] {
        let Some(first) = renditions.first() else { continue };
        let representations: String = renditions.iter().map(|r| representation(r)).collect();
        write!(
            sets,
            "    <AdaptationSet id=\"{id}\" contentType=\"{kind}\" mimeType=\"{kind}/mp4\" \
             segmentAlignment=\"true\" startWithSAP=\"1\">\n      {}\n{representations}    \
             </AdaptationSet>\n",
            template(first),
        )
        .expect("a String takes any text");
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" \
         profiles=\"urn:mpeg:dash:profile:isoff-live:2011\" {attributes} \
         minBufferTime=\"PT2S\" maxSegmentDuration=\"PT2.016S\">\n  \
         <Period id=\"1\" start=\"PT0S\">\n{sets}  </Period>\n{after_period}</MPD>\n"
    )
}

fn representation(rendition: &Rendition) -> String {
    let Rendition { name, codec, .. } = rendition;
    let bandwidth_bps = rendition.peak_bps();
    let track = match rendition.track {
        Track::Video { width, height } => {
            format!("width=\"{width}\" height=\"{height}\" frameRate=\"{FRAMES_PER_SECOND}\"/>")
        }
        Track::Audio { sample_rate_hz, channels } => format!(
            "audioSamplingRate=\"{sample_rate_hz}\"><AudioChannelConfiguration \
             schemeIdUri=\"urn:mpeg:dash:23003:3:audio_channel_configuration:2011\" \
             value=\"{channels}\"/></Representation>"
        ),
    };
    format!(
        "      <Representation id=\"{name}\" codecs=\"{codec}\" bandwidth=\"{bandwidth_bps}\" \
         {track}\n"
    )
}

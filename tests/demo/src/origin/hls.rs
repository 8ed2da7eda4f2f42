//! HLS playlists (RFC 8216bis). Every URI is relative, so that the same text works under any
//! pathway's base URL.

use std::fmt::Write as _;

use super::live::{LiveLoop, start_ms};
use super::timestamp::iso_8601;
use crate::media::{Clip, FRAMES_PER_SECOND, Rendition, SEGMENT_MS, Track};

const AUDIO_GROUP: &str = "audio";

/// The multivariant playlist; the same for VOD and live.
pub(crate) fn multivariant(clip: &Clip) -> String {
    let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    let (mut audio_peak_bps, mut audio_average_bps, mut audio_codec) = (0, 0, String::new());
    for audio in clip.audios() {
        let Track::Audio { channels, .. } = audio.track else { continue };
        let name = &audio.name;
        line(
            &mut out,
            format_args!(
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{AUDIO_GROUP}\",NAME=\"Tone\",DEFAULT=YES,\
             AUTOSELECT=YES,CHANNELS=\"{channels}\",STABLE-RENDITION-ID=\"{name}\",\
             URI=\"{name}.m3u8\""
            ),
        );
        audio_peak_bps = audio_peak_bps.max(audio.peak_bps());
        audio_average_bps = audio_average_bps.max(audio.average_bps());
        audio_codec.clone_from(&audio.codec);
    }
    for video in clip.videos() {
        let Track::Video { width, height } = video.track else { continue };
        let name = &video.name;
        line(
            &mut out,
            format_args!(
                "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{},{audio_codec}\",\
             RESOLUTION={width}x{height},FRAME-RATE={FRAMES_PER_SECOND}.000,\
             AUDIO=\"{AUDIO_GROUP}\",STABLE-VARIANT-ID=\"{name}\"\n{name}.m3u8",
                video.peak_bps() + audio_peak_bps,
                video.average_bps() + audio_average_bps,
                video.codec,
            ),
        );
    }
    out
}

/// The whole clip, once.
pub(crate) fn vod_playlist(rendition: &Rendition) -> String {
    let mut out = head(rendition);
    let name = &rendition.name;
    line(&mut out, format_args!("#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-MAP:URI=\"{name}/init.mp4\""));
    for (index, fragment) in rendition.fragments.iter().enumerate() {
        let duration_s = rendition.seconds(fragment.duration);
        line(&mut out, format_args!("#EXTINF:{duration_s:.5},\n{name}/{index}.m4s"));
    }
    out.push_str("#EXT-X-ENDLIST\n");
    out
}

/// The window of the live loop at this moment. Before the first segment is complete it is empty.
pub(crate) fn live_playlist(rendition: &Rendition, live: &LiveLoop, now_ms: u64) -> String {
    let mut out = head(rendition);
    let name = &rendition.name;
    let window = live.window(now_ms);
    let first = window.as_ref().map_or(0, |window| *window.start());
    line(
        &mut out,
        format_args!(
            "#EXT-X-MEDIA-SEQUENCE:{first}\n#EXT-X-DISCONTINUITY-SEQUENCE:{}\n\
         #EXT-X-MAP:URI=\"hls/{name}/init.mp4\"",
            live.discontinuities_before(first),
        ),
    );
    for sequence in window.into_iter().flatten() {
        if live.starts_loop(sequence) {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        let index = live.fragment_index(sequence);
        let fragment = &rendition.fragments[index];
        // Audio fragments start up to 16 ms off the grid.
        let grid_ms = index as u64 * SEGMENT_MS;
        let in_clip_ms = fragment.base_decode_time * 1_000 / u64::from(rendition.timescale);
        line(
            &mut out,
            format_args!(
                "#EXT-X-PROGRAM-DATE-TIME:{}\n#EXTINF:{:.5},\nhls/{name}/{sequence}.m4s",
                iso_8601(start_ms(sequence) + in_clip_ms - grid_ms),
                rendition.seconds(fragment.duration),
            ),
        );
    }
    out
}

fn head(rendition: &Rendition) -> String {
    let longest = rendition.fragments.iter().map(|fragment| fragment.duration).max().unwrap_or(0);
    let target_s = rendition.seconds(longest).round();
    format!(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{target_s}\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n"
    )
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes any text");
}

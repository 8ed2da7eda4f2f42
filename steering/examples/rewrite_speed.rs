//! How many playlists one core rewrites per CPU-second: 12 variants × 4 pathways and 60 × 5, HLS and DASH, each with
//! sound in three groups (sets), subtitles and trick play beside its variants.
//! `cargo run --release -p spillway-steering --example rewrite_speed [-- --json]`
//!
//! Exits 1 if it misses a target.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use spillway_model::{PathwayId, Protocol};
use spillway_steering::Rewrite;
use url::Url;

/// Variants, pathways, rewrites per CPU-second at least.
const CASES: [(usize, usize, f64); 2] = [(12, 4, 20_000.0), (60, 5, 5_000.0)];
/// The median of so many is told.
const RUNS: usize = 7;
/// CPU-seconds of one.
const RUN_S: f64 = 0.4;
const TOKEN: &str = "k3v9Zt0aQ1mB7cX2dE5f~eu-central~64501~live-sport~t5k2p0~live/river~own-fra-1:own-fra-2:cdn-alpha:\
                     cdn-beta:own-par-1~own-fra-1~0a1b2c3d~00112233445566778899aabbccddeeff";

fn hls(variants: usize) -> String {
    let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n\n");
    for group in ["aac-128", "aac-256", "ec3"] {
        for language in ["en", "de"] {
            let name = format!("TYPE=AUDIO,GROUP-ID=\"{group}\",NAME=\"{language}\",LANGUAGE=\"{language}\"");
            writeln!(out, "#EXT-X-MEDIA:{name},AUTOSELECT=YES,CHANNELS=\"2\",URI=\"audio/{group}/{language}.m3u8\"")
                .expect("text");
        }
    }
    for language in ["en", "de"] {
        let name = format!("TYPE=SUBTITLES,GROUP-ID=\"subs\",NAME=\"{language}\",LANGUAGE=\"{language}\"");
        writeln!(out, "#EXT-X-MEDIA:{name},AUTOSELECT=YES,FORCED=NO,URI=\"subs/{language}.m3u8\"").expect("text");
    }
    for variant in 0..variants {
        let group = ["aac-128", "aac-256", "ec3"][variant % 3];
        let bits = 300_000 + 150_000 * variant;
        writeln!(
            out,
            "#EXT-X-STREAM-INF:BANDWIDTH={bits},AVERAGE-BANDWIDTH={},CODECS=\"avc1.640028,mp4a.40.2\",\
             RESOLUTION=1920x1080,FRAME-RATE=25.000,VIDEO-RANGE=SDR,AUDIO=\"{group}\",SUBTITLES=\"subs\",\
             CLOSED-CAPTIONS=NONE\nvideo/{bits}/{group}/index.m3u8",
            bits * 9 / 10
        )
        .expect("text");
    }
    for variant in 0..variants / 6 {
        let bits = 60_000 + 30_000 * variant;
        writeln!(
            out,
            "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH={bits},CODECS=\"avc1.640028\",RESOLUTION=1920x1080,\
             URI=\"trick/{bits}/index.m3u8\""
        )
        .expect("text");
    }
    out
}

/// Three periods share the variants: content, an advertisement of another host, content.
fn dash(variants: usize) -> String {
    let mut out = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" \
         profiles=\"urn:mpeg:dash:profile:isoff-live:2011\" minBufferTime=\"PT2S\">\n  <BaseURL>media/</BaseURL>\n",
    );
    for (period, base) in ["", "    <BaseURL>https://ads.example/spot/</BaseURL>\n", ""].iter().enumerate() {
        write!(out, "  <Period id=\"{period}\" duration=\"PT600S\">\n{base}").expect("text");
        for set in ["video/mp4\" contentType=\"video", "audio/mp4\" lang=\"en", "audio/mp4\" lang=\"de"] {
            write!(
                out,
                "    <AdaptationSet mimeType=\"{set}\" segmentAlignment=\"true\" startWithSAP=\"1\">\n      \
                 <SegmentTemplate timescale=\"90000\" media=\"$RepresentationID$/$Time$.m4s\" \
                 initialization=\"$RepresentationID$/init.mp4\"><SegmentTimeline><S t=\"0\" d=\"540000\" r=\"99\"/>\
                 </SegmentTimeline></SegmentTemplate>\n"
            )
            .expect("text");
            let of_set = if set.starts_with("video") { variants / 3 } else { 1 };
            for variant in 0..of_set {
                let bits = 300_000 + 150_000 * variant;
                writeln!(
                    out,
                    "      <Representation id=\"{period}-{bits}\" bandwidth=\"{bits}\" codecs=\"avc1.640028\" \
                     width=\"1920\" height=\"1080\" frameRate=\"25\" sar=\"1:1\"/>"
                )
                .expect("text");
            }
            out.push_str("    </AdaptationSet>\n");
        }
        out.push_str("  </Period>\n");
    }
    out.push_str("</MPD>\n");
    out
}

fn ran_s(begun: Instant) -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let ran_ns = text.split(' ').next().and_then(|field| field.parse::<f64>().ok());
    ran_ns.map_or_else(|| begun.elapsed().as_secs_f64(), |ns| ns / 1e9)
}

/// Rewrites per CPU-second, and the size of one.
fn measure(rewrite: &Rewrite, body: &[u8]) -> (f64, usize) {
    let bytes = rewrite.write(body).expect("a good playlist").len();
    let begun = Instant::now();
    let mut rates: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = ran_s(begun);
            let mut done = 0_u32;
            loop {
                for _ in 0..100 {
                    black_box(rewrite.write(black_box(body)).expect("a good playlist"));
                }
                done += 100;
                let took = ran_s(begun) - start;
                if took >= RUN_S {
                    return f64::from(done) / took;
                }
            }
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    (rates[RUNS / 2], bytes)
}

fn main() -> ExitCode {
    let json = std::env::args().any(|argument| argument == "--json");
    let url = |text: &str| Url::parse(text).expect("a URL");
    let names = ["own-fra-1", "own-fra-2", "cdn-alpha", "cdn-beta", "own-par-1"];
    let pathways: Vec<(PathwayId, String)> = names
        .iter()
        .map(|name| (PathwayId::new(name).expect("an id"), format!("https://{name}.media.example.net/p")))
        .collect();
    let (origin, mut all_ok) = (url("http://origin.example"), true);
    for (variants, count, target) in CASES {
        for (protocol, name, body) in
            [(Protocol::Hls, "master.m3u8", hls(variants)), (Protocol::Dash, "manifest.mpd", dash(variants))]
        {
            let playlist = url(&format!("http://origin.example/live/river/{name}"));
            let server = format!("https://steer.example.net/v1/steer/{protocol}?t={TOKEN}");
            let rewrite = Rewrite::new(protocol, &origin, &playlist, &server, &pathways[..count]);
            let (rate, bytes) = measure(&rewrite, body.as_bytes());
            let ok = rate >= target;
            all_ok &= ok;
            if json {
                println!(
                    "{{\"benchmark\":\"rewrite\",\"protocol\":\"{protocol}\",\"variants\":{variants},\
                     \"pathways\":{count},\"bytes_in\":{},\"bytes_out\":{bytes},\"value\":{rate:.0},\
                     \"unit\":\"rewrites_per_cpu_s\",\"at_least\":{target},\"ok\":{ok}}}",
                    body.len()
                );
            } else {
                println!(
                    "{protocol}, {variants} variants x {count} pathways: {rate:.0} rewrites per CPU-second ({} to \
                     {bytes} bytes; at least {target}: {})",
                    body.len(),
                    if ok { "holds" } else { "missed" }
                );
            }
        }
    }
    if all_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

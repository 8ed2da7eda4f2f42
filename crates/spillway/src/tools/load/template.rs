//! Bodies of beacons: fixed text with the numbers of one view and moment between.

/// What varies between views and stays the same within one.
const DEVICES: [(&str, &str, &str); 5] = [
    ("desktop", "linux", "chromium"),
    ("desktop", "windows", "edge"),
    ("mobile", "ios", "safari"),
    ("mobile", "android", "chrome"),
    ("tv", "tizen", "tizen"),
];
/// Titles of the views.
const TITLES: u64 = 50;
/// Distance of a beacon's events.
const EVENT_INTERVAL_MS: u64 = 1_000;

/// What all beacons of a run have in common.
#[derive(Clone, Debug)]
pub(super) struct Template {
    seed: u64,
    events: u64,
    pathways: Vec<String>,
}

/// One beacon to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beacon {
    /// Number of the view.
    pub(super) view: u64,
    /// Sequence of its first event.
    pub(super) first_seq: u64,
    /// When its last event happened, ms since epoch: the same in every attempt.
    pub(super) created_ms: u64,
}

impl Template {
    pub(super) fn new(seed: u64, events: u64, pathways: Vec<String>) -> Self {
        Self { seed, events, pathways }
    }

    /// Events of a beacon.
    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    /// Id of view number `view`.
    pub(super) fn view_id(&self, view: u64) -> String {
        format!("load-{:x}-{view}", self.seed)
    }

    fn pathway(&self, view: u64) -> &str {
        self.pathways.get(pick(view, self.pathways.len())).map_or("cdn-a", String::as_str)
    }

    /// Writes one event of view number `view`, as in a beacon.
    pub(super) fn write_event(&self, out: &mut Vec<u8>, view: u64, seq: u64, created_ms: u64) {
        event(out, seq, created_ms, self.pathway(view));
    }

    /// Writes the body of `beacon`, sent at `sent_ms`, behind what is in `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>, beacon: Beacon, sent_ms: u64) {
        let Beacon { view, first_seq, created_ms } = beacon;
        let (device, os, browser) = DEVICES[pick(view, DEVICES.len())];
        let pathway = self.pathway(view);
        text(out, r#"{"v":1,"sdk":"spillway-load/1","sent_ms":"#);
        number(out, sent_ms);
        text(out, r#","rtt_ms":24,"dropped":0,"ctx":{"view_id":""#);
        text(out, &self.view_id(view));
        text(out, r#"","content_id":"live/title-"#);
        number(out, view % TITLES);
        text(
            out,
            r#"","stream_type":"live","format":"hls","player":"hls.js","player_version":"1.7.4","device_class":""#,
        );
        text(out, device);
        text(out, r#"","os":""#);
        text(out, os);
        text(out, r#"","browser":""#);
        text(out, browser);
        text(out, r#"","page_type":"watch","sample_rate":1},"events":["#);
        for index in 0..self.events {
            if index > 0 {
                out.push(b',');
            }
            let age_ms = (self.events - 1 - index) * EVENT_INTERVAL_MS;
            event(out, first_seq + index, created_ms.saturating_sub(age_ms), pathway);
        }
        text(out, "]}");
    }
}

/// One event as a player's SDK writes it: cumulative counters of the view and of its pathway.
fn event(out: &mut Vec<u8>, seq: u64, created_ms: u64, pathway: &str) {
    let watched_ms = seq * EVENT_INTERVAL_MS;
    let stalls = seq / 40;
    let stall_ms = stalls * 850;
    let requests = seq / 2;
    text(out, if seq == 0 { r#"{"type":"view_start","seq":"# } else { r#"{"type":"heartbeat","seq":"# });
    number(out, seq);
    for (name, value) in [
        (r#","created_ms":"#, created_ms),
        (r#","mono_ms":"#, watched_ms),
        (r#","state":"playing","playhead_ms":"#, watched_ms.saturating_sub(stall_ms)),
        (r#","buffer_ms":"#, 9_000 + seq * 37 % 4_000),
        (r#","throughput_kbps":"#, 4_000 + seq * 131 % 3_000),
        (r#","bitrate_kbps":"#, [1_200, 2_400, 4_800][pick(seq / 16, 3)]),
    ] {
        text(out, name);
        number(out, value);
    }
    text(out, r#","pathway":""#);
    text(out, pathway);
    for (name, value) in [
        (r#"","counters":{"watched_ms":"#, watched_ms),
        (r#","playing_ms":"#, watched_ms.saturating_sub(stall_ms)),
        (r#","startup_ms":"#, 640),
        (r#","stall_count":"#, stalls),
        (r#","stall_ms":"#, stall_ms),
        (r#","dropped_frames":"#, seq / 9),
    ] {
        text(out, name);
        number(out, value);
    }
    text(out, r#"},"pathways":{""#);
    text(out, pathway);
    for (name, value) in [
        (r#"":{"requests_ok":"#, requests),
        (r#","requests_failed":"#, 0),
        (r#","bytes":"#, requests * 600_000),
        (r#","ttfb_sum_ms":"#, requests * 41),
        (r#","playing_ms":"#, watched_ms.saturating_sub(stall_ms)),
        (r#","stall_ms":"#, stall_ms),
    ] {
        text(out, name);
        number(out, value);
    }
    text(out, "}}}");
}

fn pick(number: u64, of: usize) -> usize {
    usize::try_from(number).unwrap_or(0) % of.max(1)
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Decimal digits, without the formatting machinery: a body has hundreds of numbers.
fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_767_225_600_000;

    fn body(beacon: Beacon) -> serde_json::Value {
        let mut out = Vec::new();
        Template::new(7, 20, vec!["cdn-a".into(), "cdn-b".into()]).write(&mut out, beacon, NOW_MS);
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn a_body_is_a_beacon_with_its_view_sequences_and_times() {
        let body = body(Beacon { view: 3, first_seq: 40, created_ms: NOW_MS - 5 });
        assert_eq!(body["v"], 1);
        assert_eq!(body["sent_ms"], NOW_MS);
        assert_eq!(body["ctx"]["view_id"], "load-7-3");
        let events = body["events"].as_array().expect("events");
        let seqs: Vec<u64> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
        assert_eq!(seqs, (40..60).collect::<Vec<_>>());
        assert_eq!(events[19]["created_ms"], NOW_MS - 5);
        assert_eq!(events[0]["created_ms"], NOW_MS - 5 - 19_000);
        assert!(events[0]["pathways"]["cdn-b"]["bytes"].as_u64().is_some());
    }

    #[test]
    fn an_event_has_about_443_bytes() {
        let mut out = Vec::new();
        for seq in 0..2_000 {
            event(&mut out, seq, NOW_MS, "cdn-a");
        }
        let mean = out.len() / 2_000;
        assert!((433..=453).contains(&mean), "{mean} bytes");
    }

    #[test]
    fn numbers_read_as_they_are() {
        for value in [0, 9, 10, 1_234_567_890, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(String::from_utf8(out).expect("digits"), value.to_string());
        }
    }
}

//! Overviews to try the pages with: every template is rendered with each of them, and the preview plays the story.

mod story;

use spillway_wire::overview::{LogLine, Note, Overview, PathwayTotals, PathwayView, RegionView};

pub use story::{STORY_S, story};

/// The moment of the samples, ms since epoch: a night in November 2026.
pub const SAMPLE_AT_MS: u64 = 1_793_848_364_000;

/// The orchestrator runs, and knows no region yet.
#[must_use]
pub fn empty() -> Overview {
    Overview { v: 1, at_ms: SAMPLE_AT_MS, ..Overview::default() }
}

/// Own edges carry nearly all.
#[must_use]
pub fn quiet() -> Overview {
    story(60, SAMPLE_AT_MS)
}

/// More viewers than the own edges hold: the rest goes to CDNs.
#[must_use]
pub fn spike() -> Overview {
    story(150, SAMPLE_AT_MS)
}

/// A CDN is dead in one region.
#[must_use]
pub fn outage() -> Overview {
    story(174, SAMPLE_AT_MS)
}

/// An own edge is being emptied.
#[must_use]
pub fn drain() -> Overview {
    story(294, SAMPLE_AT_MS)
}

/// Everything that may be absent is, and a cap is in force.
#[must_use]
pub fn sparse() -> Overview {
    let mut overview = outage();
    overview.telemetry_ppm = 412_000;
    for totals in overview.pathways.values_mut() {
        *totals = PathwayTotals { kind: totals.kind.clone(), ..PathwayTotals::default() };
    }
    for region in overview.regions.values_mut() {
        region.max_bitrate_kbps = Some(2_400);
        region.verdicts = vec!["CAPACITY: demand is above all pathways together".to_owned()];
        for pathway in region.pathways.values_mut() {
            *pathway = PathwayView { state: "UNKNOWN".to_owned(), probe: "none".to_owned(), ..PathwayView::default() };
        }
    }
    overview.log.clear();
    let note =
        |kind: &str, text: &str, until_ms| Note { kind: kind.into(), text: text.into(), until_ms, ..Note::default() };
    overview.notes = vec![
        Note { region: "eu-central".into(), ..note("freeze", "final of the cup (ann)", Some(SAMPLE_AT_MS + 540_000)) },
        note("override", "drain own-fra-1: new disks (bob)", Some(SAMPLE_AT_MS + 7_200_000)),
        note("canary", "policy bold on trial in ap-south: +0.10 points of bad windows against the other regions", None),
        note("commit", "cdn-a: 312 of 1000 committed GB are used, 709 expected by the period's end", None),
    ];
    overview
}

/// Ids as long as they may be, fifty long lines, large numbers.
#[must_use]
pub fn long() -> Overview {
    let mut overview = outage();
    let region_name = "region-of-a-very-long-name-that-fills-all-sixty-four-characters0".to_owned();
    let pathway_name = "own-edge-of-a-very-long-name-filling-all-sixty-four-characters00".to_owned();
    let mut region = overview.regions["eu-central"].clone();
    let mut pathway = region.pathways["own-fra-1"].clone();
    pathway.reason = "because of a reason that nobody could put into fewer words ".repeat(20);
    pathway.views_active = u64::MAX;
    region.pathways.insert(pathway_name.clone(), pathway);
    region.verdicts = (0..20).map(|n| format!("PATH: verdict {n} {}", "with many words ".repeat(30))).collect();
    region.epoch = u64::MAX;
    region.demand_bps = u64::MAX;
    overview.regions.insert(region_name.clone(), region);
    overview.pathways.insert(
        pathway_name,
        PathwayTotals { kind: "own".to_owned(), utilisation_ppm: Some(u32::MAX), ..PathwayTotals::default() },
    );
    let text = "a note that took many words to say what it had to say ".repeat(20);
    overview.notes = vec![Note { kind: "event".into(), region: region_name.clone(), text, until_ms: None }; 40];
    overview.log = (0..50)
        .map(|n| LogLine {
            at_ms: SAMPLE_AT_MS - 3_600_000 + n * 1_000,
            region: region_name.clone(),
            text: format!("line {n}: {}", "it happened and it took many words to say so ".repeat(20)),
        })
        .collect();
    overview
}

/// Words that this version does not know, and text that must not become markup.
#[must_use]
pub fn hostile() -> Overview {
    let script = "<script>alert('x')</script>\"'&\r\n\ndata: evil";
    let mut overview = quiet();
    let pathway = PathwayView {
        state: "<b>WOBBLY</b>".to_owned(),
        reason: script.to_owned(),
        probe: "\"><img src=x onerror=alert(1)>".to_owned(),
        views_active: 7,
        share_ppm: u32::MAX,
        weight_ppm: u32::MAX,
        good_ppm: Some(u32::MAX),
        since_ms: u64::MAX,
    };
    let region = RegionView {
        mode: script.to_owned(),
        verdicts: vec![script.to_owned()],
        pathways: [(script.to_owned(), pathway)].into(),
        views_active: 7,
        ..RegionView::default()
    };
    overview.regions.insert(script.to_owned(), region);
    overview.pathways.insert(script.to_owned(), PathwayTotals { kind: script.to_owned(), ..PathwayTotals::default() });
    let note = Note { kind: script.to_owned(), region: script.to_owned(), text: script.to_owned(), until_ms: Some(0) };
    overview.notes.push(note);
    overview.log.push(LogLine { at_ms: SAMPLE_AT_MS, region: script.to_owned(), text: script.to_owned() });
    overview
}

/// Every sample with its name. All are of [`SAMPLE_AT_MS`].
#[must_use]
pub fn all() -> Vec<(&'static str, Overview)> {
    vec![
        ("empty", empty()),
        ("quiet", quiet()),
        ("spike", spike()),
        ("outage", outage()),
        ("drain", drain()),
        ("sparse", sparse()),
        ("long", long()),
        ("hostile", hostile()),
    ]
}

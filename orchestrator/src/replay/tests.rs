//! A small world is played and recorded, and then decided again.

use std::collections::BTreeMap;

use spillway_lake::records::Round;
use spillway_model::{BitsPerSecond, Mode, OriginGroupId, PathwayId, PathwayKind, Ppm, RegionId, TimestampMs};
use spillway_orchestrator_core::{
    self as core, CellEvidence, Engine, Parameters, PathwaySetup, RegionSetup, RoundInput, Setup, SourceKind,
};
use spillway_routing::Target;

use super::*;
use crate::record::{Last, Over, Whole, row};

const START_MS: u64 = 1_767_225_600_000;
const VIEWS: f64 = 600.0;

fn pathway(name: &str) -> PathwayId {
    PathwayId::new(name).expect("id")
}

fn eu() -> RegionId {
    RegionId::new("eu").expect("id")
}

fn setup(names: &[&str], parameters: Parameters) -> Setup {
    let declared = |name: &&str| {
        let origin = OriginGroupId::new("origin").expect("id");
        let pathway_setup = PathwaySetup {
            capacity: BitsPerSecond(10_000_000_000),
            price_usd_per_gb: 0.01,
            base_url: format!("http://{name}.example"),
            ..PathwaySetup::bare(PathwayKind::Commercial, origin)
        };
        (pathway(name), pathway_setup)
    };
    let region = RegionSetup {
        mode: Mode::Control,
        control: Ppm::ALL,
        static_weights: names.iter().map(|name| (Target::Pathway(pathway(name)), 1)).collect(),
        ..RegionSetup::default()
    };
    Setup {
        regions: [(eu(), region)].into(),
        pathways: names.iter().map(declared).collect(),
        parameters,
        policy: "test".into(),
        ..Setup::default()
    }
}

/// Slower to believe failed requests.
fn patient() -> Setup {
    let mut parameters = Parameters::default();
    parameters.set("fast_window_s", 14.0).expect("known");
    parameters.set("fast_views_min", 150.0).expect("known");
    parameters.set("fast_share", 0.9).expect("known");
    parameters.set("fast_small_share", 0.95).expect("known");
    setup(&["cdn-a", "cdn-b"], parameters)
}

fn usual() -> Setup {
    setup(&["cdn-a", "cdn-b"], Parameters::default())
}

fn with_cdn_c() -> Setup {
    let mut setup = setup(&["cdn-a", "cdn-b", "cdn-c"], Parameters::default());
    setup.pathways.get_mut(&pathway("cdn-c")).expect("there").price_usd_per_gb = 0.0;
    setup
}

/// What a round hears of views that are at `shares`; cdn-a fails from second `fails_s` on, for ever more of
/// its views.
fn heard(second: u64, shares: &BTreeMap<PathwayId, f64>, fails_s: u64) -> RoundInput {
    let mut input = RoundInput { frames_expected: 2, frames_received: 2, ..RoundInput::default() };
    for at_s in [second - 1, second] {
        for (id, share) in shares {
            let at = TimestampMs(START_MS + at_s * 1000);
            let views = (VIEWS * share).round() as u64;
            let ill = if id.as_str() == "cdn-a" && at_s >= fails_s { (at_s - fails_s + 3).min(10) } else { 0 };
            input.cells.push(CellEvidence {
                views_active: views,
                windows: views / 10,
                bad_windows: views / 10 * ill / 10,
                requests_ok: views * (10 - ill) / 40,
                requests_failed: views * ill / 40,
                views_failing: views * ill / 40,
                bits: views * 2_500_000,
                heartbeats_due: views / 10,
                heartbeats_received: views / 10,
                ..CellEvidence::empty(at, "collector-1", SourceKind::Collector, id.clone(), eu())
            });
        }
    }
    input
}

/// 90 rounds under the usual policy; the process starts anew at each of `starts`.
fn recorded(starts: &[u64], fails_s: u64) -> Vec<Round> {
    reloaded(starts, fails_s, u64::MAX)
}

/// The same; before round `reload` the configuration is read again, and has a third CDN that costs nothing.
fn reloaded(starts: &[u64], fails_s: u64, reload: u64) -> Vec<Round> {
    let mut rows = Vec::new();
    let mut in_force = Manifests::new();
    let mut there: BTreeMap<PathwayId, f64> = [(pathway("cdn-a"), 0.5), (pathway("cdn-b"), 0.5)].into();
    let (mut engine, mut last, mut run) = (Engine::new(usual()), Last::default(), (0, 0));
    for round in 0..90_u64 {
        if starts.contains(&round) {
            (engine, last, run) = (Engine::new(usual()), Last::default(), (START_MS + round * 2000, 0));
            in_force.values().for_each(|manifest| engine.adopt(manifest));
        }
        if round == reload {
            engine.reconfigure(with_cdn_c());
            there.insert(pathway("cdn-c"), 0.0);
        }
        let config = if round < reload { "usual" } else { "with cdn-c" };
        let at = TimestampMs(START_MS + round * 2000);
        // Views follow at their next poll: of those who should go, a quarter do so in a round.
        let planned = in_force.get(&eu()).map(crate::round::weights_by_pathway).unwrap_or_default();
        for (id, share) in &mut there {
            let wanted = planned.get(id).map_or(0.0, |ppm| f64::from(*ppm) / 1e6);
            let wanted = if planned.is_empty() { 0.5 } else { wanted };
            *share += 0.25 * (wanted - *share);
        }
        let input = heard(round * 2 + 1, &there, fails_s);
        let output = engine.round(at, &input);
        let manifest = &output.regions[&eu()].manifest;
        let mut published = Manifests::new();
        let before = in_force.clone();
        if !in_force.get(&eu()).is_some_and(|current| core::same_routing(current, manifest)) {
            published.insert(eu(), manifest.clone());
            in_force.insert(eu(), manifest.clone());
        }
        let whole = (run.1 % 10 == 0 || round == reload).then(|| Whole { in_force: before, config: config.into() });
        let (started, seq, orchestrator) = (TimestampMs(run.0), run.1, "o-1".into());
        let (row, kept) = row(Over { at, started, seq, orchestrator, input, published, whole }, last);
        rows.push(row);
        last = kept;
        run.1 += 1;
    }
    rows
}

fn replayed(rows: &[Round], from_round: u64, new: Setup) -> Result<Report, ReplayError> {
    let base_of = |config: &str| match config {
        "usual" => Ok(usual()),
        "with cdn-c" => Ok(with_cdn_c()),
        _ => Err("another one".to_owned()),
    };
    let mut replay = Replay::new(TimestampMs(START_MS + from_round * 2000), Box::new(base_of), new);
    rows.iter().try_for_each(|row| replay.round(row))?;
    replay.finish()
}

#[test]
fn the_same_policy_does_the_same_again_and_says_so() {
    for starts in [&[0][..], &[0, 25], &[0, 25, 40]] {
        let rows = recorded(starts, 60);
        let report = replayed(&rows, 0, usual()).expect("replays");
        assert_eq!((report.rounds, report.runs, report.rounds_missing), (90, starts.len() as u64, 0));
        assert_eq!((report.fidelity.alike, report.fidelity.first_difference.as_ref()), (90, None));
        assert_eq!(report.fidelity.epochs_recorded, report.fidelity.epochs_replayed);
        assert_eq!((&report.total.base, report.changed.len()), (&report.total.new, 0));
        let cdn_a = &report.regions["eu"].pathways["cdn-a"];
        assert_eq!(cdn_a.down_later_s, Some(0.0), "{cdn_a:?}");
        assert!(report.total.base.epochs >= 2 && report.total.base.cost_usd > 0.0, "{:?}", report.total);
        // The estimate is of the size of what was.
        let (estimated, observed) = (report.total.base.bad_windows, report.total.bad_windows_observed);
        assert!(observed > 50.0 && (0.5..2.0).contains(&(estimated / observed)), "{estimated} {observed}");
    }
}

#[test]
fn a_more_patient_policy_goes_later_and_worse() {
    let rows = recorded(&[0], 60);
    let report = replayed(&rows, 0, patient()).expect("replays");
    assert_eq!(report.fidelity.alike, 90, "the base is what was, whatever the new policy does");
    let cdn_a = &report.regions["eu"].pathways["cdn-a"];
    let later = cdn_a.down_later_s.unwrap_or(f64::INFINITY);
    assert!(later >= 2.0, "{cdn_a:?}");
    assert!(report.total.new.bad_windows > report.total.base.bad_windows * 1.1, "{:?}", report.total);
    let names: Vec<&str> = report.changed.iter().map(|change| change.what.as_str()).collect();
    assert_eq!(names, ["fast_window_s", "fast_views_min", "fast_share", "fast_small_share"]);
}

#[test]
fn the_same_rows_give_the_same_report() {
    let rows = recorded(&[0, 40], 60);
    let text = || serde_json::to_string(&replayed(&rows, 10, patient()).expect("replays")).expect("json");
    assert_eq!(text(), text());
}

#[test]
fn a_span_in_the_midst_begins_with_what_was_in_force_then() {
    let rows = recorded(&[0], 40);
    // Long after the fault: cdn-a is DOWN, and stays so for whoever adopts that.
    let report = replayed(&rows, 55, usual()).expect("replays");
    assert_eq!(report.rounds, 35);
    let base = report.regions["eu"].pathways["cdn-a"].base.clone().expect("declared");
    assert_eq!(base.first_down_ms, Some(START_MS + 55 * 2000), "{base:?}");
    assert!(base.mean_share < 0.01, "{base:?}");
}

#[test]
fn a_reload_in_the_recording_is_one_in_the_replay() {
    // In the middle of the incident: cdn-a is DOWN by then.
    let rows = reloaded(&[0], 60, 50);
    let report = replayed(&rows, 0, usual()).expect("replays");
    assert_eq!((report.rounds, report.runs), (90, 1));
    assert_eq!((report.fidelity.alike, report.fidelity.first_difference.as_ref()), (90, None));
    let down = |id: &str| report.regions["eu"].pathways[id].base.clone().and_then(|base| base.first_down_ms);
    assert!(down("cdn-a").is_some_and(|at| at < START_MS + 50 * 2000) && down("cdn-c").is_none());
    let base = report.regions["eu"].pathways["cdn-c"].base.clone().expect("declared");
    assert!(base.mean_share > 0.0, "{base:?}");
    // A replay that begins after it knows only the newer one.
    let report = replayed(&rows, 60, with_cdn_c()).expect("replays");
    assert_eq!(report.fidelity.alike, report.rounds);
}

#[test]
fn what_the_new_deployment_does_not_have_is_left_out_and_named() {
    let rows = recorded(&[0], 60);
    let report = replayed(&rows, 0, setup(&["cdn-b", "cdn-c"], Parameters::default())).expect("replays");
    assert_eq!(report.left_out.len(), 1);
    let left = &report.left_out[0];
    assert_eq!((left.pathway.as_str(), left.of.as_str()), ("cdn-a", "new"));
    assert!(left.windows_share > 0.1 && left.windows_share < 0.9, "{left:?}");
    assert!(report.regions["eu"].pathways["cdn-a"].new.is_none());
    assert!(report.total.new.hardly_observed_share > 0.2, "nobody was on cdn-c: {:?}", report.total.new);
    let error = replayed(&rows, 0, setup(&["cdn-x"], Parameters::default())).expect_err("foreign").to_string();
    assert!(error.contains("recorded: cdn-a, cdn-b") && error.contains("configured: cdn-x"), "{error}");
}

#[test]
fn missing_rows_are_counted_and_what_is_not_known_is_not_replayed() {
    let mut rows = recorded(&[0], 60);
    rows.drain(12..15);
    let report = replayed(&rows, 0, usual()).expect("replays");
    assert_eq!((report.rounds, report.rounds_missing), (87, 3));
    // Without the first row nobody knows what was in force until the next one that carries everything.
    let report = replayed(&recorded(&[0], 60)[4..], 0, usual()).expect("replays");
    assert_eq!((report.rounds, report.rounds_skipped), (80, 6));
    let error = replayed(&recorded(&[0], 60)[1..9], 0, usual()).err().map(|error| error.to_string());
    assert!(error.as_deref().is_some_and(|error| error.contains("8 were recorded")), "{error:?}");
    let error = replayed(&[], 0, usual()).err().map(|error| error.to_string());
    assert!(error.as_deref().is_some_and(|error| error.contains("none was recorded")), "{error:?}");
}

#[test]
fn a_row_that_does_not_read_and_a_configuration_of_another_time_are_named() {
    let mut rows = recorded(&[0], 60);
    rows[3].heard_json = "{\"v\":9}".into();
    let error = replayed(&rows, 0, usual()).expect_err("unreadable").to_string();
    assert!(error.contains("1767225606000") && error.contains("version 9"), "{error}");
    rows[0].config_toml = Some("older".into());
    let error = replayed(&rows, 0, usual()).expect_err("configuration").to_string();
    assert!(error.contains("--base") && error.contains("another one"), "{error}");
}

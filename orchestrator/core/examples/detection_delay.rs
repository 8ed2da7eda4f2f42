//! How soon faults are seen, and how often one is seen where none is: windows and failing views drawn at random.
//! `cargo run --release -p spillway-orchestrator-core --example detection_delay`

use spillway_model::{
    BitsPerSecond, Mode, OriginGroupId, PathwayId, PathwayKind, PathwayState, Ppm, RegionId, TimestampMs,
};
use spillway_orchestrator_core::{CellEvidence, Engine, PathwaySetup, RegionSetup, RoundInput, Setup, SourceKind};

const PATHWAYS: [&str; 4] = ["cdn-a", "cdn-b", "cdn-c", "own-1"];

/// splitmix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn of(&mut self, count: u64, chance: f64) -> u64 {
        (0..count).filter(|_| self.unit() < chance).count() as u64
    }
}

struct World {
    engine: Engine,
    random: Random,
    now: u64,
    views: u64,
    /// Bad share and failing share of `cdn-a` beside the usual.
    fault: (f64, f64),
    owed: f64,
}

impl World {
    fn new(seed: u64, views: u64) -> Self {
        let region = RegionSetup { mode: Mode::Control, control: Ppm(990_000), ..RegionSetup::default() };
        let pathways = PATHWAYS.iter().map(|name| {
            let own = name.starts_with("own-");
            let kind = if own { PathwayKind::Own } else { PathwayKind::Commercial };
            let origin = OriginGroupId::new("origin").expect("an id");
            let capacity = BitsPerSecond(1_000_000_000_000);
            let declared = PathwaySetup { capacity, ..PathwaySetup::bare(kind, origin) };
            (PathwayId::new(name).expect("an id"), declared)
        });
        let setup = Setup {
            regions: [(RegionId::new("eu").expect("an id"), region)].into(),
            pathways: pathways.collect(),
            ..Setup::default()
        };
        Self {
            engine: Engine::new(setup),
            random: Random(seed),
            now: 1_000_000_000,
            views,
            fault: (0.0, 0.0),
            owed: 0.0,
        }
    }

    /// Two seconds; true if `cdn-a` is neither HEALTHY nor UNKNOWN, and how many pathways are not.
    fn round(&mut self) -> (bool, usize) {
        let mut input = RoundInput { frames_expected: 2, frames_received: 2, ..RoundInput::default() };
        for _ in 0..2 {
            self.now += 1000;
            self.owed += self.views as f64 / 10.0;
            let windows = self.owed as u64;
            self.owed -= windows as f64;
            for (index, name) in PATHWAYS.iter().enumerate() {
                let (bad, failing) = if index == 0 { self.fault } else { (0.0, 0.0) };
                let (region, pathway) = (RegionId::new("eu").expect("an id"), PathwayId::new(name).expect("an id"));
                let at = TimestampMs(self.now);
                let bad_windows = self.random.of(windows, 0.01 + bad);
                input.cells.push(CellEvidence {
                    asn: Some(1 + self.now as u32 / 1000 % 3),
                    views_active: self.views,
                    windows,
                    bad_windows,
                    // A player asks for a segment every few seconds.
                    views_failing: self.random.of(self.views, (0.0005 + failing) / 3.0),
                    bits: self.views * 2_000_000,
                    heartbeats_due: windows,
                    heartbeats_received: windows,
                    ..CellEvidence::empty(at, "collector-1", SourceKind::Collector, pathway, region)
                });
            }
        }
        let output = self.engine.round(TimestampMs(self.now), &input);
        let manifest = &output.regions["eu"].manifest;
        let ill = |state: PathwayState| !matches!(state, PathwayState::Healthy | PathwayState::Unknown);
        (ill(manifest.pathways["cdn-a"].state), manifest.pathways.values().filter(|p| ill(p.state)).count())
    }
}

/// Median and 95th percentile of the seconds until `fault` is seen, and how often it isn't within ten minutes.
fn delays(name: &str, views: u64, fault: (f64, f64)) {
    let mut seconds: Vec<u64> = (1..=60)
        .map(|seed| {
            let mut world = World::new(seed, views);
            for _ in 0..120 {
                let _ = world.round();
            }
            world.fault = fault;
            (1..=300).find(|_| world.round().0).map_or(u64::MAX, |rounds| rounds * 2)
        })
        .collect();
    seconds.sort_unstable();
    let word = |value: u64| if value == u64::MAX { "never".to_owned() } else { format!("{value} s") };
    println!("{name}, {views} windows per 10 s: median {}, p95 {}", word(seconds[29]), word(seconds[56]));
}

fn main() {
    for views in [10, 50, 200] {
        delays("outage: half of the windows bad, half of the requests fail", views, (0.5, 0.5));
        delays("outage that only stalls: half of the windows bad", views, (0.5, 0.0));
        delays("brownout: 8 % of windows bad", views, (0.07, 0.0));
    }
    for views in [10, 50, 200] {
        let (mut alarms, mut days) = (0, 0.0);
        for seed in 1..=10 {
            let mut world = World::new(1000 + seed, views);
            let mut before = 0;
            for _ in 0..43_200 {
                let (_, ill) = world.round();
                alarms += ill.saturating_sub(before);
                before = ill;
            }
            days += PATHWAYS.len() as f64;
        }
        let rate = alarms as f64 / days;
        println!(
            "quiet day, {views} windows per 10 s: {alarms} false alarms in {days} cell-days, {rate:.3} (aimed at: 0.05)"
        );
    }
}

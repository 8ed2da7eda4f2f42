//! A world in which views, faults and probes are set by hand; it emits the evidence that collectors and probes would.

use std::collections::BTreeMap;

use spillway_model::{
    BitsPerSecond, GroupId, Mode, OriginGroupId, PathwayId, PathwayKind, PathwayState, Ppm, RegionId, TimestampMs,
};
use spillway_orchestrator_core::{
    CellEvidence, Engine, Learned, LogEntry, OriginEvidence, Override, OverrideKind, PathwaySetup, ProbeEvidence,
    ProbeObject, RegionSetup, RoundInput, RoundOutput, Setup, SourceKind,
};
use spillway_routing::{Target, Weights};

/// Bit/s of each view.
pub const BITS_PER_VIEW: u64 = 2_000_000;
/// When worlds begin.
pub const START_S: u64 = 1_000_000;

pub fn pathway(id: &str) -> PathwayId {
    PathwayId::new(id).expect("pathway id")
}

pub fn region(id: &str) -> RegionId {
    RegionId::new(id).expect("region id")
}

/// Pathways are (id, Mbit/s, USD per GB); ids that begin with `own-` are nodes of the group `own`.
pub fn setup(regions: &[&str], pathways: &[(&str, u64, f64)]) -> Setup {
    let own = |id: &str| id.starts_with("own-");
    Setup {
        regions: regions
            .iter()
            .map(|id| {
                let static_weights = pathways.iter().map(|(id, ..)| (Target::Pathway(pathway(id)), 1)).collect();
                (
                    region(id),
                    RegionSetup {
                        mode: Mode::Control,
                        control: Ppm(990_000),
                        static_weights,
                        ..RegionSetup::default()
                    },
                )
            })
            .collect(),
        pathways: pathways
            .iter()
            .map(|(id, mbps, price)| {
                let kind = if own(id) { PathwayKind::Own } else { PathwayKind::Commercial };
                let declared = PathwaySetup {
                    group: own(id).then(|| GroupId::new("own").expect("group id")),
                    capacity: BitsPerSecond(mbps * 1_000_000),
                    price_usd_per_gb: *price,
                    base_url: format!("http://{id}.example"),
                    ..PathwaySetup::bare(kind, OriginGroupId::new("origin").expect("origin group id"))
                };
                (pathway(id), declared)
            })
            .collect(),
        policy: "test".into(),
        ..Setup::default()
    }
}

/// One pathway × network of one region.
#[derive(Clone, Debug, Default)]
pub struct Crowd {
    pub views: u64,
    /// Share of the views that have a failed request each second.
    pub failing: f64,
    /// Share of windows that are bad.
    pub bad: f64,
    /// Heartbeats are due and don't come.
    pub silent: bool,
    /// Views of these that say that every window is bad.
    pub liars: u64,
    /// Views of players that ignore steering.
    pub fixed: u64,
    /// Views that start each second.
    pub starting: u64,
    /// Good requests each second.
    pub asking: u64,
    pub owed_windows: f64,
    pub owed_bad: f64,
}

pub struct World {
    pub engine: Engine,
    pub now: TimestampMs,
    pub crowds: BTreeMap<(String, String, u32), Crowd>,
    /// Probe outcome by (region, pathway); absent: not probed.
    pub probes: BTreeMap<(String, String), bool>,
    pub overrides: Vec<Override>,
    /// Frames don't come.
    pub deaf: bool,
    /// Collectors count views with bad windows.
    pub counts_bad_views: bool,
    /// Cells of other sources in the next round.
    pub extra: Vec<CellEvidence>,
    /// What origins say in each round.
    pub origins: Vec<OriginEvidence>,
    /// What the lake has taught.
    pub learned: Learned,
    /// Anything else that goes into each round.
    pub input: RoundInput,
    /// Draws bad windows at random instead of evenly.
    pub noise: Option<u64>,
    pub log: Vec<LogEntry>,
}

impl World {
    pub fn new(setup: Setup) -> Self {
        Self {
            engine: Engine::new(setup),
            now: TimestampMs(START_S * 1000),
            crowds: BTreeMap::new(),
            probes: BTreeMap::new(),
            overrides: Vec::new(),
            deaf: false,
            counts_bad_views: false,
            extra: Vec::new(),
            origins: Vec::new(),
            learned: Learned::default(),
            input: RoundInput::default(),
            noise: None,
            log: Vec::new(),
        }
    }

    /// One region `eu` with the given (pathway, views), all in network 1, 0.9 % of windows bad.
    pub fn one_region(views: &[(&str, u64)]) -> Self {
        let pathways: Vec<(&str, u64, f64)> =
            views.iter().enumerate().map(|(i, (id, _))| (*id, 10_000, 0.01 * (i + 1) as f64)).collect();
        let mut world = Self::new(setup(&["eu"], &pathways));
        for (id, views) in views {
            world.crowd("eu", id, 1).views = *views;
        }
        world
    }

    pub fn crowd(&mut self, region: &str, pathway: &str, asn: u32) -> &mut Crowd {
        let key = (region.to_owned(), pathway.to_owned(), asn);
        self.crowds.entry(key).or_insert_with(|| Crowd { bad: 0.009, ..Crowd::default() })
    }

    pub fn probe_all(&mut self, regions: &[&str], pathways: &[&str]) {
        for region in regions {
            for pathway in pathways {
                self.probes.insert(((*region).to_owned(), (*pathway).to_owned()), true);
            }
        }
    }

    pub fn order(&mut self, id: &str, kind: OverrideKind, target: &str, seconds: u64) {
        self.overrides.push(Override {
            id: id.into(),
            kind,
            target: Target::Pathway(pathway(target)),
            region: None,
            by: "kim".into(),
            reason: "test".into(),
            since: self.now,
            expires: TimestampMs(self.now.0 + seconds * 1000),
        });
    }

    fn random(&mut self) -> Option<f64> {
        // Knuth's 64-bit linear congruential generator; its upper bits are good enough for noise.
        let state = self.noise.as_mut()?;
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some((*state >> 11) as f64 / (1_u64 << 53) as f64)
    }

    fn cells(&mut self, at: TimestampMs) -> Vec<CellEvidence> {
        let keys: Vec<(String, String, u32)> = self.crowds.keys().cloned().collect();
        let mut out = Vec::new();
        for key in keys {
            let mut crowd = self.crowds[&key].clone();
            if crowd.views == 0 {
                continue;
            }
            crowd.owed_windows += crowd.views as f64 / 10.0;
            let due = crowd.owed_windows.floor();
            crowd.owed_windows -= due;
            let windows = if crowd.silent { 0.0 } else { due };
            let bad = if self.noise.is_some() {
                (0..windows as u64).filter(|_| self.random().is_some_and(|draw| draw < crowd.bad)).count() as f64
            } else {
                crowd.owed_bad += windows * crowd.bad;
                let bad = crowd.owed_bad.floor();
                crowd.owed_bad -= bad;
                bad
            };
            let mut cell =
                CellEvidence::empty(at, "collector-1", SourceKind::Collector, pathway(&key.1), region(&key.0));
            cell.asn = Some(key.2);
            cell.views_active = crowd.views;
            let lies = (windows * crowd.liars as f64 / crowd.views as f64).round();
            let bad = (bad * (1.0 - crowd.liars as f64 / crowd.views as f64)).round() + lies;
            (cell.windows, cell.bad_windows) = (windows as u64, bad as u64);
            if self.counts_bad_views {
                let honest = (crowd.views - crowd.liars) as f64 * (1.0 - (1.0 - crowd.bad).powi(6));
                cell.views_bad = crowd.liars + honest.round() as u64;
            }
            cell.views_fixed = crowd.fixed;
            (cell.views_new, cell.requests_ok) = (crowd.starting, crowd.asking);
            (cell.heartbeats_due, cell.heartbeats_received) = (due as u64, windows as u64);
            cell.views_failing = (crowd.views as f64 * crowd.failing).round() as u64;
            cell.requests_failed = cell.views_failing;
            cell.bits = crowd.views * BITS_PER_VIEW;
            out.push(cell);
            self.crowds.insert(key, crowd);
        }
        out
    }

    /// Two seconds of evidence, then a round.
    pub fn round(&mut self) -> RoundOutput {
        let mut input = RoundInput {
            overrides: self.overrides.clone(),
            origins: self.origins.clone(),
            learned: self.learned.clone().into(),
            frames_expected: 2,
            ..self.input.clone()
        };
        for cell in std::mem::take(&mut self.extra) {
            input.cells.push(CellEvidence { at: TimestampMs(self.now.0 + 2000), ..cell });
        }
        for _ in 0..2 {
            self.now = TimestampMs(self.now.0 + 1000);
            let cells = self.cells(self.now);
            if !self.deaf {
                input.cells.extend(cells);
                input.frames_received += 1;
            }
        }
        if (self.now.0 / 1000).is_multiple_of(4) {
            for ((at, id), ok) in &self.probes {
                for object in [ProbeObject::Small, ProbeObject::Segment] {
                    input.probes.push(ProbeEvidence {
                        pathway: pathway(id),
                        region: region(at),
                        object,
                        at: self.now,
                        ok: *ok,
                        total_ms: 20,
                        detail: if *ok { String::new() } else { "503".into() },
                    });
                }
            }
        }
        let output = self.engine.round(self.now, &input);
        for plan in output.regions.values() {
            plan.manifest.check().expect("every manifest is valid");
        }
        self.log.extend(output.log.clone());
        output
    }

    pub fn rounds(&mut self, count: u64) -> RoundOutput {
        let mut output = self.round();
        for _ in 1..count {
            output = self.round();
        }
        output
    }

    /// Rounds until `pathway` is in `state` in `eu`.
    pub fn rounds_until(&mut self, pathway: &str, state: PathwayState, most: u64) -> Option<u64> {
        (1..=most).find(|_| state_of(&self.round(), pathway) == state)
    }

    /// All views of `eu` in network 1 go where new views are sent.
    pub fn follow(&mut self, output: &RoundOutput) {
        let crowds = || self.crowds.iter().filter(|((at, _, asn), _)| at == "eu" && *asn == 1);
        let total: u64 = crowds().map(|(_, crowd)| crowd.views).sum();
        let ids: Vec<String> = crowds().map(|((_, id, _), _)| id.clone()).collect();
        for id in ids {
            let views = (total as f64 * f64::from(weight(output, &id)) / 1e6).round() as u64;
            self.crowd("eu", &id, 1).views = views;
        }
    }

    /// State changes so far, in words.
    pub fn changes(&self) -> Vec<&str> {
        self.log.iter().map(|entry| entry.text.as_str()).filter(|text| text.contains(" → ")).collect()
    }
}

pub fn state_of(output: &RoundOutput, id: &str) -> PathwayState {
    output.regions["eu"].manifest.pathways[&pathway(id)].state
}

pub fn reason_of(output: &RoundOutput, id: &str) -> String {
    output.regions["eu"].manifest.pathways[&pathway(id)].reason.clone()
}

/// Weight for new views in `eu`, ppm.
pub fn weight(output: &RoundOutput, id: &str) -> u32 {
    weight_in(&output.regions["eu"].manifest.cohorts[0].weights_new, id)
}

/// Weight for running views in `eu`, ppm.
pub fn running(output: &RoundOutput, id: &str) -> u32 {
    weight_in(&output.regions["eu"].manifest.cohorts[0].weights_running, id)
}

fn weight_in(weights: &Weights, id: &str) -> u32 {
    weights.get(&Target::Pathway(pathway(id))).copied().unwrap_or(0)
}

//! What is heard in a round: the same for every policy, whoever makes it (a fluid step or players).

use spillway_model::{BitsPerSecond, ContentId, Millis, OriginGroupId, Ppm, TimestampMs};
use spillway_orchestrator_core::{
    CellEvidence, ContentEvidence, LoadEvidence, OriginEvidence, OriginSeen, ProbeEvidence, ProbeObject, RoundInput,
    SourceKind,
};

use crate::world::World;

/// When simulated time begins, s since the epoch: a Monday at 0:00 UTC.
pub(crate) const BEGIN_S: u64 = 1_699_833_600;
/// Title of a one-title crowd.
pub(crate) const HOT_TITLE: &str = "live/final";
/// Title of everything else: rank() chooses nodes by title, and one stands for many.
pub(crate) const ORIGIN: &str = "origin";

pub(crate) fn timestamp(second: u64) -> TimestampMs {
    TimestampMs((BEGIN_S + second) * 1000)
}

/// Counters of one cohort on one pathway.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub views: u64,
    pub fixed: u64,
    /// Views with a bad window in the last minute; 0: not counted.
    pub views_bad: u64,
    pub new: u64,
    pub windows: u64,
    pub bad: u64,
    pub ok: u64,
    pub failed: u64,
    pub failing: u64,
    pub late: u64,
    pub bits: u64,
    pub due: u64,
    pub received: u64,
}

/// Counters of the steering nodes in one region, by pathway.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Assigned {
    pub sessions: u64,
    pub polling: u64,
    pub ghosts: u64,
    pub untrusted: u64,
}

/// A probe of one pathway from one region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probed {
    pub region: usize,
    pub path: usize,
    pub cached_ok: bool,
    pub miss_ok: bool,
}

/// An own node's report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loaded {
    pub path: usize,
    pub bits_out: f64,
    pub viewers: f64,
    pub hit_ratio: f64,
    pub origin_up: bool,
}

/// What is heard since the last round.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    /// End of the interval, s after the start.
    pub second: u64,
    pub interval_s: u64,
    /// Cohort × pathway.
    pub cells: Vec<Counts>,
    /// Region × pathway.
    pub assigned: Vec<Assigned>,
    pub probes: Vec<Probed>,
    pub loads: Vec<Loaded>,
    /// Share of the region's views on one title.
    pub one_title: Vec<f64>,
    pub origin_bits: f64,
    pub origin_up: bool,
    /// By region: whether its frame came.
    pub frames: Vec<bool>,
}

impl Evidence {
    pub(crate) fn new(world: &World, second: u64, interval_s: u64) -> Self {
        Self {
            second,
            interval_s,
            cells: vec![Counts::default(); world.cells()],
            assigned: vec![Assigned::default(); world.regions.len() * world.paths.len()],
            probes: Vec::new(),
            loads: Vec::new(),
            one_title: vec![0.0; world.regions.len()],
            origin_bits: 0.0,
            origin_up: true,
            frames: vec![true; world.regions.len()],
        }
    }

    /// As the engine takes it. A lost frame's cells are left out.
    pub(crate) fn round_input(&self, world: &World) -> RoundInput {
        let at = timestamp(self.second);
        let mut input = RoundInput {
            frames_expected: world.regions.len() as u32,
            frames_received: self.frames.iter().filter(|came| **came).count() as u32,
            ..RoundInput::default()
        };
        for (r, region) in world.regions.iter().enumerate() {
            if !self.frames[r] {
                continue;
            }
            for &p in &region.pathways {
                for c in region.cohorts.clone() {
                    let counts = &self.cells[world.cell(c, p)];
                    if counts.views + counts.due + counts.failing + counts.late + counts.windows > 0 {
                        input.cells.push(self.cell(world, at, (r, p, world.cohorts[c].asn), counts));
                    }
                }
                input.cells.push(self.steering(world, at, r, p));
            }
            let hot = self.one_title[r];
            if hot > 0.0 {
                let views: u64 = region.cohorts.clone().flat_map(|c| self.row(world, c)).map(|cell| cell.views).sum();
                input.content.push(ContentEvidence {
                    content: ContentId::new(HOT_TITLE).expect("a valid id"),
                    region: region.id.clone(),
                    views_active: (views as f64 * hot) as u64,
                });
            }
        }
        input.loads = self.loads.iter().map(|load| self.load(world, at, load)).collect();
        input.probes = self.probes.iter().flat_map(|probe| self.probe(world, at, probe)).collect();
        input.origins.push(OriginEvidence {
            origin_group: OriginGroupId::new(ORIGIN).expect("a valid id"),
            at,
            bits_out_10s: BitsPerSecond(self.origin_bits as u64),
            state: if self.origin_up { OriginSeen::Up } else { OriginSeen::Failing },
            failing_content: vec![],
        });
        input
    }

    pub(crate) fn row<'a>(&'a self, world: &World, cohort: usize) -> &'a [Counts] {
        let first = world.cell(cohort, 0);
        &self.cells[first..first + world.paths.len()]
    }

    fn cell(
        &self,
        world: &World,
        at: TimestampMs,
        (r, p, asn): (usize, usize, Option<u32>),
        counts: &Counts,
    ) -> CellEvidence {
        let (path, region) = (world.paths[p].id.clone(), world.regions[r].id.clone());
        // A collector per region: the loss of one region's frames leaves the others' counts alone.
        let source = format!("collector-{}", region.as_str());
        CellEvidence {
            interval: Millis(self.interval_s * 1000),
            asn,
            views_active: counts.views,
            views_fixed: counts.fixed,
            views_bad: counts.views_bad,
            views_new: counts.new,
            windows: counts.windows,
            bad_windows: counts.bad.min(counts.windows),
            requests_ok: counts.ok,
            requests_failed: counts.failed,
            requests_late: counts.late,
            views_failing: counts.failing,
            views_late: counts.late,
            bits: counts.bits,
            heartbeats_due: counts.due,
            heartbeats_received: counts.received,
            ..CellEvidence::empty(at, &source, SourceKind::Collector, path, region)
        }
    }

    fn steering(&self, world: &World, at: TimestampMs, r: usize, p: usize) -> CellEvidence {
        let assigned = self.assigned[r * world.paths.len() + p];
        let (path, region) = (world.paths[p].id.clone(), world.regions[r].id.clone());
        let source = format!("steer-{}", region.as_str());
        CellEvidence {
            interval: Millis(self.interval_s * 1000),
            sessions_assigned: assigned.sessions,
            sessions_polling: assigned.polling,
            ghost_starts: assigned.ghosts,
            sessions_untrusted: assigned.untrusted,
            ..CellEvidence::empty(at, &source, SourceKind::Steer, path, region)
        }
    }

    fn load(&self, world: &World, at: TimestampMs, load: &Loaded) -> LoadEvidence {
        let path = &world.paths[load.path];
        LoadEvidence {
            pathway: path.id.clone(),
            at,
            ceiling: BitsPerSecond(path.claimed as u64),
            bits_out_10s: BitsPerSecond(load.bits_out as u64),
            viewers: load.viewers as u64,
            bits_per_viewer: BitsPerSecond((load.bits_out / load.viewers.max(1.0)) as u64),
            hit_ratio: Some(Ppm::from_fraction(load.hit_ratio)),
            origin: if load.origin_up { OriginSeen::Up } else { OriginSeen::Failing },
            draining: false,
        }
    }

    fn probe(&self, world: &World, at: TimestampMs, probe: &Probed) -> [ProbeEvidence; 3] {
        let seen = |object, ok: bool| ProbeEvidence {
            pathway: world.paths[probe.path].id.clone(),
            region: world.regions[probe.region].id.clone(),
            object,
            at,
            ok,
            total_ms: 30,
            detail: if ok { String::new() } else { "status 503".into() },
        };
        [
            seen(ProbeObject::Small, probe.cached_ok),
            seen(ProbeObject::Segment, probe.cached_ok),
            seen(ProbeObject::Miss, probe.miss_ok),
        ]
    }
}

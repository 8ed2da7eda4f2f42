//! A world with its names resolved to numbers, and the luck of one seed in it.

use std::collections::BTreeMap;

use spillway_model::{GroupId, PathwayId, RegionId};

use crate::format::{Pathway, Players, Quality, Scenario, WorldFile};
use crate::random::{mix, normal};

/// A region × network.
#[derive(Clone, Debug)]
pub(crate) struct Cohort {
    pub region: usize,
    pub asn: Option<u32>,
    /// Rank of the network in its region by size, 0 the largest.
    pub rank: u32,
    /// Part of the region's views.
    pub part: f64,
}

/// A region.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub id: RegionId,
    pub views: f64,
    /// Its cohorts lie together: first and one past the last.
    pub cohorts: std::ops::Range<usize>,
    /// Pathways that serve it.
    pub pathways: Vec<usize>,
    /// By pathway; sum 1.
    pub static_weights: Vec<f64>,
}

/// A pathway.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub id: PathwayId,
    pub own: bool,
    pub group: Option<GroupId>,
    /// Bit/s that it claims.
    pub claimed: f64,
    pub sheet: Pathway,
}

/// Everything that stands still during a run. Tables over cohort × pathway are flat: `cohort × pathways + pathway`.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub regions: Vec<Region>,
    pub cohorts: Vec<Cohort>,
    pub paths: Vec<Path>,
    /// Share of bad windows on any day, by cohort × pathway.
    pub usual: Vec<f64>,
    /// Whether the pathway serves the cohort.
    pub serves: Vec<bool>,
    pub bits_per_view: f64,
    pub view_s: f64,
    pub diurnal: f64,
    pub ladder_bps: Vec<f64>,
    pub players: Players,
    pub quality: Quality,
    pub origin_ceiling_times: f64,
    /// Simulated views per view of the world.
    pub scale: f64,
}

/// The name of a thing as a number for luck, so that adding a pathway doesn't change the luck of the others.
fn name_of(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn id<T, E>(result: Result<T, E>) -> T {
    result.ok().expect("ids were checked when the scenario was read")
}

impl World {
    /// The world of `scenario` for one seed; in session mode scaled to `session_views`.
    pub(crate) fn new(scenario: &Scenario, seed: u64, sessions: bool) -> Self {
        let file = &scenario.world;
        let all: u64 = file.region.iter().map(|region| region.views).sum();
        let scale = match scenario.events.session_views.filter(|_| sessions) {
            Some(views) => views as f64 / all.max(1) as f64,
            None => 1.0,
        };
        let paths: Vec<Path> = file.pathway.iter().map(|sheet| path(sheet, scale)).collect();
        let mut cohorts = Vec::new();
        let mut regions = Vec::new();
        for (index, declared) in file.region.iter().enumerate() {
            let first = cohorts.len();
            cohorts.extend(networks(declared, index));
            let serves = |path: &Path| path.sheet.regions.is_empty() || path.sheet.regions.contains(&declared.id);
            let pathways: Vec<usize> = (0..paths.len()).filter(|p| serves(&paths[*p])).collect();
            let weight = |path: &Path| {
                let weight = declared.static_weights.get(path.id.as_str()).copied().unwrap_or(0.0);
                if serves(path) { weight } else { 0.0 }
            };
            let total: f64 = paths.iter().map(weight).sum();
            regions.push(Region {
                id: id(RegionId::new(&declared.id)),
                views: declared.views as f64 * scale,
                cohorts: first..cohorts.len(),
                pathways,
                static_weights: paths.iter().map(|path| weight(path) / total).collect(),
            });
        }
        let mut world = Self {
            usual: vec![0.0; cohorts.len() * paths.len()],
            serves: vec![false; cohorts.len() * paths.len()],
            regions,
            cohorts,
            paths,
            bits_per_view: file.bitrate_kbps as f64 * 1e3,
            view_s: file.view_s,
            diurnal: file.diurnal,
            ladder_bps: ladder(file),
            players: file.players.clone(),
            quality: file.quality.clone(),
            origin_ceiling_times: file.origin.ceiling_times,
            scale,
        };
        world.draw_quality(seed);
        world
    }

    /// Cells in a table over cohort × pathway.
    pub(crate) fn cells(&self) -> usize {
        self.cohorts.len() * self.paths.len()
    }

    pub(crate) fn cell(&self, cohort: usize, path: usize) -> usize {
        cohort * self.paths.len() + path
    }

    /// Nodes of one cluster share the quality of their site.
    fn draw_quality(&mut self, seed: u64) {
        let quality = self.quality.clone();
        for region in &self.regions {
            let r = name_of(region.id.as_str());
            for &p in &region.pathways {
                let path = &self.paths[p];
                let site = name_of(path.group.as_ref().map_or(path.id.as_str(), GroupId::as_str));
                let of_path = normal(&[seed, r, site, 1]) * quality.spread_pathways;
                for c in region.cohorts.clone() {
                    let asn = u64::from(self.cohorts[c].asn.unwrap_or(0));
                    let of_network = normal(&[seed, r, site, asn, 2]) * quality.spread_networks;
                    // The median is lowered so that the mean is the usual rate whatever the spread.
                    let mean = (quality.spread_pathways.powi(2) + quality.spread_networks.powi(2)) / 2.0;
                    let rate = quality.usual_bad_windows * (of_path + of_network - mean).exp();
                    let cell = c * self.paths.len() + p;
                    self.usual[cell] = rate.min(0.5);
                    self.serves[cell] = true;
                }
            }
        }
    }

    /// Mean usual rate of a pathway in a region: what the lake would have learned.
    pub(crate) fn learned_rate(&self, region: usize, path: usize) -> f64 {
        let cohorts = self.regions[region].cohorts.clone();
        cohorts.map(|c| self.cohorts[c].part * self.usual[self.cell(c, path)]).sum()
    }

    /// Seeds of things that are drawn once per run and region.
    pub(crate) fn luck(&self, seed: u64, region: usize) -> u64 {
        mix(&[seed, name_of(self.regions[region].id.as_str())])
    }
}

fn path(sheet: &Pathway, scale: f64) -> Path {
    Path {
        id: id(PathwayId::new(&sheet.id)),
        own: sheet.id.starts_with("own-"),
        group: sheet.group.as_deref().map(|group| id(GroupId::new(group))),
        claimed: sheet.capacity_mbps * 1e6 * scale,
        sheet: sheet.clone(),
    }
}

fn networks(declared: &crate::format::Region, region: usize) -> Vec<Cohort> {
    let numbers: Vec<Option<u32>> = match (&declared.networks[..], declared.network_count) {
        ([], 0) => vec![None],
        // Numbers reserved for documentation (RFC 5398) are too few; private ones (RFC 6996) are not.
        ([], count) => (0..count).map(|k| Some(4_200_000_000 + region as u32 * 1000 + k)).collect(),
        (listed, _) => listed.iter().copied().map(Some).collect(),
    };
    let weights: Vec<f64> = (1..=numbers.len()).map(|k| (k as f64).powf(-declared.zipf)).collect();
    let total: f64 = weights.iter().sum();
    let cohort = |(k, asn)| Cohort { region, asn, rank: k as u32, part: weights[k] / total };
    numbers.into_iter().enumerate().map(cohort).collect()
}

fn ladder(file: &WorldFile) -> Vec<f64> {
    if file.ladder_kbps.is_empty() {
        return vec![file.bitrate_kbps as f64 * 1e3];
    }
    file.ladder_kbps.iter().map(|kbps| *kbps as f64 * 1e3).collect()
}

/// Sums of a table over cohort × pathway by pathway.
pub(crate) fn by_path(world: &World, table: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; world.paths.len()];
    for row in table.chunks_exact(world.paths.len()) {
        out.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    out
}

/// Pathways by name.
pub(crate) fn index(world: &World) -> BTreeMap<PathwayId, usize> {
    world.paths.iter().enumerate().map(|(p, path)| (path.id.clone(), p)).collect()
}

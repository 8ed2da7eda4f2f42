//! What pathways, caches and the origin make of the audience: load, misses, bad windows.

use super::players::Crowd;
use crate::demand::Demand;
use crate::faults::Broken;
use crate::measure::Flow;
use crate::world::{World, by_path};

/// Segments in a window: a miss that fails is seen if one of them is it.
const SEGMENTS: f64 = 2.5;
/// Caches cool so many times slower than they warm.
const COOLING: f64 = 20.0;

/// Caches, the origin, and bits on their way.
pub(crate) struct Delivery {
    /// Views that caches are warm for, region × pathway.
    warm: Option<Vec<f64>>,
    /// Views that refill their buffers, by pathway.
    refill: Vec<f64>,
    /// Highest bitrate in force on average, bit/s, by region.
    bitrate: Vec<f64>,
    /// Bits that the origin usually sends.
    pub usual_origin: f64,
    /// Miss ratio by region × pathway.
    pub miss: Vec<f64>,
    /// Share of misses that fail.
    pub origin_fails: f64,
    /// 10 s means of bits out, by pathway.
    pub bits_out: Vec<f64>,
    pub origin_bits: f64,
}

impl Delivery {
    pub(crate) fn new(world: &World, demand: &Demand<'_>) -> Self {
        let views: f64 = (0..world.regions.len()).map(|r| demand.region(r, 0.0)).sum();
        Self {
            warm: None,
            refill: vec![0.0; world.paths.len()],
            bitrate: vec![world.bits_per_view; world.regions.len()],
            usual_origin: views * world.bits_per_view * (1.0 - world.quality.hit_ratio),
            miss: vec![0.0; world.regions.len() * world.paths.len()],
            origin_fails: 0.0,
            bits_out: vec![0.0; world.paths.len()],
            origin_bits: 0.0,
        }
    }

    /// A new playlist can hold the bitrate down: who starts takes it over.
    pub(crate) fn cap(&mut self, world: &World, region: usize, most: Option<f64>, new: f64) {
        let wanted = most.map_or(world.bits_per_view, |most| most.min(world.bits_per_view));
        self.bitrate[region] += new.min(1.0) * (wanted - self.bitrate[region]);
    }

    pub(crate) fn step(
        &mut self,
        world: &World,
        broken: &Broken,
        crowd: &Crowd,
        moved: &[f64],
        demand: &Demand<'_>,
        (second, dt): (u64, u64),
    ) -> Flow {
        let n = world.paths.len();
        let forget = (-(dt as f64) / world.players.buffer_s as f64).exp();
        self.refill.iter_mut().zip(moved).for_each(|(refill, moved)| *refill = *refill * forget + moved);
        let rate = |cell: usize| self.bitrate[world.cohorts[cell / n].region];
        // A failing request carries nothing.
        let bits: Vec<f64> =
            (0..world.cells()).map(|i| (crowd.here[i] - crowd.failing[i]).max(0.0) * rate(i)).collect();
        let mut load = by_path(world, &bits);
        // Over a step that is longer than a buffer, those that refill do so for a part of it.
        let mean = world.bits_per_view;
        let part = (world.players.buffer_s as f64 / dt as f64).min(1.0);
        load.iter_mut().zip(&self.refill).for_each(|(load, refill)| *load += part * refill * mean);
        let capacity: Vec<f64> = world.paths.iter().zip(&broken.capacity).map(|(p, part)| p.claimed * part).collect();
        let served: Vec<f64> =
            crowd.here.iter().zip(&crowd.failing).map(|(here, failing)| (here - failing).max(0.0)).collect();
        self.caches(world, broken, &served, dt as f64);
        let used: Vec<f64> = load.iter().zip(&capacity).map(|(load, capacity)| load / capacity).collect();
        // Who is there at the start has been there for longer than the mean of 10 s.
        let smooth = if second == 0 { 1.0 } else { (dt as f64 / 10.0).min(1.0) };
        for (p, out) in self.bits_out.iter_mut().enumerate() {
            *out += smooth * (load[p].min(capacity[p]) - *out);
        }
        let quality = &world.quality;
        let overload: Vec<f64> =
            used.iter().map(|u| (quality.load_slope * (u - quality.load_knee)).clamp(0.0, 1.0)).collect();
        let bad: Vec<f64> = (0..world.cells())
            .map(|i| {
                if crowd.here[i] <= 0.0 {
                    return 0.0;
                }
                let (c, p) = (i / n, i % n);
                let miss = self.miss[world.cohorts[c].region * n + p];
                let origin = 1.0 - (1.0 - miss * self.origin_fails).powf(SEGMENTS);
                // Beyond what is usual: caches that are as warm as ever are part of the usual rate.
                let cold = quality.miss_bad * (miss - (1.0 - quality.hit_ratio)).max(0.0);
                let dry = (crowd.dry[i] / crowd.here[i]).min(1.0);
                let good = (1.0 - world.usual[i])
                    * (1.0 - broken.bad[i])
                    * (1.0 - overload[p])
                    * (1.0 - cold)
                    * (1.0 - origin)
                    * (1.0 - dry);
                1.0 - good
            })
            .collect();
        let wanted: f64 = (0..world.regions.len()).map(|r| demand.region(r, second as f64)).sum::<f64>() * mean;
        let given: f64 = bits.iter().sum();
        Flow {
            views: crowd.here.clone(),
            excess: bad.iter().zip(&world.usual).map(|(bad, usual)| (bad - usual).max(0.0)).collect(),
            bad,
            blameless: broken.blameless.clone(),
            load,
            capacity,
            origin: self.origin_bits,
            bitrate_share: (given / wanted.max(1e-9)).min(1.0),
        }
    }

    /// Caches warm and cool with the views that they serve (by cell), and the origin carries the misses.
    pub(crate) fn caches(&mut self, world: &World, broken: &Broken, served: &[f64], dt: f64) {
        let n = world.paths.len();
        let mut views = vec![0.0; world.regions.len() * n];
        for (i, served) in served.iter().enumerate() {
            views[world.cohorts[i / n].region * n + i % n] += served;
        }
        let warm = self.warm.get_or_insert_with(|| views.clone());
        let quality = &world.quality;
        let mut origin = 0.0;
        for (i, (views, warm)) in views.iter().zip(warm.iter_mut()).enumerate() {
            let cold = (views - *warm).max(0.0) / views.max(1e-9);
            self.miss[i] = (1.0 - quality.hit_ratio + quality.cold_miss * cold).min(1.0);
            origin += views * self.bitrate[i / n] * self.miss[i];
            let tau_s = if views > warm { quality.warm_s } else { quality.warm_s * COOLING };
            *warm += (1.0 - (-dt / tau_s).exp()) * (views - *warm);
        }
        let ceiling = self.usual_origin * world.origin_ceiling_times;
        let too_much = if ceiling > 0.0 && origin > ceiling { 1.0 - ceiling / origin } else { 0.0 };
        self.origin_fails = 1.0 - (1.0 - broken.origin) * (1.0 - too_much);
        self.origin_bits = origin;
    }

    pub(crate) fn hit_ratio(&self, world: &World, path: usize) -> f64 {
        let n = world.paths.len();
        let misses = (0..world.regions.len()).map(|r| self.miss[r * n + path]);
        1.0 - misses.fold(0.0, f64::max)
    }

    pub(crate) fn bitrate(&self, region: usize) -> f64 {
        self.bitrate[region]
    }
}

//! What a CDN has sent, per region, and how close to its ceiling.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use http::StatusCode;
use serde::Serialize;
use tokio::time::Instant;

use super::CdnConfig;
use super::cache::Cache;

const WINDOW_S: usize = 10;

/// Counters of one region since the CDN started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RegionStats {
    /// Requests, preflights left out.
    pub requests: u64,
    /// Body bytes handed to connections.
    pub bytes: u64,
    /// Answers by class: `2xx`, `4xx`, `5xx`, and `broken` for those that never ended (reset,
    /// or hanging for good), which are counted beside their status.
    pub status: BTreeMap<&'static str, u64>,
    /// Mean bits per second over the last 10 complete seconds.
    pub mean_10s_bps: u64,
    /// Highest such mean so far.
    pub peak_10s_bps: u64,
}

/// Counters of one CDN since it started.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CdnStats {
    /// Pathway id.
    pub name: String,
    /// Ceiling in bits per second.
    pub capacity_bps: u64,
    /// Sum over all regions.
    pub total: RegionStats,
    /// By region, `unknown` included; a region never seen is absent.
    pub by_region: BTreeMap<String, RegionStats>,
    /// Requests answered out of the cache.
    pub cache_hits: u64,
    /// Requests sent to the origin.
    pub origin_fetches: u64,
    /// Highest 10 s mean ÷ ceiling.
    pub peak_utilisation: f64,
    /// Price of all bytes sent.
    pub cost_usd: f64,
}

#[derive(Debug, Default)]
struct Region {
    stats: RegionStats,
    meter: Meter,
}

/// Counts under one lock; the clock starts with the CDN.
pub(crate) struct Counters {
    started: Instant,
    regions: Mutex<(Region, BTreeMap<String, Region>)>,
}

impl Default for Counters {
    fn default() -> Self {
        Self { started: Instant::now(), regions: Mutex::default() }
    }
}

impl Counters {
    pub(crate) fn request(&self, region: &str) {
        self.update(region, |region, _| region.stats.requests += 1);
    }

    pub(crate) fn status(&self, region: &str, status: StatusCode) {
        let class = match status.as_u16() / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.update(region, |region, _| *region.stats.status.entry(class).or_default() += 1);
    }

    pub(crate) fn broken(&self, region: &str) {
        self.update(region, |region, _| *region.stats.status.entry("broken").or_default() += 1);
    }

    pub(crate) fn bytes(&self, region: &str, bytes: u64) {
        self.update(region, |region, now_s| {
            region.stats.bytes += bytes;
            region.meter.add(now_s, bytes * 8);
        });
    }

    pub(crate) fn snapshot(&self, config: &CdnConfig, cache: &Cache) -> CdnStats {
        let now_s = self.started.elapsed().as_secs();
        let mut regions = self.regions.lock().expect("nothing panics while counting");
        let total = regions.0.read(now_s);
        let by_region = regions.1.iter_mut().map(|(name, region)| (name.clone(), region.read(now_s))).collect();
        CdnStats {
            name: config.name.clone(),
            capacity_bps: config.capacity_bps,
            peak_utilisation: as_f64(total.peak_10s_bps) / as_f64(config.capacity_bps),
            cost_usd: as_f64(total.bytes) / 1e9 * config.price_usd_per_gb,
            total,
            by_region,
            cache_hits: cache.hits(),
            origin_fetches: cache.fetched(),
        }
    }

    fn update(&self, region: &str, change: impl Fn(&mut Region, u64)) {
        let now_s = self.started.elapsed().as_secs();
        let mut regions = self.regions.lock().expect("nothing panics while counting");
        change(&mut regions.0, now_s);
        match regions.1.get_mut(region) {
            Some(known) => change(known, now_s),
            None => change(regions.1.entry(region.to_owned()).or_default(), now_s),
        }
    }
}

impl Region {
    fn read(&mut self, now_s: u64) -> RegionStats {
        self.meter.roll(now_s);
        let (mean_10s_bps, peak_10s_bps) = (self.meter.mean_bps, self.meter.peak_bps);
        RegionStats { mean_10s_bps, peak_10s_bps, ..self.stats.clone() }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for display; 52 bits are plenty")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// The 10 s mean of bits, over complete seconds.
#[derive(Debug, Default)]
struct Meter {
    second: u64,
    bits: u64,
    complete: VecDeque<u64>,
    mean_bps: u64,
    peak_bps: u64,
}

impl Meter {
    fn add(&mut self, now_s: u64, bits: u64) {
        self.roll(now_s);
        self.bits += bits;
    }

    /// Closes the seconds that are over. After a long silence only the last ten matter.
    fn roll(&mut self, now_s: u64) {
        let passed = now_s.saturating_sub(self.second).min(WINDOW_S as u64 + 1);
        for _ in 0..passed {
            self.complete.push_back(std::mem::take(&mut self.bits));
            if self.complete.len() > WINDOW_S {
                self.complete.pop_front();
            }
            self.mean_bps = self.complete.iter().sum::<u64>() / WINDOW_S as u64;
            self.peak_bps = self.peak_bps.max(self.mean_bps);
        }
        self.second = self.second.max(now_s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_covers_ten_complete_seconds_and_the_peak_stays() {
        let mut meter = Meter::default();
        for second in 0..20 {
            meter.add(second, 1_000);
        }
        meter.roll(20);
        assert_eq!(meter.mean_bps, 1_000);
        meter.roll(25);
        assert_eq!(meter.mean_bps, 500);
        meter.roll(3_000);
        assert_eq!((meter.mean_bps, meter.peak_bps), (0, 1_000));
    }

    #[test]
    fn a_single_second_counts_for_a_tenth() {
        let mut meter = Meter::default();
        meter.add(7, 50_000);
        assert_eq!(meter.mean_bps, 0);
        meter.roll(8);
        assert_eq!(meter.mean_bps, 5_000);
    }
}

//! Beacon coverage: whom steering nodes see beside whom collectors hear, by device class.
//!
//! A class whose players are steered and do not report is a class whose bad views nobody sees; a class with many ghost
//! starts may not play at all.

use std::collections::{BTreeMap, VecDeque};

use spillway_model::TimestampMs;
use spillway_wire::frame::{DeviceViews, Frame};
use spillway_wire::overview::DeviceCoverage;

/// A source that is silent for so long counts no more, ms.
const SOURCE_KEPT_MS: u64 = 5_000;
/// Ghost starts are told of so long, ms.
const GHOSTS_KEPT_MS: u64 = 60_000;
/// Processes that are remembered; a fleet has fewer.
const SOURCES_MAX: usize = 1_000;

/// What the newest frames say.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    newest: BTreeMap<String, (TimestampMs, Vec<DeviceViews>)>,
    ghosts: VecDeque<(TimestampMs, String, u64)>,
}

impl Coverage {
    pub(crate) fn add(&mut self, frame: &Frame, now: TimestampMs) {
        for row in frame.devices.iter().filter(|row| row.ghost_starts > 0) {
            metrics::counter!("spillway_ghost_starts_total", "region" => row.region.clone(), "device" => row.device.clone())
                .increment(row.ghost_starts);
            self.ghosts.push_back((now, row.device.clone(), row.ghost_starts));
        }
        if self.newest.len() < SOURCES_MAX || self.newest.contains_key(&frame.source) {
            self.newest.insert(frame.source.clone(), (now, frame.devices.clone()));
        }
    }

    /// By device class; also into the metrics.
    pub(crate) fn tell(&mut self, now: TimestampMs) -> BTreeMap<String, DeviceCoverage> {
        self.newest.retain(|_, (at, _)| now.since(*at).0 <= SOURCE_KEPT_MS);
        while self.ghosts.front().is_some_and(|(at, ..)| now.since(*at).0 > GHOSTS_KEPT_MS) {
            self.ghosts.pop_front();
        }
        let mut out: BTreeMap<String, DeviceCoverage> = BTreeMap::new();
        for row in self.newest.values().flat_map(|(_, rows)| rows) {
            let of = out.entry(row.device.clone()).or_default();
            of.views_active += row.views_active;
            of.sessions_polling += row.sessions_polling;
        }
        for (_, device, ghosts) in &self.ghosts {
            out.entry(device.clone()).or_default().ghost_starts += ghosts;
        }
        for (device, of) in &mut out {
            of.coverage_ppm = ppm(of.views_active, of.sessions_polling);
            if let Some(ppm) = of.coverage_ppm {
                metrics::gauge!("spillway_beacon_coverage_ratio", "device" => device.clone()).set(f64::from(ppm) / 1e6);
            }
        }
        out
    }
}

/// Views that were never steered report too, so there may be more of them than sessions.
fn ppm(views: u64, sessions: u64) -> Option<u32> {
    let ppm = views.saturating_mul(1_000_000).checked_div(sessions)?;
    Some(u32::try_from(ppm).unwrap_or(u32::MAX).min(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(source: &str, row: DeviceViews) -> Frame {
        Frame { v: 1, source: source.into(), devices: vec![row], ..Frame::default() }
    }

    fn tv() -> DeviceViews {
        DeviceViews { region: "eu".into(), device: "tv".into(), ..DeviceViews::default() }
    }

    #[test]
    fn what_collectors_hear_is_compared_with_what_steering_nodes_see() {
        let mut coverage = Coverage::default();
        let at = |s: u64| TimestampMs(1_000_000 + s * 1_000);
        for s in 0..3 {
            coverage.add(&frame("collector-1", DeviceViews { views_active: 60, ..tv() }), at(s));
            coverage.add(&frame("collector-2", DeviceViews { views_active: 30, ..tv() }), at(s));
            let row = DeviceViews { sessions_polling: 120, sessions_assigned: 1, ghost_starts: 2, ..tv() };
            coverage.add(&frame("steer-1", row), at(s));
        }
        let told = coverage.tell(at(3));
        let expected =
            DeviceCoverage { views_active: 90, sessions_polling: 120, coverage_ppm: Some(750_000), ghost_starts: 6 };
        assert_eq!(told, BTreeMap::from([("tv".into(), expected)]));

        // An older collector's frame names no device, and a dead one's gauge is forgotten.
        coverage.add(&Frame { source: "collector-3".into(), ..Frame::default() }, at(8));
        coverage.add(&frame("steer-1", DeviceViews { sessions_polling: 10, ..tv() }), at(8));
        let later = coverage.tell(at(8))["tv"].clone();
        assert_eq!((later.views_active, later.coverage_ppm, later.ghost_starts), (0, Some(0), 6));
        assert_eq!(coverage.tell(at(100)), BTreeMap::new());
    }

    #[test]
    fn more_views_than_sessions_are_all_of_them_and_no_session_is_no_share() {
        assert_eq!((ppm(5, 4), ppm(5, 0), ppm(0, 4)), (Some(1_000_000), None, Some(0)));
    }
}

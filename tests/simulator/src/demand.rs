//! Who wants to watch: views by cohort and second.

use crate::format::{Events, Surge};
use crate::random::normal;
use crate::world::World;

/// Views wanted by second.
#[derive(Clone, Debug)]
pub(crate) struct Demand<'a> {
    world: &'a World,
    events: &'a Events,
    luck: Vec<u64>,
    /// Swing of the noise of a minute.
    noise: f64,
}

impl<'a> Demand<'a> {
    pub(crate) fn new(world: &'a World, events: &'a Events, seed: u64, noise: f64) -> Self {
        let luck = (0..world.regions.len()).map(|r| world.luck(seed, r)).collect();
        Self { world, events, luck, noise }
    }

    /// Views of a region.
    pub(crate) fn region(&self, region: usize, second: f64) -> f64 {
        self.usual(region, second) + self.crowd(region, second, false)
    }

    /// Share of a region's views that watch one and the same title.
    pub(crate) fn one_title(&self, region: usize, second: f64) -> f64 {
        self.crowd(region, second, true) / self.region(region, second).max(1e-9)
    }

    /// Without crowds.
    fn usual(&self, region: usize, second: f64) -> f64 {
        let base = self.world.regions[region].views * self.diurnal(second);
        // Even between one minute's luck and the next.
        let minute = (second / 60.0).floor();
        let at = |minute: f64| normal(&[self.luck[region], minute as i64 as u64, 3]);
        let part = second / 60.0 - minute;
        base * (1.0 + self.noise * (at(minute) * (1.0 - part) + at(minute + 1.0) * part))
    }

    /// One sine with its peak at 21 h local time.
    fn diurnal(&self, second: f64) -> f64 {
        let Some(start) = self.events.start_hour else { return 1.0 };
        let hour = start + second / 3600.0;
        1.0 + self.world.diurnal * ((hour - 21.0) / 24.0 * std::f64::consts::TAU).cos()
    }

    /// Length of the run, s.
    pub(crate) fn seconds(&self) -> u64 {
        self.events.seconds
    }

    /// Part of the run's volume that is usually used by `second`: what months without events have taught.
    pub(crate) fn profile(&self, second: u64) -> f64 {
        let Some(start) = self.events.start_hour else { return second as f64 / self.events.seconds as f64 };
        let tau = std::f64::consts::TAU;
        let wave = |hour: f64| self.world.diurnal * 24.0 / tau * ((hour - 21.0) / 24.0 * tau).sin();
        let until = |hours: f64| hours + wave(start + hours) - wave(start);
        until(second as f64 / 3600.0) / until(self.events.seconds as f64 / 3600.0)
    }

    fn crowd(&self, region: usize, second: f64, one_title: bool) -> f64 {
        let surges = self.events.surge.iter().filter(|surge| !one_title || surge.one_title);
        surges.map(|surge| self.size(surge, region) * surge.part(second)).sum()
    }

    fn size(&self, surge: &Surge, region: usize) -> f64 {
        let here = &self.world.regions[region];
        let all: f64 = self.world.regions.iter().map(|region| region.views).sum();
        let part = match &surge.region {
            Some(id) => f64::from(u8::from(id == here.id.as_str())),
            None => here.views / all.max(1e-9),
        };
        match (surge.views, surge.times) {
            (Some(views), _) => views as f64 * self.world.scale * part,
            (None, Some(times)) if part > 0.0 => here.views * times,
            _ => 0.0,
        }
    }
}

//! One network on one pathway in one region.

use spillway_model::{Protocol, TimestampMs};

/// Sums of windows; they decay, and they add up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Windows {
    /// Weight of windows.
    pub all: f64,
    /// Weight of the bad ones.
    pub bad: f64,
    /// Sum of squared weights.
    pub squares: f64,
}

impl Windows {
    pub(crate) fn decay(&mut self, keep: f64) {
        self.all *= keep;
        self.bad *= keep;
        self.squares *= keep;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.all += other.all;
        self.bad += other.bad;
        self.squares += other.squares;
    }

    /// Independent windows behind the sums: weight² ÷ sum of squares.
    pub(crate) fn effective(&self) -> f64 {
        if self.squares > 0.0 { self.all * self.all / self.squares } else { 0.0 }
    }
}

#[derive(Clone, Copy, Debug)]
struct Gauge {
    source: u32,
    at: TimestampMs,
    counted: Counted,
}

/// What each source's newest frame counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges(Vec<Gauge>);

impl Gauges {
    /// Takes a source's gauge; cells of the same frame add up.
    pub(crate) fn take(&mut self, source: u32, at: TimestampMs, counted: Counted) {
        match self.0.iter_mut().find(|gauge| gauge.source == source) {
            Some(gauge) if gauge.at == at => gauge.counted.add(counted),
            Some(gauge) if gauge.at < at => *gauge = Gauge { source, at, counted },
            Some(_) => {}
            None if counted.views > 0 => self.0.push(Gauge { source, at, counted }),
            None => {}
        }
    }

    /// Sum over each source's newest frame; what a newer frame doesn't mention is gone.
    pub(crate) fn count(&mut self, sources: &[(u32, TimestampMs)]) -> Counted {
        self.0.retain(|gauge| sources.contains(&(gauge.source, gauge.at)));
        let mut out = Counted::default();
        self.0.iter().for_each(|gauge| out.add(gauge.counted));
        out
    }
}

/// Views of a network now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub views: u64,
    pub fixed: u64,
    pub bad: u64,
}

impl Counted {
    const fn add(&mut self, other: Self) {
        self.views += other.views;
        self.fixed += other.fixed;
        self.bad += other.bad;
    }
}

/// What is known of a network on a pathway.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// Its number, if known.
    pub asn: Option<u32>,
    /// Views now.
    pub views: u64,
    /// Of them, those with a bad window in the last minute; 0 if nobody counts them.
    pub views_bad: u64,
    /// Views whose reports are not believed.
    pub unsent: f64,
    /// Bad windows of the last 20 s as they were told.
    pub told: f64,
    pub gauges: Gauges,
    /// Since the last round.
    pub fresh: Windows,
    /// Over the memory of health.
    pub health: Windows,
    /// Over 20 s.
    pub recent: Windows,
    /// Over the memory of health, by protocol: (windows, bad ones).
    pub protocols: [(f32, f32); 3],
    /// CUSUM against the network's other pathways, nats.
    pub cusum: f64,
    /// Since the CUSUM last stood at zero: own windows and bad ones, the others' windows and bad ones.
    pub run: [f32; 4],
}

/// Place of a protocol in [`Network::protocols`].
pub(crate) const fn protocol_index(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Hls => 0,
        Protocol::Dash => 1,
        Protocol::Other => 2,
    }
}

impl Network {
    pub(crate) const fn new(asn: Option<u32>) -> Self {
        let none = Windows { all: 0.0, bad: 0.0, squares: 0.0 };
        Self {
            asn,
            views: 0,
            views_bad: 0,
            unsent: 0.0,
            told: 0.0,
            gauges: Gauges(Vec::new()),
            fresh: none,
            health: none,
            recent: none,
            protocols: [(0.0, 0.0); 3],
            cusum: 0.0,
            run: [0.0; 4],
        }
    }

    /// Counts its views now.
    pub(crate) fn count(&mut self, sources: &[(u32, TimestampMs)]) -> Counted {
        let out = self.gauges.count(sources);
        (self.views, self.views_bad) = (out.views, out.bad);
        out
    }

    /// Forgets the illness: it is judged by what it does now.
    pub(crate) fn forget(&mut self) {
        *self = Self {
            views: self.views,
            views_bad: self.views_bad,
            gauges: std::mem::take(&mut self.gauges),
            ..Self::new(self.asn)
        };
    }

    /// Whether nothing is known of it any more.
    pub(crate) fn is_empty(&self) -> bool {
        self.views == 0 && self.health.all < 0.5 && self.fresh.all <= 0.0
    }
}

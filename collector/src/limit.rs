//! Write keys are public: rates per key and per address prefix.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::config::CollectorConfig;
use crate::refusal::Refusal;

/// An address's /24 (IPv6: /48). It is used and kept in memory only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Prefix(bool, u64);

impl Prefix {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(false, u64::from(v4.to_bits() >> 8)),
            IpAddr::V6(v6) => Self(true, u64::try_from(v6.to_bits() >> 80).unwrap_or(u64::MAX)),
        }
    }
}

pub(crate) struct Limits {
    by_key: DefaultKeyedRateLimiter<String>,
    by_prefix: DefaultKeyedRateLimiter<Prefix>,
    clock: DefaultClock,
}

fn quota(per_s: u32) -> Quota {
    let rate = NonZeroU32::new(per_s).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(rate).allow_burst(rate.saturating_mul(NonZeroU32::MIN.saturating_add(1)))
}

fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + 1
}

impl Limits {
    pub(crate) fn new(config: &CollectorConfig) -> Self {
        Self {
            by_key: RateLimiter::keyed(quota(config.rate_limit_key_per_s)),
            by_prefix: RateLimiter::keyed(quota(config.rate_limit_prefix_per_s)),
            clock: DefaultClock::default(),
        }
    }

    pub(crate) fn check_prefix(&self, prefix: Prefix) -> Result<(), Refusal> {
        let denied = |until: governor::NotUntil<_>| seconds(until.wait_time_from(self.clock.now()));
        self.by_prefix.check_key(&prefix).map_err(|until| Refusal::RateLimited("network", denied(until)))
    }

    /// Only keys that are known come here, so that their number is bounded.
    pub(crate) fn check_key(&self, key: &str) -> Result<(), Refusal> {
        let denied = |until: governor::NotUntil<_>| seconds(until.wait_time_from(self.clock.now()));
        self.by_key.check_key(&key.to_owned()).map_err(|until| Refusal::RateLimited("write key", denied(until)))
    }

    /// Forgets prefixes that are long within their rate.
    pub(crate) fn sweep(&self) {
        self.by_prefix.retain_recent();
        self.by_prefix.shrink_to_fit();
    }
}

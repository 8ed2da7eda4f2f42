//! Plays the sample story to a dashboard, for work on the pages:
//! `cargo run --example preview -- [PORT] [SPEED] [SECOND]`: SPEED times as fast, held at SECOND if one is given.
//! Instead of SECOND, the name of a sample shows that one, and `nothing` publishes none.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use spillway_bus::{Bus, LocalBus};
use spillway_dashboards::{DashboardConfig, Shell, run, sample};
use spillway_model::{Clock, Millis, TimestampMs};
use spillway_service::{Readiness, SystemClock, bind, shutdown_on_signal};
use spillway_wire::overview::{OVERVIEW_TOPIC, Overview};

/// Time that runs `speed` times as fast until it is held.
struct FastClock {
    real: SystemClock,
    start_ms: u64,
    speed: u64,
    held_at_s: Option<u64>,
}

impl Clock for FastClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(self.start_ms + self.monotonic().0)
    }

    fn monotonic(&self) -> Millis {
        let (real_ms, speed) = (self.real.monotonic().0, self.speed);
        let fast_until_ms = self.held_at_s.map_or(u64::MAX, |s| s * 1_000 / speed);
        Millis(real_ms.min(fast_until_ms) * speed + real_ms.saturating_sub(fast_until_ms))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().map_or(Ok(4303), |text| text.parse())?;
    let speed: u64 = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let last = arguments.next().unwrap_or_default();
    let still = sample::all().into_iter().find(|(name, _)| *name == last).map(|(_, overview)| overview);
    let held_at_s = last.parse().ok().filter(|second| *second > 0);
    let real = SystemClock::new();
    let clock = Arc::new(FastClock { real, start_ms: sample::SAMPLE_AT_MS, speed: speed.max(1), held_at_s });

    let bus = Arc::new(LocalBus::new());
    let config = DashboardConfig {
        listen: ([127, 0, 0, 1], port).into(),
        title: Some("preview".to_owned()),
        watch_url: Some("/watch".to_owned()),
    };
    let listener = bind("dashboard.listen", config.listen).await?;
    println!("http://{}/", listener.local_addr()?);
    if last != "nothing" {
        tokio::spawn(play(Arc::clone(&bus), Arc::clone(&clock), held_at_s, still));
    }
    let shell =
        Shell { bus, clock, readiness: Readiness::default(), shutdown: shutdown_on_signal()?, extra: Router::new() };
    run(config, shell, listener).await?;
    Ok(())
}

async fn play(bus: Arc<LocalBus>, clock: Arc<FastClock>, held_at_s: Option<u64>, still: Option<Overview>) {
    let mut round = tokio::time::interval(Duration::from_millis((2_000 / clock.speed).max(20)));
    loop {
        round.tick().await;
        let second = clock.monotonic().0 / 1_000;
        // Whole seconds, so that what happened keeps its time from round to round.
        let at_ms = clock.start_ms + second * 1_000;
        if held_at_s.is_some_and(|held| second >= held + 60) {
            // Nothing comes any more: the page shows how it says so.
            return;
        }
        let second = held_at_s.map_or(second % sample::STORY_S, |held| second.min(held));
        let overview = match &still {
            Some(still) => Overview { at_ms, ..still.clone() },
            None => sample::story(second, at_ms),
        };
        if let Ok(json) = serde_json::to_vec(&overview) {
            bus.publish(OVERVIEW_TOPIC, Bytes::from(json)).await;
        }
    }
}

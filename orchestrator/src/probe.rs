//! Synthetic probes: each pathway × region, a small object and a segment, at a steady pace.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use spillway_bus::Bus;
use spillway_model::{Clock, PathwayId, RegionId};
use spillway_service::deployment::Deployment;
use spillway_service::{CancellationToken, Deployed};
use spillway_wire::probe::{PROBE_TOPIC, ProbeResult};

use crate::config::ProbeConfig;

/// What was bad is fetched again after so long, and not only when its turn comes: two bad ones in a row count, and where
/// few players report, the second decides when a dead pathway is left.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// One thing to fetch.
#[derive(Clone, Debug)]
struct Target {
    pathway: PathwayId,
    region: RegionId,
    base_url: String,
    from: Option<IpAddr>,
}

/// Probes until `shutdown`; results go onto the bus.
pub async fn run(
    config: ProbeConfig,
    mut deployed: Deployed,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) {
    if !config.enabled {
        return shutdown.cancelled().await;
    }
    let mut running = tokio::task::JoinSet::new();
    while !shutdown.is_cancelled() {
        let targets = targets(&deployed.now());
        tokio::select! {
            () = probe_all(&config, &targets, &bus, &clock, &mut running) => {}
            () = deployed.changed() => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Probes these in turns, for ever.
async fn probe_all(
    config: &ProbeConfig,
    targets: &[Target],
    bus: &Arc<dyn Bus>,
    clock: &Arc<dyn Clock>,
    running: &mut tokio::task::JoinSet<()>,
) {
    // Spread over the interval, so that no pathway sees them all in one moment.
    let step = Duration::from_secs(config.interval_s.max(1)) / u32::try_from(targets.len().max(1)).unwrap_or(u32::MAX);
    let mut pace = tokio::time::interval(step.max(Duration::from_millis(1)));
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for target in targets.iter().cycle() {
        pace.tick().await;
        while running.try_join_next().is_some() {}
        if running.len() > 2 * targets.len() {
            continue;
        }
        let (target, config, bus, clock) = (target.clone(), config.clone(), Arc::clone(bus), Arc::clone(clock));
        running.spawn(async move {
            if !pair(&target, &config, bus.as_ref(), clock.as_ref()).await {
                tokio::time::sleep(AGAIN_AFTER).await;
                pair(&target, &config, bus.as_ref(), clock.as_ref()).await;
            }
        });
    }
    // Nothing to probe until there is another deployment.
    std::future::pending().await
}

/// Fetches the small object and the segment and tells what came; whether both were good.
async fn pair(target: &Target, config: &ProbeConfig, bus: &dyn Bus, clock: &dyn Clock) -> bool {
    let mut good = true;
    for (object, path, timeout_ms) in [
        ("small", &config.small_path, config.small_timeout_ms),
        ("segment", &config.segment_path, config.segment_timeout_ms),
    ] {
        let result = fetch(target, object, path, Duration::from_millis(timeout_ms), clock).await;
        good &= result.ok;
        let message = serde_json::to_vec(&result).expect("plain fields");
        bus.publish(PROBE_TOPIC, message.into()).await;
    }
    good
}

fn targets(deployment: &Deployment) -> Vec<Target> {
    let mut out = Vec::new();
    for (id, pathway) in &deployment.pathways {
        for (region, config) in &deployment.regions {
            if deployment.serves(id, region) {
                out.push(Target {
                    pathway: id.clone(),
                    region: region.clone(),
                    base_url: pathway.base_url.trim_end_matches('/').to_owned(),
                    from: config.probe_from,
                });
            }
        }
    }
    out
}

async fn fetch(target: &Target, object: &str, path: &str, timeout: Duration, clock: &dyn Clock) -> ProbeResult {
    let mut result = ProbeResult {
        v: 1,
        pathway: target.pathway.to_string(),
        region: target.region.to_string(),
        object: object.to_owned(),
        at_ms: clock.now().0,
        ..ProbeResult::default()
    };
    let begun = clock.monotonic();
    // A client of its own per probe: a probe that reuses a warm connection says nothing of connecting.
    let client = reqwest::Client::builder()
        .local_address(target.from)
        .timeout(timeout)
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .build();
    let outcome = match client {
        Ok(client) => read(client, &format!("{}{path}", target.base_url), begun, clock, &mut result).await,
        Err(error) => Err(error.to_string()),
    };
    result.total_ms = (clock.monotonic() - begun).0;
    match outcome {
        Ok(()) if result.status == 200 && result.bytes > 0 => result.ok = true,
        Ok(()) => result.detail = format!("status {} with {} bytes", result.status, result.bytes),
        Err(detail) => result.detail = detail,
    }
    result
}

async fn read(
    client: reqwest::Client,
    url: &str,
    begun: spillway_model::Millis,
    clock: &dyn Clock,
    result: &mut ProbeResult,
) -> Result<(), String> {
    let short = |error: reqwest::Error| {
        if error.is_timeout() { "not in time".to_owned() } else { error.without_url().to_string() }
    };
    let answer = client.get(url).send().await.map_err(short)?;
    result.status = answer.status().as_u16();
    result.ttfb_ms = Some((clock.monotonic() - begun).0);
    let expected = answer.content_length();
    let mut body = answer.bytes_stream();
    while let Some(chunk) = body.next().await {
        result.bytes += chunk.map_err(short)?.len() as u64;
    }
    match expected {
        Some(expected) if expected != result.bytes => Err(format!("{} of {expected} bytes", result.bytes)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use spillway_bus::LocalBus;
    use spillway_service::SystemClock;

    use super::*;

    /// How many probes of a pathway there are within three seconds, at one turn a minute.
    async fn probes_of(base_url: String) -> Vec<bool> {
        let region = RegionId::new("eu").expect("id");
        let target = Target { pathway: PathwayId::new("cdn-a").expect("id"), region, base_url, from: None };
        let bus = LocalBus::new();
        let mut heard = bus.subscribe(PROBE_TOPIC);
        let config = ProbeConfig { interval_s: 60, ..ProbeConfig::default() };
        let (bus, clock): (Arc<dyn Bus>, Arc<dyn Clock>) = (Arc::new(bus), Arc::new(SystemClock::new()));
        let mut running = tokio::task::JoinSet::new();
        let targets = [target];
        let probing = probe_all(&config, &targets, &bus, &clock, &mut running);
        let mut out = Vec::new();
        let listening = async {
            while let Some(message) = heard.next().await {
                out.push(serde_json::from_slice::<ProbeResult>(&message).expect("a result").ok);
            }
        };
        let both = async { tokio::join!(probing, listening) };
        let _ = tokio::time::timeout(Duration::from_secs(3), both).await;
        out
    }

    #[tokio::test]
    async fn what_was_bad_is_probed_again_at_once_and_what_was_good_in_its_turn() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(|| async { "bytes" })).await });
        assert_eq!(probes_of(format!("http://{address}")).await, [true, true]);
        assert_eq!(probes_of("http://127.0.0.1:9".into()).await, [false; 4]);
    }
}

//! Many who miss the same object at once: one fetch, and nobody waits for its end.

use std::rc::Rc;

use anyhow::ensure;
use serde_json::{Value, json};

use crate::edge::client::{Ask, Clients};
use crate::edge::origin::{Origin, SLOW_BYTES, slow_path};
use crate::edge::servers::Cache;

/// What came of it; the worst of some objects.
pub(crate) struct Coalesced {
    pub(crate) json: Value,
    pub(crate) reached: bool,
}

/// Every body is compared as a whole.
pub(crate) async fn measure(ours: &Cache, origin: &Origin, objects: u32, waiters: usize) -> anyhow::Result<Coalesced> {
    let (mut fetches, mut early, mut first_ms, mut whole_ms) = (0, waiters, 0.0_f64, 0.0_f64);
    for number in 0..objects as usize {
        let ask = Rc::new(Ask::new(&slow_path(number), origin.body(SLOW_BYTES, number)));
        let clients = Clients::connect(&ours.target(false)?, waiters).await?;
        let begun = tokio::time::Instant::now();
        let times = clients.once(&ask).await?;
        let seen = origin.slow(number);
        fetches = fetches.max(seen.fetches);
        let before_last = |first: &tokio::time::Instant| seen.last_sent.is_some_and(|last| *first < last);
        early = early.min(times.iter().filter(|(first, _)| before_last(first)).count());
        for (first, whole) in times {
            first_ms = first_ms.max((first - begun).as_secs_f64() * 1e3);
            whole_ms = whole_ms.max((whole - begun).as_secs_f64() * 1e3);
        }
    }
    ensure!(fetches > 0, "the origin was not asked");
    let reached = fetches == 1 && early == waiters;
    let json = json!({
        "waiters": waiters,
        "origin_fetches": fetches,
        "first_byte_before_the_origins_last": early,
        "first_byte_ms_max": first_ms.round(),
        "whole_ms_max": whole_ms.round(),
        "rss_mb_max": ours.server.rss_mb_max()?.round(),
        "reached": reached,
    });
    Ok(Coalesced { json, reached })
}

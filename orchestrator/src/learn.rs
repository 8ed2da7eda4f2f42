//! What the lake teaches, once a minute, and never in a round's way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use spillway_bus::Store;
use spillway_lake::{LakeError, LakeSession, TailSource, baseline, learned};
use spillway_model::{BitsPerSecond, Clock, PathwayId, RegionId};
use spillway_orchestrator_core as core;
use spillway_service::Deployed;
use spillway_service::deployment::PathwayConfig;
use spillway_wire::follow::FollowRegistry;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::follow;
use crate::setup::price_sheet;

const LEARN_EVERY: Duration = Duration::from_secs(60);
/// Baselines rest on the last hour, but not on its newest minutes: an incident must not become normal while it lasts.
const LEARN_FROM_MS: u64 = 3_600_000;
const LEARN_UNTIL_MS: u64 = 180_000;
/// Fewer windows say nothing of what is normal.
const BASELINE_MIN_WINDOWS: u64 = 200;

/// Where the lake is, and how to read its newest rows.
#[derive(Clone)]
pub struct Lake {
    /// Its root.
    pub root: url::Url,
    /// Rows that are not committed yet.
    pub tails: Vec<TailSource>,
}

/// All that was learned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lessons {
    pub(crate) baselines: BTreeMap<(PathwayId, RegionId), f64>,
    pub(crate) learned: Arc<core::Learned>,
    pub(crate) bills: BTreeMap<PathwayId, core::Bill>,
    /// Which players follow steering.
    pub(crate) players: FollowRegistry,
    /// Share of a pathway's views whose players don't.
    pub(crate) fixed: BTreeMap<(PathwayId, RegionId), f64>,
}

/// Asks the lake until it is dropped.
pub(crate) struct Learner {
    lessons: watch::Receiver<Lessons>,
    task: JoinHandle<()>,
}

impl Learner {
    /// Starts; the prices are those of the deployment in force.
    pub(crate) fn start(lake: Lake, deployed: Deployed, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let (sender, lessons) = watch::channel(Lessons::default());
        Self { lessons, task: tokio::spawn(learn(lake, deployed, (sender, store), clock)) }
    }

    /// Adds what was learned last to a round's input.
    pub(crate) fn teach(&self, input: &mut core::RoundInput) {
        let lessons = self.lessons.borrow();
        input.baselines.clone_from(&lessons.baselines);
        input.learned = Arc::clone(&lessons.learned);
        input.bills.clone_from(&lessons.bills);
        if lessons.fixed.is_empty() {
            return;
        }
        for cell in &mut input.cells {
            let share = lessons.fixed.get(&(cell.pathway.clone(), cell.region.clone())).copied().unwrap_or(0.0);
            cell.views_fixed = (cell.views_active as f64 * share).round() as u64;
        }
    }
}

impl Drop for Learner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn learn(
    lake: Lake,
    deployed: Deployed,
    (lessons, store): (watch::Sender<Lessons>, Arc<dyn Store>),
    clock: Arc<dyn Clock>,
) {
    let mut pace = tokio::time::interval(LEARN_EVERY);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let sheet = |(id, pathway): (&PathwayId, &PathwayConfig)| (id.clone(), price_sheet(&pathway.price));
        let prices = deployed.now().pathways.iter().map(sheet).collect();
        match read(&lake, &prices, clock.now().0).await {
            Ok(read) => {
                if let Err(error) = follow::publish(store.as_ref(), &read.players).await {
                    tracing::warn!(%error, "the registry of players was not published; steering nodes keep the last");
                }
                lessons.send_replace(read);
                metrics::gauge!("spillway_learned_timestamp_seconds").set(clock.now().0 as f64 / 1e3);
            }
            Err(error) => tracing::warn!(%error, "nothing learned from the lake; what was learned last stays"),
        }
    }
}

async fn read(lake: &Lake, prices: &BTreeMap<PathwayId, core::PriceSheet>, now_ms: u64) -> Result<Lessons, LakeError> {
    let session = LakeSession::open(&lake.root, lake.tails.clone()).await?;
    let (from, until) = (now_ms.saturating_sub(LEARN_FROM_MS), now_ms.saturating_sub(LEARN_UNTIL_MS));
    let (mut out, mut taught) = (Lessons::default(), core::Learned::default());
    for rate in baseline::baselines(&session, from, until).await? {
        if rate.windows >= BASELINE_MIN_WINDOWS
            && let Some(cell) = cell(&rate.pathway, &rate.region)
        {
            out.baselines.insert(cell, rate.bad_rate);
        }
    }
    for rate in learned::hourly_rates(&session, now_ms).await? {
        if let Some((pathway, region)) = cell(&rate.pathway, &rate.region) {
            taught.baselines.insert((pathway, region, rate.hour_of_week), rate.bad_rate);
        }
    }
    for network in learned::network_windows(&session, now_ms).await? {
        if let Some((pathway, region)) = cell(&network.pathway, &network.region) {
            let health = core::NetworkHealth { windows: network.windows, bad_windows: network.bad_windows };
            taught.networks.insert((pathway, region, network.asn), health);
        }
    }
    for ratio in learned::hit_ratios(&session, now_ms).await? {
        // Until a move was seen, a cold cache is taken to hold nothing.
        let (Ok(pathway), after_move) = (PathwayId::new(&ratio.pathway), ratio.after_move.unwrap_or(0.0)) else {
            continue;
        };
        taught.hit_ratios.insert(pathway, core::HitRatio { warm: ratio.warm, after_move });
    }
    for growth in learned::growth_10min(&session, now_ms).await? {
        taught.growth_10min.extend(RegionId::new(&growth.region).ok().map(|region| (region, growth.factor)));
    }
    for bits in learned::bits_per_view(&session, now_ms).await? {
        let per_view = BitsPerSecond(bits.bits_per_s.max(0.0) as u64);
        taught.bits_per_view.extend(RegionId::new(&bits.region).ok().map(|region| (region, per_view)));
    }
    for bill in learned::bills(&session, now_ms).await? {
        let Ok(pathway) = PathwayId::new(&bill.pathway) else { continue };
        let committed_mbps = match prices.get(&pathway) {
            Some(core::PriceSheet::Percentile95 { committed_mbps, .. }) => *committed_mbps,
            _ => 0.0,
        };
        let (level_mbps, free_slots) = bill.level(committed_mbps);
        let free_slots = u32::try_from(free_slots).unwrap_or(u32::MAX);
        let known = core::Bill { used_gb: bill.used_gb, profile: bill.profile, level_mbps, free_slots };
        out.bills.insert(pathway, known);
    }
    out.players = follow::registry(learned::follow_rates(&session, now_ms).await?, now_ms);
    out.fixed = follow::fixed_shares(&out.players, &learned::players_by_pathway(&session, now_ms).await?);
    out.learned = Arc::new(taught);
    Ok(out)
}

fn cell(pathway: &str, region: &str) -> Option<(PathwayId, RegionId)> {
    Some((PathwayId::new(pathway).ok()?, RegionId::new(region).ok()?))
}

#[cfg(test)]
mod tests {
    use spillway_lake::lake_root;

    use super::*;

    #[tokio::test]
    async fn an_empty_lake_teaches_nothing_and_is_no_error() {
        let dir = tempfile::tempdir().expect("dir");
        let lake = Lake { root: lake_root(dir.path().to_str().expect("path")).expect("root"), tails: Vec::new() };
        let lessons = read(&lake, &BTreeMap::new(), 1_767_225_600_000).await.expect("read");
        assert!(lessons.baselines.is_empty() && lessons.bills.is_empty() && lessons.learned.networks.is_empty());
    }
}

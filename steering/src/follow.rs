//! Follows the manifests of all regions: from the sources into memory, and from there onto the node's disk.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use spillway_model::RegionId;
use spillway_service::CancellationToken;
use spillway_wire::envelope::{key_id, read_key, read_keys};

use crate::SteerState;
use crate::copies::Copies;
use crate::sources::{Mark, Source};

/// After every source has failed; their next answer is no more urgent than that.
const RETRY: Duration = Duration::from_millis(500);
/// Keys are read so often also without need, so that one that was taken back is not believed for long.
const KEYS_EVERY: Duration = Duration::from_secs(60);
/// Who follows steering is learned once a minute.
const PLAYERS_EVERY: Duration = Duration::from_secs(60);
/// The age of manifests is exported so often.
const AGE_EVERY: Duration = Duration::from_secs(5);
/// What a manifest from the node's disk is said to come from.
const COPY: &str = "copy";

/// What follows the manifests.
pub(crate) struct Follower {
    pub(crate) state: Arc<SteerState>,
    pub(crate) sources: Vec<Source>,
    /// `None`: nothing is kept on disk.
    pub(crate) copies: Option<Copies>,
}

impl Follower {
    /// Takes what the node knew when it last ran. Before the first answer, since it may be all there is.
    pub(crate) async fn restore(&self) {
        let pinned = self.state.settings.manifest_keys.iter();
        let pinned = pinned.filter_map(|text| Some((key_id(text), read_key(text)?)));
        self.state.manifests.set_keys(pinned.collect());
        let Some(copies) = self.copies.clone() else { return };
        let regions: Vec<RegionId> = self.state.deployed.now().regions.keys().cloned().collect();
        let read = tokio::task::spawn_blocking(move || {
            let manifests = regions.into_iter().filter_map(|region| {
                let bytes = copies.read_manifest(&region)?;
                Some((region, bytes))
            });
            (copies.read_keys(), manifests.collect::<Vec<_>>())
        });
        let Ok((keys, manifests)) = read.await else { return };
        if let Some(keys) = keys {
            self.take_keys(&keys);
        }
        for (region, bytes) in manifests {
            self.offer(&region, &bytes, COPY);
        }
    }

    /// Until shutdown.
    pub(crate) async fn run(&self, shutdown: &CancellationToken) {
        let follow = async {
            tokio::join!(self.follow_all(), self.refresh_keys(), self.refresh_players(), self.tell_age());
        };
        let write = async {
            match &self.copies {
                Some(copies) => copies.write_until(shutdown).await,
                None => shutdown.cancelled().await,
            }
        };
        let follow = async {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = follow => {}
            }
        };
        tokio::join!(follow, write);
    }

    /// Every region of the deployment in force.
    async fn follow_all(&self) {
        let mut deployed = self.state.deployed.clone();
        loop {
            let deployment = deployed.now();
            if let Err(error) = self.state.manifests.deploy(&deployment) {
                tracing::error!(%error, "no static plans of the new deployment; those before stay");
            }
            tokio::select! {
                _ = join_all(deployment.regions.keys().map(|region| self.follow(region))) => {}
                () = deployed.changed() => {}
            }
        }
    }

    async fn follow(&self, region: &RegionId) {
        let mut marks: Vec<Mark> = vec![None; self.sources.len()];
        let mut at = 0;
        loop {
            let source = &self.sources[at];
            match source.next(region, &mut marks[at]).await {
                Ok(Some(bytes)) => {
                    if self.state.manifests.needs_keys(&bytes) {
                        self.load_keys(source).await;
                    }
                    if self.offer(region, &bytes, &source.name)
                        && let Some(copies) = &self.copies
                    {
                        copies.keep(region, bytes);
                    }
                }
                // The first one may be back.
                Ok(None) => at = 0,
                Err(_) => {
                    at = (at + 1) % self.sources.len();
                    if at == 0 {
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        }
    }

    /// Whether it is in force now and was not before.
    fn offer(&self, region: &RegionId, bytes: &[u8], from: &str) -> bool {
        match self.state.manifests.offer(region, bytes, self.state.clock.now()) {
            Ok(new) => {
                self.state.manifests.came_from(region, from);
                tracing::debug!(%region, from, new, "manifest accepted");
                if new {
                    self.tell_keyless(region);
                }
                new
            }
            Err(refusal) => {
                metrics::counter!("spillway_steer_manifests_refused_total", "region" => region.to_string(), "reason" => refusal.name())
                    .increment(1);
                tracing::warn!(%region, from, error = %refusal, reason = refusal.name(), "manifest refused");
                false
            }
        }
    }

    fn tell_keyless(&self, region: &RegionId) {
        for id in self.state.manifests.current(region, self.state.clock.now()).manifest.keyless() {
            metrics::counter!("spillway_steer_keyless_total", "region" => region.to_string(), "pathway" => id.to_string())
                .increment(1);
            tracing::warn!(%region, pathway = %id, "left out of playlists: no key of its signer here");
        }
    }

    /// Pinned keys stay the only ones.
    fn take_keys(&self, json: &[u8]) -> bool {
        let keys = read_keys(json);
        // No key at all is a source that has not begun, or a fault: it must not take away those that are known.
        if keys.is_empty() || !self.state.settings.manifest_keys.is_empty() {
            return false;
        }
        self.state.manifests.set_keys(keys);
        true
    }

    async fn load_keys(&self, source: &Source) -> bool {
        match source.keys().await {
            Ok(Some(json)) if self.take_keys(&json) => {
                if let Some(copies) = &self.copies {
                    copies.keep_keys(json);
                }
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::debug!(source = source.name, %error, "manifest keys not read");
                false
            }
        }
    }

    async fn refresh_keys(&self) {
        loop {
            tokio::time::sleep(KEYS_EVERY).await;
            for source in &self.sources {
                if self.load_keys(source).await {
                    break;
                }
            }
        }
    }

    async fn refresh_players(&self) {
        loop {
            for source in &self.sources {
                match source.players().await {
                    Ok(Some(registry)) if self.state.unsteered.take(&registry) => break,
                    Ok(Some(_)) => tracing::warn!(source = source.name, "the registry of players does not read"),
                    Ok(None) => {}
                    Err(error) => tracing::debug!(source = source.name, %error, "registry of players not read"),
                }
            }
            tokio::time::sleep(PLAYERS_EVERY).await;
        }
    }

    async fn tell_age(&self) {
        loop {
            let now = self.state.clock.now();
            for (region, status) in self.state.manifests.status(now) {
                if status.accepted.is_some() {
                    let age = now.since(status.current.manifest.issued).as_secs_f64();
                    metrics::gauge!("spillway_steer_manifest_age_seconds", "region" => region.to_string()).set(age);
                }
            }
            tokio::time::sleep(AGE_EVERY).await;
        }
    }
}

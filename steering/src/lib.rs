//! The steering node: answers to players, from the manifests alone.
//!
//! The path of a view, file by file: [`playlists`] (the origin's playlist, fetched by its `origin`, rewritten by `hls` or
//! `dash`, with a signed token that names the first pathway) → [`answers`] (each poll: who asks from `params` and the
//! token, the order from `decide`) → [`counters`] (a frame a second: what the orchestrator learns of all this) and
//! [`samples`] (some answers with their why, for the lake).
//! [`follow`] takes manifests from [`sources`] (the store, orchestrators, files) and keeps [`copies`] on disk; [`manifests`]
//! keeps each region's last good one, [`prepared`] to rank by; [`custom`] serves players that know neither HLS nor DASH
//! steering; [`explain`] and [`why`] say why; [`sessions`] playback services; [`dns`] devices that know only names;
//! [`players`] knows who doesn't follow steering; [`trail`] what a player left by itself; [`signers`] signs what CDNs check;
//! [`status`] tells operators; [`check`] tries a pathway before it gets viewers.
//!
//! Invariants: a player never gets a 5xx, 429 or 410 from `/v1/steer`; no answer waits for a query, a round or a disk;
//! there is no state per session that an answer depends on, so any node answers any session, also after a restart.

mod answers;
mod asker;
mod caller;
pub mod check;
mod config;
mod copies;
mod counters;
mod custom;
mod decide;
mod dns;
mod explain;
mod follow;
mod http;
mod manifests;
mod params;
mod players;
mod playlists;
mod prepared;
mod reply;
mod samples;
mod sessions;
mod signers;
mod sources;
mod static_plan;
mod status;
mod trail;
mod why;

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use metrics_exporter_prometheus::PrometheusHandle;
use spillway_bus::{Bus as _, LocalBus, Store};
use spillway_model::Clock;
use spillway_service::auth::TokenConfig;
use spillway_service::device::{Devices, class_of};
use spillway_service::tls::Listener;
use spillway_service::{CancellationToken, Deployed, Readiness};
use spillway_wire::frame::FRAME_TOPIC;
use tokio::net::TcpListener;

pub use config::SteerConfig;
pub use dns::{DnsConfig, TargetConfig};
pub use playlists::Rewrite;
pub use signers::SignerConfig;
pub use static_plan::of_deployment as static_manifest;

use answers::Answered;
use config::Settings;
use counters::Counters;
use custom::Decided;
use manifests::Manifests;
use players::Unsteered;
use playlists::origin::Origins;
use samples::Samples;

/// Posting of the samples that wait at the end.
pub(crate) const LAST_SAMPLES: Duration = Duration::from_secs(1);

/// Everything that the shell hands to a steering node.
pub struct Parts {
    /// `[steer]`.
    pub config: SteerConfig,
    /// What there is.
    pub deployed: Deployed,
    /// Admin tokens: a viewer may ask why.
    pub tokens: Vec<TokenConfig>,
    /// Secret shared between roles: bearer of sampled answers.
    pub service_token: String,
    /// Manifests and their public keys.
    pub store: Arc<dyn Store>,
    /// Frames out.
    pub bus: LocalBus,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The bound listener.
    pub listener: TcpListener,
    /// The port for players that speaks TLS, where there is one. Health and metrics stay on the other.
    pub public: Option<Listener>,
    /// Says ready at once: without any manifest the answers are static ones.
    pub readiness: Readiness,
    /// `/metrics`, if this process has it.
    pub metrics: Option<PrometheusHandle>,
    /// Ends it.
    pub shutdown: CancellationToken,
    /// Set at the end, once it posts nothing more: a collector beside it may go.
    pub posted: CancellationToken,
}

/// What the handlers share.
pub(crate) struct SteerState {
    pub(crate) settings: Settings,
    /// In force: ask for each request.
    pub(crate) deployed: Deployed,
    pub(crate) tokens: Vec<TokenConfig>,
    pub(crate) service_token: String,
    pub(crate) manifests: Manifests,
    pub(crate) origins: Origins,
    pub(crate) counters: Counters,
    pub(crate) answered: Answered,
    pub(crate) decided: Decided,
    pub(crate) unsteered: Unsteered,
    pub(crate) devices: Devices,
    /// Where there is a collector for them.
    pub(crate) samples: Option<Samples>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl SteerState {
    /// Checks the configuration and builds the static plans; opens nothing but key files.
    ///
    /// # Errors
    /// `ConfigError::Invalid` names key, value and what is valid.
    pub(crate) fn new(
        config: &SteerConfig,
        deployed: impl Into<Deployed>,
        (tokens, service_token): (Vec<TokenConfig>, String),
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let settings = config.check()?;
        let deployed = deployed.into();
        let deployment = deployed.now();
        settings.signers.check(&deployment, &settings.public_url)?;
        Ok(Self {
            manifests: Manifests::new(&deployment, Arc::clone(&settings.signers))?,
            origins: Origins::new(settings.origins.clone(), Arc::clone(&clock))?,
            counters: Counters::new(&settings.id, &deployment, settings.poll_budget_per_s, clock.now()),
            answered: Answered::default(),
            decided: Decided::default(),
            unsteered: Unsteered::default(),
            devices: Devices::default(),
            samples: None,
            settings,
            deployed,
            tokens,
            service_token,
            clock,
        })
    }
}

impl SteerState {
    /// Class of the device that asks.
    pub(crate) fn device(&self, headers: &HeaderMap) -> &'static str {
        let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        class_of(self.devices.of(agent).class)
    }
}

/// Runs a steering node until shutdown.
///
/// # Errors
/// A wrong configuration, or a port of the DNS zone that can't be bound; afterwards nothing ends it but `shutdown`.
pub async fn run(parts: Parts) -> anyhow::Result<()> {
    let mut state = SteerState::new(&parts.config, parts.deployed, (parts.tokens, parts.service_token), parts.clock)?;
    let (samples, poster) = Samples::start(&state.settings, &state.service_token, state.clock.as_ref()).unzip();
    state.samples = samples;
    let state = Arc::new(state);
    let dns = dns::open(&state).await?;
    let follower = follow::Follower {
        state: Arc::clone(&state),
        sources: sources::Source::all(&state.settings.manifests_from, &parts.store)?,
        copies: state.settings.manifest_copy_dir.as_deref().map(copies::Copies::new),
    };
    follower.restore().await;
    let players = http::router(Arc::clone(&state));
    let private = players
        .clone()
        .merge(http::private(Arc::clone(&state)))
        .merge(spillway_service::health_router(parts.readiness.clone(), parts.metrics));
    let public = async {
        if let Some(listener) = parts.public {
            spillway_service::serve(listener, players, parts.shutdown.clone()).await;
        }
    };
    parts.readiness.set(true);
    let draining = async {
        parts.shutdown.cancelled().await;
        parts.readiness.set(false);
    };
    let posting = async {
        samples::post_until(poster, &parts.shutdown).await;
        parts.posted.cancel();
    };
    tokio::join!(
        follower.run(&parts.shutdown),
        players::watch(Arc::clone(&state), parts.store, parts.shutdown.clone()),
        publish_frames(&state, &parts.bus, &parts.shutdown),
        spillway_service::serve(parts.listener, private, parts.shutdown.clone()),
        public,
        dns::serve(dns, &parts.shutdown),
        draining,
        posting,
    );
    Ok(())
}

/// A frame every second, also an empty one: it says that this node lives.
async fn publish_frames(state: &SteerState, bus: &LocalBus, shutdown: &CancellationToken) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            _ = every.tick() => false,
            () = shutdown.cancelled() => true,
        };
        let frame = state.counters.take_frame(state.clock.now());
        match serde_json::to_vec(&frame) {
            Ok(bytes) => bus.publish(FRAME_TOPIC, bytes.into()).await,
            Err(error) => tracing::error!(%error, "a frame did not serialise"),
        }
        if last {
            return;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

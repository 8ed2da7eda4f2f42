//! The configuration file: one for all roles.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use spillway_collector::CollectorConfig;
use spillway_dashboards::DashboardConfig;
use spillway_lake::jobs::{JobContext, LakeConfig, Permit};
use spillway_model::Clock;
use spillway_orchestrator::OrchestratorConfig;
use spillway_orchestrator::steer::SteerConfig;
use spillway_orchestrator_core::Parameters;
use spillway_own_edge::EdgeConfig;
use spillway_service::auth::TokenConfig;
use spillway_service::config::{self, ConfigError};
use spillway_service::deployment::{Deployment, PathwayConfig, PrefixConfig, PropertyConfig, RegionConfig};
use spillway_service::geo::GeoConfig;
use url::Url;

/// The whole file. Every key is described in `deploy/spillway.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of WAL, lake, store and key.
    pub data_dir: PathBuf,
    /// Shared secret between roles, 16 characters or more.
    pub service_token: String,
    /// Base URLs of orchestrators and dashboards in other processes, which frames are pushed to.
    #[serde(default)]
    pub bus_peers: Vec<String>,
    /// Who may use the admin API.
    #[serde(default)]
    pub token: Vec<TokenConfig>,
    /// Tenants' apps.
    #[serde(default)]
    pub property: Vec<PropertyConfig>,
    /// Routing regions.
    #[serde(default)]
    pub region: Vec<RegionConfig>,
    /// Ways to deliver.
    #[serde(default)]
    pub pathway: Vec<PathwayConfig>,
    /// Address → region and network.
    #[serde(default)]
    pub prefix: Vec<PrefixConfig>,
    /// Geo databases, and whose word counts for where a client is.
    #[serde(default)]
    pub geo: GeoConfig,
    /// Parameters of decisions.
    #[serde(default)]
    pub policy: PolicyConfig,
    /// Lake.
    #[serde(default)]
    pub lake: LakeConfig,
    /// Collector.
    #[serde(default)]
    pub collector: CollectorConfig,
    /// Steering node.
    pub steer: Option<SteerConfig>,
    /// Orchestrator.
    #[serde(default)]
    pub orchestrator: OrchestratorConfig,
    /// Dashboard.
    #[serde(default)]
    pub dashboard: DashboardConfig,
    /// Own edge (in an edge's own file).
    pub edge: Option<EdgeConfig>,
}

/// `[policy]`: the parameters that an operator may change; the others and all reasons: `check-config --explain`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// Seconds between polls, live. Default 10.
    pub ttl_live_s: Option<u32>,
    /// Seconds between polls, on demand. Default 30.
    pub ttl_vod_s: Option<u32>,
    /// Seconds between polls where a pathway is suspect. Default 5.
    pub ttl_suspect_s: Option<u32>,
    /// How long a pathway stays DOWN at least, s. Default 120.
    pub hold_s: Option<u64>,
    /// Length of a step of recovery, s. Default 120.
    pub recovery_step_s: Option<u64>,
    /// Length of a drain, s. Default 600.
    pub drain_s: Option<u64>,
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`ConfigError`] names key, value and what is valid.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = config::load(path)?;
        if config.service_token.len() < 16 {
            let shown = format!("{} characters", config.service_token.len());
            return Err(ConfigError::invalid("service_token", shown, "16 characters or more"));
        }
        config.lake.check().map_err(|(key, value, valid)| ConfigError::invalid(key, value, valid))?;
        for token in &config.token {
            if token.sha256.len() != 64 || !token.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                let key = format!("token[{}].sha256", token.name);
                return Err(ConfigError::invalid(key, &token.sha256, "64 hex digits (spillway token makes them)"));
            }
        }
        Ok(config)
    }

    /// The deployment, checked.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn deployment(&self) -> Result<Arc<Deployment>, ConfigError> {
        let (property, region) = (self.property.clone(), self.region.clone());
        let deployment = Deployment::new(property, region, self.pathway.clone(), self.prefix.clone())?;
        Ok(Arc::new(deployment.with_geo(&self.geo)?))
    }

    /// Decision parameters: production defaults with the operator's changes.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for a value out of range.
    pub fn parameters(&self) -> Result<Parameters, ConfigError> {
        use spillway_model::limits::{TTL_MAX_S, TTL_MIN_S};
        let mut parameters = Parameters::default();
        let policy = &self.policy;
        let valid = format!("{TTL_MIN_S} to {TTL_MAX_S}");
        for (key, value, field) in [
            ("policy.ttl_live_s", policy.ttl_live_s, &mut parameters.ttl_live_s),
            ("policy.ttl_vod_s", policy.ttl_vod_s, &mut parameters.ttl_vod_s),
            ("policy.ttl_suspect_s", policy.ttl_suspect_s, &mut parameters.ttl_suspect_s),
        ] {
            if let Some(seconds) = value {
                if !(TTL_MIN_S..=TTL_MAX_S).contains(&seconds) {
                    return Err(ConfigError::invalid(key, seconds, valid));
                }
                *field = seconds;
            }
        }
        for (key, value, field) in [
            ("policy.hold_s", policy.hold_s, &mut parameters.hold_s),
            ("policy.recovery_step_s", policy.recovery_step_s, &mut parameters.recovery_step_s),
            ("policy.drain_s", policy.drain_s, &mut parameters.drain_s),
        ] {
            if let Some(seconds) = value {
                if !(1..=86_400).contains(&seconds) {
                    return Err(ConfigError::invalid(key, seconds, "1 to 86400"));
                }
                *field = seconds as f64;
            }
        }
        Ok(parameters)
    }

    /// The steering node's section.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if it is missing.
    pub fn steer(&self) -> Result<SteerConfig, ConfigError> {
        self.steer.clone().ok_or_else(|| ConfigError::invalid("steer", "missing", "a [steer] section"))
    }

    /// The edge's section.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if it is missing.
    pub fn edge(&self) -> Result<EdgeConfig, ConfigError> {
        self.edge.clone().ok_or_else(|| ConfigError::invalid("edge", "missing", "an [edge] section"))
    }

    /// Where the lake is.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for a root that is none.
    pub fn lake_root(&self) -> Result<Url, ConfigError> {
        let root = match &self.lake.root {
            Some(root) => root.clone(),
            None => {
                let folder = std::path::absolute(self.data_dir.join("lake"))
                    .map_err(|error| ConfigError::invalid("data_dir", self.data_dir.display(), error.to_string()))?;
                folder.to_string_lossy().into_owned()
            }
        };
        let valid = "an absolute path, a file:// URL, or s3://bucket/prefix";
        spillway_lake::lake_root(&root).map_err(|_| ConfigError::invalid("lake.root", &root, valid))
    }

    /// What surrounds a job on the lake.
    #[must_use]
    pub fn job_context(&self, root: &Url, clock: Arc<dyn Clock>, permit: Permit) -> JobContext {
        JobContext {
            memory_max_bytes: self.lake.job_memory_max_mb << 20,
            spill_dir: Some(self.data_dir.join("spill")),
            ..JobContext::new(root, clock, permit)
        }
    }

    /// Where the WAL is.
    #[must_use]
    pub fn wal_dir(&self) -> PathBuf {
        self.data_dir.join("wal")
    }

    /// Where manifests, overrides and drills are.
    #[must_use]
    pub fn store_dir(&self) -> PathBuf {
        self.data_dir.join("store")
    }

    /// Where the manifest signing key is.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.data_dir.join("manifest.key")
    }
}

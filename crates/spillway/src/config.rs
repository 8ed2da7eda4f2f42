//! The configuration file: one for all roles.

use std::collections::BTreeMap;
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
    /// Numbers that decide, where they differ from the defaults; all of them and their reasons:
    /// `check-config --explain`.
    #[serde(default)]
    pub policy: BTreeMap<String, f64>,
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
    /// [`ConfigError::Invalid`] for an unknown name or a value out of range.
    pub fn parameters(&self) -> Result<Parameters, ConfigError> {
        spillway_orchestrator::changed(&Parameters::default(), "policy", &self.policy)
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

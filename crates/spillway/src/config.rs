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
use spillway_orchestrator_core::Parameters;
use spillway_own_edge::EdgeConfig;
use spillway_own_edge::agent::AgentConfig;
use spillway_service::auth::TokenConfig;
use spillway_service::config::{self, ConfigError};
use spillway_service::deployment::{Deployment, PathwayConfig, PrefixConfig, PropertyConfig, RegionConfig};
use spillway_service::geo::GeoConfig;
use spillway_steering::SteerConfig;
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
    /// Agent beside another's server (in its own file).
    pub edge_agent: Option<AgentConfig>,
    /// The file as it was read.
    #[serde(skip)]
    pub table: toml::Table,
}

/// Sections that decisions follow from. They go into the lake with the recorded rounds: none may hold a secret.
const DECIDING: [&str; 4] = ["region", "pathway", "policy", "orchestrator"];
/// What else a file must have, where those sections are read back.
const NOT_RECORDED: &str = "data_dir = \"/\"\nservice_token = \"not recorded, and not used\"\n";

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`ConfigError`] names key, value and what is valid.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = config::read(path)?;
        let mut config: Self = config::parse(path, &text)?;
        config.table = config::parse(path, &text)?;
        config.check()?;
        Ok(config)
    }

    /// Reads and checks what the file at `path` would be like as `table`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn of_table(path: &Path, table: toml::Table) -> Result<Self, ConfigError> {
        let text = toml::to_string(&table).expect("what was read as TOML can be written");
        let mut config: Self = config::parse(path, &text)?;
        config.table = table;
        config.check()?;
        Ok(config)
    }

    /// Checks everything that the roles would, and returns the deployment; an own edge's or an agent's file has none.
    ///
    /// # Errors
    /// [`ConfigError`] names key, value and what is valid.
    pub fn validated(&self) -> Result<Option<Arc<Deployment>>, ConfigError> {
        let parameters = self.parameters()?;
        self.lake_root()?;
        if let Some(edge) = &self.edge {
            edge.check()?;
        }
        if let Some(agent) = &self.edge_agent {
            agent.check()?;
        }
        if self.region.is_empty() && (self.edge.is_some() || self.edge_agent.is_some()) {
            return Ok(None);
        }
        let deployment = self.deployment()?;
        self.validate_with(&deployment, parameters)?;
        Ok(Some(deployment))
    }

    /// Checks the roles' sections against a deployment.
    ///
    /// # Errors
    /// As [`Config::validated`].
    pub fn validate_with(&self, deployment: &Deployment, parameters: Parameters) -> Result<(), ConfigError> {
        if let Some(steer) = &self.steer {
            steer.validate()?;
            steer.validate_with(deployment)?;
        }
        spillway_orchestrator::setup(deployment, parameters, &self.orchestrator)?;
        Ok(())
    }

    /// The file's sections that decide, as TOML.
    #[must_use]
    pub fn deciding(&self) -> String {
        deciding(&self.table)
    }

    /// Reads the sections that decide, as a recording keeps them; `named` tells people where they come from.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn recorded(named: &Path, deciding: &str) -> Result<Self, ConfigError> {
        let config: Self = config::parse(named, &format!("{NOT_RECORDED}{deciding}"))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.service_token.len() < 16 {
            let shown = format!("{} characters", self.service_token.len());
            return Err(ConfigError::invalid("service_token", shown, "16 characters or more"));
        }
        self.lake.check().map_err(|(key, value, valid)| ConfigError::invalid(key, value, valid))?;
        for token in &self.token {
            if token.sha256.len() != 64 || !token.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                let key = format!("token[{}].sha256", token.name);
                return Err(ConfigError::invalid(key, &token.sha256, "64 hex digits (spillway token makes them)"));
            }
        }
        Ok(())
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

    /// The same with the geo databases of `other`, which are in use.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn deployment_beside(&self, other: &Deployment) -> Result<Arc<Deployment>, ConfigError> {
        let (property, region) = (self.property.clone(), self.region.clone());
        let deployment = Deployment::new(property, region, self.pathway.clone(), self.prefix.clone())?;
        Ok(Arc::new(deployment.with_geo_of(&self.geo, other)?))
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

    /// The edge agent's section.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if it is missing.
    pub fn edge_agent(&self) -> Result<AgentConfig, ConfigError> {
        self.edge_agent.clone().ok_or_else(|| ConfigError::invalid("edge_agent", "missing", "an [edge_agent] section"))
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

/// The sections of `file` that decide.
fn deciding(file: &toml::Table) -> String {
    let sections = file.iter().filter(|(name, _)| DECIDING.contains(&name.as_str()));
    let sections: toml::Table = sections.map(|(name, section)| (name.clone(), section.clone())).collect();
    toml::to_string(&sections).expect("what was read as TOML can be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_of_a_configuration_decides_the_same_and_holds_no_secret() {
        let sample = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/spillway.toml"));
        let text = std::fs::read_to_string(sample).expect("sample");
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("spillway.toml");
        let policy = "\n[policy]\nhold_s = 77\nfast_share = 0.5\nfast_window_s = 4\n";
        std::fs::write(&file, format!("{text}{policy}")).expect("written");
        let config = Config::load(&file).expect("valid");
        let deciding = config.deciding();
        assert!(!deciding.contains("change-me"), "{deciding}");
        assert!(deciding.contains("own-eu-1"), "{deciding}");
        let recorded = Config::recorded(Path::new("recorded"), &deciding).expect("valid");
        let of = |config: &Config| {
            let parameters = config.parameters().expect("parameters");
            assert_eq!((parameters.hold_s, parameters.fast_share, parameters.fast_window_s), (77.0, 0.5, 4));
            let deployment = config.deployment().expect("deployment");
            format!("{:?}", spillway_orchestrator::setup(&deployment, parameters, &config.orchestrator).expect("setup"))
        };
        assert_eq!(of(&recorded), of(&config));
    }

    #[test]
    fn a_number_that_decides_must_have_a_name_that_is_known() {
        let config = Config::recorded(Path::new("x"), "[policy]\nfast_shar = 1\n").expect("shape");
        let error = config.parameters().expect_err("refused").to_string();
        assert!(error.contains("policy.fast_shar") && error.contains("check-config --explain"), "{error}");
    }
}

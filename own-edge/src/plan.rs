//! What follows from an own edge's configuration: checked values, in the units that the code works in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use spillway_model::{GroupId, PathwayId, RegionId};
use spillway_service::config::ConfigError;
use spillway_service::posting::{check_collectors, check_share};
use url::Url;

use crate::cache::disk::DiskPlan;
use crate::config::{DiskConfig, EdgeConfig};
use crate::operate::terms::{Rate, Sites, Terms};
use crate::origin::{EdgeToken, ServerPlan, servers};
use crate::rules::paths::PathRules;
use crate::rules::policy::Choices;
use crate::serve::methods::methods;
use crate::serve::signing::SigningConfig;

const MIB: u64 = 1024 * 1024;
/// Sizes in MiB above this are typing errors, and would overflow on the way to bytes.
const MAX_MIB: u64 = 1024 * 1024;
const MAX_DISK_MIB: u64 = 1024 * MAX_MIB;

/// A checked configuration, in the units that the code works in.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub pathway: PathwayId,
    pub group: Option<GroupId>,
    pub region: RegionId,
    pub base_url: String,
    pub servers: Vec<ServerPlan>,
    /// Known when the edge runs; empty before.
    pub edge_token: EdgeToken,
    /// What may be changed while it runs.
    pub terms: Arc<Terms>,
    pub memory_bytes: u64,
    pub fill_bytes: usize,
    /// There is no door but for plain HTTP.
    pub plain_only: bool,
    pub disk: Option<DiskPlan>,
    pub orchestrators: Vec<Target>,
    pub collectors: Vec<String>,
    pub access_log: Option<PathBuf>,
    pub deliveries_share_ppm: u32,
    pub origin_first_byte: Duration,
    pub origin_try: Duration,
    pub origin_read: Duration,
    pub origin_requests: usize,
    pub header_timeout: Duration,
    pub write_stall: Duration,
    pub max_connections: usize,
    pub max_connections_per_client: usize,
}

/// A server that the edge calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// `host:port` as for the `Host` header.
    pub authority: String,
    /// Path in front of what is asked for, without a slash at its end.
    pub prefix: String,
}

/// Who a node says that it is, checked.
#[derive(Clone)]
pub(crate) struct Identity {
    pub pathway: PathwayId,
    pub group: Option<GroupId>,
    pub region: RegionId,
    pub base_url: String,
}

impl Identity {
    /// Checks what stands in `section`.
    pub(crate) fn checked(
        section: &str,
        pathway: &str,
        group: Option<&str>,
        region: &str,
        base_url: &str,
    ) -> Result<Self, ConfigError> {
        let id = |key: &str, error: spillway_model::IdError| {
            ConfigError::invalid(format!("{section}.{key}"), error, "an id")
        };
        let checked = Self {
            pathway: PathwayId::new(pathway).map_err(|e| id("pathway", e))?,
            group: group.map(GroupId::new).transpose().map_err(|e| id("group", e))?,
            region: RegionId::new(region).map_err(|e| id("region", e))?,
            base_url: base_url.to_owned(),
        };
        if !pathway.starts_with("own-") {
            let key = format!("{section}.pathway");
            return Err(ConfigError::invalid(key, pathway, "an id that begins with own-"));
        }
        if !base_url.starts_with("http://") && !base_url.starts_with("https://") {
            let key = format!("{section}.base_url");
            return Err(ConfigError::invalid(key, base_url, "an absolute http:// or https:// URL"));
        }
        Ok(checked)
    }
}

/// A ceiling in bit/s.
pub(crate) fn ceiling_bps(section: &str, ceiling_mbps: f64) -> Result<u64, ConfigError> {
    match ceiling_mbps > 0.0 && ceiling_mbps.is_finite() {
        true => Ok((ceiling_mbps * 1e6) as u64),
        false => Err(ConfigError::invalid(format!("{section}.ceiling_mbps"), ceiling_mbps, "a number above 0")),
    }
}

/// Where load reports go.
pub(crate) fn orchestrators(section: &str, urls: &[String]) -> Result<Vec<Target>, ConfigError> {
    urls.iter().map(|url| target(&format!("{section}.orchestrators"), url, false)).collect()
}

impl EdgeConfig {
    /// Checks every value, without opening anything.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names key, value and what would be valid.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.plan().map(drop)
    }

    pub(crate) fn plan(&self) -> Result<Plan, ConfigError> {
        let identity = Identity::checked("edge", &self.pathway, self.group.as_deref(), &self.region, &self.base_url)?;
        self.check_sizes()?;
        check_collectors("edge.collectors", &self.collectors)?;
        Ok(Plan {
            pathway: identity.pathway,
            group: identity.group,
            region: identity.region,
            base_url: identity.base_url,
            servers: servers(self)?,
            edge_token: EdgeToken::default(),
            terms: Arc::new(self.terms()?),
            memory_bytes: self.memory_mb * MIB,
            plain_only: self.tls.is_none(),
            fill_bytes: usize::try_from(self.fill_mb * MIB).unwrap_or(usize::MAX >> 4),
            disk: self.disk.as_ref().map(DiskConfig::plan).transpose()?,
            orchestrators: orchestrators("edge", &self.orchestrators)?,
            collectors: self.collectors.clone(),
            access_log: self.access_log.clone(),
            deliveries_share_ppm: check_share("edge.deliveries_share", self.deliveries_share)?,
            origin_first_byte: Duration::from_millis(self.origin_first_byte_ms),
            origin_try: Duration::from_millis(self.origin_try_ms),
            origin_read: Duration::from_millis(self.origin_read_ms),
            origin_requests: self.origin_requests,
            header_timeout: Duration::from_millis(self.header_timeout_ms),
            write_stall: Duration::from_millis(self.write_stall_ms),
            max_connections: self.max_connections,
            max_connections_per_client: self.max_connections_per_client,
        })
    }

    /// What may be changed while an edge runs.
    pub(crate) fn terms(&self) -> Result<Terms, ConfigError> {
        Ok(Terms {
            ceiling_bps: ceiling_bps("edge", self.ceiling_mbps)?,
            choices: Choices {
                max_object_bytes: self.max_object_mb * MIB,
                keep_set_cookie: self.keep_set_cookie,
                keep_until_close: self.keep_until_close,
                guess_freshness: self.guess_freshness,
            },
            methods: methods(&self.methods)?,
            signing: self.signed_urls.as_ref().map(SigningConfig::signing).transpose()?,
            paths: PathRules::new(&self.paths, &self.ignore_query)?,
            trusted_ip_header: self.trusted_ip_header.clone(),
            stale_on_error_s: self.stale_on_error_s,
            sites: Sites::new(&self.allowed_origins)?,
            rate: self.requests_per_s_per_client.map(Rate::new),
            prefetch: self.prefetch,
        })
    }

    /// Keys whose values differ from those that `running` started with, and which a reload does not change.
    pub(crate) fn fixed_keys_that_differ(&self, running: &Self) -> Vec<&'static str> {
        differing!(
            self,
            running,
            listen,
            tls,
            admin_listen,
            handover,
            pathway,
            group,
            region,
            base_url,
            origin,
            origins,
            cluster,
            orchestrators,
            collectors,
            access_log,
            deliveries_share,
            memory_mb,
            max_object_mb,
            fill_mb,
            disk,
            origin_ca,
            origin_connect_ms,
            origin_first_byte_ms,
            origin_try_ms,
            origin_read_ms,
            origin_requests,
            header_timeout_ms,
            write_stall_ms,
            max_connections,
            max_connections_per_client
        )
    }

    fn check_sizes(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("memory_mb", self.memory_mb, 2, MAX_MIB),
            ("max_object_mb", self.max_object_mb, 1, self.memory_mb / 2),
            ("fill_mb", self.fill_mb, self.max_object_mb, MAX_MIB),
            ("origin_connect_ms", self.origin_connect_ms, 1, 600_000),
            ("origin_first_byte_ms", self.origin_first_byte_ms, 1, 600_000),
            ("origin_try_ms", self.origin_try_ms, 1, 600_000),
            ("origin_read_ms", self.origin_read_ms, 1, 600_000),
            ("origin_requests", self.origin_requests as u64, 1, 1_000_000),
            ("header_timeout_ms", self.header_timeout_ms, 1, 600_000),
            ("write_stall_ms", self.write_stall_ms, 1, 600_000),
            ("max_connections", self.max_connections as u64, 1, 10_000_000),
        ];
        sizes.into_iter().try_for_each(|(key, value, least, most)| check_size(key, value, least, most))
    }
}

impl DiskConfig {
    fn plan(&self) -> Result<DiskPlan, ConfigError> {
        // Everything below it with a name like ours is ours, and may be removed.
        if !self.path.is_absolute() || self.path.parent().is_none() {
            let valid = "the absolute path of a folder that is this edge's own";
            return Err(ConfigError::invalid("edge.disk.path", self.path.display(), valid));
        }
        check_size("disk.size_mb", self.size_mb, 1, MAX_DISK_MIB)?;
        check_size("disk.open_files", self.open_files as u64, 0, 10_000_000)?;
        Ok(DiskPlan { path: self.path.clone(), bytes: self.size_mb * MIB, open_files: self.open_files })
    }
}

fn check_size(key: &str, value: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(ConfigError::invalid(format!("edge.{key}"), value, format!("{least} to {most}"))),
    }
}

/// The server that an absolute URL names.
pub(crate) fn target(key: &str, text: &str, tls: bool) -> Result<Target, ConfigError> {
    let valid = if tls { "an absolute http:// or https:// URL" } else { "an absolute http:// URL (https:// not yet)" };
    let bad = || ConfigError::invalid(key, text, format!("{valid}, without query"));
    let url = Url::parse(text).map_err(|_| bad())?;
    let scheme = match url.scheme() {
        "http" => "http",
        "https" if tls => "https",
        _ => return Err(bad()),
    };
    let plain =
        url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    let host = url.host_str().filter(|host| plain && !host.is_empty()).ok_or_else(bad)?;
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    Ok(Target { scheme, authority, prefix: url.path().trim_end_matches('/').to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"
        pathway = "own-fra-1"
        region = "eu-central"
        base_url = "http://edge.example:4310"
        origin = "http://origin.example:8080/media/"
        ceiling_mbps = 500
    "#;

    fn with(line: &str) -> Result<EdgeConfig, toml::de::Error> {
        toml::from_str(&format!("{LEAST}\n{line}"))
    }

    #[test]
    fn five_keys_are_enough() {
        let plan = with("").expect("parses").plan().expect("valid");
        assert_eq!(
            plan.servers[0].target,
            Target { scheme: "http", authority: "origin.example:8080".into(), prefix: "/media".into() }
        );
        assert_eq!((plan.terms.ceiling_bps, plan.memory_bytes), (500_000_000, 256 * MIB));
        assert_eq!(&*plan.terms.paths.key("/a", Some("CMCD=x&b")), "/a?b");
    }

    #[test]
    fn a_wrong_value_is_refused_by_name() {
        for (line, word) in [
            ("memory_mb = 1", "edge.memory_mb"),
            ("max_object_mb = 200", "edge.max_object_mb"),
            ("fill_mb = 3", "edge.fill_mb"),
            ("orchestrators = [\"https://o.example\"]", "not yet"),
            ("group = \"a b\"", "edge.group"),
            ("methods = [\"GET\", \"CONNECT\"]", "CONNECT"),
            ("methods = [\"GET\", \"a b\"]", "a b"),
            ("methods = [\"HEAD\"]", "with GET"),
            ("origin_ca = \"/nowhere/ca.pem\"", "/nowhere/ca.pem"),
            ("origin_ca = \"/dev/null\"", "there is none in it"),
            ("allowed_origins = [\"tv.example\"]", "edge.allowed_origins"),
            ("signed_urls = {}", "key_file"),
            ("signed_urls = { key = \"short\" }", "32 or more"),
            ("signed_urls = { key_file = \"/nowhere/key\" }", "/nowhere/key"),
            ("collectors = [\"collector:4300\"]", "edge.collectors"),
            ("deliveries_share = 1.5", "edge.deliveries_share"),
            ("memory_mb = 18446744073709551", "edge.memory_mb"),
            ("disk = { path = \"cache\", size_mb = 10 }", "absolute path"),
            ("disk = { path = \"/\", size_mb = 10 }", "absolute path"),
            ("disk = { path = \"/a\", size_mb = 0 }", "edge.disk.size_mb"),
        ] {
            let error = with(line).expect("parses").check().expect_err(line).to_string();
            assert!(error.contains(word), "{line}: {error}");
        }
        assert!(with("memory = 1").expect_err("unknown").to_string().contains("memory"));
    }

    #[test]
    fn a_commercial_pathway_is_not_an_own_edge() {
        let text = LEAST.replace("own-fra-1", "cdn-a");
        let config: EdgeConfig = toml::from_str(&text).expect("parses");
        assert!(config.check().expect_err("not own").to_string().contains("own-"));
    }
}

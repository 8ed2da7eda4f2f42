//! Configuration of an own edge, and what follows from it.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use spillway_model::{GroupId, PathwayId, RegionId};
use spillway_service::config::ConfigError;
use spillway_service::posting::{check_collectors, check_share};
use spillway_service::tls::TlsConfig;
use url::Url;

use crate::cache::disk::DiskPlan;
use crate::operate::terms::{Rate, Sites, Terms};
use crate::origin::{ClusterConfig, EdgeToken, OriginConfig, ServerPlan, servers};
use crate::rules::paths::{PathConfig, PathRules};
use crate::rules::policy::Choices;
use crate::serve::methods::methods;
use crate::serve::signing::SigningConfig;
use crate::video::prefetch::Prefetch;

/// `[edge]` of an edge's configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeConfig {
    /// Address for viewers, plain HTTP/1.1 and HTTP/2 with prior knowledge. Default 127.0.0.1:4310.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Port for viewers over TLS, HTTP/1.1 and HTTP/2. Default none.
    pub tls: Option<TlsConfig>,
    /// Address for `/healthz`, `/readyz`, `/metrics` and, for callers that bear the service token, `POST /v1/purge`.
    /// Without it `/.spillway/healthz` and `/.spillway/readyz` stand on `listen`, and for who bears the token
    /// `/.spillway/metrics` and `/.spillway/purge`.
    pub admin_listen: Option<SocketAddr>,
    /// Path of a socket through which a successor takes over the ports of this process, so that a restart loses no
    /// connection: start the new process with the same path, and this one ends when that one serves. Default none.
    pub handover: Option<PathBuf>,
    /// Id of the pathway that this node is; begins with `own-`.
    pub pathway: String,
    /// Cluster that it belongs to. Default none.
    pub group: Option<String>,
    /// Region that it stands in.
    pub region: String,
    /// Absolute URL that viewers reach it by.
    pub base_url: String,
    /// Absolute URL of the origin, `http://` or `https://` (HTTP/2 where it speaks it); request paths are appended. This,
    /// or `origins`.
    pub origin: Option<String>,
    /// Several origins, and shields before them.
    #[serde(default)]
    pub origins: Vec<OriginConfig>,
    /// The edges that keep each object near each other once. Default none.
    pub cluster: Option<ClusterConfig>,
    /// PEM file of the authorities that an `https://` origin is believed by. Default: the system's.
    pub origin_ca: Option<PathBuf>,
    /// Bits out that it may carry, Mbit/s. At or above it (10 s mean) no new session is admitted.
    pub ceiling_mbps: f64,
    /// Memory for cached objects, MiB. Default 256.
    #[serde(default = "default_memory_mb")]
    pub memory_mb: u64,
    /// Largest object that is cached, MiB; at most half of `memory_mb`. Default 64.
    #[serde(default = "default_max_object_mb")]
    pub max_object_mb: u64,
    /// Memory for objects that are being fetched, MiB; at least `max_object_mb`. Default 128.
    #[serde(default = "default_fill_mb")]
    pub fill_mb: u64,
    /// Base URLs of orchestrators that load reports go to (`POST {url}/v1/loads`). Default none.
    #[serde(default)]
    pub orchestrators: Vec<String>,
    /// Base URLs of collectors that the access log goes to (`POST {url}/v1/deliveries`); a batch that one does not take
    /// goes to the next. Default none: no access log.
    #[serde(default)]
    pub collectors: Vec<String>,
    /// File for a line of JSON for each request: the rows that collectors get. Default none.
    pub access_log: Option<PathBuf>,
    /// Share of sessions whose requests are logged, 0 to 1. Default 1: deliveries are what bills are checked by, and a
    /// line is some 300 bytes beside a segment's megabyte. Below 1 each row says so, and sums divide by it.
    #[serde(default = "default_deliveries_share")]
    pub deliveries_share: f64,
    /// Query parameters that neither tell objects apart nor reach the origin (CMCD, session tokens). Default `["CMCD"]`.
    #[serde(default = "default_ignore_query")]
    pub ignore_query: Vec<String>,
    /// What holds for some paths only. Default nothing.
    #[serde(default)]
    pub paths: Vec<PathConfig>,
    /// Methods that are answered; `["*"]` is every one but CONNECT and TRACE. GET and HEAD come out of the cache, OPTIONS
    /// is answered here, all others go to the origin, and a success of one makes the edge forget its URL. Default
    /// `["GET", "HEAD", "OPTIONS"]`.
    #[serde(default = "default_methods")]
    pub methods: Vec<String>,
    /// Sites whose pages may read what is answered, and may ask at all: `https://tv.example`, `https://*.tv.example`. A
    /// request that comes from no page is not asked for one. Default `["*"]`: all.
    #[serde(default = "default_allowed_origins")]
    pub allowed_origins: Vec<String>,
    /// Requests that a client (an address; for IPv6 its /64) may make in a second; twice as many at once. More are
    /// answered with 429. Default none: no limit.
    pub requests_per_s_per_client: Option<NonZeroU32>,
    /// What is fetched before it is asked for: "off", "announced" (what players say that they will ask for, CMCD `nor`), or
    /// "next" (that, or else the next segment of the playlist; and what is new at a live edge that somebody watches).
    /// Default "next".
    #[serde(default)]
    pub prefetch: Prefetch,
    /// Keep answers with `Set-Cookie`, where the origin says how long; everybody gets the same cookie then. Default false.
    #[serde(default)]
    pub keep_set_cookie: bool,
    /// Keep bodies that end with the origin's connection; a cut by its death can't be told from an end. Default false.
    #[serde(default)]
    pub keep_until_close: bool,
    /// Guess how long an answer is good from the time of its last change, where the origin doesn't say; never for
    /// playlists. Default true.
    #[serde(default = "default_guess_freshness")]
    pub guess_freshness: bool,
    /// A folder for what is asked for more than once: it outlives the process, and is sent from there without being
    /// copied. Default none: memory only.
    pub disk: Option<DiskConfig>,
    /// Tokens that URLs need. Default none: everything is open.
    pub signed_urls: Option<SigningConfig>,
    /// Header with the client's address, set by a trusted proxy in front. Default none: the peer is the client.
    pub trusted_ip_header: Option<String>,
    /// The origin must take a connection within, ms. Default 2000.
    #[serde(default = "default_origin_connect_ms")]
    pub origin_connect_ms: u64,
    /// The origin must begin its answer within, ms; where there are several, all those that are asked together. What
    /// waits on purpose (a blocking playlist, an announced part) has three target durations at least. Default 15000.
    #[serde(default = "default_origin_first_byte_ms")]
    pub origin_first_byte_ms: u64,
    /// An origin that has not begun its answer within is left for the next one, where there is one, ms. Default 3000.
    #[serde(default = "default_origin_try_ms")]
    pub origin_try_ms: u64,
    /// The origin must send something within, ms, while it answers. Default 10000.
    #[serde(default = "default_origin_read_ms")]
    pub origin_read_ms: u64,
    /// Requests to each origin, shield and peer at once; those that wait on purpose are counted apart. Default 256.
    #[serde(default = "default_origin_requests")]
    pub origin_requests: usize,
    /// How long past its freshness an object may serve when the origin can't be reached, s, unless the origin forbids
    /// it (`must-revalidate`) or gives another span (`stale-if-error`). Default 30.
    #[serde(default = "default_stale_on_error_s")]
    pub stale_on_error_s: u64,
    /// A client must send its request head within, ms; also how long an idle connection stays. Default 15000.
    #[serde(default = "default_header_timeout_ms")]
    pub header_timeout_ms: u64,
    /// A client must take something within, ms, while it is answered. Default 30000.
    #[serde(default = "default_write_stall_ms")]
    pub write_stall_ms: u64,
    /// Connections at once; more are closed at once. Default 20000.
    #[serde(default = "default_max_connections")]
    pub max_connections: usize,
    /// Connections of one client (an address; for IPv6 its /64) at once; more are closed at once. With
    /// `trusted_ip_header` nobody's are counted, since all are the proxy's. Default 0: no limit.
    #[serde(default)]
    pub max_connections_per_client: usize,
}

/// `[edge.disk]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// Folder that is this edge's own.
    pub path: PathBuf,
    /// Bytes that it may take, MiB.
    pub size_mb: u64,
    /// Files that may be open at once, each for an object that is served from its file; others are served from memory.
    /// Beside `max_connections`, descriptors are needed for these. Default 1024.
    #[serde(default = "default_open_files")]
    pub open_files: usize,
}

const fn default_open_files() -> usize {
    1_024
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4310))
}

const fn default_memory_mb() -> u64 {
    256
}

const fn default_max_object_mb() -> u64 {
    64
}

const fn default_fill_mb() -> u64 {
    128
}

const fn default_deliveries_share() -> f64 {
    1.0
}

fn default_ignore_query() -> Vec<String> {
    vec!["CMCD".into()]
}

fn default_methods() -> Vec<String> {
    ["GET", "HEAD", "OPTIONS"].map(Into::into).into()
}

fn default_allowed_origins() -> Vec<String> {
    vec!["*".into()]
}

const fn default_guess_freshness() -> bool {
    true
}

const fn default_origin_connect_ms() -> u64 {
    2_000
}

const fn default_origin_first_byte_ms() -> u64 {
    15_000
}

const fn default_origin_try_ms() -> u64 {
    3_000
}

const fn default_origin_read_ms() -> u64 {
    10_000
}

const fn default_origin_requests() -> usize {
    256
}

const fn default_stale_on_error_s() -> u64 {
    30
}

const fn default_header_timeout_ms() -> u64 {
    15_000
}

const fn default_write_stall_ms() -> u64 {
    30_000
}

const fn default_max_connections() -> usize {
    20_000
}

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
        let differs = |a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| format!("{a:?}") != format!("{b:?}");
        macro_rules! differing {
            ($($key:ident),*) => {
                [$((stringify!($key), differs(&self.$key, &running.$key))),*]
            };
        }
        let keys = differing!(
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
        );
        keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
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

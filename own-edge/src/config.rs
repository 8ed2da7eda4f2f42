//! Configuration of an own edge.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::Deserialize;
use spillway_service::tls::TlsConfig;

use crate::origin::{ClusterConfig, OriginConfig};
use crate::rules::paths::PathConfig;
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

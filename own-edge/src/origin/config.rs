//! Which servers an edge fetches from: origins, shields before them, and the edges of its cluster.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use spillway_service::config::ConfigError;
use spillway_service::tls::{authorities, client_config};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::choice::{Place, Role};
use crate::config::EdgeConfig;
use crate::plan::{Target, target};
use crate::serve::receive::path_is_plain;

/// Characters of a server's name, which is a label of metrics.
const NAME_MAX_CHARS: usize = 128;
const ORIGINS_MAX: usize = 64;
const PEERS_MAX: usize = 256;
/// A probe of a server must be answered within this, or within its interval where that is shorter.
const PROBE_MAX: Duration = Duration::from_secs(2);
/// Peers are probed so often, at a path that every edge has.
const PEER_PROBE: Duration = Duration::from_secs(1);
const PEER_PROBE_PATH: &str = "/.spillway/readyz";
/// A server that is out is tried again at least so often. Peers come and go with every deployment, and are probed.
const HOLD_MAX_MS: u64 = 60_000;
const PEER_HOLD_MAX_MS: u64 = 10_000;

/// `[[edge.origins]]`: a server that the edge fetches from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginConfig {
    /// Absolute URL, `http://` or `https://` (HTTP/2 where it speaks it); request paths are appended.
    url: String,
    /// Name in logs and metrics. Default its host and port.
    name: Option<String>,
    /// `origin`; or `shield`: an edge nearer to the origins, which is asked before them. Default `origin`.
    #[serde(default)]
    role: Role,
    /// Smaller numbers are asked first. Those of one number share the paths among them: each path has one that is asked
    /// for it first, and the others stand in. Default its place in the list, from 0.
    priority: Option<u32>,
    /// PEM file of the authorities that it is believed by. Default `origin_ca`.
    ca: Option<PathBuf>,
    /// Beginnings of the paths that it serves; where several match, those with the longest one are asked, so that one
    /// edge can stand before several properties. Default all paths.
    #[serde(default)]
    prefixes: Vec<String>,
    /// Path that is asked again and again, beside the clients' requests, whether the server works: an answer below 400
    /// says so. Default none: only fetches tell.
    health_path: Option<String>,
    /// How often, ms. Default 5000.
    #[serde(default = "default_health_interval_ms")]
    health_interval_ms: u64,
}

/// `[edge.cluster]`: edges that keep each object near each other once. What one of them lacks it fetches from the one
/// that the path's hash names, and only that one asks the origin.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// The edges, this one among them; the same list on each.
    peers: Vec<PeerConfig>,
    /// A peer must take a connection within, ms; after that it counts as dead. Default 300.
    #[serde(default = "default_connect_ms")]
    connect_ms: u64,
    /// PEM file of the authorities that `https://` peers are believed by. Default `origin_ca`.
    ca: Option<PathBuf>,
}

/// `[[edge.cluster.peers]]`: an edge of the cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// Id of its pathway.
    name: String,
    /// Absolute URL that the other edges reach it by.
    url: String,
}

const fn default_health_interval_ms() -> u64 {
    5_000
}

const fn default_connect_ms() -> u64 {
    300
}

/// A server that the edge fetches from, checked.
#[derive(Clone, Debug)]
pub(crate) struct ServerPlan {
    pub place: Place,
    pub target: Target,
    pub tls: ClientConfig,
    pub connect: Duration,
    pub hold_max_ms: u64,
    pub probe: Option<ProbePlan>,
}

/// How a server is asked whether it works.
#[derive(Clone, Debug)]
pub(crate) struct ProbePlan {
    pub path: String,
    pub every: Duration,
    pub timeout: Duration,
    /// Statuses from here on say that it doesn't.
    pub bad_from: u16,
}

/// All of them, in no order.
pub(crate) fn servers(config: &EdgeConfig) -> Result<Vec<ServerPlan>, ConfigError> {
    let mut out = match (&config.origin, &config.origins[..]) {
        (Some(_), [_, ..]) => {
            return Err(ConfigError::invalid("edge.origin", "given beside [[edge.origins]]", "one of the two"));
        }
        (None, []) => return Err(ConfigError::invalid("edge.origin", "neither", "origin, or [[edge.origins]]")),
        (Some(url), []) => vec![single(config, url)?],
        (None, list) if list.len() > ORIGINS_MAX => {
            return Err(ConfigError::invalid("edge.origins", list.len(), format!("at most {ORIGINS_MAX}")));
        }
        (None, list) => (0..).zip(list).map(|(at, origin)| listed(config, at, origin)).collect::<Result<_, _>>()?,
    };
    if let Some(cluster) = &config.cluster {
        out.extend(peers(config, cluster, &out)?);
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = out.iter().find(|server| !names.insert(&server.place.name)) {
        return Err(ConfigError::invalid(
            "edge.origins.name",
            &twice.place.name,
            "names that no other origin or peer has",
        ));
    }
    Ok(out)
}

fn single(config: &EdgeConfig, url: &str) -> Result<ServerPlan, ConfigError> {
    let target = target("edge.origin", url, true)?;
    Ok(ServerPlan {
        place: Place { name: target.authority.clone(), role: Role::Origin, priority: 0, prefixes: Vec::new() },
        tls: tls("edge.origin_ca", &target, config.origin_ca.as_deref())?,
        target,
        connect: Duration::from_millis(config.origin_connect_ms),
        hold_max_ms: HOLD_MAX_MS,
        probe: None,
    })
}

fn listed(config: &EdgeConfig, at: u32, origin: &OriginConfig) -> Result<ServerPlan, ConfigError> {
    let target = target("edge.origins.url", &origin.url, true)?;
    let plain = |path: &str| path_is_plain(path) && path.bytes().all(|byte| byte.is_ascii_graphic());
    if let Some(bad) = origin.prefixes.iter().find(|prefix| !plain(prefix) || prefix.contains('?')) {
        let valid = "beginnings of paths like /vod/, without query";
        return Err(ConfigError::invalid("edge.origins.prefixes", bad, valid));
    }
    let probe = origin.health_path.as_ref().map(|path| {
        let key = |name: &str| format!("edge.origins.{name}");
        if !plain(path.split('?').next().unwrap_or_default()) || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::invalid(key("health_path"), path, "a path like /healthz"));
        }
        if !(100..=600_000).contains(&origin.health_interval_ms) {
            return Err(ConfigError::invalid(key("health_interval_ms"), origin.health_interval_ms, "100 to 600000"));
        }
        let every = Duration::from_millis(origin.health_interval_ms);
        Ok(ProbePlan { path: path.clone(), every, timeout: every.min(PROBE_MAX), bad_from: 400 })
    });
    let (ca, key) = match &origin.ca {
        Some(ca) => (Some(ca), "edge.origins.ca"),
        None => (config.origin_ca.as_ref(), "edge.origin_ca"),
    };
    let place = Place {
        name: name("edge.origins.name", origin.name.as_ref().unwrap_or(&target.authority))?,
        role: origin.role,
        priority: origin.priority.unwrap_or(at),
        prefixes: origin.prefixes.clone(),
    };
    Ok(ServerPlan {
        place,
        tls: tls(key, &target, ca.map(PathBuf::as_path))?,
        target,
        connect: Duration::from_millis(config.origin_connect_ms),
        hold_max_ms: HOLD_MAX_MS,
        probe: probe.transpose()?,
    })
}

/// The other edges of the cluster; `servers` are the shields and origins.
fn peers(config: &EdgeConfig, cluster: &ClusterConfig, servers: &[ServerPlan]) -> Result<Vec<ServerPlan>, ConfigError> {
    const PEERS: &str = "edge.cluster.peers";
    if cluster.peers.len() > PEERS_MAX {
        return Err(ConfigError::invalid(PEERS, cluster.peers.len(), format!("at most {PEERS_MAX}")));
    }
    if !(1..=600_000).contains(&cluster.connect_ms) {
        return Err(ConfigError::invalid("edge.cluster.connect_ms", cluster.connect_ms, "1 to 600000"));
    }
    if !cluster.peers.iter().any(|peer| peer.name == config.pathway) {
        let valid = format!("a list with this edge's pathway {:?} among its names", config.pathway);
        return Err(ConfigError::invalid(PEERS, "without this edge", valid));
    }
    let ca = cluster.ca.as_ref().or(config.origin_ca.as_ref());
    let one = |peer: &PeerConfig| {
        let target = target("edge.cluster.peers.url", &peer.url, true)?;
        // It would wait for us while we wait for it: only what comes through a peer goes straight on.
        if servers.iter().any(|server| server.target.authority == target.authority) {
            let valid = "edges that are neither origin nor shield of this one";
            return Err(ConfigError::invalid("edge.cluster.peers.url", &peer.url, valid));
        }
        let name = name("edge.cluster.peers.name", &peer.name)?;
        Ok(ServerPlan {
            place: Place { name, role: Role::Peer, priority: 0, prefixes: Vec::new() },
            tls: tls("edge.cluster.ca", &target, ca.map(PathBuf::as_path))?,
            target,
            connect: Duration::from_millis(cluster.connect_ms),
            hold_max_ms: PEER_HOLD_MAX_MS,
            probe: Some(ProbePlan {
                path: PEER_PROBE_PATH.to_owned(),
                every: PEER_PROBE,
                timeout: PEER_PROBE,
                // One whose own paths stand on another port knows none here, and lives.
                bad_from: 500,
            }),
        })
    };
    let all = cluster.peers.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    let mut names = BTreeSet::new();
    if let Some(twice) = all.iter().find(|peer| !names.insert(&peer.place.name)) {
        return Err(ConfigError::invalid("edge.cluster.peers.name", &twice.place.name, "each name once"));
    }
    Ok(all.into_iter().filter(|peer| peer.place.name != config.pathway).collect())
}

fn name(key: &str, name: &str) -> Result<String, ConfigError> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
    if name.is_empty() || name.len() > NAME_MAX_CHARS || !plain {
        return Err(ConfigError::invalid(key, name, format!("1 to {NAME_MAX_CHARS} letters, digits, - . _ :")));
    }
    Ok(name.to_owned())
}

fn tls(key: &str, target: &Target, ca: Option<&Path>) -> Result<ClientConfig, ConfigError> {
    let bad = |error: &dyn std::fmt::Display| {
        let shown = ca.map_or_else(|| "the system's".to_owned(), |path| path.display().to_string());
        ConfigError::invalid(key, shown, format!("a readable PEM file of certificates; {error}"))
    };
    let pem = ca.map(std::fs::read).transpose().map_err(|error| bad(&error))?;
    let roots = match pem.is_some() || target.scheme == "https" {
        true => authorities(pem.as_deref()).map_err(|error| bad(&error))?,
        false => RootCertStore::empty(),
    };
    if pem.is_some() && roots.is_empty() {
        return Err(bad(&"there is none in it"));
    }
    client_config(roots).map_err(|error| bad(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(lines: &str) -> Result<Vec<ServerPlan>, String> {
        let least = "pathway = \"own-a\"\nregion = \"eu\"\nbase_url = \"http://edge.example\"\nceiling_mbps = 1\n";
        let config: EdgeConfig = toml::from_str(&format!("{least}{lines}")).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())?;
        servers(&config).map_err(|error| error.to_string())
    }

    const LIST: &str = r#"
        origin_connect_ms = 700
        [[origins]]
        url = "https://a.example/media/"
        health_path = "/healthz"
        [[origins]]
        url = "http://[::1]:81"
        name = "b"
        priority = 0
        prefixes = ["/live/", "/vod/"]
        [[origins]]
        url = "http://s.example"
        role = "shield"
    "#;

    #[test]
    fn one_line_is_a_list_of_one() {
        let servers = with("origin = \"http://o.example:8080/media/\"").expect("valid");
        let [one] = &servers[..] else { panic!("{} servers", servers.len()) };
        assert_eq!((&*one.place.name, one.place.role, &*one.target.prefix), ("o.example:8080", Role::Origin, "/media"));
    }

    #[test]
    fn a_list_names_its_servers_and_their_order() {
        let servers = with(LIST).expect("valid");
        let places = servers.iter().map(|server| &server.place);
        let told: Vec<_> = places.map(|it| (&*it.name, it.role, it.priority, it.prefixes.len())).collect();
        let expected =
            [("a.example", Role::Origin, 0, 0), ("b", Role::Origin, 0, 2), ("s.example", Role::Shield, 2, 0)];
        assert_eq!(told, expected);
        assert!(servers.iter().all(|server| server.connect == Duration::from_millis(700)));
        let probe = servers[0].probe.as_ref().expect("probed");
        assert_eq!((probe.every, probe.timeout), (Duration::from_secs(5), PROBE_MAX));
    }

    #[test]
    fn a_cluster_is_the_other_edges_of_its_list() {
        let cluster = "origin = \"http://o.example\"\n[cluster]\n\
            peers = [{ name = \"own-a\", url = \"http://a\" }, { name = \"own-b\", url = \"http://b:81\" }]";
        let servers = with(cluster).expect("valid");
        let told: Vec<_> = servers.iter().map(|server| (&*server.place.name, server.place.role)).collect();
        assert_eq!(told, [("o.example", Role::Origin), ("own-b", Role::Peer)]);
        assert_eq!(servers[1].connect, Duration::from_millis(300));
        for (from, to, word) in [
            ("own-a", "own-c", "own-a"),
            ("own-b", "own-a", "each name once"),
            ("own-b", "b b", "b b"),
            ("http://b:81", "http://o.example", "neither origin nor shield"),
            ("http://b:81", "b:81", "b:81"),
            ("[cluster]", "[cluster]\nconnect_ms = 0", "connect_ms"),
            ("[cluster]", "[cluster]\nself = \"own-a\"", "self"),
            ("[cluster]", "[cluster]\nca = \"/nowhere\"", "/nowhere"),
        ] {
            let error = with(&cluster.replace(from, to)).map(|_| ()).expect_err(to);
            assert!(error.contains(word), "{to}: {error}");
        }
    }

    #[test]
    fn the_manuals_examples_are_valid() {
        #[derive(Deserialize)]
        struct File {
            edge: EdgeConfig,
        }
        let manual = include_str!("../../README.md");
        let blocks = manual.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let blocks: String =
            blocks.filter(|block| block.contains("edge.origins") || block.contains("cluster")).collect();
        let least = "pathway = \"own-eu-1\"\nregion = \"eu\"\nbase_url = \"http://edge.example\"\nceiling_mbps = 1\n";
        for text in [format!("[edge]\n{least}{blocks}"), format!("[edge]\n{least}{}", blocks.replace("\n# ", "\n"))] {
            let text = text.replace("/etc/spillway/origin-2.pem", "/nowhere");
            let file: File = toml::from_str(&text).expect("parses");
            match servers(&file.edge) {
                Ok(servers) => assert_eq!(servers.len(), 4, "{text}"),
                Err(error) => assert!(error.to_string().contains("/nowhere"), "{error}: {text}"),
            }
        }
    }

    #[test]
    fn a_wrong_server_is_refused_by_name() {
        let one = |line: &str| format!("[[origins]]\nurl = \"http://a.example\"\n{line}");
        for (lines, word) in [
            (String::new(), "neither"),
            (format!("origin = \"http://o.example\"\n{LIST}"), "one of the two"),
            ("origins = []".to_owned(), "neither"),
            ("origin = \"ftp://o.example\"".to_owned(), "ftp://o.example"),
            (one("name = \"a b\""), "a b"),
            (one("name = \"\""), "edge.origins.name"),
            (one("role = \"peer\""), "peer"),
            (one("prefixes = [\"live/\"]"), "live/"),
            (one("prefixes = [\"/a?b\"]"), "/a?b"),
            (one("health_path = \"healthz\""), "healthz"),
            (one("health_path = \"/h\"\nhealth_interval_ms = 10"), "health_interval_ms"),
            (one("ca = \"/nowhere/ca.pem\""), "/nowhere/ca.pem"),
            (one("weight = 2"), "weight"),
            (one("[[origins]]\nurl = \"http://a.example/2\""), "a.example"),
        ] {
            let error = with(&lines).map(|_| ()).expect_err(&lines);
            assert!(error.contains(word), "{lines}: {error}");
        }
    }
}

//! Configuration of an edge agent.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use spillway_service::config::ConfigError;

use crate::plan::{Identity, Target, ceiling_bps, orchestrators, target};

/// Which server an agent stands beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerKind {
    /// nginx (and what is made of it).
    Nginx,
    /// Varnish Cache.
    Varnish,
    /// Apache Traffic Server.
    Ats,
}

impl ServerKind {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Varnish => "varnish",
            Self::Ats => "ats",
        }
    }

    /// Its master process's name.
    const fn process(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Varnish => "varnishd",
            Self::Ats => "traffic_server",
        }
    }
}

impl FromStr for ServerKind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        [Self::Nginx, Self::Varnish, Self::Ats]
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| format!("{word:?} is not a server that is known (valid: nginx, varnish, ats)"))
    }
}

/// `[edge_agent]` of an agent's configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The server: `nginx`, `varnish` or `ats`. Default: what `--for` says.
    pub server: Option<ServerKind>,
    /// Id of the pathway that the node is; begins with `own-`.
    pub pathway: String,
    /// Cluster that it belongs to. Default none.
    pub group: Option<String>,
    /// Region that it stands in.
    pub region: String,
    /// Absolute URL that viewers reach the server by.
    pub base_url: String,
    /// Bits out that the node may carry, Mbit/s.
    pub ceiling_mbps: f64,
    /// Base URLs of orchestrators; each gets every report.
    pub orchestrators: Vec<String>,
    /// Address for `/healthz`, `/readyz`, `/metrics`, `POST /v1/drain` and `GET /v1/admission`. Not for the public.
    /// Default none.
    pub admin_listen: Option<SocketAddr>,
    /// nginx: URL of its `stub_status`; ATS: URL of its `stats_over_http`. `http://` only.
    pub statistics_url: Option<String>,
    /// Varnish: name of the instance (`varnishd -n`). Default: the default one.
    pub instance: Option<String>,
    /// Access log in the format of `docs/edge-agent.md`. Varnish: default none, and varnishncsa is started.
    pub log: Option<PathBuf>,
    /// Network interface whose bytes out count as the node's. Default none: ATS's own counter, else the log.
    pub interface: Option<String>,
    /// File with the process id of the server's master. Default: found by `process`.
    pub pid_file: Option<PathBuf>,
    /// Name of the server's master process. Default: the server's usual one.
    pub process: Option<String>,
    /// A folder of the cache, whose file system's use is reported. Default none: Varnish's and ATS's own word.
    pub cache_dir: Option<PathBuf>,
    /// Folder for `orders.json` and `refuse-new`, which the server may look at. Default none.
    pub orders_dir: Option<PathBuf>,
}

/// A checked configuration.
#[derive(Clone)]
pub(super) struct AgentPlan {
    pub server: ServerKind,
    pub identity: Identity,
    pub ceiling_bps: u64,
    pub orchestrators: Vec<Target>,
    pub statistics: Option<Target>,
    pub instance: Option<String>,
    pub log: Option<PathBuf>,
    pub interface: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub process: String,
    pub cache_dir: Option<PathBuf>,
    pub orders_dir: Option<PathBuf>,
}

fn invalid(key: &str, value: impl ToString, valid: &str) -> ConfigError {
    ConfigError::invalid(format!("edge_agent.{key}"), value, valid)
}

impl AgentConfig {
    /// The configuration with what `--for` says; where both say something they must agree.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] where they don't, or neither says which server it is.
    pub fn beside(mut self, given: Option<ServerKind>) -> Result<Self, ConfigError> {
        match (self.server, given) {
            (None, None) => return Err(invalid("server", "missing", "nginx, varnish or ats, here or by --for")),
            (Some(here), Some(given)) if here != given => {
                let valid = format!("the same as --for {}, or nothing", given.as_str());
                return Err(invalid("server", here.as_str(), &valid));
            }
            _ => self.server = self.server.or(given),
        }
        Ok(self)
    }

    /// Who is watched, and by what; a line for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let server = self.server.map_or("the server that --for says", ServerKind::as_str);
        let statistics = self.statistics_url.as_deref().unwrap_or("varnishstat");
        let log = self.log.as_ref().map_or_else(|| "varnishncsa".to_owned(), |path| path.display().to_string());
        let bits = self.interface.as_deref().unwrap_or("the server");
        format!("{} beside {server}: statistics of {statistics}, log of {log}, bits out of {bits}", self.pathway)
    }

    /// Checks every value, without opening anything.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names key, value and what would be valid.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.server.is_some() {
            return self.plan().map(drop);
        }
        // The command line will say; it must fit one of them.
        let fits = |kind| Self { server: Some(kind), ..self.clone() }.plan().map(drop);
        fits(ServerKind::Nginx).or_else(|error| fits(ServerKind::Varnish).map_err(|_| error))
    }

    /// Keys whose values differ from those that `running` started with, and which a reload does not change.
    pub(super) fn fixed_keys_that_differ(&self, running: &Self) -> Vec<&'static str> {
        differing!(
            self,
            running,
            server,
            pathway,
            group,
            region,
            base_url,
            orchestrators,
            admin_listen,
            statistics_url,
            instance,
            log,
            interface,
            pid_file,
            process,
            cache_dir,
            orders_dir
        )
    }

    pub(super) fn plan(&self) -> Result<AgentPlan, ConfigError> {
        let server = self.server.ok_or_else(|| invalid("server", "missing", "nginx, varnish or ats"))?;
        let section = "edge_agent";
        let identity = Identity::checked(section, &self.pathway, self.group.as_deref(), &self.region, &self.base_url)?;
        self.check_sources(server)?;
        if self.orchestrators.is_empty() {
            return Err(invalid("orchestrators", "[]", "one URL or more"));
        }
        let statistics = self.statistics_url.as_deref();
        Ok(AgentPlan {
            server,
            identity,
            ceiling_bps: ceiling_bps(section, self.ceiling_mbps)?,
            orchestrators: orchestrators(section, &self.orchestrators)?,
            statistics: statistics.map(page).transpose()?,
            instance: self.instance.clone(),
            log: absolute("log", "file", self.log.as_deref())?,
            interface: self.interface.as_deref().map(interface).transpose()?,
            pid_file: absolute("pid_file", "file", self.pid_file.as_deref())?,
            process: self.process(server)?,
            cache_dir: absolute("cache_dir", "folder", self.cache_dir.as_deref())?,
            orders_dir: absolute("orders_dir", "folder", self.orders_dir.as_deref())?,
        })
    }

    fn process(&self, server: ServerKind) -> Result<String, ConfigError> {
        match self.process.as_deref() {
            // Who has no command line, as the system's own threads, would be it.
            Some(name) if name.is_empty() || name.contains('/') => {
                Err(invalid("process", name, "a program's name, without its folder"))
            }
            Some(name) => Ok(name.to_owned()),
            None => Ok(server.process().to_owned()),
        }
    }

    fn check_sources(&self, server: ServerKind) -> Result<(), ConfigError> {
        let varnish = server == ServerKind::Varnish;
        match (varnish, &self.statistics_url, &self.log) {
            (true, Some(url), _) => {
                return Err(invalid("statistics_url", url, "nothing for varnish (varnishstat is asked)"));
            }
            (false, None, _) => {
                let page = if server == ServerKind::Nginx { "stub_status" } else { "stats_over_http" };
                return Err(invalid("statistics_url", "missing", &format!("the http:// URL of its {page}")));
            }
            (false, _, None) => return Err(invalid("log", "missing", "the path of its access log")),
            _ => {}
        }
        // A name that begins with a dash would be an option of varnishstat.
        match self.instance.as_deref() {
            Some(name) if !varnish => Err(invalid("instance", name, "nothing (it is Varnish's)")),
            Some(name) if name.is_empty() || name.starts_with('-') => {
                Err(invalid("instance", name, "a name or path as for varnishd -n"))
            }
            _ => Ok(()),
        }
    }
}

/// Where the system counts the bytes of an interface.
fn interface(name: &str) -> Result<PathBuf, ConfigError> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(invalid("interface", name, "a name as in /sys/class/net"));
    }
    Ok(Path::new("/sys/class/net").join(name).join("statistics/tx_bytes"))
}

/// An agent is started anywhere.
fn absolute(key: &str, kind: &str, path: Option<&Path>) -> Result<Option<PathBuf>, ConfigError> {
    match path {
        Some(path) if !path.is_absolute() => {
            Err(invalid(key, path.display(), &format!("the absolute path of a {kind}")))
        }
        path => Ok(path.map(Path::to_owned)),
    }
}

/// A page is asked for by its very path.
fn page(url: &str) -> Result<Target, ConfigError> {
    let page = target("edge_agent.statistics_url", url, false)?;
    let slash = if url.ends_with('/') || page.prefix.is_empty() { "/" } else { "" };
    Ok(Target { prefix: page.prefix + slash, ..page })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"
        pathway = "own-fra-1"
        region = "eu-central"
        base_url = "http://edge.example"
        ceiling_mbps = 500
        orchestrators = ["http://o.example:4320"]
    "#;
    const NGINX: &str = "server = 'nginx'\nstatistics_url = 'http://127.0.0.1/status'\nlog = '/var/log/a'";

    fn with(lines: &str) -> Result<AgentConfig, toml::de::Error> {
        toml::from_str(&format!("{LEAST}\n{lines}"))
    }

    #[test]
    fn each_server_needs_what_it_can_be_asked_by() {
        for lines in [NGINX, &NGINX.replace("nginx", "ats"), "server = 'varnish'", "server = 'varnish'\nlog = '/a'"] {
            with(lines).expect("parses").check().expect(lines);
        }
        let plan = with(NGINX).expect("parses").plan().expect("valid");
        let said = with(NGINX).expect("parses").describe();
        let expected =
            "own-fra-1 beside nginx: statistics of http://127.0.0.1/status, log of /var/log/a, bits out of the server";
        assert_eq!(said, expected);
        assert_eq!((plan.ceiling_bps, plan.process.as_str()), (500_000_000, "nginx"));
        for (url, path) in [("/status", "/status"), ("/status/", "/status/"), ("/", "/"), ("", "/")] {
            let lines = NGINX.replace("/status", url);
            let plan = with(&lines).expect("parses").plan().expect("valid");
            assert_eq!(plan.statistics.expect("a page").prefix, path, "{lines}");
        }
    }

    #[test]
    fn a_wrong_value_is_refused_by_name() {
        for (lines, word) in [
            ("server = 'nginx'", "edge_agent.statistics_url"),
            ("server = 'nginx'\nstatistics_url = 'http://a/b'", "edge_agent.log"),
            ("server = 'ats'\nlog = '/a'", "stats_over_http"),
            ("server = 'varnish'\nstatistics_url = 'http://a/b'", "varnishstat"),
            ("server = 'varnish'\ninstance = '-x'", "edge_agent.instance"),
            (&format!("{NGINX}\ninstance = 'a'"), "Varnish's"),
            (&format!("{NGINX}\ninterface = '../x'"), "edge_agent.interface"),
            (&format!("{NGINX}\norders_dir = 'run'"), "edge_agent.orders_dir"),
            (&format!("{NGINX}\npid_file = ''"), "edge_agent.pid_file"),
            (&format!("{NGINX}\nprocess = ''"), "edge_agent.process"),
            (&format!("{NGINX}\nprocess = '/usr/sbin/nginx'"), "/usr/sbin/nginx"),
            (&NGINX.replace("/var/log/a", "access.log"), "access.log"),
            (&NGINX.replace("http://127", "https://127"), "edge_agent.statistics_url"),
        ] {
            let error = with(lines).expect("parses").check().expect_err(lines).to_string();
            assert!(error.contains(word), "{lines}: {error}");
        }
        let nobody = LEAST.replace("http://o.example:4320", "o.example");
        let error = toml::from_str::<AgentConfig>(&format!("{nobody}\n{NGINX}")).expect("parses").check();
        assert!(error.expect_err("no URL").to_string().contains("edge_agent.orchestrators"));
        assert!(with("server = 'squid'").expect_err("unknown").to_string().contains("squid"));
    }

    #[test]
    fn the_option_and_the_file_agree_or_one_is_silent() {
        let silent = with("log = '/a'\nstatistics_url = 'http://a/b'").expect("parses");
        assert!(silent.check().is_ok() && with("").expect("parses").check().is_ok(), "--for will say");
        assert!(with("log = '/a'\ninterface = '..'").expect("parses").check().is_err());
        assert!(silent.clone().beside(None).expect_err("nobody says").to_string().contains("--for"));
        assert_eq!(silent.beside(Some(ServerKind::Ats)).expect("said").server, Some(ServerKind::Ats));
        let nginx = with(NGINX).expect("parses");
        assert!(nginx.clone().beside(None).is_ok() && nginx.clone().beside(Some(ServerKind::Nginx)).is_ok());
        assert!(nginx.beside(Some(ServerKind::Varnish)).expect_err("two").to_string().contains("--for varnish"));
        assert!("squid".parse::<ServerKind>().expect_err("unknown").contains("nginx, varnish, ats"));
    }
}

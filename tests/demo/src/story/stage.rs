//! The stage of one run: origin and CDNs in this process, the roles of Spillway as its children.

use std::collections::BTreeMap;
use std::net::TcpListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::Router;
use spillway_model::Clock as _;
use spillway_service::{SystemClock, auth, random};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use url::Url;

use super::api::Api;
use super::children::Children;
use super::config::Parts;
use super::template;
use crate::cdn::{self, Cdn};
use crate::media::Clip;
use crate::origin::{self, OriginState};
use crate::viewer::population::{Surroundings, Totals};

/// From the start of the processes to the first manifest of every region.
const READY: Duration = Duration::from_secs(60);

/// One run's surroundings.
pub struct Stage {
    /// The configuration, taken apart.
    pub parts: Parts,
    /// The system under test.
    pub api: Api,
    /// Emulated CDNs by pathway.
    pub cdns: BTreeMap<String, Arc<Cdn>>,
    /// The origin.
    pub origin: OriginState,
    /// Roles.
    pub children: Children,
    /// Configuration of `spillway all`.
    pub config_file: PathBuf,
    /// Folder of this run.
    pub dir: PathBuf,
    /// What viewers share.
    pub around: Surroundings,
    /// Address of `/watch`, reserved for it.
    pub watch: Option<StdListener>,
    servers: JoinSet<()>,
}

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The `spillway` binary.
    pub spillway: &'a Path,
    /// `deploy/demo.toml` as it is.
    pub template: &'a str,
    /// Folder of this run; exists and is empty.
    pub dir: &'a Path,
    /// Mode of every region.
    pub mode: &'a str,
}

impl Stage {
    /// Sets everything up and waits until every role is ready and every region has a manifest.
    ///
    /// # Errors
    /// If something can't start; the message holds the last words of a role that ended.
    pub async fn set(plan: &Plan<'_>) -> anyhow::Result<Self> {
        let clock = SystemClock::new();
        let mut sockets = reserve(plan.template)?;
        let secret = || random::id(40);
        let (service_token, operator_token) = (secret(), secret());
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        for (name, socket) in &sockets {
            let port = socket.local_addr().context("read a port")?.port();
            values.insert(format!("port:{name}"), port.to_string());
        }
        values.insert("data_dir".into(), plan.dir.join("data").display().to_string());
        values.insert("service_token".into(), service_token.clone());
        values.insert("operator_sha256".into(), auth::token_hash(&operator_token));
        values.insert("token_key".into(), secret());
        values.insert("mode".into(), plan.mode.to_owned());
        let url = |name: &str| -> anyhow::Result<String> {
            let port = values.get(&format!("port:{name}")).with_context(|| format!("find ${{port:{name}}}"))?;
            Ok(format!("http://127.0.0.1:{port}"))
        };
        let parts = Parts::read(&template::fill(plan.template, &values)?)?;
        let api = Api {
            collector: url("collector")?,
            orchestrator: url("orchestrator")?,
            steer: url("steer")?,
            dashboard: url("dashboard")?,
            control: url("control")?,
            service_token,
            operator_token,
            client: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?,
        };
        let origin_url = url("origin")?;
        let mut servers = JoinSet::new();
        let clip = Clip::embedded().context("read the clip")?;
        let origin = OriginState::new(clip, Arc::new(move || clock.now().0));
        origin.set_latency_ms(parts.demo.latency_ms.get("origin").copied().unwrap_or(0));
        serve(&mut servers, take(&mut sockets, "origin")?, origin::router(origin.clone()))?;
        let mut cdns = BTreeMap::new();
        for config in parts.cdns(&origin_url) {
            let (name, cdn) = (config.name.clone(), Cdn::new(config)?);
            let listener = listener(take(&mut sockets, &name)?)?;
            let serving = Arc::clone(&cdn);
            servers.spawn(async move {
                if let Err(error) = cdn::serve(listener, serving).await {
                    tracing::error!(%error, "an emulated CDN ended");
                }
            });
            cdns.insert(name, cdn);
        }
        let control = cdn::control_router(cdns.values().cloned().collect());
        serve(&mut servers, take(&mut sockets, "control")?, control)?;
        let watch = sockets.remove("watch");
        drop(sockets); // the children bind the rest
        let content = &parts.demo.content;
        let around = Surroundings {
            playlist_url: Url::parse(&format!("{}/v1/playlists/hls/{content}/master.m3u8", api.steer))?,
            beacon_url: Url::parse(&format!("{}/v1/beacons?k={}", api.collector, parts.write_key))?,
            content_id: content.clone(),
            clock,
            totals: Arc::new(Totals::default()),
        };
        let (children, config_file) = (Children::default(), plan.dir.join("spillway.toml"));
        let dir = plan.dir.to_owned();
        let mut stage = Self { parts, api, cdns, origin, children, config_file, dir, around, watch, servers };
        stage.start_roles(plan, &origin_url)?;
        stage.wait_ready().await?;
        Ok(stage)
    }

    fn start_roles(&mut self, plan: &Plan<'_>, origin_url: &str) -> anyhow::Result<()> {
        let write =
            |path: &Path, text: &str| std::fs::write(path, text).with_context(|| format!("write {}", path.display()));
        std::fs::create_dir_all(plan.dir.join("data")).context("make the data folder")?;
        write(&self.config_file, &self.parts.spillway_toml)?;
        let file = self.config_file.display().to_string();
        let log = |name: &str| plan.dir.join(format!("{name}.log"));
        self.children.start("all", plan.spillway, &["all", "--config", &file], &log("all"))?;
        for (name, text) in self.parts.edges(origin_url, &self.api.orchestrator, &self.api.collector)? {
            let path = plan.dir.join(format!("{name}.toml"));
            write(&path, &text)?;
            let file = path.display().to_string();
            self.children.start(&name, plan.spillway, &["edge", "--config", &file], &log(&name))?;
        }
        Ok(())
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let roles = [&self.api.collector, &self.api.steer, &self.api.orchestrator, &self.api.dashboard];
        let mut urls: Vec<String> = roles.into_iter().map(|base| format!("{base}/readyz")).collect();
        let own = self.parts.pathways.iter().filter(|pathway| pathway.is_own());
        urls.extend(own.map(|pathway| format!("{}/.spillway/readyz", pathway.base_url)));
        let waiting: std::cell::RefCell<Vec<String>> = std::cell::RefCell::new(Vec::new());
        let all = async {
            for what in &urls {
                waiting.replace(vec![what.clone()]);
                self.api.ready(what).await;
            }
            for region in &self.parts.regions {
                waiting.replace(vec![format!("the first manifest of {region}")]);
                while self.api.manifest(region, None).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        };
        let children = &mut self.children;
        let died = async {
            loop {
                let dead = children.dead();
                if !dead.is_empty() {
                    break dead.join("\n");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = all => Ok(()),
            dead = died => bail!("start the roles: {dead}"),
            () = tokio::time::sleep(READY) => {
                bail!("start the roles: not ready after {} s, waiting for {}", READY.as_secs(), waiting.borrow().join(", "))
            }
        }
    }

    /// Ends the roles within `grace`. Returns the names of those that had to be killed.
    pub async fn strike(mut self, grace: Duration) -> Vec<String> {
        let killed = std::mem::take(&mut self.children).stop(grace).await;
        self.servers.shutdown().await;
        killed
    }
}

/// A port for every `${port:NAME}`, all held at once, so that no two are the same.
fn reserve(text: &str) -> anyhow::Result<BTreeMap<String, StdListener>> {
    let mut sockets = BTreeMap::new();
    let mut names = template::ports(text);
    names.extend(["origin", "control", "watch"].map(str::to_owned));
    for name in names {
        let socket = StdListener::bind("127.0.0.1:0").context("find a free port")?;
        sockets.insert(name, socket);
    }
    Ok(sockets)
}

fn take(sockets: &mut BTreeMap<String, StdListener>, name: &str) -> anyhow::Result<StdListener> {
    sockets.remove(name).with_context(|| format!("find ${{port:{name}}} in the configuration"))
}

fn listener(socket: StdListener) -> anyhow::Result<TcpListener> {
    socket.set_nonblocking(true).context("set up a listener")?;
    TcpListener::from_std(socket).context("set up a listener")
}

fn serve(servers: &mut JoinSet<()>, socket: StdListener, router: Router) -> anyhow::Result<()> {
    let listener = listener(socket)?;
    servers.spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "a server of the demo ended");
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_of_the_committed_file_is_reserved_and_no_two_are_the_same() {
        let sockets = reserve(include_str!("../../../../deploy/demo.toml")).expect("ports");
        for name in ["collector", "steer", "orchestrator", "dashboard", "origin", "control", "watch", "cdn-a"] {
            assert!(sockets.contains_key(name), "{name}");
        }
        let mut ports: Vec<u16> = sockets.values().map(|s| s.local_addr().expect("port").port()).collect();
        ports.sort_unstable();
        let count = ports.len();
        ports.dedup();
        assert_eq!(ports.len(), count);
    }
}

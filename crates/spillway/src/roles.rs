//! The roles: read the configuration, bind every port, hand each role its parts, run until a signal.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use spillway_bus::{DirStore, HttpPush, LocalBus, Store, http_router};
use spillway_collector::Collector;
use spillway_lake::TailSource;
use spillway_lake::jobs::Permit;
use spillway_lake::jobs::runner::{self, JobsThread, Keeper};
use spillway_model::Clock;
use spillway_orchestrator::{Configured, Lake, Rereader};
use spillway_own_edge::agent::ServerKind;
use spillway_own_edge::{EdgeShell, Reload};
use spillway_service::config::ConfigError;
use spillway_service::deployment::Deployment;
use spillway_service::tls::{Listener, TlsConfig};
use spillway_service::{
    CancellationToken, Deployed, Deploys, Readiness, SystemClock, bind, geo, hangups, install_metrics, logging,
    shutdown_on_signal,
};
use spillway_steering as steering;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::Config;
use crate::lease::StoredLease;
use crate::reload;

/// The end of a running job of the lake; it commits nothing after the signal.
const DRAIN_JOBS: Duration = Duration::from_secs(5);

/// Rows that the steering node beside a collector posts at the end; the collector needs 8 s more, the process has 10.
const LAST_ROWS: Duration = Duration::from_millis(1_200);

/// What every role of this process shares.
struct Process {
    file: PathBuf,
    config: Config,
    clock: Arc<dyn Clock>,
    bus: LocalBus,
    metrics: Option<PrometheusHandle>,
    shutdown: CancellationToken,
}

impl Process {
    fn start(file: &Path) -> anyhow::Result<Self> {
        let config = Config::load(file)?;
        logging::init("info");
        let bus = if config.bus_peers.is_empty() {
            LocalBus::new()
        } else {
            LocalBus::with_push(HttpPush::new(&config.bus_peers, &config.service_token))
        };
        Ok(Self {
            file: file.to_owned(),
            config,
            clock: Arc::new(SystemClock::new()),
            bus,
            metrics: Some(install_metrics()?),
            shutdown: shutdown_on_signal().context("listen for signals")?,
        })
    }

    /// The deployment, with its geo databases looked after as long as the process runs, and the way to another one.
    fn deployment(&self) -> anyhow::Result<Reloadable> {
        let deployment = self.config.deployment()?;
        tokio::spawn(geo::watch(deployment.databases(), self.shutdown.clone()));
        Ok(Reloadable {
            reread: reload::rereader(self.file.clone(), &self.config, &deployment),
            deploys: Deploys::new(Arc::clone(&deployment)),
            hangups: hangups().context("listen for SIGHUP")?,
            deployment,
        })
    }

    fn store(&self) -> anyhow::Result<Arc<dyn Store>> {
        Ok(Arc::new(DirStore::open(&self.config.store_dir()).context("open the store")?))
    }

    /// The lake's jobs on a thread of their own, where the configuration wants them.
    fn lake_jobs(&self) -> anyhow::Result<Option<JobsThread>> {
        if !self.config.lake.jobs {
            return Ok(None);
        }
        let (root, clock) = (self.config.lake_root()?, Arc::clone(&self.clock));
        let keeper = Keeper {
            store: Arc::new(StoredLease(self.store()?)),
            who: self.config.collector.id.clone(),
            clock: Arc::clone(&clock),
        };
        // The runner lends each run a permit of its own.
        let context = self.config.job_context(&root, clock, Permit::unlimited());
        let jobs = runner::start(keeper, self.config.lake.upkeep(), context, self.shutdown.child_token());
        Ok(Some(jobs.context("start the lake's jobs")?))
    }

    /// The collector's tail over HTTP: for roles that run without it.
    fn remote_tail(&self) -> TailSource {
        TailSource::Http {
            url: format!("http://{}", self.config.collector.listen),
            token: self.config.service_token.clone(),
        }
    }
}

/// A deployment that a reload may change.
struct Reloadable {
    deployment: Arc<Deployment>,
    deploys: Deploys,
    reread: Rereader,
    hangups: watch::Receiver<u64>,
}

impl Reloadable {
    /// Reloads at SIGHUP, where no orchestrator does.
    fn follow_file(self, process: &Process) -> Deployed {
        let deployed = self.deploys.deployed();
        tokio::spawn(spillway_orchestrator::follow_file(
            self.reread,
            self.deploys,
            self.hangups,
            process.shutdown.clone(),
        ));
        deployed
    }
}

/// Says on standard output, once all ports are open, where each role listens: one JSON line.
fn announce(ports: &[(&str, std::io::Result<SocketAddr>)]) -> anyhow::Result<()> {
    let mut out = serde_json::Map::new();
    for (role, address) in ports {
        let address = address.as_ref().map_err(|error| anyhow::anyhow!("where does {role} listen? {error}"))?;
        out.insert((*role).to_owned(), address.to_string().into());
    }
    println!("{}", serde_json::json!({ "listening": out }));
    Ok(())
}

/// Collector, orchestrator, steering node and dashboard in one process.
pub async fn all(file: &Path) -> anyhow::Result<()> {
    let process = Process::start(file)?;
    let config = &process.config;
    let reloadable = process.deployment()?;
    let deployed = reloadable.deploys.deployed();
    let steer_config = config.steer()?;
    spillway_orchestrator::setup(&reloadable.deployment, config.parameters()?, &config.orchestrator)?;
    let collector_at = bind("collector.listen", config.collector.listen).await?;
    let steer_at = bind("steer.listen", steer_config.listen).await?;
    let orchestrator_at = bind("orchestrator.listen", config.orchestrator.listen).await?;
    let dashboard_at = bind("dashboard.listen", config.dashboard.listen).await?;
    let public = public_port("collector.tls", config.collector.tls.as_ref()).await?;
    let steer_public = public_port("steer.tls", steer_config.tls.as_ref()).await?;
    let mut ports = vec![
        ("collector", collector_at.local_addr()),
        ("steer", steer_at.local_addr()),
        ("orchestrator", orchestrator_at.local_addr()),
        ("dashboard", dashboard_at.local_addr()),
    ];
    ports.extend(public.iter().map(|listener| ("collector_tls", listener.local_addr())));
    ports.extend(steer_public.iter().map(|listener| ("steer_tls", listener.local_addr())));
    announce(&ports)?;
    let mut steer_config = steer_config;
    if steer_config.collectors.is_none() {
        steer_config.collectors = Some(vec![reached_at(collector_at.local_addr()?)]);
    }
    let posted = CancellationToken::new();
    let last = after_posting(&process, posted.clone());
    let collector = open_collector(&process, deployed.clone(), last).await?;
    let tail = collector.tail();
    tokio::try_join!(
        async {
            serve_collector(&process, collector, collector_at, public).await?;
            anyhow::Ok(())
        },
        run_orchestrator(&process, reloadable, orchestrator_at, TailSource::Local(tail)),
        run_steer(&process, deployed, steer_config, (steer_at, steer_public), posted),
        run_dashboard(&process, dashboard_at, axum::Router::new()),
    )?;
    Ok(())
}

/// The collector alone; `bus_peers` get its frames.
pub async fn collector(file: &Path) -> anyhow::Result<()> {
    let process = Process::start(file)?;
    let deployed = process.deployment()?.follow_file(&process);
    let listener = bind("collector.listen", process.config.collector.listen).await?;
    let public = public_port("collector.tls", process.config.collector.tls.as_ref()).await?;
    let mut ports = vec![("collector", listener.local_addr())];
    ports.extend(public.iter().map(|listener| ("collector_tls", listener.local_addr())));
    announce(&ports)?;
    let collector = open_collector(&process, deployed, process.shutdown.clone()).await?;
    serve_collector(&process, collector, listener, public).await
}

/// The orchestrator alone.
pub async fn orchestrator(file: &Path) -> anyhow::Result<()> {
    let process = Process::start(file)?;
    let reloadable = process.deployment()?;
    spillway_orchestrator::setup(&reloadable.deployment, process.config.parameters()?, &process.config.orchestrator)?;
    let listener = bind("orchestrator.listen", process.config.orchestrator.listen).await?;
    announce(&[("orchestrator", listener.local_addr())])?;
    run_orchestrator(&process, reloadable, listener, process.remote_tail()).await
}

/// A steering node alone; `bus_peers` get its frames.
pub async fn steer(file: &Path) -> anyhow::Result<()> {
    let process = Process::start(file)?;
    let deployed = process.deployment()?.follow_file(&process);
    let config = process.config.steer()?;
    let listener = bind("steer.listen", config.listen).await?;
    let public = public_port("steer.tls", config.tls.as_ref()).await?;
    let mut ports = vec![("steer", listener.local_addr())];
    ports.extend(public.iter().map(|listener| ("steer_tls", listener.local_addr())));
    announce(&ports)?;
    run_steer(&process, deployed, config, (listener, public), CancellationToken::new()).await
}

/// The dashboard alone; the orchestrator's `bus_peers` must name it.
pub async fn dashboard(file: &Path) -> anyhow::Result<()> {
    let process = Process::start(file)?;
    let listener = bind("dashboard.listen", process.config.dashboard.listen).await?;
    announce(&[("dashboard", listener.local_addr())])?;
    let bus = http_router(process.bus.clone(), &process.config.service_token);
    run_dashboard(&process, listener, bus).await
}

/// An own edge.
pub async fn edge(arguments: &crate::cli::Edge) -> anyhow::Result<()> {
    let file = &arguments.file.config;
    let process = Process::start(file)?;
    let config = process.config.edge()?;
    let reload = reload_of(file, Config::edge)?;
    let doors = spillway_own_edge::Doors::open(&config).await?;
    announce(&doors.addresses())?;
    let faults = arguments.unsafe_faults.then(|| arguments.fault.clone());
    let shell = EdgeShell { faults, ..edge_shell(&process, reload) };
    Ok(spillway_own_edge::run(config, shell, doors).await?)
}

/// An agent beside another's server; `beside` is what the command line says of it.
pub async fn edge_agent(file: &Path, beside: Option<ServerKind>) -> anyhow::Result<()> {
    let process = Process::start(file)?;
    let config = process.config.edge_agent()?.beside(beside)?;
    config.check()?;
    let reload = reload_of(file, Config::edge_agent)?;
    let admin = match config.admin_listen {
        Some(address) => Some(bind("edge_agent.admin_listen", address).await?),
        None => None,
    };
    let ports: Vec<_> = admin.iter().map(|listener| ("edge_agent", listener.local_addr())).collect();
    announce(&ports)?;
    Ok(spillway_own_edge::agent::run(config, edge_shell(&process, reload), admin).await?)
}

/// A section of `file` again, at each SIGHUP.
fn reload_of<C: 'static>(file: &Path, section: fn(&Config) -> Result<C, ConfigError>) -> anyhow::Result<Reload<C>> {
    let file = file.to_path_buf();
    let reread = move || Config::load(&file).and_then(|config| section(&config)).map_err(|error| error.to_string());
    Ok(Reload { hangups: hangups().context("listen for SIGHUP")?, reread: Arc::new(reread) })
}

/// What the process gives to an edge or its agent.
fn edge_shell<C>(process: &Process, reload: Reload<C>) -> EdgeShell<C> {
    EdgeShell {
        service_token: process.config.service_token.clone(),
        clock: Arc::clone(&process.clock),
        readiness: Readiness::default(),
        metrics: process.metrics.clone(),
        shutdown: process.shutdown.clone(),
        reload: Some(reload),
        faults: None,
    }
}

/// A role's TLS port, if it has one; `key` names its section.
async fn public_port(key: &str, tls: Option<&TlsConfig>) -> anyhow::Result<Option<Listener>> {
    Ok(match tls {
        Some(tls) => Some(Listener::tls(key, tls).await?),
        None => None,
    })
}

/// How a collector in this process is reached from inside.
fn reached_at(mut listens: SocketAddr) -> String {
    if listens.ip().is_unspecified() {
        listens.set_ip(if listens.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    format!("http://{listens}")
}

/// Ends a collector after the signal, once the steering node beside it has posted its last rows or has had the time.
fn after_posting(process: &Process, posted: CancellationToken) -> CancellationToken {
    let (shutdown, last) = (process.shutdown.clone(), CancellationToken::new());
    let ends = last.clone();
    tokio::spawn(async move {
        shutdown.cancelled().await;
        let _ = tokio::time::timeout(LAST_ROWS, posted.cancelled()).await;
        ends.cancel();
    });
    last
}

async fn open_collector(
    process: &Process,
    deployed: Deployed,
    shutdown: CancellationToken,
) -> anyhow::Result<Collector> {
    let shell = spillway_collector::Shell {
        lake_root: process.config.lake_root()?,
        wal_dir: process.config.wal_dir(),
        deployed,
        bus: Arc::new(process.bus.clone()),
        clock: Arc::clone(&process.clock),
        service_token: process.config.service_token.clone(),
        readiness: Readiness::default(),
        metrics: process.metrics.clone(),
        shutdown,
    };
    Ok(Collector::open(process.config.collector.clone(), shell).await?)
}

/// Serves until the signal, with the lake's jobs beside it.
async fn serve_collector(
    process: &Process,
    collector: Collector,
    listener: TcpListener,
    public: Option<Listener>,
) -> anyhow::Result<()> {
    let jobs = process.lake_jobs()?;
    // Both drain at once: one after the other could take longer than the process may.
    let end_of_jobs = async {
        process.shutdown.cancelled().await;
        if let Some(jobs) = jobs {
            jobs.stop(DRAIN_JOBS).await;
        }
    };
    tokio::join!(collector.serve(listener, public), end_of_jobs);
    Ok(())
}

async fn run_orchestrator(
    process: &Process,
    reloadable: Reloadable,
    listener: TcpListener,
    tail: TailSource,
) -> anyhow::Result<()> {
    spillway_orchestrator::run(spillway_orchestrator::Parts {
        configured: Configured {
            deployment: reloadable.deployment,
            parameters: process.config.parameters()?,
            config: process.config.orchestrator.clone(),
            recorded: process.config.deciding(),
        },
        deploys: reloadable.deploys,
        reread: reloadable.reread,
        hangups: reloadable.hangups,
        tokens: process.config.token.clone(),
        service_token: process.config.service_token.clone(),
        key_file: process.config.key_file(),
        class_of: process.config.steer.as_ref().map(|steer| steer.class_of.clone()).unwrap_or_default(),
        lake: Lake { root: process.config.lake_root()?, tails: vec![tail] },
        store: process.store()?,
        bus: process.bus.clone(),
        clock: Arc::clone(&process.clock),
        listener,
        readiness: Readiness::default(),
        metrics: process.metrics.clone(),
        shutdown: process.shutdown.clone(),
    })
    .await
}

async fn run_steer(
    process: &Process,
    deployed: Deployed,
    mut config: steering::SteerConfig,
    (listener, public): (TcpListener, Option<Listener>),
    posted: CancellationToken,
) -> anyhow::Result<()> {
    config.manifest_copy_dir.get_or_insert_with(|| process.config.data_dir.join("manifests"));
    let parts = steering::Parts {
        config,
        deployed,
        tokens: process.config.token.clone(),
        service_token: process.config.service_token.clone(),
        store: process.store()?,
        bus: process.bus.clone(),
        clock: Arc::clone(&process.clock),
        listener,
        public,
        readiness: Readiness::default(),
        metrics: process.metrics.clone(),
        shutdown: process.shutdown.clone(),
        posted,
    };
    steering::run(parts).await
}

async fn run_dashboard(process: &Process, listener: TcpListener, extra: axum::Router) -> anyhow::Result<()> {
    let shell = spillway_dashboards::Shell {
        bus: Arc::new(process.bus.clone()),
        clock: Arc::clone(&process.clock),
        readiness: Readiness::default(),
        shutdown: process.shutdown.clone(),
        extra,
    };
    Ok(spillway_dashboards::run(process.config.dashboard.clone(), shell, listener).await?)
}

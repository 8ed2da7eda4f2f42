//! A steering node alone, for measuring its DNS zone without building the whole binary: it takes the words of
//! `spillway steer --config FILE`, and of the file the sections that a steering node reads. So the benchmark can start it
//! in the binary's place:
//!
//! `spillway-bench --spillway target/release/examples/dns_speed dns`

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use serde::Deserialize;
use spillway_bus::{DirStore, LocalBus};
use spillway_model::Clock;
use spillway_service::deployment::{Deployment, PathwayConfig, PrefixConfig, PropertyConfig, RegionConfig};
use spillway_service::{CancellationToken, Readiness, SystemClock, shutdown_on_signal};
use spillway_steering::{Parts, SteerConfig};
use tokio::net::TcpListener;

#[derive(Deserialize)]
struct File {
    data_dir: std::path::PathBuf,
    service_token: String,
    property: Vec<PropertyConfig>,
    region: Vec<RegionConfig>,
    pathway: Vec<PathwayConfig>,
    #[serde(default)]
    prefix: Vec<PrefixConfig>,
    steer: SteerConfig,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = std::env::args().skip_while(|word| word != "--config").nth(1).context("steer --config FILE")?;
    let file: File = spillway_service::config::load(Path::new(&path))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let shutdown = shutdown_on_signal()?;
    spillway_steering::run(Parts {
        listener: TcpListener::bind(file.steer.listen).await?,
        public: None,
        config: file.steer,
        deployed: Arc::new(Deployment::new(file.property, file.region, file.pathway, file.prefix)?).into(),
        tokens: vec![],
        service_token: file.service_token,
        store: Arc::new(DirStore::open(&file.data_dir)?),
        bus: LocalBus::new(),
        clock,
        readiness: Readiness::default(),
        metrics: None,
        shutdown,
        posted: CancellationToken::new(),
    })
    .await
}

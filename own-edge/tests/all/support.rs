//! An edge under test and its clock.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use spillway_model::{Clock, Millis, TimestampMs};
use spillway_own_edge::{Doors, EdgeConfig, EdgeShell, Reload};
use spillway_service::tls::Listener;
use spillway_service::{CancellationToken, Readiness};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::client::{LONG, Reply, get};
use crate::scripted::Scripted;

pub const TOKEN: &str = "a-token-between-roles";

/// What the time of day is when the monotonic clock begins, ms.
pub const NOON_MS: u64 = 1_767_225_600_000;

/// One for all edges of a test, so that none lives before the one whose disk it takes over.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A clock that goes on by itself and can be put forward, and whose time of day can be set wrong.
pub struct TestClock {
    start: Instant,
    forward_ms: AtomicU64,
    wrong_by_s: AtomicI64,
}

impl TestClock {
    pub fn forward(&self, seconds: u64) {
        self.forward_ms.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    /// Somebody sets the time of day; the monotonic clock goes on as if nothing were.
    pub fn set_wrong_by(&self, seconds: i64) {
        self.wrong_by_s.store(seconds, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> TimestampMs {
        let right_ms = NOON_MS + self.monotonic().0;
        TimestampMs(right_ms.saturating_add_signed(self.wrong_by_s.load(Ordering::Relaxed) * 1000))
    }

    fn monotonic(&self) -> Millis {
        let elapsed_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap();
        Millis(1_000_000 + elapsed_ms + self.forward_ms.load(Ordering::Relaxed))
    }
}

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { start: *START, forward_ms: AtomicU64::new(0), wrong_by_s: AtomicI64::new(0) })
    }
}

/// A running edge.
pub struct TestEdge {
    pub address: SocketAddr,
    pub clock: Arc<TestClock>,
    pub readiness: Readiness,
    pub shutdown: CancellationToken,
    pub task: JoinHandle<()>,
    text: Arc<Mutex<String>>,
    hangups: watch::Sender<u64>,
}

impl TestEdge {
    pub async fn start(origin: &Scripted) -> Self {
        Self::with(&origin.url(), "").await
    }

    /// An edge with these lines of configuration beside the least.
    pub async fn with(origin: &str, lines: &str) -> Self {
        Self::of(&format!("origin = \"{origin}\"\n{lines}")).await
    }

    /// An edge with these lines of configuration, its origins among them.
    pub async fn of(lines: &str) -> Self {
        Self::named("own-test-1", TcpListener::bind("127.0.0.1:0").await.unwrap(), lines)
    }

    /// An edge with a port for TLS, too.
    pub async fn behind(origin: &str, lines: &str, tls: Option<Listener>) -> Self {
        let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::opened("own-test-1", Doors::of(plain, tls), &format!("origin = \"{origin}\"\n{lines}"))
    }

    /// An edge of another name, on a port that is known already.
    pub fn named(pathway: &str, plain: TcpListener, lines: &str) -> Self {
        Self::opened(pathway, plain.into(), lines)
    }

    /// An edge that opens its ports itself, or takes them over.
    pub async fn open(lines: &str) -> Self {
        let doors = Doors::open(&config("own-test-1", lines).unwrap()).await.unwrap();
        Self::opened("own-test-1", doors, lines)
    }

    fn opened(pathway: &str, doors: Doors, lines: &str) -> Self {
        let config_now = config(pathway, lines).unwrap();
        let address = doors.plain.local_addr().unwrap();
        let clock = TestClock::new();
        let (readiness, shutdown) = (Readiness::default(), CancellationToken::new());
        let (text, hangups) = (Arc::new(Mutex::new(lines.to_owned())), watch::Sender::new(0));
        let reread = {
            let (text, pathway) = (text.clone(), pathway.to_owned());
            Arc::new(move || config(&pathway, &text.lock().unwrap()).map_err(|error| error.to_string()))
        };
        let shell = EdgeShell {
            service_token: TOKEN.into(),
            clock: clock.clone(),
            readiness: readiness.clone(),
            metrics: None,
            shutdown: shutdown.clone(),
            reload: Some(Reload { hangups: hangups.subscribe(), reread }),
            faults: Some(Vec::new()),
        };
        let task = tokio::spawn(async move {
            spillway_own_edge::run(config_now, shell, doors).await.unwrap();
        });
        Self { address, clock, readiness, shutdown, task, text, hangups }
    }
}

impl TestEdge {
    /// Asks until the answer is a hit: a client may have the last byte before the object is kept. Who asks in between
    /// waits with the fill, so this causes no fetch of its own.
    pub async fn hit(&self, target: &str) -> Reply {
        for _ in 0..1_000 {
            let reply = get(self.address, target).await;
            if reply.is_hit() {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{target} is never kept");
    }
}

fn config(pathway: &str, lines: &str) -> Result<EdgeConfig, toml::de::Error> {
    let ceiling = if lines.contains("ceiling_mbps") { "" } else { "ceiling_mbps = 100000" };
    toml::from_str(&format!(
        r#"
        listen = "127.0.0.1:0"
        pathway = "{pathway}"
        group = "own-test"
        region = "eu-test"
        base_url = "http://edge.example"
        {ceiling}
        {lines}
        "#
    ))
}

impl TestEdge {
    /// Changes the configuration's lines and has them read.
    pub fn reload(&self, lines: &str) {
        lines.clone_into(&mut self.text.lock().unwrap());
        self.hangups.send_modify(|count| *count += 1);
    }

    /// Lets it drain and end.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        tokio::time::timeout(LONG, &mut self.task).await.expect("it ends").unwrap();
    }
}

impl Drop for TestEdge {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Resident memory of this process, in which the edge, its origin and its clients live, bytes.
pub fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// Bytes that differ from place to place.
pub fn media(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

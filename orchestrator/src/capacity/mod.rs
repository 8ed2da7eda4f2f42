//! What CDNs publish of their own capacity, fetched at a steady pace and never in a round's way.
//!
//! A fetch that fails changes nothing: what was read last holds for three times the pace, and then says nothing.

mod document;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use spillway_model::{Clock, Millis, PathwayId, RegionId, TimestampMs};
use spillway_orchestrator_core::CapacityLimit;
use spillway_service::capacity_feed::CapacityFeedConfig;
use spillway_service::deployment::{Deployment, host_of};
use tokio::sync::watch;
use tokio::task::JoinSet;

use document::Published;

/// Bytes of a document.
const DOCUMENT_MAX_BYTES: usize = 1 << 20;
/// What was read holds for so many times the pace of fetching.
const HOLDS_FOR: u64 = 3;

/// The newest limits of each pathway that has a feed.
type Limits = BTreeMap<PathwayId, Vec<CapacityLimit>>;

/// Why a fetch brought nothing.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error("not in time")]
    Timeout,
    #[error("{0}")]
    Connection(String),
    #[error("status {0} (valid: 200)")]
    Status(u16),
    #[error("more than {DOCUMENT_MAX_BYTES} bytes")]
    TooLarge,
    #[error("a cache has had it for {0} s, longer than it holds")]
    Old(u64),
    #[error("not a document with capacity limits: {0}")]
    Unreadable(String),
}

impl FeedError {
    /// Stable name, for counters.
    const fn name(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connection(_) => "connection",
            Self::Status(_) => "status",
            Self::TooLarge => "too_large",
            Self::Old(_) => "old",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

impl From<reqwest::Error> for FeedError {
    fn from(error: reqwest::Error) -> Self {
        // The URL may hold a key.
        if error.is_timeout() { Self::Timeout } else { Self::Connection(error.without_url().to_string()) }
    }
}

/// Reads feeds until it is dropped.
pub(crate) struct Feeds {
    limits: Arc<watch::Sender<Limits>>,
    running: BTreeMap<PathwayId, Running>,
}

/// A feed that is read, and by what.
struct Running {
    host: String,
    config: CapacityFeedConfig,
    /// Ends with it.
    _task: JoinSet<()>,
}

impl Feeds {
    /// Starts one task for each configured feed.
    pub(crate) fn start(deployment: &Deployment, clock: &Arc<dyn Clock>) -> Self {
        let mut out = Self { limits: Arc::new(watch::Sender::new(Limits::new())), running: BTreeMap::new() };
        out.deploy(deployment, clock);
        out
    }

    /// Goes on with another deployment's feeds. Those that are the same keep what was read last.
    pub(crate) fn deploy(&mut self, deployment: &Deployment, clock: &Arc<dyn Clock>) {
        let mut before = std::mem::take(&mut self.running);
        for (id, pathway) in &deployment.pathways {
            let Some(config) = &pathway.capacity_feed else { continue };
            let host = host_of(&pathway.base_url).unwrap_or_default();
            let same = before.remove(id).filter(|running| running.host == host && running.config == *config);
            let running = same.unwrap_or_else(|| {
                self.limits.send_modify(|limits| drop(limits.remove(id)));
                let mut task = JoinSet::new();
                task.spawn(Feed::new(id, host, config, Arc::clone(clock)).run(Arc::clone(&self.limits)));
                Running { host: host.to_owned(), config: config.clone(), _task: task }
            });
            self.running.insert(id.clone(), running);
        }
        // Ends the others first: none may say anything more.
        drop(before);
        self.limits.send_modify(|limits| limits.retain(|id, _| self.running.contains_key(id)));
    }

    /// All limits that were read last; those that are too old among them, which rounds ignore.
    pub(crate) fn limits(&self) -> Vec<CapacityLimit> {
        self.limits.borrow().values().flatten().cloned().collect()
    }
}

struct Feed {
    pathway: PathwayId,
    /// Without a port: scopes name hosts.
    host: String,
    config: CapacityFeedConfig,
    regions: BTreeMap<String, RegionId>,
    clock: Arc<dyn Clock>,
}

impl Feed {
    fn new(pathway: &PathwayId, authority: &str, config: &CapacityFeedConfig, clock: Arc<dyn Clock>) -> Self {
        let region = |name: &String| RegionId::new(name).ok();
        let known = config
            .footprints
            .iter()
            .filter_map(|(footprint, name)| Some((footprint.to_ascii_lowercase(), region(name)?)));
        let host = authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        Self {
            pathway: pathway.clone(),
            host: host.map_or(authority, |(host, _)| host).to_owned(),
            config: config.clone(),
            regions: known.collect(),
            clock,
        }
    }

    async fn run(self, limits: Arc<watch::Sender<Limits>>) {
        let mut pace = tokio::time::interval(Duration::from_secs(self.config.every_s));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            let outcome = match self.read().await {
                Ok((published, until)) => {
                    if published.elsewhere > 0 {
                        let (pathway, limits) = (&self.pathway, published.elsewhere);
                        tracing::warn!(%pathway, limits, "capacity limits of footprints that no region is configured for");
                    }
                    let read = self.limits(&published, until);
                    limits.send_modify(|limits| drop(limits.insert(self.pathway.clone(), read)));
                    "ok"
                }
                Err(error) => {
                    tracing::warn!(pathway = %self.pathway, %error, reason = error.name(), "capacity limits not read");
                    error.name()
                }
            };
            let pathway = self.pathway.to_string();
            metrics::counter!("spillway_capacity_feed_total", "pathway" => pathway, "outcome" => outcome).increment(1);
        }
    }

    fn limits(&self, published: &Published, until: TimestampMs) -> Vec<CapacityLimit> {
        let limit = |(region, egress): (&Option<RegionId>, &document::Egress)| CapacityLimit {
            pathway: self.pathway.clone(),
            region: region.clone(),
            soft: egress.soft,
            hard: egress.hard,
            until,
        };
        published.limits.iter().map(limit).collect()
    }

    /// What the CDN says now, and until when that holds.
    async fn read(&self) -> Result<(Published, TimestampMs), FeedError> {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(self.config.timeout_s))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let asked = self.clock.now();
        let answer = client.get(&self.config.url).header("accept", "application/json").send().await?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(FeedError::Status(answer.status().as_u16()));
        }
        let holds_s = HOLDS_FOR * self.config.every_s;
        let age_s = answer.headers().get("age").and_then(|age| age.to_str().ok()?.trim().parse::<u64>().ok());
        let age_s = age_s.unwrap_or(0);
        if age_s >= holds_s {
            return Err(FeedError::Old(age_s));
        }
        if answer.content_length().is_some_and(|length| length > DOCUMENT_MAX_BYTES as u64) {
            return Err(FeedError::TooLarge);
        }
        let mut bytes = Vec::new();
        let mut body = answer.bytes_stream();
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            if bytes.len() + chunk.len() > DOCUMENT_MAX_BYTES {
                return Err(FeedError::TooLarge);
            }
            bytes.extend_from_slice(&chunk);
        }
        let published = document::parse(&bytes, &self.host, &self.regions).map_err(FeedError::Unreadable)?;
        Ok((published, asked.after(Millis::from_secs(holds_s - age_s))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::response::IntoResponse as _;
    use axum::routing::get;
    use spillway_model::BitsPerSecond;
    use tokio::net::TcpListener;

    use super::*;
    use crate::fixtures::{NOW, StoppedClock, id, region};

    const DOCUMENT: &str = r#"{"capabilities": [
        {"capability-type": "FCI.CapacityLimits",
         "capability-value": {"limits": [{"limit-type": "egress", "maximum-hard": 5000000, "maximum-soft": 4000000}]}},
        {"capability-type": "FCI.CapacityLimits",
         "capability-value": {"limits": [{"limit-type": "egress", "maximum-hard": 1000000,
                                          "scope": {"type": "published-host", "value": ["127.0.0.1"]}}]},
         "footprints": [{"footprint-type": "countrycode", "footprint-value": ["de"]}]}]}"#;

    async fn server() -> String {
        let endless =
            || async { Body::from_stream(futures::stream::repeat(vec![b' '; 65_536]).map(Ok::<_, std::io::Error>)) };
        let slow = || async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            DOCUMENT
        };
        let trickle = || async {
            let tick = async |sent: usize| {
                tokio::time::sleep(Duration::from_millis(200)).await;
                Some((Ok::<_, std::io::Error>(vec![b' ']), sent + 1))
            };
            Body::from_stream(futures::stream::unfold(0, tick))
        };
        let router = Router::new()
            .route("/good", get(|| async { DOCUMENT }))
            .route("/aged", get(|| async { ([("age", "10")], DOCUMENT) }))
            .route("/old", get(|| async { ([("age", "180")], DOCUMENT) }))
            .route("/garbage", get(|| async { "<html>welcome</html>" }))
            .route("/deep", get(|| async { "[".repeat(200_000) }))
            .route("/empty", get(|| async { "" }))
            .route("/huge", get(|| async { " ".repeat(DOCUMENT_MAX_BYTES + 1) }))
            .route("/endless", get(endless))
            .route("/slow", get(slow))
            .route("/trickle", get(trickle))
            .route("/broken", get(|| async { (StatusCode::INTERNAL_SERVER_ERROR, DOCUMENT) }))
            .route("/elsewhere", get(|| async { (StatusCode::FOUND, [("location", "/good")]).into_response() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn feed(url: String) -> Feed {
        let config = CapacityFeedConfig {
            url,
            every_s: 60,
            timeout_s: 1,
            footprints: BTreeMap::from([("countrycode:DE".into(), "eu-a".into())]),
        };
        Feed::new(&id("cdn-a"), "127.0.0.1:8080", &config, StoppedClock::new())
    }

    #[tokio::test]
    async fn a_document_becomes_limits_that_end() {
        let url = server().await;
        let good = feed(format!("{url}/good"));
        let (published, until) = good.read().await.expect("read");
        assert_eq!(until, NOW.after(Millis::from_secs(180)));
        let limit =
            |region, soft, hard| CapacityLimit { pathway: id("cdn-a"), region, soft, hard: BitsPerSecond(hard), until };
        let expected = [limit(None, Some(BitsPerSecond(4_000_000)), 5_000_000), limit(Some(region()), None, 1_000_000)];
        assert_eq!(good.limits(&published, until), expected);
        let aged = feed(format!("{url}/aged")).read().await.expect("read");
        assert_eq!(aged.1, NOW.after(Millis::from_secs(170)), "a cache had it for 10 s");
    }

    #[tokio::test]
    async fn what_is_bad_is_named_and_bounded() {
        let url = server().await;
        for (path, name) in [
            ("/old", "old"),
            ("/garbage", "unreadable"),
            ("/deep", "unreadable"),
            ("/empty", "unreadable"),
            ("/huge", "too_large"),
            ("/endless", "too_large"),
            ("/slow", "timeout"),
            ("/trickle", "timeout"),
            ("/broken", "status"),
            ("/elsewhere", "status"),
        ] {
            let error = feed(format!("{url}{path}")).read().await.expect_err(path);
            assert_eq!(error.name(), name, "{path}: {error}");
        }
        let nobody = feed("http://127.0.0.1:9/limits".into()).read().await.expect_err("nobody listens");
        assert_eq!(nobody.name(), "connection");
    }

    #[tokio::test]
    async fn a_failure_keeps_what_was_read_last() {
        let served = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&served);
        let turns = move || {
            let turn = count.fetch_add(1, Ordering::SeqCst);
            async move { if turn == 0 { DOCUMENT } else { "no more" } }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}/", listener.local_addr().expect("address"));
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/", get(turns))).await });
        let mut feed = feed(url);
        feed.config.every_s = 1;
        let (sender, limits) = watch::channel(Limits::new());
        let running = tokio::spawn(feed.run(Arc::new(sender)));
        while served.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(limits.borrow()[&id("cdn-a")].len(), 2);
        running.abort();
    }
}

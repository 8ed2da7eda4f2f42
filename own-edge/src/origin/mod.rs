//! Where answers come from: which servers are asked for a path (`choice`), whether each is asked (`health`, told by
//! fetches and by probes), each with its pooled client (`client`, `answer`); what happens when one fails (here), and when it
//! fails in the midst of a body (`resume`). `between` is what edges tell each other.

mod answer;
mod between;
mod choice;
mod client;
mod config;
mod health;
mod resume;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use http::{HeaderMap, Method, StatusCode};
use hyper::body::{Body as _, Incoming};
use spillway_model::Clock;
use spillway_service::CancellationToken;
use tokio::time::{Instant, MissedTickBehavior};

use crate::plan::Plan;
use crate::serve::informed::Informed;
use crate::video::Hold;

pub(crate) use answer::{Answer, AnswerBody};
pub(crate) use between::{EDGE_TOKEN, EdgeToken, came_through};
pub use config::{ClusterConfig, OriginConfig};
pub(crate) use config::{ServerPlan, servers};
pub(crate) use resume::{Resumable, strong_etag};

use choice::Role;
use client::{Ask, Failure, Server};
use health::Turn;

/// Peers that are asked for one answer before it is fetched from elsewhere.
const PEERS_ASKED_MAX: usize = 2;

/// Why nothing usable came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// No connection.
    #[error("connect to the origin")]
    Connect,
    /// No connection, head or next piece in time.
    #[error("wait for the origin")]
    Timeout,
    /// A connection that ended early, or an answer that can't be understood.
    #[error("read the origin's answer")]
    Answer,
    /// As many requests as the origin may get are open already.
    #[error("find a free request to the origin")]
    Busy,
    /// No origin is there for the path.
    #[error("find an origin for this path")]
    Unserved,
}

impl FetchError {
    /// Word for `Cache-Status` and metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Connect => "origin-connect",
            Self::Timeout => "origin-timeout",
            Self::Answer => "origin-answer",
            Self::Busy => "origin-busy",
            Self::Unserved => "origin-none",
        }
    }

    /// What the client is told.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Connect | Self::Answer => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unserved => StatusCode::NOT_FOUND,
        }
    }
}

/// What the origin is asked.
pub(crate) struct OriginRequest<'a> {
    pub method: Method,
    pub path_and_query: &'a str,
    pub headers: HeaderMap,
    pub body: RequestBody,
    /// The answer may be for others, too: another edge of the cluster may have it, or want it.
    pub shared: bool,
    /// It is slow on purpose: who holds it so long is well.
    pub hold: Option<Hold>,
    /// Who hears of what comes before the answer (103).
    pub informed: Option<Informed>,
}

/// Nothing, or what a client sends.
#[derive(Default)]
pub(crate) struct RequestBody(Option<Incoming>);

impl RequestBody {
    /// What the client of a request sends.
    pub(crate) fn of(incoming: Option<Incoming>) -> Self {
        Self(incoming.filter(|incoming| !incoming.is_end_stream()))
    }
}

/// Fetches from shields and origins in an interval, failed ones, and the origins' bytes. A fetch that another server
/// answered after one failed has not failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OriginInterval {
    pub fetches: u64,
    pub failed: u64,
    pub bytes: u64,
}

/// Counts since the last reading.
#[derive(Default)]
struct Seen {
    fetches: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
}

/// All servers that an edge fetches from.
pub(crate) struct Origins {
    servers: Vec<Arc<Server>>,
    /// This edge's name among its peers.
    me: String,
    token: EdgeToken,
    /// All servers together must begin an answer within.
    first_byte: Duration,
    /// One must while there are others.
    one_try: Duration,
    seen: Arc<Seen>,
}

impl Origins {
    pub(crate) fn new(plan: &Plan, clock: &Arc<dyn Clock>) -> Self {
        let server = |server| Arc::new(Server::new(server, plan, clock.clone()));
        Self {
            servers: plan.servers.iter().map(server).collect(),
            me: plan.pathway.to_string(),
            token: plan.edge_token.clone(),
            first_byte: plan.origin_first_byte,
            one_try: plan.origin_try,
            seen: Arc::default(),
        }
    }

    /// Asks the first server that is there for it; where that one fails, the next.
    ///
    /// # Errors
    /// [`FetchError`], within `origin_first_byte_ms` for all together, or the time that one may hold it and two tries.
    pub(crate) async fn fetch(&self, request: OriginRequest<'_>) -> Result<Answer, FetchError> {
        let path_and_query = request.path_and_query;
        let ways = self.ways(&request);
        let result = self.first(request, &ways, |_| true).await;
        if let Err(error) = &result {
            tracing::debug!(%error, path_and_query, "fetch failed");
        }
        result
    }

    /// Whether an origin or shield for `key` works, as far as is known.
    pub(crate) fn is_well(&self, key: &str) -> bool {
        let path = key.split(['?', '\n']).next().unwrap_or_default();
        let places: Vec<_> = self.servers.iter().map(|server| &server.place).collect();
        choice::order(&places, path, None).into_iter().any(|at| self.servers[at].is_up())
    }

    /// The servers for a request, in their order. What came from a peer goes to none: it has chosen this one.
    fn ways(&self, request: &OriginRequest<'_>) -> Vec<&Arc<Server>> {
        let path = request.path_and_query.split('?').next().unwrap_or_default();
        let places: Vec<_> = self.servers.iter().map(|server| &server.place).collect();
        let is_peer = |name: &str| places.iter().any(|place| place.role == Role::Peer && place.name == name);
        let alone = !request.shared || came_through(&request.headers, is_peer);
        let me = (!alone).then_some(&*self.me);
        choice::order(&places, path, me).into_iter().map(|at| &self.servers[at]).collect()
    }

    /// The first answer of `ways` that `fits` and is none of a server in trouble; without one, the last answer, or what
    /// failed last. Each is asked once at most, a second one only where asking twice changes nothing. When all are out
    /// they are asked all the same.
    async fn first(
        &self,
        mut request: OriginRequest<'_>,
        ways: &[&Arc<Server>],
        fits: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, FetchError> {
        let (began, hold) = (Instant::now(), request.hold);
        let until =
            began + hold.map_or(self.first_byte, |hold| (hold.longest() + self.one_try * 2).max(self.first_byte));
        let mut body = std::mem::take(&mut request.body);
        let repeatable = body.0.is_none() && matches!(request.method, Method::GET | Method::HEAD);
        let mut result = Err(FetchError::Unserved);
        let mut passed_over: Option<&Arc<Server>> = None;
        let mut asked = Asked::default();
        for desperate in [false, true] {
            // A peer that says so has asked them just now.
            if asked.others > 0 || result.as_ref().is_ok_and(|answer: &Answer| in_trouble(answer.status)) {
                break;
            }
            for (at, server) in ways.iter().enumerate() {
                let turn = asked.turn(server, desperate, repeatable);
                let left = until.saturating_duration_since(Instant::now());
                if turn == Turn::Leave || left.is_zero() {
                    continue;
                }
                if let Some(failed) = passed_over.replace(server) {
                    failed.passed_over();
                }
                let more = repeatable && ways[at + 1..].iter().any(|next| desperate || next.is_up());
                let limit = self.limit(server.place.role, hold, left, more);
                let seen = asked.count(server, &self.seen);
                let mut headers = request.headers.clone();
                if server.place.role != Role::Origin {
                    self.token.sign(&mut headers);
                }
                let leaves = !desperate && turn == Turn::Ask && (more || server.place.role == Role::Peer);
                let ask = Ask { request: &request, headers, body: std::mem::take(&mut body), turn, leaves };
                let answer = server.ask(ask, limit, seen).await;
                let is_last_word = answer.as_ref().is_ok_and(|(answer, failure)| {
                    // In trouble without a failure is who held it in vain: what is not there yet is nowhere.
                    let good = !in_trouble(answer.status) || failure.is_none();
                    good && *failure != Some(Failure::Refused) && fits(answer)
                });
                let failed = answer.as_ref().map_or(true, |(_, failure)| failure.is_some());
                result = match (result, answer) {
                    // An origin's word is more than none.
                    (Ok(before), Err(_)) => Ok(before),
                    (_, answer) => answer.map(|(answer, _)| answer),
                };
                if is_last_word || !repeatable {
                    return self.counted(result, &asked, failed);
                }
            }
        }
        self.counted(result, &asked, true)
    }

    /// How long one server is waited for: while there are others, not so long that nothing is left for them. Edges ask
    /// others themselves, and what is held is slow on purpose.
    fn limit(&self, role: Role, hold: Option<Hold>, left: Duration, more: bool) -> Duration {
        match (more || role == Role::Peer, hold) {
            (false, _) => left,
            (true, Some(hold)) => (hold.longest() + self.one_try).min(left),
            (true, None) if role != Role::Origin => (left / 2).max(self.one_try).min(left),
            (true, None) => self.one_try.min(left),
        }
    }

    fn counted(&self, result: Result<Answer, FetchError>, asked: &Asked, failed: bool) -> Result<Answer, FetchError> {
        if failed && asked.others > 0 && result.as_ref().map_or(true, |answer| answer.status.is_server_error()) {
            self.seen.failed.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// Counts since the last call.
    pub(crate) fn take_interval(&self) -> OriginInterval {
        OriginInterval {
            fetches: self.seen.fetches.swap(0, Ordering::Relaxed),
            failed: self.seen.failed.swap(0, Ordering::Relaxed),
            bytes: self.seen.bytes.swap(0, Ordering::Relaxed),
        }
    }

    /// Asks those that want it whether they work, until `shutdown`.
    pub(crate) async fn probe(&self, shutdown: CancellationToken) {
        let probes = self.servers.iter().filter_map(|server| Some((server, server.probe.as_ref()?)));
        let probes = join_all(probes.map(async |(server, probe)| {
            let mut ticks = tokio::time::interval(probe.every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                server.probe(probe).await;
            }
        }));
        tokio::select! {
            _ = probes => shutdown.cancelled().await,
            () = shutdown.cancelled() => {}
        }
    }
}

/// Who was asked for one answer.
#[derive(Default)]
struct Asked {
    peers: usize,
    /// Shields and origins.
    others: usize,
}

impl Asked {
    /// Whether `server` is asked next. What can't be asked twice tries nobody who is out.
    fn turn(&self, server: &Server, desperate: bool, repeatable: bool) -> Turn {
        match (server.place.role, desperate) {
            (Role::Peer, true) => Turn::Leave,
            (Role::Peer, _) if self.peers >= PEERS_ASKED_MAX => Turn::Leave,
            (_, true) => Turn::Ask,
            _ if repeatable => server.turn(),
            _ if server.is_up() => Turn::Ask,
            _ => Turn::Leave,
        }
    }

    /// Counts it; one fetch, however many servers.
    fn count(&mut self, server: &Server, seen: &Arc<Seen>) -> Option<Arc<Seen>> {
        if server.place.role == Role::Peer {
            self.peers += 1;
            return None;
        }
        if self.others == 0 {
            seen.fetches.fetch_add(1, Ordering::Relaxed);
        }
        self.others += 1;
        Some(seen.clone())
    }
}

/// Whether another server may do better.
const fn in_trouble(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

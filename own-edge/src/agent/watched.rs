//! What was counted beside a server: the log's lines, and the orders that came back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Counter, Gauge, counter, gauge};
use spillway_model::{Clock, Millis};
use spillway_wire::load::Directives;
use tokio::sync::Notify;

use super::ServerKind;
use super::config::AgentPlan;
use super::line::{Fetches, Line, Request, parse};
use crate::load::account::{CacheResult, Meter};
use crate::origin::OriginInterval;
use crate::serve::admit::{Admission, Order, Orders, SessionKey, Sessions, admit, closed};
use crate::serve::receive::sid;

/// Longer targets are not told apart by what they ask for.
const CONTENT_MAX_BYTES: usize = 1_024;

/// A server as the agent sees it; shared by the log's reader, the reports and the admin port.
pub(super) struct Watched {
    server: ServerKind,
    pub clock: Arc<dyn Clock>,
    pub meter: Meter,
    pub sessions: Sessions,
    pub orders: Orders,
    ceiling_bps: AtomicU64,
    /// Path of the page that the agent itself asks for.
    own_path: Option<String>,
    /// Bits out of the last measurement.
    bits_out_10s_bps: AtomicU64,
    fetches: AtomicU64,
    fetches_failed: AtomicU64,
    fetched_bytes: AtomicU64,
    /// Whether the log can be read, and if not, why.
    log: Mutex<Result<(), String>>,
    lines: Mutex<Lines>,
    /// An operator drains it here.
    drained: AtomicBool,
    stopping: AtomicBool,
    /// Orders may have changed.
    pub ordered: Notify,
    exported: Exported,
}

/// How lines were understood.
#[derive(Default)]
struct Lines {
    /// Some were, since the last measurement.
    understood: bool,
    /// The first that was not, since then.
    bad: Option<String>,
    /// None was in the last interval that had any.
    misread: Option<String>,
}

struct Exported {
    lines: [Counter; 4],
    behind: Gauge,
}

/// Labels of lines.
const TAKEN: usize = 0;
const OWN: usize = 1;
const BAD: usize = 2;
const LONG: usize = 3;

impl Watched {
    pub(super) fn new(plan: &AgentPlan, clock: Arc<dyn Clock>) -> Self {
        Self {
            server: plan.server,
            meter: Meter::new(clock.clone()),
            clock,
            sessions: Sessions::new(),
            orders: Orders::new(),
            ceiling_bps: AtomicU64::new(plan.ceiling_bps),
            own_path: plan.statistics.as_ref().map(|page| page.prefix.clone()),
            bits_out_10s_bps: AtomicU64::new(0),
            fetches: AtomicU64::new(0),
            fetches_failed: AtomicU64::new(0),
            fetched_bytes: AtomicU64::new(0),
            log: Mutex::new(Err("the log has not been opened yet".into())),
            lines: Mutex::default(),
            drained: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            ordered: Notify::new(),
            exported: Exported {
                lines: ["taken", "own", "bad", "long"]
                    .map(|result| counter!("spillway_edge_agent_lines_total", "result" => result)),
                behind: gauge!("spillway_edge_agent_log_behind_bytes"),
            },
        }
    }

    /// Monotonic time.
    pub(super) fn now(&self) -> Millis {
        self.clock.monotonic()
    }

    /// Takes a line of the log; `None` is one that was too long.
    pub(super) fn line(&self, line: Option<&[u8]>) {
        let Some(line) = line else {
            self.exported.lines[LONG].increment(1);
            self.lines().bad.get_or_insert_with(|| "a line of the log is too long".into());
            return;
        };
        // nginx passes bytes on that are no UTF-8.
        let text = String::from_utf8_lossy(line);
        match parse(self.server, text.trim_end_matches('\r')) {
            Ok(line) => {
                self.lines().understood = true;
                match line {
                    Line::Request(request) if self.is_own(&request) => self.exported.lines[OWN].increment(1),
                    Line::Fetched(fetches) => self.fetched(fetches),
                    Line::Request(request) => self.served(&request),
                }
            }
            Err(error) => {
                self.exported.lines[BAD].increment(1);
                self.lines().bad.get_or_insert_with(|| format!("a line of the log: {error}"));
            }
        }
    }

    /// Whether it was the agent's look at the statistics: others may call themselves so, too, but ask for other things.
    fn is_own(&self, request: &Request<'_>) -> bool {
        let path = request.target.split('?').next().unwrap_or_default();
        request.user_agent.as_deref() == Some(super::USER_AGENT) && self.own_path.as_deref() == Some(path)
    }

    fn served(&self, request: &Request<'_>) {
        self.exported.lines[TAKEN].increment(1);
        self.fetched(request.fetches);
        self.meter.wrote(request.bytes_out);
        self.meter.answered(request.result, request.status);
        // As on an own edge: who was turned away is no viewer and fetched no content.
        if matches!(request.result, CacheResult::Refused | CacheResult::Invalid) {
            return;
        }
        let session = self.session(request);
        self.sessions.served(session, self.now());
        let path = if request.target.len() <= CONTENT_MAX_BYTES { &*request.target } else { "/other/" };
        self.meter.delivered(path, request.bytes_out);
    }

    fn session(&self, request: &Request<'_>) -> SessionKey {
        let query = request.target.split_once('?').map(|(_, query)| query);
        let sid = sid(query, request.cmcd_session.as_deref());
        self.sessions.key(request.client, sid.as_deref(), request.user_agent.as_deref().map(str::as_bytes))
    }

    fn fetched(&self, fetches: Fetches) {
        self.fetches.fetch_add(fetches.fetches, Ordering::Relaxed);
        self.fetches_failed.fetch_add(fetches.failed, Ordering::Relaxed);
        self.fetched_bytes.fetch_add(fetches.bytes, Ordering::Relaxed);
    }

    /// Origin traffic since the last call.
    pub(super) fn take_origin(&self) -> OriginInterval {
        OriginInterval {
            fetches: self.fetches.swap(0, Ordering::Relaxed),
            failed: self.fetches_failed.swap(0, Ordering::Relaxed),
            bytes: self.fetched_bytes.swap(0, Ordering::Relaxed),
        }
    }

    /// The log can be read, or not.
    pub(super) fn log_is(&self, state: Result<(), String>) {
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// So much of the log was written and isn't read yet.
    pub(super) fn log_behind(&self, bytes: u64) {
        self.exported.behind.set(bytes as f64);
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the log can be read and is understood; then, whether there was a line since the last call.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn log_is_read(&self) -> Result<bool, String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let mut lines = self.lines();
        // One odd line among others silences nobody.
        let (understood, bad) = (std::mem::take(&mut lines.understood), lines.bad.take());
        let any = understood || bad.is_some();
        if any {
            lines.misread = bad.filter(|_| !understood);
        }
        lines.misread.clone().map_or(Ok(any), Err)
    }

    /// Bits out as they were just measured.
    pub(super) fn measured(&self, bits_out_10s_bps: u64) {
        if self.bits_out_10s_bps.swap(bits_out_10s_bps, Ordering::Relaxed) != bits_out_10s_bps {
            self.ordered.notify_one();
        }
    }

    /// Bits out that the node may carry.
    pub(super) fn ceiling_bps(&self) -> u64 {
        self.ceiling_bps.load(Ordering::Relaxed)
    }

    /// From now on it may carry so much.
    pub(super) fn carries(&self, ceiling_bps: u64) {
        self.ceiling_bps.store(ceiling_bps, Ordering::Relaxed);
        self.ordered.notify_one();
    }

    fn has_room(&self) -> bool {
        self.bits_out_10s_bps.load(Ordering::Relaxed) < self.ceiling_bps()
    }

    /// An orchestrator answered.
    pub(super) fn obey(&self, directives: &Directives) {
        if self.orders.take(directives, self.now()) {
            self.ordered.notify_one();
        }
    }

    /// An operator drains it, or not any more.
    pub(super) fn drain(&self, drained: bool) {
        self.drained.store(drained, Ordering::Relaxed);
        self.ordered.notify_one();
    }

    /// The process ends.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_drained_here(&self) -> bool {
        self.drained.load(Ordering::Relaxed) || self.stopping.load(Ordering::Relaxed)
    }

    /// Whether no new sessions should come: by an operator's word, an order, or because the process ends.
    pub(super) fn is_draining(&self) -> bool {
        self.is_drained_here() || self.orders.current(self.now()).drain
    }

    /// The order in force, and why new sessions are not to be served, if they aren't.
    pub(super) fn standing(&self) -> (Arc<Order>, Option<&'static str>) {
        let order = self.orders.current(self.now());
        let closed = closed(&order, self.is_drained_here(), || self.has_room());
        (order, closed)
    }

    /// What becomes of a request; one that is admitted begins its session.
    pub(super) fn admission(&self, request: &Request<'_>) -> Admission {
        let (now, session) = (self.now(), self.session(request));
        let order = self.orders.current(now);
        admit(&self.sessions, session, &order, self.is_drained_here(), || self.has_room(), now)
    }
}

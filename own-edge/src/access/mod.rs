//! The access log: a line for each request that was understood, on its way to a collector, to a file, or to both.
//!
//! A request leaves what it has anyway; all else (CMCD, JSON, sending) is done by the log's own task. What does not fit
//! into its queue is dropped and counted: a viewer never waits for a log.

mod file;

use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http::Version;
use spillway_model::{Clock, Millis, NodeId, ViewId};
use spillway_routing::share_of;
use spillway_service::config::ConfigError;
use spillway_service::posting::{self, Outbox, Poster, Posting};
use spillway_wire::cmcd;
use spillway_wire::delivery::Delivery;
use spillway_wire::rows;

use crate::load::account::CacheResult;
use crate::plan::Plan;
use crate::serve::admit::SessionKey;
use crate::serve::receive::Asked;
use crate::serve::reply::Reply;
use file::FileLog;

/// Lines that may wait, some 500 bytes each: several seconds of a busy edge's requests.
const QUEUE_ROWS: usize = 65_536;
/// Salt of the share that is logged: a session is logged by every edge or by none.
const SALT: &str = "delivery";

/// The log of an edge.
pub(crate) struct AccessLog {
    sinks: Sinks,
    clock: Arc<dyn Clock>,
    share_ppm: u32,
}

/// Where lines go.
#[derive(Clone)]
struct Sinks {
    collectors: Option<Outbox<Arc<Line>>>,
    file: Option<FileLog<Arc<Line>>>,
}

/// What writes lines out, and is to end after the last of them.
#[derive(Default)]
pub(crate) struct Writers {
    poster: Option<Poster>,
    file: Option<JoinHandle<()>>,
}

impl Writers {
    /// Waits for the last lines; call it when nobody makes any more.
    pub(crate) async fn finish(self, within: Duration) {
        if let Some(poster) = self.poster {
            poster.finish(within).await;
        }
        if let Some(file) = self.file {
            let joined = tokio::task::spawn_blocking(move || file.join());
            let _ = tokio::time::timeout(within, joined).await;
        }
    }
}

/// A request that is being answered; what is known of it is logged when this goes.
pub(crate) struct Open {
    sinks: Sinks,
    clock: Arc<dyn Clock>,
    began: Millis,
    line: Option<Line>,
    /// Bytes of the body that were handed to the client's connection.
    pub bytes: u64,
}

struct Line {
    delivered_ms: u64,
    address: IpAddr,
    target: String,
    /// Of the four CMCD headers those that came, in the order of their names.
    cmcd: Vec<(&'static str, Box<[u8]>)>,
    sid: Option<String>,
    status: u16,
    result: CacheResult,
    version: Version,
    bytes: u64,
    ttfb_ms: u64,
    duration_ms: u64,
}

impl AccessLog {
    /// The log, where the configuration wants one, and what writes it.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for a file that can't be written.
    pub(crate) fn start(
        plan: &Plan,
        service_token: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<(Option<Self>, Writers), ConfigError> {
        let mut writers = Writers::default();
        let (pathway, share_ppm) = (plan.pathway.to_string(), plan.deliveries_share_ppm);
        let sample_rate = (share_ppm < 1_000_000).then(|| f64::from(share_ppm) / 1e6);
        let json = move |line: Arc<Line>| {
            let row = Delivery { pathway: Some(pathway.clone()), sample_rate, ..line.delivery() };
            serde_json::to_vec(&row).expect("texts and numbers")
        };
        let collectors = (!plan.collectors.is_empty()).then(|| {
            let source = NodeId::new(plan.pathway.as_str()).expect("a pathway's id is an id");
            let posting = Posting {
                collectors: plan.collectors.clone(),
                service_token: service_token.to_owned(),
                table: "deliveries",
                first_seq: clock.now().0,
                queue_rows: QUEUE_ROWS,
                target: Box::new(move |seq| rows::target("deliveries", &source, seq)),
                rejected: rows::rejected_rows,
            };
            let (outbox, poster) = posting::start(posting, json.clone());
            writers.poster = Some(poster);
            outbox
        });
        let file = match &plan.access_log {
            Some(path) => {
                let (log, thread) = file::start(path, QUEUE_ROWS, json).map_err(|error| {
                    let valid = format!("a file to append to; {error}");
                    ConfigError::invalid("edge.access_log", path.display(), valid)
                })?;
                writers.file = Some(thread);
                Some(log)
            }
            None => None,
        };
        let wanted = (collectors.is_some() || file.is_some()) && share_ppm > 0;
        Ok((wanted.then(|| Self { sinks: Sinks { collectors, file }, clock, share_ppm }), writers))
    }

    /// Opens a line for an answer that began, unless its session is not among those logged. What another edge gets is
    /// no delivery: that edge logs it.
    pub(crate) fn open(&self, asked: Asked, began: Millis, reply: &mut Reply) {
        let Some(result) = reply.result else { return };
        if asked.session == SessionKey::NONE {
            return;
        }
        let place = asked.sid.as_deref().map_or_else(|| asked.session.share_ppm(), |sid| share_of(sid, SALT));
        if place >= self.share_ppm {
            return;
        }
        let header = |name: &'static str| Some((name, asked.fields.headers.get(name)?.as_bytes().into()));
        let line = Line {
            delivered_ms: 0,
            address: asked.client,
            cmcd: cmcd::HEADERS.into_iter().filter_map(header).collect(),
            target: asked.target().to_owned(),
            sid: asked.sid,
            status: reply.status.as_u16(),
            result,
            version: asked.version,
            bytes: 0,
            ttfb_ms: self.clock.monotonic().saturating_sub(began).0,
            duration_ms: 0,
        };
        let open =
            Open { sinks: self.sinks.clone(), clock: Arc::clone(&self.clock), began, line: Some(line), bytes: 0 };
        reply.body.log(open);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(mut line) = self.line.take() {
            line.bytes = self.bytes;
            line.delivered_ms = self.clock.now().0;
            line.duration_ms = self.clock.monotonic().saturating_sub(self.began).0;
            let line = Arc::new(line);
            if let Some(collectors) = &self.sinks.collectors {
                collectors.push(line.clone());
            }
            if let Some(file) = &self.sinks.file {
                file.push(line);
            }
        }
    }
}

impl Line {
    fn delivery(&self) -> Delivery {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query)),
            None => (self.target.clone(), None),
        };
        let header = |name: &str| self.cmcd.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value);
        // A record that can't be read costs itself, not the delivery.
        let record = cmcd::parse_request(query, header).unwrap_or_else(|error| {
            metrics::counter!("spillway_edge_cmcd_unreadable_total", "reason" => error.reason()).increment(1);
            None
        });
        let mut row = Delivery {
            delivered_ms: self.delivered_ms,
            address: Some(self.address.to_string()),
            path: Some(path),
            status: Some(self.status),
            bytes: Some(self.bytes),
            ttfb_ms: Some(self.ttfb_ms),
            duration_ms: Some(self.duration_ms),
            cache_status: Some(self.result.as_str().to_owned()),
            protocol: Some(protocol(self.version).to_owned()),
            view_id: self.sid.clone().filter(|sid| ViewId::new(sid).is_ok()),
            cmcd: record.map(|record| record.pairs()).unwrap_or_default(),
            ..Delivery::default()
        };
        // The collector does so too; here it is never sent.
        let address = row.address.take();
        row.scrub();
        row.address = address;
        row
    }
}

const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_3 => "HTTP/3",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

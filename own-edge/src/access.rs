//! The access log: a line for each request that was understood, on its way to a collector.
//!
//! A request leaves what it has anyway; all else (CMCD, JSON, sending) is done by the log's own task. What does not fit
//! into its queue is dropped and counted: a viewer never waits for a log.

use std::net::IpAddr;
use std::sync::Arc;

use http::Version;
use spillway_model::{Clock, Millis, NodeId, ViewId};
use spillway_routing::share_of;
use spillway_service::posting::{self, Outbox, Poster, Posting};
use spillway_wire::cmcd;
use spillway_wire::delivery::Delivery;
use spillway_wire::rows;

use crate::account::CacheResult;
use crate::admit::SessionKey;
use crate::config::Plan;
use crate::receive::Asked;
use crate::reply::Reply;

/// Lines that may wait, some 500 bytes each: several seconds of a busy edge's requests.
const QUEUE_ROWS: usize = 65_536;
/// Salt of the share that is logged: a session is logged by every edge or by none.
const SALT: &str = "delivery";

/// The log of an edge.
pub(crate) struct AccessLog {
    outbox: Outbox<Line>,
    clock: Arc<dyn Clock>,
    share_ppm: u32,
}

/// A request that is being answered; what is known of it is logged when this goes.
pub(crate) struct Open {
    outbox: Outbox<Line>,
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
    /// The log, where the configuration names collectors, and the task that posts it.
    pub(crate) fn start(plan: &Plan, service_token: &str, clock: Arc<dyn Clock>) -> Option<(Self, Poster)> {
        if plan.collectors.is_empty() || plan.deliveries_share_ppm == 0 {
            return None;
        }
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
        let (pathway, share_ppm) = (plan.pathway.to_string(), plan.deliveries_share_ppm);
        let sample_rate = (share_ppm < 1_000_000).then(|| f64::from(share_ppm) / 1e6);
        let (outbox, poster) = posting::start(posting, move |line: Line| {
            let row = Delivery { pathway: Some(pathway.clone()), sample_rate, ..line.delivery() };
            serde_json::to_vec(&row).expect("texts and numbers")
        });
        Some((Self { outbox, clock, share_ppm }, poster))
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
        let header = |name: &'static str| Some((name, asked.headers.get(name)?.as_bytes().into()));
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
            Open { outbox: self.outbox.clone(), clock: Arc::clone(&self.clock), began, line: Some(line), bytes: 0 };
        reply.body.log(open);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(mut line) = self.line.take() {
            line.bytes = self.bytes;
            line.delivered_ms = self.clock.now().0;
            line.duration_ms = self.clock.monotonic().saturating_sub(self.began).0;
            self.outbox.push(line);
        }
    }
}

impl Line {
    fn delivery(self) -> Delivery {
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
            view_id: self.sid.filter(|sid| ViewId::new(sid).is_ok()),
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

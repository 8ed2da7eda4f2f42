//! Load reports, and the orders that come back. Nothing here is waited for by a request.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use spillway_model::limits::LOAD_REPORT_INTERVAL_MS;
use spillway_model::{Clock, GroupId, Millis};
use spillway_service::CancellationToken;
use spillway_wire::load::{Directives, LOAD_VERSION, LoadReport, OriginSeen, TitleLoad};
use tokio::time::MissedTickBehavior;

use crate::cache::disk::Disk;
use crate::cache::memory_files::MemoryFiles;
use crate::edge::Edge;
use crate::load::account::Interval;
use crate::load::outlook::Outlook;
use crate::load::process::{self, CpuTime};
use crate::origin::OriginInterval;
use crate::plan::Target;
use crate::video::prewarm;

/// An orchestrator that takes longer is missed, well before the next report.
const SEND_TIMEOUT: Duration = Duration::from_millis(1_500);
/// The last report, which says that the node goes, delays the end by no more.
const LAST_SEND_TIMEOUT: Duration = Duration::from_millis(500);
/// Reports between two looks for clients that can be forgotten.
const SWEEPS_EVERY: u64 = 30;
/// What the process takes beside bodies: itself, its connections, what the allocator holds back.
const OWN_BYTES: u64 = 40 * 1024 * 1024;
const ANSWER_MAX_BYTES: usize = 64 * 1024;
/// Intervals that the origin's state is taken from.
const ORIGIN_INTERVALS: usize = 5;

/// What load reports tell of: an own edge, or another's server that an agent watches.
pub(crate) trait Reported: Send {
    /// Time.
    fn clock(&self) -> Arc<dyn Clock>;
    /// A report that says who reports, and nothing yet of what is carried.
    fn introduction(&self) -> LoadReport;
    /// What was carried up to `at` and is used now; `None` where that can't be told, and then nothing is reported.
    fn measure(&mut self, at: Millis) -> impl Future<Output = Option<Measured>> + Send;
    /// A report is about to be sent.
    fn tell(&self, report: &LoadReport);
    /// An orchestrator answered.
    fn obey(&self, directives: Directives);
    /// The process ends.
    fn stop(&mut self);
}

/// One measurement.
pub(crate) struct Measured {
    /// Bytes out since the start.
    pub bytes_out: u64,
    pub bits_out_10s_bps: u64,
    /// Absent where seconds aren't told apart.
    pub outlook: Option<Outlook>,
    pub viewers: u64,
    pub connections: u64,
    pub interval: Interval,
    pub cpu_ppm: Option<u32>,
    pub memory_bytes: Option<u64>,
    pub disk_ppm: Option<u32>,
    pub origin: OriginInterval,
    /// Most watched titles, the most watched first; empty where none are known.
    pub top_titles: Vec<TitleLoad>,
    pub draining: bool,
}

/// Reports every 2 s until `shutdown`, and once more then.
pub(crate) async fn run(
    mut reported: impl Reported,
    orchestrators: &[Target],
    service_token: &str,
    shutdown: CancellationToken,
) {
    let mut reporter = Reporter::new(reported.clock());
    let mut recipients: Vec<Recipient> =
        orchestrators.iter().map(|target| Recipient::new(target, service_token)).collect();
    let mut ticks = tokio::time::interval(Duration::from_millis(LOAD_REPORT_INTERVAL_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        let last = tokio::select! {
            _ = ticks.tick() => false,
            () = shutdown.cancelled() => true,
        };
        if last {
            reported.stop();
        }
        if let Some(report) = reporter.next(&mut reported).await {
            let timeout = if last { LAST_SEND_TIMEOUT } else { SEND_TIMEOUT };
            let answers = futures::future::join_all(recipients.iter_mut().map(|to| to.send(&report, timeout))).await;
            for directives in answers.into_iter().flatten().filter(|_| !last) {
                reported.obey(directives);
            }
        }
        if last {
            return;
        }
    }
}

/// An own edge, reported on.
pub(crate) struct EdgeReported {
    edge: Arc<Edge>,
    cpu: Option<CpuTime>,
}

impl EdgeReported {
    pub(crate) async fn new(edge: Arc<Edge>) -> Self {
        let cpu = CpuTime::read(edge.now()).await;
        Self { edge, cpu }
    }
}

impl Reported for EdgeReported {
    fn clock(&self) -> Arc<dyn Clock> {
        self.edge.clock.clone()
    }

    fn introduction(&self) -> LoadReport {
        let plan = &self.edge.plan;
        LoadReport {
            pathway: plan.pathway.as_str().to_owned(),
            group: plan.group.as_ref().map(GroupId::as_str).map(str::to_owned),
            region: plan.region.as_str().to_owned(),
            base_url: plan.base_url.clone(),
            ceiling_bps: self.edge.terms().ceiling_bps,
            ..LoadReport::default()
        }
    }

    async fn measure(&mut self, at: Millis) -> Option<Measured> {
        let edge = &self.edge;
        if edge.is_retired() {
            // The pathway is there as before; its reports are the successor's.
            return None;
        }
        let cpu = CpuTime::read(at).await;
        let cpu_ppm = cpu.zip(self.cpu).and_then(|(now, before)| now.ppm_since(before));
        self.cpu = cpu;
        Some(Measured {
            bytes_out: edge.meter.bytes_out(),
            bits_out_10s_bps: edge.meter.bits_out_10s_bps(),
            outlook: edge.meter.outlook(),
            viewers: edge.sessions.viewers(at),
            connections: edge.meter.connections(),
            interval: edge.meter.take_interval(),
            cpu_ppm,
            memory_bytes: process::memory_bytes()
                .await
                .map(|own| own + edge.memory_files.as_ref().map_or(0, MemoryFiles::bytes)),
            disk_ppm: edge.disk.as_ref().map(Disk::used).and_then(|(used, size)| ratio_ppm(used, size)),
            origin: edge.origins.take_interval(),
            top_titles: edge.video.take_titles(),
            draining: edge.is_draining(),
        })
    }

    fn tell(&self, report: &LoadReport) {
        let LoadReport { bits_out_10s_bps, ceiling_bps, viewers, .. } = report;
        self.edge.advice.update(*bits_out_10s_bps, *ceiling_bps, *viewers);
        if report.seq.is_multiple_of(SWEEPS_EVERY)
            && let Some(rate) = &self.edge.terms().rate
        {
            rate.sweep();
        }
        if let (Some(files), Some(used)) = (&self.edge.memory_files, report.memory_bytes) {
            let plan = &self.edge.plan;
            files.allow((plan.memory_bytes + plan.fill_bytes as u64 + OWN_BYTES).saturating_sub(used));
        }
        self.edge.make_room();
        self.edge.metrics.store_bytes.set(self.edge.store.used_bytes() as f64);
        self.edge.metrics.memory_files.set(self.edge.memory_files.as_ref().map_or(0, MemoryFiles::bytes) as f64);
        self.edge.metrics.viewers.set(*viewers as f64);
        self.edge.prefetches.sweep(self.edge.now());
    }

    fn obey(&self, directives: Directives) {
        obey(&self.edge, directives);
    }

    fn stop(&mut self) {
        self.edge.stop();
    }
}

fn obey(edge: &Arc<Edge>, directives: Directives) {
    let before = edge.orders.current(edge.now());
    if !edge.orders.take(&directives, edge.now()) {
        return;
    }
    if (before.admit, before.drain) != (directives.admit, directives.drain) {
        let Directives { epoch, admit, drain, .. } = directives;
        tracing::info!(epoch, admit, drain, "orders changed");
    }
    prewarm::obey(edge, directives.prewarm);
}

/// Makes reports out of what was counted since the one before.
struct Reporter {
    clock: Arc<dyn Clock>,
    seq: u64,
    at: Millis,
    bytes_out: u64,
    origin: VecDeque<OriginInterval>,
    origin_state: &'static str,
}

impl Reporter {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let at = clock.monotonic();
        Self { clock, seq: 0, at, bytes_out: 0, origin: VecDeque::new(), origin_state: "unknown" }
    }

    async fn next(&mut self, reported: &mut impl Reported) -> Option<LoadReport> {
        let at = self.clock.monotonic();
        let measured = reported.measure(at).await?;
        let interval_ms = at.saturating_sub(self.at).0.max(1);
        let Measured { interval, origin, viewers, bits_out_10s_bps, .. } = measured;
        let report = LoadReport {
            v: LOAD_VERSION,
            seq: self.seq,
            sent_ms: self.clock.now().0,
            interval_ms,
            bits_out_bps: measured.bytes_out.saturating_sub(self.bytes_out).saturating_mul(8 * 1000) / interval_ms,
            bits_out_10s_bps,
            bits_out_p95_bps: measured.outlook.map(|outlook| outlook.p95_bps),
            bits_out_in_60s_bps: measured.outlook.map(|outlook| outlook.in_60s_bps),
            viewers,
            bits_per_viewer_bps: bits_out_10s_bps.checked_div(viewers).unwrap_or(0),
            connections: measured.connections,
            requests: interval.requests,
            requests_failed: interval.failed,
            hit_ratio_ppm: ratio_ppm(interval.hits, interval.requests),
            misses: Some(interval.misses),
            cpu_ppm: measured.cpu_ppm,
            memory_bytes: measured.memory_bytes,
            disk_ppm: measured.disk_ppm,
            origin: OriginSeen {
                state: self.origin_state(origin).to_owned(),
                fetches: origin.fetches,
                failed: origin.failed,
                bytes: origin.bytes,
            },
            top_content: interval.top_content,
            top_titles: measured.top_titles,
            draining: measured.draining,
            ..reported.introduction()
        };
        reported.tell(&report);
        self.seq += 1;
        self.at = at;
        self.bytes_out = measured.bytes_out;
        Some(report)
    }

    /// `failing` when half of the last 10 s' fetches failed; without fetches what it was.
    fn origin_state(&mut self, interval: OriginInterval) -> &'static str {
        self.origin.push_back(interval);
        if self.origin.len() > ORIGIN_INTERVALS {
            self.origin.pop_front();
        }
        let fetches: u64 = self.origin.iter().map(|interval| interval.fetches).sum();
        let failed: u64 = self.origin.iter().map(|interval| interval.failed).sum();
        if failed > 0 && failed * 2 >= fetches {
            self.origin_state = "failing";
        } else if fetches > 0 {
            self.origin_state = "up";
        }
        self.origin_state
    }
}

pub(crate) fn ratio_ppm(part: u64, whole: u64) -> Option<u32> {
    u32::try_from((part * 1_000_000).checked_div(whole)?).ok()
}

/// An orchestrator that reports go to.
struct Recipient {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: String,
    host: String,
    authorization: Option<HeaderValue>,
    /// Whether the last report was taken; `None` before the first.
    reached: Option<bool>,
}

impl Recipient {
    fn new(target: &Target, service_token: &str) -> Self {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {service_token}")).ok();
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Self {
            client: Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build_http(),
            uri: format!("http://{}{}/v1/loads", target.authority, target.prefix),
            host: target.authority.clone(),
            authorization,
            reached: None,
        }
    }

    /// Sends `report`; logs only when reaching it changes.
    async fn send(&mut self, report: &LoadReport, timeout: Duration) -> Option<Directives> {
        let result = match tokio::time::timeout(timeout, self.exchange(report)).await {
            Ok(result) => result,
            Err(_) => Err("no answer in time".to_owned()),
        };
        match (&result, self.reached) {
            (Ok(_), Some(false) | None) => tracing::info!(orchestrator = self.host, "load reports are taken"),
            (Err(error), Some(true) | None) => {
                tracing::warn!(orchestrator = self.host, error, "load reports are not taken");
            }
            _ => {}
        }
        self.reached = Some(result.is_ok());
        result.ok()
    }

    async fn exchange(&self, report: &LoadReport) -> Result<Directives, String> {
        let body = serde_json::to_vec(report).map_err(|error| error.to_string())?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.uri)
            .header(HOST, &self.host)
            .header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("status {status}"));
        }
        let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        let directives: Directives = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        if directives.v != LOAD_VERSION {
            return Err(format!("directives of version {} (valid: {LOAD_VERSION})", directives.v));
        }
        Ok(directives)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_fails_when_half_of_ten_seconds_failed_and_recovers_with_them() {
        let mut reporter = Reporter::new(Arc::new(spillway_service::SystemClock::new()));
        let mut state = |fetches, failed| reporter.origin_state(OriginInterval { fetches, failed, bytes: 0 });
        assert_eq!(state(0, 0), "unknown");
        assert_eq!(state(10, 0), "up");
        assert_eq!(state(5, 5), "up");
        assert_eq!(state(5, 5), "failing");
        assert_eq!(state(0, 0), "failing");
        for _ in 0..4 {
            state(0, 0);
        }
        assert_eq!(state(0, 0), "failing");
        assert_eq!(state(3, 0), "up");
    }

    #[test]
    fn a_ratio_of_nothing_is_unknown() {
        assert_eq!((ratio_ppm(0, 0), ratio_ppm(1, 3)), (None, Some(333_333)));
    }
}

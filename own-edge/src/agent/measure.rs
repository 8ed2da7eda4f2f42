//! One measurement of a server: its statistics, its processes and what its log said.
//!
//! Bits out are the interface's where one is named: that is what the ceiling is about, whole and as it leaves. Else
//! ATS's own counter, which counts as it writes, too. nginx and Varnish count a response at its end, in their logs and
//! (Varnish) in their counters alike: then a download that takes longer than ten seconds comes as a lump, right on
//! average, late by its length.

use std::path::PathBuf;
use std::sync::Arc;

use metrics::{Counter, Gauge, counter, gauge};
use spillway_model::{Clock, GroupId, Millis};
use spillway_service::Readiness;
use spillway_wire::load::{Directives, LoadReport};

use super::config::AgentPlan;
use super::flow::Flow;
use super::processes::{Processes, Wanted};
use super::statistics::{Reading, Statistics};
use super::unlogged::Unlogged;
use super::watched::Watched;
use crate::load::report::{Measured, Reported, ratio_ppm};

/// A server, reported on.
pub(super) struct Subject {
    watched: Arc<Watched>,
    introduction: LoadReport,
    statistics: Statistics,
    interface: Option<PathBuf>,
    cache_dir: Option<PathBuf>,
    flow: Flow,
    unlogged: Unlogged,
    wanted: Wanted,
    processes: Processes,
    readiness: Readiness,
    /// Whether the last measurement was one; `None` before the first.
    known: Option<bool>,
    stopped: bool,
    carried: Carried,
    exported: Exported,
}

/// What the last measurement said.
#[derive(Clone, Copy, Default)]
struct Carried {
    bytes_out: u64,
    bits_out_10s_bps: u64,
    connections: u64,
}

struct Exported {
    measured: Counter,
    failed: Counter,
    known: Gauge,
    connections: Gauge,
    viewers: Gauge,
}

impl Subject {
    pub(super) async fn new(plan: AgentPlan, watched: Arc<Watched>, readiness: Readiness) -> Self {
        let readings = |result: &'static str| counter!("spillway_edge_agent_readings_total", "result" => result);
        let mut subject = Self {
            statistics: Statistics::new(&plan),
            introduction: introduction(&plan),
            interface: plan.interface,
            cache_dir: plan.cache_dir,
            flow: Flow::default(),
            unlogged: Unlogged::default(),
            wanted: Wanted { pid_file: plan.pid_file, name: plan.process },
            processes: Processes::default(),
            readiness,
            known: None,
            stopped: false,
            carried: Carried::default(),
            exported: Exported {
                measured: readings("ok"),
                failed: readings("failed"),
                known: gauge!("spillway_edge_agent_server_known"),
                connections: gauge!("spillway_edge_connections"),
                viewers: gauge!("spillway_edge_viewers"),
            },
            watched,
        };
        // Counters and CPU time are told by their growth.
        let at = subject.watched.now();
        subject.look_at_processes(at).await;
        if let Ok(reading) = subject.statistics.read(at).await {
            let _ = subject.count_out(&reading, at).await;
        }
        subject
    }

    async fn read(&mut self, at: Millis) -> Result<Measured, String> {
        let cpu_ppm = self.look_at_processes(at).await;
        let reading = self.statistics.read(at).await?;
        let logged = self.watched.log_is_read();
        if let Err(error) = logged.and_then(|logged| self.unlogged.check(reading.requests, logged, at)) {
            if self.interface.is_none() && reading.bytes_out.is_none() {
                self.flow.begin_anew(self.watched.meter.bytes_out(), at);
            }
            return Err(error);
        }
        let (bytes_out, bits_out_10s_bps) = self.count_out(&reading, at).await?;
        // From here on the interval's counts are taken.
        let watched = &self.watched;
        watched.measured(bits_out_10s_bps);
        self.carried = Carried { bytes_out, bits_out_10s_bps, connections: reading.connections };
        Ok(Measured {
            bytes_out,
            bits_out_10s_bps,
            outlook: None,
            viewers: watched.sessions.viewers(at),
            connections: reading.connections,
            interval: watched.meter.take_interval(),
            cpu_ppm,
            memory_bytes: self.processes.memory_bytes,
            disk_ppm: self.cache_dir.as_ref().map_or(reading.disk_ppm, disk_ppm),
            origin: watched.take_origin(),
            top_titles: Vec::new(),
            draining: watched.is_draining(),
        })
    }

    /// A server that ends together with its agent can't be asked any more, and its end must be told the more.
    fn last_word(&self, at: Millis) -> Measured {
        let Carried { bytes_out, bits_out_10s_bps, connections } = self.carried;
        Measured {
            bytes_out,
            bits_out_10s_bps,
            outlook: None,
            viewers: self.watched.sessions.viewers(at),
            connections,
            interval: self.watched.meter.take_interval(),
            cpu_ppm: None,
            memory_bytes: None,
            disk_ppm: None,
            origin: self.watched.take_origin(),
            top_titles: Vec::new(),
            draining: true,
        }
    }

    /// Bytes out since the start, and the mean of the last 10 s.
    async fn count_out(&mut self, reading: &Reading, at: Millis) -> Result<(u64, u64), String> {
        let counter = match &self.interface {
            Some(path) => {
                let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
                let text = tokio::fs::read_to_string(path).await.map_err(|error| failed(&error))?;
                text.trim().parse().map_err(|error: std::num::ParseIntError| failed(&error))?
            }
            None => reading.bytes_out.unwrap_or_else(|| self.watched.meter.bytes_out()),
        };
        self.flow.read(counter, at);
        let mean = self.flow.bits_10s_bps().ok_or("bits out are known from the second reading on")?;
        Ok((self.flow.total(), mean))
    }

    async fn look_at_processes(&mut self, at: Millis) -> Option<u32> {
        let (wanted, before) = (self.wanted.clone(), self.processes.clone());
        let looked = tokio::task::spawn_blocking(move || Processes::look(&wanted, &before, at)).await.ok()?;
        let cpu_ppm = looked.cpu_ppm_since(&self.processes);
        self.processes = looked;
        cpu_ppm
    }
}

impl Reported for Subject {
    fn clock(&self) -> Arc<dyn Clock> {
        self.watched.clock.clone()
    }

    fn introduction(&self) -> LoadReport {
        LoadReport { ceiling_bps: self.watched.ceiling_bps(), ..self.introduction.clone() }
    }

    // No figure, no report: three missed ones are what the orchestrator takes a node for gone by, so that a page that
    // fails once or twice costs nothing. A report that says "draining" would be no help: it asks for minutes, and a
    // broken statistics page beside a server that serves would empty it. Gone, only a node whose probes fail is left.
    async fn measure(&mut self, at: Millis) -> Option<Measured> {
        let result = self.read(at).await;
        match (&result, self.known) {
            (Ok(_), Some(false) | None) => tracing::info!("the server's load is known"),
            (Err(error), Some(true) | None) => {
                tracing::warn!(error, "the server's load is not known");
            }
            _ => {}
        }
        let known = result.is_ok();
        let ends_together = self.stopped && self.known == Some(true);
        self.known = Some(known);
        self.readiness.set(known && !self.stopped);
        if !known {
            // Nobody is turned away because of a figure that isn't known.
            self.watched.measured(0);
        }
        self.exported.known.set(if known { 1.0 } else { 0.0 });
        if known { &self.exported.measured } else { &self.exported.failed }.increment(1);
        result.ok().or_else(|| ends_together.then(|| self.last_word(at)))
    }

    fn tell(&self, report: &LoadReport) {
        self.exported.connections.set(report.connections as f64);
        self.exported.viewers.set(report.viewers as f64);
    }

    fn obey(&self, directives: Directives) {
        self.watched.obey(&directives);
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.watched.stop();
    }
}

fn introduction(plan: &AgentPlan) -> LoadReport {
    LoadReport {
        pathway: plan.identity.pathway.as_str().to_owned(),
        group: plan.identity.group.as_ref().map(GroupId::as_str).map(str::to_owned),
        region: plan.identity.region.as_str().to_owned(),
        base_url: plan.identity.base_url.clone(),
        ..LoadReport::default()
    }
}

/// Use of the file system that `dir` lies on: counting a cache's files would take longer than an interval.
fn disk_ppm(dir: &PathBuf) -> Option<u32> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    ratio_ppm(disk.f_blocks.saturating_sub(disk.f_bfree), disk.f_blocks)
}

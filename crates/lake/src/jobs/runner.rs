//! Runs jobs under the lease: one at a time, each when its interval is over, by whichever process is first.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use spillway_model::Clock;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::lease::{Claim, Lease, LeaseStore};
use super::{Job, JobContext, JobReport, Permit};
use crate::LakeError;

/// A lease is held for so long, ms. A crashed holder keeps others from the jobs for a minute, which harms nothing.
const TTL_MS: u64 = 60_000;
/// It is renewed so often: two renewals may fail.
const RENEW: Duration = Duration::from_secs(20);
/// A holder stops so long before the end of its lease, ms.
const MARGIN_MS: u64 = 5_000;
/// How often the timetable is looked at.
const TICK: Duration = Duration::from_secs(10);
/// A job that failed is tried again after this, or after its interval if that is shorter, ms.
const RETRY_MS: u64 = 5 * 60_000;

/// The lease's store, and who asks.
#[derive(Clone)]
pub struct Keeper {
    /// Where the record is.
    pub store: Arc<dyn LeaseStore>,
    /// Name of this process: no two may share it.
    pub who: String,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// A lease being held.
pub struct Held {
    keeper: Keeper,
    version: u64,
    lease: Lease,
    permit: Permit,
}

/// What came of asking for the lease.
pub enum Taken {
    /// Here it is.
    Mine(Held),
    /// Another has it.
    Others {
        /// Who.
        holder: String,
        /// Until when, ms since epoch.
        until_ms: u64,
    },
}

impl Keeper {
    /// Asks for the lease; `stop` ends the work under it.
    ///
    /// # Errors
    /// [`LakeError::Lease`] if the store fails.
    pub async fn take(&self, stop: &CancellationToken) -> Result<Taken, LakeError> {
        let started = self.clock.monotonic().0;
        let (version, found) = self.store.read().await?;
        let lease = match found.claim(&self.who, self.clock.now().0, TTL_MS) {
            Claim::Held { holder, until_ms } => return Ok(Taken::Others { holder, until_ms }),
            Claim::Write(lease) => lease,
        };
        let Some(version) = self.store.write(version, &lease).await? else {
            let (_, now) = self.store.read().await?;
            return Ok(Taken::Others { holder: now.holder, until_ms: now.until_ms });
        };
        let permit = Permit::new(started + TTL_MS - MARGIN_MS, stop.child_token());
        Ok(Taken::Mine(Held { keeper: self.clone(), version, lease, permit }))
    }

    /// Asks until the lease is there or `wait` is over.
    ///
    /// # Errors
    /// As [`Keeper::take`].
    pub async fn take_within(&self, stop: &CancellationToken, wait: Duration) -> Result<Taken, LakeError> {
        let until = self.clock.monotonic().0 + u64::try_from(wait.as_millis()).unwrap_or(u64::MAX / 2);
        loop {
            let taken = self.take(stop).await?;
            if matches!(taken, Taken::Mine(_)) || self.clock.monotonic().0 >= until {
                return Ok(taken);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

impl Held {
    /// The right to work under it.
    #[must_use]
    pub fn permit(&self) -> Permit {
        self.permit.clone()
    }

    /// When each job last succeeded.
    #[must_use]
    pub fn timetable(&self) -> &BTreeMap<String, u64> {
        &self.lease.last_ms
    }

    /// Does `work`, renewing the lease meanwhile; dropped at the lease's loss.
    ///
    /// # Errors
    /// The work's, or [`LakeError::Interrupted`].
    pub async fn run<T>(&mut self, work: impl Future<Output = Result<T, LakeError>>) -> Result<T, LakeError> {
        tokio::pin!(work);
        let permit = self.permit.clone();
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = permit.ended() => return Err(LakeError::Interrupted),
                () = tokio::time::sleep(RENEW) => self.renew().await,
            }
        }
    }

    async fn renew(&mut self) {
        let clock = Arc::clone(&self.keeper.clock);
        let started = clock.monotonic().0;
        let Claim::Write(lease) = self.lease.claim(&self.keeper.who, clock.now().0, TTL_MS) else { return };
        match self.keeper.store.write(self.version, &lease).await {
            Ok(Some(version)) => {
                (self.version, self.lease) = (version, lease);
                self.permit.renew(started + TTL_MS - MARGIN_MS);
            }
            Ok(None) => {
                tracing::warn!(who = self.keeper.who, "the lease of the lake's jobs was lost; the job is stopped");
                self.permit.end();
            }
            Err(error) => {
                tracing::warn!(%error, "the lease of the lake's jobs could not be renewed");
                if clock.monotonic().0 >= self.permit.until() {
                    self.permit.end();
                }
            }
        }
    }

    /// Gives it back, and notes a job's success (name, start in ms since epoch).
    pub async fn release(self, done: Option<(&str, u64)>) {
        match self.keeper.store.write(self.version, &self.lease.released(done)).await {
            Ok(Some(_)) => {}
            Ok(None) => tracing::warn!(who = self.keeper.who, "the lease of the lake's jobs was taken before its end"),
            Err(error) => {
                tracing::warn!(%error, "the lease of the lake's jobs could not be given back; it ends by itself")
            }
        }
    }
}

/// The job that is due for the longest time. A job that never ran is due at once.
fn due<'a>(jobs: &'a [Arc<dyn Job>], last_ms: &BTreeMap<String, u64>, now_ms: u64) -> Option<&'a Arc<dyn Job>> {
    let late = |job: &Arc<dyn Job>| {
        let interval_ms = u64::try_from(job.interval().as_millis()).unwrap_or(u64::MAX);
        let due_ms = last_ms.get(job.name()).map_or(0, |last| last.saturating_add(interval_ms));
        now_ms.checked_sub(due_ms)
    };
    // The first of equals: the order of `jobs` is the order of a lake's first runs.
    jobs.iter().rev().filter_map(|job| Some((late(job)?, job))).max_by_key(|(late, _)| *late).map(|(_, job)| job)
}

/// Runs `jobs` until `stop`, one at a time. `context` lends all but the permit.
pub async fn run_jobs(keeper: Keeper, jobs: Vec<Arc<dyn Job>>, context: JobContext, stop: CancellationToken) {
    let mut not_before: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut more = false;
    loop {
        if !more {
            // Also before the first look: a start has more urgent things to do.
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = stop.cancelled() => {}
            }
        }
        if stop.is_cancelled() {
            return;
        }
        let now_ms = keeper.clock.now().0;
        let ready: Vec<Arc<dyn Job>> =
            jobs.iter().filter(|job| not_before.get(job.name()).is_none_or(|at| *at <= now_ms)).cloned().collect();
        more = turn(&keeper, &ready, &context, &stop, &mut not_before).await;
    }
}

/// Runs the job of `jobs` that is due most, if one is and the lease is free; true if something ran.
pub async fn run_due(keeper: &Keeper, jobs: &[Arc<dyn Job>], context: &JobContext, stop: &CancellationToken) -> bool {
    turn(keeper, jobs, context, stop, &mut BTreeMap::new()).await
}

async fn turn(
    keeper: &Keeper,
    jobs: &[Arc<dyn Job>],
    context: &JobContext,
    stop: &CancellationToken,
    not_before: &mut BTreeMap<&'static str, u64>,
) -> bool {
    let now_ms = keeper.clock.now().0;
    let wanted = match keeper.store.read().await {
        Ok((_, lease)) => due(jobs, &lease.last_ms, now_ms).is_some(),
        Err(error) => {
            tracing::warn!(%error, "the timetable of the lake's jobs could not be read");
            false
        }
    };
    if !wanted {
        return false;
    }
    let mut held = match keeper.take(stop).await {
        Ok(Taken::Mine(held)) => held,
        Ok(Taken::Others { .. }) => return false,
        Err(error) => {
            tracing::warn!(%error, "the lease of the lake's jobs could not be taken");
            return false;
        }
    };
    // Another may have done it since.
    let Some(job) = due(jobs, held.timetable(), now_ms) else {
        held.release(None).await;
        return false;
    };
    let context = JobContext { permit: held.permit(), ..context.clone() };
    let started = keeper.clock.monotonic().0;
    let outcome = held.run(job.run(&context)).await;
    account(job.name(), &outcome, keeper.clock.monotonic().0 - started, now_ms);
    if outcome.is_err() {
        let interval_ms = u64::try_from(job.interval().as_millis()).unwrap_or(u64::MAX);
        not_before.insert(job.name(), now_ms.saturating_add(RETRY_MS.min(interval_ms)));
    }
    held.release(outcome.is_ok().then_some((job.name(), now_ms))).await;
    true
}

fn account(job: &'static str, outcome: &Result<JobReport, LakeError>, took_ms: u64, now_ms: u64) {
    metrics::histogram!("spillway_lake_job_seconds", "job" => job).record(took_ms as f64 / 1000.0);
    match outcome {
        Ok(report) => {
            metrics::counter!("spillway_lake_job_runs_total", "job" => job, "outcome" => "ok").increment(1);
            metrics::gauge!("spillway_lake_job_last_success_timestamp_seconds", "job" => job)
                .set(now_ms as f64 / 1000.0);
            metrics::counter!("spillway_lake_job_files_removed_total", "job" => job).increment(report.files_removed);
            metrics::counter!("spillway_lake_job_files_added_total", "job" => job).increment(report.files_added);
            metrics::counter!("spillway_lake_job_bytes_removed_total", "job" => job).increment(report.bytes_removed);
            metrics::counter!("spillway_lake_job_bytes_added_total", "job" => job).increment(report.bytes_added);
            for line in &report.lines {
                tracing::info!(job, line, "a lake job did its work");
            }
        }
        Err(LakeError::Interrupted) => {
            metrics::counter!("spillway_lake_job_runs_total", "job" => job, "outcome" => "interrupted").increment(1);
            tracing::info!(job, "a lake job was interrupted; it is done again");
        }
        Err(error) => {
            metrics::counter!("spillway_lake_job_runs_total", "job" => job, "outcome" => "failed").increment(1);
            tracing::error!(job, %error, "a lake job failed; it is tried again");
        }
    }
}

/// Jobs that run on a thread of their own.
pub struct JobsThread {
    stop: CancellationToken,
    done: oneshot::Receiver<()>,
}

/// Starts [`run_jobs`] on a thread and runtime of its own, so that a sort never holds up who takes beacons in. It ends
/// with `stop`.
///
/// # Errors
/// The system's, if there is no thread.
pub fn start(
    keeper: Keeper,
    jobs: Vec<Arc<dyn Job>>,
    context: JobContext,
    stop: CancellationToken,
) -> io::Result<JobsThread> {
    let (tell, done) = oneshot::channel();
    let stopped = stop.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("lake-jobs-worker")
        .enable_all()
        .build()?;
    std::thread::Builder::new().name("lake-jobs".into()).spawn(move || {
        runtime.block_on(run_jobs(keeper, jobs, context, stopped));
        runtime.shutdown_timeout(Duration::from_secs(1));
        let _ = tell.send(());
    })?;
    Ok(JobsThread { stop, done })
}

impl JobsThread {
    /// Stops the running job before its commit and waits for the end; false if that took longer than `within`. What a
    /// job had written until then is for vacuum.
    pub async fn stop(self, within: Duration) -> bool {
        self.stop.cancel();
        let ended = tokio::time::timeout(within, self.done).await.is_ok();
        if !ended {
            tracing::warn!("a lake job did not stop in time; what it had begun is for vacuum");
        }
        ended
    }
}

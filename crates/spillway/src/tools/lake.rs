//! `spillway lake …`: looks after the lake. What changes something runs under the lease of the lake's jobs, so it
//! waits for a job that is running.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;
use spillway_bus::DirStore;
use spillway_lake::jobs::runner::{Held, Keeper, Taken};
use spillway_lake::jobs::{
    Forgotten, Job, JobContext, JobReport, Subject, Vacuum, default_days, first_kept, forget, vacuum_replaced,
};
use spillway_lake::schema::TableName;
use spillway_lake::verify::{Report, WalOf, verify};
use spillway_lake::{LakeSession, TailSource};
use spillway_model::Clock;
use spillway_service::{CancellationToken, SystemClock};
use url::Url;

use crate::cli::lake::{Lake, LakeAction, LakeForget, LakeRun, LakeVerify, WalArgument};
use crate::config::Config;
use crate::lease::StoredLease;

/// How long rows of a forgotten view may take from a collector's WAL into the table.
const TAIL_WAIT: Duration = Duration::from_secs(60);

/// Does what was asked and prints what was done.
///
/// # Errors
/// A bad configuration, an unreadable lake, a lease that another holds, a `verify` that found a fault.
pub async fn run(arguments: &Lake) -> anyhow::Result<()> {
    match &arguments.action {
        LakeAction::Verify(arguments) => run_verify(arguments).await,
        LakeAction::Compact(arguments) => run_job(arguments, |config| Box::new(config.lake.compact())).await,
        LakeAction::Rewrite(arguments) => run_job(arguments, |config| Box::new(config.lake.rewrite())).await,
        LakeAction::Retain(arguments) => run_job(arguments, |config| Box::new(config.lake.retain())).await,
        LakeAction::Checkpoint(arguments) => run_job(arguments, |config| Box::new(config.lake.checkpoint())).await,
        LakeAction::Vacuum(arguments) => {
            let retention = Duration::from_secs(arguments.retention_hours * 3600);
            let job = |config: &Config| -> Box<dyn Job> {
                Box::new(Vacuum { retention, dry_run: arguments.dry_run, ..config.lake.vacuum() })
            };
            run_job(&arguments.run, job).await
        }
        LakeAction::Forget(arguments) => run_forget(arguments).await,
        LakeAction::Files(arguments) => super::lake_files::run(arguments).await,
        LakeAction::Import(arguments) => super::lake_import::run(arguments).await,
    }
}

/// A lake with the right to change it.
struct Kept {
    config: Config,
    root: Url,
    context: JobContext,
    held: Held,
}

async fn open(arguments: &LakeRun) -> anyhow::Result<Kept> {
    let config = Config::load(&arguments.config)?;
    let root = config.lake_root()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let store = DirStore::open(&config.store_dir()).context("open the store")?;
    let who = format!("spillway lake, process {}", std::process::id());
    let keeper = Keeper { store: Arc::new(StoredLease(Arc::new(store))), who, clock: Arc::clone(&clock) };
    let held = match keeper.take_within(&CancellationToken::new(), Duration::from_secs(arguments.wait_s)).await? {
        Taken::Mine(held) => held,
        Taken::Others { holder, until_ms } => {
            bail!(
                "{holder:?} runs a job on this lake until {until_ms} ms since epoch or longer; \
                 waited {} s for it (--wait-s)",
                arguments.wait_s
            )
        }
    };
    let context = config.job_context(&root, clock, held.permit());
    Ok(Kept { config, root, context, held })
}

async fn run_job(arguments: &LakeRun, job: impl FnOnce(&Config) -> Box<dyn Job>) -> anyhow::Result<()> {
    let mut kept = open(arguments).await?;
    let job = job(&kept.config);
    let started_ms = kept.context.now_ms();
    let done = kept.held.run(job.run(&kept.context)).await;
    kept.held.release(done.is_ok().then_some((job.name(), started_ms))).await;
    show(job.name(), &done?, arguments.json)
}

fn show(job: &str, report: &JobReport, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", json!({ "job": job, "report": report }));
        return Ok(());
    }
    for line in &report.lines {
        println!("{line}");
    }
    if report.lines.is_empty() {
        println!("{job}: nothing to do");
    }
    Ok(())
}

async fn run_verify(arguments: &LakeVerify) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    let now_ms = SystemClock::new().now().0;
    let days = |table: TableName| config.lake.retain().days.get(&table).copied().unwrap_or_else(|| default_days(table));
    let kept_from: BTreeMap<TableName, String> =
        TableName::ALL.into_iter().map(|table| (table, first_kept(now_ms, days(table)))).collect();
    let own = (config.collector.id.clone(), config.wal_dir());
    // A machine that only keeps the lake has no WAL of its own.
    let mut dirs: Vec<(String, PathBuf)> = Some(own).into_iter().filter(|(_, dir)| dir.is_dir()).collect();
    for WalArgument { collector, dir } in &arguments.wals {
        if !dir.is_dir() {
            bail!("--wal {collector}={} is not valid (valid: a collector's WAL folder)", dir.display());
        }
        dirs.retain(|(known, _)| known != collector);
        dirs.push((collector.clone(), dir.clone()));
    }
    let wal = |(collector, dir)| WalOf { dir, collector, kept_from: &kept_from };
    let wals: Vec<WalOf<'_>> = dirs.iter().map(|(collector, dir)| wal((collector, dir))).collect();
    let report = verify(&config.lake_root()?, &wals).await?;
    let faults = report.faults();
    if arguments.json {
        println!("{}", json!({ "clean": faults.is_empty(), "faults": faults, "report": report }));
    } else {
        print_verify(&report);
    }
    if !faults.is_empty() {
        bail!("the lake is not clean: {}", faults.join("; "));
    }
    Ok(())
}

fn print_verify(report: &Report) {
    for (table, collectors) in &report.collectors {
        for (collector, rows) in collectors {
            println!(
                "{table}: {} rows of {collector}, up to its record {} of {} committed",
                rows.rows, rows.last_wal_seq, rows.committed_seq
            );
        }
    }
    println!(
        "wal: {} records with {} rows, {} of them not committed yet; {} torn tails",
        report.wal_records, report.wal_rows, report.pending_rows, report.torn_tails
    );
    println!(
        "{} rows are repetitions, {} were forgotten, {} expired",
        report.duplicates, report.forgotten_rows, report.expired_rows
    );
    if report.faults().is_empty() {
        println!("clean");
    }
}

async fn run_forget(arguments: &LakeForget) -> anyhow::Result<()> {
    let subject = match (&arguments.view, &arguments.viewer) {
        (Some(view), _) => Subject::View(view.clone()),
        (None, Some(session)) => Subject::Session(session.clone()),
        (None, None) => bail!("whom to forget: --view ID or --viewer ID"),
    };
    let mut kept = open(&arguments.run).await?;
    let (root, config, context) = (kept.root.clone(), kept.config.clone(), kept.context.clone());
    let work = async {
        let forgotten = forget_all(&root, &config, &context, &subject, arguments.property.as_deref()).await?;
        let vacuumed = if arguments.vacuum_now { Some(vacuum_replaced(&context).await?) } else { None };
        Ok((forgotten, vacuumed))
    };
    let done = kept.held.run(work).await;
    kept.held.release(None).await;
    let ((forgotten, pending), vacuumed) = done?;
    if arguments.run.json {
        println!("{}", json!({ "forgotten": forgotten, "pending_rows": pending, "vacuum": vacuumed }));
    } else {
        print_forgotten(&forgotten, vacuumed.as_ref());
    }
    if pending > 0 {
        bail!(
            "{pending} rows are not in the table yet and were not deleted: run it again when their collector commits"
        );
    }
    Ok(())
}

/// Forgets, waits for rows that were not committed yet, and forgets those too; the rows that are left, and what was
/// deleted.
async fn forget_all(
    root: &Url,
    config: &Config,
    context: &JobContext,
    subject: &Subject,
    property: Option<&str>,
) -> Result<(Forgotten, u64), spillway_lake::LakeError> {
    let mut forgotten = Forgotten::default();
    let until = context.clock.monotonic().0 + u64::try_from(TAIL_WAIT.as_millis()).unwrap_or(0);
    loop {
        // The tail is asked first: what is committed between the two questions is found by the second.
        let pending = pending_rows(root, config, subject).await?;
        forgotten.add(forget(context, subject, property).await?);
        if pending == 0 || context.clock.monotonic().0 >= until {
            return Ok((forgotten, pending));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn pending_rows(root: &Url, config: &Config, subject: &Subject) -> Result<u64, spillway_lake::LakeError> {
    let tail =
        TailSource::Http { url: format!("http://{}", config.collector.listen), token: config.service_token.clone() };
    let session = LakeSession::open(root, vec![tail]).await?;
    for warning in session.warnings() {
        eprintln!("spillway: rows not yet committed can't be seen; if a collector holds some, run it again: {warning}");
    }
    let (column, id) = match subject {
        Subject::View(id) => ("view_id", id),
        Subject::Session(id) => ("session_id", id),
    };
    session.count(&format!("SELECT count(*) FROM events_tail WHERE {column} = '{}'", id.replace('\'', "''"))).await
}

fn print_forgotten(forgotten: &Forgotten, vacuumed: Option<&JobReport>) {
    println!("{} views", forgotten.views);
    for (table, rows) in &forgotten.rows {
        println!("{table}: deleted {rows} rows");
    }
    match vacuumed {
        Some(report) => println!("removed {} files from the disk", report.files_removed),
        None if forgotten.files > 0 => println!(
            "{} old files still hold the rows until vacuum removes them, 24 h from now; --vacuum-now does so at once, \
             and may fail queries that run now",
            forgotten.files
        ),
        None => {}
    }
    println!(
        "a collector's WAL may hold committed rows until its segment is full; they are never read into a table again"
    );
}

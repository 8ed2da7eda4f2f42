//! `spillway load freshness`: how long an acknowledged event takes to be seen by a query, with the collector's tail and in
//! the table alone.
//!
//! A marked beacon is sent; from then on the lake is opened anew again and again, as a dashboard would, until the mark is
//! seen. What is measured includes the query itself.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use serde_json::json;
use sketches_ddsketch::{Config as SketchConfig, DDSketch};
use spillway_lake::{LakeSession, TailSource};
use spillway_model::Clock as _;
use spillway_service::SystemClock;
use tokio::time::Instant;
use url::Url;

use crate::cli::LoadFreshness;
use crate::config::Config;

use super::client::{Connection, Target, Trust};
use super::template::{Beacon, Template};

/// Distance of two looks at the lake.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// A mark that is not in the table by then is a fault.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Distance of two marks: not a multiple of the commits' interval, so that every phase of it is met.
const MARK_INTERVAL: Duration = Duration::from_millis(370);

/// Where a mark is looked for.
#[derive(Clone)]
struct Place {
    root: Url,
    tails: Vec<TailSource>,
}

impl Place {
    /// Time from `sent` until the mark is seen.
    async fn seen(self, view_id: String, sent: Instant) -> anyhow::Result<f64> {
        let sql = format!("SELECT count(*) FROM events_raw WHERE view_id = '{view_id}'");
        while sent.elapsed() < GIVE_UP {
            let session = LakeSession::open(&self.root, self.tails.clone()).await?;
            if let Some(warning) = session.warnings().first() {
                bail!("{warning}");
            }
            if session.count(&sql).await? > 0 {
                return Ok(sent.elapsed().as_secs_f64());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        bail!("{view_id} was acknowledged and is not seen after {GIVE_UP:?}")
    }
}

/// Sends marks for the duration and prints the quantiles of both times.
///
/// # Errors
/// A collector that does not take the marks, and a mark that is never seen.
pub async fn run(arguments: &LoadFreshness) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    let root = config.lake_root()?;
    let key = &config.property.first().context("the configuration has no property, so no write key")?.write_key;
    let base = format!("http://{}", config.collector.listen);
    let trust = Trust { authorities: None, insecure: false };
    let target = Target::resolve(&format!("{base}{}", config.collector.path), key, trust, true).await?;
    let tail = TailSource::Http { url: base, token: config.service_token.clone() };
    let with_tail = Place { root: root.clone(), tails: vec![tail] };
    let table = Place { root, tails: Vec::new() };

    let clock = SystemClock::new();
    let template = Template::new(clock.now().0, 1, vec![String::from("cdn-a")]);
    let mut connection = Connection::default();
    let mut looking = tokio::task::JoinSet::new();
    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    for view in 0.. {
        if Instant::now() >= until {
            break;
        }
        let now_ms = clock.now().0;
        let mut body = Vec::new();
        template.write(&mut body, Beacon { view, first_seq: 0, created_ms: now_ms }, now_ms);
        let view_id = template.view_id(view);
        let sent = Instant::now();
        let answer = connection.post(&target, &view_id, Bytes::from(body), false).await?;
        if answer.status != 202 {
            bail!("the collector answered {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        // One after the other: the looks of many marks at a time would measure each other.
        let tail_s = with_tail.clone().seen(view_id.clone(), sent).await?;
        let table = table.clone();
        looking.spawn(async move { anyhow::Ok((tail_s, table.seen(view_id, sent).await?)) });
        tokio::time::sleep(MARK_INTERVAL).await;
    }
    let (mut tails, mut tables) = (sketch(), sketch());
    for seen in looking.join_all().await {
        let (tail_s, table_s) = seen?;
        tails.add(tail_s);
        tables.add(table_s);
    }
    let quantile = |sketch: &DDSketch, q: f64| {
        let value = sketch.quantile(q).ok().flatten().unwrap_or(f64::NAN);
        (value * 1e3).round() / 1e3
    };
    let said = json!({
        "marks": tails.count(),
        "tail_s_p50": quantile(&tails, 0.5),
        "tail_s_p99": quantile(&tails, 0.99),
        "table_s_p50": quantile(&tables, 0.5),
        "table_s_p99": quantile(&tables, 0.99),
    });
    println!("{}", if arguments.json { said.to_string() } else { format!("{said:#}") });
    Ok(())
}

fn sketch() -> DDSketch {
    DDSketch::new(SketchConfig::new(0.01, 2_048, 1e-3))
}

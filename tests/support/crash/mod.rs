//! Crash campaigns: the real collector under load, killed again and again at moments of choice, and at the end the
//! ledger of what was acknowledged against the table.
//!
//! [`watch`] knows the moments, [`fleet`] the processes, [`storage`] the S3 server, [`check`] compares.

mod check;
mod fleet;
mod storage;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use check::{Comparison, compare};
use fleet::{Collector, Load};
use storage::Storage;
use watch::{Point, Watch};

/// What to do.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The `spillway` binary.
    pub spillway: PathBuf,
    /// An empty folder for everything.
    pub dir: PathBuf,
    /// Kills.
    pub rounds: u64,
    /// Draws moments and order.
    pub seed: u64,
    /// Collectors on one table; with more than one, beacons that one does not take go to the other.
    pub collectors: usize,
    /// `moto_server`, if the table shall be on S3.
    pub moto_server: Option<PathBuf>,
    /// Beacons a second; each has 20 events.
    pub beacons_per_s: u32,
    /// Say on standard error what happens.
    pub talk: bool,
}

/// What came of a campaign.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Events that were acknowledged.
    pub acknowledged: u64,
    /// Different events in the table.
    pub stored: u64,
    /// Acknowledged and not in the table.
    pub lost: u64,
    /// Rows of the reading view `events` beyond one for each event.
    pub duplicated: u64,
    /// Rows of the table beyond one for each event; a view that moves between collectors may leave some.
    pub raw_duplicates: u64,
    /// Whether all of it is as it must be.
    pub good: bool,
    /// Everything, for people and programs.
    pub json: Value,
}

/// Beacons before the first kill, and between the last restart and the end.
const QUIET: Duration = Duration::from_millis(1_500);
/// A moment that does not come by then is not waited for: the kill then counts as `random`.
const MOMENT_MAX: Duration = Duration::from_secs(4);
/// A restarted collector must take beacons by then.
const START_MAX: Duration = Duration::from_secs(20);
/// A collector that is told to stop must have ended by then.
const STOP_MAX: Duration = Duration::from_secs(12);

/// Runs `campaign` to its end.
///
/// # Errors
/// A sentence, if a process does not start, does not stop, or says something that can't be read.
pub fn run(campaign: &Campaign) -> Result<Outcome, String> {
    let storage = Storage::start(campaign)?;
    let mut fleet: Vec<Collector> = Vec::new();
    for number in 0..campaign.collectors {
        fleet.push(Collector::start(campaign, &storage, number)?);
    }
    for collector in &mut fleet {
        collector.wait_until_ready(START_MAX)?;
    }
    let load = Load::start(campaign, &fleet)?;
    std::thread::sleep(QUIET);
    let mut random = Random(campaign.seed);
    let mut points: Vec<Point> = Vec::new();
    let mut kills: BTreeMap<&'static str, u64> = BTreeMap::new();
    for round in 0..campaign.rounds {
        if points.is_empty() {
            points = random.shuffled(&Point::ALL);
        }
        let wanted = points.pop().unwrap_or(Point::Random);
        let hit = kill(&mut fleet, &storage, wanted, round, &mut random)?;
        *kills.entry(hit.name()).or_default() += 1;
        if campaign.talk {
            eprintln!("round {}: killed at {}, {}", round + 1, hit.name(), storage.look(&fleet[0].wal_dir()));
        }
        for collector in &mut fleet {
            collector.restart_if_killed(&storage)?;
        }
        if hit == Point::Start {
            let pause = Duration::from_millis(random.below(250));
            std::thread::sleep(pause);
            for collector in &mut fleet {
                collector.kill()?;
                collector.restart_if_killed(&storage)?;
            }
        }
        for collector in &mut fleet {
            collector.wait_until_ready(START_MAX)?;
        }
    }
    std::thread::sleep(QUIET);
    let sent = load.stop(STOP_MAX)?;
    for collector in &mut fleet {
        collector.stop(STOP_MAX)?;
    }
    let compared = compare(campaign, &storage, &fleet[0])?;
    let verified: Vec<Value> =
        fleet.iter().map(|collector| check::verify(campaign, &storage, collector)).collect::<Result<_, _>>()?;
    Ok(outcome(campaign, &compared, &kills, &sent, verified))
}

/// Waits for `wanted` and kills whom it concerns; the moment that it was in truth.
fn kill(
    fleet: &mut [Collector],
    storage: &Storage,
    wanted: Point,
    round: u64,
    random: &mut Random,
) -> Result<Point, String> {
    // Some kills come before the first commit, some behind the second.
    std::thread::sleep(Duration::from_millis(300 + random.below(1_500)));
    let victim = usize::try_from(round).unwrap_or(0) % fleet.len();
    let wal = fleet[victim].wal_dir();
    let hit = match wanted {
        Point::Random | Point::Start => wanted,
        moment => {
            if Watch::new(storage, &wal, moment).wait(MOMENT_MAX) {
                moment
            } else {
                Point::Random
            }
        }
    };
    // Whose file it is that came into the table can't be told: all are killed.
    let all = matches!(hit, Point::Parquet | Point::DeltaLog | Point::Start) || random.below(4) == 0;
    for (number, collector) in fleet.iter_mut().enumerate() {
        if all || number == victim {
            collector.kill()?;
        }
    }
    Ok(hit)
}

fn outcome(
    campaign: &Campaign,
    compared: &Comparison,
    kills: &BTreeMap<&'static str, u64>,
    sent: &Value,
    verified: Vec<Value>,
) -> Outcome {
    let clean = verified.iter().all(|report| report["clean"] == true);
    // A single collector's memory spans its restarts: it stores nothing twice. Two don't know each other's.
    let raw_good = campaign.collectors > 1 || compared.raw_duplicates == 0;
    let whole = compared.acknowledged > 0 && compared.acknowledged == sent["events_acknowledged"];
    let good = whole && clean && raw_good && compared.lost.is_empty() && compared.duplicated + compared.wrong == 0;
    let lost = compared.lost.len() as u64;
    let json = json!({
        "acknowledged": compared.acknowledged,
        "stored": compared.stored,
        "lost": lost,
        "duplicated": compared.duplicated,
        "raw_duplicates": compared.raw_duplicates,
        "wrong": compared.wrong,
        "lost_examples": compared.lost.iter().take(10).collect::<Vec<_>>(),
        "rounds": campaign.rounds,
        "kills_by_point": kills,
        "collectors": campaign.collectors,
        "s3": campaign.moto_server.is_some(),
        "seed": campaign.seed,
        "load": sent,
        "verify": verified,
        "good": good,
    });
    Outcome {
        acknowledged: compared.acknowledged,
        stored: compared.stored,
        lost,
        duplicated: compared.duplicated,
        raw_duplicates: compared.raw_duplicates,
        good,
        json,
    }
}

/// A seeded sequence (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below.max(1)
    }

    fn shuffled(&mut self, points: &[Point]) -> Vec<Point> {
        let mut out = points.to_vec();
        for last in (1..out.len()).rev() {
            let with = usize::try_from(self.below(last as u64 + 1)).unwrap_or(0);
            out.swap(last, with);
        }
        out
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

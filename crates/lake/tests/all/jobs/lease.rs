//! One process at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use spillway_lake::LakeError;
use spillway_lake::jobs::lease::{Lease, LeaseStore, SKEW_MS};
use spillway_lake::jobs::runner::{Held, Keeper, Taken};
use spillway_lake::jobs::{Job, JobContext, JobReport};
use tokio_util::sync::CancellationToken;

use super::{Hand, NOON_MS, beat, compact_job, store};
use crate::support::Place;

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<(u64, Lease)>>);

#[async_trait]
impl LeaseStore for Memory {
    async fn read(&self) -> Result<(u64, Lease), LakeError> {
        Ok(self.0.lock().expect("lock").clone())
    }

    async fn write(&self, expected: u64, lease: &Lease) -> Result<Option<u64>, LakeError> {
        let mut record = self.0.lock().expect("lock");
        if record.0 != expected {
            return Ok(None);
        }
        *record = (expected + 1, lease.clone());
        Ok(Some(expected + 1))
    }
}

fn keeper(store: &Memory, who: &str, clock: &Hand) -> Keeper {
    Keeper { store: Arc::new(store.clone()), who: who.into(), clock: Arc::new(clock.clone()) }
}

async fn taken(keeper: &Keeper) -> Held {
    match keeper.take(&CancellationToken::new()).await.expect("store") {
        Taken::Mine(held) => held,
        Taken::Others { holder, .. } => panic!("{holder} has it"),
    }
}

#[tokio::test]
async fn the_second_waits_until_the_first_gives_it_back() {
    let (store, clock) = (Memory::default(), Hand::at(NOON_MS));
    let (a, b) = (keeper(&store, "a", &clock), keeper(&store, "b", &clock));
    let held = taken(&a).await;
    let refused = b.take_within(&CancellationToken::new(), Duration::ZERO).await.expect("store");
    assert!(matches!(refused, Taken::Others { holder, until_ms } if holder == "a" && until_ms == NOON_MS + 60_000));
    held.release(Some(("compact", NOON_MS))).await;
    assert_eq!(taken(&b).await.timetable()["compact"], NOON_MS);
}

#[tokio::test]
async fn a_holder_that_slept_through_its_lease_commits_nothing_and_takes_nothing_back() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    for seq in 0..10 {
        store(&log, beat("v", seq, NOON_MS)).await;
    }
    let (record, clock) = (Memory::default(), Hand::at(NOON_MS));
    let (a, b) = (keeper(&record, "a", &clock), keeper(&record, "b", &clock));
    let mut first = taken(&a).await;
    let context =
        |held: &Held| JobContext { clock: Arc::new(clock.clone()), permit: held.permit(), ..place.context(NOON_MS) };
    let sleeper = context(&first);
    clock.forward(60_000 + SKEW_MS + 1);
    let mut second = taken(&b).await;
    let error = first.run(compact_job().run(&sleeper)).await.expect_err("its time is over");
    assert!(matches!(error, LakeError::Interrupted), "{error}");
    first.release(None).await;
    assert_eq!(record.read().await.expect("read").1.holder, "b");
    let awake = context(&second);
    assert_eq!(second.run(compact_job().run(&awake)).await.expect("compact").files_removed, 10);
    assert_eq!(place.rows().await, 10);
}

/// Counts who is in at a time.
#[derive(Default)]
struct Counting {
    running: AtomicU64,
    most: AtomicU64,
    runs: AtomicU64,
}

struct Busy(&'static str, Arc<Counting>);

#[async_trait]
impl Job for Busy {
    fn name(&self) -> &'static str {
        self.0
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(3600)
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, LakeError> {
        let now = self.1.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.1.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        context.check()?;
        self.1.running.fetch_sub(1, Ordering::SeqCst);
        self.1.runs.fetch_add(1, Ordering::SeqCst);
        Ok(JobReport::default())
    }
}

#[tokio::test]
async fn two_runners_share_one_timetable_and_never_run_at_once() {
    let place = Place::new();
    let (store, clock, counting) = (Memory::default(), Hand::at(NOON_MS), Arc::new(Counting::default()));
    let jobs: Vec<Arc<dyn Job>> =
        ["one", "two", "three"].into_iter().map(|name| Arc::new(Busy(name, Arc::clone(&counting))) as _).collect();
    let runner = |who: &'static str| {
        let (keeper, jobs, context) = (keeper(&store, who, &clock), jobs.clone(), place.context(NOON_MS));
        async move {
            for _ in 0..20 {
                spillway_lake::jobs::runner::run_due(&keeper, &jobs, &context, &CancellationToken::new()).await;
                tokio::time::sleep(Duration::from_millis(7)).await;
            }
        }
    };
    tokio::join!(runner("a"), runner("b"));
    assert_eq!((counting.most.load(Ordering::SeqCst), counting.runs.load(Ordering::SeqCst)), (1, 3));
    clock.forward(3_600_000);
    tokio::join!(runner("a"), runner("b"));
    assert_eq!((counting.most.load(Ordering::SeqCst), counting.runs.load(Ordering::SeqCst)), (1, 6));
    let lease = store.read().await.expect("read").1;
    assert_eq!(lease.last_ms.values().collect::<Vec<_>>(), [&(NOON_MS + 3_600_000); 3]);
}

#[tokio::test]
async fn the_thread_ends_in_time_with_a_job_under_way() {
    struct Endless;
    #[async_trait]
    impl Job for Endless {
        fn name(&self) -> &'static str {
            "endless"
        }
        fn interval(&self) -> Duration {
            Duration::from_secs(1)
        }
        async fn run(&self, _: &JobContext) -> Result<JobReport, LakeError> {
            std::future::pending().await
        }
    }
    let place = Place::new();
    let (store, clock) = (Memory::default(), Hand::at(NOON_MS));
    let stop = CancellationToken::new();
    let (keeper, context) = (keeper(&store, "a", &clock), place.context(NOON_MS));
    let running = tokio::spawn({
        let (keeper, context, stop) = (keeper.clone(), context.clone(), stop.clone());
        async move { spillway_lake::jobs::runner::run_due(&keeper, &[Arc::new(Endless) as _], &context, &stop).await }
    });
    while store.read().await.expect("read").1.holder.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    assert!(running.await.expect("ends"), "it ran");
    assert_eq!(store.read().await.expect("read").1, Lease::default(), "given back, and nothing noted as done");

    let thread = spillway_lake::jobs::runner::start(keeper, vec![], context, CancellationToken::new()).expect("thread");
    assert!(thread.stop(Duration::from_secs(5)).await);
}

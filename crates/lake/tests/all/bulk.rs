//! Many events at once: what the jobs need for them.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use spillway_lake::events::to_arrow;
use spillway_lake::jobs::Job;
use spillway_lake::jobs::rollup::RollupJob;
use spillway_lake::jobs::views::ViewsJob;
use spillway_lake::schema::TableName;
use spillway_lake::table::Table;

use crate::support::{NOW_MS, Place};
use crate::viewing::{Player, counted, on, rows, run};

/// Events of one view.
const BEATS: u64 = 25;

/// Fills `events` with views that begin within three hours, some thousands at a time, as commits would.
async fn fill(place: &Place, events: u64) {
    let mut table = Table::open(&place.root, TableName::Events).await.expect("table");
    let (views, chunk) = (events / BEATS, 4_000);
    for first in (0..views).step_by(chunk as usize) {
        let batches: Vec<_> = (first..views.min(first + chunk))
            .flat_map(|view| {
                let mut player = Player::new(&format!("view-{view:08x}"), NOW_MS + view * 10_800_000 / views);
                (0..BEATS).map(move |beat| {
                    player.tell(beat * 10_000, "heartbeat", |event| {
                        event.counters = Some(counted(beat * 10_000, Some(500 + view % 3_000), (view % 7) * beat * 10));
                        event.pathways = [on("cdn-a", beat * 3, 0), on("cdn-b", beat, view % 7)].into();
                        event.throughput_kbps = Some(2_000 + view % 9_000);
                    })
                })
            })
            .collect();
        let plain = to_arrow(&batches).expect("arrow");
        let mut columns = plain.columns().to_vec();
        columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n("c1", plain.num_rows()))));
        columns.push(Arc::new(Int64Array::from_value(i64::try_from(first).expect("seq"), plain.num_rows())));
        let batch = RecordBatch::try_new(TableName::Events.schema(), columns).expect("batch");
        table.append(batch, "c1", first + 1).await.expect("append");
    }
}

/// Highest resident size of this process so far, MB.
fn resident_mb_max() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// `BULK_EVENTS=5000000 cargo nextest run --cargo-profile demo -p spillway-lake --run-ignored only --no-capture bulk`
#[tokio::test]
#[ignore = "takes minutes; it measures"]
async fn jobs_over_many_events_stay_small() {
    let events: u64 = std::env::var("BULK_EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let place = Place::new();
    fill(&place, events).await;
    println!("{events} events filled, resident {} MB at most", resident_mb_max());
    let now_ms = NOW_MS + 86_400_000;
    for job in [&ViewsJob as &dyn Job, &RollupJob] {
        let begun = std::fs::metadata("/proc/self/stat").and_then(|_| std::fs::read_to_string("/proc/self/stat"));
        let ticks = |stat: &str| -> u64 {
            stat.split_whitespace().skip(13).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
        };
        let before = ticks(&begun.expect("stat"));
        let written = run(&place, job, now_ms).await;
        let used = ticks(&std::fs::read_to_string("/proc/self/stat").expect("stat")) - before;
        println!("{}: {written} rows, {} s of CPU, resident {} MB at most", job.name(), used / 100, resident_mb_max());
    }
    assert!(resident_mb_max() < 1_024);
    let sql = "SELECT (SELECT count(*) FROM views), (SELECT sum(events) FROM rollup_1m)";
    assert_eq!(rows(&place, sql).await, [format!("{},{}", events / BEATS, events / BEATS * BEATS)]);
}

//! What the lake teaches decisions.

use arrow::array::RecordBatch;
use spillway_lake::LakeSession;
use spillway_lake::jobs::rollup::RollupJob;
use spillway_lake::jobs::views::ViewsJob;
use spillway_lake::learned::{
    bills, bits_per_view, growth_10min, hit_ratios, hourly_rates, network_windows, view_lengths,
};
use spillway_lake::records::{self, Decision};
use spillway_lake::schema::TableName;

use crate::support::{NOW_MS, Place};
use crate::viewing::{Player, counted, run, store};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const WEEK_MS: u64 = 7 * 24 * HOUR_MS;

/// `views` views of 25 windows from `begun_ms` on, each stalling by `stall_ms` a window, on `cdn-a`.
async fn audience(place: &Place, name: &str, begun_ms: u64, views: u64, stall_ms: u64) {
    let (log, _) = place.open("c1").await;
    for view in 0..views {
        let mut player = Player::new(&format!("{name}-{view}"), begun_ms);
        let mut told = vec![player.tell(0, "view_start", |_| ())];
        told.extend((0..=25).map(|beat| {
            player.tell(beat * 10_000, "heartbeat", |event| {
                let mut counters = counted(beat * 10_000, Some(700), beat * stall_ms);
                counters.bits_played = Some(beat * 30_000_000);
                event.counters = Some(counters);
            })
        }));
        store(&log, told).await;
    }
}

async fn session(place: &Place) -> LakeSession {
    LakeSession::open(&place.root, vec![]).await.expect("open")
}

#[tokio::test]
async fn an_hours_usual_rate_is_the_median_of_weeks_so_one_outage_does_not_teach() {
    let place = Place::new();
    // 2026-01-01 is a Thursday: hour 72 of the week. An outage in the week before the last.
    for (week, stall_ms) in [(0, 100), (1, 9_000), (2, 100)] {
        audience(&place, &format!("w{week}"), NOW_MS + week * WEEK_MS + 20 * MINUTE_MS, 9, stall_ms).await;
    }
    let now_ms = NOW_MS + 2 * WEEK_MS + HOUR_MS;
    run(&place, &RollupJob, now_ms).await;
    let session = session(&place).await;
    let rates = hourly_rates(&session, now_ms).await.expect("rates");
    let told: Vec<_> = rates.iter().map(|r| (r.pathway.as_str(), r.region.as_str(), r.hour_of_week, r.weeks)).collect();
    assert_eq!(told, [("cdn-a", "eu-a", 72, 3)]);
    assert!(rates[0].bad_rate < 1e-9, "{rates:?}");
    let later = hourly_rates(&session, now_ms + 4 * WEEK_MS).await.expect("rates");
    assert_eq!(later, [], "what is older than four weeks is forgotten");
}

#[tokio::test]
async fn what_a_network_did_long_ago_counts_less() {
    let place = Place::new();
    audience(&place, "old", NOW_MS, 4, 9_000).await;
    audience(&place, "new", NOW_MS + 24 * HOUR_MS, 4, 0).await;
    let now_ms = NOW_MS + 24 * HOUR_MS + 20 * MINUTE_MS;
    run(&place, &RollupJob, now_ms).await;
    let networks = network_windows(&session(&place).await, now_ms).await.expect("networks");
    let [network] = networks.as_slice() else { panic!("one network: {networks:?}") };
    assert_eq!((network.pathway.as_str(), network.asn), ("cdn-a", 64_500));
    let bad_share = network.bad_windows / network.windows;
    // Half of the windows were bad, a day ago: 1/e of them counts.
    assert!((bad_share - 0.269).abs() < 0.01, "{bad_share}");
}

#[tokio::test]
async fn demand_is_bits_per_time_watched_and_the_weeks_profile() {
    let place = Place::new();
    let then = NOW_MS + 2 * HOUR_MS;
    // A week ago 4 views watched around this time, and 8 ten minutes later.
    audience(&place, "before", then - 125_000, 4, 0).await;
    audience(&place, "after", then + 10 * MINUTE_MS - 125_000, 8, 0).await;
    let now_ms = then + WEEK_MS;
    audience(&place, "now", now_ms - 20 * MINUTE_MS, 4, 0).await;
    run(&place, &RollupJob, now_ms).await;
    run(&place, &ViewsJob, now_ms).await;
    let session = session(&place).await;
    let growth = growth_10min(&session, now_ms).await.expect("growth");
    assert_eq!(growth.len(), 1);
    assert!((growth[0].factor - 2.0).abs() < 0.05, "{growth:?}");
    let bits = bits_per_view(&session, now_ms).await.expect("bits");
    assert!(bits.len() == 1 && (bits[0].bits_per_s - 3e6).abs() < 1e3, "{bits:?}");
    let lengths = view_lengths(&session, now_ms).await.expect("lengths");
    let told: Vec<_> = lengths.iter().map(|l| (l.region.as_str(), l.stream_type.as_deref(), l.views)).collect();
    assert_eq!(told, [("eu-a", Some("live"), 12)], "those that began in the last week");
    assert_eq!((lengths[0].mean_ms, lengths[0].median_ms), (250_000.0, 250_000.0));
    assert_eq!(growth_10min(&session, 1_000).await.expect("no week before"), []);
}

/// Deliveries of `bytes` each, by (time, cache status).
async fn deliver(place: &Place, source: &str, bytes: u64, deliveries: &[(u64, &str)]) {
    let rows: Vec<serde_json::Value> = deliveries
        .iter()
        .map(|(at_ms, status)| {
            serde_json::json!({"delivered_ms": at_ms, "pathway": "cdn-b", "region": "eu-a", "bytes": bytes,
                               "cache_status": status, "requests": 1})
        })
        .collect();
    let batch = delivery_rows(source, &rows);
    spillway_lake::append(&place.root, TableName::Deliveries, batch, source, 1).await.expect("append");
}

fn delivery_rows(source: &str, rows: &[serde_json::Value]) -> RecordBatch {
    let lines: Vec<String> = rows
        .iter()
        .enumerate()
        .map(|(row, value)| {
            let mut value = value.clone();
            let at_ms = value["delivered_ms"].as_u64().expect("time");
            let day = if at_ms < NOW_MS + 24 * HOUR_MS { "2026-01-01" } else { "2026-01-02" };
            for (key, known) in [
                ("source", serde_json::json!(source)),
                ("batch_seq", 1.into()),
                ("row", row.into()),
                ("dt", day.into()),
                ("received_ms", at_ms.into()),
                ("format", "rows".into()),
                ("collector", "c1".into()),
                ("wal_seq", 1.into()),
            ] {
                value[key] = known;
            }
            value.to_string()
        })
        .collect();
    crate::support::from_json(TableName::Deliveries, &lines.join("\n"))
}

#[tokio::test]
async fn cold_caches_after_a_move_are_told_apart_from_warm_ones() {
    let place = Place::new();
    let moved_ms = NOW_MS + 2 * HOUR_MS;
    let epoch = |epoch, issued_ms, shares: &str| Decision {
        region: "eu-a".into(),
        epoch,
        issued_ms,
        policy: "p".into(),
        reason: String::new(),
        shares_json: shares.into(),
        state_json: "{}".into(),
    };
    let epochs = [epoch(1, NOW_MS, r#"{"cdn-a":1000000}"#), epoch(2, moved_ms, r#"{"cdn-a":500000,"cdn-b":500000}"#)];
    let batch = records::decisions(&epochs).expect("rows");
    spillway_lake::append(&place.root, TableName::Decisions, batch, "o1", 1).await.expect("append");
    let (cold, warm) = (moved_ms + MINUTE_MS, moved_ms + HOUR_MS);
    let deliveries = [(cold, "hit"), (cold, "miss"), (warm, "hit"), (warm, "hit"), (warm, "stale"), (warm, "miss")];
    deliver(&place, "edge-1", 20_000_000, &deliveries).await;
    let ratios = hit_ratios(&session(&place).await, warm + HOUR_MS).await.expect("ratios");
    let told: Vec<_> = ratios.iter().map(|r| (r.pathway.as_str(), r.warm, r.after_move)).collect();
    assert_eq!(told, [("cdn-b", 0.75, Some(0.5))]);
}

#[tokio::test]
async fn a_bill_counts_each_byte_once_whoever_told_of_it() {
    let place = Place::new();
    audience(&place, "v", NOW_MS, 4, 0).await;
    run(&place, &RollupJob, NOW_MS + HOUR_MS).await;
    // 4 views × 250 s × 3 Mbit/s are 375 MB as players say; the log of cdn-b knows of 2 × 600 MB in one slot.
    deliver(&place, "edge-1", 600_000_000, &[(NOW_MS, "hit"), (NOW_MS + 1, "miss")]).await;
    let now_ms = NOW_MS + 15 * 24 * HOUR_MS + 12 * HOUR_MS;
    let bills = bills(&session(&place).await, now_ms).await.expect("bills");
    let told: Vec<_> = bills.iter().map(|b| (b.pathway.as_str(), b.used_gb, b.profile)).collect();
    assert_eq!(told, [("cdn-a", 0.375, 0.5), ("cdn-b", 1.2, 0.5)], "half of January is over, and no month was before");
    assert_eq!(bills[1].highest_mbps, [32.0], "1.2 GB in 5 minutes");
    assert_eq!(bills[1].free_slots, 31 * 288 / 20);
    assert_eq!(bills[1].level(10.0), (10.0, 31 * 288 / 20 - 1));
}

//! Queries of the lake as it was.

use std::time::Duration;

use spillway_lake::{At, LakeSession};

use crate::support::{Place, append};

async fn count_at(place: &Place, at: &str, sql: &str) -> Result<u64, String> {
    let at = At::parse(&[at.to_owned()])?.expect("something");
    let session = LakeSession::open_at(&place.root, at, sql).await.map_err(|error| error.to_string())?;
    session.count(sql).await.map_err(|error| error.to_string())
}

/// Now, by the clock of the files.
fn now_ms(place: &Place) -> u64 {
    let probe = place.dir.path().join("probe");
    std::fs::write(&probe, "x").expect("written");
    let modified = std::fs::metadata(&probe).expect("there").modified().expect("a time");
    u64::try_from(modified.duration_since(std::time::UNIX_EPOCH).expect("later").as_millis()).expect("fits")
}

fn iso(ms: u64) -> String {
    At::Time(ms).to_string()
}

#[tokio::test]
async fn a_version_and_a_time_show_what_was_committed_by_then() {
    let place = Place::new();
    let before = now_ms(&place);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let (log, _) = place.open("c1").await;
    append(&log, "v", 0..3).await;
    log.commit().await.expect("commit");
    tokio::time::sleep(Duration::from_millis(20)).await;
    let between = now_ms(&place);
    tokio::time::sleep(Duration::from_millis(20)).await;
    append(&log, "v", 3..7).await;
    log.commit().await.expect("commit");
    append(&log, "v", 7..9).await;

    let all = "SELECT count(*) FROM events";
    for (at, rows) in [("0", 0), ("1", 3), ("2", 7), ("events=1", 3)] {
        assert_eq!(count_at(&place, at, all).await, Ok(rows), "{at}");
    }
    for (at_ms, rows) in [(before, 0), (between, 3), (between + 600_000, 7)] {
        assert_eq!(count_at(&place, &iso(at_ms), all).await, Ok(rows), "{}", iso(at_ms));
    }
    assert_eq!(count_at(&place, "1", "SELECT count(*) FROM events_raw JOIN events USING (seq)").await, Ok(3));
}

#[tokio::test]
async fn what_is_not_there_is_named_with_what_is() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    append(&log, "v", 0..3).await;
    log.commit().await.expect("commit");
    let error = count_at(&place, "5", "SELECT count(*) FROM events").await.expect_err("no such version");
    assert!(error.contains("table events has no version 5 (valid: 0 (20") && error.contains(" to 1 (20"), "{error}");
    let error = count_at(&place, "views=0", "SELECT count(*) FROM views").await.expect_err("no such table");
    assert!(error.contains("table views has no version 0") && error.contains("nobody has made the table"), "{error}");
    let both = "SELECT count(*) FROM events JOIN steers USING (view_id)";
    let error = count_at(&place, "1", both).await.expect_err("of which table");
    assert!(error.contains("events, steers") && error.contains("TABLE=VERSION"), "{error}");
    assert_eq!(count_at(&place, "events=1", both).await, Ok(0));

    // Entries that clean-up removed are no longer valid, and a time before them is told so.
    std::fs::remove_file(place.dir.path().join("lake/events/_delta_log/00000000000000000000.json")).expect("removed");
    let error = count_at(&place, "0", "SELECT count(*) FROM events").await.expect_err("gone");
    assert!(!error.is_empty());
}

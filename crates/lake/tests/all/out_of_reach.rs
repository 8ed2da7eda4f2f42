//! A collector that starts while its tables can't be reached.

use spillway_lake::verify::verify;

use crate::support::{Place, append};

impl Place {
    /// Puts the lake out of reach: its directory is a file.
    fn hide_lake(&self) {
        std::fs::rename(self.dir.path().join("lake"), self.dir.path().join("away")).expect("moved");
        std::fs::write(self.dir.path().join("lake"), "not a directory").expect("written");
    }

    fn show_lake(&self) {
        std::fs::remove_file(self.dir.path().join("lake")).expect("removed");
        std::fs::rename(self.dir.path().join("away"), self.dir.path().join("lake")).expect("moved");
    }
}

#[tokio::test]
async fn a_collector_starts_without_its_tables_and_stores_each_event_once_when_they_are_back() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    append(&log, "v", 0..5).await;
    log.commit().await.expect("commit");
    append(&log, "v", 5..7).await;
    drop(log);

    place.hide_lake();
    let (log, recovered) = place.open("c1").await;
    assert!(recovered.table_error.is_some());
    append(&log, "v", 7..9).await;
    log.commit().await.expect_err("the table is out of reach");
    place.show_lake();
    assert_eq!(place.stored(&[&log]).await, 9, "also before the first commit");
    while log.commit().await.expect("commit").more {}
    let report = verify(&place.root, &[]).await.expect("verify");
    assert_eq!((report.committed_rows, report.duplicates), (9, 0));
    assert_eq!(log.tail().stats().pending_rows, 0);
}

#[tokio::test]
async fn sequences_go_on_without_the_tables_though_everything_was_committed() {
    let place = Place::new();
    for seq in 0..3 {
        let (log, _) = place.open("c1").await;
        append(&log, "v", seq..seq + 1).await;
        log.commit().await.expect("commit");
    }
    // Starts at which nothing comes: old segments are trimmed, but for the newest.
    for _ in 0..2 {
        place.open("c1").await;
    }
    place.hide_lake();
    let (log, _) = place.open("c1").await;
    append(&log, "v", 3..4).await;
    place.show_lake();
    while log.commit().await.expect("commit").more {}
    assert_eq!(place.stored(&[]).await, 4);
}

#[tokio::test]
async fn a_first_start_needs_the_tables_because_sequences_could_be_taken_already() {
    let place = Place::new();
    drop(place.open("c1").await);
    place.hide_lake();
    let error = place.try_open("c2").await.err().expect("an empty wal and no table");
    assert!(error.to_string().contains("lake"), "{error}");
}

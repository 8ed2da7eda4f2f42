//! Queries see table and tail as one.

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use spillway_lake::append as append_rows;
use spillway_lake::baseline::baselines;
use spillway_lake::export::{self, Shape};
use spillway_lake::files::table_files;
use spillway_lake::records::{self, Decision, Drill};
use spillway_lake::schema::TableName;
use spillway_lake::{LakeSession, TailSource, format};

use crate::support::{NOW_MS, Place, append, heartbeat};

#[tokio::test]
async fn an_event_is_seen_once_in_the_tail_and_once_in_the_table() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    append(&log, "v", 0..4).await;
    log.commit().await.expect("commit");
    append(&log, "v", 4..6).await;
    let session = LakeSession::open(&place.root, vec![TailSource::Local(log.tail())]).await.expect("open");
    assert_eq!(session.count("SELECT count(*) FROM events").await.expect("count"), 6);
    assert_eq!(session.count("SELECT count(*) FROM events WHERE dt = '2025-12-31'").await.expect("count"), 6);
    assert_eq!(session.count("SELECT count(*) FROM events_tail").await.expect("count"), 2);
    let rows = session.query("SELECT * FROM events ORDER BY seq").await.expect("rows");
    let json = format::json_lines(&rows).expect("json");
    assert_eq!(json.lines().count(), 6);
    assert!(json.lines().next().expect("line").contains(r#""view_id":"v""#), "{json}");
}

#[tokio::test]
async fn the_same_event_from_two_collectors_is_one_event() {
    let place = Place::new();
    let ((a, _), (b, _)) = (place.open("c1").await, place.open("c2").await);
    append(&a, "v", 0..3).await;
    append(&b, "v", 1..4).await;
    a.commit().await.expect("commit");
    let tails = vec![TailSource::Local(a.tail()), TailSource::Local(b.tail())];
    let session = LakeSession::open(&place.root, tails).await.expect("open");
    assert_eq!(session.count("SELECT count(*) FROM events_raw").await.expect("count"), 6);
    assert_eq!(session.count("SELECT count(*) FROM events").await.expect("count"), 4);
    assert_eq!(place.stored(&[&a, &b]).await, 4);
}

#[tokio::test]
async fn an_empty_lake_answers_and_a_missing_tail_is_named() {
    let place = Place::new();
    let dead = TailSource::Http { url: "http://127.0.0.1:1".into(), token: "t".into() };
    let session = LakeSession::open(&place.root, vec![dead]).await.expect("open");
    assert_eq!(session.count("SELECT count(*) FROM events").await.expect("count"), 0);
    assert_eq!(session.count("SELECT count(*) FROM decisions").await.expect("count"), 0);
    assert!(session.warnings()[0].contains("http://127.0.0.1:1"), "{:?}", session.warnings());
}

#[tokio::test]
async fn a_query_cannot_change_anything() {
    let place = Place::new();
    let session = LakeSession::open(&place.root, vec![]).await.expect("open");
    for sql in ["DROP VIEW events", "CREATE TABLE t AS SELECT 1", "COPY events TO '/tmp/x.csv'", "SET a = 1"] {
        assert!(session.query(sql).await.is_err(), "{sql}");
    }
}

#[tokio::test]
async fn baselines_are_rates_of_bad_windows_by_pathway_and_region() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    // Two good windows and one with 5 % of stall on cdn-a; the window across the switch counts for nobody.
    for (seq, pathway, watched, stall) in
        [(0, "cdn-a", 0, 0), (1, "cdn-a", 10_000, 0), (2, "cdn-a", 20_000, 100), (3, "cdn-a", 30_000, 600)]
    {
        log.append(heartbeat("v", seq, pathway, watched, stall), 1).await.expect("append");
    }
    log.append(heartbeat("v", 4, "cdn-b", 40_000, 9_000), 1).await.expect("append");
    log.commit().await.expect("commit");
    log.append(heartbeat("v", 5, "cdn-b", 50_000, 9_000), 1).await.expect("append");
    let session = LakeSession::open(&place.root, vec![TailSource::Local(log.tail())]).await.expect("open");
    let found = baselines(&session, NOW_MS - 60_000, NOW_MS + 1).await.expect("baselines");
    let short: Vec<_> = found.iter().map(|b| (b.pathway.as_str(), b.region.as_str(), b.windows)).collect();
    assert_eq!(short, [("cdn-a", "eu-a", 3), ("cdn-b", "eu-a", 1)]);
    assert!((found[0].bad_rate - 1.0 / 3.0).abs() < 1e-9 && found[1].bad_rate.abs() < 1e-9, "{found:?}");
}

#[tokio::test]
async fn decisions_are_appended_exactly_once() {
    let place = Place::new();
    let decision = Decision {
        region: "eu-a".into(),
        epoch: 7,
        issued_ms: NOW_MS,
        reason: "cdn-a is DOWN".into(),
        ..Decision::default()
    };
    let rows = records::decisions(&[decision]).expect("rows");
    for _ in 0..2 {
        append_rows(&place.root, TableName::Decisions, rows.clone(), "orchestrator-1/eu-a", 7).await.expect("append");
    }
    let drill = records::drills(&[Drill { id: "d1".into(), ended_ms: NOW_MS, report_json: "{}".into() }]);
    append_rows(&place.root, TableName::Drills, drill.expect("rows"), "drill/d1", 1).await.expect("append");
    let session = LakeSession::open(&place.root, vec![]).await.expect("open");
    let rows = session.query("SELECT region, epoch, reason FROM decisions").await.expect("rows");
    assert_eq!(format::csv(&rows).expect("csv"), "region,epoch,reason\neu-a,7,cdn-a is DOWN\n");
    assert_eq!(session.count("SELECT count(*) FROM drills WHERE id = 'd1'").await.expect("count"), 1);
}

#[tokio::test]
async fn rows_are_written_while_they_come_in_every_shape() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    append(&log, "v", 0..4).await;
    log.commit().await.expect("commit");
    let session = LakeSession::open(&place.root, vec![]).await.expect("open");
    let sql = "SELECT view_id, seq, pathways FROM events ORDER BY seq";
    for (shape, none) in [(Shape::Csv, "view_id,seq,pathways\n"), (Shape::Json, "")] {
        let path = place.dir.path().join("out");
        let mut texts = Vec::new();
        for filter in ["", "WHERE seq < 0"] {
            let rows = session.stream(&sql.replace("ORDER", &format!("{filter} ORDER"))).await.expect("rows");
            let out = std::fs::File::create(&path).expect("file");
            assert_eq!(export::write(rows, shape, out).await.expect("write"), if filter.is_empty() { 4 } else { 0 });
            texts.push(std::fs::read_to_string(&path).expect("text"));
        }
        assert_eq!(texts[1], none);
        assert_eq!(texts[0].lines().count(), if shape == Shape::Csv { 5 } else { 4 }, "{}", texts[0]);
    }
    let path = place.dir.path().join("out.parquet");
    let rows = session.stream(sql).await.expect("rows");
    export::write(rows, Shape::Parquet, std::fs::File::create(&path).expect("file")).await.expect("write");
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&path).expect("file")).expect("parquet");
    let read: usize = reader.build().expect("reader").map(|batch| batch.expect("batch").num_rows()).sum();
    assert_eq!(read, 4);
}

#[tokio::test]
async fn the_file_list_is_what_a_query_reads() {
    let place = Place::new();
    assert_eq!(table_files(&place.root, TableName::Events).await.expect("list"), None);
    let (log, _) = place.open("c1").await;
    for seqs in [0..4, 4..6] {
        append(&log, "v", seqs).await;
        log.commit().await.expect("commit");
    }
    let listed = table_files(&place.root, TableName::Events).await.expect("list").expect("table");
    assert_eq!((listed.table, listed.version, listed.files.len()), ("events", 2, 2));
    let mut rows = 0;
    for file in &listed.files {
        let opened = std::fs::File::open(&file.path).expect("an absolute path");
        assert_eq!(file.bytes, opened.metadata().expect("metadata").len());
        assert_eq!(file.partition["dt"].as_deref(), Some("2025-12-31"));
        let reader = ParquetRecordBatchReaderBuilder::try_new(opened).expect("parquet").build().expect("reader");
        rows += reader.map(|batch| batch.expect("batch").num_rows() as u64).sum::<u64>();
    }
    assert_eq!((rows, listed.files.iter().filter_map(|file| file.rows).sum()), (6, 6));
}

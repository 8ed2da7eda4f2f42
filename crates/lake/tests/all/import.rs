//! Logs of CDNs, into the table.

use std::fmt::Write as _;
use std::sync::Arc;

use spillway_lake::LakeSession;
use spillway_lake::import::{
    Delivered, ImportError, ImportOptions, LogFormat, Outcome, Summary, hash_of, import, is_there,
};
use spillway_wire::delivery::Delivery;

use crate::support::{NOW_MS, Place};

fn options(format: LogFormat) -> ImportOptions {
    let complete = |row: &mut Delivery| {
        if row.host.as_deref() == Some("a.example") {
            row.pathway = Some("cdn-a".into());
        }
        row.region = row.address.take().map(|_| "eu-a".into());
    };
    let received_ms = NOW_MS;
    ImportOptions {
        format,
        maps: vec![],
        pathway: None,
        bad_max_percent: 10.0,
        received_ms,
        complete: Arc::new(complete),
    }
}

async fn run(place: &Place, log: &str, options: ImportOptions) -> Result<Summary, ImportError> {
    let sha256 = hash_of(log.as_bytes()).expect("hash");
    import(&place.root, std::io::Cursor::new(log.to_owned().into_bytes()), &sha256, options).await
}

async fn count(place: &Place, sql: &str) -> u64 {
    LakeSession::open(&place.root, vec![]).await.expect("open").count(sql).await.expect("count")
}

/// `lines` requests of CloudFront, at 23:59:59 and, from the second on, at 00:00:00.
fn cloudfront(lines: u64) -> String {
    let mut log = String::from("#Version: 1.0\n#Fields: date time c-ip x-host-header cs-uri-stem sc-status sc-bytes\n");
    for line in 0..lines {
        let time = if line == 0 { "2025-12-31\t23:59:59" } else { "2026-01-01\t00:00:00" };
        let host = if line.is_multiple_of(2) { "a.example" } else { "b.example" };
        writeln!(log, "{time}\t192.0.2.1\t{host}\t/seg-{line}.ts?token=1\t200\t{line}").expect("write");
    }
    log
}

#[tokio::test]
async fn a_log_is_in_the_table_once_however_often_it_is_imported() {
    let place = Place::new();
    let log = cloudfront(5);
    let first = run(&place, &log, options(LogFormat::CloudFront)).await.expect("import");
    assert_eq!((first.outcome, first.lines, first.bad_lines()), (Outcome::Imported, 5, 0));
    assert_eq!(first.pathways["cdn-a"], Delivered { rows: 3, requests: 3, bytes: 6 });
    assert_eq!(first.pathways["unknown"], Delivered { rows: 2, requests: 2, bytes: 4 });
    assert!(is_there(&place.root, &first.sha256).await.expect("asked"));
    let again = run(&place, &log, options(LogFormat::CloudFront)).await.expect("import");
    assert_eq!((again.outcome, again.lines), (Outcome::AlreadyThere, 5));
    assert_eq!(count(&place, "SELECT count(*) FROM deliveries").await, 5);
    let one_more = cloudfront(6);
    assert!(!is_there(&place.root, &hash_of(one_more.as_bytes()).expect("hash")).await.expect("asked"));
    assert_eq!(count(&place, "SELECT sum(bytes) FROM deliveries WHERE pathway = 'cdn-a' AND region = 'eu-a'").await, 6);
    assert_eq!(count(&place, "SELECT count(DISTINCT dt) FROM deliveries").await, 2);
    assert_eq!(count(&place, "SELECT count(*) FROM deliveries WHERE path LIKE '%token%'").await, 0);
    let named =
        "SELECT count(*) FROM deliveries WHERE format = 'cloudfront' AND source LIKE 'import-%' AND \"row\" > 2";
    assert_eq!(count(&place, named).await, 5, "a row names its log and its line");
}

#[tokio::test]
async fn a_few_bad_lines_are_counted_with_their_numbers_and_too_many_import_nothing() {
    let place = Place::new();
    let mut log = cloudfront(40);
    log.push_str("garbage\n\u{0}\n2026-01-01\t00:00:00\t::1\th\t/a\tOK\t5\n");
    let summary = run(&place, &log, options(LogFormat::CloudFront)).await.expect("import");
    assert_eq!((summary.lines, summary.bad_lines()), (43, 3));
    assert_eq!(summary.rejected["bad_columns"].first, [43, 44]);
    assert_eq!(summary.rejected["bad_number"].first, [45]);
    assert_eq!(count(&place, "SELECT count(*) FROM deliveries").await, 40);

    log.push_str(&"garbage\n".repeat(3));
    let error = run(&place, &log, options(LogFormat::CloudFront)).await.expect_err("too many");
    let ImportError::TooManyBad { bad, summary, .. } = &error else { panic!("{error}") };
    assert_eq!((*bad, summary.rejected["bad_columns"].lines), (6, 5));
    let text = error.to_string();
    assert!(text.contains("6 of 46 lines") && text.contains("bad_columns: 5, first in line 43, 44, 46"), "{text}");
    let wrong = run(&place, &cloudfront(4), options(LogFormat::Akamai)).await.expect_err("another format");
    assert!(wrong.to_string().contains("4 of 4 lines"), "{wrong}");
    assert_eq!(count(&place, "SELECT count(*) FROM deliveries").await, 40);
}

#[tokio::test]
async fn a_log_longer_than_a_chunk_is_one_commit() {
    let place = Place::new();
    let lines = 100_001;
    let summary = run(&place, &cloudfront(lines), options(LogFormat::CloudFront)).await.expect("import");
    assert_eq!((summary.outcome, summary.lines), (Outcome::Imported, lines));
    assert_eq!(count(&place, "SELECT count(*) FROM deliveries").await, lines);
    assert_eq!(count(&place, "SELECT sum(bytes) FROM deliveries").await, (0..lines).sum::<u64>());
    let log = place.dir.path().join("lake/deliveries/_delta_log");
    let commits = std::fs::read_dir(log).expect("log").filter(|entry| {
        entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|extension| extension == "json"))
    });
    assert_eq!(commits.count(), 2, "the table, and the log");
}

#[tokio::test]
async fn an_empty_log_and_one_that_changes_import_nothing() {
    let place = Place::new();
    for log in ["", "\n\n", "#Version: 1.0\n"] {
        let summary = run(&place, log, options(LogFormat::CloudFront)).await.expect("import");
        assert_eq!((summary.outcome, summary.lines), (Outcome::Empty, 0), "{log:?}");
    }
    let log = cloudfront(3);
    let another = hash_of(&b"another"[..]).expect("hash");
    let error = import(&place.root, std::io::Cursor::new(log.into_bytes()), &another, options(LogFormat::CloudFront));
    assert!(matches!(error.await, Err(ImportError::Changed(..))));
    assert_eq!(count(&place, "SELECT count(*) FROM deliveries").await, 0);
}

#[tokio::test]
async fn rows_without_a_pathway_get_the_one_that_was_named() {
    let place = Place::new();
    let named = ImportOptions { pathway: Some("cdn-b".into()), ..options(LogFormat::CloudFront) };
    let summary = run(&place, &cloudfront(4), named).await.expect("import");
    assert_eq!(summary.pathways.keys().collect::<Vec<_>>(), ["cdn-a", "cdn-b"]);
    assert_eq!(count(&place, "SELECT count(*) FROM deliveries WHERE pathway = 'cdn-b'").await, 2);
}

#[tokio::test]
async fn an_array_in_one_line_longer_than_any_line_may_be_is_read_element_by_element() {
    let place = Place::new();
    let row = |n: u64| {
        format!(
            r#"{{"delivered_ms":1767225600000,"pathway":"cdn-a","bytes":{n},"path":"/a[{n}].ts","cmcd":"br=2400,ot=v"}}"#
        )
    };
    let rows: Vec<String> = (0..5_000).map(row).collect();
    let log = format!("[{}]", rows.join(","));
    assert!(log.len() > 400_000 && !log.contains('\n'));
    let summary = run(&place, &log, options(LogFormat::CmcdLog)).await.expect("import");
    assert_eq!((summary.outcome, summary.lines, summary.bad_lines()), (Outcome::Imported, 5_000, 0));
    assert_eq!(count(&place, "SELECT sum(bytes) FROM deliveries").await, (0..5_000).sum::<u64>());
    assert_eq!(count(&place, "SELECT count(DISTINCT \"row\") FROM deliveries WHERE cmcd['br'] = '2400'").await, 5_000);
}

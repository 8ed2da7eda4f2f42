//! Rows of other roles, through the log.

use spillway_lake::deliveries::{self, DeliveryBatch};
use spillway_lake::schema::TableName;
use spillway_lake::{LakeSession, TailSource};
use spillway_wire::delivery::Delivery;

use crate::support::{NOW_MS, Place};

#[tokio::test]
async fn a_batch_that_two_collectors_got_is_read_once() {
    let place = Place::new();
    let (one, _) = place.open("c1").await;
    let (two, _) = place.open("c2").await;
    let batch = DeliveryBatch { source: "own-a-1".into(), batch_seq: 1, received_ms: NOW_MS, format: "rows".into() };
    let rows: Vec<(u64, Delivery)> =
        (0..3).map(|row| (row, Delivery { delivered_ms: NOW_MS, bytes: Some(5), ..Delivery::default() })).collect();
    let arrow = deliveries::to_arrow(&batch, &rows).expect("arrow");
    for log in [&one, &two] {
        log.append_rows(TableName::Deliveries, &arrow, 100).await.expect("append");
    }
    one.commit().await.expect("commit");
    let tails = [&one, &two].map(|log| TailSource::Local(log.tail())).to_vec();
    let session = LakeSession::open(&place.root, tails).await.expect("open");
    let count = async |sql: &str| session.count(sql).await.expect("count");
    assert_eq!(count("SELECT count(*) FROM deliveries_raw").await, 6);
    assert_eq!(count("SELECT count(*) FROM deliveries").await, 3);
    assert_eq!(count("SELECT sum(bytes) FROM deliveries").await, 15);
}

//! Deliveries as rows of `deliveries`.

use arrow::array::RecordBatch;
use spillway_wire::delivery::Delivery;

use crate::LakeError;
use crate::cells::Cells;
use crate::schema::TableName;
use crate::time::day_of;

/// What holds for all rows of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryBatch {
    /// Who sent it.
    pub source: String,
    /// The source's number of the batch.
    pub batch_seq: u64,
    /// Arrival, ms since epoch.
    pub received_ms: u64,
    /// Form of the log.
    pub format: String,
}

/// The rows, each with its place in the batch, as the WAL holds them. They are stored as they are: scrubbed before.
///
/// # Errors
/// [`LakeError::Arrow`], which would be a fault of this module.
pub fn to_arrow(batch: &DeliveryBatch, rows: &[(u64, Delivery)]) -> Result<RecordBatch, LakeError> {
    let mut cells = Cells::new(TableName::Deliveries);
    for (row, delivery) in rows {
        debug_assert!(delivery.address.is_none(), "an address is not stored");
        cells.text(Some(&batch.source));
        cells.int(Some(batch.batch_seq));
        cells.int(Some(*row));
        cells.text(Some(&day_of(delivery.delivered_ms)));
        cells.int(Some(delivery.delivered_ms));
        cells.int(Some(batch.received_ms));
        cells.text(Some(&batch.format));
        cells.text(delivery.pathway.as_deref());
        cells.text(delivery.host.as_deref());
        cells.text(delivery.region.as_deref());
        cells.int(delivery.asn.map(u64::from));
        cells.text(delivery.country.as_deref());
        cells.text(delivery.path.as_deref());
        cells.int(delivery.status.map(u64::from));
        cells.int(delivery.bytes);
        cells.int(Some(delivery.requests));
        cells.int(delivery.ttfb_ms);
        cells.int(delivery.duration_ms);
        cells.text(delivery.cache_status.as_deref());
        cells.text(delivery.protocol.as_deref());
        cells.text(delivery.view_id.as_deref());
        cells.map(delivery.cmcd.iter())?;
        cells.float(delivery.sample_rate);
    }
    cells.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{Array as _, AsArray as _};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn a_cell_stands_in_the_column_of_its_name_and_the_unknown_is_null() {
        let batch = DeliveryBatch { source: "own-a-1".into(), batch_seq: 7, received_ms: 9, format: "rows".into() };
        let full = Delivery {
            delivered_ms: 86_400_000,
            pathway: Some("cdn-a".into()),
            status: Some(206),
            bytes: Some(11),
            requests: 3,
            protocol: Some("HTTP/2".into()),
            cmcd: BTreeMap::from([("br".into(), "2400".into()), ("ot".into(), "v".into())]),
            ..Delivery::default()
        };
        let arrow = to_arrow(&batch, &[(0, full), (4, Delivery::default())]).expect("arrow");
        let text = |name: &str| arrow.column_by_name(name).expect(name).as_string::<i32>().clone();
        let int = |name: &str| arrow.column_by_name(name).expect(name).as_primitive::<Int64Type>().clone();
        assert_eq!(
            (text("source").value(1), text("dt").value(0), text("format").value(0)),
            ("own-a-1", "1970-01-02", "rows")
        );
        assert_eq!((text("pathway").value(0), text("protocol").value(0)), ("cdn-a", "HTTP/2"));
        assert_eq!((int("batch_seq").value(0), int("row").value(1), int("received_ms").value(0)), (7, 4, 9));
        assert_eq!((int("status").value(0), int("bytes").value(0), int("requests").value(0)), (206, 11, 3));
        assert_eq!(int("requests").value(1), 1);
        assert!(int("bytes").is_null(1) && text("host").is_null(0) && text("view_id").is_null(0));
        let cmcd = arrow.column_by_name("cmcd").expect("cmcd").as_map().clone();
        assert!(cmcd.is_null(1));
        assert_eq!((cmcd.value_length(0), cmcd.keys().as_string::<i32>().value(0)), (2, "br"));
    }
}

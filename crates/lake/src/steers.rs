//! Steering answers as rows of `steers`.

use arrow::array::RecordBatch;
use spillway_wire::steer_answer::SteerAnswer;

use crate::LakeError;
use crate::cells::Cells;
use crate::schema::TableName;
use crate::time::day_of;

/// What holds for all rows of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SteerBatch {
    /// Steering node that answered.
    pub node: String,
    /// The node's number of the batch.
    pub batch_seq: u64,
    /// Arrival, ms since epoch.
    pub received_ms: u64,
}

/// The rows, each with its place in the batch, as the WAL holds them.
///
/// # Errors
/// [`LakeError::Arrow`], which would be a fault of this module.
pub fn to_arrow(batch: &SteerBatch, rows: &[(u64, SteerAnswer)]) -> Result<RecordBatch, LakeError> {
    let mut cells = Cells::new(TableName::Steers);
    for (row, answer) in rows {
        cells.text(Some(&batch.node));
        cells.int(Some(batch.batch_seq));
        cells.int(Some(*row));
        cells.text(Some(&day_of(answer.issued_ms)));
        cells.int(Some(answer.issued_ms));
        cells.int(Some(batch.received_ms));
        cells.text(answer.view_id.as_deref());
        cells.text(Some(&answer.region));
        cells.int(answer.asn.map(u64::from));
        cells.int(answer.epoch);
        cells.text(Some(&answer.protocol));
        cells.text(Some(answer.priority.first().map_or("", String::as_str)));
        cells.text(Some(&answer.priority.join(",")));
        cells.int(Some(u64::from(answer.ttl_s)));
        cells.float(answer.sample_rate);
        cells.text(answer.reason.as_deref());
        cells.text(answer.why.as_ref().map(ToString::to_string).as_deref());
    }
    cells.finish()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array as _, AsArray as _};
    use arrow::datatypes::{Float64Type, Int64Type};

    use super::*;

    #[test]
    fn a_cell_stands_in_the_column_of_its_name_and_the_unknown_is_null() {
        let batch = SteerBatch { node: "steer-1".into(), batch_seq: 7, received_ms: 9 };
        let answer = SteerAnswer {
            issued_ms: 86_400_000,
            region: "eu".into(),
            protocol: "hls".into(),
            priority: vec!["own-a-1".into(), "cdn-a".into()],
            ttl_s: 10,
            sample_rate: 0.5,
            why: Some(serde_json::json!({ "a": 1 })),
            ..SteerAnswer::default()
        };
        let arrow = to_arrow(&batch, &[(2, answer)]).expect("arrow");
        let text = |name: &str| arrow.column_by_name(name).expect(name).as_string::<i32>().clone();
        let int = |name: &str| arrow.column_by_name(name).expect(name).as_primitive::<Int64Type>().clone();
        assert_eq!(
            (text("node").value(0), text("dt").value(0), text("region").value(0)),
            ("steer-1", "1970-01-02", "eu")
        );
        assert_eq!((text("first_pathway").value(0), text("priority").value(0)), ("own-a-1", "own-a-1,cdn-a"));
        assert_eq!((int("batch_seq").value(0), int("row").value(0), int("ttl_s").value(0)), (7, 2, 10));
        let rate = arrow.column_by_name("sample_rate").expect("rate").as_primitive::<Float64Type>().value(0);
        assert!((rate - 0.5).abs() < f64::EPSILON);
        assert_eq!(text("why_json").value(0), r#"{"a":1}"#);
        assert!(int("epoch").is_null(0) && text("view_id").is_null(0) && text("reason").is_null(0));
    }
}

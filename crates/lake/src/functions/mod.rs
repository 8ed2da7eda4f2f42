//! Functions that queries over the lake have beside the engine's own: sketches that merge, and the bucket of a view.
//!
//! | function | type | what |
//! | --- | --- | --- |
//! | `dd_sketch(x)` | aggregate, DOUBLE → BINARY | sketch of the values; null if there are none |
//! | `dd_merge(sketch)` | aggregate, BINARY → BINARY | sketch of all; null if there are none |
//! | `dd_quantile(sketch, q)` | BINARY, DOUBLE → DOUBLE | quantile within 1 %; null for null |
//! | `dd_count(sketch)` | BINARY → BIGINT | values in it; null for null |
//! | `view_bucket(view_id, n)` | TEXT, BIGINT → BIGINT | 0 to n − 1, the same for the same view |

mod dd;
mod sketch;

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::prelude::SessionContext;

pub(crate) use sketch::Sketch;

/// Makes the functions known to `context`.
pub(crate) fn register(context: &SessionContext) {
    context.register_udaf(dd::sketch_of_values());
    context.register_udaf(dd::merged());
    context.register_udf(dd::quantile());
    context.register_udf(dd::count());
    context.register_udf(view_bucket());
}

fn view_bucket() -> ScalarUDF {
    let run = |args: &[ColumnarValue]| -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let buckets = arrays[1].as_primitive::<Int64Type>();
        if buckets.iter().flatten().any(|n| n < 1) {
            return Err(DataFusionError::Execution("view_bucket: the number of buckets must be at least 1".into()));
        }
        let views = arrays[0].as_string::<i32>();
        let bucket = |(view, n): (Option<&str>, Option<i64>)| Some(i64::from(crc32fast::hash(view?.as_bytes())) % n?);
        let out: Int64Array = views.iter().zip(buckets.iter()).map(bucket).collect();
        debug_assert_eq!(out.len(), views.len());
        Ok(ColumnarValue::Array(Arc::new(out)))
    };
    let input = vec![DataType::Utf8, DataType::Int64];
    create_udf("view_bucket", input, DataType::Int64, Volatility::Immutable, Arc::new(run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format;

    async fn answer(sql: &str) -> Result<String, DataFusionError> {
        let context = SessionContext::new();
        register(&context);
        let batches = context.sql(sql).await?.collect().await?;
        Ok(format::csv(&batches).expect("csv").lines().skip(1).collect::<Vec<_>>().join(" "))
    }

    #[tokio::test]
    async fn sketches_merge_to_what_one_sketch_of_all_would_be() {
        let sql = "WITH parts AS (
                     SELECT value % 7 AS part, dd_sketch(CAST(value AS DOUBLE)) AS sketch
                     FROM unnest(range(1, 10001)) AS t(value) GROUP BY 1),
                   one AS (SELECT dd_merge(sketch) AS sketch FROM parts)
                   SELECT dd_count(sketch), abs(dd_quantile(sketch, 0.5) - 5000) < 50,
                          abs(dd_quantile(sketch, 0.95) - 9500) < 95, dd_quantile(sketch, 1.0) FROM one";
        assert_eq!(answer(sql).await.expect("answer"), "10000,true,true,10000.0");
    }

    #[tokio::test]
    async fn null_is_no_value_and_nothing_is_null() {
        let some = "SELECT dd_count(dd_sketch(x)) FROM (VALUES (1.0), (NULL), (3.0)) AS t(x)";
        assert_eq!(answer(some).await.expect("answer"), "2");
        let none = "SELECT dd_sketch(x) IS NULL, dd_merge(dd) IS NULL, dd_quantile(dd_sketch(x), 0.5) IS NULL,
                           dd_count(dd_sketch(x)) IS NULL
                    FROM (SELECT CAST(NULL AS DOUBLE) AS x, CAST(NULL AS BYTEA) AS dd)";
        assert_eq!(answer(none).await.expect("answer"), "true,true,true,true");
        let empty = "SELECT dd_sketch(CAST(x AS DOUBLE)) IS NULL FROM (VALUES (1)) AS t(x) WHERE x > 1";
        assert_eq!(answer(empty).await.expect("answer"), "true");
    }

    #[tokio::test]
    async fn what_is_not_valid_is_named() {
        let error = answer("SELECT dd_quantile(dd_sketch(x), 1.5) FROM (VALUES (1.0)) AS t(x)").await.err();
        assert!(error.expect("error").to_string().contains("quantile 1.5 is not valid (valid: 0 to 1)"));
        let error = answer("SELECT dd_count(CAST('nonsense' AS BYTEA))").await.err();
        assert!(error.expect("error").to_string().contains("valid: a DDSketch"));
    }

    #[tokio::test]
    async fn a_view_is_always_in_the_same_bucket() {
        let sql = "SELECT count(DISTINCT view_bucket(v, 4)), min(view_bucket(v, 4)), max(view_bucket(v, 4)),
                          max(view_bucket('v', 1))
                   FROM (SELECT CAST(value AS VARCHAR) AS v FROM unnest(range(0, 100)) AS t(value))";
        assert_eq!(answer(sql).await.expect("answer"), "4,0,3,0");
    }
}

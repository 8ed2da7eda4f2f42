//! Metrics: what each is called, its formula and where that comes from, and the SQL views that compute them.
//!
//! Ratios are ratios of sums, never means of ratios; what is not known (null) is in neither sum. Each view keeps its
//! keys as columns, so a filter on them reads only what it needs.

mod definitions;
mod denial;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;

use crate::LakeError;
pub use definitions::{DEFINITIONS, Definition};
pub use denial::Denied;

/// Name, SQL and keys of each view, in the order in which they build on each other.
const VIEWS: &[(&str, &str, &str)] = &[
    ("view_scores", include_str!("view_scores.sql"), ""),
    ("view_qoe_lin", include_str!("view_qoe_lin.sql"), ""),
    ("metrics_day", include_str!("from_rollup.sql"), "dt, property"),
    ("metrics_day_pathway", include_str!("from_rollup.sql"), "dt, property, pathway, region"),
    ("metrics_minute", include_str!("from_rollup.sql"), "dt, minute_ms, property"),
    ("metrics_minute_pathway", include_str!("from_rollup.sql"), "dt, minute_ms, property, pathway, region"),
    ("view_metrics_day", include_str!("from_views.sql"), "dt, property"),
    ("view_metrics_day_pathway", include_str!("from_views.sql"), "dt, property, last_pathway, region"),
];

/// Makes the views and the table `metric_definitions` known; `events`, `views` and `rollup_1m` must be known already.
pub(crate) async fn register(context: &SessionContext) -> Result<(), LakeError> {
    for (name, sql, keys) in VIEWS {
        let sql = format!("CREATE VIEW {name} AS {}", sql.replace("{keys}", keys));
        context.sql(&sql).await?.collect().await?;
    }
    let column = |value: fn(&Definition) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(DEFINITIONS.iter().map(value)))
    };
    let columns: [(&str, ArrayRef); 6] = [
        ("metric", column(|definition| definition.metric)),
        ("name", column(|definition| definition.name)),
        ("unit", column(|definition| definition.unit)),
        ("formula", column(|definition| definition.formula)),
        ("views", column(|definition| definition.views)),
        ("source", column(|definition| definition.source)),
    ];
    let fields: Vec<Field> = columns.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, false)).collect();
    let schema = Arc::new(Schema::new(fields));
    let rows = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, column)| column).collect())?;
    context.register_table("metric_definitions", Arc::new(MemTable::try_new(schema, vec![vec![rows]])?))?;
    Ok(())
}

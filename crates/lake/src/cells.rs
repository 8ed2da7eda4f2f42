//! Rows of a fed table as the WAL holds them, cell by cell in the order of the schema.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder, Int64Builder, MapBuilder, MapFieldNames, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field};

use crate::LakeError;
use crate::schema::{Kind, TableName};

enum Column {
    Text(StringBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Map(Box<MapBuilder<StringBuilder, StringBuilder>>),
}

/// Builds a batch of `table`; every row has all cells, in the order of the columns.
pub(crate) struct Cells {
    table: TableName,
    columns: Vec<Column>,
    at: usize,
}

fn map_builder() -> MapBuilder<StringBuilder, StringBuilder> {
    // As Delta names them, and `schema::map_type`.
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
        .with_keys_field(Field::new("key", DataType::Utf8, false))
        .with_values_field(Field::new("value", DataType::Utf8, true))
}

impl Cells {
    pub(crate) fn new(table: TableName) -> Self {
        let column = |kind: &Kind| match kind {
            Kind::Text => Column::Text(StringBuilder::new()),
            Kind::Int => Column::Int(Int64Builder::new()),
            Kind::Float => Column::Float(Float64Builder::new()),
            Kind::Map => Column::Map(Box::new(map_builder())),
            Kind::Bool | Kind::Bytes | Kind::Pathways => unreachable!("no table that is built here has such a column"),
        };
        let columns = table.own_columns().iter().map(|(_, kind, ..)| column(kind)).collect();
        Self { table, columns, at: 0 }
    }

    fn next(&mut self) -> &mut Column {
        let at = self.at;
        self.at = (at + 1) % self.columns.len();
        &mut self.columns[at]
    }

    pub(crate) fn text(&mut self, value: Option<&str>) {
        match self.next() {
            Column::Text(builder) => builder.append_option(value),
            _ => unreachable!("cells are appended in the order of the schema"),
        }
    }

    pub(crate) fn int(&mut self, value: Option<u64>) {
        match self.next() {
            Column::Int(builder) => builder.append_option(value.map(|value| i64::try_from(value).unwrap_or(i64::MAX))),
            _ => unreachable!("cells are appended in the order of the schema"),
        }
    }

    pub(crate) fn float(&mut self, value: impl Into<Option<f64>>) {
        match self.next() {
            Column::Float(builder) => builder.append_option(value.into()),
            _ => unreachable!("cells are appended in the order of the schema"),
        }
    }

    /// An empty map is null: nothing was said.
    ///
    /// # Errors
    /// [`LakeError::Arrow`], which would be a fault of this module.
    pub(crate) fn map<'a>(&mut self, entries: impl Iterator<Item = (&'a String, &'a String)>) -> Result<(), LakeError> {
        let Column::Map(builder) = self.next() else { unreachable!("cells are appended in the order of the schema") };
        let mut any = false;
        for (key, value) in entries {
            any = true;
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        Ok(builder.append(any)?)
    }

    /// All rows, as the WAL holds them.
    ///
    /// # Errors
    /// [`LakeError::Arrow`] if the columns don't fit, which would be a fault of the caller's order.
    pub(crate) fn finish(self) -> Result<RecordBatch, LakeError> {
        debug_assert_eq!(self.at, 0, "a row is unfinished");
        let columns = self.columns.into_iter().map(|column| -> ArrayRef {
            match column {
                Column::Text(mut builder) => Arc::new(builder.finish()),
                Column::Int(mut builder) => Arc::new(builder.finish()),
                Column::Float(mut builder) => Arc::new(builder.finish()),
                Column::Map(mut builder) => Arc::new(builder.finish()),
            }
        });
        Ok(RecordBatch::try_new(self.table.wal_schema(), columns.collect())?)
    }
}

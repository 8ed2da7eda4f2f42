//! How rows of a closed day lie in their files.

use crate::schema::TableName;

/// Order of a closed day's rows, and what makes two of them the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Rows equal in all of these are one row; empty: no two are.
    pub(crate) key: &'static [&'static str],
    /// Of equal rows the first in this order stays.
    pub(crate) first_by: &'static [&'static str],
    /// Rows are sorted by this.
    pub(crate) order: &'static [&'static str],
}

/// A view's events lie together and in order: a question about one view reads one row group, windows over a view need
/// no other sort, and what is constant in a view (title, device, network) costs next to nothing. Questions about a
/// pathway or region read the whole day anyway.
const EVENTS: Layout = Layout {
    key: &["property", "view_id", "source", "seq"],
    first_by: &["received_ms", "collector", "wal_seq"],
    order: &["property", "view_id", "source", "seq"],
};

/// A batch that was posted again is the same rows again.
const DELIVERIES: Layout = Layout {
    key: &["source", "batch_seq", "row"],
    first_by: &["received_ms", "collector", "wal_seq"],
    order: &["source", "batch_seq", "row"],
};

/// As deliveries.
const STEERS: Layout = Layout {
    key: &["node", "batch_seq", "row"],
    first_by: &["received_ms", "collector", "wal_seq"],
    order: &["node", "batch_seq", "row"],
};

/// As they came: rows of one WAL record share most of their values.
const FED: Layout = Layout { key: &[], first_by: &[], order: &["collector", "wal_seq"] };

/// The layout of `table`'s closed days; `None`: they are only merged (few rows, or built by a job of their own).
pub(crate) fn layout(table: TableName) -> Option<Layout> {
    match table {
        TableName::Events => Some(EVENTS),
        TableName::Deliveries => Some(DELIVERIES),
        TableName::Steers => Some(STEERS),
        fed if TableName::FED.contains(&fed) => Some(FED),
        _ => None,
    }
}

fn quoted(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("\"{}\"", name.as_ref())).collect();
    names.join(", ")
}

impl Layout {
    /// The statement that brings the rows of table `day`, whose columns are `columns`, into this layout.
    pub(crate) fn sql<'a>(&self, columns: impl IntoIterator<Item = &'a str>) -> String {
        let (columns, order) = (quoted(columns), quoted(self.order));
        if self.key.is_empty() {
            return format!("SELECT {columns} FROM day ORDER BY {order}");
        }
        let (key, first_by) = (quoted(self.key), quoted(self.first_by));
        format!(
            "SELECT {columns} FROM (SELECT {columns}, row_number() OVER (PARTITION BY {key} ORDER BY {first_by}) AS nth \
             FROM day) WHERE nth = 1 ORDER BY {order}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_name_columns_that_are_there() {
        for table in TableName::ALL {
            let Some(layout) = layout(table) else { continue };
            for name in layout.key.iter().chain(layout.first_by).chain(layout.order) {
                assert!(table.schema().column_with_name(name).is_some(), "{} has no {name}", table.as_str());
            }
        }
        assert!(layout(TableName::Events).is_some() && layout(TableName::Drills).is_none());
    }
}

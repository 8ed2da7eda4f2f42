//! How rows of a closed day lie in their files.

use crate::schema::TableName;

/// Order of a closed day's rows, and which of them stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) keep: Keep,
    /// Rows are sorted by this.
    pub(crate) order: &'static [&'static str],
}

/// Which rows of a closed day stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// All.
    All,
    /// Rows equal in all of `key` are one row: the first by `first_by`.
    Once { key: &'static [&'static str], first_by: &'static [&'static str] },
    /// Of the rows equal in all of `key`, those with the highest `revision`: what readers see.
    Newest { key: &'static [&'static str] },
}

/// A view's events lie together and in order: a question about one view reads one row group, windows over a view need
/// no other sort, and what is constant in a view (title, device, network) costs next to nothing. Questions about a
/// pathway or region read the whole day anyway.
const EVENTS: Layout = Layout {
    keep: Keep::Once {
        key: &["property", "view_id", "source", "seq"],
        first_by: &["received_ms", "collector", "wal_seq"],
    },
    order: &["property", "view_id", "source", "seq"],
};

/// A batch that was posted again is the same rows again.
const DELIVERIES: Layout = Layout {
    keep: Keep::Once { key: &["source", "batch_seq", "row"], first_by: &["received_ms", "collector", "wal_seq"] },
    order: &["source", "batch_seq", "row"],
};

/// As deliveries.
const STEERS: Layout = Layout {
    keep: Keep::Once { key: &["node", "batch_seq", "row"], first_by: &["received_ms", "collector", "wal_seq"] },
    order: &["node", "batch_seq", "row"],
};

/// As they came: rows of one WAL record share most of their values.
const FED: Layout = Layout { keep: Keep::All, order: &["collector", "wal_seq"] };

/// Views of one title at one time lie together.
const VIEWS: Layout =
    Layout { keep: Keep::Newest { key: &["property", "view_id"] }, order: &["property", "content_id", "started_ms"] };

/// A revision replaces its minute as a whole.
const ROLLUP_1M: Layout =
    Layout { keep: Keep::Newest { key: &["minute_ms"] }, order: &["minute_ms", "region", "pathway"] };

/// The layout of `table`'s closed days; `None`: they are only merged (few rows).
pub(crate) fn layout(table: TableName) -> Option<Layout> {
    match table {
        TableName::Events => Some(EVENTS),
        TableName::Deliveries => Some(DELIVERIES),
        TableName::Steers => Some(STEERS),
        TableName::Views => Some(VIEWS),
        TableName::Rollup1m => Some(ROLLUP_1M),
        fed if TableName::FED.contains(&fed) => Some(FED),
        _ => None,
    }
}

/// What makes two rows of `table` the same; empty: no two are.
pub(crate) fn row_key(table: TableName) -> &'static [&'static str] {
    match layout(table).map(|layout| layout.keep) {
        Some(Keep::Once { key, .. }) => key,
        _ => &[],
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
        let nth = match self.keep {
            Keep::All => return format!("SELECT {columns} FROM day ORDER BY {order}"),
            Keep::Once { key, first_by } => {
                format!("row_number() OVER (PARTITION BY {} ORDER BY {})", quoted(key), quoted(first_by))
            }
            Keep::Newest { key } => format!("rank() OVER (PARTITION BY {} ORDER BY \"revision\" DESC)", quoted(key)),
        };
        format!("SELECT {columns} FROM (SELECT {columns}, {nth} AS nth FROM day) WHERE nth = 1 ORDER BY {order}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_name_columns_that_are_there() {
        for table in TableName::ALL {
            let Some(layout) = layout(table) else { continue };
            let (key, first_by): (_, &[&str]) = match layout.keep {
                Keep::All => (&[] as &[&str], &[]),
                Keep::Once { key, first_by } => (key, first_by),
                Keep::Newest { key } => (key, &["revision"]),
            };
            for name in key.iter().chain(first_by).chain(layout.order) {
                assert!(table.schema().column_with_name(name).is_some(), "{} has no {name}", table.as_str());
            }
        }
        assert!(layout(TableName::Events).is_some() && layout(TableName::Drills).is_none());
    }
}

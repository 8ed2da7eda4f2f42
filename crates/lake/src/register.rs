//! Tables that jobs build and what is computed from them, as queries see them.

use datafusion::prelude::SessionContext;
use url::Url;

use crate::schema::TableName;
use crate::{At, LakeError, functions, history, metrics, session};

/// The highest revision of each view. Few views have more than one, so only those are looked up.
const VIEWS: &str = "CREATE VIEW views AS SELECT v.* FROM views_committed v
    LEFT ANTI JOIN (
      SELECT dt, property, view_id, max(revision) AS revision FROM views_committed
      WHERE revision > 1 GROUP BY dt, property, view_id
    ) n ON v.dt = n.dt AND v.property = n.property AND v.view_id = n.view_id AND v.revision < n.revision";

/// The highest revision of each minute.
const ROLLUP: &str = "CREATE VIEW rollup_1m AS SELECT r.* FROM rollup_1m_committed r
    LEFT SEMI JOIN (
      SELECT dt, minute_ms, max(revision) AS revision FROM rollup_1m_committed GROUP BY dt, minute_ms
    ) n ON r.dt = n.dt AND r.minute_ms = n.minute_ms AND r.revision = n.revision";

/// Functions, `views`, `rollup_1m` (with `…_committed`, all revisions) and the metrics. `events` must be known already.
pub(crate) async fn register(context: &SessionContext, root: &Url, at: Option<&At>) -> Result<(), LakeError> {
    functions::register(context);
    for (name, view) in [(TableName::Views, VIEWS), (TableName::Rollup1m, ROLLUP)] {
        let loaded = history::load(root, name, at).await?;
        session::register_table(context, &format!("{}_committed", name.as_str()), name, loaded.as_ref()).await?;
        context.sql(view).await?.collect().await?;
    }
    metrics::register(context).await
}

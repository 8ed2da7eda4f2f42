//! `forget`: deletes every row of a view, or of a viewer's session, from all tables.
//!
//! No table holds a viewer: by default there is no cookie and no viewer id at rest, and an address never gets there.
//! What an application may hand over is a session (`session_id`: tab or app session). So a viewer is forgotten session
//! by session, each with all its views. Sums (`rollup_1m`) hold no view, so nothing has to go from them.

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, col, lit};

use super::replace::{Change, DataFile, FILE_COLUMN, Upkeep};
use super::{JobContext, JobReport};
use crate::LakeError;
use crate::schema::TableName;

/// Others may rewrite the files under a deletion; then it is done again, so often.
const ATTEMPTS: u32 = 5;
/// A session with more views than this is no session of one viewer.
const VIEWS_MAX: usize = 10_000;

/// Whom to forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One playback attempt (`view_id`).
    View(String),
    /// A tab or app session (`session_id`) with all its views.
    Session(String),
}

/// What was deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Forgotten {
    /// Rows deleted, by table; tables that could hold the subject are all named.
    pub rows: std::collections::BTreeMap<&'static str, u64>,
    /// Views that the subject had.
    pub views: usize,
    /// Files replaced; they stay on the disk until vacuum.
    pub files: u64,
}

impl Forgotten {
    /// Adds what a second run found.
    pub fn add(&mut self, other: Self) {
        for (table, rows) in other.rows {
            *self.rows.entry(table).or_default() += rows;
        }
        self.views = self.views.max(other.views);
        self.files += other.files;
    }
}

/// Deletes the rows of `subject` (in `property` alone, if given) from every table that names views or sessions, one
/// commit a table. Rows that are not committed yet are not seen: the caller waits for their commit and asks again.
///
/// # Errors
/// [`LakeError`]; tables that were done stay done, and the whole can be asked again.
pub async fn forget(context: &JobContext, subject: &Subject, property: Option<&str>) -> Result<Forgotten, LakeError> {
    let views = views_of(context, subject, property).await?;
    let marks: Vec<String> = views.iter().map(|view| forgotten_mark(view)).collect();
    let mut forgotten = Forgotten { views: views.len(), ..Forgotten::default() };
    // The table that tells which views a session had goes last, so that a crash half-way can be made good.
    let others = TableName::ALL.into_iter().filter(|name| *name != TableName::Events);
    for name in others.chain([TableName::Events]) {
        let Some(predicate) = predicate(name, subject, &views, property) else { continue };
        let (rows, report) = forget_in(context, name, &predicate, &marks).await?;
        forgotten.rows.insert(name.as_str(), rows);
        forgotten.files += report.files_removed;
    }
    Ok(forgotten)
}

/// Application id that a table keeps of a forgotten view, so that `verify` does not miss the view's rows. It tells no
/// more than a yes to who knows the view already (FNV-1a, 64 bits).
pub(crate) fn forgotten_mark(view: &str) -> String {
    let hash = view
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("forgot/{hash:016x}")
}

/// The views of a session; a view itself.
async fn views_of(context: &JobContext, subject: &Subject, property: Option<&str>) -> Result<Vec<String>, LakeError> {
    let session = match subject {
        Subject::View(view) => return Ok(vec![view.clone()]),
        Subject::Session(session) => session,
    };
    let Some(upkeep) = Upkeep::open(&context.root, TableName::Events).await? else { return Ok(Vec::new()) };
    let rows = upkeep.rows(&context.session()?, None).await?;
    let mut filter = col("session_id").eq(lit(session.as_str()));
    if let Some(property) = property {
        filter = filter.and(col("property").eq(lit(property)));
    }
    let rows = rows.filter(filter)?.select_columns(&["view_id"])?.distinct()?.limit(0, Some(VIEWS_MAX + 1))?;
    let views: Vec<String> = rows.collect().await?.iter().flat_map(|batch| texts(batch, 0)).collect();
    if views.len() > VIEWS_MAX {
        return Err(LakeError::TooMany { what: "views of one session", max: VIEWS_MAX });
    }
    Ok(views)
}

fn texts(batch: &RecordBatch, column: usize) -> Vec<String> {
    let column = arrow::compute::cast(batch.column(column), &DataType::Utf8);
    let column = column.unwrap_or_else(|_| arrow::array::new_empty_array(&DataType::Utf8));
    column.as_string::<i32>().iter().flatten().map(str::to_owned).collect()
}

/// Rows of the subject in table `name`; `None` if the table names neither views nor sessions.
fn predicate(name: TableName, subject: &Subject, views: &[String], property: Option<&str>) -> Option<Expr> {
    let schema = name.schema();
    let has = |column: &str| schema.column_with_name(column).is_some();
    let mut any = Vec::new();
    if has("view_id") {
        any.push(col("view_id").in_list(views.iter().map(|view| lit(view.as_str())).collect(), false));
    }
    if let Subject::Session(session) = subject
        && has("session_id")
    {
        any.push(col("session_id").eq(lit(session.as_str())));
    }
    let rows = any.into_iter().reduce(Expr::or)?;
    Some(match property {
        Some(property) if has("property") => rows.and(col("property").eq(lit(property))),
        _ => rows,
    })
}

async fn forget_in(
    context: &JobContext,
    name: TableName,
    predicate: &Expr,
    marks: &[String],
) -> Result<(u64, JobReport), LakeError> {
    let mut attempt = 1;
    loop {
        let Some(mut upkeep) = Upkeep::open(&context.root, name).await? else { return Ok((0, JobReport::default())) };
        match delete(context, &mut upkeep, predicate, marks).await {
            Err(LakeError::Raced { .. }) if attempt < ATTEMPTS => attempt += 1,
            done => return done,
        }
    }
}

async fn delete(
    context: &JobContext,
    upkeep: &mut Upkeep,
    predicate: &Expr,
    marks: &[String],
) -> Result<(u64, JobReport), LakeError> {
    let (hit, rows) = files_with(context, upkeep, predicate).await?;
    if hit.is_empty() {
        return Ok((0, JobReport::default()));
    }
    let mut added = Vec::new();
    // File by file: what is left of a final file is in order, and final.
    for file in &hit {
        let left = upkeep.rows(&context.session()?, Some(std::slice::from_ref(file))).await?;
        let left = left.filter(predicate.clone().is_not_true())?.execute_stream().await?;
        added.extend(upkeep.write(context, left, file.is_final).await?);
    }
    let report = JobReport::of(&hit, &added);
    // The history must not name whom it forgot.
    let change = Change::Delete("a privacy request".into(), marks.to_vec());
    upkeep.replace(context, &hit, added, change).await?;
    Ok((rows, report))
}

/// Files that hold rows of the predicate, and how many rows.
async fn files_with(
    context: &JobContext,
    upkeep: &Upkeep,
    predicate: &Expr,
) -> Result<(Vec<DataFile>, u64), LakeError> {
    let rows = upkeep.rows(&context.session()?, None).await?;
    let counted = rows.filter(predicate.clone())?.aggregate(vec![col(FILE_COLUMN)], vec![count(lit(1))])?;
    let (mut urls, mut total) = (Vec::new(), 0);
    for batch in counted.collect().await? {
        urls.extend(texts(&batch, 0));
        let counts = batch.column(1).as_primitive::<Int64Type>();
        total += counts.values().iter().map(|count| u64::try_from(*count).unwrap_or(0)).sum::<u64>();
    }
    let files = upkeep.days()?.into_values().flatten();
    let hit: Vec<DataFile> = files.filter(|file| urls.iter().any(|url| url.ends_with(&file.path))).collect();
    if hit.len() != urls.len() {
        return Err(LakeError::Raced { table: upkeep.name.as_str().to_owned() });
    }
    Ok((hit, total))
}

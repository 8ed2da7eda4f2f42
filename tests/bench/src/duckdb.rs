//! The peer: DuckDB turns the same events from NDJSON into Parquet, with one thread, on the server's core.

use std::path::Path;

use serde_json::Value;

use crate::process::{SERVER_CORE, json, number, pinned};

/// Reads NDJSON and writes Parquet (zstd) as DuckDB does by default; CPU time of the statement alone, without the start of
/// Python.
const SCRIPT: &str = r#"
import json, resource, sys
import duckdb

def cpu_s():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

source, target = sys.argv[1:]
connection = duckdb.connect(config={"threads": 1})
before = cpu_s()
connection.execute(
    f"COPY (SELECT * FROM read_json_auto('{source}', format='newline_delimited')) "
    f"TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
)
used_s = cpu_s() - before
rows = connection.execute(f"SELECT count(*) FROM '{target}'").fetchone()[0]
print(json.dumps({"rows": rows, "cpu_s": used_s, "version": duckdb.__version__}))
"#;

/// Events per CPU-second.
pub(crate) fn events_per_cpu_s(python: &Path, ndjson: &Path, events: u64) -> anyhow::Result<(f64, Value)> {
    let parquet = ndjson.with_extension("parquet");
    let said = json(pinned(SERVER_CORE, python).args(["-c", SCRIPT]).args([ndjson, &parquet]))?;
    let rows = number(&said, "rows")?;
    anyhow::ensure!(rows as u64 == events, "DuckDB wrote {rows} rows of {events}");
    Ok((rows / number(&said, "cpu_s")?, said["version"].clone()))
}

//! `spillway load events`: the events that `load beacons` sends, as NDJSON, so that another tool can be given the same work.

use std::fs::File;
use std::io::{BufWriter, Write as _};

use anyhow::Context as _;
use spillway_model::Clock as _;
use spillway_service::SystemClock;

use crate::cli::LoadEvents;

use super::template::Template;

/// Writes the file and prints, as JSON, how many events there are and how long one is.
///
/// # Errors
/// A file that can't be written.
pub fn write(arguments: &LoadEvents) -> anyhow::Result<()> {
    let failed = || format!("write {}", arguments.file.display());
    let template = Template::new(0, 1, arguments.pathways.clone());
    let now_ms = SystemClock::new().now().0;
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&arguments.file).with_context(failed)?);
    let (mut line, mut bytes) = (Vec::new(), 0_u64);
    for number in 0..arguments.count {
        let (view, seq) = (number % arguments.views, number / arguments.views);
        line.clear();
        template.write_event(&mut line, view, seq, now_ms + number / 1_000);
        bytes += line.len() as u64;
        line.push(b'\n');
        file.write_all(&line).with_context(failed)?;
    }
    file.into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .and_then(|file| file.sync_all())
        .with_context(failed)?;
    let mean = bytes as f64 / arguments.count as f64;
    println!("{}", serde_json::json!({ "events": arguments.count, "bytes_per_event": (mean * 10.0).round() / 10.0 }));
    Ok(())
}

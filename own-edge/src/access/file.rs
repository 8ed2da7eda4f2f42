//! The access log as a file of JSON lines, for who keeps logs beside the lake. Written by a thread of its own; who moves
//! the file away finds a new one in its place at the next line.

use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use metrics::counter;
use tokio::sync::mpsc;

/// Takes lines; cheap to clone, never waits.
pub(crate) struct FileLog<T>(mpsc::Sender<T>);

impl<T> Clone for FileLog<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> FileLog<T> {
    /// Takes a line; one that doesn't fit into the queue is dropped and counted.
    pub(crate) fn push(&self, line: T) {
        if self.0.try_send(line).is_err() {
            counter!("spillway_edge_access_lines_dropped_total", "reason" => "queue_full").increment(1);
        }
    }
}

/// Lines between two looks whether the file is still there.
const LINES_AT_ONCE: u64 = 1_000;

/// Opens the file and starts its thread, which ends when nobody can send it lines any more. `json` makes a line of what
/// is taken.
///
/// # Errors
/// What the system says of the file.
pub(crate) fn start<T: Send + 'static>(
    path: &Path,
    queue_lines: usize,
    json: impl Fn(T) -> Vec<u8> + Send + 'static,
) -> io::Result<(FileLog<T>, JoinHandle<()>)> {
    let mut out = Out { path: path.to_owned(), file: None };
    out.open()?;
    let (sender, mut lines) = mpsc::channel(queue_lines);
    let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || {
        let mut failing = false;
        while let Some(line) = lines.blocking_recv() {
            let mut next = Some(line);
            let mut count = 0;
            let written = out.look().and_then(|()| {
                while let Some(line) = next.take() {
                    count += 1;
                    out.write(&json(line))?;
                    next = if count < LINES_AT_ONCE { lines.try_recv().ok() } else { None };
                }
                out.flush()
            });
            if let Err(error) = &written {
                counter!("spillway_edge_access_lines_dropped_total", "reason" => "file").increment(count.max(1));
                if !failing {
                    tracing::warn!(%error, path = %out.path.display(), "the access log can't be written");
                }
                out.file = None;
            }
            failing = written.is_err();
        }
    })?;
    Ok((FileLog(sender), thread))
}

struct Out {
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Out {
    fn open(&mut self) -> io::Result<()> {
        let file = File::options().create(true).append(true).open(&self.path)?;
        self.file = Some(BufWriter::new(file));
        Ok(())
    }

    /// Makes sure that what is written can be found under its name.
    fn look(&mut self) -> io::Result<()> {
        let same = |named: Metadata, open: Metadata| (named.dev(), named.ino()) == (open.dev(), open.ino());
        let is_there = match &self.file {
            Some(file) => std::fs::metadata(&self.path)
                .is_ok_and(|named| file.get_ref().metadata().is_ok_and(|open| same(named, open))),
            None => false,
        };
        if is_there { Ok(()) } else { self.open() }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        file.write_all(line)?;
        file.write_all(b"\n")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

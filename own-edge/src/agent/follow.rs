//! A log file as it grows, whatever is done to it: renamed, truncated, removed, not there yet. What stood in it before
//! the agent began is nobody's now.

use std::io::{ErrorKind, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use spillway_model::Millis;
use spillway_service::CancellationToken;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::time::MissedTickBehavior;

use super::lines::Lines;
use super::watched::Watched;

/// Between two looks.
const PACE: Duration = Duration::from_millis(250);
/// Workers write into a renamed file until each of them has opened the new one.
const RENAMED_KEPT_MS: u64 = 10_000;
const READ_BYTES: usize = 256 * 1024;

/// Follows `path` until `shutdown`.
pub(super) async fn run(path: PathBuf, watched: Arc<Watched>, shutdown: CancellationToken) {
    let mut followed = Followed::new(path);
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let now = watched.now();
        let state = tokio::select! {
            state = followed.look(now, |line| watched.line(line)) => state,
            () = shutdown.cancelled() => return,
        };
        watched.log_behind(followed.behind().await);
        watched.log_is(state);
    }
}

/// A file that is followed by its name.
struct Followed {
    path: PathBuf,
    /// What the last look found under that name.
    found: Found,
    current: Option<Opened>,
    /// The file that had the name before, and when it lost it.
    renamed: Option<(Opened, Millis)>,
}

/// What stands under a log's name.
#[derive(Clone, Copy)]
enum Found {
    /// Nobody has looked yet.
    Unknown,
    /// Something that can't be read, for now.
    Unreadable,
    Nothing,
    Log,
}

struct Opened {
    file: File,
    position: u64,
    lines: Lines,
    buffer: Vec<u8>,
}

impl Followed {
    fn new(path: PathBuf) -> Self {
        Self { path, found: Found::Unknown, current: None, renamed: None }
    }

    /// Hands every line that has come to `each`. Whether there is a file to follow, or why not.
    async fn look(&mut self, now: Millis, mut each: impl FnMut(Option<&[u8]>)) -> Result<(), String> {
        let found = self.find(now).await;
        self.found = match &found {
            Ok(()) => Found::Log,
            Err(error) if error.kind() == ErrorKind::NotFound => Found::Nothing,
            Err(_) => Found::Unreadable,
        };
        if let Some((opened, since)) = &mut self.renamed {
            let read = opened.read(&mut each).await;
            if read.is_err() || now.saturating_sub(*since).0 >= RENAMED_KEPT_MS {
                self.renamed = None;
            }
        }
        let current = match &mut self.current {
            Some(opened) => opened.read(&mut each).await.map(|()| true),
            None => Ok(false),
        };
        match (current, found) {
            // A file that has lost its name is still written to, until the new one is there.
            (Ok(true), Err(error)) if error.kind() == ErrorKind::NotFound => Ok(()),
            (Err(error), _) | (_, Err(error)) => Err(failed(&self.path, &error)),
            (Ok(_), Ok(())) => Ok(()),
        }
    }

    /// Opens what has the name now, if that is another file than before.
    async fn find(&mut self, now: Millis) -> std::io::Result<()> {
        let there = tokio::fs::metadata(&self.path).await?;
        if let Some(current) = &self.current {
            let known = current.file.metadata().await?;
            if (known.dev(), known.ino()) == (there.dev(), there.ino()) {
                return Ok(());
            }
        }
        // A pipe would be waited for, until somebody writes.
        if !there.is_file() {
            return Err(std::io::Error::other("not a file"));
        }
        // What comes where nothing was is new; what was there before it could be read is old, for the most part.
        let at_end = matches!(self.found, Found::Unknown | Found::Unreadable);
        let opened = Opened::open(&self.path, at_end).await?;
        self.renamed = self.current.replace(opened).map(|renamed| (renamed, now));
        Ok(())
    }

    /// Bytes that were written and not read.
    async fn behind(&self) -> u64 {
        let Some(opened) = &self.current else { return 0 };
        opened.file.metadata().await.map_or(0, |known| known.len().saturating_sub(opened.position))
    }
}

impl Opened {
    async fn open(path: &Path, at_end: bool) -> std::io::Result<Self> {
        let mut file = File::open(path).await?;
        let known = file.metadata().await?;
        let mut position = 0;
        let mut lines = Lines::default();
        if at_end && known.len() > 0 {
            // From the last byte on: whether it ends a line tells whether what follows begins one.
            position = file.seek(SeekFrom::Start(known.len() - 1)).await?;
            lines = Lines::amid();
        }
        Ok(Self { file, position, lines, buffer: Vec::new() })
    }

    async fn read(&mut self, each: &mut impl FnMut(Option<&[u8]>)) -> std::io::Result<()> {
        if self.file.metadata().await?.len() < self.position {
            self.position = self.file.seek(SeekFrom::Start(0)).await?;
            self.lines = Lines::default();
        }
        loop {
            self.buffer.clear();
            self.buffer.reserve(READ_BYTES);
            let read = self.file.read_buf(&mut self.buffer).await?;
            if read == 0 {
                return Ok(());
            }
            self.position += read as u64;
            self.lines.push(&self.buffer, &mut *each);
        }
    }
}

fn failed(path: &Path, error: &std::io::Error) -> String {
    format!("the log {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    struct Log {
        dir: tempfile::TempDir,
        followed: Followed,
        now: u64,
    }

    impl Log {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("dir");
            let followed = Followed::new(dir.path().join("log"));
            Self { dir, followed, now: 0 }
        }

        fn append(&self, name: &str, text: &str) {
            let path = self.dir.path().join(name);
            let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
            file.and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
        }

        fn rename(&self, from: &str, to: &str) {
            std::fs::rename(self.dir.path().join(from), self.dir.path().join(to)).expect("renamed");
        }

        async fn look(&mut self) -> Result<Vec<String>, String> {
            let mut lines = Vec::new();
            self.now += 250;
            let each = |line: Option<&[u8]>| {
                lines.push(line.map_or("too long".into(), |line| String::from_utf8_lossy(line).into_owned()));
            };
            self.followed.look(Millis(self.now), each).await.map(|()| lines)
        }
    }

    #[tokio::test]
    async fn what_was_there_before_is_old_and_what_comes_is_read_by_line() {
        let mut log = Log::new();
        log.append("log", "old\nhalf");
        assert_eq!(log.look().await, Ok(vec![]));
        log.append("log", " an old one\nnew\nbeg");
        assert_eq!(log.look().await, Ok(vec!["new".into()]));
        log.append("log", "un\n");
        assert_eq!(log.look().await, Ok(vec!["begun".into()]));
        assert_eq!(log.look().await, Ok(vec![]));

        let mut log = Log::new();
        log.append("log", "old\n");
        assert_eq!(log.look().await, Ok(vec![]));
        log.append("log", "new\n");
        assert_eq!(log.look().await, Ok(vec!["new".into()]), "an old line that had ended takes no new one along");
    }

    #[tokio::test]
    async fn a_log_that_comes_later_is_read_from_its_beginning() {
        let mut log = Log::new();
        let error = log.look().await.expect_err("not there");
        assert!(error.contains("/log") && error.contains("No such file"), "{error}");
        log.append("log", "first\n");
        assert_eq!(log.look().await, Ok(vec!["first".into()]));
        let mut folder = Log::new();
        std::fs::create_dir(folder.dir.path().join("log")).expect("a folder");
        assert!(folder.look().await.expect_err("no file").contains("not a file"));
    }

    #[tokio::test]
    async fn a_renamed_log_is_read_until_all_write_to_the_new_one() {
        let mut log = Log::new();
        log.append("log", "");
        log.look().await.expect("opened");
        log.append("log", "1\n");
        log.rename("log", "log.1");
        log.append("log.1", "2\n");
        assert_eq!(log.look().await, Ok(vec!["1".into(), "2".into()]), "the new one isn't there yet");
        log.append("log", "4\n");
        log.append("log.1", "3\n");
        assert_eq!(log.look().await, Ok(vec!["3".into(), "4".into()]));
        log.append("log.1", "5\n");
        log.append("log", "6\n");
        assert_eq!(log.look().await, Ok(vec!["5".into(), "6".into()]), "a worker was late");
        log.now += RENAMED_KEPT_MS;
        log.look().await.expect("read");
        assert!(log.followed.renamed.is_none(), "not for ever");
        std::fs::remove_file(log.dir.path().join("log")).expect("removed");
        assert_eq!(log.look().await, Ok(vec![]), "who writes has it open, and so have we");
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_read_after_its_rotation_is_none() {
        let mut log = Log::new();
        log.append("log", "");
        log.look().await.expect("opened");
        log.append("log", "1\n");
        log.rename("log", "log.1");
        // No permission would be the same, but not for root.
        let path = log.dir.path().join("log");
        std::fs::create_dir(&path).expect("a folder");
        assert!(log.look().await.expect_err("no file").contains("not a file"));
        std::fs::remove_dir(&path).expect("removed");
        log.append("log", "of an hour\n");
        assert_eq!(log.look().await, Ok(vec![]), "nobody knows when");
        log.append("log", "new\n");
        assert_eq!(log.look().await, Ok(vec!["new".into()]));
    }

    #[tokio::test]
    async fn a_pipe_is_refused_and_not_waited_for() {
        let mut log = Log::new();
        let made = std::process::Command::new("mkfifo").arg(log.dir.path().join("log")).status();
        assert!(made.expect("mkfifo").success());
        let looked = tokio::time::timeout(Duration::from_secs(5), log.look()).await.expect("it doesn't wait");
        assert!(looked.expect_err("a pipe").contains("not a file"));
    }

    #[tokio::test]
    async fn a_truncated_log_begins_anew() {
        let mut log = Log::new();
        log.append("log", "old and long\n");
        log.look().await.expect("opened");
        log.append("log", "more\nbegun");
        assert_eq!(log.look().await, Ok(vec!["more".into()]));
        std::fs::write(log.dir.path().join("log"), "new\n").expect("truncated");
        assert_eq!(log.look().await, Ok(vec!["new".into()]));
    }
}

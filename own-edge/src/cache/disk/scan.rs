//! Finds at the start what an earlier process left.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};

use super::file::read_start;
use super::{Entry, Hashed, Inner, path_of, remove, tag_hash};
use crate::cache::object::{Key, tags};

/// Bytes that the start of a file is read with.
const START_BYTES: usize = 4 * 1024;

/// Looks through the folder: first at names, so that new files get new ones, then into each file, the newest first, so
/// that of two for one key the older goes.
pub(super) fn scan(inner: &Arc<Inner>) {
    let mut numbers = numbers(&inner.plan.path);
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let next = numbers.first().map_or(1, |newest| newest + 1).max(inner.log.newest() + 1);
    let _ = OnceLock::set(&inner.next, AtomicU64::new(next));
    let mut kept = 0_u64;
    for number in &numbers {
        let path = path_of(&inner.plan.path, *number);
        match look(inner, &path, *number) {
            Ok(true) => kept += 1,
            Ok(false) => remove(&path),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a file of the cache can't be used");
                remove(&path);
            }
        }
    }
    inner.log.everything_was_applied(&inner.plan.path);
    inner.looked_through.send_replace(true);
    if !numbers.is_empty() {
        tracing::info!(files = numbers.len(), kept, bytes = inner.index.weight(), "found on disk");
    }
}

/// Numbers of all files; removes what was not written to its end.
fn numbers(folder: &Path) -> Vec<u64> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("passing-") {
            remove(&entry.path());
        }
        if name.len() == 2 && u8::from_str_radix(&name, 16).is_ok() {
            let files = fs::read_dir(entry.path()).into_iter().flatten().flatten();
            let number = |file: &fs::DirEntry| u64::from_str_radix(&file.file_name().to_string_lossy(), 16).ok();
            numbers.extend(files.filter_map(|file| number(&file)));
        }
    }
    numbers
}

/// Takes a file into the index; whether it stays.
fn look(inner: &Inner, path: &Path, number: u64) -> io::Result<bool> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let found = read_start(&mut BufReader::with_capacity(START_BYTES, file))?;
    let key = Key::from(found.description.key.as_str());
    if inner.index.contains_key(&key) {
        return Ok(false);
    }
    let entry = Arc::new(Entry {
        number,
        bytes,
        tags: tags(&found.headers).map(tag_hash).collect(),
        softened: AtomicBool::new(found.softened),
    });
    let stays = || {
        let purges = inner.log.since(number);
        let hashed: Vec<Hashed> = purges.iter().map(|purge| Hashed::of(purge)).collect();
        !inner.log.has_changed(&key) && inner.stays(&hashed, &key, &entry)
    };
    if !stays() {
        return Ok(false);
    }
    inner.index.insert(key.clone(), entry.clone());
    // Who purged or changed it in between has looked through the index before it was there.
    if !stays() {
        inner.forget(&key, &entry);
    }
    Ok(true)
}

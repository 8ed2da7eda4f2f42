//! The disk tier: what outlives the process, and what goes wrong with disks.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::client::{Reply, get, get_bytes, get_with, head, raw};
use crate::purging::purge;
use crate::scripted::{Scripted, Step, response};
use crate::support::{TestEdge, media};

const KEPT: &str = "Cache-Control: max-age=600\nETag: \"1\"\nSurrogate-Key: show-7";
const LARGE: usize = 700_001;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    /// An edge's, with this as its disk tier.
    fn lines(&self, size_mb: u64) -> String {
        let path = self.path();
        format!(
            "methods = [\"*\"]\nmemory_mb = 4\nmax_object_mb = 2\ndisk = {{ path = {path:?}, size_mb = {size_mb} }}"
        )
    }

    async fn edge(&self, origin: &Scripted) -> TestEdge {
        self.edge_with(origin, 64).await
    }

    async fn edge_with(&self, origin: &Scripted, size_mb: u64) -> TestEdge {
        let edge = TestEdge::with(&origin.url(), &self.lines(size_mb)).await;
        // It is, when it has looked through the folder.
        while !edge.readiness.is_ready() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        edge
    }

    /// Files of objects.
    fn files(&self) -> Vec<PathBuf> {
        let files = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        files(&self.path()).filter(|path| path.is_dir()).flat_map(|folder| files(&folder).collect::<Vec<_>>()).collect()
    }

    /// Waits until there are so many.
    async fn has(&self, files: usize) {
        for _ in 0..1_000 {
            if self.files().len() == files {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} files, not {files}", self.files().len());
    }

    /// Bytes of the files of objects; one may go while this is counted.
    fn bytes(&self) -> u64 {
        self.files().iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum()
    }
}

/// `/1` is on disk, and served from there.
async fn one_in_its_file() -> (Scripted, Folder, TestEdge) {
    let (origin, folder) = (Scripted::start().await, Folder::new());
    origin.answer("/1", KEPT, media(LARGE));
    let edge = folder.edge(&origin).await;
    get(edge.address, "/1").await;
    edge.hit("/1").await;
    folder.has(1).await;
    // The open file has taken the place of memory.
    tokio::time::sleep(Duration::from_millis(50)).await;
    (origin, folder, edge)
}

fn from_disk(reply: &Reply) -> bool {
    reply.is_hit() && reply.cache_status().contains("detail=disk")
}

#[tokio::test]
async fn what_is_asked_for_twice_outlives_the_process_byte_by_byte() {
    let (origin, folder) = (Scripted::start().await, Folder::new());
    for (target, bytes) in [("/small", 500), ("/large", LARGE), ("/once", 500)] {
        origin.answer(target, &format!("{KEPT}\nX-Name: {target}"), media(bytes));
    }
    let edge = folder.edge(&origin).await;
    get(edge.address, "/once").await;
    for target in ["/small", "/large"] {
        get(edge.address, target).await;
        edge.hit(target).await;
    }
    folder.has(2).await;
    edge.stop().await;

    let edge = folder.edge(&origin).await;
    for (target, bytes) in [("/small", 500), ("/large", LARGE)] {
        let reply = get(edge.address, target).await;
        assert!(from_disk(&reply) && reply.body == media(bytes), "{}", reply.head);
        assert_eq!((reply.header("x-name"), reply.header("etag")), (Some(target), Some("\"1\"")));
        // Again, from memory or from the open file; a part, too.
        assert_eq!(get(edge.address, target).await.body, media(bytes));
        let part = get_with(edge.address, target, "Range: bytes=7-400").await;
        assert_eq!((part.status, &part.body[..]), (206, &media(bytes)[7..=400]));
        assert_eq!(origin.count(target), 1);
    }
    get(edge.address, "/once").await;
    assert_eq!(origin.count("/once"), 2, "who is asked for once has no place on disk");
    // Ages by the wall clock: 600 s are over 600 s after the origin's answer, whoever kept it.
    edge.clock.forward(600);
    get(edge.address, "/large").await;
    assert_eq!(origin.count("/large"), 2);
}

#[tokio::test]
async fn a_head_is_answered_from_disk() {
    let (origin, folder, edge) = one_in_its_file().await;
    edge.stop().await;
    let edge = folder.edge(&origin).await;
    let reply = head(edge.address, "/1").await;
    assert_eq!((reply.header("content-length"), origin.count("/1")), (Some("700001"), 1));
}

#[tokio::test]
async fn a_file_that_is_damaged_cut_or_gone_is_fetched_anew() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("flipped", |path| {
            let bytes = fs::read(path).unwrap();
            let at = bytes.len() - 1_000;
            File::options().write(true).open(path).unwrap().write_all_at(&[!bytes[at]], at as u64).unwrap();
        }),
        ("cut", |path| File::options().write(true).open(path).unwrap().set_len(100_000).unwrap()),
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("gone", |path| fs::remove_file(path).unwrap()),
    ];
    for (harm, harmed) in harms {
        for while_running in [false, true] {
            let (origin, folder, mut edge) = one_in_its_file().await;
            if while_running {
                harmed(&folder.files()[0]);
            } else {
                edge.stop().await;
                harmed(&folder.files()[0]);
                edge = folder.edge(&origin).await;
            }
            for _ in 0..3 {
                let reply = get(edge.address, "/1").await;
                assert!(reply.complete && reply.body == media(LARGE), "{harm}, {while_running}: {}", reply.head);
            }
            // Removing a name does not touch what is open.
            let expected = if harm == "gone" && while_running { 1 } else { 2 };
            assert_eq!(origin.count("/1"), expected, "{harm}, {while_running}");
        }
    }
}

#[tokio::test]
async fn without_its_folder_an_edge_serves_on_and_makes_a_new_one() {
    let (origin, folder) = (Scripted::start().await, Folder::new());
    for target in ["/1", "/2"] {
        origin.answer(target, KEPT, media(LARGE));
    }
    let edge = folder.edge(&origin).await;
    get(edge.address, "/1").await;
    edge.hit("/1").await;
    folder.has(1).await;
    fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(get(edge.address, "/1").await.body, media(LARGE));
    get(edge.address, "/2").await;
    assert_eq!(edge.hit("/2").await.body, media(LARGE));
    folder.has(1).await;
}

#[tokio::test]
async fn purges_outlive_the_process_too() {
    let (origin, folder) = (Scripted::start().await, Folder::new());
    let targets = ["/url", "/prefix/1", "/tag", "/soft", "/stays"];
    for target in targets {
        let tag = if target == "/tag" { "show-8" } else { "show-7" };
        origin.answer(target, &format!("Cache-Control: max-age=600\nETag: \"1\"\nCache-Tag: {tag}"), media(LARGE));
    }
    let edge = folder.edge(&origin).await;
    for target in targets {
        get(edge.address, target).await;
        edge.hit(target).await;
    }
    folder.has(5).await;
    purge(&edge, json!({"urls": ["/url"], "prefixes": ["/prefix/"], "tags": ["show-8"]})).await;
    purge(&edge, json!({"urls": ["/soft"], "soft": true})).await;
    folder.has(2).await;
    edge.stop().await;
    let edge = folder.edge(&origin).await;
    for target in targets {
        get(edge.address, target).await;
        assert_eq!(origin.count(target), if target == "/stays" { 1 } else { 2 }, "{target}");
    }
    assert_eq!(origin.seen("/soft")[1].header("if-none-match"), Some("\"1\""), "it was validated, not forgotten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_purge_names_does_not_come_back_from_disk_while_it_is_carried_out() {
    let (origin, folder) = (Scripted::start().await, Folder::new());
    let version = Arc::new(AtomicU64::new(0));
    let now = version.clone();
    origin.on("/1", move |_| {
        let body = format!("{:<60000}", now.load(Ordering::SeqCst));
        vec![Step::Send(response(200, KEPT, body.as_bytes()))]
    });
    let edge = folder.edge(&origin).await;
    let ask = async || {
        let reply = get(edge.address, "/1").await;
        String::from_utf8(reply.body).unwrap().trim().parse::<u64>().unwrap()
    };
    let over = AtomicBool::new(false);
    let viewer = async || {
        while !over.load(Ordering::SeqCst) {
            ask().await;
        }
    };
    let purges = async {
        for round in 1..=40 {
            folder.has(1).await;
            version.store(round, Ordering::SeqCst);
            let what = if round % 2 == 0 { json!({"urls": ["/1"]}) } else { json!({"tags": ["show-7"], "soft": true}) };
            purge(&edge, what).await;
            assert_eq!(ask().await, round);
        }
        over.store(true, Ordering::SeqCst);
    };
    tokio::join!(viewer(), viewer(), viewer(), viewer(), purges);
}

/// A file whose reader waits, until this is dropped.
struct SlowFile(PathBuf);

impl SlowFile {
    fn at(path: PathBuf) -> Self {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let ours = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, ours, 0).unwrap();
        Self(path)
    }
}

impl Drop for SlowFile {
    fn drop(&mut self) {
        // Reading as well, so that this never waits itself.
        drop(File::options().read(true).write(true).open(&self.0));
    }
}

#[tokio::test]
async fn what_changes_before_its_file_is_found_does_not_come_back() {
    let (origin, folder, edge) = one_in_its_file().await;
    edge.stop().await;
    // The newest, so that it is looked into first.
    let slow = SlowFile::at(folder.path().join("ff/00000000000000ff"));
    // It serves when it has waited ten seconds for its files.
    let edge = folder.edge(&origin).await;
    assert_eq!(raw(edge.address, &get_bytes("POST", "/1", "Content-Length: 0")).await.status, 200);
    assert_eq!(folder.files().len(), 2, "neither has been looked into");
    drop(slow);
    folder.has(0).await;
    let fetched = origin.count("/1");
    assert!(!get(edge.address, "/1").await.is_hit());
    assert_eq!(origin.count("/1"), fetched + 1);
}

#[tokio::test]
async fn what_was_purged_softly_helps_out_from_its_file() {
    for restarted in [false, true] {
        let (origin, folder, mut edge) = one_in_its_file().await;
        if restarted {
            edge.stop().await;
            edge = folder.edge(&origin).await;
            assert!(from_disk(&get(edge.address, "/1").await));
        }
        purge(&edge, json!({"urls": ["/1"], "soft": true})).await;
        origin.on("/1", |_| vec![Step::Reset]);
        let reply = get(edge.address, "/1").await;
        assert!(reply.status == 200 && reply.cache_status().contains("detail=origin-"), "{}", reply.head);
        assert!(reply.body == media(LARGE) && origin.count("/1") >= 2);
    }
}

#[tokio::test]
async fn the_tier_keeps_to_its_size() {
    let (origin, folder) = (Scripted::start().await, Folder::new());
    origin.answer("/1", "Cache-Control: max-age=600", media(LARGE));
    let edge = folder.edge_with(&origin, 4).await;
    const SIZE: u64 = 4 * 1024 * 1024;
    for n in 0..20 {
        let target = format!("/1?{n}");
        get(edge.address, &target).await;
        edge.hit(&target).await;
        // What is new has its name before something else has lost its own.
        assert!(folder.bytes() <= SIZE + LARGE as u64 + 1_000, "{} bytes", folder.bytes());
    }
    for _ in 0..1_000 {
        if (1..=SIZE).contains(&folder.bytes()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} bytes", folder.bytes());
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone_and_what_was_not_finished_is_removed() {
    let (origin, folder) = (Scripted::start().await, Folder::new());
    fs::create_dir_all(folder.path().join("ab")).unwrap();
    let passing = folder.path().join("passing-00");
    let (theirs, broken) = (folder.path().join("notes.txt"), folder.path().join("ab/00000000000000ab"));
    for path in [&passing, &theirs, &broken] {
        fs::write(path, "nothing of ours").unwrap();
    }
    let edge = folder.edge(&origin).await;
    assert!(!passing.exists() && !broken.exists() && theirs.exists());
    // Its number is not given away again.
    origin.answer("/1", KEPT, media(LARGE));
    get(edge.address, "/1").await;
    edge.hit("/1").await;
    folder.has(1).await;
    assert!(folder.files()[0].ends_with("ac/00000000000000ac"), "{:?}", folder.files());
}

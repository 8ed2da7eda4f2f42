//! Where the table is: a folder, or an S3 protocol server that this campaign starts.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Campaign;
use super::watch::{Look, entries, wal_files};
use crate::free_ports;

const BUCKET: &str = "spillway-crash";
const PREFIX: &str = "lake";

/// A place for tables.
pub(super) enum Storage {
    Folder(PathBuf),
    S3 { server: Child, port: u16 },
}

impl Storage {
    pub(super) fn start(campaign: &Campaign) -> Result<Self, String> {
        let Some(program) = &campaign.moto_server else {
            return Ok(Self::Folder(campaign.dir.join("lake")));
        };
        let [port] = free_ports();
        let server = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("start {}: {error}", program.display()))?;
        let storage = Self::S3 { server, port };
        for _ in 0..200 {
            if http(port, "PUT", &format!("/{BUCKET}")).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Ok(storage);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(format!("{} takes no bucket within 20 s", program.display()))
    }

    /// The lake's root, as the configuration names it.
    pub(super) fn root(&self) -> String {
        match self {
            Self::Folder(path) => super::text(path),
            Self::S3 { .. } => format!("s3://{BUCKET}/{PREFIX}"),
        }
    }

    /// What a process needs in its environment to reach it.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Folder(_) => Vec::new(),
            Self::S3 { port, .. } => vec![
                ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
                ("AWS_ALLOW_HTTP", "true".into()),
                ("AWS_REGION", "eu-central-1".into()),
                ("AWS_ACCESS_KEY_ID", "test".into()),
                ("AWS_SECRET_ACCESS_KEY", "test".into()),
            ],
        }
    }

    /// The table `events` now, and the WAL in `wal`.
    pub(super) fn look(&self, wal: &Path) -> Look {
        let mut look = Look { wal: wal_files(wal), ..Look::default() };
        let names: Vec<String> = match self {
            Self::Folder(root) => {
                let table = root.join("events");
                let folders = entries(&table).into_iter().filter(|path| path.is_dir());
                folders.flat_map(|folder| entries(&folder)).map(|path| super::text(&path)).collect()
            }
            Self::S3 { port, .. } => {
                let listing = http(*port, "GET", &format!("/{BUCKET}?list-type=2&prefix={PREFIX}/events/"));
                let listing = listing.unwrap_or_default();
                listing
                    .split("<Key>")
                    .skip(1)
                    .filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned()))
                    .collect()
            }
        };
        for name in names {
            if name.ends_with(".json") {
                look.log.insert(name);
            } else if name.ends_with(".parquet") && !name.contains("_delta_log") {
                look.parquet.insert(name);
            }
        }
        look
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Self::S3 { server, .. } = self {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// One exchange without a body; the whole answer.
fn http(port: u16, method: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

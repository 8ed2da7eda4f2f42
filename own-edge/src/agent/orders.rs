//! Orders as files, for a server that may look at them: `orders.json` tells all, `refuse-new` is there while new sessions
//! should not be served.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use spillway_service::CancellationToken;

use super::watched::Watched;

/// Orders that nobody renews end, without anybody saying so.
const PACE: Duration = Duration::from_secs(1);
const FLAG: &str = "refuse-new";
const FILE: &str = "orders.json";

/// `orders.json`.
#[derive(Debug, Serialize)]
struct Standing<'a> {
    /// New sessions are to be served.
    admit: bool,
    /// Why not: `drain`, `not-admitted` or `full`.
    reason: Option<&'a str>,
    /// Being drained.
    drain: bool,
    /// Where new sessions may go instead: absolute base URL without a slash at its end.
    redirect_to: Option<&'a str>,
    /// Decision that the order comes from; 0 without one.
    epoch: u64,
}

/// Keeps the files in `dir` up to date until `shutdown`, then removes them: nobody would renew them.
pub(super) async fn run(dir: PathBuf, watched: Arc<Watched>, shutdown: CancellationToken) {
    let mut written: Option<String> = None;
    let mut works = true;
    while !shutdown.is_cancelled() {
        let (order, closed) = watched.standing();
        let standing = Standing {
            admit: closed.is_none(),
            reason: closed,
            drain: watched.is_draining(),
            redirect_to: order.redirect_to.as_deref(),
            epoch: order.epoch,
        };
        let text = serde_json::to_string(&standing).expect("strings and numbers are JSON") + "\n";
        // Somebody may have removed them: a folder below /run, a careless hand.
        if written.as_ref() != Some(&text) || !they_stand(&dir, closed).await {
            match write(&dir, &text, closed).await {
                Ok(()) => {
                    (written, works) = (Some(text), true);
                }
                Err(error) => {
                    if std::mem::take(&mut works) {
                        tracing::warn!(dir = %dir.display(), %error, "orders can't be written");
                    }
                }
            }
        }
        tokio::select! {
            () = watched.ordered.notified() => {}
            () = tokio::time::sleep(PACE) => {}
            () = shutdown.cancelled() => {}
        }
    }
    for name in [FLAG, FILE] {
        let _ = tokio::fs::remove_file(dir.join(name)).await;
    }
}

async fn they_stand(dir: &Path, closed: Option<&str>) -> bool {
    let there = async |name| tokio::fs::try_exists(dir.join(name)).await.unwrap_or(false);
    there(FILE).await && there(FLAG).await == closed.is_some()
}

async fn write(dir: &Path, text: &str, closed: Option<&str>) -> io::Result<()> {
    replace(&dir.join(FILE), text).await?;
    match closed {
        Some(reason) => replace(&dir.join(FLAG), &format!("{reason}\n")).await,
        None => match tokio::fs::remove_file(dir.join(FLAG)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    }
}

/// Who reads sees the old text or the new one, never half of it.
async fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    tokio::fs::write(&new, text).await?;
    tokio::fs::rename(&new, path).await
}

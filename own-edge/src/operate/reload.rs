//! Live reload: the configuration is read again, checked whole, and what may change while the process runs does.

use std::sync::Arc;

use metrics::counter;
use spillway_service::CancellationToken;
use tokio::sync::watch;

use crate::config::EdgeConfig;
use crate::edge::Edge;

/// How a configuration is read anew, and when.
#[derive(Clone)]
pub struct Reload<C = EdgeConfig> {
    /// Counts the signals to do so.
    pub hangups: watch::Receiver<u64>,
    /// Reads it; an error is a sentence.
    pub reread: Arc<dyn Fn() -> Result<C, String> + Send + Sync>,
}

/// Follows `reload` until `shutdown`. A configuration with any value that is not valid changes nothing.
pub(crate) async fn follow(edge: Arc<Edge>, running: EdgeConfig, reload: Reload, shutdown: CancellationToken) {
    let take = |config: EdgeConfig| {
        let terms = config.check().and_then(|()| config.terms()).map_err(|error| error.to_string())?;
        edge.change(terms);
        Ok(config.fixed_keys_that_differ(&running))
    };
    each("spillway_edge_reloads_total", reload, take, shutdown).await;
}

/// Has `take` take each configuration that is read, or say why not, until `shutdown`; it says which keys take a restart.
/// `counts` names the counter of both.
pub(crate) async fn each<C: Send + 'static>(
    counts: &'static str,
    mut reload: Reload<C>,
    take: impl Fn(C) -> Result<Vec<&'static str>, String>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            changed = reload.hangups.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
        let reread = reload.reread.clone();
        let read = tokio::task::spawn_blocking(move || reread()).await.unwrap_or_else(|error| Err(error.to_string()));
        let result = match read.and_then(&take) {
            Ok(later) => {
                tracing::info!(takes_a_restart = later.join(", "), "the configuration was read anew");
                "taken"
            }
            Err(error) => {
                tracing::error!(error, "the configuration before stays in force");
                "refused"
            }
        };
        counter!(counts, "result" => result).increment(1);
    }
}

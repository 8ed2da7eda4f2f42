//! Live reload: the configuration is read again, checked whole, and what may change while the edge runs does.

use std::sync::Arc;

use metrics::counter;
use spillway_service::CancellationToken;
use tokio::sync::watch;

use crate::config::EdgeConfig;
use crate::edge::Edge;

/// How a configuration is read anew, and when.
#[derive(Clone)]
pub struct Reload {
    /// Counts the signals to do so.
    pub hangups: watch::Receiver<u64>,
    /// Reads it; an error is a sentence.
    pub reread: Arc<dyn Fn() -> Result<EdgeConfig, String> + Send + Sync>,
}

/// Follows `reload` until `shutdown`. A configuration with any value that is not valid changes nothing.
pub(crate) async fn follow(edge: Arc<Edge>, running: EdgeConfig, mut reload: Reload, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            changed = reload.hangups.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
        let reread = reload.reread.clone();
        let read = tokio::task::spawn_blocking(move || reread()).await.unwrap_or_else(|error| Err(error.to_string()));
        let checked = read.and_then(|config| {
            let terms = config.check().and_then(|()| config.terms());
            Ok((terms.map_err(|error| error.to_string())?, config))
        });
        let result = match checked {
            Ok((terms, config)) => {
                edge.change(terms);
                let later = config.fixed_keys_that_differ(&running);
                tracing::info!(takes_a_restart = later.join(", "), "the configuration was read anew");
                "taken"
            }
            Err(error) => {
                tracing::error!(error, "the configuration before stays in force");
                "refused"
            }
        };
        counter!("spillway_edge_reloads_total", "result" => result).increment(1);
    }
}

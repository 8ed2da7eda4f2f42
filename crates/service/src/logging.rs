//! Logs: text is constant, values are fields; to standard error.

use tracing_subscriber::EnvFilter;

/// Starts logging; `RUST_LOG` chooses, `default` (`info`, `warn` …) else. Later calls do nothing.
pub fn init(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

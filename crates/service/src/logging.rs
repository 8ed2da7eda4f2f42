//! Logs: text is constant, values are fields; to standard error.

use tracing_subscriber::EnvFilter;

/// What the Delta kernel tells at `info` is of no use to an operator.
const QUIET: &str = "buoyant_kernel=warn";

/// Starts logging; `RUST_LOG` chooses, `default` (`info`, `warn` …) else. Later calls do nothing.
pub fn init(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("{default},{QUIET}")));
    // A standard error that nobody reads must not end or hang anything: complaining about it there would panic.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let _ = log.try_init();
}

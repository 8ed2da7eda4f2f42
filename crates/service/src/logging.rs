//! Logs: text is constant, values are fields; to standard error.

use tracing_subscriber::EnvFilter;

/// What the Delta kernel tells at `info` is of no use to an operator, and it calls each table that nobody has made yet an
/// error. Real errors come back to the caller, who tells them.
const QUIET: &str = "buoyant_kernel=warn,buoyant_kernel::snapshot::builder=off";

/// Starts logging; `RUST_LOG` chooses, `default` (`info`, `warn` …) else. Later calls do nothing.
pub fn init(default: &str) {
    let chosen = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| default.to_owned());
    // A directive that names the same target again wins.
    let filter = EnvFilter::try_new(format!("{QUIET},{chosen}"))
        .unwrap_or_else(|_| EnvFilter::new(format!("{QUIET},{default}")));
    // A standard error that nobody reads must not end or hang anything: complaining about it there would panic.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let _ = log.try_init();
}

//! `spillway-demo`: the whole flow on one machine. `cargo xtask demo` builds what it needs and starts it.

use std::process::{Command, ExitCode};

use clap::Parser as _;
use spillway_demo::story::{self, args::Args};
use spillway_service::shutdown_on_signal;

/// Sockets of a few hundred viewers, and of the CDNs at their other end.
const OPEN_FILES: u64 = 16_384;
/// Set once the limit was raised, so that it is not tried twice.
const RAISED: &str = "SPILLWAY_DEMO_LIMIT_RAISED";

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(code) = again_with_more_files() {
        return code;
    }
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "error".into()))
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let result = runtime.block_on(async { story::run(&args, shutdown_on_signal()?).await });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

#[expect(clippy::print_stderr, reason = "this is where a program says why it failed")]
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("spillway-demo: failed to {error:#}");
    ExitCode::FAILURE
}

/// Many systems allow 1,024 open files unless asked. Only a shell can ask without unsafe code, so where the limit is
/// low the demo starts itself once more from one.
fn again_with_more_files() -> Option<ExitCode> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    let soft: u64 = line.split_whitespace().nth(3)?.parse().ok()?;
    if soft >= OPEN_FILES || std::env::var_os(RAISED).is_some() {
        return None;
    }
    let program = std::env::current_exe().ok()?;
    let script = "ulimit -n \"$(ulimit -H -n)\"; exec \"$0\" \"$@\"";
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).arg(program).args(std::env::args_os().skip(1)).env(RAISED, "1");
    let error = std::os::unix::process::CommandExt::exec(&mut shell);
    Some(failed(&anyhow::Error::from(error).context("start again with more open files")))
}

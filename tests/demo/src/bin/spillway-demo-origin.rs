//! `spillway-demo-origin`: the demo's origin alone, for tests that bring players of their own. Prints its address, and
//! serves until a signal.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::Context as _;
use spillway_demo::media::Clip;
use spillway_demo::origin::{OriginState, router};
use spillway_model::Clock as _;
use spillway_service::{SystemClock, shutdown_on_signal};
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let stop = shutdown_on_signal().context("listen for signals")?;
    let clock = SystemClock::new();
    let origin = OriginState::new(Clip::embedded().context("read the clip")?, Arc::new(move || clock.now().0));
    let listener = TcpListener::bind("127.0.0.1:0").await.context("find a free port")?;
    writeln!(std::io::stdout(), "http://{}", listener.local_addr()?).context("say the address")?;
    axum::serve(listener, router(origin)).with_graceful_shutdown(stop.cancelled_owned()).await.context("serve")
}

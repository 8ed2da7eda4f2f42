//! The peer of `steer`: an axum handler that answers every request with the same bytes.

use std::net::SocketAddr;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use clap::Args;

/// Where, and how much.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address
    #[arg(long)]
    listen: SocketAddr,
    /// Bytes of each answer's body
    #[arg(long)]
    body_bytes: usize,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let body: &'static str = Box::leak("x".repeat(arguments.body_bytes).into_boxed_str());
    let answer = move || async move {
        let media_type = (header::CONTENT_TYPE, "application/vnd.apple.steering-list");
        ([media_type, (header::CACHE_CONTROL, "no-store")], body)
    };
    let router = Router::new()
        .route("/v1/steer/hls", get(answer))
        .route("/v1/decide", get(answer))
        .route("/readyz", get(|| async { "ready" }));
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(arguments.listen).await?;
        Ok(axum::serve(listener, router).await?)
    })
}

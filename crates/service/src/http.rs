//! Listeners: bind with a clear error, serve with the peer's address, drain within a bound.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Router;
use http::HeaderMap;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::DRAIN;
use crate::config::ConfigError;

/// A client that has not sent its headers by then is cut.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// Binds `address`; `key` names the configuration key in the error.
///
/// # Errors
/// [`ConfigError::Invalid`] with the address and what the system said (taken, not ours, not allowed).
pub async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, ConfigError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| ConfigError::invalid(key, address, format!("a free address; the system says: {error}")))
}

/// Serves `router` (HTTP/1.1) until `shutdown`, then lets open requests end for at most
/// [`DRAIN`]. Handlers find the peer as `ConnectInfo<SocketAddr>` in the request's extensions.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    serve_within(listener, router, shutdown, HEADER_TIMEOUT).await;
}

async fn serve_within(listener: TcpListener, router: Router, shutdown: CancellationToken, header_timeout: Duration) {
    // Without TLS nobody negotiates HTTP/2, and telling the two apart by the first bytes has no time-out: a client
    // that sends nothing would stay for ever.
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(header_timeout);
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors: waiting is better than spinning.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let router = router.clone();
        let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(axum::extract::ConnectInfo(peer));
            router.clone().call(request)
        });
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, %peer, "connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("open requests were cut at the end of the drain");
    }
}

/// The client's address: the peer's, or, where a proxy in front is trusted, the first of the header that it sets.
#[must_use]
pub fn client_ip(peer: SocketAddr, headers: &HeaderMap, trusted_header: Option<&str>) -> IpAddr {
    trusted_header
        .and_then(|name| headers.get(name))
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split(',').next())
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_else(|| peer.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = taken.local_addr().expect("address");
        let error = bind("collector.listen", address).await.expect_err("taken").to_string();
        assert!(error.contains("collector.listen") && error.contains(&address.to_string()), "{error}");
    }

    #[tokio::test]
    async fn a_client_that_sends_nothing_is_cut() {
        use tokio::io::AsyncReadExt as _;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        let impatient = Duration::from_millis(50);
        tokio::spawn(serve_within(listener, Router::new(), CancellationToken::new(), impatient));
        let mut silent = tokio::net::TcpStream::connect(address).await.expect("connected");
        let mut said = Vec::new();
        let cut = tokio::time::timeout(Duration::from_secs(10), silent.read_to_end(&mut said)).await;
        assert!(cut.is_ok(), "still connected after 10 s");
    }

    #[test]
    fn the_header_counts_only_where_it_is_trusted() {
        let peer: SocketAddr = "192.0.2.1:9".parse().expect("address");
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "198.51.100.7, 192.0.2.1".parse().expect("value"));
        assert_eq!(client_ip(peer, &headers, None), peer.ip());
        assert_eq!(client_ip(peer, &headers, Some("x-forwarded-for")).to_string(), "198.51.100.7");
    }
}

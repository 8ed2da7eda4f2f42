//! Listeners: bind with a clear error, serve with the peer's address, drain within a bound.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Router;
use http::HeaderMap;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::DRAIN;
use crate::config::ConfigError;
use crate::tls::Listener;

/// A client that has not sent its headers by then is cut.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// A silent HTTP/2 connection is asked whether it is still there.
const HTTP2_PING: Duration = Duration::from_secs(30);

/// Binds `address`; `key` names the configuration key in the error.
///
/// # Errors
/// [`ConfigError::Invalid`] with the address and what the system said (taken, not ours, not allowed).
pub async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, ConfigError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| ConfigError::invalid(key, address, format!("a free address; the system says: {error}")))
}

/// Serves `router` until `shutdown`, then lets open requests end for at most [`DRAIN`]. HTTP/1.1, and over TLS also
/// HTTP/2. Handlers find the peer as `ConnectInfo<SocketAddr>` in the request's extensions.
pub async fn serve(listener: impl Into<Listener>, router: Router, shutdown: CancellationToken) {
    serve_within(listener.into(), router, shutdown, HEADER_TIMEOUT).await;
}

async fn serve_within(listener: Listener, router: Router, shutdown: CancellationToken, header_timeout: Duration) {
    let Listener { tcp, tls } = listener;
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = tcp.accept() => accepted,
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
        let connection = Connection { router: router.clone(), peer, header_timeout, watcher: graceful.watcher() };
        match tls.clone() {
            None => tokio::spawn(connection.http1(stream)),
            Some(tls) => tokio::spawn(connection.tls(tls, stream, shutdown.clone())),
        };
    }
    drop(tcp);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("open requests were cut at the end of the drain");
    }
}

/// One connection, to be served.
struct Connection {
    router: Router,
    peer: SocketAddr,
    header_timeout: Duration,
    watcher: Watcher,
}

impl Connection {
    /// Shakes hands, then speaks what was negotiated.
    async fn tls(self, tls: TlsAcceptor, stream: TcpStream, shutdown: CancellationToken) {
        let handshake = tokio::select! {
            handshake = tokio::time::timeout(self.header_timeout, tls.accept(stream)) => handshake,
            () = shutdown.cancelled() => return,
        };
        match handshake {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => self.http2(stream).await,
            Ok(Ok(stream)) => self.http1(stream).await,
            Ok(Err(error)) => tracing::debug!(%error, peer = %self.peer, "a handshake failed"),
            Err(_) => tracing::debug!(peer = %self.peer, "a handshake took too long"),
        }
    }

    // Without TLS nobody negotiates HTTP/2, and telling the two apart by the first bytes has no time-out: a client that
    // sends nothing would stay for ever.
    async fn http1(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.header_timeout);
        let connection = builder.serve_connection(TokioIo::new(stream), service(self.router, self.peer));
        ended(self.watcher.watch(connection).await, self.peer);
    }

    async fn http2(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(Some(HTTP2_PING)).keep_alive_timeout(self.header_timeout);
        let connection = builder.serve_connection(TokioIo::new(stream), service(self.router, self.peer));
        ended(self.watcher.watch(connection).await, self.peer);
    }
}

fn service(
    router: Router,
    peer: SocketAddr,
) -> impl hyper::service::Service<
    hyper::Request<Incoming>,
    Response = axum::response::Response,
    Error = Infallible,
    Future: Send + 'static,
> {
    hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(axum::extract::ConnectInfo(peer));
        router.clone().call(request)
    })
}

fn ended(result: Result<(), hyper::Error>, peer: SocketAddr) {
    if let Err(error) = result {
        tracing::debug!(%error, %peer, "connection ended");
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
        tokio::spawn(serve_within(listener.into(), Router::new(), CancellationToken::new(), impatient));
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

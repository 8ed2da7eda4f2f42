//! Connections: accepted up to a limit, with TLS or without, given to who speaks their protocol, drained within a bound.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Cursor;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Version};
use hyper::body::Incoming;
use hyper::{Request, server};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use metrics::counter;
use spillway_service::tls::Listener;
use spillway_service::{CancellationToken, DRAIN};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::edge::Edge;
use crate::operate::terms::client_key;
use crate::serve::answer::{Server, answer};
use crate::serve::doors::Doors;
use crate::serve::hop::Hop;
use crate::serve::http1::{self, HandOver};
use crate::serve::socket::{Socket, Stream};

/// HTTP/2: requests at once on one connection, and bytes of its headers.
const STREAMS_MAX: u32 = 128;
const H2_HEADERS_MAX_BYTES: u32 = 32 * 1024;
/// HTTP/2: an idle connection is asked whether it lives.
const H2_PING: Duration = Duration::from_secs(20);
/// HTTP/2: bytes of one answer that wait for a client's window.
const H2_SEND_BYTES: usize = 1024 * 1024;

/// Serves until `shutdown`, then lets open answers end for at most [`DRAIN`].
pub(crate) async fn serve(server: Arc<Server>, doors: Doors, shutdown: CancellationToken) {
    let connections = Connections {
        free: Arc::new(Semaphore::new(server.edge.plan.max_connections)),
        clients: Arc::new(Clients::new(&server.edge)),
        open: TaskTracker::new(),
        server,
        shutdown,
        end: CancellationToken::new(),
    };
    let accepting = [Some((doors.plain, None)), doors.tls.map(Listener::into_parts)];
    let accepting = accepting.into_iter().flatten().map(|(listener, tls)| connections.accept(listener, tls));
    futures::future::join_all(accepting).await;
    connections.server.edge.stop();
    connections.end.cancel();
    connections.open.close();
    if tokio::time::timeout(DRAIN, connections.open.wait()).await.is_err() {
        tracing::warn!("open answers were cut at the end of the drain");
    }
}

struct Connections {
    server: Arc<Server>,
    free: Arc<Semaphore>,
    clients: Arc<Clients>,
    open: TaskTracker,
    /// Nobody new is let in.
    shutdown: CancellationToken,
    /// Connections end as soon as they can; comes after the edge's own flag, which they look at.
    end: CancellationToken,
}

impl Connections {
    async fn accept(&self, listener: TcpListener, tls: Option<TlsAcceptor>) {
        let turned_away = counter!("spillway_edge_connections_refused_total");
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.shutdown.cancelled() => return,
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
            let place = self.free.clone().try_acquire_owned().ok().zip(self.clients.enter(peer.ip()));
            let Some(place) = place else {
                turned_away.increment(1);
                continue;
            };
            let _ = stream.set_nodelay(true);
            let hop = Hop::of(&stream, peer);
            let (server, end) = (self.server.clone(), self.end.clone());
            match tls.clone() {
                None => self.open.spawn(async move {
                    plain(server, stream, hop, end).await;
                    drop(place);
                }),
                // Boxed: what a handshake needs shall not stay for as long as the connection does.
                Some(acceptor) => self.open.spawn(async move {
                    over_tls(server, acceptor, stream, hop, end).await;
                    drop(place);
                }),
            };
        }
    }
}

/// Connections by client, where they are limited.
struct Clients {
    max: usize,
    open: Mutex<HashMap<u128, usize>>,
}

/// A connection of a client.
struct Entered(Option<(Arc<Clients>, u128)>);

impl Clients {
    fn new(edge: &Edge) -> Self {
        // Behind a proxy all connections are its own.
        let counts = edge.terms().trusted_ip_header.is_none();
        let max = if counts { edge.plan.max_connections_per_client } else { 0 };
        Self { max, open: Mutex::default() }
    }

    /// Counts a connection; `None` when its client has enough.
    fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Entered> {
        if self.max == 0 {
            return Some(Entered(None));
        }
        let key = client_key(client);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(key).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Entered(Some((self.clone(), key))))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let Some((clients, key)) = self.0.take() else { return };
        let mut open = clients.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&key);
            }
        }
    }
}

fn socket(server: &Server, stream: TcpStream) -> Socket {
    Socket::new(stream, server.edge.meter.clone(), server.edge.plan.write_stall)
}

async fn plain(server: Arc<Server>, stream: TcpStream, hop: Arc<Hop>, end: CancellationToken) {
    let stream = socket(&server, stream);
    if let Some(rest) = http1::serve(&server, stream, &hop, &end).await {
        Box::pin(by_hyper(server, rest, hop, end)).await;
    }
}

async fn over_tls(
    server: Arc<Server>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    hop: Arc<Hop>,
    end: CancellationToken,
) {
    let handshake = Box::pin(acceptor.accept(socket(&server, stream)));
    let stream = tokio::select! {
        shaken = tokio::time::timeout(server.edge.plan.header_timeout, handshake) => match shaken {
            Ok(Ok(stream)) => stream,
            failed => {
                let reason = if failed.is_err() { "timeout" } else { "handshake" };
                counter!("spillway_edge_tls_failed_total", "reason" => reason).increment(1);
                return;
            }
        },
        () = end.cancelled() => return,
    };
    let rest = if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        Some(HandOver { stream, came: Vec::new(), version: Version::HTTP_2 })
    } else {
        http1::serve(&server, stream, &hop, &end).await
    };
    if let Some(rest) = rest {
        Box::pin(by_hyper(server, rest, hop, end)).await;
    }
}

/// Goes on with a connection that speaks HTTP/2, or whose request has a body: that is its last one, since what follows
/// it was not looked at.
async fn by_hyper<S: Stream>(server: Arc<Server>, rest: HandOver<S>, hop: Arc<Hop>, end: CancellationToken) {
    let HandOver { mut stream, came, version } = rest;
    let header_timeout = server.edge.plan.header_timeout;
    let cut = stream.socket().cut_flag();
    let peer = hop.peer;
    let (reading, writing) = tokio::io::split(stream);
    let io = TokioIo::new(tokio::io::join(Cursor::new(came).chain(reading), writing));
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (server, hop, cut) = (server.clone(), hop.clone(), cut.clone());
        async move {
            let mut response = answer(&server, &hop, request).await.into_response(&server.edge.dress);
            server.edge.sent(response.body(), false);
            if version < Version::HTTP_2 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                response.body_mut().on_cut(cut);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let ended = if version == Version::HTTP_2 {
        let mut builder = server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(H2_HEADERS_MAX_BYTES)
            .max_send_buf_size(H2_SEND_BYTES)
            .keep_alive_interval(H2_PING);
        let mut served = std::pin::pin!(builder.serve_connection(io, service));
        tokio::select! {
            ended = served.as_mut() => ended,
            () = end.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        }
    } else {
        let mut builder = server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(header_timeout).keep_alive(false);
        builder.serve_connection(io, service).await
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "connection ended");
    }
}

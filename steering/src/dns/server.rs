//! Sockets of the zone: datagrams and connections, bounded in number, size and time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use spillway_service::CancellationToken;
use spillway_service::config::ConfigError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use super::Dns;
use super::limits::Place;
use super::tally::{Outcome, Transport};

/// A query is a few hundred bytes; one that is longer does not read, and ends a connection.
const QUERY_MAX_BYTES: usize = 4_096;
/// For a query to arrive as a whole, and for its answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// Queries of one connection, after which it has to be opened again.
const QUERIES_PER_CONNECTION: u32 = 1_000;
/// After an error of a socket: out of memory or descriptors, waiting is better than spinning.
const SOCKET_RETRY: Duration = Duration::from_millis(50);
/// Between two looks at the counters.
const EXPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Ports that are tried where any will do: one may be free for datagrams and taken for connections.
const ANY_PORT_TRIES: u32 = 20;

/// One address, bound for both.
pub(crate) struct Sockets {
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
}

impl Sockets {
    /// Binds every address.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with the address and what the system said (taken, not ours, not allowed).
    pub(crate) async fn bind(listen: &[SocketAddr]) -> Result<Vec<Self>, ConfigError> {
        let mut out = Vec::new();
        for address in listen {
            let bound = Self::bind_one(*address).await.map_err(|error| {
                let valid = format!("an address that is free for UDP and TCP; the system says: {error}");
                ConfigError::invalid("steer.dns.listen", address, valid)
            })?;
            out.push(bound);
        }
        Ok(out)
    }

    async fn bind_one(address: SocketAddr) -> io::Result<Self> {
        let mut tries = if address.port() == 0 { ANY_PORT_TRIES } else { 1 };
        loop {
            let udp = UdpSocket::bind(address).await?;
            tries -= 1;
            match TcpListener::bind(udp.local_addr()?).await {
                Ok(tcp) => return Ok(Self { udp: Arc::new(udp), tcp }),
                Err(error) if tries == 0 => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}

/// Serves until `shutdown`.
pub(crate) async fn serve(dns: Arc<Dns>, sockets: Vec<Sockets>, shutdown: &CancellationToken) {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut tasks = JoinSet::new();
    for Sockets { udp, tcp } in sockets {
        for _ in 0..workers {
            tasks.spawn(datagrams(Arc::clone(&dns), Arc::clone(&udp)));
        }
        tasks.spawn(connections(Arc::clone(&dns), tcp));
    }
    let mut export = tokio::time::interval(EXPORT_INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = export.tick() => dns.tally.export(),
        }
    }
}

/// Answers datagrams, one by one: each takes microseconds, and waits for nothing.
async fn datagrams(dns: Arc<Dns>, socket: Arc<UdpSocket>) {
    let mut packet = vec![0; QUERY_MAX_BYTES];
    let mut out = Vec::with_capacity(QUERY_MAX_BYTES);
    loop {
        let (length, sender) = match socket.recv_from(&mut packet).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "no datagram");
                tokio::time::sleep(SOCKET_RETRY).await;
                continue;
            }
        };
        dns.datagram(&packet[..length], sender, &mut out);
        if !out.is_empty()
            && let Err(error) = socket.send_to(&out, sender).await
        {
            tracing::debug!(%error, "an answer was not sent");
        }
    }
}

/// Takes connections while there is a place for them; others are closed at once, so that they don't wait in a queue.
async fn connections(dns: Arc<Dns>, listener: TcpListener) {
    let mut talks = JoinSet::new();
    loop {
        while talks.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => match dns.limits.connection(peer.ip()) {
                Some(place) => drop(talks.spawn(talk(Arc::clone(&dns), stream, peer, place))),
                None => dns.tally.count(Transport::Tcp, Outcome::Unconnected),
            },
            Err(error) => {
                tracing::debug!(%error, "no connection");
                tokio::time::sleep(SOCKET_RETRY).await;
            }
        }
    }
}

/// Answers the queries of a connection in their order, until it ends, is silent, or says what can't be read.
async fn talk(dns: Arc<Dns>, mut stream: TcpStream, peer: SocketAddr, _place: Place) {
    let _ = stream.set_nodelay(true);
    let mut packet = Vec::new();
    let mut out = Vec::new();
    for _ in 0..QUERIES_PER_CONNECTION {
        match tokio::time::timeout(PATIENCE, query(&mut stream, &mut packet)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
        dns.respond(&packet, peer.ip(), Transport::Tcp, &mut out);
        let Ok(length) = u16::try_from(out.len()) else { return };
        if length == 0 {
            return;
        }
        // In one piece, since it may be read as one (RFC 7766, 8).
        out.splice(..0, length.to_be_bytes());
        match tokio::time::timeout(PATIENCE, stream.write_all(&out)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}

/// Reads one query: its length in two bytes, and itself.
async fn query(stream: &mut TcpStream, packet: &mut Vec<u8>) -> io::Result<()> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUERY_MAX_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    packet.resize(length, 0);
    stream.read_exact(packet).await.map(drop)
}

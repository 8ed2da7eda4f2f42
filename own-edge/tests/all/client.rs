//! A client that tells a complete answer from a cut one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::scripted::lines;

/// Longer than anything here takes; a test that waits for ever says so.
pub const LONG: Duration = Duration::from_secs(20);

/// An answer, read to its end or to where it was cut.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// All bytes that the length or the last chunk promised came.
    pub complete: bool,
    /// Bytes on the socket, head included.
    pub wire_bytes: u64,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// Values of all lines of a header, the first one first.
    pub fn lines(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// What the edge says of itself; edges that it asked come before it.
    pub fn cache_status(&self) -> &str {
        self.lines("cache-status").pop().unwrap_or_default()
    }

    pub fn is_hit(&self) -> bool {
        self.cache_status().contains("; hit")
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A connection with an answer coming.
pub struct Open {
    stream: TcpStream,
    bytes: Vec<u8>,
    without_body: bool,
}

/// A client whose system takes a few KiB until somebody reads.
pub async fn open_slowly(to: SocketAddr, target: &str) -> Open {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    asking(socket, to, Ipv4Addr::LOCALHOST.into(), &get_bytes("GET", target, "")).await
}

/// Sends `request` from `from` and leaves the rest to the caller.
pub async fn open(to: SocketAddr, from: IpAddr, request: &[u8]) -> Open {
    asking(TcpSocket::new_v4().unwrap(), to, from, request).await
}

async fn asking(socket: TcpSocket, to: SocketAddr, from: IpAddr, request: &[u8]) -> Open {
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    stream.write_all(request).await.unwrap();
    Open { stream, bytes: Vec::new(), without_body: request.starts_with(b"HEAD ") }
}

pub async fn open_get(to: SocketAddr, target: &str) -> Open {
    open(to, Ipv4Addr::LOCALHOST.into(), get_bytes("GET", target, "").as_slice()).await
}

pub fn get_bytes(method: &str, target: &str, headers: &str) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nHost: edge.example\r\nConnection: close\r\n{}\r\n", lines(headers))
        .into_bytes()
}

pub async fn get(to: SocketAddr, target: &str) -> Reply {
    get_with(to, target, "").await
}

pub async fn get_with(to: SocketAddr, target: &str, headers: &str) -> Reply {
    raw(to, &get_bytes("GET", target, headers)).await
}

pub async fn get_from(to: SocketAddr, from: [u8; 4], target: &str) -> Reply {
    open(to, from.into(), &get_bytes("GET", target, "")).await.rest().await
}

pub async fn head(to: SocketAddr, target: &str) -> Reply {
    raw(to, &get_bytes("HEAD", target, "")).await
}

pub async fn raw(to: SocketAddr, request: &[u8]) -> Reply {
    open(to, Ipv4Addr::LOCALHOST.into(), request).await.rest().await
}

impl Open {
    async fn read(&mut self) -> bool {
        let read = tokio::time::timeout(LONG, self.stream.read_buf(&mut self.bytes)).await.expect("something comes");
        matches!(read, Ok(bytes) if bytes > 0)
    }

    /// Waits until at least one byte of the body is there.
    pub async fn first_byte(&mut self) {
        while head_end(&self.bytes).is_none_or(|end| self.bytes.len() <= end) {
            assert!(self.read().await, "cut before the first byte");
        }
    }

    /// Reads to the end of the connection and keeps only how much came, all in all.
    pub async fn count(mut self) -> u64 {
        let mut count = 0;
        loop {
            count += self.bytes.len() as u64;
            self.bytes.clear();
            if !self.read().await {
                return count;
            }
        }
    }

    /// Reads to the end of the connection.
    pub async fn rest(mut self) -> Reply {
        while self.read().await {}
        let wire_bytes = self.bytes.len() as u64;
        let Some(end) = head_end(&self.bytes) else {
            return Reply { status: 0, head: String::new(), body: vec![], complete: false, wire_bytes };
        };
        let head = String::from_utf8(self.bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let rest = &self.bytes[end..];
        let without_body = self.without_body || status == 304 || status == 204;
        let (body, complete) = match (header(&head, "content-length"), header(&head, "transfer-encoding")) {
            _ if without_body => (rest.to_vec(), rest.is_empty()),
            (Some(length), _) => (rest.to_vec(), rest.len() == length.parse::<usize>().unwrap()),
            (None, Some(_)) => dechunk(rest),
            (None, None) => (rest.to_vec(), false),
        };
        Reply { status, head, body, complete, wire_bytes }
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn dechunk(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(at) = bytes.windows(2).position(|two| two == b"\r\n") else { return (body, false) };
        let Ok(length) = usize::from_str_radix(std::str::from_utf8(&bytes[..at]).unwrap(), 16) else {
            return (body, false);
        };
        bytes = &bytes[at + 2..];
        if length == 0 {
            return (body, bytes == b"\r\n");
        }
        if bytes.len() < length + 2 {
            body.extend_from_slice(&bytes[..length.min(bytes.len())]);
            return (body, false);
        }
        body.extend_from_slice(&bytes[..length]);
        bytes = &bytes[length + 2..];
    }
}

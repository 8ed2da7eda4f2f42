//! HTTP/2 frames that are sent to wear an edge out: the connection ends, and nobody else notices.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::scripted::Scripted;
use crate::support::{TestEdge, rss_bytes};

const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// The head of `GET target` for `a`, in HPACK without Huffman codes or a table.
fn get_head(target: &str) -> Vec<u8> {
    let mut out = vec![0x82, 0x86, 0x04, target.len() as u8];
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b"\x01\x01a");
    out
}

/// Sends what `next` gives until the edge ends the connection; bytes sent, and the kinds of frames that came back.
async fn flood(edge: SocketAddr, mut next: impl FnMut(u64) -> Vec<u8>) -> (u64, Vec<u8>) {
    let mut stream = TcpStream::connect(edge).await.unwrap();
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend(frame(SETTINGS, 0, 0, &[]));
    stream.write_all(&hello).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let read = async {
        let mut came = Vec::new();
        // A reset is an end, too.
        let _ = reading.read_to_end(&mut came).await;
        came
    };
    let write = async {
        let mut sent = 0;
        let until = Instant::now() + Duration::from_secs(20);
        for n in 0.. {
            let bytes = next(n);
            if Instant::now() > until || writing.write_all(&bytes).await.is_err() {
                break;
            }
            sent += bytes.len() as u64;
        }
        sent
    };
    let both = async { tokio::join!(write, read) };
    let (sent, came) = timeout(Duration::from_secs(25), both).await.expect("the connection ends");
    let (mut kinds, mut rest) = (Vec::new(), &came[..]);
    while rest.len() >= 9 {
        kinds.push(rest[3]);
        let len = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        rest = &rest[(9 + len).min(rest.len())..];
    }
    (sent, kinds)
}

async fn edge() -> (TestEdge, Scripted) {
    let origin = Scripted::start().await;
    origin.answer("/1", "Cache-Control: max-age=60", "one");
    let edge = TestEdge::start(&origin).await;
    crate::client::get(edge.address, "/1").await;
    edge.hit("/1").await;
    (edge, origin)
}

#[tokio::test]
async fn a_head_that_never_ends_is_not_collected() {
    let (edge, _origin) = edge().await;
    let before = rss_bytes();
    let line = [&b"\x00\x01x\x7f\x81\x7c"[..], &[b'y'; 16_000]].concat();
    let (sent, kinds) = flood(edge.address, |n| match n {
        0 => frame(HEADERS, END_STREAM, 1, &get_head("/1")),
        _ => frame(CONTINUATION, 0, 1, &line),
    })
    .await;
    assert!(sent < 8 * 1024 * 1024, "{sent} bytes were taken");
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
    assert!(rss_bytes() < before + 8 * 1024 * 1024);
    edge.hit("/1").await;
    // In the smallest of pieces, of which none has a byte.
    let (sent, _) = flood(edge.address, |n| match n {
        0 => frame(HEADERS, END_STREAM, 1, &get_head("/1")),
        _ => frame(CONTINUATION, 0, 1, &[]).repeat(1_000),
    })
    .await;
    assert!(sent < 8 * 1024 * 1024, "{sent} bytes were taken");
    edge.hit("/1").await;
}

#[tokio::test]
async fn requests_that_are_reset_at_once_end_their_connection() {
    let (edge, origin) = edge().await;
    let (sent, kinds) = flood(edge.address, |n| {
        let stream = n as u32 * 2 + 1;
        let mut out = frame(HEADERS, END_STREAM | END_HEADERS, stream, &get_head(&format!("/{stream}")));
        out.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        out
    })
    .await;
    assert!(sent < 4 * 1024 * 1024 && kinds.contains(&GOAWAY), "{sent} bytes, {kinds:?}");
    edge.hit("/1").await;
    let asked: usize = (0..100_000).step_by(2).map(|n| origin.count(&format!("/{}", n + 1))).sum();
    assert!(asked <= 2_000, "{asked} fetches of one connection that wanted none");
}

#[tokio::test]
async fn pings_without_a_reader_hold_no_memory() {
    let (edge, _origin) = edge().await;
    let before = rss_bytes();
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    // Each wants an answer, and nobody takes them.
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(1_000);
    let mut sent = 0;
    while sent < 64 * 1024 * 1024 {
        match timeout(Duration::from_millis(500), stream.write(&pings)).await {
            Ok(Ok(bytes)) if bytes > 0 => sent += bytes,
            _ => break,
        }
    }
    assert!(sent < 64 * 1024 * 1024, "all were taken");
    assert!(rss_bytes() < before + 8 * 1024 * 1024);
    edge.hit("/1").await;
}

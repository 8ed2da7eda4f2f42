//! What answers tell of their own connection (CMSD `etp`, `rtt`), as the system measures it.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::scripted::Scripted;
use crate::support::{TestEdge, media};

/// Asks on a connection that stays open; the head of the answer, whose body is read and is this long.
async fn ask(stream: &mut TcpStream, target: &str, body_bytes: usize) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: edge.example\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        if let Some(end) = end.filter(|end| bytes.len() >= end + body_bytes) {
            return String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "cut");
    }
}

/// The value of a key in what an answer tells.
fn told(head: &str, key: &str) -> Option<u64> {
    let line = head.lines().find_map(|line| line.strip_prefix("cmsd-dynamic: \"own-test-1\""))?;
    line.split(';').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
}

#[tokio::test]
async fn an_answer_tells_its_connections_round_trip_and_then_its_rate() {
    let origin = Scripted::start().await;
    origin.answer("/1.m4s", "Cache-Control: max-age=600", media(1_000_000));
    let edge = TestEdge::start(&origin).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let first = ask(&mut stream, "/1.m4s", 1_000_000).await;
    assert_eq!(told(&first, "etp"), None, "nothing was delivered yet: {first}");
    let rtt_ms = told(&first, "rtt").unwrap_or_else(|| panic!("no rtt: {first}"));
    assert!((1..1_000).contains(&rtt_ms), "{first}");
    edge.clock.forward(2);
    let second = ask(&mut stream, "/1.m4s", 1_000_000).await;
    assert!(told(&second, "rtt").is_some(), "{second}");
    // The same machine: more than any network gives a viewer.
    assert!(told(&second, "etp").is_some_and(|kbps| kbps > 10_000), "{second}");
    // It is of a connection, not of the node.
    let mut other = TcpStream::connect(edge.address).await.unwrap();
    assert_eq!(told(&ask(&mut other, "/1.m4s", 1_000_000).await, "etp"), None);
}

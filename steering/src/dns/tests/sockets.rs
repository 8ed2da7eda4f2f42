//! The zone over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use spillway_service::CancellationToken;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::{World, config, query};
use crate::dns::server::{Sockets, serve};
use crate::dns::{Dns, DnsConfig, Outcome};
use crate::tests::fixtures::manifest;

const VOD: &str = "vod.cdn.example.net";
/// Longer than any answer takes; what does not come by then does not come.
const WAIT: Duration = Duration::from_secs(5);

struct Served {
    dns: Arc<Dns>,
    address: SocketAddr,
    shutdown: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn served(change: impl FnOnce(&mut DnsConfig)) -> Served {
    let world = World::with(change);
    world.publish(&manifest(1, &[("cdn-a", 1_000_000)]));
    let dns = Arc::new(world.dns);
    let sockets = Sockets::bind(&[([127, 0, 0, 1], 0).into()]).await.expect("ports");
    let address = sockets[0].address().expect("address");
    let shutdown = CancellationToken::new();
    let (serving, until) = (Arc::clone(&dns), shutdown.clone());
    tokio::spawn(async move { serve(serving, sockets, &until).await });
    Served { dns, address, shutdown }
}

fn bytes(id: u16) -> Vec<u8> {
    let mut message = query(VOD, RecordType::A, "203.0.113.0/24");
    message.metadata.id = id;
    message.to_vec().expect("bytes")
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&(packet.len() as u16).to_be_bytes()[..], packet].concat()
}

impl Served {
    async fn udp(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("port");
        socket.connect(self.address).await.expect("connected");
        socket
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }
}

async fn received(socket: &UdpSocket) -> Option<Message> {
    let mut buffer = [0; 2_048];
    let length = tokio::time::timeout(WAIT, socket.recv(&mut buffer)).await.ok()?.ok()?;
    Some(Message::from_vec(&buffer[..length]).expect("an answer"))
}

async fn read(stream: &mut TcpStream) -> Option<Message> {
    let length = tokio::time::timeout(WAIT * 2, stream.read_u16()).await.expect("an answer or an end").ok()?;
    let mut packet = vec![0; usize::from(length)];
    stream.read_exact(&mut packet).await.ok()?;
    Some(Message::from_vec(&packet).expect("an answer"))
}

#[tokio::test]
async fn datagrams_are_answered_also_after_noise() {
    let served = served(|_| ()).await;
    let socket = served.udp().await;
    for junk in [&b""[..], b"x", &[0xff; 600], &bytes(1)[..30], &[0; 5_000]] {
        socket.send(junk).await.expect("sent");
    }
    socket.send(&bytes(7)).await.expect("sent");
    loop {
        let answer = received(&socket).await.expect("an answer");
        if answer.id == 7 {
            assert_eq!((answer.response_code, answer.answers.len()), (ResponseCode::NoError, 1));
            return;
        }
        assert_ne!(answer.response_code, ResponseCode::NoError);
    }
}

#[tokio::test]
async fn a_connection_answers_its_queries_in_order() {
    let served = served(|_| ()).await;
    let mut stream = served.tcp().await;
    let all: Vec<u8> = (1..=5).flat_map(|id| framed(&bytes(id))).collect();
    // In pieces, as a network may bring them.
    for piece in all.chunks(7) {
        stream.write_all(piece).await.expect("sent");
        stream.flush().await.expect("sent");
    }
    for id in 1..=5 {
        let answer = read(&mut stream).await.expect("an answer");
        assert_eq!((answer.id, answer.answers.len()), (id, 1));
    }
    assert_eq!(served.dns.tally.of(Outcome::Steered), 5);
}

#[tokio::test]
async fn a_connection_ends_that_says_too_much_or_nothing() {
    let served = served(|_| ()).await;
    let (mut long, mut silent, mut slow) = (served.tcp().await, served.tcp().await, served.tcp().await);
    long.write_all(&u16::MAX.to_be_bytes()).await.expect("sent");
    assert!(read(&mut long).await.is_none());
    slow.write_all(&framed(&bytes(1))[..10]).await.expect("sent");
    assert!(read(&mut silent).await.is_none(), "closed after some seconds");
    assert!(read(&mut slow).await.is_none(), "and so is half a query");
    let mut next = served.tcp().await;
    next.write_all(&framed(&bytes(2))).await.expect("sent");
    assert_eq!(read(&mut next).await.expect("an answer").id, 2);
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_and_others_go_on() {
    let served = served(|config| config.tcp_connections_max = 16).await;
    let (mut first, mut second, mut third) = (served.tcp().await, served.tcp().await, served.tcp().await);
    assert!(read(&mut third).await.is_none(), "two of sixteen for one prefix");
    assert_eq!(served.dns.tally.of(Outcome::Unconnected), 1);
    for stream in [&mut first, &mut second] {
        stream.write_all(&framed(&bytes(3))).await.expect("sent");
        assert_eq!(read(stream).await.expect("an answer").id, 3);
    }
}

#[tokio::test]
async fn a_flood_is_limited_and_its_sender_can_still_ask_over_tcp() {
    let served = served(|config| config.answers_per_prefix_per_s = 20).await;
    let socket = served.udp().await;
    // As many as the socket's buffer holds for certain.
    for id in 0..150 {
        socket.send(&bytes(id)).await.expect("sent");
    }
    let of = |outcome| served.dns.tally.of(outcome);
    for _ in 0..100 {
        if of(Outcome::Steered) + of(Outcome::Slipped) + of(Outcome::Limited) == 150 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (whole, slipped, dropped) = (of(Outcome::Steered), of(Outcome::Slipped), of(Outcome::Limited));
    assert_eq!(whole + slipped + dropped, 150);
    assert!((20..100).contains(&whole), "{whole}");
    assert!(slipped.abs_diff(dropped) <= 1, "{slipped} and {dropped}");
    let mut hints = 0;
    for _ in 0..whole + slipped {
        hints += u64::from(received(&socket).await.expect("an answer").truncation);
    }
    assert_eq!(hints, slipped);
    let mut stream = served.tcp().await;
    stream.write_all(&framed(&bytes(9))).await.expect("sent");
    assert_eq!(read(&mut stream).await.expect("an answer").answers.len(), 1);
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = taken.local_addr().expect("address");
    let error = Sockets::bind(&[address]).await.err().expect("refused").to_string();
    assert!(error.contains("steer.dns.listen") && error.contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_whole_node_serves_its_zone() {
    let port = Sockets::bind(&[([127, 0, 0, 1], 0).into()]).await.expect("ports")[0].address().expect("address");
    let node =
        crate::tests::node::Node::with(|steer| steer.dns = Some(DnsConfig { listen: vec![port], ..config() })).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("port");
    socket.connect(port).await.expect("connected");
    for _ in 0..100 {
        // Until it listens, the system says that nobody does.
        let _ = socket.send(&bytes(5)).await;
        let mut buffer = [0; 512];
        match tokio::time::timeout(Duration::from_millis(100), socket.recv(&mut buffer)).await {
            Ok(Ok(length)) => {
                let answer = Message::from_vec(&buffer[..length]).expect("an answer");
                assert_eq!((answer.id, answer.response_code), (5, ResponseCode::NoError));
                node.shutdown.cancel();
                return;
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("no answer");
}

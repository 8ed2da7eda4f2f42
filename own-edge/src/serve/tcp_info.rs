//! What the system measures of a TCP connection (`tcp_info`), asked by sock_diag(7): the same as by
//! `getsockopt(TCP_INFO)`, which no safe crate has. One question takes some microseconds and waits for nobody: the
//! system answers it while it takes it.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, socket_with};

/// Below so many delivered bytes the rate tells of the first moments, not of the path.
const RATE_FROM_BYTES: u64 = 128 * 1024;
/// An answer is some 400 bytes.
const ANSWER_MAX_BYTES: usize = 2_048;

const HEADER_BYTES: usize = 16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
/// `struct inet_diag_req_v2`, and `struct inet_diag_msg` before the attributes of an answer.
const QUESTION_BYTES: usize = 56;
const MESSAGE_BYTES: usize = 72;
/// The attribute with a `struct tcp_info`; in a question, as the bit before its number.
const INET_DIAG_INFO: u16 = 2;

/// What is known of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpInfo {
    /// Smoothed, µs.
    pub rtt_us: u32,
    /// At which the client took what was sent, once that says something of the path.
    pub rate_bps: Option<u64>,
}

/// Asks the system.
#[derive(Debug)]
pub(crate) struct SockDiag(Mutex<Option<Asking>>);

#[derive(Debug)]
struct Asking {
    socket: OwnedFd,
    seq: u32,
}

impl SockDiag {
    /// Where the system doesn't let us, nothing is known of any connection.
    pub(crate) fn open() -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG));
        let asking = socket.inspect_err(|error| not_told(*error)).ok().map(|socket| Asking { socket, seq: 0 });
        Self(Mutex::new(asking))
    }

    /// What is known of the connection between two addresses of this machine's.
    pub(crate) fn ask(&self, local: SocketAddr, peer: SocketAddr) -> Option<TcpInfo> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match held.as_mut()?.ask(local, peer) {
            Ok(info) => info,
            // It has just ended, or there is no room for the answer.
            Err(Errno::NOENT | Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM) => None,
            Err(error) => {
                // It would say so each time, and some systems look for a module each time.
                not_told(error);
                *held = None;
                None
            }
        }
    }
}

fn not_told(error: Errno) {
    tracing::info!(%error, "the system tells nothing of connections; CMSD has no etp and no rtt");
}

impl Asking {
    fn ask(&mut self, local: SocketAddr, peer: SocketAddr) -> Result<Option<TcpInfo>, Errno> {
        self.seq = self.seq.wrapping_add(1);
        rustix::net::send(&self.socket, &question(local, peer, self.seq), SendFlags::empty())?;
        let mut bytes = [0; ANSWER_MAX_BYTES];
        loop {
            let (read, _) = rustix::net::recv(&self.socket, &mut bytes[..], RecvFlags::DONTWAIT)?;
            // An answer that was left behind is passed over.
            if let Some(told) = answer(&bytes[..read], self.seq) {
                return told;
            }
        }
    }
}

fn question(local: SocketAddr, peer: SocketAddr, seq: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + QUESTION_BYTES);
    out.extend(((HEADER_BYTES + QUESTION_BYTES) as u32).to_ne_bytes());
    out.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    out.extend(NLM_F_REQUEST.to_ne_bytes());
    out.extend(seq.to_ne_bytes());
    out.extend([0; 4]);
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    out.extend([family.as_raw() as u8, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0]);
    // In any state.
    out.extend([0xff; 4]);
    out.extend(local.port().to_be_bytes());
    out.extend(peer.port().to_be_bytes());
    for address in [local.ip(), peer.ip()] {
        let mut place = [0; 16];
        match address {
            IpAddr::V4(v4) => place[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => place = v6.octets(),
        }
        out.extend(place);
    }
    let interface = match local {
        SocketAddr::V6(v6) => v6.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    out.extend(interface.to_ne_bytes());
    // No cookie: whichever connection has these ends.
    out.extend([0xff; 8]);
    out
}

/// What an answer says; `None` if it is none to `seq`.
fn answer(bytes: &[u8], seq: u32) -> Option<Result<Option<TcpInfo>, Errno>> {
    if word(bytes, 8)? != seq {
        return None;
    }
    match half(bytes, 4)? {
        SOCK_DIAG_BY_FAMILY => Some(Ok(info(bytes))),
        NLMSG_ERROR => {
            let error = i32::from_ne_bytes(bytes.get(HEADER_BYTES..HEADER_BYTES + 4)?.try_into().ok()?);
            Some(Err(Errno::from_raw_os_error(error.wrapping_neg())))
        }
        _ => None,
    }
}

fn info(bytes: &[u8]) -> Option<TcpInfo> {
    let mut at = HEADER_BYTES + MESSAGE_BYTES;
    loop {
        let (len, kind) = (usize::from(half(bytes, at)?), half(bytes, at + 2)?);
        if kind == INET_DIAG_INFO {
            return tcp_info(bytes.get(at + 4..at + len)?);
        }
        // Attributes stand at multiples of four; one has four bytes at least.
        at += len.max(4).next_multiple_of(4);
    }
}

/// `struct tcp_info` of linux/tcp.h, which only ever grows at its end.
fn tcp_info(bytes: &[u8]) -> Option<TcpInfo> {
    let rtt_us = word(bytes, 68)?;
    let long = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (delivered_bytes, bytes_per_s) = (long(120).unwrap_or(0), long(160).unwrap_or(0));
    let tells = delivered_bytes >= RATE_FROM_BYTES && bytes_per_s > 0;
    (rtt_us > 0).then(|| TcpInfo { rtt_us, rate_bps: tells.then(|| bytes_per_s.saturating_mul(8)) })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_known_by_its_ends_and_its_rate_once_it_says_something() {
        let diag = SockDiag::open();
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(listen) else { continue };
            let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
            let (mut server, peer) = listener.accept().expect("accepted");
            let local = server.local_addr().expect("bound");
            let first = diag.ask(local, peer).expect("known");
            assert!(first.rtt_us > 0 && first.rate_bps.is_none(), "{first:?}");
            let reader = std::thread::spawn(move || client.read_exact(&mut [0; 1 << 20]).map(|()| client));
            server.write_all(&[7; 1 << 20]).expect("written");
            let client = reader.join().expect("no panic").expect("read");
            let rate_bps = diag.ask(local, peer).expect("known").rate_bps.expect("a MiB was delivered");
            assert!(rate_bps > 1_000_000, "{rate_bps}");
            // The other way round it is the other end; nobody is there with another port.
            assert!(diag.ask(peer, local).is_some());
            let mut other = peer;
            other.set_port(1);
            assert_eq!(diag.ask(local, other), None);
            assert!(diag.ask(local, peer).is_some(), "what is not found ends nothing");
            drop(client);
        }
    }

    #[test]
    fn what_is_no_answer_says_nothing() {
        let mut said = vec![0; HEADER_BYTES + MESSAGE_BYTES];
        said[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        said[8..12].copy_from_slice(&7_u32.to_ne_bytes());
        assert_eq!(answer(&said, 8), None);
        assert_eq!(answer(&said, 7), Some(Ok(None)));
        // An attribute of no length, then one that is cut.
        said.extend([0, 0, 9, 0]);
        said.extend([200_u16.to_ne_bytes(), INET_DIAG_INFO.to_ne_bytes()].concat());
        assert_eq!(answer(&said, 7), Some(Ok(None)));
        said[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        said[16..20].copy_from_slice(&(-2_i32).to_ne_bytes());
        assert_eq!(answer(&said, 7), Some(Err(Errno::NOENT)));
        assert_eq!(answer(&said[..10], 7), None);
        assert_eq!(tcp_info(&[0; 232]), None);
    }
}

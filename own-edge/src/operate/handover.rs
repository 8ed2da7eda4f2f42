//! Restart without a gap: a successor gets the listening sockets themselves from the process before it, through a socket
//! in the file system. No connection is refused or lost in between, since the sockets are never closed.
//!
//! The successor connects and receives the sockets. The process before it stops writing to the disk tier, and goes on
//! serving. When the successor serves, it says so, and the process before it ends: it answers what it has begun, and
//! closes its connections one by one. A successor that dies before that changes nothing.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use spillway_service::config::ConfigError;

const SOCKETS_MAX: usize = 3;
/// A process that takes longer to answer is none of ours.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// A successor that takes longer until it serves is given up.
const SERVES_WITHIN: Duration = Duration::from_secs(120);
const READY: &[u8] = b"r";

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Tls,
    Admin,
}

impl Kind {
    const ALL: [(Self, u8); SOCKETS_MAX] = [(Self::Plain, b'p'), (Self::Tls, b't'), (Self::Admin, b'a')];

    fn letter(self) -> u8 {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or(b'?', |(_, letter)| *letter)
    }
}

/// Sockets that were handed over.
#[derive(Debug, Default)]
pub(crate) struct Handed(Vec<(Kind, TcpListener)>);

impl Handed {
    pub(crate) fn take(&mut self, kind: Kind) -> Option<TcpListener> {
        let at = self.0.iter().position(|(known, _)| *known == kind)?;
        Some(self.0.remove(at).1)
    }
}

/// The process before this one, which serves until it is told to end.
#[derive(Debug)]
pub(crate) struct Predecessor(UnixStream);

impl Predecessor {
    /// Gets the sockets of the process that listens at `path`; `None` if there is none.
    pub(crate) fn ask(path: &Path) -> io::Result<Option<(Handed, Self)>> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut letters = [0_u8; SOCKETS_MAX];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = rustix::net::recvmsg(&stream, &mut [IoSliceMut::new(&mut letters)], &mut ancillary, flags)?;
        let mut sockets: Vec<OwnedFd> = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                sockets.extend(received);
            }
        }
        let letters = letters.get(..received.bytes).unwrap_or_default();
        if sockets.is_empty() || sockets.len() != letters.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what listens there hands nothing over"));
        }
        let kind = |letter: &u8| Kind::ALL.iter().find(|(_, known)| known == letter).map(|(kind, _)| *kind);
        let named = letters.iter().zip(sockets).filter_map(|(letter, socket)| Some((kind(letter)?, socket.into())));
        Ok(Some((Handed(named.collect()), Self(stream))))
    }

    /// This process serves now.
    pub(crate) fn relieve(mut self) {
        if let Err(error) = self.0.write_all(READY) {
            tracing::warn!(%error, "the process before this one can't be told to end");
        }
    }
}

/// Where a successor asks.
pub(crate) struct Handover {
    path: PathBuf,
    listener: tokio::net::UnixListener,
}

impl Handover {
    /// Listens at `path`, in the place of whoever did so before.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with what the system says.
    pub(crate) fn listen(path: &Path) -> Result<Self, ConfigError> {
        let bad = |error: io::Error| {
            let valid = format!("a path in a folder to write to; {error}");
            ConfigError::invalid("edge.handover", path.display(), valid)
        };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(bad(error)),
            _ => {}
        }
        let listener = tokio::net::UnixListener::bind(path).map_err(bad)?;
        // Whoever may connect may take the sockets.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(bad)?;
        Ok(Self { path: path.to_owned(), listener })
    }

    /// Waits for a successor that serves. `asked` is told when one gets the sockets, and when it came to nothing.
    pub(crate) async fn succeeded(self, sockets: Vec<(Kind, OwnedFd)>, asked: impl Fn(bool)) {
        loop {
            let stream = match self.listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, path = %self.path.display(), "a successor can't be spoken to");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            tracing::info!("a successor takes over");
            asked(true);
            let copies: io::Result<Vec<(Kind, OwnedFd)>> =
                sockets.iter().map(|(kind, socket)| Ok((*kind, socket.try_clone()?))).collect();
            let handing = tokio::task::spawn_blocking(move || hand_over(stream, &copies?));
            match handing.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "the successor does not serve; this process goes on"),
            }
            asked(false);
        }
    }
}

/// Sends the sockets and waits until their receiver serves.
fn hand_over(mut stream: UnixStream, sockets: &[(Kind, OwnedFd)]) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SERVES_WITHIN))?;
    let borrowed: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::other("too many sockets"));
    }
    let letters: Vec<u8> = sockets.iter().map(|(kind, _)| kind.letter()).collect();
    rustix::net::sendmsg(&stream, &[IoSlice::new(&letters)], &mut ancillary, SendFlags::empty())?;
    let mut said = [0_u8];
    stream.read_exact(&mut said)?;
    if said == READY { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

//! The ports of an edge: bound, or taken over from the process before.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};

use spillway_service::bind;
use spillway_service::config::ConfigError;
use spillway_service::tls::Listener;
use tokio::net::TcpListener;

use crate::config::EdgeConfig;
use crate::operate::handover::{Handed, Kind, Predecessor};

/// Where viewers come in: plain HTTP, and HTTPS if there is a port for it; and where operators do.
#[derive(Debug)]
pub struct Doors {
    /// HTTP/1.1, and HTTP/2 for clients that know beforehand.
    pub plain: TcpListener,
    /// HTTP/1.1 and HTTP/2, as negotiated.
    pub tls: Option<Listener>,
    /// Health, metrics and purges.
    pub(crate) admin: Option<TcpListener>,
    /// Who is to end when this edge serves.
    pub(crate) predecessor: Option<Predecessor>,
}

impl From<TcpListener> for Doors {
    fn from(plain: TcpListener) -> Self {
        Self::of(plain, None)
    }
}

impl Doors {
    /// These ports.
    #[must_use]
    pub fn of(plain: TcpListener, tls: Option<Listener>) -> Self {
        Self { plain, tls, admin: None, predecessor: None }
    }

    /// The ports that a configuration names. Where a process with the same `handover` runs, those that it has are taken
    /// over from it; it goes on serving until this edge does.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`]: a taken port, certificates that can't be read, a `handover` that is something else.
    pub async fn open(config: &EdgeConfig) -> Result<Self, ConfigError> {
        let (mut handed, predecessor) = match &config.handover {
            Some(path) => {
                let asked = path.clone();
                let taken = tokio::task::spawn_blocking(move || Predecessor::ask(&asked)).await;
                let taken = taken.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| {
                    let valid = format!("the socket of an edge, or nothing yet; {error}");
                    ConfigError::invalid("edge.handover", path.display(), valid)
                })?;
                taken.map_or((Handed::default(), None), |(handed, before)| (handed, Some(before)))
            }
            None => (Handed::default(), None),
        };
        let plain = port(&mut handed, Kind::Plain, "edge.listen", config.listen).await?;
        let tls = match &config.tls {
            Some(tls) => {
                let tcp = port(&mut handed, Kind::Tls, "edge.tls.listen", tls.listen).await?;
                Some(Listener::tls_on("edge.tls", tls, tcp)?)
            }
            None => None,
        };
        let admin = match config.admin_listen {
            Some(address) => Some(port(&mut handed, Kind::Admin, "edge.admin_listen", address).await?),
            None => None,
        };
        Ok(Self { plain, tls, admin, predecessor })
    }

    /// Where each of them listens, by its name.
    #[must_use]
    pub fn addresses(&self) -> Vec<(&'static str, io::Result<SocketAddr>)> {
        let mut out = vec![("edge", self.plain.local_addr())];
        out.extend(self.tls.iter().map(|listener| ("edge_tls", listener.local_addr())));
        out.extend(self.admin.iter().map(|listener| ("edge_admin", listener.local_addr())));
        out
    }

    /// Copies of the sockets, for a successor.
    pub(crate) fn copies(&self) -> io::Result<Vec<(Kind, OwnedFd)>> {
        let mut out = vec![(Kind::Plain, self.plain.as_fd().try_clone_to_owned()?)];
        if let Some(tls) = &self.tls {
            out.push((Kind::Tls, tls.as_fd().try_clone_to_owned()?));
        }
        if let Some(admin) = &self.admin {
            out.push((Kind::Admin, admin.as_fd().try_clone_to_owned()?));
        }
        Ok(out)
    }
}

/// The socket that was handed over, if it listens where it should; a new one else.
async fn port(handed: &mut Handed, kind: Kind, key: &str, address: SocketAddr) -> Result<TcpListener, ConfigError> {
    let fits =
        |socket: &std::net::TcpListener| socket.local_addr().is_ok_and(|at| address.port() == 0 || at == address);
    let inherited = handed.take(kind).filter(fits).and_then(|socket| {
        socket.set_nonblocking(true).ok()?;
        TcpListener::from_std(socket).ok()
    });
    match inherited {
        Some(socket) => Ok(socket),
        None => bind(key, address).await,
    }
}

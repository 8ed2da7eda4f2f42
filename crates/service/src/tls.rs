//! TLS for a listener: certificate and key from PEM files, HTTP/2 and HTTP/1.1 by negotiation.

mod any;
mod certificates;

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore, ServerConfig};

use crate::config::ConfigError;
use crate::http::bind;

pub use any::AnyCertificate;
pub use certificates::CertificateFiles;

use certificates::Certificates;

/// A port that speaks TLS, beside the plain one of the private network.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// PEM file: the certificate, then those that it was signed by.
    pub cert: PathBuf,
    /// PEM file: its private key.
    pub key: PathBuf,
    /// Further certificates; a client gets the one for the name that it asks for, `cert` if none is. All are read again
    /// when their files change.
    #[serde(default)]
    pub more: Vec<CertificateFiles>,
}

/// A bound port, with TLS or without.
pub struct Listener {
    pub(crate) tcp: TcpListener,
    pub(crate) tls: Option<TlsAcceptor>,
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self { tcp, tls: None }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("tcp", &self.tcp).field("tls", &self.tls.is_some()).finish()
    }
}

impl Listener {
    /// Binds the port and reads certificate and key; `key` names the configuration key in errors.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`]: a taken port, a file that can't be read, holds no PEM, or a key that doesn't fit the
    /// certificate.
    pub async fn tls(key: &str, tls: &TlsConfig) -> Result<Self, ConfigError> {
        let tcp = bind(&format!("{key}.listen"), tls.listen).await?;
        Self::tls_on(key, tls, tcp)
    }

    /// As [`Listener::tls`], on a port that is bound already.
    ///
    /// # Errors
    /// As there, for the files.
    pub fn tls_on(key: &str, tls: &TlsConfig, tcp: TcpListener) -> Result<Self, ConfigError> {
        let config = server_config(key, tls)?;
        Ok(Self { tcp, tls: Some(TlsAcceptor::from(Arc::new(config))) })
    }

    /// The port, and what shakes hands on it.
    #[must_use]
    pub fn into_parts(self) -> (TcpListener, Option<TlsAcceptor>) {
        (self.tcp, self.tls)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// Why authorities can't be believed in.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// No PEM.
    #[error("certificates of authorities (valid: PEM): {0}")]
    Pem(#[from] pem::Error),
    /// No certificate of an authority.
    #[error("certificates of authorities: {0}")]
    Certificate(#[from] Error),
}

/// The authorities of `pem`, or the system's, for who calls servers.
///
/// # Errors
/// [`AuthoritiesError`] for a PEM text that holds something else.
pub fn authorities(pem: Option<&[u8]>) -> Result<RootCertStore, AuthoritiesError> {
    let mut roots = RootCertStore::empty();
    match pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate?)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

/// What a client needs to believe the servers that `roots` vouch for; the protocols are the caller's to name.
///
/// # Errors
/// If the cryptographic library knows no version of TLS.
pub fn client_config(roots: impl Into<Arc<RootCertStore>>) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

fn server_config(key: &str, tls: &TlsConfig) -> Result<ServerConfig, ConfigError> {
    let first = CertificateFiles { cert: tls.cert.clone(), key: tls.key.clone() };
    let certificates = Certificates::read(key, [vec![first], tls.more.clone()].concat())?;
    let bad = |error| ConfigError::invalid(key, "TLS", format!("a cryptographic library that can do it; {error}"));
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(bad)?
        .with_no_client_auth()
        .with_cert_resolver(certificates.clone());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A client that comes again shakes hands without a signature of ours, and we keep nothing for that.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(bad)?;
    certificates.follow_files();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn port(dir: &std::path::Path) -> TlsConfig {
        TlsConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            cert: dir.join("cert.pem"),
            key: dir.join("key.pem"),
            more: Vec::new(),
        }
    }

    async fn connect(at: SocketAddr, pem: &str, protocol: &[u8]) -> TlsStream<tokio::net::TcpStream> {
        let mut config = client_config(authorities(Some(pem.as_bytes())).expect("an authority")).expect("versions");
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = tokio::net::TcpStream::connect(at).await.expect("connected");
        let name = "localhost".try_into().expect("name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("handshake")
    }

    #[tokio::test]
    async fn both_versions_of_http_are_spoken_under_the_certificate() {
        let dir = tempfile::tempdir().expect("dir");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("certificate");
        let tls = port(dir.path());
        std::fs::write(&tls.cert, made.cert.pem()).expect("written");
        std::fs::write(&tls.key, made.signing_key.serialize_pem()).expect("written");
        let listener = Listener::tls("collector.tls", &tls).await.expect("listener");
        let at = listener.local_addr().expect("address");
        let shutdown = CancellationToken::new();
        let router = axum::Router::new().route("/", get(|| async { "good" }));
        let serving = tokio::spawn(crate::serve(listener, router, shutdown.clone()));

        let mut http1 = connect(at, &made.cert.pem(), b"http/1.1").await;
        http1.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        http1.read_to_string(&mut answer).await.expect("answer");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("good"), "{answer}");

        let http2 = connect(at, &made.cert.pem(), b"h2").await;
        assert_eq!(http2.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        drop(http2);
        shutdown.cancel();
        serving.await.expect("it ends");
    }

    #[test]
    fn what_is_no_authority_is_refused() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let refused = |text: &str| authorities(Some(text.as_bytes())).is_err();
        assert!(refused(broken) && refused("-----BEGIN CERTIFICATE-----\n?\n"));
        assert!(authorities(Some(b"")).expect("none").is_empty());
    }

    #[tokio::test]
    async fn a_file_that_holds_no_certificate_is_named() {
        let dir = tempfile::tempdir().expect("dir");
        let tls = port(dir.path());
        std::fs::write(&tls.cert, "no pem").expect("written");
        let error = Listener::tls("collector.tls", &tls).await.expect_err("refused").to_string();
        assert!(error.contains("collector.tls.") && error.contains(dir.path().to_str().expect("path")), "{error}");
    }
}

//! One connection to a collector: HTTP/1.1, kept alive, with or without TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use spillway_service::tls::AnyCertificate;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use url::{Host, Url};

/// Longer than a collector lets a slow disk keep a sender waiting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A collector's answers are far below.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// What to trust of a collector with TLS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trust<'a> {
    /// Certificates (PEM).
    pub(super) authorities: Option<&'a Path>,
    /// Anything.
    pub(super) insecure: bool,
}

/// A collector.
#[derive(Clone)]
pub(super) struct Target {
    address: SocketAddr,
    host: HeaderValue,
    path: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// What a collector said.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after_s: Option<u64>,
    pub(super) body: Bytes,
}

impl Target {
    /// A collector by its URL; without a path that of beacons is taken. The name is looked up once.
    ///
    /// # Errors
    /// A URL, name or certificate file that is not valid, or an address that is not this machine's own.
    pub(super) async fn resolve(url: &str, key: &str, trust: Trust<'_>, allow_remote: bool) -> anyhow::Result<Self> {
        let valid = "valid: http://host:port or https://host:port";
        let url = Url::parse(url).with_context(|| format!("url {url:?} ({valid})"))?;
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            bail!("url {url} has no host ({valid})");
        };
        let tls = match url.scheme() {
            "http" => None,
            "https" => {
                let name = match &host {
                    Host::Domain(name) => ServerName::try_from((*name).to_owned())?,
                    Host::Ipv4(address) => ServerName::from(std::net::IpAddr::from(*address)),
                    Host::Ipv6(address) => ServerName::from(std::net::IpAddr::from(*address)),
                };
                Some((connector(trust)?, name))
            }
            other => bail!("url scheme {other:?} is not valid ({valid})"),
        };
        let name = host.to_string();
        let mut found = tokio::net::lookup_host((name.trim_matches(['[', ']']), port))
            .await
            .with_context(|| format!("look up {name}"))?;
        let address = found.next().with_context(|| format!("{name} has no address"))?;
        if !allow_remote && !address.ip().is_loopback() {
            bail!("{url} is at {address}, which is not this machine: load goes there only with --allow-remote");
        }
        let path = if url.path() == "/" { "/v1/beacons" } else { url.path() };
        let key: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
        Ok(Self {
            address,
            host: HeaderValue::from_str(&format!("{name}:{port}"))?,
            path: format!("{path}?k={key}&v="),
            tls,
        })
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => open(stream).await,
            Some((connector, name)) => open(connector.connect(name.clone(), stream).await?).await,
        }
    }
}

async fn open<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Its errors reach the sender too.
    tokio::spawn(connection);
    Ok(sender)
}

fn connector(trust: Trust<'_>) -> anyhow::Result<TlsConnector> {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let mut config = match trust.authorities {
        _ if trust.insecure => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            let read = || format!("read certificates of {}", file.display());
            for certificate in CertificateDer::pem_file_iter(file).with_context(read)? {
                roots.add(certificate.with_context(read)?).with_context(read)?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        None => bail!("an https URL needs --tls-ca FILE (PEM), or --insecure"),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A connection that is opened when it is needed.
#[derive(Default)]
pub(super) struct Connection {
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// Posts `body` to `target`, of view `view_id`. After an error the next call connects anew.
    ///
    /// # Errors
    /// No connection, no answer, or none in time.
    pub(super) async fn post(
        &mut self,
        target: &Target,
        view_id: &str,
        body: Bytes,
        gzip: bool,
    ) -> anyhow::Result<Answer> {
        let kept = self.sender.take().filter(|sender| !sender.is_closed());
        let mut sender = match kept {
            Some(sender) => sender,
            None => tokio::time::timeout(CONNECT_TIMEOUT, target.connect()).await??,
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, async {
            sender.ready().await?;
            exchange(&mut sender, request(target, view_id, body, gzip)?).await
        })
        .await??;
        self.sender = Some(sender);
        Ok(answer)
    }

    /// Drops the connection: the next one may be to somebody else.
    pub(super) fn close(&mut self) {
        self.sender = None;
    }
}

fn request(target: &Target, view_id: &str, body: Bytes, gzip: bool) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("{}{view_id}", target.path))
        .header(HOST, &target.host)
        .header(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if gzip {
        request = request.header(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(request.body(Full::new(body))?)
}

async fn exchange(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    let (head, body) = sender.send_request(request).await?.into_parts();
    let retry_after_s = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = Limited::new(body, ANSWER_MAX_BYTES).collect().await.map_err(anyhow::Error::from_boxed)?.to_bytes();
    Ok(Answer { status: head.status.as_u16(), retry_after_s, body })
}

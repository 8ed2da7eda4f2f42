//! One request over one connection, bounded in time and bytes. Nothing is kept between requests, so no answer comes from a
//! connection that another one warmed.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, Request, header};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use spillway_model::Clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use url::{Host, Url};

use super::seen::{Answer, Exchange, Unreached};
use super::tls::{Certificate, Trust};

/// Bytes of a body that are read; of a longer one only ranges are compared.
pub(super) const BODY_MAX_BYTES: usize = 64 * 1024 * 1024;
/// A body may take as many times longer than an answer's head, as long as it goes on.
const BODY_TIMES: u32 = 12;
/// Redirects within one host.
const REDIRECTS_MAX: usize = 3;
/// Addresses of a name that are tried for one request.
const ADDRESSES_MAX: usize = 4;
const AGENT: &str = concat!("spillway/", env!("CARGO_PKG_VERSION"), " (pathway check)");

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Where a URL leads.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) is_tls: bool,
    pub(super) host: Host,
    pub(super) port: u16,
    /// `host[:port]`, as it stands in the URL.
    authority: String,
    /// Path and query, every byte kept.
    tail: String,
}

impl Place {
    /// Of an absolute http(s) URL.
    pub(super) fn of(url: &str) -> Option<Self> {
        let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let behind = url.split_once("://")?.1;
        let behind = behind.split('#').next().unwrap_or_default();
        let (authority, tail) = behind.split_at(behind.find(['/', '?']).unwrap_or(behind.len()));
        let slash = if tail.starts_with('/') { "" } else { "/" };
        Some(Self {
            is_tls: parsed.scheme() == "https",
            host: parsed.host()?.to_owned(),
            port: parsed.port_or_known_default()?,
            authority: authority.to_owned(),
            tail: format!("{slash}{tail}"),
        })
    }

    /// `scheme://host[:port]`.
    pub(super) fn home(&self) -> String {
        format!("http{}://{}", if self.is_tls { "s" } else { "" }, self.authority)
    }

    /// The name or address for the handshake.
    fn server_name(&self) -> Result<ServerName<'static>, String> {
        match &self.host {
            Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|_| format!("{name} is no name for TLS")),
            Host::Ipv4(address) => Ok(ServerName::from(IpAddr::from(*address))),
            Host::Ipv6(address) => Ok(ServerName::from(IpAddr::from(*address))),
        }
    }

    fn is_same_host(&self, other: &Self) -> bool {
        (self.is_tls, &self.host, self.port) == (other.is_tls, &other.host, other.port)
    }
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(HeaderName, String)>,
    /// What the lines say of it: no token.
    pub(super) shown: String,
    /// Its URL has a token, so what it is redirected to may have one.
    pub(super) is_secret: bool,
}

/// Sends requests.
pub(super) struct Client {
    clock: Arc<dyn Clock>,
    timeout: Duration,
    trust: Trust,
    any: TlsConnector,
    strict: TlsConnector,
}

impl Client {
    pub(super) fn new(trust: Trust, timeout: Duration, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let (any, strict) = (trust.connector(false, &[b"http/1.1"])?, trust.connector(true, &[b"http/1.1"])?);
        Ok(Self { clock, timeout, trust, any, strict })
    }

    /// Addresses of a place, or why there are none.
    pub(super) async fn addresses(&self, place: &Place) -> Result<Vec<SocketAddr>, String> {
        let name = match &place.host {
            Host::Ipv4(address) => return Ok(vec![SocketAddr::from((*address, place.port))]),
            Host::Ipv6(address) => return Ok(vec![SocketAddr::from((*address, place.port))]),
            Host::Domain(name) => name.as_str(),
        };
        let found = tokio::time::timeout(self.timeout, tokio::net::lookup_host((name, place.port))).await;
        let mut found: Vec<SocketAddr> = match found {
            Ok(found) => found.map_err(|error| format!("{name} is not found: {error}"))?.collect(),
            Err(_) => return Err(format!("{name} is not found in {}", seconds(self.timeout))),
        };
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The handshake with one address, and what the certificate is worth.
    pub(super) async fn handshake(&self, place: &Place, to: SocketAddr) -> Result<Certificate, String> {
        let connector = self.trust.connector(false, &[b"h2", b"http/1.1"]).map_err(|error| error.to_string())?;
        let shaking = async {
            let stream = TcpStream::connect(to).await.map_err(|error| error.to_string())?;
            connector.connect(place.server_name()?, stream).await.map_err(|error| error.to_string())
        };
        let stream = within(self.timeout, "handshake", shaking).await?;
        let session = stream.get_ref().1;
        let sent = session.peer_certificates().unwrap_or_default();
        let mut judged = self.trust.judge(sent, &place.server_name()?, self.clock.now().0 / 1_000);
        judged.at = to.ip().to_string();
        judged.version =
            session.protocol_version().and_then(|it| it.as_str()).unwrap_or("TLS").replace("TLSv1_", "TLS 1.");
        judged.protocol = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        Ok(judged)
    }

    /// Asks one address; its status.
    pub(super) async fn reach(&self, ask: &Ask, to: SocketAddr) -> Result<u16, Unreached> {
        let far = |why: String| Unreached { why, no_route: false };
        let place = Place::of(&ask.url).ok_or_else(|| far("not a URL".into()))?;
        let stream = match tokio::time::timeout(self.timeout, TcpStream::connect(to)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let no_route = matches!(
                    error.kind(),
                    ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable | ErrorKind::Unsupported
                );
                return Err(Unreached { why: error.to_string(), no_route });
            }
            Err(_) => return Err(far(format!("no connection in {}", seconds(self.timeout)))),
        };
        let asking = async {
            let stream = self.secured(&place, stream, false).await?;
            Ok(self.exchange(ask, &place, stream).await?.status)
        };
        within(self.timeout * 2, "answer", asking).await.map_err(far)
    }

    /// Asks the first of `to` that takes a connection; follows redirects within the host. `strict`: refuses a certificate
    /// that is not trusted.
    pub(super) async fn send(&self, ask: &Ask, to: &[SocketAddr], strict: bool) -> Exchange {
        let outcome = self.follow(ask, to, strict).await;
        Exchange { asked: ask.shown.clone(), outcome }
    }

    async fn follow(&self, ask: &Ask, to: &[SocketAddr], strict: bool) -> Result<Answer, String> {
        let mut ask = ask.clone();
        let (mut hops, mut landed) = (vec![], None);
        loop {
            let place = Place::of(&ask.url).ok_or("not an http:// or https:// URL")?;
            let stream = within(self.timeout, "connection", self.connect(&place, to, strict)).await?;
            let mut answer = self.exchange(&ask, &place, stream).await?;
            let target = (300..400).contains(&answer.status).then(|| answer.text(&header::LOCATION)).flatten();
            let next = target.and_then(|target| Url::parse(&ask.url).ok()?.join(target).ok()).map(String::from);
            let there = next.as_deref().and_then(Place::of);
            let Some((next, there)) = next.zip(there) else {
                (answer.hops, answer.landed) = (hops, landed);
                return Ok(answer);
            };
            if !there.is_same_host(&place) || hops.len() == REDIRECTS_MAX {
                answer.elsewhere =
                    Some(if hops.len() == REDIRECTS_MAX { "yet another place".into() } else { there.home() });
                (answer.hops, answer.landed) = (hops, landed);
                return Ok(answer);
            }
            let path = there.tail.split('?').next().unwrap_or_default();
            hops.push(if ask.is_secret { answer.status.to_string() } else { format!("{} to {path}", answer.status) });
            ask.url = next;
            landed = Some(ask.url.clone());
        }
    }

    async fn connect(&self, place: &Place, to: &[SocketAddr], strict: bool) -> Result<Box<dyn Io>, String> {
        let mut failed = "no address".to_owned();
        for address in to.iter().take(ADDRESSES_MAX) {
            // One that is silent leaves time for the next.
            match tokio::time::timeout(self.timeout / 3, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return self.secured(place, stream, strict).await,
                Ok(Err(error)) => failed = error.to_string(),
                Err(_) => failed = "no connection in time".into(),
            }
        }
        Err(failed)
    }

    async fn secured(&self, place: &Place, stream: TcpStream, strict: bool) -> Result<Box<dyn Io>, String> {
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        if !place.is_tls {
            return Ok(Box::new(stream));
        }
        let connector = if strict { &self.strict } else { &self.any };
        let stream = connector.connect(place.server_name()?, stream).await.map_err(|error| format!("TLS: {error}"))?;
        Ok(Box::new(stream))
    }

    async fn exchange(&self, ask: &Ask, place: &Place, stream: Box<dyn Io>) -> Result<Answer, String> {
        let mut request = Request::builder().method(&ask.method).uri(&place.tail);
        request = request.header(header::HOST, &place.authority).header(header::USER_AGENT, AGENT);
        for (name, value) in &ask.headers {
            let value = HeaderValue::from_str(value).map_err(|_| format!("{name} can't be sent"))?;
            request = request.header(name, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| words(&error))?;
        let driving = Abort(tokio::spawn(connection));
        let sent = self.clock.now();
        let answering = async { sender.send_request(request).await.map_err(|error| words(&error)) };
        let (head, body) = within(self.timeout, "answer", answering).await?.into_parts();
        let came = self.clock.now();
        let (body, cut) = match tokio::time::timeout(self.timeout * BODY_TIMES, self.read(body)).await {
            Ok(read) => read?,
            Err(_) => return Err(format!("the body takes longer than {}", seconds(self.timeout * BODY_TIMES))),
        };
        drop(driving);
        let status = head.status.as_u16();
        Ok(Answer { status, headers: head.headers, body, cut, sent, came, ..Answer::default() })
    }

    /// At most [`BODY_MAX_BYTES`], and whether there is more.
    async fn read(&self, mut body: Incoming) -> Result<(Bytes, bool), String> {
        let mut read = BytesMut::new();
        loop {
            let next = async { Ok(body.frame().await) };
            let Some(frame) = within(self.timeout, "more of the body", next).await? else {
                return Ok((read.freeze(), false));
            };
            let frame =
                frame.map_err(|error| format!("the body breaks off after {} bytes: {}", read.len(), words(&error)))?;
            if let Some(data) = frame.data_ref() {
                let taken = data.len().min(BODY_MAX_BYTES - read.len());
                read.extend_from_slice(&data[..taken]);
                if taken < data.len() {
                    return Ok((read.freeze(), true));
                }
            }
        }
    }
}

/// Ends the task with its request.
struct Abort<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Abort<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(format!("no {what} in {}", seconds(limit))),
    }
}

fn seconds(span: Duration) -> String {
    format!("{} s", span.as_secs_f64())
}

/// An error with its causes.
fn words(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        out = format!("{out}: {cause}");
        source = cause.source();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_keeps_every_byte_of_its_path() {
        let place = Place::of("https://H.example:8443/~1~2/a%2fb;c?x=~&y#f").expect("a place");
        assert_eq!((place.port, place.tail.as_str()), (8443, "/~1~2/a%2fb;c?x=~&y"));
        assert_eq!(place.home(), "https://H.example:8443");
        assert_eq!(Place::of("http://h?x").map(|place| place.tail), Some("/?x".into()));
        for none in ["ftp://h/", "h/x", "http://", ""] {
            assert!(Place::of(none).is_none(), "{none}");
        }
    }
}

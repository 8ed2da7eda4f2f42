//! A client that costs little: HTTP/1.1 over connections that stay, one request under way on each, all on one thread.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Longest answer that is read.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;
/// Without an answer for so long a run fails.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Whom to ask.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    tls: Option<TlsConnector>,
}

impl Target {
    pub(crate) fn plain(port: u16) -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), tls: None }
    }

    /// TLS with the certificate in `pem`, which names `localhost`.
    pub(crate) fn tls(port: u16, pem: &Path) -> anyhow::Result<Self> {
        Self::tls_by(port, pem, tokio_rustls::rustls::crypto::aws_lc_rs::default_provider())
    }

    /// The same with a choice of ciphers.
    pub(crate) fn tls_by(port: u16, pem: &Path, provider: CryptoProvider) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(pem)? {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Some(TlsConnector::from(Arc::new(config))), ..Self::plain(port) })
    }

    /// The same for a client that speaks HTTP/2: over TLS it says so.
    pub(crate) fn speaking_h2(&self) -> Self {
        let tls = self.tls.as_ref().map(|tls| {
            let mut config = ClientConfig::clone(tls.config());
            config.alpn_protocols = vec![b"h2".to_vec()];
            TlsConnector::from(Arc::new(config))
        });
        Self { tls, ..*self }
    }
}

/// How hard, and for how long.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) connections: usize,
    /// Requests a second, all connections together; none: as fast as answers come.
    pub(crate) rate: Option<f64>,
    pub(crate) seconds: f64,
}

/// What came back.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) count: u64,
    pub(crate) seconds: f64,
    /// From when a request was due to the end of its answer, sorted.
    latency_us: Vec<u32>,
}

impl Answers {
    pub(crate) fn new(mut latency_us: Vec<u32>, seconds: f64) -> Self {
        latency_us.sort_unstable();
        Self { count: latency_us.len() as u64, seconds, latency_us }
    }

    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        let last = self.latency_us.len().saturating_sub(1);
        let at = (last as f64 * quantile).round() as usize;
        self.latency_us.get(at).map_or(f64::NAN, |us| f64::from(*us) / 1_000.0)
    }
}

/// Sends `requests` in turn, each connection its own part of them, over and over. An answer that is not 200 fails the run.
pub(crate) async fn send(target: &Target, requests: &Arc<Vec<Vec<u8>>>, effort: Effort) -> anyhow::Result<Answers> {
    let mut connections = Vec::new();
    for _ in 0..effort.connections {
        connections.push(connect(target).await?);
    }
    let begun = Instant::now();
    let until = begun + Duration::from_secs_f64(effort.seconds);
    let mut tasks = JoinSet::new();
    for (number, mut connection) in connections.into_iter().enumerate() {
        let requests = Arc::clone(requests);
        // Each connection has its own times, spread evenly over the others'.
        let interval = effort.rate.map(|rate| Duration::from_secs_f64(effort.connections as f64 / rate));
        let first = begun + interval.unwrap_or_default().mul_f64(number as f64 / effort.connections as f64);
        tasks.spawn(async move {
            let mut latency_us = Vec::new();
            let own = requests.iter().skip(number).step_by(effort.connections).cycle();
            for (turn, request) in (0_u32..).zip(own) {
                let due = match interval {
                    Some(interval) => first + interval * turn,
                    None => Instant::now(),
                };
                if due >= until {
                    break;
                }
                tokio::time::sleep_until(due).await;
                let (status, _) = tokio::time::timeout(ANSWER_TIMEOUT, connection.ask(request)).await??;
                ensure!(status == 200, "status {status} to {}", String::from_utf8_lossy(request));
                latency_us.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
            anyhow::Ok(latency_us)
        });
    }
    let mut all = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        all.extend(ended??);
    }
    Ok(Answers::new(all, begun.elapsed().as_secs_f64()))
}

/// A connection that stays.
pub(crate) struct Connection {
    pub(crate) stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(crate) async fn connect(target: &Target) -> anyhow::Result<Connection> {
    over(target, TcpStream::connect(target.address).await).await
}

/// The same from an address of this machine: each has ports of its own.
pub(crate) async fn connect_from(source: Ipv4Addr, target: &Target) -> anyhow::Result<Connection> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    over(target, socket.connect(target.address).await).await
}

async fn over(target: &Target, connected: io::Result<TcpStream>) -> anyhow::Result<Connection> {
    let stream = connected.with_context(|| format!("connect to {}", target.address))?;
    stream.set_nodelay(true)?;
    let stream: Box<dyn Stream> = match &target.tls {
        None => Box::new(stream),
        Some(tls) => Box::new(tls.connect(ServerName::try_from("localhost")?, stream).await?),
    };
    Ok(Connection { stream, buffer: Vec::with_capacity(4096) })
}

impl Connection {
    /// Status and body.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
        self.stream.write_all(request).await?;
        loop {
            if let Some((status, head, length)) = head(&self.buffer)?
                && self.buffer.len() >= head + length
            {
                let body = self.buffer[head..head + length].to_vec();
                self.buffer.drain(..head + length);
                return Ok((status, body));
            }
            ensure!(self.buffer.len() < ANSWER_MAX_BYTES, "an answer above {ANSWER_MAX_BYTES} bytes");
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server closed the connection");
            }
        }
    }
}

/// Status, bytes of the head, bytes of the body; `None` while the head is not whole.
pub(crate) fn head(bytes: &[u8]) -> anyhow::Result<Option<(u16, usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end])?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).context("no HTTP answer")?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok(Some((status, end + 4, length.context("an answer without content-length")?)))
}

/// A GET as hls.js in Chromium sends it.
pub(crate) fn get(path: &str, extra: &BTreeMap<&str, &str>) -> Vec<u8> {
    let mut out = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: keep-alive\r\nsec-ch-ua-platform: \"Linux\"\r\n\
         user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36\r\n\
         sec-ch-ua: \"Chromium\";v=\"156\"\r\nsec-ch-ua-mobile: ?0\r\naccept: */*\r\norigin: https://watch.example\r\n\
         sec-fetch-site: cross-site\r\nsec-fetch-mode: cors\r\nsec-fetch-dest: empty\r\nreferer: https://watch.example/\r\n\
         accept-encoding: gzip, deflate, br, zstd\r\naccept-language: en-US,en;q=0.9\r\n"
    );
    for (name, value) in extra {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str("\r\n");
    out.into_bytes()
}

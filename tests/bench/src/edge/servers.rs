//! The three caches, each on the server's core, each with settings that suit it, in a scratch folder.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};

use crate::edge::origin::path;
use crate::http_load::{Target, connect, get};
use crate::process::{SERVER_CORE, Server, pinned};

const SOAKED: &str = "soaked";
const ASK_INTERVAL: Duration = Duration::from_millis(100);
const ASKS_UNTIL_READY: u32 = 150;
/// More than all objects. With a disk tier it bounds the open files, which are served from the system's page cache, as
/// the other caches' files are.
const FAST: Sizes = Sizes { memory_mb: 512, disk_mb: None, max_object_mb: 4, fill_mb: 128 };
const FAST_ON_DISK: Sizes = Sizes { disk_mb: Some(4_096), ..FAST };
/// The secret of our edge's operators.
pub(crate) const TOKEN: &str = "bench-service-token";

/// What our edge may take, MiB.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) memory_mb: u64,
    /// Of its disk tier, if it has one.
    pub(crate) disk_mb: Option<u64>,
    pub(crate) max_object_mb: u64,
    pub(crate) fill_mb: u64,
}

/// What all servers share.
pub(crate) struct Scene {
    dir: TempDir,
    pub(crate) origin_port: u16,
}

/// A cache that runs.
pub(crate) struct Cache {
    pub(crate) name: &'static str,
    pub(crate) server: Server,
    pub(crate) port: u16,
    tls: Option<(u16, PathBuf)>,
}

impl Cache {
    /// Of plain HTTP and, where there is one, of TLS.
    pub(crate) fn ports(&self) -> [u16; 2] {
        [self.port, self.tls.as_ref().map_or(0, |(port, _)| *port)]
    }

    pub(crate) fn target(&self, tls: bool) -> anyhow::Result<Target> {
        match &self.tls {
            _ if !tls => Ok(Target::plain(self.port)),
            // One cipher for all, the one that browsers choose: otherwise each server might prefer another.
            Some((port, certificate)) => {
                let cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
                Target::tls_by(*port, certificate, CryptoProvider { cipher_suites, ..default_provider() })
            }
            None => bail!("{} has no TLS here", self.name),
        }
    }
}

impl Scene {
    pub(crate) fn new(origin_port: u16) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem())?;
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem())?;
        Ok(Self { dir, origin_port })
    }

    /// Ours, from memory.
    pub(crate) async fn ours(&self, spillway: &Path, tls: bool) -> anyhow::Result<Cache> {
        self.edge("ours", spillway, tls, FAST, None).await
    }

    /// Ours with a disk tier.
    pub(crate) async fn ours_on_disk(&self, spillway: &Path, tls: bool) -> anyhow::Result<Cache> {
        self.edge("ours-disk", spillway, tls, FAST_ON_DISK, None).await
    }

    /// Ours, with all that it has, on new ports or on those of one that was killed.
    pub(crate) async fn soaked(&self, spillway: &Path, sizes: Sizes, ports: Option<[u16; 2]>) -> anyhow::Result<Cache> {
        self.edge(SOAKED, spillway, true, sizes, ports).await
    }

    /// What the soaked ones said.
    pub(crate) fn said(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.log(SOAKED))?)
    }

    /// Bytes that our disk tier takes, if there is one.
    pub(crate) fn disk_bytes(&self) -> anyhow::Result<u64> {
        let folder = self.disk();
        if folder.exists() { folder_bytes(&folder) } else { Ok(0) }
    }

    fn disk(&self) -> PathBuf {
        self.dir.path().join("ours-disk-tier")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    async fn edge(
        &self,
        name: &'static str,
        spillway: &Path,
        tls: bool,
        sizes: Sizes,
        ports: Option<[u16; 2]>,
    ) -> anyhow::Result<Cache> {
        let [port, tls_port] = ports.map_or_else(free_ports, Ok)?;
        let file = self.dir.path().join(format!("{name}.toml"));
        let disk = sizes.disk_mb.map(|size_mb| (self.disk(), size_mb));
        if let Some((folder, _)) = &disk {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&file, toml(self.dir.path(), self.origin_port, port, tls.then_some(tls_port), sizes, disk))?;
        let mut command = pinned(SERVER_CORE, spillway);
        command.args(["edge", "--config"]).arg(&file).env("RUST_LOG", "error");
        // The soak's origin fails; the others' first object is kept from here on.
        let first = if name == SOAKED { "/.spillway/readyz".to_owned() } else { path(1024, 0) };
        self.start(name, &mut command, &first, port, tls.then_some(tls_port)).await
    }

    pub(crate) async fn nginx(&self, nginx: &Path) -> anyhow::Result<Cache> {
        let [port, tls_port] = free_ports()?;
        let dir = self.dir.path();
        let file = dir.join("nginx.conf");
        std::fs::write(&file, nginx_conf(dir, self.origin_port, port, tls_port)?)?;
        let mut command = pinned(SERVER_CORE, nginx);
        command.arg("-p").arg(dir).arg("-c").arg(&file).args(["-e", "stderr"]);
        self.start("nginx", &mut command, &path(1024, 0), port, Some(tls_port)).await
    }

    pub(crate) async fn varnish(&self, varnishd: &Path) -> anyhow::Result<Cache> {
        let [port, _] = free_ports()?;
        let mut command = pinned(SERVER_CORE, varnishd);
        // No jail: it would run as a user who can't enter the scratch folder.
        command.args(["-F", "-j", "none", "-n"]).arg(self.dir.path().join("varnish"));
        command.args(["-a", &format!("127.0.0.1:{port}"), "-b", &format!("127.0.0.1:{}", self.origin_port)]);
        command.args(["-s", "malloc,512m", "-p", "thread_pools=1", "-p", "thread_pool_min=100"]);
        self.start("varnish", &mut command, &path(1024, 0), port, None).await
    }

    /// Started, and it answers when `path` is asked for.
    async fn start(
        &self,
        name: &'static str,
        command: &mut Command,
        path: &str,
        port: u16,
        tls_port: Option<u16>,
    ) -> anyhow::Result<Cache> {
        let log = self.log(name);
        // One that is started again goes on.
        let stderr = File::options().create(true).append(true).open(&log)?;
        let mut server = Server::start(command.stderr(stderr))?;
        let asked = get(path, &std::collections::BTreeMap::new());
        for _ in 0..ASKS_UNTIL_READY {
            if let Ok(mut connection) = connect(&Target::plain(port)).await
                && connection.ask(&asked).await.is_ok_and(|(status, _)| status == 200)
            {
                let tls = tls_port.map(|port| (port, self.dir.path().join("cert.pem")));
                return Ok(Cache { name, server, port, tls });
            }
            if server.has_ended()? {
                break;
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        bail!(
            "{name} ended, or does not answer on port {port} in {:?}; it said:\n{said}",
            ASK_INTERVAL * ASKS_UNTIL_READY
        )
    }
}

/// Our configuration: the one place of this benchmark that knows its keys.
fn toml(
    dir: &Path,
    origin_port: u16,
    port: u16,
    tls_port: Option<u16>,
    sizes: Sizes,
    disk: Option<(PathBuf, u64)>,
) -> String {
    let at = dir.display();
    let Sizes { memory_mb, max_object_mb, fill_mb, .. } = sizes;
    let mut out = format!(
        r#"
data_dir = "{at}"
service_token = "{TOKEN}"

[edge]
listen = "127.0.0.1:{port}"
pathway = "own-bench-1"
region = "eu"
base_url = "http://127.0.0.1:{port}"
origin = "http://127.0.0.1:{origin_port}"
# No admission in the way, and connections that may idle.
ceiling_mbps = 10000000
header_timeout_ms = 300000
origin_read_ms = 2000
memory_mb = {memory_mb}
max_object_mb = {max_object_mb}
fill_mb = {fill_mb}
"#
    );
    if let Some(tls_port) = tls_port {
        out.push_str(&format!(
            r#"
[edge.tls]
listen = "127.0.0.1:{tls_port}"
cert = "{at}/cert.pem"
key = "{at}/key.pem"
"#
        ));
    }
    if let Some((folder, size_mb)) = disk {
        out.push_str(&format!("\n[edge.disk]\npath = \"{}\"\nsize_mb = {size_mb}\n", folder.display()));
    }
    out
}

/// One worker, files by `sendfile`; `tcp_nopush` is off since with it answers of 64 KiB wait 40 ms for an ACK.
fn nginx_conf(dir: &Path, origin_port: u16, port: u16, tls_port: u16) -> anyhow::Result<String> {
    let at = dir.display();
    let user = Command::new("id").arg("-u").output().context("id")?;
    // Root's worker would run as a user who can't enter the scratch folder.
    let user = if user.stdout.trim_ascii() == b"0" { "user root root;" } else { "" };
    Ok(format!(
        r"{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {at}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type video/mp4;
    sendfile on;
    tcp_nopush off;
    tcp_nodelay on;
    keepalive_requests 10000000;
    keepalive_timeout 300s;
    open_file_cache max=1000 inactive=1h;
    client_body_temp_path {at}/nginx-body;
    proxy_temp_path {at}/nginx-proxy;
    fastcgi_temp_path {at}/nginx-fastcgi;
    uwsgi_temp_path {at}/nginx-uwsgi;
    scgi_temp_path {at}/nginx-scgi;
    proxy_cache_path {at}/nginx-cache levels=1:2 keys_zone=bench:16m max_size=4g inactive=1d use_temp_path=off;
    upstream origin {{ server 127.0.0.1:{origin_port}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port} reuseport;
        listen 127.0.0.1:{tls_port} ssl reuseport;
        ssl_certificate {at}/cert.pem;
        ssl_certificate_key {at}/key.pem;
        ssl_protocols TLSv1.3;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection '';
            proxy_cache bench;
            proxy_cache_key $uri$is_args$args;
        }}
    }}
}}
"
    ))
}

/// First line that a server says of its version, on whichever output.
pub(crate) fn version(program: &Path, option: &str) -> anyhow::Result<String> {
    let said = Command::new(program).arg(option).output().with_context(|| format!("{}", program.display()))?;
    let said = [said.stdout, said.stderr].concat();
    let first = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().trim().to_owned();
    ensure!(!first.is_empty(), "{} {option} says nothing", program.display());
    Ok(first)
}

/// Bytes of all files in a folder; those that go meanwhile don't count.
fn folder_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let entry = entry?;
        sum += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path())?,
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error.into()),
        };
    }
    Ok(sum)
}

fn free_ports() -> anyhow::Result<[u16; 2]> {
    let held = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok([held[0].local_addr()?.port(), held[1].local_addr()?.port()])
}

//! Agents beside real servers, configured as `docs/edge-agent.md` says. Where a server isn't installed its test says so
//! and ends; `cargo xtask test` installs nginx and Varnish.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Duration;

use spillway_own_edge::agent::AgentConfig;
use spillway_wire::load::{Directives, LoadReport};
use tokio::net::TcpListener;

use crate::agent::{TestAgent, until};
use crate::client::{get_from, get_with};
use crate::reports::{Orchestrator, admit};
use crate::scripted::Scripted;
use crate::support::media;

const DOCS: &str = include_str!("../../../docs/edge-agent.md");

/// The blocks of `language` below `heading`.
fn samples(heading: &str, language: &str) -> Vec<&'static str> {
    let below = DOCS.split("\n## ").find(|part| part.starts_with(heading)).expect("a heading of the page");
    let fence = format!("```{language}\n");
    below.split(&*fence).skip(1).map(|block| block.split("```").next().unwrap()).collect()
}

fn program(path: &str) -> bool {
    let there = Path::new(path).exists();
    if !there {
        eprintln!("{path} is not installed: not tested beside it");
    }
    there
}

/// A server's process; killed when dropped.
struct Server(Child);

impl Server {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// By SIGKILL, its children first: nginx's workers serve on without their master.
    fn kill(&mut self) {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid())).unwrap_or_default();
        let _ = self.0.kill();
        let _ = Command::new("kill").arg("-KILL").args(children.split_whitespace()).status();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // So that its workers go, too.
        let _ = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
        for _ in 0..40 {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.kill();
    }
}

/// A folder that a server's workers, which are another user, may enter.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// An address that nobody uses, for a server that can't choose one for itself: of a loopback address of this process's
/// own, and below the ports that connections take. A free port of 127.0.0.1 may be another test's before the server
/// has it.
fn unused() -> SocketAddr {
    static NEXT_PORT: AtomicU16 = AtomicU16::new(20_000);
    let own = Ipv4Addr::new(127, 64, 0, 0) | Ipv4Addr::from_bits(std::process::id() & 0x3f_ffff);
    (own, NEXT_PORT.fetch_add(1, Relaxed)).into()
}

async fn listens(address: SocketAddr) {
    until("the server listens", || std::net::TcpStream::connect(address).is_ok()).await;
}

/// A sample with what is particular to a test; every part must be in it.
fn fitted(sample: &str, changes: &[(&str, String)]) -> String {
    changes.iter().fold(sample.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in the sample");
        text.replace(from, to)
    })
}

/// `[edge_agent]` of a sample.
fn config(sample: &str) -> AgentConfig {
    let whole: toml::Table = toml::from_str(sample).unwrap();
    whole["edge_agent"].clone().try_into().unwrap()
}

async fn origin() -> Scripted {
    let origin = Scripted::start().await;
    origin.answer("/live/river/1.m4s", "Cache-Control: max-age=60", media(500_000));
    origin.answer("/live/river/master.m3u8", "Cache-Control: max-age=60", "#EXTM3U\n");
    origin
}

/// Three viewers fetch a segment and a playlist; the bytes that they got.
async fn watch(server: SocketAddr) -> u64 {
    let mut bytes = 0;
    for viewer in 1..=3 {
        for target in ["/live/river/1.m4s", "/live/river/master.m3u8"] {
            let reply = get_from(server, [127, 0, 0, 1], &format!("{target}?sid=v-{viewer}")).await;
            assert_eq!(reply.status, 200, "{}", reply.head);
            bytes += reply.wire_bytes;
        }
    }
    bytes
}

/// Reports until `requests` were reported.
async fn reported(orchestrator: &Orchestrator, requests: u64) -> Vec<LoadReport> {
    let mut reports = vec![orchestrator.next().await];
    while reports.iter().map(|report| report.requests).sum::<u64>() < requests {
        reports.push(orchestrator.next().await);
    }
    reports
}

fn bytes_of(reports: &[LoadReport]) -> f64 {
    reports.iter().map(|report| report.bits_out_bps as f64 * report.interval_ms as f64 / 8_000.0).sum()
}

/// After the server was killed no report comes any more.
async fn is_left(orchestrator: &Orchestrator) {
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let before = orchestrator.count();
    tokio::time::sleep(Duration::from_millis(3_000)).await;
    assert_eq!(orchestrator.count(), before, "a dead server carries nothing, and nothing is said of it");
}

#[test]
fn the_samples_are_valid() {
    let all = [("Edges that stay", 1), ("Varnish", 1), ("Apache", 1)];
    let whole = format!("\n## {DOCS}");
    assert!(whole.contains("# Edges that stay"));
    for (heading, count) in &all[1..] {
        let found = samples(heading, "toml");
        assert_eq!(found.len(), *count);
        found.iter().for_each(|sample| config(sample).check().unwrap());
    }
    let first = DOCS.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    config(first).check().unwrap();
}

#[tokio::test]
async fn beside_nginx() {
    if !program("/usr/sbin/nginx") {
        return;
    }
    let (origin, orchestrator, dir) = (origin().await, Orchestrator::start().await, folder());
    let at = dir.path().display().to_string();
    let (viewers, status) = (unused(), unused());
    let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = fitted(
        samples("nginx", "nginx")[0],
        &[
            ("listen 80;", format!("listen {viewers};")),
            ("127.0.0.1:8081", status.to_string()),
            ("127.0.0.1:4319", admin.local_addr().unwrap().to_string()),
            ("origin.example:8080", origin.address.to_string()),
            ("/var/log/nginx", at.clone()),
            ("/var/cache/nginx/media", format!("{at}/cache")),
        ],
    );
    // Each session is another URL here, so that the key must not hold the query.
    let main = format!(
        "daemon off; worker_processes 2; pid {at}/pid; error_log {at}/error.log;\nevents {{ worker_connections 64; }}\nhttp {{\n\
         proxy_temp_path {at}/proxy; client_body_temp_path {at}/body; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
         proxy_cache_key $uri;\n{site}\n}}\n"
    );
    fs::write(dir.path().join("nginx.conf"), main).unwrap();
    let mut nginx = Server::start(Command::new("/usr/sbin/nginx").args([
        "-e",
        &format!("{at}/error.log"),
        "-c",
        &format!("{at}/nginx.conf"),
    ]));
    listens(viewers).await;
    let sample = DOCS.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let agent = config(&fitted(
        sample,
        &[
            ("http://orchestrator.example.net:4320", orchestrator.url()),
            ("127.0.0.1:8081", status.to_string()),
            ("/var/log/nginx", at.clone()),
            ("/run/nginx.pid", format!("{at}/pid")),
            ("/var/cache/nginx", at.clone()),
            ("interface = \"eth0\"\n", String::new()),
            ("/run/spillway-agent", at.clone()),
        ],
    ));
    let agent = TestAgent::with(agent, admin).await;
    orchestrator.next().await;

    let bytes = watch(viewers).await;
    let reports = reported(&orchestrator, 6).await;
    let last = reports.last().unwrap();
    assert_eq!(reports.iter().map(|report| report.requests).sum::<u64>(), 6);
    assert!((bytes_of(&reports) - bytes as f64).abs() <= 3.0, "{} of {bytes}", bytes_of(&reports));
    assert_eq!(last.viewers, 3);
    let hits: f64 = reports.iter().map(|r| f64::from(r.hit_ratio_ppm.unwrap_or(0)) * r.requests as f64 / 1e6).sum();
    assert!((hits - 4.0).abs() < 0.01, "{hits} of 6");
    assert_eq!(reports.iter().map(|report| report.origin.fetches).sum::<u64>(), 2);
    assert!(last.memory_bytes.is_some_and(|bytes| bytes > 1_000_000) && last.cpu_ppm.is_some());
    let open = std::net::TcpStream::connect(viewers).unwrap();
    orchestrator.next().await;
    assert!((1..=3).contains(&orchestrator.next().await.connections));
    drop(open);

    // Rotated as logrotate does it.
    fs::rename(format!("{at}/spillway.log"), format!("{at}/spillway.log.1")).unwrap();
    watch(viewers).await;
    assert!(Command::new("kill").args(["-USR1", &nginx.pid().to_string()]).status().unwrap().success());
    until("nginx has opened a new log", || Path::new(&format!("{at}/spillway.log")).exists()).await;
    watch(viewers).await;
    assert_eq!(reported(&orchestrator, 12).await.iter().map(|report| report.requests).sum::<u64>(), 12);

    // New sessions are turned away, running ones go on.
    let elsewhere = Some("http://other.example".to_owned());
    orchestrator.order(Directives { admit: false, epoch: 2, ..admit() }).await;
    let refused = get_with(viewers, "/live/river/master.m3u8?sid=new", "").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("4")), "{}", refused.head);
    assert_eq!(get_with(viewers, "/live/river/master.m3u8?sid=v-1", "").await.status, 200);
    orchestrator.order(Directives { admit: false, redirect_to: elsewhere, epoch: 3, ..admit() }).await;
    let moved = get_with(viewers, "/live/river/master.m3u8?sid=new", "").await;
    assert_eq!(
        (moved.status, moved.header("location")),
        (307, Some("http://other.example/live/river/master.m3u8?sid=new"))
    );
    let report = orchestrator.next().await;
    assert!(report.viewers <= 3, "who was turned away is no viewer");

    nginx.kill();
    is_left(&orchestrator).await;
    agent.stop().await;
}

#[tokio::test]
async fn nginx_serves_everybody_without_its_agent() {
    if !program("/usr/sbin/nginx") {
        return;
    }
    let (origin, dir) = (origin().await, folder());
    let at = dir.path().display().to_string();
    let (viewers, status, nobody) = (unused(), unused(), unused());
    let site = fitted(
        samples("nginx", "nginx")[0],
        &[
            ("listen 80;", format!("listen {viewers};")),
            ("127.0.0.1:8081", status.to_string()),
            ("127.0.0.1:4319", nobody.to_string()),
            ("origin.example:8080", origin.address.to_string()),
            ("/var/log/nginx", at.clone()),
            ("/var/cache/nginx/media", format!("{at}/cache")),
        ],
    );
    // The other sample, the flag file, in place of what asks the agent.
    let flagged = fitted(
        samples("nginx", "nginx")[1],
        &[("/run/spillway-agent", at.clone()), ("origin.example:8080", origin.address.to_string())],
    );
    let other = unused();
    let main = format!(
        "daemon off; pid {at}/pid; error_log {at}/error.log;\nevents {{ worker_connections 64; }}\nhttp {{\n\
         proxy_temp_path {at}/proxy; client_body_temp_path {at}/body; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
         {site}\nserver {{ listen {other};\n{flagged}\n}}\n}}\n"
    );
    fs::write(dir.path().join("nginx.conf"), main).unwrap();
    let _nginx = Server::start(Command::new("/usr/sbin/nginx").args([
        "-e",
        &format!("{at}/error.log"),
        "-c",
        &format!("{at}/nginx.conf"),
    ]));
    listens(viewers).await;
    assert_eq!(get_with(viewers, "/live/river/master.m3u8", "").await.status, 200);
    assert_eq!(get_with(other, "/live/river/master.m3u8", "").await.status, 200);
    fs::write(dir.path().join("refuse-new"), "full\n").unwrap();
    let refused = get_with(other, "/live/river/master.m3u8", "").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("4")), "{}", refused.head);
}

#[tokio::test]
async fn beside_varnish() {
    if !program("/usr/sbin/varnishd") {
        return;
    }
    let (origin, orchestrator, dir) = (origin().await, Orchestrator::start().await, folder());
    let at = dir.path().display().to_string();
    let viewers = unused();
    let vcl = fitted(
        samples("Varnish", "vcl")[0],
        &[
            ("origin.example", origin.address.ip().to_string()),
            ("8080", origin.address.port().to_string()),
            ("/run/spillway-agent", at.clone()),
        ],
    );
    // Each session is another URL here, so that the key must not hold the query.
    let hash = "sub vcl_hash { hash_data(regsub(req.url, \"\\?.*\", \"\")); return (lookup); }";
    fs::write(dir.path().join("media.vcl"), format!("{vcl}\n{hash}\n")).unwrap();
    let arguments =
        ["-F", "-n", &format!("{at}/varnish"), "-a", &viewers.to_string(), "-f", &format!("{at}/media.vcl")];
    let mut varnish = Server::start(Command::new("/usr/sbin/varnishd").args(arguments).args([
        "-s",
        "malloc,16m",
        "-P",
        &format!("{at}/pid"),
    ]));
    listens(viewers).await;
    let sample = fitted(
        samples("Varnish", "toml")[0],
        &[
            ("http://orchestrator.example.net:4320", orchestrator.url()),
            ("# instance = \"media\"", format!("instance = \"{at}/varnish\"\npid_file = \"{at}/pid\"")),
            ("/run/spillway-agent", at.clone()),
        ],
    );
    let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent = TestAgent::with(config(&sample), admin).await;
    orchestrator.next().await;

    let bytes = watch(viewers).await;
    let reports = reported(&orchestrator, 6).await;
    let last = reports.last().unwrap();
    assert!((bytes_of(&reports) - bytes as f64).abs() <= 3.0, "{} of {bytes}", bytes_of(&reports));
    assert_eq!(last.viewers, 3);
    let hits: f64 = reports.iter().map(|r| f64::from(r.hit_ratio_ppm.unwrap_or(0)) * r.requests as f64 / 1e6).sum();
    assert!((hits - 4.0).abs() < 0.01, "{hits} of 6");
    assert_eq!(reports.iter().map(|report| report.origin.fetches).sum::<u64>(), 2);
    assert!(reports.iter().map(|report| report.origin.bytes).sum::<u64>() > 500_000);
    // The manager is small; the child has the cache.
    assert!(last.memory_bytes.is_some_and(|bytes| bytes > 10_000_000), "{:?}", last.memory_bytes);
    let open = std::net::TcpStream::connect(viewers).unwrap();
    orchestrator.next().await;
    assert_eq!(orchestrator.next().await.connections, 1);
    drop(open);

    orchestrator.order(Directives { drain: true, epoch: 2, ..admit() }).await;
    until("the flag is there", || dir.path().join("refuse-new").exists()).await;
    let refused = get_with(viewers, "/live/river/master.m3u8", "").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")), "{}", refused.head);
    assert_eq!(get_with(viewers, "/live/river/1.m4s", "").await.status, 200);

    varnish.kill();
    is_left(&orchestrator).await;
    agent.stop().await;
}

#[tokio::test]
async fn beside_ats() {
    if !program("/usr/bin/traffic_server") {
        return;
    }
    let (origin, orchestrator, dir) = (origin().await, Orchestrator::start().await, folder());
    let at = dir.path().display().to_string();
    let viewers = unused();
    let samples_of = |language| samples("Apache", language)[0];
    for folder in ["etc", "log", "run", "cache"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    let (ip, port) = (viewers.ip(), viewers.port());
    let records = format!(
        "CONFIG proxy.config.http.server_ports STRING {port}:ip-in={ip}\nCONFIG proxy.config.log.logfile_dir STRING {at}/log\n\
         CONFIG proxy.config.admin.user_id STRING trafficserver\nCONFIG proxy.config.exec_thread.autoconfig INT 0\n\
         CONFIG proxy.config.exec_thread.limit INT 2\n{}",
        samples_of("ini")
    );
    let refuse = fitted(samples_of("lua"), &[("/run/spillway-agent", at.clone())]);
    let remap = format!(
        "map http://edge.example/ {}/ @plugin=cachekey.so @pparam=--remove-all-params=true @plugin=tslua.so @pparam={at}/etc/refuse.lua\n",
        origin.url()
    );
    let root = format!(
        "prefix: {at}\nbindir: /usr/bin\nsbindir: /usr/bin\nsysconfdir: {at}/etc\nlibexecdir: /usr/lib/trafficserver/modules\n\
         localstatedir: {at}\nruntimedir: {at}/run\nlogdir: {at}/log\ncachedir: {at}/cache\n"
    );
    for (name, text) in [
        ("etc/records.config", &*records),
        ("etc/remap.config", &remap),
        (
            "etc/ip_allow.yaml",
            "ip_allow:\n  - apply: in\n    ip_addrs: 127.0.0.0/8\n    action: allow\n    methods: ALL\n",
        ),
        ("etc/plugin.config", "stats_over_http.so\n"),
        ("etc/storage.config", &format!("{at}/cache 32M\n")),
        ("etc/logging.yaml", samples_of("yaml")),
        ("etc/refuse.lua", &refuse),
        ("root.yaml", &root),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    // As root it becomes another user, whose these must be.
    let _ = Command::new("chown").args(["-R", "trafficserver", &at]).status();
    let mut ats = Server::start(Command::new("/usr/bin/traffic_server").arg(format!("--run-root={at}/root.yaml")));
    listens(viewers).await;
    let sample = fitted(
        samples_of("toml"),
        &[
            ("http://orchestrator.example.net:4320", orchestrator.url()),
            ("127.0.0.1:8080", viewers.to_string()),
            ("/var/log/trafficserver", format!("{at}/log")),
            ("/run/spillway-agent", at.clone()),
        ],
    );
    let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent = TestAgent::with(config(&sample), admin).await;
    until("its cache is open", || {
        fs::read_to_string(format!("{at}/log/diags.log")).is_ok_and(|log| log.contains("cache enabled"))
    })
    .await;
    orchestrator.next().await;

    let bytes = watch(viewers).await;
    let mut reports = reported(&orchestrator, 6).await;
    // Its counter is up to a second late.
    reports.push(orchestrator.next().await);
    let told = bytes_of(&reports);
    assert!(told >= bytes as f64 && told < bytes as f64 * 1.05 + 20_000.0, "{told} of {bytes}");
    let last = reports.last().unwrap();
    assert_eq!(last.viewers, 3);
    assert_eq!(reports.iter().map(|report| report.requests).sum::<u64>(), 6, "the agent's own questions are none");
    assert_eq!(reports.iter().map(|report| report.origin.fetches).sum::<u64>(), 2);
    assert!(last.disk_ppm.is_some_and(|ppm| ppm < 500_000), "{:?}", last.disk_ppm);

    orchestrator.order(Directives { admit: false, epoch: 2, ..admit() }).await;
    until("the flag is there", || dir.path().join("refuse-new").exists()).await;
    assert_eq!(get_with(viewers, "/live/river/master.m3u8", "").await.status, 503);
    assert_eq!(get_with(viewers, "/live/river/1.m4s", "").await.status, 200);

    ats.kill();
    is_left(&orchestrator).await;
    agent.stop().await;
}

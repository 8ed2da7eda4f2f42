//! `dns`: answers a second and core of the steering node's DNS zone, beside Knot DNS with a zone of the same names.
//!
//! Both get the same queries: A and AAAA of three names, one below a wildcard, each with a client subnet of /24. The node
//! chooses for each subnet; Knot answers what stands in its file, whoever asks. So the ratio is what choosing costs, and
//! what a server of thirty years of care is ahead.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde::Serialize;

use crate::process::{SERVER_CORE, Server, median, pinned, stay_on_the_clients_core};

/// Sockets of the load, each with its thread.
const SOCKETS: u32 = 4;
/// Queries that a socket has under way: a window, so that no buffer of the kernel overflows.
const WINDOW: u16 = 64;
/// Different queries.
const QUERIES: u32 = 8_192;
/// An answer that has not come by then is lost.
const PATIENCE: Duration = Duration::from_millis(200);
/// A server is asked this often until it answers.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
const ASKS_UNTIL_READY: u32 = 100;

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The Knot DNS server
    #[arg(long, value_name = "FILE", default_value = "/usr/sbin/knotd")]
    knotd: PathBuf,
    /// Alternating runs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    runs: u32,
    /// Seconds of load in each run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=120))]
    seconds: u32,
    /// One JSON line
    #[arg(long)]
    json: bool,
}

/// Medians.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    /// Answers per CPU-second of the steering node.
    pub(crate) dns_per_s: f64,
    /// Who the peer is.
    pub(crate) dns_peer: String,
    /// Node ÷ peer.
    pub(crate) dns_ratio: f64,
    /// Answers per CPU-second of the peer.
    pub(crate) peer_per_s: f64,
}

pub(crate) fn run(spillway: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let figures = measure(spillway, &arguments.knotd, arguments.runs, arguments.seconds)?;
    let result = serde_json::to_value(figures)?;
    if arguments.json {
        println!("{result}");
    } else {
        println!("{result:#}");
    }
    Ok(())
}

/// Loads both in turns, each on the server's core, from the client's.
pub(crate) fn measure(spillway: &Path, knotd: &Path, runs: u32, seconds: u32) -> anyhow::Result<Figures> {
    stay_on_the_clients_core()?;
    let version = Command::new(knotd).arg("--version").output().with_context(|| format!("{}", knotd.display()))?;
    let dns_peer = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    ensure!(version.status.success() && !dns_peer.is_empty(), "{} says no version", knotd.display());
    let (mut node, mut peer) = (Vec::new(), Vec::new());
    for number in 1..=runs {
        let ours = once(spillway, steering, seconds)?;
        let theirs = once(knotd, knot, seconds)?;
        eprintln!("run {number}: {ours:.0} answers/s/core; {dns_peer} {theirs:.0}");
        node.push(ours);
        peer.push(theirs);
    }
    let (dns_per_s, peer_per_s) = (median(node), median(peer));
    let dns_ratio = (dns_per_s / peer_per_s * 100.0).round() / 100.0;
    Ok(Figures { dns_per_s: dns_per_s.round(), dns_peer, dns_ratio, peer_per_s: peer_per_s.round() })
}

/// Writes a server's files, and gives the words that start it.
type Prepare = fn(&Path, [u16; 2]) -> anyhow::Result<Vec<String>>;

/// One server from start to end: its answers per CPU-second.
fn once(program: &Path, prepare: Prepare, seconds: u32) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let ports = free_ports()?;
    let words = prepare(dir.path(), ports)?;
    let server = Server::start(pinned(SERVER_CORE, program).args(words).env("RUST_LOG", "warn"))?;
    let address = SocketAddr::from(([127, 0, 0, 1], ports[0]));
    until_ready(address)?;
    // Caches, counters and threads that begin with the first queries.
    load(address, 1)?;
    let before_s = server.cpu_s()?;
    let answers = load(address, seconds)?;
    let cpu_s = server.cpu_s()? - before_s;
    server.end()?;
    ensure!(cpu_s > 0.0, "the server used no time for {answers} answers");
    Ok(answers as f64 / cpu_s)
}

/// Two ports: of the zone, and of the node's own HTTP.
fn free_ports() -> anyhow::Result<[u16; 2]> {
    let held = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
    Ok([held[0].local_addr()?.port(), held[1].local_addr()?.port()])
}

fn until_ready(address: SocketAddr) -> anyhow::Result<()> {
    let socket = connected(address)?;
    let packet = query("vod", 1, 0);
    let mut buffer = [0; 2_048];
    for _ in 0..ASKS_UNTIL_READY {
        // Before it listens the system says that nobody does.
        let _ = socket.send(&packet);
        if socket.recv(&mut buffer).is_ok_and(|length| is_good(&buffer[..length])) {
            return Ok(());
        }
        std::thread::sleep(ASK_INTERVAL);
    }
    bail!("no answer from {address} after {:?}", ASK_INTERVAL * ASKS_UNTIL_READY)
}

/// Answers in `seconds`, over all sockets.
fn load(address: SocketAddr, seconds: u32) -> anyhow::Result<u64> {
    let names = ["vod", "live", "match.live"];
    let queries: Vec<Vec<u8>> = (0..QUERIES)
        .map(|n| query(names[n as usize % names.len()], if n % 4 == 0 { 28 } else { 1 }, n.wrapping_mul(2_654_435_761)))
        .collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ask = |socket: u32| ask(address, &queries, (QUERIES / SOCKETS * socket) as usize, &over);
        let threads: Vec<_> = (0..SOCKETS).map(|socket| scope.spawn(move || ask(socket))).collect();
        std::thread::sleep(Duration::from_secs(u64::from(seconds)));
        over.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread broke"))?).sum()
    })
}

/// Keeps a window of queries under way until `over`; each answer brings the next query.
fn ask(address: SocketAddr, queries: &[Vec<u8>], from: usize, over: &AtomicBool) -> anyhow::Result<u64> {
    let socket = connected(address)?;
    let mut next = (from..queries.len()).chain(0..from).cycle().map(|index| queries[index].clone());
    let mut send = |id: [u8; 2]| -> anyhow::Result<()> {
        let mut packet = next.next().context("no queries")?;
        packet[..2].copy_from_slice(&id);
        socket.send(&packet).map(drop).map_err(Into::into)
    };
    let mut buffer = [0; 2_048];
    let mut answers = 0;
    while !over.load(Ordering::Relaxed) {
        // At the start, and again if what was under way is lost.
        for id in 0..WINDOW {
            send(id.to_be_bytes())?;
        }
        while let Ok(length) = socket.recv(&mut buffer) {
            ensure!(is_good(&buffer[..length]), "a bad answer: {:?}", &buffer[..length]);
            answers += 1;
            if over.load(Ordering::Relaxed) {
                break;
            }
            send([buffer[0], buffer[1]])?;
        }
    }
    Ok(answers)
}

fn connected(address: SocketAddr) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// An answer that names something: no error, authoritative, at least one record.
fn is_good(packet: &[u8]) -> bool {
    packet.len() > 12 && packet[2] & 0x86 == 0x84 && packet[3] & 0x0f == 0 && packet[6..8] != [0, 0]
}

/// A query for `name` below the zone, with EDNS and the /24 of `client`.
fn query(name: &str, kind: u16, client: u32) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.').chain(["cdn", "bench", "example"]) {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    // OPT: root, type 41, 1,232 bytes, no flags, 11 bytes of options; client subnet: family 1, 24 bits, scope 0.
    out.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 11, 0, 8, 0, 7, 0, 1, 24, 0]);
    let [_, second, third, _] = Ipv4Addr::from_bits(client).octets();
    out.extend_from_slice(&[20 + (client % 8) as u8, second, third]);
    out
}

/// Two regions, three CDNs, two own nodes with addresses of both kinds; limits that don't limit.
fn steering(dir: &Path, [port, http]: [u16; 2]) -> anyhow::Result<Vec<String>> {
    let at = dir.display();
    let text = format!(
        r#"
data_dir = "{at}"
service_token = "bench-service-token"

[[property]]
id = "bench"
write_key = "bench-key"

[[region]]
id = "eu"
control_share = 1.0
static_weights = {{ own-eu = 50, cdn-a = 20, cdn-b = 20, cdn-c = 10 }}

[[region]]
id = "us"
static_weights = {{ cdn-a = 1, cdn-b = 1 }}

[[prefix]]
prefix = "22.0.0.0/8"
region = "us"
asn = 64500

[[pathway]]
id = "own-eu-1"
group = "own-eu"
regions = ["eu"]
base_url = "http://edge-1.example"
capacity_mbps = 1000

[[pathway]]
id = "own-eu-2"
group = "own-eu"
regions = ["eu"]
base_url = "http://edge-2.example"
capacity_mbps = 1000

[[pathway]]
id = "cdn-a"
base_url = "http://a.cdn.example"
capacity_mbps = 1000

[[pathway]]
id = "cdn-b"
base_url = "http://b.cdn.example"
capacity_mbps = 1000

[[pathway]]
id = "cdn-c"
base_url = "http://c.cdn.example"
capacity_mbps = 1000

[steer]
listen = "127.0.0.1:{http}"
public_url = "http://127.0.0.1:{http}"
token_key = "a-key-of-32-characters-for-the-bench"
origins = {{ default = "http://127.0.0.1:1" }}
class_of = {{ "live/" = "live" }}

[steer.dns]
listen = ["127.0.0.1:{port}"]
zone = "cdn.bench.example"
contact = "dns@bench.example"
nameservers = {{ "ns1.cdn.bench.example" = ["192.0.2.53"] }}
names = {{ vod = "vod/", live = "live/river", "*.live" = "live/" }}
answers_per_prefix_per_s = 100000000

[steer.dns.targets.own-eu-1]
a = ["198.51.100.1"]
aaaa = ["2001:db8::1"]

[steer.dns.targets.own-eu-2]
a = ["198.51.100.2"]
aaaa = ["2001:db8::2"]
"#
    );
    let file = dir.join("spillway.toml");
    std::fs::write(&file, text)?;
    Ok(vec!["steer".into(), "--config".into(), file.display().to_string()])
}

/// A zone of the same names: half addresses, half aliases. One thread for datagrams, as it has one core.
fn knot(dir: &Path, [port, _]: [u16; 2]) -> anyhow::Result<Vec<String>> {
    let at = dir.display();
    let zone = "$ORIGIN cdn.bench.example.\n$TTL 30\n\
        @ SOA ns1 dns.bench.example. 1 3600 600 604800 30\n@ NS ns1\nns1 A 192.0.2.53\n\
        vod CNAME a.cdn.example.\nlive A 198.51.100.1\nlive AAAA 2001:db8::1\n*.live CNAME b.cdn.example.\n";
    std::fs::write(dir.join("cdn.bench.example.zone"), zone)?;
    let text = format!(
        "server:\n    rundir: \"{at}\"\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 1\n    \
         background-workers: 1\n    edns-client-subnet: on\nlog:\n  - target: stderr\n    any: warning\n\
         database:\n    storage: \"{at}\"\nzone:\n  - domain: cdn.bench.example\n    storage: \"{at}\"\n    \
         file: cdn.bench.example.zone\n"
    );
    let file = dir.join("knot.conf");
    std::fs::write(&file, text)?;
    Ok(vec!["-c".into(), file.display().to_string()])
}

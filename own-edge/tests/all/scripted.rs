//! A server that does what its script says, byte by byte, and remembers what it was asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::LONG;

/// What a server does next.
#[derive(Clone)]
pub enum Step {
    Send(Vec<u8>),
    /// The same bytes so many times over.
    Repeat(Vec<u8>, usize),
    /// Waits until the gate is open.
    Wait(Gate),
    /// Ends the connection.
    Close,
    /// Ends it by a reset.
    Reset,
}

/// Closed until opened.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn wait(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub target: String,
    pub head: String,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

type Script = Arc<dyn Fn(&Seen) -> Vec<Step> + Send + Sync>;

#[derive(Default)]
struct State {
    scripts: BTreeMap<String, Script>,
    seen: Vec<Seen>,
}

/// The server. Ends, with all connections, when dropped.
pub struct Scripted {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
    _accepting: JoinSet<()>,
}

impl Scripted {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let changed = watch::Sender::new(());
        let mut accepting = JoinSet::new();
        let (for_connections, changes) = (state.clone(), changed.clone());
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(converse(stream, for_connections.clone(), changes.clone()));
            }
        });
        Self { address, state, changed, _accepting: accepting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What to do when `target` (path and query; or a path, for all its queries that have no script) is asked for.
    pub fn on(&self, target: &str, script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) {
        self.state.lock().unwrap().scripts.insert(target.to_owned(), Arc::new(script));
    }

    /// Always the same answer.
    pub fn answer(&self, target: &str, headers: &str, body: impl Into<Vec<u8>>) {
        let answer = Step::Send(response(200, headers, &body.into()));
        self.on(target, move |_| vec![answer.clone()]);
    }

    pub fn seen(&self, target: &str) -> Vec<Seen> {
        self.state.lock().unwrap().seen.iter().filter(|seen| seen.target == target).cloned().collect()
    }

    /// What was asked below a path, whatever the query.
    pub fn seen_at(&self, path: &str) -> Vec<Seen> {
        let at = |seen: &&Seen| seen.target.split('?').next() == Some(path);
        self.state.lock().unwrap().seen.iter().filter(at).cloned().collect()
    }

    pub fn count(&self, target: &str) -> usize {
        self.seen(target).len()
    }

    /// Waits until `target` was asked for `count` times.
    pub async fn asked(&self, target: &str, count: usize) -> Vec<Seen> {
        let mut changes = self.changed.subscribe();
        loop {
            changes.borrow_and_update();
            let seen = self.seen(target);
            if seen.len() >= count {
                return seen;
            }
            let change = tokio::time::timeout(LONG, changes.changed()).await;
            change.unwrap_or_else(|_| panic!("{target} was asked for {} times of {count}", seen.len())).unwrap();
        }
    }
}

/// A response with the length of its body.
pub fn response(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = if status == 304 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let mut out = format!("HTTP/1.1 {status} Scripted\r\n{length}{}\r\n", lines(headers)).into_bytes();
    out.extend_from_slice(body);
    out
}

/// `A: b; C: d` is not how headers look; `A: b\nC: d` is easier to write than with carriage returns.
pub fn lines(headers: &str) -> String {
    headers.lines().map(|line| format!("{}\r\n", line.trim())).collect()
}

async fn converse(mut stream: TcpStream, state: Arc<Mutex<State>>, changed: watch::Sender<()>) {
    let mut buffer = Vec::new();
    while let Some(seen) = read_request(&mut stream, &mut buffer).await {
        let script = {
            let mut state = state.lock().unwrap();
            state.seen.push(seen.clone());
            let path = seen.target.split('?').next().unwrap_or_default();
            state.scripts.get(&seen.target).or_else(|| state.scripts.get(path)).cloned()
        };
        changed.send_replace(());
        let steps = match script {
            Some(script) => script(&seen),
            None => vec![Step::Send(response(404, "", b"no script"))],
        };
        for step in steps {
            match step {
                Step::Send(bytes) if stream.write_all(&bytes).await.is_err() => return,
                Step::Send(_) => {}
                Step::Repeat(bytes, times) => {
                    for _ in 0..times {
                        if stream.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                }
                Step::Wait(gate) => gate.wait().await,
                Step::Close => return,
                Step::Reset => {
                    stream.set_zero_linger().unwrap();
                    return;
                }
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    let mut seen = Seen { target, head, body: String::new() };
    let length: usize = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    seen.body = String::from_utf8(buffer.drain(..length).collect()).unwrap();
    Some(seen)
}

//! The connection that a request came over, as far as its answers tell of it (CMSD).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use spillway_model::Millis;
use tokio::net::TcpStream;

use crate::edge::Edge;
use crate::respond::cmsd;

/// What is told of a connection is so old at most.
const TOLD_MS: u64 = 1_000;

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Hop {
    pub peer: SocketAddr,
    local: Option<SocketAddr>,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    at: Option<Millis>,
    header: Option<HeaderValue>,
}

impl Hop {
    pub(crate) fn of(stream: &TcpStream, peer: SocketAddr) -> Arc<Self> {
        Arc::new(Self { peer, local: stream.local_addr().ok(), told: Mutex::default() })
    }

    /// What an answer of media tells at `now`, if there is anything to tell.
    pub(crate) fn cmsd(&self, edge: &Edge, now: Millis) -> Option<HeaderValue> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.at.is_none_or(|at| now.saturating_sub(at).0 >= TOLD_MS) {
            let info = self.local.and_then(|local| edge.tcp.ask(local, self.peer));
            let header = cmsd::header(edge.plan.pathway.as_str(), edge.advice.current(), info);
            *told = Told { at: Some(now), header };
        }
        told.header.clone()
    }
}

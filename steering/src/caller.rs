//! What a handler reads of a request.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderMap;
use spillway_service::geo::Client;

use crate::SteerState;
use crate::params::Query;

/// Who asks, and with which parameters.
pub(crate) struct Caller<'r> {
    pub(crate) query: Query<'r>,
    pub(crate) headers: &'r HeaderMap,
    pub(crate) client: Client,
}

impl<'r> Caller<'r> {
    /// Borrows from `request`.
    ///
    /// # Panics
    /// If the listener does not tell the peer; all of ours do.
    pub(crate) fn of(state: &SteerState, request: &'r Request) -> Self {
        let headers = request.headers();
        let peer =
            request.extensions().get::<ConnectInfo<SocketAddr>>().expect("every listener of ours tells the peer");
        let client = state.deployed.now().client(peer.0, headers, state.settings.trusted_header.as_deref());
        Self { query: Query::parse(request.uri().query()), headers, client }
    }
}

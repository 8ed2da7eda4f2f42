//! A page of the server's, asked for again and again.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{HOST, USER_AGENT};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::plan::Target;

/// ATS's statistics are some 40 KB; with many volumes and plugins a few hundred.
const PAGE_MAX_BYTES: usize = 4 * 1024 * 1024;
/// The server closes idle connections when it likes; ours shouldn't be found closed.
const IDLE: Duration = Duration::from_secs(10);

pub(super) struct Page {
    client: Client<HttpConnector, Empty<Bytes>>,
    uri: String,
    host: String,
}

impl Page {
    pub(super) fn new(target: &Target) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(1);
        Self {
            client: builder.build_http(),
            uri: format!("http://{}{}", target.authority, target.prefix),
            host: target.authority.clone(),
        }
    }

    /// The page; no time limit of its own.
    ///
    /// # Errors
    /// What went wrong, with the page's address.
    pub(super) async fn get(&self) -> Result<Bytes, String> {
        let request = Request::get(&self.uri).header(HOST, &self.host).header(USER_AGENT, super::USER_AGENT);
        let request = request.body(Empty::new()).map_err(|error| self.failed(&error))?;
        let response = self.client.request(request).await.map_err(|error| match error.source() {
            Some(source) => self.failed(&format!("{error}: {source}")),
            None => self.failed(&error),
        })?;
        if response.status() != http::StatusCode::OK {
            return Err(self.failed(&format!("status {}", response.status())));
        }
        let body = Limited::new(response.into_body(), PAGE_MAX_BYTES).collect().await;
        Ok(body.map_err(|error| self.failed(&error))?.to_bytes())
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> String {
        format!("{}: {error}", self.uri)
    }
}

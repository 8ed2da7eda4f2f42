//! The playlist writer without a node around it.

use spillway_model::{PathwayId, Protocol};
use url::Url;

use crate::playlists::space::Space;
use crate::playlists::writer::{Offer, Steering};
use crate::playlists::{dash, hls};

/// Writes steering into playlists of one place on an origin, as a node does: for measurements and tools.
#[derive(Clone, Debug)]
pub struct Rewrite {
    protocol: Protocol,
    space: Space,
    steering: Steering,
}

impl Rewrite {
    /// `playlist` is the URL of the playlist below `origin`, the base URL that pathways stand for; `server_uri` the
    /// absolute URL of the steering answers; `pathways` ids with absolute base URLs, best first.
    #[must_use]
    pub fn new(
        protocol: Protocol,
        origin: &Url,
        playlist: &Url,
        server_uri: &str,
        pathways: &[(PathwayId, String)],
    ) -> Self {
        let offer = |(id, base_url): &(PathwayId, String)| Offer {
            id: id.clone(),
            base_url: base_url.trim_end_matches('/').to_owned(),
            grant: None,
        };
        let steering = Steering {
            server_uri: Some(server_uri.to_owned()),
            offers: pathways.iter().map(offer).collect(),
            max_bitrate_kbps: None,
            reload_url: None,
            query_before_start: false,
        };
        Self { protocol, space: Space::new(origin, playlist), steering }
    }

    /// The origin's playlist `body` with steering written into it.
    ///
    /// # Errors
    /// Says why the playlist can't be written.
    pub fn write(&self, body: &[u8]) -> anyhow::Result<String> {
        let write = if self.protocol == Protocol::Dash { dash::write } else { hls::write };
        Ok(write(body, &self.space, &self.steering)?)
    }
}

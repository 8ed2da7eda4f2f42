//! Who asks: the session of a request, from its token, its `sid`, or its address.

use std::borrow::Cow;
use std::net::IpAddr;

use spillway_model::{ContentId, Millis, RegionId, TimestampMs, ViewId};
use spillway_routing::{AddressFamily, hash_pair};
use spillway_service::geo::Client;
use spillway_wire::token::{Needs, Token, TokenError, Word};

use crate::SteerState;
use crate::params::Query;

/// A token that tells of an older start is not believed: nobody watches for a week on end without a new playlist.
const TOKEN_MAX_AGE: Millis = Millis::from_secs(7 * 24 * 3_600);
/// Characters of a minted session id (5 bits each).
const MINTED_ID_CHARS: usize = 20;

/// The session of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    /// Identity; `pathways` and `first` only if the request's token had them.
    pub(crate) token: Token,
    pub(crate) family: Option<AddressFamily>,
    /// Whether a valid token said so. Only these count as audience.
    pub(crate) known: bool,
}

impl Asker {
    /// The session of a valid `t`.
    pub(crate) fn by_token(
        state: &SteerState,
        query: &Query<'_>,
        client: &Client,
        now: TimestampMs,
    ) -> Result<Self, TokenError> {
        let deployment = state.deployed.now();
        let region = |name: &str| deployment.regions.get_key_value(name).map(|(id, _)| id.clone());
        let pathway = |name: &str| deployment.pathways.get_key_value(name).map(|(id, _)| id.clone());
        let token = state.settings.keys.verify_sharing(query.first("t").unwrap_or_default(), region, pathway)?;
        if now.since(token.started) > TOKEN_MAX_AGE {
            return Err(TokenError::Expired);
        }
        Ok(Self { token, family: family(client.address), known: true })
    }

    /// A session that begins now: `sid` if the page gave one, else a new id.
    pub(crate) fn new_session(state: &SteerState, query: &Query<'_>, client: &Client, content: ContentId) -> Self {
        let view = query.first("sid").and_then(|sid| ViewId::new(sid).ok());
        let view = view.unwrap_or_else(|| {
            ViewId::new(&spillway_service::random::id(MINTED_ID_CHARS)).expect("letters and digits make an id")
        });
        Self::of_view(state, query, client, content, view)
    }

    /// Nobody we know: the same address gets the same answer from every node.
    pub(crate) fn anonymous(state: &SteerState, query: &Query<'_>, client: &Client, content: ContentId) -> Self {
        let hash = hash_pair(&client.address.to_canonical().to_string(), "address");
        let view = ViewId::new(&format!("address-{hash:08x}")).expect("letters and digits make an id");
        Self::of_view(state, query, client, content, view)
    }

    fn of_view(state: &SteerState, query: &Query<'_>, client: &Client, content: ContentId, view: ViewId) -> Self {
        let Placed { region, asn, territory } = place(state, query, client);
        let word = |name| query.first(name).and_then(Word::new);
        let token = Token {
            view,
            region,
            asn,
            class: state.settings.class_of.class_of(content.as_str()).cloned(),
            // The token tells whole seconds: the playlist must decide by the same number as its polls.
            started: TimestampMs(state.clock.now().0 / 1_000 * 1_000),
            content,
            pathways: vec![],
            first: None,
            needs: Needs { device_class: None, codec: word("codec"), drm: word("drm"), territory },
        };
        Self { token, family: family(client.address), known: false }
    }

    /// What RELOAD-URI carries: identity only, signed. A token that says no more, and is signed by today's key, goes back
    /// as it came.
    pub(crate) fn identity_token<'q>(&self, state: &SteerState, query: &'q Query<'_>) -> Cow<'q, str> {
        let keys = &state.settings.keys;
        let came = query.first("t").filter(|token| self.known && self.token.first.is_none() && keys.is_current(token));
        match came {
            Some(token) => Cow::Borrowed(token),
            None => Cow::Owned(keys.sign(&Token { first: None, ..self.token.clone() })),
        }
    }
}

fn family(address: IpAddr) -> Option<AddressFamily> {
    Some(if address.to_canonical().is_ipv4() { AddressFamily::V4 } else { AddressFamily::V6 })
}

/// Where a session is.
pub(crate) struct Placed {
    pub(crate) region: RegionId,
    pub(crate) asn: Option<u32>,
    /// Only where some pathway asks for it.
    pub(crate) territory: Option<Word>,
}

fn place(state: &SteerState, query: &Query<'_>, client: &Client) -> Placed {
    let place = state.deployed.now().locate(client);
    let cohort = place.cohort;
    let asked =
        query.first("region").filter(|name| state.settings.allow_region_parameter && state.manifests.knows(name));
    match asked.and_then(|name| RegionId::new(name).ok()) {
        Some(region) if region != cohort.region => Placed { region, asn: None, territory: None },
        _ => {
            let asks = state.manifests.current(&cohort.region, state.clock.now()).manifest.asks_for_territory();
            let territory = place.country.filter(|_| asks).and_then(|country| Word::new(country.as_str()));
            Placed { region: cohort.region, asn: cohort.asn, territory }
        }
    }
}

/// The title of a playlist's path: its folder if the last part is a playlist's name, so that HLS and DASH of one title
/// share their caches. What an id can't hold becomes `_`; a long path keeps its end and gets a hash.
pub(crate) fn content_of(path: &str) -> ContentId {
    let path = path.trim_matches('/');
    let is_playlist = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.ends_with(".m3u8") || name.ends_with(".mpd")
    };
    let title = match path.rsplit_once('/') {
        Some((folder, name)) if is_playlist(name) => folder,
        _ => path,
    };
    if let Ok(content) = ContentId::new(title) {
        return content;
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-/".contains(c) { c } else { '_' };
    let cleaned: String = title.chars().map(plain).collect();
    let tail = cleaned.get(cleaned.len().saturating_sub(96)..).unwrap_or_default();
    let name = format!("{:08x}-{tail}", hash_pair(title, "content"));
    ContentId::new(&name).expect("plain characters, below the limit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hls_and_dash_of_a_title_are_one_content() {
        for path in ["live/river/master.m3u8", "/live/river/manifest.MPD", "live/river"] {
            assert_eq!(content_of(path).as_str(), "live/river");
        }
        assert_eq!(content_of("master.m3u8").as_str(), "master.m3u8");
    }

    #[test]
    fn any_path_has_a_content_id_and_different_ones_differ() {
        let odd = ["", "..", "a b/x", "a%20b/x", "ü", &"x/".repeat(400), &"y/".repeat(400)];
        let ids: std::collections::BTreeSet<String> = odd.iter().map(|path| content_of(path).to_string()).collect();
        assert_eq!(ids.len(), odd.len());
    }
}

//! Session API v1 (`POST /v1/sessions`): a playback service asks where it should send a viewer that it has just let in.

use serde::{Deserialize, Serialize};

/// Version of request and answer.
pub const SESSION_VERSION: u32 = 1;

/// What is known of a viewer. Everything but `v` and `path` may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRequest {
    /// 1.
    pub v: u32,
    /// Path of the playlist (or of the file, for `other`) below the origin, without leading slash.
    pub path: String,
    /// `hls`, `dash` or `other`. Default `hls`.
    #[serde(default = "hls")]
    pub protocol: String,
    /// The view's id, if the service has one; else one is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Title, if it is not the path's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Address of the viewer: region, network and territory follow from it. Default: that of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<String>,
    /// Routing region, where the service knows better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Network, where the service knows better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// Content class; default: by path, as for any session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Device class: desktop, mobile, tablet, tv, stb, console or other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_class: Option<String>,
    /// Codec that the pathway must serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// DRM system that the pathway must serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drm: Option<String>,
    /// ISO 3166 territory, where the service knows better than the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub territory: Option<String>,
    /// Pathways that the viewer may use. Default: all that serve it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pathways: Vec<String>,
}

fn hls() -> String {
    "hls".into()
}

/// Where to send the viewer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAnswer {
    /// 1.
    pub v: u32,
    /// The view's id.
    pub sid: String,
    /// Names the session in every later request (`t=`).
    pub token: String,
    /// Epoch of the manifest that decided; 0: static weights.
    pub epoch: u64,
    /// Routing region.
    pub region: String,
    /// Network, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// Best first.
    pub pathways: Vec<SessionPathway>,
    /// The playlist with steering written into it (`hls` and `dash`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub playlist_url: Option<String>,
    /// Ask `/v1/decide?t=` again after so long, s.
    pub ttl_s: u32,
    /// Highest bitrate to offer, kbit/s, while demand exceeds all capacity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bitrate_kbps: Option<u32>,
    /// Why this order, for people.
    pub reason: String,
}

/// One way to get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPathway {
    /// Its id.
    pub id: String,
    /// The path on this pathway, signed where the pathway wants that.
    pub url: String,
    /// Why it stands here: `weight`, `static`, `probe`, `spare`, `leftover` or `dead`.
    pub place: String,
}

//! Which resource a URL path names.

use crate::media::{Clip, Rendition};

/// The live titles; `/live/master.m3u8` without a title is the first of them.
pub const TITLES: [&str; 3] = ["river", "lake", "delta"];

/// How a live segment's times are told: by discontinuities, or by rewritten decode times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Hls,
    Dash,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Resource<'a> {
    Multivariant,
    MediaPlaylist { live: bool, rendition: &'a Rendition },
    Mpd { live: bool },
    Init { rendition: &'a Rendition },
    VodSegment { rendition: &'a Rendition, index: usize },
    LiveSegment { rendition: &'a Rendition, sequence: u64, protocol: Protocol },
}

impl Resource<'_> {
    /// Name of the counter this resource is counted under.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::Multivariant => "multivariant",
            Self::MediaPlaylist { .. } => "media_playlist",
            Self::Mpd { .. } => "mpd",
            Self::Init { .. } => "init",
            Self::VodSegment { .. } => "vod_segment",
            Self::LiveSegment { .. } => "live_segment",
        }
    }
}

/// Reads a path; the error says what would be valid.
pub(crate) fn parse<'a>(path: &str, clip: &'a Clip) -> Result<Resource<'a>, String> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        ["vod", rest @ ..] => vod(rest, clip),
        ["live", title, rest @ ..] if TITLES.contains(title) => live(rest, clip),
        ["live", rest @ ..] => live(rest, clip)
            .map_err(|why| format!("{why}; a live path is /live/{{title}}/…, titles: {}", TITLES.join(", "))),
        _ => Err(format!("nothing at `{path}` (valid: /vod/…, /live/{{title}}/…)")),
    }
}

fn vod<'a>(parts: &[&str], clip: &'a Clip) -> Result<Resource<'a>, String> {
    match *parts {
        [file] => manifest(file, false, clip),
        [name, "init.mp4"] => Ok(Resource::Init { rendition: rendition(name, clip)? }),
        [name, file] => {
            let (rendition, index) = (rendition(name, clip)?, number(file)?);
            usize::try_from(index)
                .ok()
                .filter(|&index| index < rendition.fragments.len())
                .map(|index| Resource::VodSegment { rendition, index })
                .ok_or_else(|| format!("no segment {index} (valid: 0 to {})", rendition.fragments.len() - 1))
        }
        _ => Err("no such VOD path (valid: master.m3u8, manifest.mpd, v360/3.m4s)".to_owned()),
    }
}

fn live<'a>(parts: &[&str], clip: &'a Clip) -> Result<Resource<'a>, String> {
    let (protocol, name, file) = match *parts {
        [file] => return manifest(file, true, clip),
        ["hls", name, file] => (Protocol::Hls, name, file),
        ["dash", name, file] => (Protocol::Dash, name, file),
        _ => {
            let valid = "master.m3u8, manifest.mpd, v360.m3u8, hls/v360/1.m4s, dash/v360/1.m4s";
            return Err(format!("no such live path (valid: {valid})"));
        }
    };
    let rendition = rendition(name, clip)?;
    if file == "init.mp4" {
        return Ok(Resource::Init { rendition });
    }
    Ok(Resource::LiveSegment { rendition, sequence: number(file)?, protocol })
}

fn manifest<'a>(file: &str, live: bool, clip: &'a Clip) -> Result<Resource<'a>, String> {
    match (file, file.strip_suffix(".m3u8")) {
        ("master.m3u8", _) => Ok(Resource::Multivariant),
        ("manifest.mpd", _) => Ok(Resource::Mpd { live }),
        (_, Some(name)) => Ok(Resource::MediaPlaylist { live, rendition: rendition(name, clip)? }),
        _ => Err(format!("no manifest `{file}` (valid: master.m3u8, manifest.mpd, v360.m3u8)")),
    }
}

fn rendition<'a>(name: &str, clip: &'a Clip) -> Result<&'a Rendition, String> {
    clip.rendition(name).ok_or_else(|| {
        let known: Vec<_> = clip.renditions.iter().map(|r| r.name.as_str()).collect();
        format!("no rendition `{name}` (known: {})", known.join(", "))
    })
}

fn number(file: &str) -> Result<u64, String> {
    file.strip_suffix(".m4s")
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| format!("no segment `{file}` (valid: init.mp4, a number and .m4s)"))
}

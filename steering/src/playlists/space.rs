//! Where a playlist's URIs point: onto its origin, as a path that every pathway serves, or elsewhere.
//!
//! A small resolver of our own, since the usual ones re-encode what they don't like, and signed URLs must keep every
//! byte.

use url::Url;

/// The address of one playlist on its origin.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    host: url::Origin,
    /// Path of the origin's base URL, without a trailing slash.
    root: String,
    /// Folder of the playlist, from the host's root, with a trailing slash.
    folder: String,
}

/// What a URI means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Path below the origin's base, with leading slash, query and all.
    OnOrigin(String),
    /// Another host or scheme: not ours to touch.
    Elsewhere,
    /// On the origin's host, but not below its base: no pathway has it.
    OutsideBase,
}

impl Space {
    /// `playlist` is the URL that answered, below `base` (the configured origin).
    pub(crate) fn new(base: &Url, playlist: &Url) -> Self {
        Self {
            host: base.origin(),
            root: base.path().trim_end_matches('/').to_owned(),
            folder: folder(playlist.path()).to_owned(),
        }
    }

    /// The same space seen from `base_uri` (DASH's BaseURL); `None` if that leads elsewhere.
    pub(crate) fn below(&self, base_uri: &str) -> Option<Self> {
        let path = self.path_on_host(base_uri).ok()??;
        Some(Self { folder: folder(split_query(&path).0).to_owned(), ..self.clone() })
    }

    /// The folder as a path below the origin's base.
    pub(crate) fn folder(&self) -> Place {
        self.under_root(self.folder.clone())
    }

    pub(crate) fn locate(&self, uri: &str) -> Place {
        match self.path_on_host(uri) {
            Ok(Some(path)) => self.under_root(path),
            _ => Place::Elsewhere,
        }
    }

    fn under_root(&self, path: String) -> Place {
        match path.strip_prefix(&self.root) {
            // Browsers read a backslash as a slash, and so might leave the base.
            Some(rest) if rest.starts_with('/') && !split_query(rest).0.contains('\\') => {
                Place::OnOrigin(if self.root.is_empty() { path } else { rest.to_owned() })
            }
            _ => Place::OutsideBase,
        }
    }

    /// The absolute path and query on the origin's host, `None` for another host.
    fn path_on_host(&self, uri: &str) -> Result<Option<String>, url::ParseError> {
        if has_scheme(uri) || uri.starts_with("//") {
            // A relative scheme takes the origin's.
            let scheme = self.host.ascii_serialization();
            let scheme = scheme.split_once(':').map_or("http", |(scheme, _)| scheme);
            let absolute = if uri.starts_with("//") { format!("{scheme}:{uri}") } else { uri.to_owned() };
            if Url::parse(&absolute)?.origin() != self.host {
                return Ok(None);
            }
            let after = absolute.split_once("//").map_or("", |(_, rest)| rest);
            let path = after.find(['/', '?', '#']).map_or("", |at| &after[at..]);
            return Ok(Some(normalise(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })));
        }
        Ok(Some(normalise(if uri.starts_with('/') { uri.to_owned() } else { format!("{}{uri}", self.folder) })))
    }
}

/// The path that leads from `folder` to `path`, both from the same root.
pub(crate) fn relative(folder: &str, path: &str) -> String {
    let shared = folder.bytes().zip(split_query(path).0.bytes()).take_while(|(a, b)| a == b).count();
    let shared = folder[..shared].rfind('/').map_or(0, |at| at + 1);
    let up = folder[shared..].matches('/').count();
    let rest = &path[shared..];
    let bare = up == 0 && (rest.is_empty() || rest.starts_with(['?', '#', '/']) || has_scheme(rest));
    format!("{}{}{rest}", if bare { "./" } else { "" }, "../".repeat(up))
}

/// `name:` at the beginning, before any of `/?#` (RFC 3986, 3.1).
pub(crate) fn has_scheme(uri: &str) -> bool {
    uri.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'-'))
    })
}

fn folder(path: &str) -> &str {
    path.rfind('/').map_or("/", |at| &path[..=at])
}

fn split_query(path: &str) -> (&str, &str) {
    path.split_at(path.find(['?', '#']).unwrap_or(path.len()))
}

/// Removes `.` and `..` (also encoded ones, as browsers do) from the path and leaves every other byte (RFC 3986, 5.2.4).
fn normalise(whole: String) -> String {
    if !whole.as_bytes().windows(2).any(|pair| pair == b"/." || pair == b"/%") {
        return whole;
    }
    let (path, query) = split_query(&whole);
    let mut out: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let up = matches!(dots(part), Some(2));
        if up || dots(part) == Some(1) {
            if up {
                out.pop();
            }
            if parts.peek().is_none() {
                out.push("");
            }
        } else {
            out.push(part);
        }
    }
    format!("/{}{query}", out.join("/"))
}

/// How many dots a part of nothing but one or two dots has.
fn dots(part: &str) -> Option<usize> {
    if part.len() > 6 || !part.starts_with(['.', '%']) {
        return None;
    }
    let plain = part.replace("%2e", ".").replace("%2E", ".");
    matches!(&*plain, "." | "..").then_some(plain.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(base: &str, playlist: &str) -> Space {
        Space::new(&Url::parse(base).expect("url"), &Url::parse(playlist).expect("url"))
    }

    #[test]
    fn uris_resolve_to_paths_that_keep_every_byte() {
        let space = space("http://o.example:8080/media", "http://o.example:8080/media/vod/a/master.m3u8");
        let on = |uri: &str, path: &str| assert_eq!(space.locate(uri), Place::OnOrigin(path.into()), "{uri}");
        on("720/index.m3u8?x=a~b%7E+c", "/vod/a/720/index.m3u8?x=a~b%7E+c");
        on("../b/./i.m3u8", "/vod/b/i.m3u8");
        on("/media/vod/c.m3u8", "/vod/c.m3u8");
        on("http://O.example:8080/media/x", "/x");
        on("//o.example:8080/media/x?q", "/x?q");
        for elsewhere in ["https://ads.example/x.m3u8", "http://o.example/media/x", "data:text/plain,x", "skd://k"] {
            assert_eq!(space.locate(elsewhere), Place::Elsewhere, "{elsewhere}");
        }
        on("a/%2e/%2E./b%2e.m3u8", "/vod/a/b%2e.m3u8");
        for outside in
            ["/other/x", "../../../x", "http://o.example:8080", "/mediathek/x", ".%2E/%2e%2e/%2e./x", "..\\..\\x"]
        {
            assert_eq!(space.locate(outside), Place::OutsideBase, "{outside}");
        }
    }

    #[test]
    fn a_base_url_moves_the_folder() {
        let space = space("http://o.example", "http://o.example/live/x.mpd");
        let folder = |uri: &str| space.below(uri).map(|space| space.folder());
        assert_eq!(folder("video/"), Some(Place::OnOrigin("/live/video/".into())));
        assert_eq!(folder("/cdn/"), Some(Place::OnOrigin("/cdn/".into())));
        assert_eq!(folder("./"), Some(Place::OnOrigin("/live/".into())));
        assert_eq!(folder("https://else.example/"), None);
    }
    #[test]
    fn a_relative_path_leads_there_and_nowhere_else() {
        let folder = "/live/river/";
        let cases = [
            ("/live/river/a.m4s", "a.m4s"),
            ("/live/riverside/a", "../riverside/a"),
            ("/x/y?q=/z", "../../x/y?q=/z"),
            ("/live/river/", "./"),
            ("/live/river/a:b", "./a:b"),
            ("/live/river", "../river"),
            ("/live/river//a", ".//a"),
        ];
        for (path, expected) in cases {
            assert_eq!(relative(folder, path), expected);
            assert_eq!(normalise(format!("{folder}{expected}")), path, "and back");
        }
    }
}

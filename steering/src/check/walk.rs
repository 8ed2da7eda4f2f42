//! Asks, one thing after the other: addresses, certificate, playlists down to a segment, and what must fail.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::{HeaderName, Method, header};
use spillway_model::{Clock, TimestampMs};
use url::{Host, Url};

use super::client::{Ask, Client, Place};
use super::playlist::{self, Kind};
use super::seen::{Addresses, Exchange, Object, Part, Parts, Seen, Tls, Tokens as SeenTokens, Tried};
use super::target::Target;
use super::tls::Trust;
use super::tokens::{Signable, Tokens};

/// Playlists above a segment.
const DEPTH_MAX: usize = 3;
/// Addresses of a family that are tried.
const TRIED_MAX: usize = 2;
/// Bytes of a range.
const PART_BYTES: u64 = 1_000;

/// Everything about one target.
struct Walk<'a> {
    target: &'a Target,
    client: Client,
    now: TimestampMs,
    /// Addresses that answered.
    to: Vec<SocketAddr>,
    tokens: Option<Tokens<'a>>,
}

/// Asks everything.
///
/// # Errors
/// As [`super::run`].
pub(super) async fn walk(target: &Target, clock: Arc<dyn Clock>) -> anyhow::Result<Seen> {
    let now = clock.now();
    let client = Client::new(Trust::new(target.authorities.as_deref())?, target.timeout, clock)?;
    let place = Place::of(&target.base_url).ok_or_else(|| anyhow::anyhow!("{:?} is no URL", target.base_url))?;
    let signing = target.signing.as_ref();
    let tokens = signing.map(|signing| Tokens::new(target, signing, &target.paths[0], now));
    let mut walk = Walk { target, client, now, to: vec![], tokens };
    let addresses = walk.addresses(&place).await;
    walk.to = addresses.tried.iter().filter(|it| it.outcome.is_ok()).map(|it| it.address).collect();
    let mut seen = Seen {
        now,
        page: target.page.clone(),
        credentials: signing.is_some_and(|signing| signing.by_cookie),
        tls: walk.tls(&place, &addresses).await,
        addresses,
        stopped: None,
        objects: vec![],
        astray: None,
        absent: None,
        origin: target.origin.clone(),
        tokens: None,
    };
    if walk.to.is_empty() {
        seen.stopped = Some("no address answers".into());
    } else if signing.is_some() && !walk.is_trusted(&seen.tls) {
        seen.stopped = Some("a token is not sent where the certificate is not trusted".into());
    } else {
        walk.objects(&mut seen).await;
    }
    Ok(seen)
}

impl Walk<'_> {
    async fn addresses(&self, place: &Place) -> Addresses {
        let is_literal = !matches!(place.host, Host::Domain(_));
        let mut out = Addresses { host: place.host.to_string(), is_literal, ..Addresses::default() };
        let found =
            if self.target.at.is_empty() { self.client.addresses(place).await } else { Ok(self.target.at.clone()) };
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                out.unknown = Some(why);
                return out;
            }
        };
        let plain = Signable { url: self.target.url(&self.target.paths[0]), headers: vec![] };
        let ask = self.ask(Method::HEAD, &self.target.paths[0], &plain, "", &[]);
        for is_v4 in [true, false] {
            for address in found.iter().filter(|address| address.is_ipv4() == is_v4).take(TRIED_MAX) {
                out.tried.push(Tried { address: *address, outcome: self.client.reach(&ask, *address).await });
            }
        }
        out
    }

    /// The handshake with the first address, or with the first whose certificate is not trusted.
    async fn tls(&self, place: &Place, addresses: &Addresses) -> Tls {
        if !place.is_tls {
            return Tls::None;
        }
        let all = addresses.tried.iter().map(|tried| tried.address);
        let to: Vec<SocketAddr> = if self.to.is_empty() { all.take(1).collect() } else { self.to.clone() };
        let mut first = None;
        for address in to {
            let done = self.client.handshake(place, address).await.map_or_else(Tls::Failed, Tls::Done);
            if !self.is_trusted(&done) {
                return done;
            }
            first = first.or(Some(done));
        }
        first.unwrap_or(Tls::Failed("there is no address".into()))
    }

    fn is_trusted(&self, tls: &Tls) -> bool {
        match tls {
            Tls::None => true,
            Tls::Failed(_) => false,
            Tls::Done(certificate) => certificate.is_trusted(self.now.0 / 1_000),
        }
    }

    async fn objects(&self, seen: &mut Seen) {
        let mut path = self.target.paths[0].clone();
        // Where the last playlist was asked, and the URI in it that led on.
        let mut parent: Option<(String, String)> = None;
        for _ in 0..=DEPTH_MAX {
            let signed = self.signed(&path);
            let whole = self.get(&path, &signed, "", &[]).await;
            let Ok(answer) = &whole.outcome else {
                seen.objects.push(Object { kind: kind_by_name(&path), whole, again: None, origin: None, parts: None });
                break;
            };
            let read = if answer.status == 200 { playlist::read(&answer.body) } else { nothing(&path) };
            let found = answer.status == 200;
            // Relative URIs count from where redirects led to. With a token in that path, ours is the better guess.
            let landed = answer.landed.clone();
            let unsigned = landed.clone().filter(|_| self.tokens.is_none()).unwrap_or_else(|| self.target.url(&path));
            let object = self.object(&path, &signed, read.kind, whole, seen.origin.is_some()).await;
            seen.objects.push(object);
            if read.kind == Kind::Segment || !found {
                break;
            }
            match read.next.as_deref().map(|next| (next, self.below(&unsigned, next))) {
                Some((next, Ok(below))) => {
                    parent = Some((landed.unwrap_or(signed.url), next.to_owned()));
                    path = below;
                }
                Some((_, Err(host))) => {
                    seen.astray = Some(format!("it leads to {host}, which is not this pathway"));
                    break;
                }
                None => {
                    seen.astray = Some("it names no segment that could be read from it".into());
                    break;
                }
            }
        }
        let has_segment = |seen: &Seen| seen.objects.iter().any(|object| object.kind == Kind::Segment);
        if let (false, Some(segment)) = (has_segment(seen), self.target.paths.get(1)) {
            let signed = self.signed(segment);
            let whole = self.get(segment, &signed, "", &[]).await;
            seen.objects.push(self.object(segment, &signed, Kind::Segment, whole, seen.origin.is_some()).await);
            (path, parent) = (segment.clone(), None);
        }
        let folder = self.target.paths[0].rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let absent = format!("{folder}spillway-check-{}.m4s", self.now.0);
        seen.absent = Some(self.get(&absent, &self.signed(&absent), ", which is not there", &[]).await);
        let segment = has_segment(seen).then_some(path.as_str());
        seen.tokens = self.tokens(segment, parent).await;
    }

    /// The rest about an object, whose whole is there.
    async fn object(&self, path: &str, signed: &Signable, kind: Kind, whole: Exchange, compare: bool) -> Object {
        let mut out = Object { kind, whole, again: None, origin: None, parts: None };
        let Some(answer) = out.whole.with_status(200) else { return out };
        let validator = [(header::ETAG, header::IF_NONE_MATCH), (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE)]
            .into_iter()
            .find_map(|(has, asks)| Some((asks, answer.text(&has)?.to_owned())));
        let is_live = kind.changes_every_s().is_some();
        let length = answer.number(&header::CONTENT_LENGTH).unwrap_or(answer.body.len() as u64);
        if let Some((name, value)) = validator {
            let words = format!(" with {name}");
            out.again = Some(self.get(path, signed, &words, &[(name, value)]).await);
        }
        if compare && !is_live && !answer.cut {
            out.origin = self.at_origin(path, "", &[]).await;
        }
        if kind == Kind::Segment && length > 0 {
            out.parts = Some(self.parts(path, signed, length, compare).await);
        }
        out
    }

    async fn parts(&self, path: &str, signed: &Signable, length: u64, compare: bool) -> Parts {
        let range = |first: u64, last: &str| {
            (format!(" bytes {first}-{last}"), [(header::RANGE, format!("bytes={first}-{last}"))])
        };
        let part = async |first: u64, last: u64| {
            let (words, headers) = range(first, &last.to_string());
            Part { first, last, exchange: self.get(path, signed, &words, &headers).await }
        };
        let middle = length / 2;
        let end = (middle + PART_BYTES).min(length) - 1;
        let (words, headers) = range(length, "");
        let (at_middle, middle_headers) = range(middle, &end.to_string());
        Parts {
            head: self.send(self.ask(Method::HEAD, path, signed, "", &[])).await,
            first: part(0, PART_BYTES.min(length) - 1).await,
            middle: part(middle, end).await,
            beyond: self.get(path, signed, &words, &headers).await,
            origin: if compare { self.at_origin(path, &at_middle, &middle_headers).await } else { None },
        }
    }

    async fn tokens(&self, segment: Option<&str>, parent: Option<(String, String)>) -> Option<SeenTokens> {
        let (tokens, signing) = (self.tokens.as_ref()?, self.target.signing.as_ref()?);
        let title = self.target.paths[0].as_str();
        let bare = |path: &str| Signable { url: self.target.url(path), headers: vec![] };
        let mut unsigned = vec![(kind_by_name(title), self.get(title, &bare(title), " unsigned", &[]).await)];
        if let Some(segment) = segment.filter(|segment| *segment != title) {
            unsigned.push((Kind::Segment, self.get(segment, &bare(segment), " unsigned", &[]).await));
        }
        let other = match tokens.other_title(title) {
            Some(signable) => Some(self.get(title, &signable, " with another title's token", &[]).await),
            None => None,
        };
        let as_player = parent.and_then(|(url, next)| Url::parse(&url).ok()?.join(&next).ok());
        let inherited = match as_player.zip(segment) {
            Some((url, segment)) => {
                let signable = Signable { url: url.into(), headers: self.signed(segment).headers };
                Some(self.get(segment, &signable, " relative to its signed playlist", &[]).await)
            }
            None => None,
        };
        Some(SeenTokens {
            signer: signing.name.clone(),
            inherits: tokens.inherits(),
            unsigned,
            tampered: self.get(title, &tokens.tampered(title), " with a token that was changed", &[]).await,
            other_title: other,
            expired: self.get(title, &tokens.expired(title), " with a token that ended an hour ago", &[]).await,
            inherited,
        })
    }

    fn signed(&self, path: &str) -> Signable {
        match &self.tokens {
            Some(tokens) => tokens.good(path),
            None => Signable { url: self.target.url(path), headers: vec![] },
        }
    }

    fn ask(&self, method: Method, path: &str, at: &Signable, words: &str, more: &[(HeaderName, String)]) -> Ask {
        let shown = format!("{method} /{}{words}", path.split('?').next().unwrap_or_default());
        let headers = [(header::ORIGIN, self.target.page.clone())].into_iter().chain(at.headers.clone());
        let headers = headers.chain(more.iter().cloned()).collect();
        Ask { method, url: at.url.clone(), headers, shown, is_secret: self.tokens.is_some() }
    }

    async fn get(&self, path: &str, at: &Signable, words: &str, more: &[(HeaderName, String)]) -> Exchange {
        self.send(self.ask(Method::GET, path, at, words, more)).await
    }

    async fn send(&self, ask: Ask) -> Exchange {
        self.client.send(&ask, &self.to, false).await
    }

    async fn at_origin(&self, path: &str, words: &str, more: &[(HeaderName, String)]) -> Option<Exchange> {
        let origin = self.target.origin.as_ref()?;
        let url = format!("{origin}/{path}");
        let shown = format!("GET {origin}/{}{words}", path.split('?').next().unwrap_or_default());
        let ask = Ask { method: Method::GET, url, headers: more.to_vec(), shown: shown.clone(), is_secret: false };
        let place = Place::of(&ask.url)?;
        Some(match self.client.addresses(&place).await {
            Ok(to) => self.client.send(&ask, &to, true).await,
            Err(why) => Exchange { asked: shown, outcome: Err(why) },
        })
    }

    /// The path below the base URL that `uri` of the playlist at `url` means, or the host that it means instead.
    fn below(&self, url: &str, uri: &str) -> Result<String, String> {
        let base = self.target.url("");
        let found = Url::parse(url).and_then(|url| url.join(uri)).map_err(|_| "no URL".to_owned())?;
        // As the URL library writes the base.
        let base = Url::parse(&base).map_err(|_| "no URL".to_owned())?;
        let rest = found.as_str().strip_prefix(base.as_str());
        rest.map(str::to_owned).ok_or_else(|| found.origin().ascii_serialization())
    }
}

/// What a path is, where its body doesn't say.
fn kind_by_name(path: &str) -> Kind {
    let name = path.to_ascii_lowercase();
    if name.ends_with(".m3u8") {
        Kind::Multivariant
    } else if name.ends_with(".mpd") {
        Kind::Mpd { live: false, refresh_s: 0 }
    } else {
        Kind::Segment
    }
}

fn nothing(path: &str) -> playlist::Read {
    playlist::Read { kind: kind_by_name(path), next: None }
}

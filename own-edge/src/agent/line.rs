//! What a line of an access log says. The formats are ours, in `docs/edge-agent.md`: JSON for nginx and Varnish, fields
//! between tabs for ATS, whose version 9 escapes nothing in what clients send.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;

use super::ServerKind;
use crate::load::account::CacheResult;

/// No response is as long.
const BYTES_MAX: u64 = 1 << 50;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A client's request.
    Request(Request<'a>),
    /// What Varnish fetched; its clients' lines don't say.
    Fetched(Fetches),
}

/// A client's request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub client: IpAddr,
    /// Path and query.
    pub target: Cow<'a, str>,
    pub status: u16,
    /// On the wire, head included.
    pub bytes_out: u64,
    pub result: CacheResult,
    pub fetches: Fetches,
    pub user_agent: Option<Cow<'a, str>>,
    pub cmcd_session: Option<Cow<'a, str>>,
}

/// Requests to the origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fetches {
    pub fetches: u64,
    pub failed: u64,
    pub bytes: u64,
}

/// Why a line was not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadLine {
    /// Not the format.
    #[error("not the format of docs/edge-agent.md: {0}")]
    Format(String),
    /// A number that is none, or too large to be one of bytes.
    #[error("{0} {1:?} is not a number below 2^50")]
    Number(&'static str, String),
}

/// The fields, as they stand in JSON; all are strings, since each may be empty or `-`.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    side: Cow<'a, str>,
    #[serde(borrow)]
    client: Cow<'a, str>,
    #[serde(borrow)]
    target: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    bytes_out: Cow<'a, str>,
    #[serde(borrow, default)]
    cache: Cow<'a, str>,
    #[serde(borrow, default)]
    origin_status: Cow<'a, str>,
    #[serde(borrow, default)]
    origin_bytes: Cow<'a, str>,
    #[serde(borrow, default)]
    agent: Cow<'a, str>,
    #[serde(borrow, default)]
    cmcd_session: Cow<'a, str>,
}

/// Reads a line without its line feed.
pub(super) fn parse(server: ServerKind, line: &str) -> Result<Line<'_>, BadLine> {
    let fields = match server {
        ServerKind::Ats => tabbed(line)?,
        _ => serde_json::from_str(line).map_err(|error| BadLine::Format(error.to_string()))?,
    };
    let (status, bytes_out) = (number("status", &fields.status)?, number("bytes_out", &fields.bytes_out)?);
    let status = u16::try_from(status).map_err(|_| BadLine::Number("status", fields.status.to_string()))?;
    if fields.side == "b" {
        return Ok(Line::Fetched(Fetches { fetches: 1, failed: u64::from(status >= 500), bytes: bytes_out }));
    }
    let fetches = match server {
        ServerKind::Nginx => nginx_fetches(&fields),
        ServerKind::Ats => ats_fetches(&fields, status),
        ServerKind::Varnish => Fetches::default(),
    };
    let result = known(&fields.cache, status).unwrap_or_else(|| guessed(status, fetches.fetches > 0));
    Ok(Line::Request(Request {
        client: address(&fields.client),
        target: fields.target,
        status,
        bytes_out,
        result,
        fetches,
        user_agent: said(fields.agent),
        cmcd_session: said(fields.cmcd_session),
    }))
}

/// A client's address. Over a Unix socket there is none.
pub(super) fn address(text: &str) -> IpAddr {
    text.parse::<IpAddr>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ip| ip.to_canonical())
}

/// ATS's fields, in the order of the format; the last ones are the client's own words.
fn tabbed(line: &str) -> Result<Fields<'_>, BadLine> {
    let mut parts = line.splitn(10, '\t');
    let mut next = |name: &str| {
        parts.next().map(Cow::Borrowed).ok_or_else(|| BadLine::Format(format!("{name} and what follows is missing")))
    };
    let mut fields = Fields {
        side: Cow::Borrowed("c"),
        client: next("client")?,
        status: next("status")?,
        bytes_out: next("bytes_out")?,
        cache: next("cache")?,
        origin_status: next("origin_status")?,
        origin_bytes: next("origin head bytes")?,
        target: Cow::Borrowed(""),
        agent: Cow::Borrowed(""),
        cmcd_session: Cow::Borrowed(""),
    };
    let body = next("origin body bytes")?;
    fields.origin_bytes = Cow::Owned(format!("{},{body}", fields.origin_bytes));
    (fields.target, fields.cmcd_session, fields.agent) = (next("target")?, next("CMCD session")?, next("user agent")?);
    Ok(fields)
}

fn number(name: &'static str, text: &str) -> Result<u64, BadLine> {
    match text {
        "" | "-" => Ok(0),
        _ => below_max(text).ok_or_else(|| BadLine::Number(name, text.chars().take(40).collect())),
    }
}

/// One line that was written over must not be more than all others.
fn below_max(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number < BYTES_MAX)
}

fn said(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    (!text.is_empty() && text != "-").then_some(text)
}

/// nginx lists what it tried: `502, 200`; groups of servers are parted by colons.
fn listed(text: &str) -> impl Iterator<Item = u64> {
    text.split([',', ':']).filter_map(|part| below_max(part.trim()))
}

fn nginx_fetches(fields: &Fields<'_>) -> Fetches {
    Fetches {
        fetches: listed(&fields.origin_status).count() as u64,
        failed: listed(&fields.origin_status).filter(|status| *status >= 500).count() as u64,
        bytes: listed(&fields.origin_bytes).fold(0, u64::saturating_add),
    }
}

/// Without an answer of the origin ATS writes 000, whether it asked and got none, or needed none.
fn ats_fetches(fields: &Fields<'_>, status: u16) -> Fetches {
    let origin = listed(&fields.origin_status).next().unwrap_or(0);
    let unanswered = origin == 0 && (matches!(status, 502 | 504) || fields.cache.starts_with("ERR_CONNECT"));
    Fetches {
        fetches: u64::from(origin > 0 || unanswered),
        failed: u64::from(origin >= 500 || unanswered),
        bytes: listed(&fields.origin_bytes).fold(0, u64::saturating_add),
    }
}

/// What the server's own word means.
fn known(cache: &str, status: u16) -> Option<CacheResult> {
    Some(match cache {
        "HIT" | "hit" | "TCP_HIT" | "TCP_MEM_HIT" | "TCP_DISK_HIT" | "TCP_IMS_HIT" => CacheResult::Hit,
        "STALE" | "UPDATING" | "TCP_REF_FAIL_HIT" => CacheResult::Stale,
        "REVALIDATED" | "TCP_REFRESH_HIT" => CacheResult::Revalidated,
        "TCP_CF_HIT" => CacheResult::Collapsed,
        // ATS says so, too, where a plugin answered and nothing was looked up.
        "MISS" | "EXPIRED" | "miss" => CacheResult::Miss,
        "BYPASS" | "pass" | "pipe" => CacheResult::Pass,
        "synth" if status < 400 => CacheResult::Hit,
        _ => return None,
    })
    .filter(|result| status < 500 || !matches!(result, CacheResult::Miss | CacheResult::Pass))
}

/// What it is where the word tells nothing: no cache stood in the way.
fn guessed(status: u16, fetched: bool) -> CacheResult {
    match (status, fetched) {
        (503, false) => CacheResult::Refused,
        (500.., _) => CacheResult::Error,
        (..=99 | 400.., false) => CacheResult::Invalid,
        (_, true) => CacheResult::Miss,
        (_, false) => CacheResult::Hit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(server: ServerKind, line: &'a str) -> Request<'a> {
        match parse(server, line) {
            Ok(Line::Request(request)) => request,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn fetches(fetches: u64, failed: u64, bytes: u64) -> Fetches {
        Fetches { fetches, failed, bytes }
    }

    /// Lines that nginx 1.22.1 wrote.
    #[test]
    fn lines_of_nginx() {
        let first = request(
            ServerKind::Nginx,
            r#"{"client":"127.0.0.1","target":"/big.bin?sid=a\"b","status":"200","bytes_out":"3000246","cache":"MISS","origin_status":"502, 200","origin_bytes":"0, 3000241","agent":"ua \"x\" \u0001\\é","cmcd_session":"sid=\"h-1\",cid=\"x\""}"#,
        );
        assert_eq!((first.status, first.bytes_out, first.result), (200, 3_000_246, CacheResult::Miss));
        assert_eq!((&*first.target, first.fetches), ("/big.bin?sid=a\"b", fetches(2, 1, 3_000_241)));
        assert_eq!(first.user_agent.as_deref(), Some("ua \"x\" \u{1}\\é"));
        assert_eq!(first.cmcd_session.as_deref(), Some("sid=\"h-1\",cid=\"x\""));
        for (cache, status, origin, result) in [
            ("HIT", "200", "", CacheResult::Hit),
            ("STALE", "200", "502", CacheResult::Stale),
            ("UPDATING", "200", "", CacheResult::Stale),
            ("REVALIDATED", "200", "304", CacheResult::Revalidated),
            ("EXPIRED", "200", "200", CacheResult::Miss),
            ("BYPASS", "200", "200", CacheResult::Pass),
            ("MISS", "502", "502", CacheResult::Error),
            ("", "502", "502", CacheResult::Error),
            ("", "503", "", CacheResult::Refused),
            ("", "404", "", CacheResult::Invalid),
            ("", "000", "", CacheResult::Invalid),
            ("", "200", "", CacheResult::Hit),
            ("", "200", "200", CacheResult::Miss),
        ] {
            let line = format!(
                r#"{{"client":"::1","target":"/","status":"{status}","bytes_out":"9","cache":"{cache}","origin_status":"{origin}","more":"is welcome"}}"#
            );
            let request = request(ServerKind::Nginx, &line);
            assert_eq!(request.result, result, "{line}");
            assert_eq!(request.fetches.fetches, u64::from(!origin.is_empty()), "{line}");
        }
    }

    /// Lines that varnishncsa 7.1.1 wrote.
    #[test]
    fn lines_of_varnish() {
        let served = |line| request(ServerKind::Varnish, line);
        let miss = r#"{"side":"c","client":"127.0.0.1","target":"/a.m3u8","status":"200","bytes_out":"296","cache":"miss","agent":"curl/7.88.1","cmcd_session":""}"#;
        assert_eq!((served(miss).result, served(miss).cmcd_session), (CacheResult::Miss, None));
        let hit = r#"{"side":"c","client":"127.0.0.1","target":"/a.m3u8","status":"200","bytes_out":"298","cache":"hit","agent":"curl/7.88.1","cmcd_session":""}"#;
        assert_eq!((served(hit).result, served(hit).bytes_out), (CacheResult::Hit, 298));
        let refused = r#"{"side":"c","client":"127.0.0.1","target":"/ret","status":"503","bytes_out":"488","cache":"synth","agent":"curl/7.88.1","cmcd_session":""}"#;
        assert_eq!(served(refused).result, CacheResult::Refused);
        let failed = r#"{"side":"c","client":"127.0.0.1","target":"/dead","status":"503","bytes_out":"524","cache":"pass","agent":"curl/7.88.1","cmcd_session":""}"#;
        assert_eq!(served(failed).result, CacheResult::Refused, "told by the fetch's own line");
        let fetch = r#"{"side":"b","client":"127.0.0.1","target":"/a.m3u8","status":"200","bytes_out":"238","cache":"-","agent":"curl/7.88.1","cmcd_session":""}"#;
        assert_eq!(parse(ServerKind::Varnish, fetch), Ok(Line::Fetched(fetches(1, 0, 238))));
        let dead = r#"{"side":"b","client":"","target":"/dead","status":"503","bytes_out":"0","cache":"-","agent":"curl/7.88.1","cmcd_session":""}"#;
        assert_eq!(parse(ServerKind::Varnish, dead), Ok(Line::Fetched(fetches(1, 1, 0))));
    }

    /// Lines that ATS 9.2 wrote.
    #[test]
    fn lines_of_ats() {
        let served = |line| request(ServerKind::Ats, line);
        let miss = "127.0.0.1\t200\t3000251\tTCP_MISS\t200\t246\t3000000\t/big.bin?sid=a%22b\tsid=\"h-1\",cid=\"x\"\tua \"x\" \t\\é";
        let miss = served(miss);
        assert_eq!(
            (miss.result, miss.bytes_out, miss.fetches),
            (CacheResult::Miss, 3_000_251, fetches(1, 0, 3_000_246))
        );
        assert_eq!((&*miss.target, miss.user_agent.as_deref()), ("/big.bin?sid=a%22b", Some("ua \"x\" \t\\é")));
        let hit = served("127.0.0.1\t200\t243\tTCP_MEM_HIT\t000\t0\t0\t/a.m3u8\t-\tcurl/7.88.1");
        assert_eq!((hit.result, hit.fetches, hit.cmcd_session), (CacheResult::Hit, fetches(0, 0, 0), None));
        let dead = served("127.0.0.1\t502\t455\tERR_CONNECT_FAIL\t000\t0\t0\t/dead\t-\tcurl/7.88.1");
        assert_eq!((dead.result, dead.fetches), (CacheResult::Error, fetches(1, 1, 0)));
        let refused = served("127.0.0.1\t503\t218\tTCP_MISS\t000\t0\t0\t/a.m3u8\t-\tcurl/7.88.1");
        assert_eq!((refused.result, refused.fetches.fetches), (CacheResult::Refused, 0));
        let left =
            served("127.0.0.1\t200\t52794239\tERR_CLIENT_READ_ERROR\t200\t248\t60000000\t/huge.bin?2\t-\tcurl/7.88.1");
        assert_eq!((left.result, left.bytes_out), (CacheResult::Miss, 52_794_239));
        let own = "127.0.0.1\t200\t35338\tTCP_MISS\t200\t106\t35153\t/_stats\t-\tspillway-edge-agent";
        assert_eq!((&*served(own).target, served(own).user_agent.as_deref()), ("/_stats", Some("spillway-edge-agent")));
    }

    #[test]
    fn what_is_not_the_format_says_why() {
        for line in ["", "{", "null", "[]", "{}", r#"127.0.0.1 - - [23/Nov/2026] "GET / HTTP/1.1" 200 5"#] {
            assert!(matches!(parse(ServerKind::Nginx, line), Err(BadLine::Format(_))), "{line}");
        }
        for (status, bytes) in
            [("x", "1"), ("70000", "1"), ("200", "-1"), ("200", "99999999999999999999"), ("200", "9999999999999999")]
        {
            let line = format!(r#"{{"client":"::1","target":"/","status":"{status}","bytes_out":"{bytes}"}}"#);
            assert!(matches!(parse(ServerKind::Nginx, &line), Err(BadLine::Number(..))), "{line}");
        }
        let short = parse(ServerKind::Ats, "127.0.0.1\t200\t5").expect_err("short").to_string();
        assert!(short.contains("cache") && short.contains("docs/edge-agent.md"), "{short}");
    }
}

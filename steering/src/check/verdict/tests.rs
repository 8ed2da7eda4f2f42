//! Row by row: one thing is changed in what a healthy pathway answers, and one line says so.

use axum::http::{HeaderMap, HeaderName};
use spillway_model::TimestampMs;

use super::{Line, Verdict, judge};
use crate::check::playlist::Kind;
use crate::check::seen::{Addresses, Answer, Exchange, Object, Part, Parts, Seen, Tls, Tokens, Tried, Unreached};
use crate::check::tls::Certificate;

/// Wed, 15 Jan 2025 08:00:00 GMT.
const NOW: TimestampMs = TimestampMs(1_736_928_000_000);
const DATE: &str = "Wed, 15 Jan 2025 08:00:00 GMT";
const PAGE: &str = "https://www.example";
const DAY_S: u64 = 86_400;

fn answer(status: u16, lines: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut headers = HeaderMap::new();
    for (name, value) in [("date", DATE), ("access-control-allow-origin", "*")].iter().chain(lines) {
        let name: HeaderName = name.parse().expect("name");
        headers.append(name, value.parse().expect("value"));
    }
    Answer { status, headers, body: body.to_vec().into(), sent: NOW, came: NOW, ..Answer::default() }
}

fn exchange(answer: Answer) -> Exchange {
    Exchange { asked: "GET /x".into(), outcome: Ok(answer) }
}

fn object(kind: Kind, media_type: &str, cache_control: &str, body: &[u8]) -> Object {
    let headers = [("content-type", media_type), ("cache-control", cache_control), ("etag", "\"1\"")];
    let again = exchange(answer(304, &[], b""));
    let whole = exchange(answer(200, &headers, body));
    Object { kind, origin: Some(whole.clone()), whole, again: Some(again), parts: None }
}

fn segment() -> Object {
    let body = b"0123456789";
    let part = |first: u64, last: u64| {
        let range = format!("bytes {first}-{last}/10");
        let bytes = &body[usize::try_from(first).unwrap()..=usize::try_from(last).unwrap()];
        Part { first, last, exchange: exchange(answer(206, &[("content-range", &range)], bytes)) }
    };
    let middle = part(5, 9);
    let parts = Parts {
        head: exchange(answer(200, &[("content-length", "10")], b"")),
        first: part(0, 3),
        origin: Some(middle.exchange.clone()),
        middle,
        beyond: exchange(answer(416, &[("content-range", "bytes */10")], b"")),
    };
    Object { parts: Some(parts), ..object(Kind::Segment, "video/mp4", "max-age=86400", body) }
}

fn tokens() -> Tokens {
    let refused = || exchange(answer(403, &[], b"no"));
    Tokens {
        signer: "edges".into(),
        inherits: true,
        unsigned: vec![(Kind::Multivariant, refused()), (Kind::Segment, refused())],
        tampered: refused(),
        other_title: Some(refused()),
        expired: refused(),
        inherited: Some(exchange(answer(200, &[], b"0123456789"))),
    }
}

fn certificate() -> Certificate {
    Certificate {
        at: "192.0.2.1".into(),
        version: "TLS 1.3".into(),
        protocol: Some("h2".into()),
        chain: Ok(()),
        sent: 2,
        name: Ok(()),
        ends_s: Some(NOW.0 / 1_000 + 60 * DAY_S),
        begins_s: None,
    }
}

fn tried(address: &str, outcome: Result<u16, Unreached>) -> Tried {
    Tried { address: address.parse().expect("address"), outcome }
}

fn healthy() -> Seen {
    let hls = "application/vnd.apple.mpegurl";
    let live = Object {
        again: Some(exchange(answer(200, &[], b"newer"))),
        origin: None,
        ..object(Kind::Media { live: true, target_s: 4 }, hls, "max-age=2", b"#EXTM3U")
    };
    Seen {
        now: NOW,
        page: PAGE.into(),
        credentials: false,
        addresses: Addresses {
            host: "media.example".into(),
            tried: vec![tried("192.0.2.1:443", Ok(200)), tried("[2001:db8::1]:443", Ok(403))],
            ..Addresses::default()
        },
        tls: Tls::Done(certificate()),
        stopped: None,
        objects: vec![object(Kind::Multivariant, hls, "max-age=60", b"#EXTM3U"), live, segment()],
        astray: None,
        absent: Some(exchange(answer(404, &[], b"none"))),
        origin: Some("https://origin.example".into()),
        tokens: Some(tokens()),
    }
}

/// Lines that are not well.
fn flaws(seen: &Seen) -> Vec<Line> {
    judge(seen).into_iter().filter(|line| line.verdict != Verdict::Ok).collect()
}

/// A change, its only line, and a word that the line must say.
type Row = (fn(&mut Seen), Verdict, &'static str, &'static str);

fn check(rows: &[Row]) {
    for (n, (change, verdict, name, word)) in rows.iter().enumerate() {
        let mut seen = healthy();
        change(&mut seen);
        let found = flaws(&seen);
        let [line] = found.as_slice() else { panic!("row {n}, {name}: {found:#?}") };
        assert_eq!((line.verdict, line.check), (*verdict, *name), "row {n}: {line}");
        assert!(line.to_string().contains(word), "row {n}: {line}");
        assert!(
            !line.came.is_empty() && (line.verdict == Verdict::Untried || !line.valid.is_empty()),
            "row {n}: {line}"
        );
    }
}

fn got(exchange: &mut Exchange) -> &mut Answer {
    exchange.outcome.as_mut().expect("an answer")
}

fn whole(seen: &mut Seen, at: usize) -> &mut Answer {
    got(&mut seen.objects[at].whole)
}

fn parts(seen: &mut Seen) -> &mut Parts {
    seen.objects[2].parts.as_mut().expect("parts")
}

fn token(seen: &mut Seen) -> &mut Tokens {
    seen.tokens.as_mut().expect("tokens")
}

fn set(answer: &mut Answer, name: &'static str, value: &str) {
    answer.headers.insert(name, value.parse().expect("value"));
}

fn cert(seen: &mut Seen) -> &mut Certificate {
    match &mut seen.tls {
        Tls::Done(certificate) => certificate,
        other => panic!("{other:?}"),
    }
}

const ACAO: &str = "access-control-allow-origin";
use Verdict::{Fault, Untried, Warn};

#[test]
fn a_healthy_pathway_has_no_flaw() {
    let lines = judge(&healthy());
    assert!(lines.iter().all(|line| line.verdict == Verdict::Ok && line.valid.is_empty()), "{lines:#?}");
    assert!(lines.len() > 30, "{}", lines.len());
}

#[test]
fn addresses() {
    let gone = |why: &str| Err(Unreached { why: why.into(), no_route: false });
    let mut seen = healthy();
    seen.addresses.tried[1].outcome = gone("refused");
    let found = flaws(&seen);
    assert_eq!((found.len(), found[0].verdict, found[0].check), (1, Fault, "ipv6"), "{found:#?}");
    assert!(found[0].came.contains("2001:db8::1: refused"), "{found:#?}");
    check(&[
        (|seen| drop(seen.addresses.tried.pop()), Warn, "ipv6", "no AAAA"),
        (|seen| drop(seen.addresses.tried.remove(0)), Fault, "ipv4", "no A"),
        (
            |seen| seen.addresses.tried[1].outcome = Err(Unreached { why: "unreachable".into(), no_route: true }),
            Untried,
            "ipv6",
            "this machine",
        ),
    ]);
    seen.addresses = Addresses { host: "x".into(), unknown: Some("x is not found".into()), ..Addresses::default() };
    (seen.stopped, seen.tls) = (Some("no address answers".into()), Tls::Failed("there is no address".into()));
    let found: Vec<&str> = flaws(&seen).iter().map(|line| line.check).collect();
    assert_eq!(found, ["ipv4", "get"]);
}

#[test]
fn certificates() {
    check(&[
        (|seen| seen.tls = Tls::None, Warn, "tls.handshake", "http://"),
        (|seen| seen.tls = Tls::Failed("alert".into()), Fault, "tls.handshake", "alert"),
        (|seen| cert(seen).chain = Err("no known authority".into()), Fault, "tls.chain", "no known authority"),
        (|seen| cert(seen).name = Err("it is for other.example".into()), Fault, "tls.name", "other.example"),
        (|seen| cert(seen).ends_s = Some(NOW.0 / 1_000 + 5 * DAY_S), Warn, "tls.expiry", "5 days"),
        (|seen| cert(seen).ends_s = Some(NOW.0 / 1_000 - 3 * DAY_S), Fault, "tls.expiry", "ended 3 days ago"),
        (|seen| cert(seen).begins_s = Some(NOW.0 / 1_000 + 9), Fault, "tls.expiry", "begins only in 9 s"),
        (|seen| cert(seen).ends_s = None, Fault, "tls.expiry", "can't be read"),
    ]);
}

#[test]
fn answers() {
    check(&[
        (|seen| whole(seen, 2).hops = vec!["302 to /y".into()], Warn, "get", "302 to /y"),
        (|seen| set(whole(seen, 0), "content-type", "text/plain"), Warn, "media_type", "text/plain"),
        (|seen| set(whole(seen, 2), "content-type", "text/html; charset=utf-8"), Warn, "media_type", "a page"),
        (|seen| seen.absent = Some(exchange(answer(403, &[], b""))), Warn, "get.absent", "403"),
        (|seen| seen.absent = Some(exchange(answer(200, &[], b"sorry"))), Fault, "get.absent", "take this for media"),
        (|seen| seen.absent = Some(exchange(answer(503, &[], b""))), Fault, "get.absent", "503"),
        (|seen| seen.absent.as_mut().unwrap().outcome = Err("no answer in 5 s".into()), Fault, "get.absent", "in 5 s"),
        (|seen| seen.astray = Some("it leads to https://b".into()), Warn, "path", "https://b"),
    ]);
    let mut seen = healthy();
    seen.tokens = None;
    *whole(&mut seen, 2) = answer(302, &[], b"");
    whole(&mut seen, 2).elsewhere = Some("https://b.example".into());
    let found = flaws(&seen);
    assert_eq!((found.len(), found[0].verdict, found[0].check), (1, Fault, "get"), "{found:#?}");
    assert!(found[0].came.contains("https://b.example (not followed)"), "{found:#?}");
    seen.objects.pop();
    let found = flaws(&seen);
    assert_eq!((found.len(), found[0].verdict, found[0].check), (1, Untried, "segment"), "{found:#?}");
}

#[test]
fn cors_on_every_status() {
    check(&[
        (|seen| drop(whole(seen, 1).headers.remove(ACAO)), Fault, "cors.200", "200 without"),
        (
            |seen| drop(got(seen.objects[0].again.as_mut().unwrap()).headers.remove(ACAO)),
            Fault,
            "cors.304",
            "304 without",
        ),
        (|seen| drop(got(&mut parts(seen).middle.exchange).headers.remove(ACAO)), Fault, "cors.206", "206 without"),
        (|seen| drop(got(&mut parts(seen).beyond).headers.remove(ACAO)), Fault, "cors.416", "416 without"),
        (|seen| drop(got(seen.absent.as_mut().unwrap()).headers.remove(ACAO)), Fault, "cors.404", "404 without"),
        (|seen| drop(got(&mut token(seen).unsigned[0].1).headers.remove(ACAO)), Fault, "cors.403", "403 without"),
        (|seen| set(whole(seen, 2), ACAO, "https://other.example"), Fault, "cors.200", "https://other.example"),
        (|seen| set(whole(seen, 2), ACAO, PAGE), Warn, "cors.200", "without Vary"),
        (|seen| assert!(whole(seen, 2).headers.append(ACAO, "*".parse().unwrap())), Fault, "cors.200", "2 values"),
    ]);
    let mut seen = healthy();
    set(whole(&mut seen, 2), ACAO, PAGE);
    set(whole(&mut seen, 2), "vary", "Accept-Encoding, Origin");
    assert_eq!(flaws(&seen), []);
}

#[test]
fn cookies_need_a_named_origin() {
    let mut seen = healthy();
    (seen.credentials, seen.objects, seen.absent, seen.tokens) = (true, vec![segment()], None, None);
    assert!(flaws(&seen).iter().all(|line| line.verdict == Fault && line.check.starts_with("cors.")));
    let named = |exchange: &mut Exchange| {
        let answer = got(exchange);
        set(answer, ACAO, PAGE);
        set(answer, "access-control-allow-credentials", "true");
        set(answer, "vary", "origin");
    };
    let Object { whole, again, parts: Some(parts), .. } = &mut seen.objects[0] else { panic!("a segment") };
    [whole, again.as_mut().unwrap(), &mut parts.middle.exchange, &mut parts.beyond].into_iter().for_each(named);
    assert_eq!(flaws(&seen), []);
}

#[test]
fn caching() {
    check(&[
        (|seen| set(whole(seen, 1), "cache-control", "max-age=30"), Fault, "cache.control", "4 or less"),
        (|seen| set(whole(seen, 1), "cache-control", "max-age=2, s-maxage=60"), Fault, "cache.control", "s-maxage=60"),
        (|seen| drop(whole(seen, 1).headers.remove("cache-control")), Warn, "cache.control", "caches guess"),
        (|seen| set(whole(seen, 1), "age", "9"), Fault, "cache.age", "Age: 9"),
        (|seen| set(whole(seen, 0), "cache-control", "max-age=86400"), Warn, "cache.control", "3600 or less"),
        (|seen| set(whole(seen, 2), "cache-control", "no-store"), Warn, "cache.control", "never changes"),
        (|seen| set(whole(seen, 2), "cache-control", "max-age=5"), Warn, "cache.control", "3600 or more"),
        (|seen| set(whole(seen, 2), "age", "90000"), Warn, "cache.age", "86400 or less"),
        (|seen| seen.objects[2].again = None, Warn, "cache.validator", "neither ETag"),
        (
            |seen| seen.objects[2].again = Some(exchange(answer(200, &[], b""))),
            Warn,
            "cache.validator",
            "the whole again",
        ),
        (|seen| seen.objects[2].again = Some(exchange(answer(500, &[], b""))), Fault, "cache.validator", "500"),
    ]);
    for good in ["no-cache", "max-age=4", "no-store", "max-age=0"] {
        let mut seen = healthy();
        set(whole(&mut seen, 1), "cache-control", good);
        assert_eq!(flaws(&seen), [], "{good}");
    }
    let mut seen = healthy();
    whole(&mut seen, 1).headers.remove("cache-control");
    set(whole(&mut seen, 1), "expires", "Wed, 15 Jan 2025 08:01:00 GMT");
    assert_eq!(flaws(&seen)[0].verdict, Fault);
}

#[test]
fn ranges_and_bytes() {
    check(&[
        (|seen| got(&mut parts(seen).first.exchange).status = 200, Fault, "range.first", "ignored"),
        (
            |seen| set(got(&mut parts(seen).first.exchange), "content-range", "bytes 0-3/11"),
            Fault,
            "range.first",
            "0-3/11",
        ),
        (
            |seen| set(got(&mut parts(seen).first.exchange), "content-range", "bytes 0-3/*"),
            Warn,
            "range.first",
            "0-3/*",
        ),
        (|seen| got(&mut parts(seen).first.exchange).body = (&b"x123"[..]).into(), Fault, "range.first", "other bytes"),
        (|seen| parts(seen).first.exchange.outcome = Err("reset".into()), Fault, "range.first", "reset"),
        (|seen| got(&mut parts(seen).beyond).status = 206, Fault, "range.beyond", "416"),
        (
            |seen| drop(got(&mut parts(seen).beyond).headers.remove("content-range")),
            Warn,
            "range.beyond",
            "no Content-Range",
        ),
        (|seen| got(&mut parts(seen).head).status = 405, Fault, "head", "405"),
        (|seen| set(got(&mut parts(seen).head), "content-length", "0"), Fault, "head", "Content-Length: 0"),
        (|seen| drop(got(&mut parts(seen).head).headers.remove("content-length")), Warn, "head", "without"),
        (
            |seen| got(seen.objects[2].origin.as_mut().unwrap()).body = (&b"0"[..]).into(),
            Fault,
            "origin.whole",
            "the origin's: 1 bytes",
        ),
        (
            |seen| got(seen.objects[0].origin.as_mut().unwrap()).body = (&b"0"[..]).into(),
            Warn,
            "origin.whole",
            "rewrites",
        ),
        (|seen| got(seen.objects[2].origin.as_mut().unwrap()).status = 403, Warn, "origin.whole", "the origin: 403"),
        (
            |seen| got(parts(seen).origin.as_mut().unwrap()).body = (&b"5678x"[..]).into(),
            Fault,
            "origin.range",
            "SHA-256",
        ),
        (|seen| parts(seen).origin.as_mut().unwrap().outcome = Err("refused".into()), Warn, "origin.range", "refused"),
    ]);
    let mut seen = healthy();
    seen.origin = None;
    for object in &mut seen.objects {
        object.origin = None;
    }
    parts(&mut seen).origin = None;
    let found = flaws(&seen);
    assert_eq!((found.len(), found[0].verdict, found[0].check), (1, Untried, "origin.whole"), "{found:#?}");
}

#[test]
fn a_whole_that_was_cut_is_compared_by_parts() {
    let mut seen = healthy();
    let answer = whole(&mut seen, 2);
    (answer.cut, answer.body) = (true, (&b"0123"[..]).into());
    set(answer, "content-length", "10");
    let found = flaws(&seen);
    assert_eq!((found.len(), found[0].verdict, found[0].check), (1, Untried, "origin.whole"), "{found:#?}");
}

#[test]
fn token_urls() {
    check(&[
        (|seen| token(seen).unsigned[0].1 = exchange(answer(200, &[], b"")), Fault, "token.unsigned", "anybody"),
        (|seen| token(seen).unsigned[1].1 = exchange(answer(200, &[], b"")), Warn, "token.unsigned", "only playlists"),
        (|seen| got(&mut token(seen).tampered).status = 200, Fault, "token.tampered", "not looked at"),
        (|seen| got(&mut token(seen).expired).status = 200, Fault, "token.expired", "never ends"),
        (|seen| got(&mut token(seen).expired).status = 503, Fault, "token.expired", "outage"),
        (|seen| got(&mut token(seen).expired).status = 302, Warn, "token.expired", "redirects"),
        (|seen| token(seen).expired.outcome = Err("reset".into()), Fault, "token.expired", "reset"),
        (|seen| got(token(seen).other_title.as_mut().unwrap()).status = 200, Fault, "token.other_title", "titles"),
        (|seen| token(seen).other_title = None, Untried, "token.other_title", "folders"),
        (|seen| got(token(seen).inherited.as_mut().unwrap()).status = 403, Fault, "token.inherited", "folder"),
        (
            |seen| {
                token(seen).inherits = false;
                got(token(seen).inherited.as_mut().unwrap()).status = 403;
            },
            Fault,
            "token.inherited",
            "path token",
        ),
    ]);
    let mut seen = healthy();
    *whole(&mut seen, 0) = answer(403, &[], b"");
    let found: Vec<(Verdict, &str)> = flaws(&seen).iter().map(|line| (line.verdict, line.check)).collect();
    assert_eq!(found, [(Fault, "get"), (Fault, "token.signed")]);
}

#[test]
fn clocks() {
    let at = |off_ms: i64, lines: &[(&str, &str)]| {
        let mut seen = healthy();
        let clock = TimestampMs(NOW.0.saturating_add_signed(-off_ms));
        (seen.objects, seen.tokens) = (vec![], None);
        let mut kept = answer(404, lines, b"");
        (kept.sent, kept.came) = (clock, TimestampMs(clock.0 + 200));
        seen.absent = Some(exchange(kept));
        judge(&seen).into_iter().find(|line| line.check == "clock").expect("a line")
    };
    assert_eq!(at(0, &[]).verdict, Verdict::Ok);
    assert_eq!(at(-900, &[]).verdict, Verdict::Ok, "a date tells whole seconds");
    assert_eq!(at(1_900, &[]).verdict, Verdict::Ok);
    let warned = at(3_200, &[]);
    assert_eq!((warned.verdict, warned.came.as_str()), (Warn, "3.0 s ahead of ours"));
    let late = at(-10_000, &[]);
    assert_eq!((late.verdict, late.came.as_str()), (Fault, "9.0 s behind ours"));
    assert!(late.valid.contains("5 s"), "{late}");
    assert_eq!(at(-60_000, &[("age", "60")]).verdict, Verdict::Ok, "a kept answer shows its first date");
    let mut seen = healthy();
    (seen.objects, seen.tokens) = (vec![], None);
    got(seen.absent.as_mut().unwrap()).headers.remove("date");
    let found = flaws(&seen);
    assert!(found.iter().any(|line| (line.verdict, line.check) == (Warn, "clock")), "{found:#?}");
}

//! Addresses, certificate, clock.

use axum::http::header;
use spillway_wire::signed_url::own::CLOCK_SKEW_S;

use super::Line;
use crate::check::seen::{Addresses, Answer, Exchange, Seen, Tls, Tried};
use crate::check::tls::Certificate;

/// Days before its end at which a certificate should have been renewed.
const RENEW_DAYS: u64 = 14;
const DAY_S: u64 = 86_400;
/// A clock that is off by more is worth a word, ms: HTTP dates tell whole seconds.
const CLOCK_WARN_MS: u64 = 2_000;

/// A line for each family.
pub(super) fn addresses(seen: &Addresses) -> Vec<Line> {
    if let Some(why) = &seen.unknown {
        return vec![Line::fault("ipv4", &seen.host, why, "a name with an A record")];
    }
    let family =
        |is_v4: bool| -> Vec<&Tried> { seen.tried.iter().filter(|tried| tried.address.is_ipv4() == is_v4).collect() };
    let line = |check, record: &str, is_v4| {
        let tried = family(is_v4);
        if tried.is_empty() {
            let asked = format!("{} by {record}", seen.host);
            return match (seen.is_literal, is_v4) {
                (true, _) => Line::warn(check, &asked, "the URL has an address", "a name with A and AAAA records"),
                (false, false) => {
                    Line::warn(check, &asked, "no AAAA", "an AAAA record: networks without IPv4 go through NAT64")
                }
                (false, true) => Line::fault(check, &asked, "no A", "an A record: many networks have no IPv6"),
            };
        }
        let addresses: Vec<String> = tried.iter().map(|tried| tried.address.ip().to_string()).collect();
        let asked = format!("{} at {}", seen.host, addresses.join(", "));
        let failed: Vec<String> = tried
            .iter()
            .filter_map(|tried| Some(format!("{}: {}", tried.address.ip(), tried.outcome.as_ref().err()?.why)))
            .collect();
        let no_route = tried.iter().all(|tried| tried.outcome.as_ref().is_err_and(|failed| failed.no_route));
        if no_route {
            Line::untried(
                check,
                &asked,
                format!("this machine can't reach such addresses ({})", failed.join("; ")),
                "try from another one",
            )
        } else if failed.is_empty() {
            Line::ok(check, &asked, "each answers")
        } else {
            Line::fault(check, &asked, failed.join("; "), "an answer from each address")
        }
    };
    vec![line("ipv4", "A", true), line("ipv6", "AAAA", false)]
}

/// Handshake, chain, name, days.
pub(super) fn tls(tls: &Tls, host: &str, now_s: u64) -> Vec<Line> {
    match tls {
        Tls::None => {
            let valid = "https://: pages over https load nothing over http";
            vec![Line::warn("tls.handshake", host, "http://, no TLS", valid)]
        }
        Tls::Failed(why) => vec![Line::fault("tls.handshake", host, why, "a handshake with TLS 1.2 or 1.3")],
        Tls::Done(certificate) => certificate_lines(certificate, host, now_s),
    }
}

fn certificate_lines(certificate: &Certificate, host: &str, now_s: u64) -> Vec<Line> {
    let at = format!("{host} at {}", certificate.at);
    let protocol = certificate.protocol.as_deref().unwrap_or("no protocol negotiated");
    let handshake = Line::ok("tls.handshake", &at, format!("{}, {protocol}", certificate.version));
    let sent = format!("{} certificates sent", certificate.sent);
    let chain = match &certificate.chain {
        Ok(()) => Line::ok("tls.chain", &sent, "it ends at a known authority"),
        Err(why) => Line::fault(
            "tls.chain",
            &sent,
            why,
            "all intermediate certificates, and an authority that players know (or --tls-ca)",
        ),
    };
    let name = match &certificate.name {
        Ok(()) => Line::ok("tls.name", host, "the certificate is for it"),
        Err(why) => Line::fault("tls.name", host, why, format!("a certificate for {host}")),
    };
    let asked = "days that the certificate has left";
    let valid = format!("{RENEW_DAYS} or more");
    let expiry = match (certificate.begins_s, certificate.ends_s) {
        (Some(begins_s), _) => {
            let in_s = begins_s.saturating_sub(now_s);
            Line::fault("tls.expiry", asked, format!("it begins only in {in_s} s"), "one that holds already")
        }
        (None, None) => Line::fault("tls.expiry", asked, "its end can't be read", valid),
        (None, Some(ends_s)) if ends_s < now_s => {
            Line::fault("tls.expiry", asked, format!("it ended {} days ago", (now_s - ends_s) / DAY_S), valid)
        }
        (None, Some(ends_s)) => {
            let days = (ends_s - now_s) / DAY_S;
            let came = format!("{days} days");
            if days < RENEW_DAYS {
                Line::warn("tls.expiry", asked, came, valid)
            } else {
                Line::ok("tls.expiry", asked, came)
            }
        }
    };
    vec![handshake, chain, name, expiry]
}

/// The clock by all answers: that of the one that differs least, for a kept answer may show an old date.
pub(super) fn clock(seen: &Seen) -> Line {
    let of_objects = seen.objects.iter().flat_map(|object| {
        let parts = object
            .parts
            .iter()
            .flat_map(|parts| [&parts.head, &parts.first.exchange, &parts.middle.exchange, &parts.beyond]);
        [Some(&object.whole), object.again.as_ref()].into_iter().flatten().chain(parts)
    });
    let all = of_objects.chain(&seen.absent);
    let off = |exchange: &Exchange| exchange.outcome.as_ref().ok().and_then(off_ms);
    let asked = "Date of the answers";
    let Some(off_ms) = all.filter_map(off).min_by_key(|off_ms| off_ms.unsigned_abs()) else {
        return Line::warn(
            "clock",
            asked,
            "no answer has a date",
            "Date on every answer: players of live streams go by it",
        );
    };
    let (size_ms, side) = (off_ms.unsigned_abs(), if off_ms > 0 { "ahead of" } else { "behind" });
    let came = format!("{:.1} s {side} ours", size_ms as f64 / 1e3);
    let valid = format!("2 s or less; signed URLs bear {CLOCK_SKEW_S} s");
    if size_ms > CLOCK_SKEW_S * 1_000 {
        Line::fault("clock", asked, came, valid)
    } else if size_ms > CLOCK_WARN_MS {
        Line::warn("clock", asked, came, valid)
    } else {
        Line::ok("clock", asked, "as ours")
    }
}

/// How far the server's clock is ahead of ours, as far as the answer tells; a date means a whole second, and any moment
/// between request and answer.
fn off_ms(answer: &Answer) -> Option<i64> {
    let date = httpdate::parse_http_date(answer.text(&header::DATE)?).ok()?;
    let date_ms = date.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis();
    // A kept answer may have its first date, and says how old it is.
    let age_ms = answer.number(&header::AGE).unwrap_or(0).saturating_mul(1_000);
    let ms = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let from = i64::try_from(date_ms).ok()?;
    let (sent, came) = (ms(answer.sent.0), ms(answer.came.0));
    let off = |from: i64| match (from - came, sent - (from + 999)) {
        (ahead, _) if ahead > 0 => ahead,
        (_, behind) if behind > 0 => -behind,
        _ => 0,
    };
    [off(from), off(from.saturating_add(ms(age_ms)))].into_iter().min_by_key(|off| off.unsigned_abs())
}

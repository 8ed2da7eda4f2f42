//! CMCD of a request as key and value. Here is what logs do to its text; reading it is the wire's.

use std::collections::BTreeMap;

use spillway_wire::cmcd;

use super::values::percent_decoded;

/// The record of a request: of its query, or else of the texts of its headers. What can't be read costs itself, not the
/// delivery.
pub(super) fn pairs(queries: &[String], headers: &[String]) -> BTreeMap<String, String> {
    let query = queries.iter().find_map(|query| of_query(query)).map(|text| format!("CMCD={}", escaped(&text)));
    // Headers are named by their place: which of the four is which does not matter.
    let header = |name: &str| {
        let at = cmcd::HEADERS.iter().position(|known| *known == name)?;
        headers.get(at).map(String::as_bytes)
    };
    match cmcd::parse_request(query.as_deref(), header) {
        Ok(record) => record.map(|record| record.pairs()).unwrap_or_default(),
        Err(_) => BTreeMap::new(),
    }
}

/// The CMCD of a query (CTA-5004, 3.2: parameter `CMCD`). Logs may have escaped its escapes once more, and Akamai
/// writes `cmcd=//1.0@V/` before it.
fn of_query(query: &str) -> Option<String> {
    let is_cmcd = |name: &str| name.trim_start_matches('?').eq_ignore_ascii_case("CMCD");
    let (_, value) = query.split('&').find_map(|part| part.split_once('=').filter(|(name, _)| is_cmcd(name)))?;
    let once = percent_decoded(value);
    let twice = if once.contains('=') { once } else { percent_decoded(&once).into_owned().into() };
    Some(match twice.split_once("@V/") {
        Some((version, rest)) if version.starts_with("//") => rest.to_owned(),
        _ => twice.into_owned(),
    })
}

/// What would end the value or begin an escape, escaped.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('&', "%26")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str, headers: &[&str]) -> String {
        let headers: Vec<String> = headers.iter().map(|text| (*text).to_owned()).collect();
        let pairs = pairs(&[query.to_owned()], &headers);
        pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn keys_alone_are_true_and_quotes_hold_commas() {
        assert_eq!(of("", &[r#"br=2400,bs,sid="a,\"b\"",ot=v"#]), r#"br=2400 bs=true ot=v sid=a,"b""#);
    }

    #[test]
    fn a_query_is_unpacked_as_often_as_the_log_packed_it() {
        for query in [
            "t=1&CMCD=br%3D2400%2Csid%3D%22a%26b%22",
            "CMCD=br%253D2400%252Csid%253D%2522a%2526b%2522&x=y",
            "cmcd=//1.0@V/br=2400,sid=%22a%26b%22",
            "?CMCD=br=2400,sid=%22a%26b%22",
        ] {
            assert_eq!(of(query, &[]), "br=2400 sid=a&b", "{query}");
        }
        assert_eq!(of("token=1&x", &[]), "");
    }

    #[test]
    fn the_query_counts_before_headers_and_four_headers_are_one_record() {
        assert_eq!(of("CMCD=br%3D1", &["br=2"]), "br=1");
        assert_eq!(of("x=y", &["br=2", "bl=300", "sid=\"s\"", "bs"]), "bl=300 br=2 bs=true sid=s");
    }

    #[test]
    fn what_is_no_cmcd_is_left_out() {
        for text in ["br==", "a=(", "\u{0}", "sid=\"x"] {
            assert_eq!(of("", &[text]), "", "{text:?}");
        }
    }
}

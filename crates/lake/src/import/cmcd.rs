//! CMCD of a request as key and value, from a query or from headers.

use std::collections::BTreeMap;

use spillway_model::limits::CMCD_MAX_KEYS;

use super::values::percent_decoded;

/// Splits CMCD's text (`br=2400,sid="a,b",su`) into keys and values: quotes are taken off, a key alone is `true`.
pub(super) fn parse(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for item in items(text) {
        let (key, value) = item.split_once('=').unwrap_or((item, "true"));
        let key = key.trim();
        if !key.is_empty() && out.len() < CMCD_MAX_KEYS {
            out.insert(key.to_owned(), unquoted(value.trim()));
        }
    }
    out
}

/// The CMCD of a query (CTA-5004, 3.2: parameter `CMCD`). Logs may have escaped its escapes once more, and Akamai
/// writes `cmcd=//1.0@V/` before it.
pub(super) fn of_query(query: &str) -> BTreeMap<String, String> {
    let is_cmcd = |name: &str| name.trim_start_matches('?').eq_ignore_ascii_case("CMCD");
    let found = query.split('&').find_map(|part| part.split_once('=').filter(|(name, _)| is_cmcd(name)));
    let Some((_, value)) = found else { return BTreeMap::new() };
    let once = percent_decoded(value);
    let twice = if once.contains('=') { once } else { percent_decoded(&once).into_owned().into() };
    let text = match twice.split_once("@V/") {
        Some((version, rest)) if version.starts_with("//") => rest,
        _ => &twice,
    };
    parse(text)
}

/// What stands between commas that are not in quotes.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => return true,
            _ => {}
        }
        false
    })
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else { return value.to_owned() };
    inner.strip_suffix('"').unwrap_or(inner).replace("\\\"", "\"").replace("\\\\", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(map: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
        map.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    #[test]
    fn keys_alone_are_true_and_quotes_hold_commas() {
        let map = parse(r#"br=2400,bs,sid="a,\"b\"",ot=v, ,=x"#);
        assert_eq!(pairs(&map), [("br", "2400"), ("bs", "true"), ("ot", "v"), ("sid", r#"a,"b""#)]);
    }

    #[test]
    fn a_query_is_unpacked_as_often_as_the_log_packed_it() {
        for query in [
            "t=1&CMCD=br%3D2400%2Csid%3D%22abc%22",
            "CMCD=br%253D2400%252Csid%253D%2522abc%2522&x=y",
            "cmcd=//1.0@V/br=2400,sid=%22abc%22",
            "?CMCD=br=2400,sid=%22abc%22",
        ] {
            assert_eq!(pairs(&of_query(query)), [("br", "2400"), ("sid", "abc")], "{query}");
        }
        assert!(of_query("token=1&x").is_empty() && of_query("").is_empty());
    }

    #[test]
    fn more_keys_than_there_can_be_are_cut() {
        let many: Vec<String> = (0..1_000).map(|key| format!("k{key}=1")).collect();
        assert_eq!(parse(&many.join(",")).len(), CMCD_MAX_KEYS);
    }
}

//! What never comes to rest: queries, fragments and credentials of URLs. They carry tokens and names of people.

use std::borrow::Cow;

use serde_json::Value;

/// What ends a URL inside of a text (RFC 3986 has none of them in one).
fn ends_url(c: char) -> bool {
    c.is_whitespace() || c.is_control() || "\"<>`{}|\\^".contains(c)
}

/// `text` with every URL in it cut before its query or fragment, and without `user:password@`. A word is taken for a
/// URL if it has a `/` before the mark, or if `name=value` follows it; a plain question stays.
#[must_use]
pub fn without_queries(text: &str) -> Cow<'_, str> {
    if !text.contains(['?', '#', '@']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(ends_url).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        push_word(&mut out, word);
        let next = after.char_indices().nth(1).map_or(after.len(), |(at, _)| at);
        out.push_str(&after[..next]);
        rest = &after[next..];
    }
    Cow::Owned(out)
}

fn push_word(out: &mut String, word: &str) {
    let cut = word.find(['?', '#']).filter(|at| {
        let (before, mark_and_after) = word.split_at(*at);
        before.contains('/') || mark_and_after.contains('=')
    });
    let word = &word[..cut.unwrap_or(word.len())];
    let Some(scheme_end) = word.find("://").map(|at| at + 3) else {
        out.push_str(word);
        return;
    };
    let (scheme, rest) = word.split_at(scheme_end);
    let authority = rest.find('/').unwrap_or(rest.len());
    // The last `@` of the authority: a password may hold one, badly.
    let host = rest[..authority].rfind('@').map_or(0, |at| at + 1);
    out.push_str(scheme);
    out.push_str(&rest[host..]);
}

/// The host (`host` or `host:port`, lower case) of a field that should be one, but may hold a whole URL; `None` if
/// there is none in it.
#[must_use]
pub fn host_only(text: &str) -> Option<String> {
    let text = text.trim();
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.trim_start_matches('/').split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    (!host.is_empty() && host.len() <= 260 && host.chars().all(plain)).then(|| host.to_ascii_lowercase())
}

/// The path of a URL or of a request's target: no scheme, host, query, fragment or path parameter (`;token=…`).
#[must_use]
pub fn path_only(text: &str) -> &str {
    let rest = match text.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => text,
    };
    rest.split(['?', '#', ';']).next().unwrap_or_default()
}

/// [`without_queries`] for every text in `value`, keys among them.
#[must_use]
pub fn json_without_queries(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(without_queries(&text).into_owned()),
        Value::Array(items) => Value::Array(items.into_iter().map(json_without_queries).collect()),
        Value::Object(entries) => Value::Object(
            entries
                .into_iter()
                .map(|(key, value)| (without_queries(&key).into_owned(), json_without_queries(value)))
                .collect(),
        ),
        plain => plain,
    }
}

/// `text`, cut to at most `max` bytes at a character.
pub fn truncate(text: &mut String, max: usize) {
    if text.len() > max {
        let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn urls_lose_what_is_nobodys_business() {
        for (text, left) in [
            ("GET https://cdn.example/a.m4s?token=secret failed, why?", "GET https://cdn.example/a.m4s failed, why?"),
            ("/live/a.m4s?sig=1#t=3", "/live/a.m4s"),
            ("a.m4s?sig=1", "a.m4s"),
            ("?sid=1", ""),
            ("https://me:pass@cdn.example/a", "https://cdn.example/a"),
            ("https://me:p@ss@cdn.example:8080", "https://cdn.example:8080"),
            (r#"{"url":"https://x.example/a?b=1","n":2}"#, r#"{"url":"https://x.example/a","n":2}"#),
            ("<https://x.example/a#frag>", "<https://x.example/a>"),
            ("C# or F#?", "C# or F#?"),
            ("What now?", "What now?"),
            ("mail@example.com", "mail@example.com"),
            ("ä?ö=ü", "ä"),
        ] {
            assert_eq!(without_queries(text), left, "{text}");
        }
    }

    #[test]
    fn a_host_field_holds_a_host_only() {
        for (text, host) in [
            ("CDN.example", Some("cdn.example")),
            ("https://u:p@cdn.example:8080/a?b#c", Some("cdn.example:8080")),
            ("//cdn.example/a", Some("cdn.example")),
            ("[2001:db8::1]:443", Some("[2001:db8::1]:443")),
            ("cdn.example?token=1", Some("cdn.example")),
            ("", None),
            ("a b", None),
        ] {
            assert_eq!(host_only(text).as_deref(), host, "{text}");
        }
    }

    #[test]
    fn a_path_has_no_query_and_no_host() {
        assert_eq!(path_only("/live/a.m4s?x=1"), "/live/a.m4s");
        assert_eq!(path_only("https://h.example/live/a.m4s;jsessionid=1?x"), "/live/a.m4s");
        assert_eq!((path_only("https://h.example"), path_only("?a")), ("", ""));
    }

    #[test]
    fn json_loses_them_at_every_depth() {
        let dirty = json!({ "a": [{ "https://x/?k=1": "https://x/?v=1" }], "n": 1.5, "t": null });
        assert_eq!(json_without_queries(dirty), json!({ "a": [{ "https://x/": "https://x/" }], "n": 1.5, "t": null }));
    }

    proptest! {
        #[test]
        fn no_query_of_a_url_survives(before in ".{0,20}", path in "[a-z/]{0,20}", secret in "[a-z0-9]{8}", after in ".{0,20}") {
            let text = format!("{before} https://host.example/{path}?token=zq{secret}zq {after}");
            let needle = format!("zq{secret}zq");
            prop_assume!(!before.contains(&needle) && !after.contains(&needle));
            prop_assert!(!without_queries(&text).contains(&needle));
        }

        #[test]
        fn cleaning_twice_changes_nothing_more(text in ".{0,80}") {
            let once = without_queries(&text).into_owned();
            prop_assert_eq!(without_queries(&once).into_owned(), once.clone());
        }
    }
}

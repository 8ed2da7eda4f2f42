//! `Vary`: which answers of one URL are for which requests (RFC 9111, 4.1).

use std::fmt::Write as _;

use http::header::{
    ACCEPT_ENCODING, ACCEPT_LANGUAGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName};

use super::cache_control::split_outside_quotes;

/// What an answer depends on beside its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Varies {
    /// Nothing that differs between requests to the origin.
    Nothing,
    /// These fields of the request; sorted.
    By(Vec<HeaderName>),
    /// Something that no cache can know (`*`).
    ByAnything,
}

impl Varies {
    /// Reads every `Vary` line. A name that is none counts as `*`.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut fields = Vec::new();
        for name in headers.get_all(VARY).iter().flat_map(|line| split_outside_quotes(line.as_bytes())) {
            match HeaderName::from_bytes(name) {
                Ok(name) if name.as_str() != "*" => fields.push(name),
                _ => return Self::ByAnything,
            }
        }
        // The origin never sees these, or always the same of them.
        fields.retain(|name| {
            ![ACCEPT_ENCODING, ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD].contains(name)
        });
        fields.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        fields.dedup();
        if fields.is_empty() { Self::Nothing } else { Self::By(fields) }
    }
}

/// What `request` says in `fields`, so that two requests that get the same answer give the same text.
pub(crate) fn selection(fields: &[HeaderName], request: &HeaderMap) -> String {
    let mut out = String::new();
    for name in fields {
        let lines = request.get_all(name).iter();
        let mut members: Vec<String> = lines
            .flat_map(|line| split_outside_quotes(line.as_bytes()))
            .map(|member| member.escape_ascii().to_string())
            .collect();
        if *name == ACCEPT_LANGUAGE {
            by_weight(&mut members);
        }
        // A field that isn't there differs from an empty one; lengths keep members apart whatever is in them.
        let _ = write!(out, "{}", if request.contains_key(name) { '=' } else { '-' });
        for member in members {
            let _ = write!(out, "{}:{member}", member.len());
        }
    }
    out
}

/// Languages in the order of their weights, which is all that their order says.
fn by_weight(members: &mut Vec<String>) {
    let weighted = |member: &String| {
        let mut parts = member.split(';').map(str::trim);
        let tag = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
        ((weight.clamp(0.0, 1.0) * 1000.0) as u32, tag)
    };
    let mut all: Vec<(u32, String)> = members.iter().map(weighted).collect();
    all.sort_by(|(one, a), (other, b)| other.cmp(one).then_with(|| a.cmp(b)));
    *members = all.into_iter().map(|(weight, tag)| format!("{tag};{weight}")).collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::map;

    #[test]
    fn a_star_anywhere_means_anything() {
        for lines in [&[("vary", "*")][..], &[("vary", "foo, *")], &[("vary", ""), ("vary", "*")], &[("vary", "a b")]] {
            assert_eq!(Varies::of(&map(lines)), Varies::ByAnything, "{lines:?}");
        }
        assert_eq!(Varies::of(&map(&[("vary", "Origin, Accept-Encoding")])), Varies::Nothing);
        assert_eq!(Varies::of(&map(&[])), Varies::Nothing);
        let by = |names: &[&'static str]| Varies::By(names.iter().map(|name| HeaderName::from_static(name)).collect());
        assert_eq!(Varies::of(&map(&[("vary", "Foo, bar"), ("vary", "foo")])), by(&["bar", "foo"]));
    }

    #[test]
    fn requests_that_say_the_same_select_the_same() {
        let foo = [HeaderName::from_static("foo")];
        let same = |a: &[(&'static str, &str)], b: &[(&'static str, &str)]| {
            selection(&foo, &map(a)) == selection(&foo, &map(b))
        };
        assert!(
            same(&[("foo", "1, 2")], &[("foo", "1,2")]) && same(&[("foo", "1"), ("foo", "2")], &[("foo", "1 , 2")])
        );
        assert!(same(&[], &[("bar", "1")]));
        for other in [&[][..], &[("foo", "")], &[("foo", "2, 1")], &[("foo", "12")], &[("foo", "1")]] {
            assert!(!same(&[("foo", "1, 2")], other), "{other:?}");
        }
        assert!(!same(&[], &[("foo", "")]));
    }

    #[test]
    fn languages_are_a_weighted_set() {
        let fields = [ACCEPT_LANGUAGE];
        let of = |text: &str| selection(&fields, &map(&[("accept-language", text)]));
        assert_eq!(of("en, de"), of("DE,EN"));
        assert_eq!(of("en;q=0.5, de"), of("de, en; q=0.5"));
        assert_ne!(of("en;q=0.5, de"), of("de;q=0.5, en"));
    }
}

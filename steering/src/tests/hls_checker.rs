//! What every written multivariant playlist must be, read by a reader that shares nothing with the writer.

use std::collections::{BTreeMap, BTreeSet};

type Attributes = BTreeMap<String, String>;

const GROUPS: [&str; 4] = ["AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS"];

/// Attributes of a tag line; quoted values with their quotes.
fn attributes(line: &str) -> Result<Attributes, String> {
    let list = line.split_once(':').map_or("", |(_, list)| list);
    let (mut out, mut name, mut value) = (Attributes::new(), String::new(), None::<String>);
    let mut quoted = false;
    for c in list.chars().chain([',']) {
        match (&mut value, c) {
            (None, '=') => value = Some(String::new()),
            (None, ',') if name.trim().is_empty() => name.clear(),
            (None, ',') => return Err(format!("{name:?} has no value in {line:?}")),
            (None, c) => name.push(c),
            (Some(_), ',') if !quoted => {
                let (name, value) = (std::mem::take(&mut name), value.take().unwrap_or_default());
                if out.insert(name.trim().to_owned(), value.trim().to_owned()).is_some() {
                    return Err(format!("an attribute twice in {line:?}"));
                }
            }
            (Some(value), c) => {
                quoted ^= c == '"';
                value.push(c);
            }
        }
    }
    if quoted { Err(format!("an open quote in {line:?}")) } else { Ok(out) }
}

fn unquoted(value: Option<&String>) -> Option<&str> {
    value?.strip_prefix('"')?.strip_suffix('"')
}

/// A variant or I-frame variant with its URI.
#[derive(Debug)]
struct Variant {
    attributes: Attributes,
    uri: String,
    is_iframes: bool,
}

#[derive(Debug, Default)]
struct Playlist {
    steering: Vec<Attributes>,
    variants: Vec<Variant>,
    media: Vec<Attributes>,
    /// Every other line, with its ending.
    others: Vec<String>,
}

fn read(text: &str) -> Result<Playlist, String> {
    let mut out = Playlist::default();
    let mut open: Option<Attributes> = None;
    for whole in text.split_inclusive('\n') {
        let line = whole.trim_end_matches(['\r', '\n']);
        if line.starts_with("#EXT-X-STREAM-INF:") {
            open = Some(attributes(line)?);
        } else if line.starts_with("#EXT-X-I-FRAME-STREAM-INF:") {
            let attributes = attributes(line)?;
            let uri = unquoted(attributes.get("URI")).ok_or("an I-frame variant has no URI")?.to_owned();
            out.variants.push(Variant { attributes, uri, is_iframes: true });
        } else if line.starts_with("#EXT-X-MEDIA:") {
            out.media.push(attributes(line)?);
        } else if line.starts_with("#EXT-X-CONTENT-STEERING:") {
            out.steering.push(attributes(line)?);
        } else if line.starts_with('#') || line.trim().is_empty() || open.is_none() {
            out.others.push(whole.to_owned());
        } else if let Some(attributes) = open.take() {
            out.variants.push(Variant { attributes, uri: line.trim().to_owned(), is_iframes: false });
        }
    }
    Ok(out)
}

/// Checks `written`, made of `original`, for `pathways` (id and base URL, best first): nothing of the original is left
/// out, and each pathway has the same.
pub(crate) fn check(original: &str, written: &str, pathways: &[(&str, &str)]) -> Result<(), String> {
    let (before, after) = (read(original)?, read(written)?);
    let ensure = |holds: bool, words: &str| if holds { Ok(()) } else { Err(format!("{words}\n{written}")) };

    let [steering] = after.steering.as_slice() else { return Err("not exactly one steering tag".into()) };
    ensure(unquoted(steering.get("PATHWAY-ID")) == Some(pathways[0].0), "the first pathway is not the tag's")?;
    ensure(unquoted(steering.get("SERVER-URI")).is_some_and(|uri| uri.contains("://")), "no absolute SERVER-URI")?;

    let mut order: Vec<&str> = after.variants.iter().filter_map(|v| unquoted(v.attributes.get("PATHWAY-ID"))).collect();
    order.dedup();
    let names: Vec<&str> = pathways.iter().map(|(name, _)| *name).collect();
    ensure(order == names, "variants are not in the pathways' order")?;
    ensure(after.variants.len() == before.variants.len() * names.len(), "a variant is missing on some pathway")?;
    ensure(after.media.len() == before.media.len() * names.len(), "a rendition is missing on some pathway")?;

    let declared: BTreeSet<(&str, &str)> = after.media.iter().filter_map(group_of).collect();
    let known: BTreeSet<&str> = before.media.iter().filter_map(group_of).map(|(_, name)| name).collect();
    let mut owner: BTreeMap<&str, &str> = BTreeMap::new();
    for (index, (name, base)) in pathways.iter().enumerate() {
        let of = &after.variants[index * before.variants.len()..][..before.variants.len()];
        for (old, new) in before.variants.iter().zip(of) {
            ensure(unquoted(new.attributes.get("PATHWAY-ID")) == Some(name), "a variant on the wrong pathway")?;
            ensure(old.is_iframes == new.is_iframes, "variants in another order")?;
            ensure(new.uri.contains("://"), "a relative URI")?;
            let moved = new.uri != old.uri;
            ensure(!moved || new.uri.starts_with(base), "a URI of another pathway")?;
            ensure(unquoted(new.attributes.get("STABLE-VARIANT-ID")).is_some_and(is_stable), "no STABLE-VARIANT-ID")?;
            for (key, value) in old.attributes.iter().filter(|(key, _)| !["PATHWAY-ID", "URI"].contains(&key.as_str()))
            {
                let now = new.attributes.get(key).ok_or(format!("{key} is gone\n{written}"))?;
                let kind = GROUPS.into_iter().find(|kind| kind == key);
                match kind.zip(unquoted(Some(value)).filter(|name| known.contains(name))) {
                    None => ensure(now == value, "an attribute has changed")?,
                    Some((kind, _)) => {
                        let group = unquoted(Some(now)).unwrap_or_default();
                        ensure(declared.contains(&(kind, group)), "a group that no rendition declares")?;
                        ensure(*owner.entry(group).or_insert(name) == *name, "a group of two pathways")?;
                    }
                }
            }
        }
    }
    let stable = |range: &[Variant]| -> Vec<(String, String)> {
        let id = |v: &Variant| v.attributes["STABLE-VARIANT-ID"].clone();
        range.iter().zip(&before.variants).map(|(new, old)| (id(new), old.uri.clone())).collect()
    };
    let first = stable(&after.variants[..before.variants.len()]);
    for others in after.variants.chunks(before.variants.len()).skip(1) {
        ensure(stable(others) == first, "stable ids differ between pathways")?;
    }
    let given = before.variants.iter().any(|v| v.attributes.contains_key("STABLE-VARIANT-ID"));
    let by_id: BTreeSet<&String> = first.iter().map(|(id, _)| id).collect();
    let by_uri: BTreeSet<&String> = first.iter().map(|(_, uri)| uri).collect();
    ensure(given || by_id.len() == by_uri.len(), "two URIs under one stable id")?;

    let rest = |playlist: &Playlist| -> String { playlist.others.concat() };
    ensure(rest(&before) == rest(&after), "a line that is not steered has changed")
}

/// What must hold of a playlist that was written from anything at all.
pub(crate) fn check_loosely(written: &str, pathways: &[(&str, &str)]) -> Result<(), String> {
    let lines = || written.split('\n').map(|line| line.trim_end_matches('\r'));
    let ensure = |holds: bool, words: &str| if holds { Ok(()) } else { Err(format!("{words}\n{written}")) };
    let tags = |name: &str| lines().filter(|line| line.starts_with(name)).count();
    ensure(tags("#EXT-X-CONTENT-STEERING:") == 1, "not exactly one steering tag")?;
    let of = |name: &str| {
        let mark = format!("PATHWAY-ID=\"{name}\"");
        lines().filter(|line| line.starts_with("#EXT-X-STREAM-INF:") && line.contains(&mark)).count()
    };
    let counts: BTreeSet<usize> = pathways.iter().map(|(name, _)| of(name)).collect();
    ensure(counts.len() == 1 && !counts.contains(&0), "pathways with different variants, or none")?;
    ensure(tags("#EXT-X-STREAM-INF:") == pathways.iter().map(|(name, _)| of(name)).sum::<usize>(), "stray variants")
}

fn group_of(media: &Attributes) -> Option<(&str, &str)> {
    Some((media.get("TYPE")?, unquoted(media.get("GROUP-ID"))?))
}

fn is_stable(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=._-".contains(&b))
}

#[test]
fn the_checker_sees_what_is_wrong() {
    let original = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na\n";
    let tag = "#EXT-X-CONTENT-STEERING:SERVER-URI=\"http://s/\",PATHWAY-ID=\"x\"\n";
    let variant = |name: &str, base: &str| {
        format!("#EXT-X-STREAM-INF:BANDWIDTH=1,PATHWAY-ID=\"{name}\",STABLE-VARIANT-ID=\"a\"\n{base}/a\n")
    };
    let (x, y) = (variant("x", "http://x"), variant("y", "http://y"));
    let pathways = [("x", "http://x"), ("y", "http://y")];
    let good = format!("#EXTM3U\n{tag}{x}{y}");
    assert_eq!(check(original, &good, &pathways), Ok(()));
    let bad = [
        format!("#EXTM3U\n{x}{y}"),
        format!("#EXTM3U\n{tag}{y}{x}"),
        format!("#EXTM3U\n{tag}{x}"),
        format!("#EXTM3U\n{tag}{x}{}", variant("y", "http://x")),
        format!("#EXTM3U \n{tag}{x}{y}"),
        good.replace("BANDWIDTH=1,PATHWAY-ID=\"y\"", "BANDWIDTH=2,PATHWAY-ID=\"y\""),
        good.replace("http://y/a", "a"),
    ];
    for written in bad {
        assert!(check(original, &written, &pathways).is_err(), "{written}");
    }
}

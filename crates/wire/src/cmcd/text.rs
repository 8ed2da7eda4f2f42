//! Text in and out of structured fields.

use std::borrow::Cow;

/// A line whose strings hold bytes beyond ASCII with those strings as display strings (RFC 9651): hls.js and the library
/// behind it put raw UTF-8 into strings, which no parser may take.
pub(super) fn readable(line: &[u8]) -> Cow<'_, [u8]> {
    if line.is_ascii() {
        return Cow::Borrowed(line);
    }
    let mut out = Vec::with_capacity(line.len() * 2);
    let mut rest = line;
    while let Some(open) = rest.iter().position(|byte| *byte == b'"') {
        let (before, text) = rest.split_at(open);
        let Some((inner, after)) = closed(&text[1..]) else { break };
        out.extend_from_slice(before);
        if inner.is_ascii() || before.ends_with(b"%") {
            out.extend_from_slice(&text[..inner.len() + 2]);
        } else {
            out.extend_from_slice(b"%\"");
            display(inner, &mut out);
            out.push(b'"');
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// What stands before the closing quote, and behind it.
fn closed(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

/// A string's inside as a display string's.
fn display(inner: &[u8], out: &mut Vec<u8>) {
    let mut escaped = false;
    for byte in inner {
        if *byte == b'\\' && !escaped {
            escaped = true;
            continue;
        }
        escaped = false;
        if matches!(byte, 0x20..=0x7e) && !matches!(byte, b'%' | b'"' | b'\\') {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("%{byte:02x}").as_bytes());
        }
    }
}

/// A structured field's text for people and tables: strings without quotes and escapes, everything else as it stands.
pub(super) fn plain(text: &str) -> String {
    let inner = |text: &str, open: &str| Some(text.strip_prefix(open)?.strip_suffix('"')?.to_owned());
    if let Some(inner) = inner(text, "%\"") {
        return String::from_utf8_lossy(&percent_decoded(&inner)).into_owned();
    }
    let Some(inner) = inner(text, "\"") else { return text.to_owned() };
    let mut out = String::with_capacity(inner.len());
    let mut escaped = false;
    for c in inner.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            escaped = false;
            out.push(c);
        }
    }
    out
}

/// `%2C` and the like as bytes; what is no escape stays as it is.
pub(super) fn percent_decoded(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmcd::Cmcd;

    #[test]
    fn raw_utf8_in_a_string_is_read_and_everything_else_is_left_alone() {
        let line = "cid=\"gr\\\"ün\\\\ 100%\",com.example-who=\"a \\\"b\\\"\",ts=5";
        let record = Cmcd::parse(line.as_bytes()).expect("read");
        assert_eq!(record.cid.as_deref(), Some("gr\"ün\\ 100%"));
        assert_eq!(plain(&record.others["com.example-who"]), "a \"b\"");
        assert_eq!(Cmcd::parse(record.encode().as_bytes()), Ok(record));
        for bad in ["cid=\"ü", "cid=ü", "ü=1", "cid=\"\u{fffd}\",\"ü"] {
            assert!(Cmcd::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Cmcd::parse(b"cid=\"\xff\"").is_err(), "not UTF-8");
    }
}

//! Request mode: one record with a media request, in its query or its headers. Own edges and importers of CDN logs read
//! it.

use super::text::percent_decoded;
use super::{Cmcd, RecordError};

/// The four request headers, in the order in which they are read.
pub const HEADERS: [&str; 4] = ["cmcd-object", "cmcd-request", "cmcd-session", "cmcd-status"];

/// The record of a request: of its query, or else of its headers; `None` if it has none.
///
/// `query` is what stands behind the `?`; `header` gives a header's value by its lower-case name.
///
/// # Errors
/// The [`RecordError`] of the dictionary; `e` and `ts` are not asked for.
pub fn parse_request<'a>(
    query: Option<&str>,
    header: impl Fn(&str) -> Option<&'a [u8]>,
) -> Result<Option<Cmcd>, RecordError> {
    match query.map(parse_query).transpose()?.flatten() {
        Some(record) => Ok(Some(record)),
        None => parse_headers(HEADERS.into_iter().filter_map(header)),
    }
}

/// The record of a query's argument `CMCD`.
///
/// # Errors
/// As [`parse_request`].
pub fn parse_query(query: &str) -> Result<Option<Cmcd>, RecordError> {
    let arguments = query.split('&').filter_map(|argument| argument.split_once('='));
    let value = arguments.into_iter().find(|(name, _)| *name == "CMCD").map(|(_, value)| value);
    value.filter(|value| !value.is_empty()).map(|value| Cmcd::parse(&percent_decoded(value))).transpose()
}

/// The record of the values of `CMCD-Object`, `-Request`, `-Session` and `-Status`, those that are there.
///
/// # Errors
/// As [`parse_request`]; one bad header makes the record bad.
pub fn parse_headers<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Cmcd>, RecordError> {
    let mut record = None;
    for value in values {
        record.get_or_insert_with(Cmcd::default).add(value)?;
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmcd::{Measure, ObjectType};

    #[test]
    fn the_query_is_found_among_others_and_decoded() {
        let query = "a=1&CMCD=bl%3D%283900%3Bv%29%2Cbr%3D%28300%29%2Csid%3D%22s-1%22%2Cv%3D2&b=2";
        let record = parse_request(Some(query), |_| None).expect("read").expect("there");
        assert_eq!(record.bl_ms, Some(vec![Measure { value: 3_900, object: Some(ObjectType::Video) }]));
        assert_eq!((record.sid.as_deref(), record.v), (Some("s-1"), Some(2)));
        assert_eq!(parse_query("a=1&cmcd=bl%3D1"), Ok(None));
        assert_eq!(parse_query("CMCD="), Ok(None));
        assert!(matches!(parse_query("CMCD=%zz%2"), Err(RecordError::BadSyntax(_))));
    }

    #[test]
    fn the_four_headers_are_one_record() {
        let header = |name: &str| -> Option<&[u8]> {
            match name {
                "cmcd-object" => Some(b"br=3200,d=4004,ot=v,tb=6000"),
                "cmcd-request" => Some(b"bl=21300,mtp=48100"),
                "cmcd-session" => Some(b"sid=\"6e2fb550\",st=v,sf=d"),
                "cmcd-status" => Some(b"bs,rtp=12000"),
                _ => None,
            }
        };
        let record = parse_request(Some("x=y"), header).expect("read").expect("there");
        assert_eq!((record.d_ms, record.bs, record.rtp_kbps), (Some(4_004), Some(true), Some(12_000)));
        assert_eq!(record.encode().matches(',').count(), 10);
        assert_eq!(parse_headers([]), Ok(None));
    }
}

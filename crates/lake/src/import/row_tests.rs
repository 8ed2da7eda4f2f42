use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const NEW_YEAR_MS: u64 = 1_767_225_600_000;

fn parser(format: LogFormat, maps: &[&str]) -> Parser {
    Parser::new(&ImportOptions {
        format,
        maps: maps.iter().map(|map| map.parse().expect("a map")).collect(),
        pathway: None,
        bad_max_percent: 5.0,
        received_ms: NEW_YEAR_MS,
        complete: Arc::new(|_: &mut Delivery| ()),
    })
}

fn row(parser: &mut Parser, line: &str) -> Delivery {
    match parser.parse(line) {
        Parsed::Row(row) => *row,
        Parsed::Bad(reason) => panic!("{reason}: {line}"),
        Parsed::Nothing | Parsed::Skipped(_) => panic!("no row: {line}"),
    }
}

fn bad(parser: &mut Parser, line: &str) -> &'static str {
    match parser.parse(line) {
        Parsed::Bad(reason) => reason,
        _ => panic!("not bad: {line}"),
    }
}

/// Two lines as CloudFront writes them (its guide's example, with our names).
const CLOUDFRONT: &str = "2025-12-31\t23:59:59\tLAX1\t2390282\t192.0.2.202\tGET\td111111abcdef8.cloudfront.net\t/live/seg%20140.m4s\t206\t-\tMozilla/5.0%20(Windows%20NT%2010.0;%20Win64;%20x64)\tCMCD=br%253D3200%252Csid%253D%2522k3v9Zt0a%2522\t-\tHit\tSOX4xwn4XV6Q4rgb7XiVGOHms_BGlTAC4KyHmureZmBNrjGdRLiNIQ==\tmedia.example.net\thttps\t23\t0.412\t-\tTLSv1.2\tECDHE-RSA-AES128-GCM-SHA256\tHit\tHTTP/2.0\t-\t-\t11040\t0.011\tHit\tvideo/mp4\t2390000\t-\t-";

#[test]
fn a_line_of_cloudfront_is_a_delivery() {
    let mut parser = parser(LogFormat::CloudFront, &[]);
    assert!(matches!(parser.parse("#Version: 1.0"), Parsed::Nothing));
    let row = row(&mut parser, CLOUDFRONT);
    assert_eq!(row.delivered_ms, NEW_YEAR_MS - 1_000);
    assert_eq!((row.host.as_deref(), row.path.as_deref()), (Some("media.example.net"), Some("/live/seg%20140.m4s")));
    assert_eq!(
        (row.status, row.bytes, row.ttfb_ms, row.duration_ms),
        (Some(206), Some(2_390_282), Some(11), Some(412))
    );
    assert_eq!((row.cache_status.as_deref(), row.protocol.as_deref()), (Some("hit"), Some("HTTP/2")));
    assert_eq!((row.cmcd["br"].as_str(), row.view_id.as_deref()), ("3200", Some("k3v9Zt0a")));
    assert_eq!(row.address, None, "dropped");
}

#[test]
fn columns_are_those_that_the_log_names() {
    let mut parser = parser(LogFormat::CloudFront, &[]);
    let header = "#Fields: date time c-ip cs(Host) cs-uri-stem sc-status sc-bytes";
    assert!(matches!(parser.parse(header), Parsed::Nothing));
    let row = row(&mut parser, "2025-12-31\t23:59:59\t2001:db8::1\tmedia.example.net\t/a.ts\t000\t0");
    assert_eq!((row.status, row.bytes, row.path.as_deref()), (Some(0), Some(0), Some("/a.ts")));
    assert_eq!(bad(&mut parser, "2025-12-31\t23:59:59\t2001:db8::1"), "bad_columns");
    assert_eq!(bad(&mut parser, "2025-12-31\t25:00:00\t::1\th\t/a\t200\t1"), "bad_time");
    assert_eq!(bad(&mut parser, "2025-12-31\t23:00:00\t::1\th\t/a\tOK\t1"), "bad_number");
    assert_eq!(bad(&mut parser, "-\t-\t::1\th\t/a\t200\t1"), "missing_time");
    let json =
        r#"{"date":"2025-12-31","time":"23:59:59","sc-bytes":"7","sc-status":"200","c-ip":"::1","cs(Host)":"h"}"#;
    assert_eq!(self::row(&mut parser, json).bytes, Some(7), "standard logging v2");
}

/// The format of Fastly's guides.
const FASTLY: &str = r#"{ "timestamp": "2025-12-31T23:59:59+0000", "client_ip": "192.0.2.7", "geo_country": "germany", "geo_city": "berlin", "host": "media.example.net", "url": "/live/seg-1.m4s?token=secret&CMCD=ot%3Dv%2Csid%3D%22k3v9%22", "request_method": "GET", "request_protocol": "HTTP/1.1", "request_referer": "", "request_user_agent": "x", "response_state": "HIT-CLUSTER", "response_status": 200, "response_reason": "OK", "response_body_size": 1250000, "fastly_server": "cache-fra1", "fastly_is_edge": true }"#;

#[test]
fn a_line_of_fastly_is_a_delivery_and_a_shields_is_none() {
    let mut parser = parser(LogFormat::Fastly, &["time_elapsed=duration_ms:us"]);
    let row = row(&mut parser, FASTLY);
    assert_eq!((row.delivered_ms, row.status, row.bytes), (NEW_YEAR_MS - 1_000, Some(200), Some(1_250_000)));
    assert_eq!((row.path.as_deref(), row.cache_status.as_deref()), (Some("/live/seg-1.m4s"), Some("hit")));
    assert_eq!((row.country.as_deref(), row.view_id.as_deref()), (None, Some("k3v9")), "a name is no code");
    assert!(!serde_json::to_string(&row).expect("json").contains("secret"));
    let timed = FASTLY.replace("\"geo_city\"", "\"time_elapsed\": 412000, \"geo_city\"");
    assert_eq!(self::row(&mut parser, &timed).duration_ms, Some(412));
    assert!(matches!(parser.parse(&FASTLY.replace("true", "false")), Parsed::Skipped("shield")));
    assert!(matches!(parser.parse("["), Parsed::Nothing));
    assert_eq!(self::row(&mut parser, &format!("{FASTLY},")).bytes, Some(1_250_000), "a line of an array");
}

/// The sample of Akamai's guide.
const AKAMAI: &str = r#"{"version":1,"streamId":"12345","cp":"123456","reqId":"1239f220","reqTimeSec":"1573840000.250","bytes":"4995","cliIP":"128.147.28.68","statusCode":"206","proto":"HTTPS","reqHost":"test.hostname.net","reqMethod":"GET","reqPath":"path1/path2/file.ext","reqPort":"443","rspContentLen":"5000","totalBytes":"0","queryStr":"cmcd=//1.0@V/bl=21600,br=1426,sid=%229f36f5c9-d6a2%22,su","turnAroundTimeMSec":"11","transferTimeMSec":"125","country":"IN","cacheStatus":"1","asn":"64500","errorCode":"-"}"#;

#[test]
fn a_line_of_akamai_is_a_delivery() {
    let row = row(&mut parser(LogFormat::Akamai, &[]), AKAMAI);
    assert_eq!(row.delivered_ms, 1_573_840_000_250);
    assert_eq!((row.status, row.bytes, row.asn), (Some(206), Some(4_995), Some(64_500)));
    assert_eq!((row.ttfb_ms, row.duration_ms), (Some(11), Some(136)));
    assert_eq!((row.host.as_deref(), row.path.as_deref()), (Some("test.hostname.net"), Some("/path1/path2/file.ext")));
    assert_eq!((row.country.as_deref(), row.cache_status.as_deref()), (Some("IN"), Some("hit")));
    assert_eq!((row.cmcd["su"].as_str(), row.view_id.as_deref()), ("true", Some("9f36f5c9-d6a2")));
}

#[test]
fn our_own_rows_are_read_with_cmcd_in_every_form() {
    let mut parser = parser(LogFormat::CmcdLog, &[]);
    let line = |cmcd: &str| format!(r#"{{"delivered_ms":1767225600000,"pathway":"own-a-1","bytes":5,{cmcd}}}"#);
    for cmcd in [
        r#""cmcd":{"br":2400,"sid":"abc"}"#,
        r#""cmcd":"br=2400,sid=\"abc\"""#,
        r#""cmcd_object":"br=2400","cmcd_session":"sid=\"abc\"""#,
        r#""url":"https://edge.example/a.m4s?CMCD=br%3D2400%2Csid%3D%22abc%22""#,
    ] {
        let row = row(&mut parser, &line(cmcd));
        assert_eq!(row.cmcd, BTreeMap::from([("br".into(), "2400".into()), ("sid".into(), "abc".into())]), "{cmcd}");
        assert_eq!((row.view_id.as_deref(), row.pathway.as_deref()), (Some("abc"), Some("own-a-1")), "{cmcd}");
    }
    assert_eq!(bad(&mut parser, "{"), "bad_json");
    assert_eq!(bad(&mut parser, "[]"), "bad_json");
    assert_eq!(bad(&mut parser, "127.0.0.1 - - [x]"), "bad_json");
    assert_eq!(bad(&mut parser, "{}"), "missing_time");
    assert_eq!(bad(&mut parser, r#"{"delivered_ms":"soon"}"#), "bad_time");
    assert_eq!(bad(&mut parser, r#"{"delivered_ms":5}"#), "bad_time");
    assert_eq!(bad(&mut parser, r#"{"delivered_ms":4102444800000}"#), "bad_time");
    assert_eq!(bad(&mut parser, r#"{"delivered_ms":1767225600000,"bytes":-1}"#), "bad_number");
    assert_eq!(bad(&mut parser, r#"{"delivered_ms":1767225600000,"status":99999}"#), "bad_number");
    assert_eq!(bad(&mut parser, r#"{"delivered_ms":1767225600000,"requests":0}"#), "bad_value");
}

proptest! {
    #[test]
    fn a_damaged_line_of_any_format_is_bad_or_a_row_and_never_a_crash(
        which in 0..3_usize,
        at in any::<prop::sample::Index>(),
        length in 0..40_usize,
        with in ".{0,8}",
    ) {
        let (format, line) = [
            (LogFormat::CloudFront, CLOUDFRONT),
            (LogFormat::Fastly, FASTLY),
            (LogFormat::Akamai, AKAMAI),
        ][which];
        let begin = at.index(line.len());
        let end = (begin + length).min(line.len());
        prop_assume!(line.is_char_boundary(begin) && line.is_char_boundary(end));
        let damaged = format!("{}{with}{}", &line[..begin], &line[end..]);
        let mut parser = parser(format, &[]);
        if let Parsed::Row(row) = parser.parse(&damaged) {
            prop_assert!(row.check().is_ok() && row.address.is_none());
        }
    }
}

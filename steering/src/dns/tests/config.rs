//! `[steer.dns]` as operators write it.

use super::{DnsConfig, World, config};
use crate::dns::Dns;

const GOOD: &str = r#"
    listen = ["127.0.0.1:5353", "[::1]:5353"]
    zone = "cdn.example.net"
    nameservers = { "ns1.cdn.example.net" = ["192.0.2.53"], "ns2.example.org" = [] }
    contact = "dns@example.net"
    names = { live = "live/", "*.live" = "live/", vod = "vod/" }
    [targets.own-x-1]
    a = ["198.51.100.1"]
    aaaa = ["2001:db8::1"]
    [targets.cdn-a]
    cname = "d111.cloudfront.example."
"#;

fn checked(text: &str) -> Result<crate::dns::DnsSettings, String> {
    let config: DnsConfig =
        spillway_service::config::parse(std::path::Path::new("x.toml"), text).map_err(|error| error.to_string())?;
    config.check().map_err(|error| error.to_string())
}

#[test]
fn the_sample_is_read_with_its_defaults() {
    let settings = checked(GOOD).expect("valid");
    assert_eq!((settings.ttl_s, settings.answers_per_prefix_per_s, settings.tcp_connections_max), (30, 2_000, 256));
    assert_eq!((settings.names.len(), settings.targets.len(), settings.nameservers.len()), (3, 2, 2));
    assert_eq!(settings.contact.to_string(), "dns.example.net.");
}

#[test]
fn each_wrong_value_is_named_with_what_is_valid() {
    let cases = [
        (r#"["127.0.0.1:5353", "[::1]:5353"]"#, "[]", "steer.dns.listen"),
        (r#"zone = "cdn.example.net""#, r#"zone = "a..b""#, "steer.dns.zone"),
        (r#"zone = "cdn.example.net""#, r#"zone = ".""#, "steer.dns.zone"),
        (r#"zone ="#, "ttl_s = 0\nzone =", "steer.dns.ttl_s"),
        (r#"zone ="#, "ttl_s = 86400\nzone =", "steer.dns.ttl_s"),
        (r#"zone ="#, "tcp_connections_max = 0\nzone =", "steer.dns.tcp_connections_max"),
        (r#"zone ="#, "answers_per_prefix_per_s = 0\nzone =", "steer.dns.answers_per_prefix_per_s"),
        (r#"zone ="#, "zones = 1\nzone =", "zones"),
        ("dns@example.net", "dns.example.net", "steer.dns.contact"),
        (r#"["192.0.2.53"]"#, "[]", "steer.dns.nameservers.ns1.cdn.example.net"),
        (r#""ns2.example.org" = []"#, r#""ns2.example.org" = ["192.0.2.54"]"#, "steer.dns.nameservers.ns2.example.org"),
        (r#"{ "ns1.cdn.example.net" = ["192.0.2.53"], "ns2.example.org" = [] }"#, "{}", "steer.dns.nameservers"),
        (r#"vod = "vod/""#, r#""vod." = "vod/""#, "steer.dns.names.vod."),
        (r#"vod = "vod/""#, r#""" = "vod/""#, "steer.dns.names."),
        (r#"vod = "vod/""#, r#""a.*" = "vod/""#, "steer.dns.names.a.*"),
        (r#"vod = "vod/""#, r#"ns1 = "vod/""#, "steer.dns.names.ns1"),
        (r#"a = ["198.51.100.1"]"#, r#"cname = "x.example""#, "steer.dns.targets.own-x-1.cname"),
        ("d111.cloudfront.example.", "x.cdn.example.net", "steer.dns.targets.cdn-a.cname"),
        (r#"cname = "d111.cloudfront.example.""#, "", "steer.dns.targets.cdn-a"),
    ];
    for (good, bad, key) in cases {
        assert!(GOOD.contains(good), "{good}");
        let error = checked(&GOOD.replacen(good, bad, 1)).expect_err(bad);
        assert!(error.contains(key), "{bad}: {error}");
    }
}

#[test]
fn a_target_is_a_pathway_and_a_host_in_the_zone_needs_addresses() {
    let refused = |change: fn(&mut DnsConfig)| {
        let world = World::new();
        let mut config = config();
        change(&mut config);
        Dns::new(&world.state, &config.check().expect("valid by itself")).err().expect("refused").to_string()
    };
    let unknown = refused(|config| {
        let target = config.targets["own-x-1"].clone();
        config.targets.insert("own-z".into(), target);
    });
    assert!(
        unknown.contains("steer.dns.targets") && unknown.contains("own-z") && unknown.contains("cdn-a"),
        "{unknown}"
    );
    let within = refused(|config| {
        // Every pathway of the test is NAME.example.
        config.zone = "example".into();
        config.nameservers = [("ns.example.org".to_owned(), vec![])].into();
    });
    assert!(within.contains("steer.dns.targets.cdn-a") && within.contains("base_url"), "{within}");
}

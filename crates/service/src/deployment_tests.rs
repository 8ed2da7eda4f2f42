use super::*;
use crate::geo::Stated;

fn region(id: &str) -> RegionConfig {
    RegionConfig {
        id: id.into(),
        mode: control(),
        control_share: 0.99,
        static_weights: BTreeMap::from([("cdn-a".into(), 1.0)]),
        probe_from: None,
        countries: vec![],
        continents: vec![],
        classes: BTreeMap::new(),
    }
}

fn pathway(id: &str, base_url: &str) -> PathwayConfig {
    PathwayConfig {
        id: id.into(),
        base_url: base_url.into(),
        regions: vec![],
        group: None,
        capacity_mbps: 100.0,
        price_usd_per_gb: 0.01,
        price: PriceConfig::default(),
        pop: None,
        failure_domains: vec![],
        origin_group: default_origin_group(),
        classes: vec![],
        codecs: vec![],
        drm: vec![],
        territories: vec![],
        address_families: vec![],
        signer: None,
        capacity_feed: None,
    }
}

fn prefix(prefix: &str, region: &str, asn: u32) -> PrefixConfig {
    PrefixConfig { prefix: prefix.into(), region: region.into(), asn: Some(asn), country: None }
}

#[test]
fn the_longest_prefix_wins_and_hosts_find_their_pathway() {
    let deployment = Deployment::new(
        vec![],
        vec![region("eu-a"), region("eu-b")],
        vec![pathway("cdn-a", "http://a.example:8080/x")],
        vec![
            prefix("127.11.0.0/16", "eu-a", 1),
            prefix("127.11.2.0/24", "eu-b", 2),
            prefix("2001:db8::/32", "eu-b", 3),
        ],
    )
    .expect("valid");
    let cohort = |text: &str| deployment.cohort(text.parse().expect("address"));
    assert_eq!(cohort("127.11.1.9").asn, Some(1));
    assert_eq!((cohort("127.11.2.9").asn, cohort("127.11.2.9").region.as_str().to_owned()), (Some(2), "eu-b".into()));
    assert_eq!(cohort("2001:db8::1").asn, Some(3));
    assert_eq!(cohort("::ffff:127.11.1.9").asn, Some(1));
    assert_eq!(cohort("8.8.8.8"), Cohort { region: RegionId::new("eu-a").expect("id"), asn: None });
    assert_eq!(deployment.pathway_of_host("a.example:8080").map(PathwayId::as_str), Some("cdn-a"));
}

#[test]
fn a_wrong_value_names_key_value_and_what_is_valid() {
    let fails = |pathways, prefixes| {
        Deployment::new(vec![], vec![region("eu-a")], pathways, prefixes).expect_err("invalid").to_string()
    };
    let text = fails(vec![pathway("cdn-a", "ftp://x")], vec![]);
    assert_eq!(
        text,
        "configuration key `pathway[cdn-a].base_url`: value \"ftp://x\" is not valid (valid: an absolute http:// or https:// URL)"
    );
    let text = fails(vec![pathway("cdn-a", "http://a")], vec![prefix("10.0.0.0/8", "mars", 1)]);
    assert!(text.contains("mars") && text.contains("eu-a"), "{text}");
    let text = fails(vec![pathway("cdn-b", "http://b")], vec![]);
    assert!(text.contains("static_weights") && text.contains("cdn-a"), "{text}");
}

#[test]
fn each_of_region_network_and_country_comes_from_the_first_that_knows() {
    let mut eu = region("eu");
    eu.continents = vec!["eu".into()];
    let mut nordic = region("nordic");
    nordic.countries = vec!["SE".into(), "no".into()];
    let on_net = PrefixConfig { country: Some("DE".into()), ..prefix("10.1.0.0/16", "us", 64_500) };
    let without_asn = PrefixConfig { asn: None, ..prefix("10.2.0.0/16", "us", 0) };
    let pathways = vec![pathway("cdn-a", "http://a.example")];
    let regions = vec![eu, nordic, region("us")];
    let geo = GeoConfig { default_region: Some("us".into()), ..GeoConfig::default() };
    let deployment =
        Deployment::new(vec![], regions, pathways, vec![on_net, without_asn]).expect("valid").with_geo(&geo);
    let deployment = deployment.expect("valid");
    let at = |address: &str, region: Option<&str>, asn: Option<u32>, country: &str| {
        let stated = Stated { region: region.map(str::to_owned), asn, country: Country::new(country) };
        let place = deployment.locate(&Client { address: address.parse().expect("address"), stated });
        let country = place.country.map(|country| country.as_str().to_owned()).unwrap_or_default();
        (place.cohort.region.as_str().to_owned(), place.cohort.asn, country, place.told_by)
    };
    let is = |region: &str, asn, country: &str, told_by| (region.to_owned(), asn, country.to_owned(), told_by);
    assert_eq!(at("10.1.0.1", Some("eu"), Some(7), "SE"), is("us", Some(64_500), "DE", "prefix"));
    assert_eq!(at("10.2.0.1", Some("eu"), Some(7), "SE"), is("us", Some(7), "SE", "prefix"));
    assert_eq!(at("192.0.2.1", Some("nordic"), Some(7), "DE"), is("nordic", Some(7), "DE", "header"));
    assert_eq!(at("192.0.2.1", Some("mars"), None, "SE"), is("nordic", None, "SE", "header"));
    assert_eq!(at("192.0.2.1", None, None, "FR"), is("eu", None, "FR", "header"));
    assert_eq!(at("192.0.2.1", None, None, "JP"), is("us", None, "JP", "default"));
    assert_eq!(at("192.0.2.1", None, None, ""), is("us", None, "", "default"));
}

#[test]
fn a_country_that_is_none_or_in_two_regions_is_refused() {
    let fails = |countries: &[&str], continents: &[&str]| {
        let with = |id: &str| RegionConfig {
            countries: countries.iter().map(|code| (*code).to_owned()).collect(),
            continents: continents.iter().map(|code| (*code).to_owned()).collect(),
            ..region(id)
        };
        let pathways = vec![pathway("cdn-a", "http://a.example")];
        Deployment::new(vec![], vec![with("eu-a"), with("eu-b")], pathways, vec![]).expect_err("bad").to_string()
    };
    assert!(fails(&["Germany"], &[]).contains("region[eu-a].countries"));
    assert!(fails(&["DE"], &[]).contains("eu-a has it too"));
    assert!(fails(&[], &["Europe"]).contains("AF, AN, AS, EU, NA, OC, SA"));
    assert!(fails(&[], &["EU"]).contains("region[eu-b].continents"));
    let geo = GeoConfig { default_region: Some("mars".into()), ..GeoConfig::default() };
    let deployment = Deployment::new(vec![], vec![region("eu-a")], vec![pathway("cdn-a", "http://a.example")], vec![]);
    assert!(deployment.expect("valid").with_geo(&geo).expect_err("bad").to_string().contains("eu-a"));
}

#[test]
fn what_a_pathway_may_serve_is_checked_and_countries_are_written_alike() {
    let of = |change: &dyn Fn(&mut PathwayConfig)| {
        let mut one = pathway("cdn-a", "http://a.example");
        change(&mut one);
        Deployment::new(vec![], vec![region("eu-a")], vec![one], vec![]).map_err(|error| error.to_string())
    };
    let good = of(&|one| {
        one.territories = vec!["de".into(), "AT".into()];
        one.address_families = vec!["v6".into()];
        (one.codecs, one.drm) = (vec!["avc1".into()], vec!["com.widevine.alpha".into()]);
    });
    let id = PathwayId::new("cdn-a").expect("id");
    assert_eq!(good.expect("valid").pathways[&id].territories, ["DE", "AT"]);
    for (change, words) in [
        (
            &(|one: &mut PathwayConfig| one.codecs = vec!["avc1,mp4a".into()]) as &dyn Fn(&mut _),
            ["codecs", "avc1,mp4a"],
        ),
        (&|one: &mut PathwayConfig| one.drm = vec![String::new()], ["drm", "1 to 32"]),
        (&|one: &mut PathwayConfig| one.territories = vec!["Germany".into()], ["territories", "two letters"]),
        (&|one: &mut PathwayConfig| one.address_families = vec!["ipv4".into()], ["address_families", "v4, v6"]),
    ] {
        let error = of(change).expect_err("refused");
        assert!(words.iter().all(|word| error.contains(word)) && error.contains("pathway[cdn-a]."), "{error}");
    }
}

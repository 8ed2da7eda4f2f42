//! Signed URLs against fronts that check them as each vendor documents it.

use std::collections::BTreeMap;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use md5::{Digest as _, Md5};
use sha2::Sha256;
use spillway_model::{Millis, TimestampMs};
use spillway_routing::{Manifest, Pathway};
use spillway_service::config::Secret;
use spillway_wire::signed_url::own::Keys;
use url::Url;

use super::fixtures::{NOW, config, deployment, id, manifest, sealed};
use super::node::Node;
use crate::SignerConfig;
use crate::signers::{Grant, Signers, title_folder};

const AKAMAI_KEY: &str = "00112233445566778899aabbccddeeff";
const FASTLY_KEY: &str = "iqFPeN2u+Z0Lm5IrsKaOFKRqEU5Gw8ePtaEkHZWuD24=";
const NGINX_KEY: &str = "nginx-secret-of-16";
const OWN_KEY: &str = "own-edge-key-of-32-bytes-or-more";
/// Pathway, signer.
pub(crate) const SIGNED_BY: [(&str, &str); 5] =
    [("cdn-a", "akamai"), ("cdn-b", "cloudfront"), ("cdn-c", "nginx"), ("own-x-1", "own"), ("own-x-2", "fastly")];

/// What the fronts know.
pub(crate) struct Fronts {
    rsa: RsaKeyPair,
}

impl Fronts {
    pub(crate) fn new() -> Self {
        Self { rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("a key") }
    }

    pub(crate) fn signers(&self) -> BTreeMap<String, SignerConfig> {
        let der = self.rsa.as_der().expect("DER");
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", STANDARD.encode(der.as_ref()));
        let text = format!(
            "akamai = {{ kind = \"akamai\", key = \"{AKAMAI_KEY}\" }}\n\
             cloudfront = {{ kind = \"cloudfront\", key_pair_id = \"K1\", key = '''{pem}''' }}\n\
             nginx = {{ kind = \"nginx\", key = \"{NGINX_KEY}\", folders = 3 }}\n\
             fastly = {{ kind = \"fastly\", key = \"{FASTLY_KEY}\", folders = 3 }}\n\
             own = {{ kind = \"own\", key = \"{OWN_KEY}\" }}\n"
        );
        toml::from_str(&text).expect("signers")
    }

    /// What the pathway's front says to a URL: the path that it would serve, or nothing.
    pub(crate) fn accepts(&self, pathway: &str, url: &str, now_s: u64) -> Option<String> {
        let url = Url::parse(url).expect("a URL");
        assert_eq!(url.host_str(), Some(format!("{pathway}.example").as_str()));
        let signer = SIGNED_BY.into_iter().find(|(id, _)| *id == pathway).expect("signed").1;
        match signer {
            "akamai" => akamai(&url, now_s),
            "cloudfront" => self.cloudfront(&url, now_s),
            "nginx" => nginx(&url, now_s),
            "fastly" => fastly(&url, now_s),
            _ => {
                let keys = Keys::new(OWN_KEY, None).expect("keys");
                keys.verify(url.path(), now_s).ok().map(|opened| opened.path.to_owned())
            }
        }
    }

    /// Developer guide, "Use signed URLs", custom policy.
    fn cloudfront(&self, url: &Url, now_s: u64) -> Option<String> {
        let field = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let read = |text: String| STANDARD.decode(text.replace('-', "+").replace('_', "=").replace('~', "/")).ok();
        let (policy, signature) = (read(field("Policy")?)?, read(field("Signature")?)?);
        assert_eq!((field("Key-Pair-Id")?.as_str(), field("Hash-Algorithm")?.as_str()), ("K1", "SHA256"));
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.rsa.public_key().as_ref());
        key.verify(&policy, &signature).ok()?;
        let policy: serde_json::Value = serde_json::from_slice(&policy).ok()?;
        let statement = &policy["Statement"][0];
        let covered = statement["Resource"].as_str()?.strip_suffix('*')?;
        let ends = statement["Condition"]["DateLessThan"]["AWS:EpochTime"].as_u64()?;
        (now_s < ends && url.as_str().starts_with(covered)).then(|| url.path().to_owned())
    }
}

fn hmac_hex(key: &[u8], text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// "Auth Token 2.0 Verification" of a property.
fn akamai(url: &Url, now_s: u64) -> Option<String> {
    let token = url.query()?.split('&').find_map(|pair| pair.strip_prefix("hdnts="))?;
    let (signed, mac) = token.rsplit_once("~hmac=")?;
    let key: Vec<u8> =
        (0..16).map(|at| u8::from_str_radix(&AKAMAI_KEY[at * 2..at * 2 + 2], 16).expect("hex")).collect();
    let field = |name: &str| signed.split('~').find_map(|field| field.strip_prefix(name));
    let (ends, acl): (u64, &str) = (field("exp=")?.parse().ok()?, field("acl=")?.strip_suffix('*')?);
    (hmac_hex(&key, signed) == mac && now_s < ends && url.path().starts_with(acl)).then(|| url.path().to_owned())
}

/// `/TOKEN/` before a path of which the first three folders are covered, as the samples in docs/signed-urls.md have it.
fn behind_token(url: &Url) -> Option<(&str, &str, &str)> {
    let (token, _) = url.path().strip_prefix('/')?.split_once('/')?;
    let path = &url.path()[1 + token.len()..];
    let end = path.match_indices('/').nth(3)?.0;
    Some((token, path, &path[..=end]))
}

/// `secure_link $token; secure_link_md5 "$secure_link_expires$folder SECRET";`
fn nginx(url: &Url, now_s: u64) -> Option<String> {
    let (token, path, folder) = behind_token(url)?;
    let (hash, ends) = token.split_once(',')?;
    let fits = hash == URL_SAFE_NO_PAD.encode(Md5::digest(format!("{ends}{folder} {NGINX_KEY}")));
    (fits && now_s <= ends.parse().ok()?).then(|| path.to_owned())
}

/// `digest.hmac_sha256(digest.base64_decode(KEY), folder + expiry)`.
fn fastly(url: &Url, now_s: u64) -> Option<String> {
    let (token, path, folder) = behind_token(url)?;
    let (ends, mac) = token.split_once('_')?;
    let fits = mac == hmac_hex(&STANDARD.decode(FASTLY_KEY).expect("base64"), &format!("{folder}{ends}"));
    (fits && now_s <= ends.parse().ok()?).then(|| path.to_owned())
}

fn signed_manifest(epoch: u64) -> Manifest {
    let mut out = manifest(epoch, &[("cdn-a", 1_000_000)]);
    for (name, signer) in SIGNED_BY {
        out.pathways.get_mut(name).expect("there").signer = Some(signer.into());
    }
    out
}

/// A segment of a title as a player asks for it: relative to the media playlist, with the query that the SDK adds.
fn segment(media_playlist: &str, grant: &Grant) -> String {
    let mut url = Url::parse(media_playlist).expect("a URL").join("s-17.m4s").expect("relative");
    url.set_query(grant.query());
    url.into()
}

#[test]
fn a_session_signed_at_its_start_survives_every_switch_until_its_end() {
    let fronts = Fronts::new();
    let signers = Signers::new(&fronts.signers()).expect("signers");
    let plan = signed_manifest(1);
    let folder = title_folder("vod/lake/master.m3u8");
    let grants: Vec<(&str, Grant)> =
        SIGNED_BY.map(|(name, _)| (name, signers.grant(&plan.pathways[&id(name)], &folder, NOW))).into();
    let start_s = NOW.0 / 1_000;
    // It begins on the first, and is moved four times: to each of the others.
    for (hour, (name, grant)) in grants.iter().enumerate() {
        let now_s = start_s + hour as u64 * 4_500;
        let playlist = grant.url("/vod/lake/720/i.m3u8?x=a~b%7E");
        assert_eq!(fronts.accepts(name, &playlist, now_s).as_deref(), Some("/p/vod/lake/720/i.m3u8"), "{playlist}");
        assert!(playlist.contains("x=a~b%7E"), "{playlist}");
        let media = segment(&playlist, grant);
        assert_eq!(fronts.accepts(name, &media, now_s).as_deref(), Some("/p/vod/lake/720/s-17.m4s"), "{media}");

        let other_title = media.replace("vod/lake", "vod/pond");
        assert_eq!(fronts.accepts(name, &other_title, now_s), None, "{other_title}");
        let longer = media.replace("18000", "18001");
        assert!(*name == "cdn-b" || longer != media, "{media}");
        assert!(*name == "cdn-b" || fronts.accepts(name, &longer, now_s).is_none(), "{longer}");
        let plain = format!("http://{name}.example/p/vod/lake/720/s-17.m4s");
        assert_eq!(fronts.accepts(name, &plain, now_s), None);
        assert_eq!(fronts.accepts(name, &media, start_s + 21_600 + 606), None, "after its end");
    }
}

#[test]
fn urls_repeat_for_ten_minutes_and_what_is_outside_the_folder_gets_its_own_token() {
    let fronts = Fronts::new();
    let signers = Signers::new(&fronts.signers()).expect("signers");
    let plan = signed_manifest(1);
    for (name, _) in SIGNED_BY {
        let pathway: &Pathway = &plan.pathways[&id(name)];
        let at = |now: TimestampMs, path: &str| signers.grant(pathway, "/vod/lake/", now).url(path);
        let later = |s| NOW.after(Millis::from_secs(s));
        assert_eq!(at(later(1), "/vod/lake/i.m3u8"), at(later(599), "/vod/lake/i.m3u8"));
        assert_ne!(at(later(1), "/vod/lake/i.m3u8"), at(later(601), "/vod/lake/i.m3u8"));
        let shared = at(NOW, "/shared/audio/i.m3u8");
        assert_eq!(fronts.accepts(name, &shared, NOW.0 / 1_000).as_deref(), Some("/p/shared/audio/i.m3u8"), "{shared}");
    }
    let plain = signers.grant(&plan.pathways[&id("own-x-3")], "/vod/lake/", NOW);
    assert_eq!(plain.url("/vod/lake/i.m3u8?a#b"), "http://own-x-3.example/p/vod/lake/i.m3u8?a#b");
}

#[test]
fn a_title_is_its_folder() {
    for (path, folder) in [
        ("live/river/master.m3u8", "/live/river/"),
        ("/live/river/manifest.MPD", "/live/river/"),
        ("live/river", "/live/river/"),
        ("master.m3u8", "/"),
        ("", "/"),
    ] {
        assert_eq!(title_folder(path), folder, "{path}");
    }
}

#[test]
fn cookies_are_for_the_domain_and_the_title_and_hosts_outside_it_are_refused() {
    let text = "cookies = { kind = \"akamai\", key = \"00112233445566778899aabbccddeeff\", where = \"cookie\", \
                cookie_domain = \"example\" }";
    let signers = |text: &str| Signers::new(&toml::from_str(text).expect("shape"));
    let error = signers(text).expect_err("no dot").to_string();
    assert!(error.contains("steer.signers.cookies.cookie_domain"), "{error}");
    let signers = signers(&text.replace("\"example\"", "\"cdn-a.example\"")).expect("signers");
    let mut plan = manifest(1, &[("cdn-a", 1)]);
    plan.pathways.get_mut("cdn-a").expect("there").signer = Some("cookies".into());
    let grant = signers.grant(&plan.pathways[&id("cdn-a")], "/vod/lake/", NOW);
    assert_eq!(grant.url("/vod/lake/i.m3u8"), "http://cdn-a.example/p/vod/lake/i.m3u8");
    let cookies = grant.cookies();
    assert_eq!(cookies.len(), 1);
    assert!(cookies[0].starts_with("hdnts=exp=1800021600~acl=/p/vod/lake/*~hmac="), "{cookies:?}");
    assert!(cookies[0].ends_with("; Domain=cdn-a.example; Path=/p/vod/lake/; Secure; HttpOnly; SameSite=None"));

    let mut there = (*deployment()).clone();
    there.pathways.get_mut("cdn-a").expect("there").signer = Some("cookies".into());
    assert!(signers.check(&there, "https://steer.cdn-a.example").is_ok());
    let error = signers.check(&there, "https://steer.example").expect_err("another domain").to_string();
    assert!(error.contains("pathway[cdn-a].signer") && error.contains("steer.public_url"), "{error}");
    there.pathways.get_mut("cdn-a").expect("there").signer = Some("none-such".into());
    let error = signers.check(&there, "https://steer.cdn-a.example").expect_err("unknown").to_string();
    assert!(error.contains("none-such") && error.contains("[steer.signers]: cookies"), "{error}");
}

#[test]
fn a_wrong_signer_names_its_key_and_no_secret() {
    let fails = |section: &str| {
        let mut config = config("http://origin.example");
        config.signers = toml::from_str(&format!("s = {{ {section} }}")).expect("shape");
        let error = config.validate().expect_err(section).to_string();
        assert!(error.contains("steer.signers.s.") && !error.contains("hunter2"), "{error}");
        error
    };
    for (section, named) in [
        ("kind = \"akami\", key = \"hunter2\"", "akamai, cloudfront, fastly, nginx, own"),
        ("kind = \"akamai\", key = \"hunter2\"", "hex digits"),
        ("kind = \"own\", key = \"hunter2\"", "32 or more"),
        ("kind = \"own\"", "one of key and key_file"),
        ("kind = \"nginx\", key = \"hunter2-hunter2-\", where = \"cookie\"", "path, query"),
        ("kind = \"nginx\", key = \"hunter2-hunter2-\", ttl_s = 5", "600 to 2592000"),
        ("kind = \"nginx\", key = \"hunter2-hunter2-\", folders = 0", "1 to 8"),
        ("kind = \"nginx\", key = \"hunter2-hunter2-\", salt = \"hunter2\"", "only of kind akamai"),
        ("kind = \"cloudfront\", key = \"hunter2\"", "key_pair_id"),
        ("kind = \"cloudfront\", key_pair_id = \"K1\", key = \"hunter2\"", "RSA private key"),
        ("kind = \"fastly\", key = \"aHVudGVyMmh1bnRlcjI=\", hash = \"md5\"", "sha256, sha1"),
    ] {
        let error = fails(section);
        assert!(error.contains(named), "{section}: {error}");
    }
    let shown: SignerConfig =
        toml::from_str("kind = \"own\"\nkey = \"hunter2\"\nprevious_key = \"hunter2\"").expect("shape");
    assert!(!format!("{shown:?}").contains("hunter2"));
    assert_eq!(shown.key.map(|Secret(key)| key).as_deref(), Some("hunter2"));
}

#[test]
fn a_key_is_read_from_a_file_and_a_missing_file_is_named() {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("edge.key");
    std::fs::write(&file, format!("{OWN_KEY}\n")).expect("written");
    let of = |path: &std::path::Path| {
        Signers::new(&toml::from_str(&format!("s = {{ kind = \"own\", key_file = {path:?} }}")).expect("shape"))
    };
    assert!(of(&file).expect("a key").has("s"));
    let missing = of(&dir.path().join("none.key")).expect_err("missing").to_string();
    assert!(missing.contains("none.key"), "{missing}");
}

#[tokio::test]
async fn a_decision_and_a_redirect_carry_signed_urls_and_a_pathway_without_a_key_is_left_out() {
    let fronts = Fronts::new();
    let mut keys = fronts.signers();
    keys.remove("cloudfront");
    let node = Node::with(|config| config.signers = keys).await;
    node.publish_keys().await;
    node.publish(sealed(&signed_manifest(1)), |region| region["epoch"] == 1).await;
    assert_eq!(node.json("/internal/steer").await["regions"]["eu-a"]["without_key"], serde_json::json!(["cdn-b"]));

    let decision = node.json("/v1/decide?content=vod/lake/master.m3u8&sid=v1").await;
    let pathways = decision["pathways"].as_array().expect("a list");
    assert!(pathways.len() >= 3, "{decision}");
    assert!(pathways.iter().all(|pathway| pathway["id"] != "cdn-b"), "{decision}");
    for pathway in pathways.iter().filter(|pathway| pathway["id"] != "own-x-3") {
        let name = pathway["id"].as_str().expect("an id");
        let now_s = NOW.0 / 1_000;
        let url = pathway["url"].as_str().expect("a URL");
        assert_eq!(fronts.accepts(name, url, now_s).as_deref(), Some("/p/vod/lake/master.m3u8"), "{url}");
        let query = pathway["query"].as_str().map(|query| format!("?{query}")).unwrap_or_default();
        let made = format!("{}/vod/lake/s.m4s{query}", pathway["base_url"].as_str().expect("a base URL"));
        assert_eq!(fronts.accepts(name, &made, now_s).as_deref(), Some("/p/vod/lake/s.m4s"), "{made}");
    }
    assert_eq!(pathways[0]["id"], "cdn-a");

    let odd = node.json("/v1/decide?content=vod/la%20ke/ma%3Bster.m3u8&sid=v1").await;
    let url = odd["pathways"][0]["url"].as_str().expect("a URL").to_owned();
    assert!(url.starts_with("http://cdn-a.example/p/vod/la%20ke/ma%3Bster.m3u8?hdnts=exp="), "{url}");
    assert!(fronts.accepts("cdn-a", &url, NOW.0 / 1_000).is_some(), "{url}");

    let redirect = node.get("/v1/go/vod/lake/master.m3u8?sid=v1").await;
    assert_eq!(redirect.status(), 307);
    let location = redirect.headers()["location"].to_str().expect("text").to_owned();
    assert!(fronts.accepts("cdn-a", &location, NOW.0 / 1_000).is_some(), "{location}");

    // The only pathway there is plays unsigned rather than not at all.
    let mut alone = signed_manifest(2);
    alone.pathways.retain(|name, _| name.as_str() == "cdn-b");
    alone.groups.clear();
    alone.static_weights = super::fixtures::weights(&[("cdn-b", 1_000_000)]);
    for rule in &mut alone.cohorts {
        let all = super::fixtures::weights(&[("cdn-b", 1_000_000)]);
        (rule.weights_new, rule.weights_running, rule.spare) = (all.clone(), all.clone(), all);
    }
    node.publish(sealed(&alone), |region| region["epoch"] == 2).await;
    let decision = node.json("/v1/decide?content=vod/lake/master.m3u8&sid=v1").await;
    assert_eq!(decision["pathways"][0]["base_url"], "http://cdn-b.example/p", "{decision}");
    assert_eq!(decision["pathways"][0].get("url"), None, "{decision}");
}

#[tokio::test]
async fn every_url_of_a_playlist_is_signed_for_its_pathway_and_a_session_too() {
    let fronts = Fronts::new();
    let keys = fronts.signers();
    let node = Node::with(|config| config.signers = keys).await;
    node.publish_keys().await;
    node.publish(sealed(&signed_manifest(1)), |region| region["epoch"] == 1).await;
    let now_s = NOW.0 / 1_000;
    let mut seen = std::collections::BTreeSet::new();
    for view in 0..12 {
        let playlist = node.text(&format!("/v1/playlists/hls/vod/lake/master.m3u8?sid=view-{view}")).await;
        let urls: Vec<&str> = playlist.lines().filter(|line| line.starts_with("http")).collect();
        assert!(urls.len() >= 3, "{playlist}");
        for url in urls {
            let host = Url::parse(url).expect("a URL").host_str().expect("a host").to_owned();
            let pathway = host.trim_end_matches(".example");
            if pathway == "own-x-3" {
                continue; // It has no signer.
            }
            assert_eq!(fronts.accepts(pathway, url, now_s).as_deref(), Some("/p/vod/lake/v.m3u8"), "{url}");
            seen.insert(pathway.to_owned());
        }
    }
    assert!(seen.len() >= 4, "{seen:?}");
    let ask = serde_json::json!({"v": 1, "path": "vod/lake/master.m3u8", "client_ip": "127.11.1.9", "pathways": ["cdn-a", "cdn-b"]});
    let created = node.post("/v1/sessions").bearer_auth("a-secret-of-roles").body(ask.to_string()).send().await;
    let session: serde_json::Value = created.expect("an answer").json().await.expect("json");
    for pathway in session["pathways"].as_array().expect("a list") {
        let (name, url) = (pathway["id"].as_str().expect("an id"), pathway["url"].as_str().expect("a URL"));
        assert_eq!(fronts.accepts(name, url, now_s).as_deref(), Some("/p/vod/lake/master.m3u8"), "{url}");
    }
    node.shutdown.cancel();
}

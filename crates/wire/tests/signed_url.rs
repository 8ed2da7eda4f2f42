//! Signers against what vendors publish. Where nothing is published, the values come from Python's `hmac` and `hashlib`,
//! and the test says so.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, RsaParameters, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use spillway_wire::signed_url::akamai::{self, About, Fields};
use spillway_wire::signed_url::cloudfront::{self, Conditions};
use spillway_wire::signed_url::fastly::{self, Hash};
use spillway_wire::signed_url::own::{Keys, Opened, Reject};
use spillway_wire::signed_url::{KeyError, Place, Resource, Signer, nginx};

const EXPIRES_S: u64 = 1_800_021_600;
const OWN_KEY: &str = "own-edge-key-of-32-bytes-or-more";
const AKAMAI_KEY: &str = "00112233445566778899aabbccddeeff";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

fn resource<'a>(path: &'a str, folder: &'a str) -> Resource<'a> {
    Resource { host: "https://h.example", path, folder, expires_s: EXPIRES_S }
}

/// Cloudinary delivers by Akamai's tokens and publishes these values in the tests of all its SDKs
/// (cloudinary_gem, spec/auth_token_spec.rb; pycloudinary and cloudinary_java have the same); their `url` form escapes
/// early.
#[test]
fn akamai_tokens_are_those_that_a_customer_publishes() {
    let acl = |key: &str, start_s, expires_s, acl: &str| {
        akamai::token(&bytes(key), &Fields { start_s, ..Fields::new(About::Acl(acl), expires_s) })
    };
    assert_eq!(
        acl("00112233FF99", Some(1_111_111_111), 1_111_111_411, "/image/*"),
        "st=1111111111~exp=1111111411~acl=/image/*~hmac=0854e8b6b6a46471a80b2dc28c69bd352d977a67d031755cc6f3486c121b43af"
    );
    assert_eq!(
        acl("00112233FF99", Some(222_222_222), 222_222_522, "/*/t_foobar"),
        "st=222222222~exp=222222522~acl=/*/t_foobar~hmac=eb5e2266c8ec9573f696025f075b92998080347e1c12ac39a26c94d7d712704a"
    );
    assert_eq!(
        acl("00aabbff", None, 10_000_000, "*"),
        "exp=10000000~acl=*~hmac=030eafb6b19e499659d699b3d43e7595e35e3c0060e8a71904b3b8c8759f4890"
    );
    let url = |key: &str, start: u64, window: u64, url: &str| {
        let fields =
            Fields { start_s: Some(start), escape_early: true, ..Fields::new(About::Url(url), start + window) };
        akamai::token(&bytes(key), &fields)
    };
    assert_eq!(
        url("00112233FF99", 11_111_111, 300, "/image/authenticated/v1486020273/sample.jpg"),
        "st=11111111~exp=11111411~hmac=8db0d753ee7bbb9e2eaf8698ca3797436ba4c20e31f44527e43b6a6e995cfdb3"
    );
    assert_eq!(
        url("CCBB2233FF00", 222_222_222, 100, "/image/authenticated/c_scale,w_300/sample.jpg"),
        "st=222222222~exp=222222322~hmac=7d276841d70c4ecbd0708275cd6a82e1f08e47838fbb0bceb2538e06ddfa3029"
    );
}

/// Nobody publishes values with the other fields; these come from Python's `hmac`, the order of the fields from Akamai's
/// EdgeAuth-Token-Python.
#[test]
fn akamai_tokens_have_every_field_in_the_reference_order() {
    let key = bytes(AKAMAI_KEY);
    let all = Fields {
        start_s: Some(1_800_000_000),
        ip: Some("192.0.2.9"),
        session_id: Some("view-1"),
        payload: Some("x=1 y"),
        salt: Some("pepper"),
        ..Fields::new(About::Acl("/a/*!/b/*"), EXPIRES_S)
    };
    assert_eq!(
        akamai::token(&key, &all),
        "ip=192.0.2.9~st=1800000000~exp=1800021600~acl=/a/*!/b/*~id=view-1~data=x=1 y\
         ~hmac=ddfeb6f739ec937b365a00ecf6256ddf7a29ce6525f1d5984ead79b1f0edbd86"
    );
    let escaped = Fields {
        start_s: None,
        ip: Some("2001:db8::1"),
        session_id: Some("view/1"),
        about: About::Url("/a/b"),
        escape_early: true,
        ..all
    };
    assert_eq!(
        akamai::token(&key, &escaped),
        "ip=2001%3adb8%3a%3a1~exp=1800021600~id=view%2f1~data=x%3d1+y\
         ~hmac=4f6614490691eab605b4d5b4cc684f53a4743f4e0216fd461cfe6a76e0ad91fe"
    );
    let signer = Signer::Akamai(akamai::Key::from_hex(AKAMAI_KEY, Some("pepper")).expect("a key"));
    let sign = |place| signer.sign(place, &resource("/live/river/a.m3u8", "/live/river/")).expect("signed");
    let mac = "hmac=5f8c8be0210693918ea995df556d1e54d6a73db2627a547266c53f933412477b";
    assert_eq!(
        sign(Place::Query).url("https://h.example", "/live/river/a.m3u8"),
        format!("https://h.example/live/river/a.m3u8?hdnts=exp=1800021600~acl=/live/river/*~{mac}")
    );
    assert_eq!(sign(Place::Path).path, format!("hdnts=exp=1800021600~acl=%2flive%2friver%2f*~{mac}"));
    let cookie = format!("exp=1800021600~acl=/live/river/*~{mac}");
    assert_eq!(sign(Place::Cookie).cookies, [("hdnts", cookie)]);
}

/// Public half of the RSA key of AWS's own test cases ("CloudFront URL and Cookie Signer SEP": aws-sdk-ruby,
/// gems/aws-sdk-cloudfront/spec/url_signer_spec.rb and cookie_signer_spec.rb; aws-sdk-net has the same), which publish
/// signatures only. It follows from any two of them: gcd(s₁^e − m₁, s₂^e − m₂).
const SEP_KEY: &str = "30818902818100bd57701b68092cddcaaaa60857e1d1778b8ae0ad944e9b5d46ec7006e5ec05084b36d034ace03b5170\
4410cc75d7d8c8e43fda70cfccb86000ad842aff9d122e3f60474b83671b39ac637e14a7eb273033e0b9d362ecfc2b71\
                       1c809caace1c42cec14e515f937da0cbb3aa90b4db4edb4818c59ab010101cb85b259b2d0e9daf0203010001";

fn from_cloudfront(text: &str) -> Vec<u8> {
    STANDARD.decode(text.replace('-', "+").replace('_', "=").replace('~', "/")).expect("base64")
}

#[test]
fn cloudfront_policies_are_those_that_aws_signed() {
    let key = bytes(SEP_KEY);
    let fits = |parameters: &'static RsaParameters, policy: &str, signature: &str| {
        UnparsedPublicKey::new(parameters, &key).verify(policy.as_bytes(), &from_cloudfront(signature)).is_ok()
    };
    let policy = |path: &str, conditions: &Conditions<'_>| {
        cloudfront::policy(&format!("https://d111111abcdef8.cloudfront.net/{path}"), 1_767_290_400, conditions)
    };
    let none = Conditions::default();
    let since = Conditions { starts_s: Some(1_767_200_000), ..none };
    let near = Conditions { addresses: Some("192.168.0.0/24"), ..none };
    let private = Conditions { addresses: Some("10.0.0.0/8"), ..none };
    // canned-policy-url-basic, -existing-params; custom-policy-url-with-active-date, -ip-range, -wildcard;
    // custom-policy-cookies; all with SHA-256.
    for (path, conditions, signature) in [
        (
            "image.jpg",
            none,
            "LiC~LakvNvZtR~AsTcirQ0CAsy-YIZmpHmI9uImK4xJmrhVdJULhWmRt3bXO7qqw2gJDECZN-xC~bKWEKcJ9Vgs1IgpRdMkY6XGDKZ1XHBdNbd~0v5UiRf4zXwVMRqoynkQPQcihkze7RkDBsOoYHh9jDdtO1iDm0QZ1Qp~cxro_",
        ),
        (
            "image.jpg?size=large",
            none,
            "g8vzqbTu5PxBzAXD3zowGFNHNlyaGZn7thMiCk27sTfvdy5CMAbECVz-aucgqrKYmqsz1xY7ZoxoMxOizzXWzfzTyJ6k38YwW6QMyJWT7B8pHStQrq0DGFSCnXqgRDXUDzkpIe8mHqyRWtgnFbdFQlbPweykfl7Eo4RJadveryQ_",
        ),
        (
            "video.mp4",
            since,
            "RKoXpBb3IFyONXBnGGPj6021LmYyaphTYom0DsDID20xlCaK8gvNpcbYw493LloPhtDdGTdyadyuR59ok8eSPpJReRGbHbw8FDjGSXE9JWsVayzI7t7ZPGfPtKgK~ij0AekXDNQNFNUdwuSE0aR5nQmuPhw7CfDHCMpTWmoKPgE_",
        ),
        (
            "document.pdf",
            near,
            "aKDzeIIfHviQRbCu9jxlFpOenTNQHMnt8HL2V2cqYP0vqc-KpRBuez2k4LZAzmfH0sIiQuDMZZc1D149XYRVAjEZoqr3vzGzWmrpzZJV-CSHs-Scau1cCNdVXqswj~QX8SzOZtGsRSKb4bomqOWxSIUu~Sybjf5b12GXBcYRCH4_",
        ),
        (
            "images/*",
            none,
            "FoaoRDqA7H91xD8CL2zk2Ztm6WVx3kIunCdqvzwMCUdsduwVWEH8elbBZc2qqWy3ZixDBBEHegeJnZbgp~nHTsYtr~jv6R-8~BnmmvH3KNyjH7wgyKKtzKpteNXYacWgHYabkoreyHC4ek~JMjGo1o0gTiIeL8YCV3ueKK3Lqtk_",
        ),
        (
            "*",
            private,
            "OzeonPh-NS8g3trdsFAo5LrMBEx1ef05GvdmWuLai6AaBLP63PVJRUGySYmGfQ-NqQ02geWzo7aZS7XFtkr4X1z9VTbQMfmzZftbuRXoP5ZDhFzVnSX3DeoEW8jP3BrOLHJsKwFCY5alIR4zO6LpqFmR5vVmqMYpRcbafg3~X18_",
        ),
    ] {
        let policy = policy(path, &conditions);
        assert!(fits(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, &policy, signature), "{policy}");
        assert!(!fits(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, &format!("{policy} "), signature));
    }
    // The same canned policy under SHA-1, as URLs without Hash-Algorithm have it: the text is the same.
    let sha1 = "iONoMLnhiCy9q1~WB9GkR2DiHz18I85i3o6kZ64REf-fCSOg-AyXEZiq7fJuS~DT-kbZXjVpgIQqI4sCTcBW9XpO6dyJ5sh8Igk3V~OVncS9acGVnI~ZhHBWiGhU8GmkEMAhn6R2RGO-wKGClrXdJGEUE26XoALdHUzHbmU6AGI_";
    assert!(fits(&RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, &policy("image.jpg", &none), sha1));
    // Policy of custom-policy-cookies, encoded.
    assert_eq!(
        cloudfront::encode(policy("*", &private).as_bytes()),
        concat!(
            "eyJTdGF0ZW1lbnQiOlt7IlJlc291cmNlIjoiaHR0cHM6Ly9kMTExMTExYWJjZGVmOC5jbG91ZGZyb250Lm5ldC8qIiwiQ29uZGl0aW9uIjp7I",
            "kRhdGVMZXNzVGhhbiI6eyJBV1M6RXBvY2hUaW1lIjoxNzY3MjkwNDAwfSwiSXBBZGRyZXNzIjp7IkFXUzpTb3VyY2VJcCI6IjEwLjAuMC4wLzg",
            "ifX19XX0_"
        )
    );
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[test]
fn cloudfront_urls_and_cookies_carry_a_signature_that_the_public_key_confirms() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    let pkcs8 = pair.as_der().expect("DER");
    // PKCS#8 of an RSA key is its PKCS#1 behind 26 bytes.
    let forms = [pem("PRIVATE KEY", pkcs8.as_ref()), pem("RSA PRIVATE KEY", &pkcs8.as_ref()[26..])];
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
    let mut queries = Vec::new();
    for form in forms {
        let key = cloudfront::Key::from_pem("K1", &form).expect("a key");
        let canned = key.canned_query("https://h.example/a.jpg?x=1", EXPIRES_S).expect("signed");
        let signature = canned.strip_prefix("Expires=1800021600&Signature=").expect("first");
        let signature = signature.strip_suffix("&Key-Pair-Id=K1&Hash-Algorithm=SHA256").expect("last");
        let policy = cloudfront::policy("https://h.example/a.jpg?x=1", EXPIRES_S, &Conditions::default());
        public.verify(policy.as_bytes(), &from_cloudfront(signature)).expect("fits");
        let signer = Signer::CloudFront(key.clone());
        let sign = |place| signer.sign(place, &resource("/live/river/a.m3u8", "/live/river/")).expect("signed");
        let cookies = sign(Place::Cookie).cookies;
        let names: Vec<&str> = cookies.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            ["CloudFront-Policy", "CloudFront-Signature", "CloudFront-Key-Pair-Id", "CloudFront-Hash-Algorithm"]
        );
        let told = String::from_utf8(from_cloudfront(&cookies[0].1)).expect("text");
        assert!(told.contains("\"https://h.example/live/river/*\""), "{told}");
        public.verify(told.as_bytes(), &from_cloudfront(&cookies[1].1)).expect("fits");
        assert_eq!(
            key.canned_cookies("https://h.example/a.jpg", 7).expect("signed")[0],
            ("CloudFront-Expires", "7".into())
        );
        queries.push((canned, sign(Place::Query).query));
    }
    // The same each time, so that URLs can be cached.
    assert_eq!(queries[0], queries[1]);
    assert!(matches!(cloudfront::Key::from_pem("K1", "hunter2"), Err(KeyError::Form(_))));
}

/// `digest.hmac_sha1("key", "input")` and `digest.hmac_sha256("key", "input")` as Fastly's VCL reference shows their
/// results. The guide's example token (`1441307151_4492f259…`) is not of the key that it prints; the tokens here are
/// Python's, of the guide's key and path.
#[test]
fn fastly_tokens_are_what_vcl_computes() {
    assert_eq!(fastly::hmac_hex(b"key", Hash::Sha1, "input"), "8513bb355076cce2ae5eb9f399ab5cafdba7c8a2");
    assert_eq!(
        fastly::hmac_hex(b"key", Hash::Sha256, "input"),
        "9e089ec13af881a8ac227a736c3e7c490ea3b4afca0c5f83dff6393b683a72e3"
    );
    let sign = |hash, place, path, folder, expires_s| {
        let key = fastly::Key::from_base64("iqFPeN2u+Z0Lm5IrsKaOFKRqEU5Gw8ePtaEkHZWuD24=", hash).expect("a key");
        let resource = Resource { expires_s, ..resource(path, folder) };
        Signer::Fastly(key).sign(place, &resource).expect("signed").url("http://www.example.com", path)
    };
    assert_eq!(
        sign(Hash::Sha1, Place::Query, "/foo/bar.html", "/foo/", 1_441_307_151),
        "http://www.example.com/foo/bar.html?token=1441307151_2bfc5de65ab7c7faffde2b29ac82d4f5177f16d7"
    );
    assert_eq!(
        sign(Hash::Sha256, Place::Query, "/foo/bar.html", "/foo/", 1_441_307_151),
        "http://www.example.com/foo/bar.html?token=1441307151_99b78cfc2b63ecc71f111d918077fd81a7845cee0de9233ece98e944335f7521"
    );
    assert_eq!(
        sign(Hash::Sha256, Place::Path, "/live/river/a.m3u8", "/live/river/", EXPIRES_S),
        "http://www.example.com/1800021600_0152f96b3f1f52b21790f7fafb620d77036b9c85fa9913c4f6f91cb53dd8bc38/live/river/a.m3u8"
    );
}

/// The documentation of ngx_http_secure_link_module makes this link on a shell:
/// `echo -n '2147483647/s/link127.0.0.1 secret' | openssl md5 -binary | openssl base64 | tr +/ -_ | tr -d =`.
/// Ours leave the address out; they come from Python's `hashlib`.
#[test]
fn nginx_links_are_those_of_its_documentation() {
    assert_eq!(nginx::link_hash(b"2147483647/s/link127.0.0.1 secret"), "_e4Nc3iduzkWRm01TBBNYw");
    let signer = Signer::Nginx(nginx::Key::new("nginx-secret-of-16").expect("a key"));
    let sign = |place, path, folder| signer.sign(place, &resource(path, folder)).expect("signed");
    let query = sign(Place::Query, "/live/river/a%20b.m4s", "/live/river/");
    assert_eq!(query.query, "md5=N1_xOYkGnsqrxYwziHN3JA&expires=1800021600");
    assert!(!query.covers_folder);
    let path = sign(Place::Path, "/live/river/a.m3u8", "/live/river/");
    assert_eq!((path.path.as_str(), path.covers_folder), ("Ox3Itr3QXNmKcB80Tnw2Jg,1800021600", true));
    assert!(matches!(nginx::Key::new("a $uri of some length"), Err(KeyError::Form(_))));
}

#[test]
fn a_folder_s_name_opens_no_other_folder() {
    let folder = "/x~acl=!*&;,?/";
    let akamai = Signer::Akamai(akamai::Key::from_hex(AKAMAI_KEY, None).expect("a key"));
    let query = akamai.sign(Place::Query, &resource("/x", folder)).expect("signed").query;
    assert!(query.starts_with("hdnts=exp=1800021600~acl=/x%7eacl%3d%21%2a%26%3b%2c%3f/*~hmac="), "{query}");
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    let key = pem("PRIVATE KEY", pair.as_der().expect("DER").as_ref());
    let cloudfront = Signer::CloudFront(cloudfront::Key::from_pem("K1", &key).expect("a key"));
    let cookies = cloudfront.sign(Place::Cookie, &resource("/x", "/*/")).expect("signed").cookies;
    let policy = String::from_utf8(from_cloudfront(&cookies[0].1)).expect("text");
    assert!(policy.contains("\"https://h.example/%2a/*\""), "{policy}");
}

fn own_url(keys: &Keys, path: &str, folder: &str) -> String {
    Signer::Own(keys.clone()).sign(Place::Path, &resource(path, folder)).expect("signed").url("", path)
}

/// Our own form; the signature comes from Python's `hmac`.
#[test]
fn an_own_token_opens_its_folder_and_nothing_else() {
    let keys = Keys::new(OWN_KEY, None).expect("keys");
    let url = own_url(&keys, "/live/river/720/i.m3u8", "/live/river/");
    assert_eq!(url, "/~1800021600~2~tvNreyC_db7jGoqnyvXT6g/live/river/720/i.m3u8");
    let token = "/~1800021600~2~tvNreyC_db7jGoqnyvXT6g";
    let verify = |path: &str, now_s| keys.verify(&format!("{token}{path}"), now_s).map(|opened| opened.path.to_owned());
    for path in ["/live/river/720/seg 1.m4s", "/live/river/x", "/live/r%69ver/x", "/live/river/", "/live/river/a~b"] {
        assert_eq!(verify(path, EXPIRES_S).as_deref(), Ok(path));
    }
    for path in ["/live/lake/x", "/live/river", "/live", "/", "/live%2Friver/x/y", "/liv/eriver/x"] {
        assert_eq!(verify(path, EXPIRES_S), Err(Reject::BadSignature), "{path}");
    }
    for path in ["/live/river/../lake/x", "/live/river/%2e%2E/lake/x", "/live/river/./x"] {
        assert_eq!(verify(path, EXPIRES_S), Err(Reject::DotParts), "{path}");
    }
    assert!(verify("/live/river/x", EXPIRES_S + 5).is_ok());
    assert_eq!(verify("/live/river/x", EXPIRES_S + 6), Err(Reject::Expired { ended_s: EXPIRES_S }));
    let escaped = url.replace('~', "%7E");
    assert_eq!(keys.verify(&escaped, 0), Ok(Opened { path: "/live/river/720/i.m3u8", expires_s: EXPIRES_S }));
}

#[test]
fn an_own_token_says_why_it_is_refused() {
    let keys = Keys::new(OWN_KEY, None).expect("keys");
    let mac = "tvNreyC_db7jGoqnyvXT6g";
    for (path, why) in [
        ("", Reject::Missing),
        ("/", Reject::Missing),
        ("/live/river/x", Reject::Missing),
        ("/~/live/river/x", Reject::Malformed),
        (&format!("/~1800021600~2~{mac}A/live/river/x"), Reject::Malformed),
        (&format!("/~01800021600~2~{mac}/live/river/x"), Reject::Malformed),
        (&format!("/~+1800021600~2~{mac}/live/river/x"), Reject::Malformed),
        (&format!("/~1800021600~33~{mac}/live/river/x"), Reject::Malformed),
        (&format!("/~{}~2~{mac}/live/river/x", "9".repeat(99)), Reject::Malformed),
        (&format!("/~1800021601~2~{mac}/live/river/x"), Reject::BadSignature),
        (&format!("/~1800021600~1~{mac}/live/river/x"), Reject::BadSignature),
        (&format!("/~1800021600~2~{}/live/river/x", mac.replace('t', "u")), Reject::BadSignature),
    ] {
        assert_eq!(keys.verify(path, 0), Err(why), "{path}");
        assert!(!why.name().is_empty());
    }
}

#[test]
fn the_key_before_the_last_change_still_opens_and_a_third_does_not() {
    let keys = |current: &str, previous: Option<&str>| {
        Keys::new(&current.repeat(32), previous.map(|p| p.repeat(32)).as_deref())
    };
    let [first, second, third] =
        [keys("a", None), keys("b", Some("a")), keys("c", Some("b"))].map(|k| k.expect("keys"));
    let url = own_url(&first, "/live/river/x", "/live/river/");
    assert!(second.verify(&url, 0).is_ok());
    assert_eq!(third.verify(&url, 0), Err(Reject::BadSignature));
}

#[test]
fn keys_are_refused_without_being_told_and_never_shown() {
    let short = Keys::new("hunter2", None).expect_err("short").to_string();
    assert!(short.contains("7 bytes") && short.contains("32") && !short.contains("hunter2"), "{short}");
    assert!(matches!(akamai::Key::from_hex("xyz", None), Err(KeyError::Form(_))));
    assert!(matches!(fastly::Key::from_base64("hunter2!", Hash::Sha256), Err(KeyError::Form(_))));
    let keys = Keys::new(OWN_KEY, None).expect("keys");
    let akamai = akamai::Key::from_hex(AKAMAI_KEY, Some("pepper")).expect("key");
    let shown = format!("{keys:?} {akamai:?} {:?}", nginx::Key::new("nginx-secret-of-16").expect("key"));
    for secret in [OWN_KEY, AKAMAI_KEY, "pepper", "nginx-secret"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

proptest! {
    #[test]
    fn whatever_a_player_sends_is_answered_without_harm(path in "\\PC{0,120}", now in any::<u64>()) {
        let keys = Keys::new(OWN_KEY, None).expect("keys");
        prop_assert!(keys.verify(&path, now).is_err());
        let begun = format!("/~{path}");
        prop_assert!(keys.verify(&begun, now).is_err());
    }

    #[test]
    fn a_changed_letter_of_a_token_or_folder_is_noticed(at in 1_usize..48, to in "[0-9A-Za-z_~-]") {
        let keys = Keys::new(OWN_KEY, None).expect("keys");
        let url = own_url(&keys, "/live/river/720/i.m3u8", "/live/river/");
        let changed = format!("{}{to}{}", &url[..at], &url[at + 1..]);
        prop_assume!(changed != url);
        // The last letter of the signature has four bits that mean nothing; base64 refuses them.
        prop_assert!(keys.verify(&changed, 0).is_err(), "{}", changed);
    }
}

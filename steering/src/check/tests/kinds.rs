//! Every kind of signer: what the check asks with a bad token, its front refuses.

use std::sync::Arc;

use axum::http::header;
use spillway_model::TimestampMs;

use crate::check::tokens::{Signable, Tokens};
use crate::check::{Known, Target, Wanted};
use crate::tests::fixtures::{NOW, config, deployment, id};
use crate::tests::signed_urls::{Fronts, SIGNED_BY};

#[test]
fn a_token_in_a_cookie_is_sent_and_changed_there() {
    let (mut deployment, mut steer) = (deployment(), config("http://origin.example"));
    let signer = "kind = \"akamai\"\nkey = \"00112233445566778899aabbccddeeff\"\nwhere = \"cookie\"\ncookie_domain = \"cdn.example\"";
    steer.signers.insert("akamai".into(), toml::from_str(signer).expect("a signer"));
    let declared = Arc::make_mut(&mut deployment).pathways.get_mut(&id("cdn-a")).expect("declared");
    declared.signer = Some("akamai".into());
    let wanted = Wanted { what: "cdn-a", path: Some("live/x.mpd"), ..Wanted::default() };
    let target = Target::new(&wanted, Some(Known { deployment: &deployment, steer: Some(&steer) })).expect("a target");
    let signing = target.signing.as_ref().expect("a signer");
    let tokens = Tokens::new(&target, signing, "live/x.mpd", NOW);
    let (good, bad) = (tokens.good("live/x.mpd"), tokens.tampered("live/x.mpd"));
    assert_eq!(good.url, "http://cdn-a.example/p/live/x.mpd");
    assert!(signing.by_cookie && tokens.inherits() && good.headers[0].0 == header::COOKIE);
    assert!(good.headers[0].1.contains("hmac=") && good.headers[0].1 != bad.headers[0].1, "{good:?} {bad:?}");
}

#[test]
fn a_good_token_of_every_kind_opens_and_a_bad_one_does_not() {
    let fronts = Fronts::new();
    let mut deployment = deployment();
    let mut steer = config("http://origin.example");
    steer.signers = fronts.signers();
    let now_s = NOW.0 / 1_000;
    for (pathway, signer) in SIGNED_BY {
        let declared = Arc::make_mut(&mut deployment).pathways.get_mut(&id(pathway)).expect("declared");
        declared.signer = Some(signer.into());
        let path = "live/river/master.m3u8";
        let wanted = Wanted { what: pathway, path: Some(path), ..Wanted::default() };
        let known = Known { deployment: &deployment, steer: Some(&steer) };
        let target = Target::new(&wanted, Some(known)).expect("a target");
        let tokens = Tokens::new(&target, target.signing.as_ref().expect("a signer"), path, NOW);
        let opens = |signable: &Signable, now_s| fronts.accepts(pathway, &signable.url, now_s);
        for path in [path, "live/river/720/1.m4s"] {
            let good = tokens.good(path);
            assert_eq!(opens(&good, now_s), Some(format!("/p/{path}")), "{signer}: {}", good.url);
            let expired = tokens.expired(path);
            assert_eq!(opens(&expired, now_s), None, "{signer}: {}", expired.url);
            assert!(opens(&expired, now_s - 30_000).is_some(), "{signer}: once it was good: {}", expired.url);
            let tampered = tokens.tampered(path);
            assert_ne!(tampered.url, good.url, "{signer}");
            assert_eq!(opens(&tampered, now_s), None, "{signer}: {}", tampered.url);
            let other = tokens.other_title(path).expect("another folder");
            assert_ne!(other.url, good.url, "{signer}");
            assert_eq!(opens(&other, now_s), None, "{signer}: {}", other.url);
        }
        let early = Tokens::new(&target, target.signing.as_ref().expect("a signer"), path, TimestampMs(NOW.0 + 1));
        assert_eq!(early.good(path).url, tokens.good(path).url, "{signer}: on the grid of ten minutes");
    }
}

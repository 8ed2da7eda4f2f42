//! Every kind of signer: what the check asks with a bad token, its front refuses.

use std::sync::Arc;

use spillway_model::TimestampMs;

use crate::check::tokens::{Signable, Tokens};
use crate::check::{Known, Target, Wanted};
use crate::tests::fixtures::{NOW, config, deployment, id};
use crate::tests::signed_urls::{Fronts, SIGNED_BY};

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

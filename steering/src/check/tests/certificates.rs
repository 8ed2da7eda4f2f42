//! Certificates, by themselves and over a socket.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use spillway_service::CancellationToken;
use spillway_service::tls::{Listener, TlsConfig};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

use super::server::{Asked, Fault, HOST, Server, faults, lines_of};
use crate::check::tls::{Certificate, Trust};
use crate::check::{Report, Verdict};

/// 2025-01-15.
const NOW_S: u64 = 1_736_928_000;

struct Made {
    pem: String,
    key: String,
}

/// A self-signed certificate that holds from 2000 until `until`.
fn made(name: &str, until: i32) -> Made {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("names");
    (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(until, 1, 1));
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("key");
    let certificate = params.self_signed(&key).expect("certificate");
    Made { pem: certificate.pem(), key: key.serialize_pem() }
}

fn judged(authorities: &str, sent: &[&str], name: &str, now_s: u64) -> Certificate {
    let der = |pem: &&str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("pem");
    let sent: Vec<CertificateDer<'_>> = sent.iter().map(der).collect();
    let name = ServerName::try_from(name.to_owned()).expect("name");
    Trust::new(Some(authorities.as_bytes())).expect("authorities").judge(&sent, &name, now_s)
}

#[test]
fn each_flaw_of_a_certificate_is_its_own() {
    let (good, other) = (made(HOST, 2040), made("other.example", 2040));
    let well = judged(&good.pem, &[&good.pem], HOST, NOW_S);
    assert_eq!((&well.chain, &well.name, well.ends_s, well.begins_s), (&Ok(()), &Ok(()), Some(2_208_988_800), None));
    assert!(well.is_trusted(NOW_S));

    let unknown = judged(&other.pem, &[&good.pem], HOST, NOW_S);
    assert!(unknown.chain.as_ref().is_err_and(|why| why.contains("no known authority")), "{unknown:?}");
    assert!(unknown.name.is_ok() && !unknown.is_trusted(NOW_S));

    let named = judged(&other.pem, &[&other.pem], HOST, NOW_S);
    assert!(named.name.as_ref().is_err_and(|why| why.contains("other.example")), "{named:?}");
    assert!(named.chain.is_ok() && !named.is_trusted(NOW_S));

    let after_s = 2_208_988_801;
    let ended = judged(&good.pem, &[&good.pem], HOST, after_s);
    assert!(ended.chain.is_ok() && ended.name.is_ok() && !ended.is_trusted(after_s), "{ended:?}");

    let before = judged(&good.pem, &[&good.pem], HOST, 900_000_000);
    assert_eq!((before.begins_s, before.is_trusted(900_000_000)), (Some(946_684_800), false));
    assert!(before.chain.is_ok(), "{before:?}");
}

#[test]
fn a_missing_intermediate_is_named_and_the_first_end_of_a_chain_counts() {
    let authority = |name: &str, until| {
        let mut params = CertificateParams::new(vec![]).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(until, 1, 1);
        params
    };
    let (root_key, middle_key, leaf_key) =
        (KeyPair::generate().expect("key"), KeyPair::generate().expect("key"), KeyPair::generate().expect("key"));
    let (root_params, middle_params) = (authority("root", 2050), authority("middle", 2030));
    let root = root_params.self_signed(&root_key).expect("root").pem();
    let root_issuer = Issuer::from_params(&root_params, &root_key);
    let middle = middle_params.signed_by(&middle_key, &root_issuer).expect("middle").pem();
    let mut params = CertificateParams::new(vec![HOST.to_owned()]).expect("names");
    params.not_after = date_time_ymd(2040, 1, 1);
    let leaf = params.signed_by(&leaf_key, &Issuer::from_params(&middle_params, &middle_key)).expect("leaf").pem();

    let whole = judged(&root, &[&leaf, &middle], HOST, NOW_S);
    assert!(whole.is_trusted(NOW_S), "{whole:?}");
    assert_eq!((whole.ends_s, whole.sent), (Some(1_893_456_000), 2), "the intermediate ends first");
    let alone = judged(&root, &[&leaf], HOST, NOW_S);
    assert!(alone.chain.is_err_and(|why| why.contains("no intermediate certificate was sent")));
}

/// A server with TLS, and the authority that is believed.
async fn report(made: &Made, authority: Option<&str>, server: &Server) -> Report {
    let dir = tempfile::tempdir().expect("dir");
    let files = TlsConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        cert: dir.path().join("cert.pem"),
        key: dir.path().join("key.pem"),
        more: Vec::new(),
    };
    std::fs::write(&files.cert, &made.pem).expect("written");
    std::fs::write(&files.key, &made.key).expect("written");
    let listener = Listener::tls("test.tls", &files).await.expect("listener");
    let at = listener.local_addr().expect("address");
    tokio::spawn(spillway_service::serve(listener, server.router(), CancellationToken::new()));
    let origin = Server::new(Fault::None).start().await;
    Asked { scheme: "https", at, path: None, origin, signed: server.signed, authorities: authority }.report().await
}

#[tokio::test]
async fn over_tls_a_healthy_server_has_no_fault() {
    let good = made(HOST, 4000);
    let report = report(&good, Some(&good.pem), &Server::new(Fault::None)).await;
    assert_eq!(report.faults, 0, "{report}");
    assert!(lines_of(&report, "tls.handshake")[0].came.contains("TLS 1.3, h2"), "{report}");
    assert!(lines_of(&report, "tls.expiry")[0].verdict == Verdict::Ok, "{report}");
    assert!(!lines_of(&report, "range.middle").is_empty(), "{report}");
}

#[tokio::test]
async fn a_certificate_that_players_refuse_is_named_and_the_rest_is_asked() {
    let (ended, own, other) = (made(HOST, 2020), made(HOST, 4000), made("other.example", 4000));
    for (made, authority, check, word) in [
        (&ended, Some(ended.pem.as_str()), "tls.expiry", "ended"),
        (&own, Some(other.pem.as_str()), "tls.chain", "no known authority"),
        (&own, None, "tls.chain", "no known authority"),
        (&other, Some(other.pem.as_str()), "tls.name", "it is for other.example"),
    ] {
        let report = report(made, authority, &Server::new(Fault::None)).await;
        let found: Vec<&str> = faults(&report).iter().map(|line| line.check).collect();
        assert_eq!(found, [check], "{report}");
        assert!(lines_of(&report, check)[0].came.contains(word), "{report}");
        assert!(!lines_of(&report, "range.middle").is_empty(), "{report}");
    }
}

#[tokio::test]
async fn a_token_is_not_sent_where_the_certificate_is_not_trusted() {
    let server = Server { signed: true, ..Server::new(Fault::None) };
    let (own, other) = (made(HOST, 4000), made("other.example", 4000));
    let trusting = report(&own, Some(&own.pem), &server).await;
    assert_eq!(trusting.faults, 0, "{trusting}");
    assert!(server.tokens.swap(0, Ordering::SeqCst) > 0);
    let refusing = report(&own, Some(&other.pem), &server).await;
    let found: Vec<&str> = faults(&refusing).iter().map(|line| line.check).collect();
    assert_eq!(found, ["tls.chain"], "{refusing}");
    assert_eq!(lines_of(&refusing, "get")[0].verdict, Verdict::Untried, "{refusing}");
    assert_eq!(server.tokens.load(Ordering::SeqCst), 0);
}

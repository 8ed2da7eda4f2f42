//! What a server's certificate is worth. The connection itself takes any, so that each flaw gets a line of its own.

use std::sync::Arc;

use spillway_service::tls::{AnyCertificate, authorities, client_config};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore};

/// After every certificate's end (the year 9999): who is asked then, tells its end.
const NEVER_S: u64 = 253_402_300_799;

/// A server's certificate, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    /// Address of the server.
    pub(super) at: String,
    /// `TLS 1.3`.
    pub(super) version: String,
    /// `h2`, `http/1.1`; none if the server does not negotiate.
    pub(super) protocol: Option<String>,
    /// Leads to an authority; else why not.
    pub(super) chain: Result<(), String>,
    /// Certificates that the server sent.
    pub(super) sent: usize,
    /// Is for this name; else whom it is for.
    pub(super) name: Result<(), String>,
    /// End of the first of the chain to end, seconds since epoch; `None`: can't be read.
    pub(super) ends_s: Option<u64>,
    /// Begins only then.
    pub(super) begins_s: Option<u64>,
}

impl Certificate {
    /// Whether a browser would talk to it.
    pub(super) fn is_trusted(&self, now_s: u64) -> bool {
        self.chain.is_ok()
            && self.name.is_ok()
            && self.begins_s.is_none()
            && self.ends_s.is_some_and(|ends_s| now_s <= ends_s)
    }
}

/// Authorities, and connections by them.
pub(super) struct Trust {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
}

impl Trust {
    /// The authorities of `pem`, or the system's.
    ///
    /// # Errors
    /// Certificates that can't be read, or none at all.
    pub(super) fn new(pem: Option<&[u8]>) -> anyhow::Result<Self> {
        Ok(Self { provider: Arc::new(aws_lc_rs::default_provider()), roots: Arc::new(authorities(pem)?) })
    }

    /// A connector: `strict` refuses what is not trusted.
    pub(super) fn connector(&self, strict: bool, protocols: &[&[u8]]) -> anyhow::Result<TlsConnector> {
        let mut config = client_config(Arc::clone(&self.roots))?;
        if !strict {
            let any = Arc::new(AnyCertificate(Arc::clone(&self.provider)));
            config.dangerous().set_certificate_verifier(any);
        }
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(TlsConnector::from(Arc::new(config)))
    }

    /// Judges what `name` sent, the server's own certificate first.
    pub(super) fn judge(&self, sent: &[CertificateDer<'_>], name: &ServerName<'_>, now_s: u64) -> Certificate {
        let words = |error: Error| match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer) if sent.len() == 1 => {
                "no known authority signed it, and no intermediate certificate was sent".to_owned()
            }
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                "no known authority stands at the end of the certificates that were sent".to_owned()
            }
            Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
                // They come as `DnsName("a.example")`.
                let plain = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
                let names: Vec<String> = presented.iter().map(plain).collect();
                format!("it is for {}", if names.is_empty() { "no name".into() } else { names.join(", ") })
            }
            other => other.to_string(),
        };
        let mut out = Certificate {
            at: String::new(),
            version: String::new(),
            protocol: None,
            chain: Err("the server sent no certificate".into()),
            sent: sent.len(),
            name: Err("the server sent no certificate".into()),
            ends_s: None,
            begins_s: None,
        };
        let parsed: Vec<ParsedCertificate<'_>> =
            sent.iter().filter_map(|it| ParsedCertificate::try_from(it).ok()).collect();
        let Some((first, above)) = sent.split_first() else { return out };
        let leaf = match ParsedCertificate::try_from(first) {
            Ok(leaf) => leaf,
            Err(error) => {
                (out.chain, out.name) = (Err(error.to_string()), Err("it can't be read".into()));
                return out;
            }
        };
        let at = |certificate: &ParsedCertificate<'_>, time_s: u64| {
            let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(time_s));
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(certificate, &self.roots, above, time, algorithms)
        };
        // Validity is looked at before anything else, so each certificate tells its end by itself.
        let end = |certificate: &ParsedCertificate<'_>| match at(certificate, NEVER_S) {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                Some(not_after.as_secs())
            }
            _ => None,
        };
        out.ends_s = parsed.iter().filter_map(end).min();
        if let Err(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) =
            at(&leaf, now_s)
        {
            out.begins_s = Some(not_before.as_secs());
        }
        // Whether it leads anywhere is asked at a time when it holds: its age has a line of its own.
        let then_s = out.begins_s.unwrap_or(now_s).min(out.ends_s.unwrap_or(now_s));
        out.chain = at(&leaf, then_s).map_err(words);
        out.name = verify_server_name(&leaf, name).map_err(words);
        out
    }
}

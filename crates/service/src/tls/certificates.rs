//! The certificates of a listener: by the name that a client asks for, read again when their files change.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use serde::Deserialize;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::config::ConfigError;

/// How often the files are looked at: whoever renews certificates does so weeks before they end.
const LOOKS: Duration = Duration::from_secs(10);

/// A certificate and its key.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// PEM file: the certificate, then those that it was signed by.
    pub cert: PathBuf,
    /// PEM file: its private key.
    pub key: PathBuf,
}

/// Certificates, the first of which is for clients that ask for no name, or for one that none is for.
#[derive(Debug)]
pub(super) struct Certificates {
    /// Name of the section in errors.
    section: String,
    files: Vec<CertificateFiles>,
    current: RwLock<Arc<[Arc<CertifiedKey>]>>,
}

impl Certificates {
    /// Reads all of them.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names the file that can't be read, holds no PEM, or a key that doesn't fit.
    pub(super) fn read(section: &str, files: Vec<CertificateFiles>) -> Result<Arc<Self>, ConfigError> {
        let current = RwLock::new(read_all(section, &files)?);
        Ok(Arc::new(Self { section: section.to_owned(), files, current }))
    }

    /// Reads the files again whenever their bytes change, for as long as somebody uses them. What is broken is told
    /// once, and what was good stays in use.
    pub(super) fn follow_files(self: &Arc<Self>) {
        let (weak, files) = (Arc::downgrade(self), self.files.clone());
        tokio::spawn(async move {
            let mut seen = bytes_of(&files).await;
            while let Some(certificates) = wait(&weak).await {
                let now = bytes_of(&files).await;
                if now == seen {
                    continue;
                }
                seen = now;
                match certificates.reload() {
                    Ok(()) => tracing::info!(section = certificates.section, "certificates were read anew"),
                    Err(error) => tracing::error!(%error, "the certificates before stay in use"),
                }
            }
        });
    }

    fn reload(&self) -> Result<(), ConfigError> {
        let read = read_all(&self.section, &self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let all = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let fits = |wanted: &ServerName<'_>, key: &CertifiedKey| {
            let parsed = key.end_entity_cert().ok().and_then(|cert| ParsedCertificate::try_from(cert).ok());
            parsed.is_some_and(|cert| verify_server_name(&cert, wanted).is_ok())
        };
        let wanted = name.and_then(|name| ServerName::try_from(name).ok());
        let found = wanted.and_then(|wanted| all.iter().find(|key| fits(&wanted, key)));
        found.or_else(|| all.first()).cloned()
    }
}

async fn wait(weak: &Weak<Certificates>) -> Option<Arc<Certificates>> {
    tokio::time::sleep(LOOKS).await;
    weak.upgrade()
}

async fn bytes_of(files: &[CertificateFiles]) -> Vec<Option<Vec<u8>>> {
    let mut out = Vec::new();
    for path in files.iter().flat_map(|files| [&files.cert, &files.key]) {
        out.push(tokio::fs::read(path).await.ok());
    }
    out
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

fn read_all(section: &str, files: &[CertificateFiles]) -> Result<Arc<[Arc<CertifiedKey>]>, ConfigError> {
    files.iter().map(|files| read_one(section, files).map(Arc::new)).collect()
}

fn read_one(section: &str, files: &CertificateFiles) -> Result<CertifiedKey, ConfigError> {
    let bad = |name: &str, file: &PathBuf, valid: &str, error: &dyn std::fmt::Display| {
        ConfigError::invalid(format!("{section}.{name}"), file.display(), format!("{valid}; {error}"))
    };
    let certs = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad("cert", &files.cert, "a readable PEM file of certificates", &error))?;
    if certs.is_empty() {
        return Err(bad("cert", &files.cert, "a PEM file of certificates", &"there is none in it"));
    }
    let private = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| bad("key", &files.key, "a readable PEM file of a private key", &error))?;
    CertifiedKey::from_der(certs, private, &aws_lc_rs::default_provider())
        .map_err(|error| bad("cert", &files.cert, "a certificate and the key that belongs to it", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &std::path::Path, name: &str, hosts: &[&str]) -> CertificateFiles {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(hosts).expect("certificate");
        let files = CertificateFiles { cert: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) };
        std::fs::write(&files.cert, made.cert.pem()).expect("written");
        std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
        files
    }

    fn first_bytes(files: &CertificateFiles) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&files.cert).expect("certificate")
    }

    #[test]
    fn a_client_gets_the_certificate_for_the_name_that_it_asks_for() {
        let dir = tempfile::tempdir().expect("dir");
        let one = write(dir.path(), "one", &["a.example", "b.example"]);
        let two = write(dir.path(), "two", &["*.media.example"]);
        let certificates = Certificates::read("edge.tls", vec![one.clone(), two.clone()]).expect("read");
        for (name, expected) in [
            (Some("a.example"), &one),
            (Some("b.example"), &one),
            (Some("x.media.example"), &two),
            (Some("x.y.media.example"), &one),
            (Some("else.example"), &one),
            (None, &one),
        ] {
            let found = certificates.find(name).expect("one");
            assert_eq!(found.cert[0], first_bytes(expected), "{name:?}");
        }
    }

    #[test]
    fn a_renewed_certificate_is_used_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().expect("dir");
        let files = write(dir.path(), "one", &["a.example"]);
        let certificates = Certificates::read("edge.tls", vec![files.clone()]).expect("read");
        write(dir.path(), "one", &["a.example"]);
        let renewed = first_bytes(&files);
        assert_ne!(certificates.find(None).expect("one").cert[0], renewed);
        certificates.reload().expect("read");
        assert_eq!(certificates.find(None).expect("one").cert[0], renewed);
        // Half of a renewal: the key is not there yet.
        let other = write(dir.path(), "other", &["a.example"]);
        std::fs::copy(&other.cert, &files.cert).expect("copied");
        let error = certificates.reload().expect_err("they don't belong together").to_string();
        assert!(error.contains("edge.tls.cert") && error.contains("one.pem"), "{error}");
        assert_eq!(certificates.find(None).expect("one").cert[0], renewed);
        std::fs::write(&files.cert, "").expect("written");
        assert!(certificates.reload().expect_err("empty").to_string().contains("there is none in it"));
    }
}

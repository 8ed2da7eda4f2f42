//! The keys that manifests are signed with, and their rotation: the next key is announced long before it signs, and one
//! that no longer signs is announced for as long as a manifest of it may hold.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use spillway_bus::{Store, StoreError};
use spillway_model::{Millis, TimestampMs};
use spillway_wire::envelope::{KEYS_KEY, key_id, read_keys};

use crate::publish::PublishError;

/// Store key of what is known of each key: JSON, key id → [`Times`].
const TIMES_KEY: &str = "keys/manifest.times";
/// The times are looked after so often.
const TEND_EVERY: Millis = Millis::from_secs(600);

/// When a key was what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Times {
    /// First seen among the announced keys, ms since epoch.
    announced_ms: u64,
    /// Last known to sign, ms since epoch; 0: never.
    #[serde(default)]
    signed_ms: u64,
}

/// A key that signs.
pub(crate) struct Signer {
    /// Its id.
    pub(crate) kid: String,
    pub(crate) key: SigningKey,
    public: String,
}

impl Signer {
    /// Reads the key (32 bytes, base64); makes the file where `make` says so and there is none.
    pub(crate) fn open(path: &Path, make: bool) -> Result<Self, PublishError> {
        let key = read(path, make)?;
        let public = BASE64.encode(key.verifying_key().to_bytes());
        Ok(Self { kid: key_id(&public), key, public })
    }
}

/// The key that signs, and the one that will.
pub(crate) struct KeyRing {
    current: Signer,
    /// With the moment from which on it signs.
    next: Option<(Signer, TimestampMs)>,
    tended: Option<TimestampMs>,
}

impl KeyRing {
    /// Announces the key and signs with it.
    pub(crate) async fn open(store: &Arc<dyn Store>, file: &Path) -> Result<Self, PublishError> {
        let current = Signer::open(file, true)?;
        announce(store, &current).await?;
        Ok(Self { current, next: None, tended: None })
    }

    /// Announces a second key, which signs once it has been announced for `lead`. A restart does not begin that anew.
    pub(crate) async fn follow_with(
        &mut self,
        store: &Arc<dyn Store>,
        file: &Path,
        lead: Millis,
        now: TimestampMs,
    ) -> Result<(), PublishError> {
        let next = Signer::open(file, false)?;
        announce(store, &next).await?;
        let times = note(store, &[&next.kid, &self.current.kid], None, now).await?;
        let announced = times.get(&next.kid).map_or(now.0, |times| times.announced_ms);
        self.next = Some((next, TimestampMs(announced).after(lead)));
        Ok(())
    }

    /// The key that signs at `now`.
    pub(crate) fn signer(&self, now: TimestampMs) -> &Signer {
        match &self.next {
            Some((next, from)) if now >= *from => next,
            _ => &self.current,
        }
    }

    /// Every key that is announced, and those of this process.
    pub(crate) async fn known(&self, store: &Arc<dyn Store>) -> Result<BTreeMap<String, VerifyingKey>, StoreError> {
        let mut keys = store.get(KEYS_KEY).await?.map(|found| read_keys(&found.value)).unwrap_or_default();
        for signer in self.own() {
            keys.insert(signer.kid.clone(), signer.key.verifying_key());
        }
        Ok(keys)
    }

    fn own(&self) -> impl Iterator<Item = &Signer> {
        std::iter::once(&self.current).chain(self.next.iter().map(|(next, _)| next))
    }

    /// Writes down which key signs, and takes back those that are not of this process and have not signed for `keep`.
    /// Rarely: most calls do nothing.
    pub(crate) async fn tend(
        &mut self,
        store: &Arc<dyn Store>,
        keep: Millis,
        now: TimestampMs,
    ) -> Result<(), StoreError> {
        if self.tended.is_some_and(|last| now.since(last) < TEND_EVERY) {
            return Ok(());
        }
        self.tended = Some(now);
        let announced = store.get(KEYS_KEY).await?;
        let Some(announced) = announced else { return Ok(()) };
        let mut keys: BTreeMap<String, String> = serde_json::from_slice(&announced.value).unwrap_or_default();
        let kids: Vec<&String> = keys.keys().collect();
        let times = note(store, &kids, Some(&self.signer(now).kid), now).await?;
        let own: Vec<&String> = self.own().map(|signer| &signer.kid).collect();
        let before = keys.len();
        keys.retain(|kid, _| {
            let last = times.get(kid).map_or(now.0, |times| times.announced_ms.max(times.signed_ms));
            own.contains(&kid) || now.since(TimestampMs(last)) <= keep
        });
        if keys.len() < before {
            match store.compare_and_set(KEYS_KEY, announced.version, json(&keys)).await {
                Ok(_) => tracing::info!(left = keys.len(), gone = before - keys.len(), "old manifest keys taken back"),
                // Somebody announces one just now: the next time is early enough.
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("maps with string keys").into()
}

async fn announce(store: &Arc<dyn Store>, signer: &Signer) -> Result<(), StoreError> {
    loop {
        let current = store.get(KEYS_KEY).await?;
        let (version, mut keys) = match current {
            Some(found) => (found.version, serde_json::from_slice(&found.value).unwrap_or_default()),
            None => (0, BTreeMap::<String, String>::new()),
        };
        if keys.get(&signer.kid) == Some(&signer.public) {
            return Ok(());
        }
        keys.insert(signer.kid.clone(), signer.public.clone());
        match store.compare_and_set(KEYS_KEY, version, json(&keys)).await {
            Ok(_) => return Ok(()),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Keeps the times of `kids`, of which one signs now; those of others are forgotten.
async fn note<S: AsRef<str>>(
    store: &Arc<dyn Store>,
    kids: &[S],
    signs: Option<&String>,
    now: TimestampMs,
) -> Result<BTreeMap<String, Times>, StoreError> {
    loop {
        let found = store.get(TIMES_KEY).await?;
        let (version, before) = match &found {
            Some(found) => (found.version, serde_json::from_slice(&found.value).unwrap_or_default()),
            None => (0, BTreeMap::<String, Times>::new()),
        };
        let mut times = before.clone();
        for kid in kids {
            times.entry(kid.as_ref().to_owned()).or_insert(Times { announced_ms: now.0, signed_ms: 0 });
        }
        if let Some(times) = signs.and_then(|kid| times.get_mut(kid)) {
            times.signed_ms = now.0;
        }
        if signs.is_some() {
            times.retain(|kid, _| kids.iter().any(|known| known.as_ref() == kid));
        }
        if times == before {
            return Ok(times);
        }
        match store.compare_and_set(TIMES_KEY, version, json(&times)).await {
            Ok(_) => return Ok(times),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

fn read(path: &Path, make: bool) -> Result<SigningKey, PublishError> {
    let bad = |detail: String| PublishError::Key { path: path.display().to_string(), detail };
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let bytes = BASE64.decode(text.trim()).map_err(|error| bad(error.to_string()))?;
            let bytes: [u8; 32] =
                bytes.try_into().map_err(|_| bad("it is not base64 of 32 bytes (spillway keygen makes one)".into()))?;
            Ok(SigningKey::from_bytes(&bytes))
        }
        Err(error) if make && error.kind() == std::io::ErrorKind::NotFound => {
            let seed: [u8; 32] = spillway_service::random::bytes();
            write_private(path, &BASE64.encode(seed)).map_err(|error| bad(error.to_string()))?;
            Ok(SigningKey::from_bytes(&seed))
        }
        Err(error) => Err(bad(error.to_string())),
    }
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use spillway_bus::DirStore;

    use super::*;
    use crate::fixtures::NOW;

    const LEAD: Millis = Millis::from_secs(3_600);
    const KEEP: Millis = Millis::from_secs(86_400);

    async fn announced(store: &Arc<dyn Store>) -> Vec<String> {
        let found = store.get(KEYS_KEY).await.expect("get").expect("there");
        read_keys(&found.value).into_keys().collect()
    }

    #[tokio::test]
    async fn a_next_key_is_announced_first_then_signs_and_the_old_one_is_taken_back_at_last() {
        let dir = tempfile::tempdir().expect("dir");
        let store: Arc<dyn Store> = Arc::new(DirStore::open(dir.path()).expect("store"));
        let (old_file, new_file) = (dir.path().join("manifest.key"), dir.path().join("next.key"));
        let new = Signer::open(&new_file, true).expect("made").kid;
        let mut ring = KeyRing::open(&store, &old_file).await.expect("open");
        let old = ring.current.kid.clone();
        ring.tend(&store, KEEP, NOW).await.expect("tended");
        ring.follow_with(&store, &new_file, LEAD, NOW).await.expect("announced");
        assert_eq!(announced(&store).await.len(), 2);

        let at = |s: u64| NOW.after(Millis::from_secs(s));
        assert_eq!(ring.signer(at(3_599)).kid, old);
        assert_eq!(ring.signer(at(3_600)).kid, new);
        let mut again = KeyRing::open(&store, &old_file).await.expect("a restart");
        again.follow_with(&store, &new_file, LEAD, at(1_800)).await.expect("announced before");
        assert_eq!(again.signer(at(3_600)).kid, new, "the lead does not begin anew");
        again.tend(&store, KEEP, at(3_600)).await.expect("tended");

        std::fs::rename(&new_file, &old_file).expect("the operator's move");
        let mut later = KeyRing::open(&store, &old_file).await.expect("open");
        later.tend(&store, KEEP, at(80_000)).await.expect("tended");
        assert_eq!(announced(&store).await.len(), 2, "a manifest of the old one may still hold");
        later.tend(&store, KEEP, at(80_000 + 599)).await.expect("too early to look");
        later.tend(&store, KEEP, at(86_400 + 3_601)).await.expect("tended");
        assert_eq!(announced(&store).await, [new]);
    }

    #[tokio::test]
    async fn a_next_key_must_be_there_and_a_bad_one_is_named() {
        let dir = tempfile::tempdir().expect("dir");
        let store: Arc<dyn Store> = Arc::new(DirStore::open(dir.path()).expect("store"));
        let mut ring = KeyRing::open(&store, &dir.path().join("manifest.key")).await.expect("open");
        let missing = dir.path().join("next.key");
        let error = ring.follow_with(&store, &missing, LEAD, NOW).await.expect_err("missing").to_string();
        assert!(error.contains("next.key"), "{error}");
        std::fs::write(&missing, "short").expect("write");
        let error = ring.follow_with(&store, &missing, LEAD, NOW).await.expect_err("bad").to_string();
        assert!(error.contains("next.key"), "{error}");
    }
}

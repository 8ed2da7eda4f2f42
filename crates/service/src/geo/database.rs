//! Databases in MaxMind's format, read whole into memory, and exchanged while they are used.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use maxminddb::{MaxMindDbError, PathElement, Reader, WithinOptions};
use tokio_util::sync::CancellationToken;

use super::{Country, GeoConfig};
use crate::config::ConfigError;
use crate::geo::client::asn;

/// A larger file is no database that we know: MaxMind's largest is well below.
const FILE_MAX_BYTES: u64 = 2 << 30;
/// Networks of a new file that are read for a check; more would take seconds.
const CHECKED_NETWORKS: usize = 2_000_000;

type Keys = &'static [PathElement<'static>];

/// Where the databases in use keep a country: MaxMind's, then flat ones (ip-location-db), then `IPinfo`'s.
const COUNTRY_KEYS: [Keys; 4] = [
    &[PathElement::Key("country"), PathElement::Key("iso_code")],
    &[PathElement::Key("country_code")],
    &[PathElement::Key("country")],
    &[PathElement::Key("registered_country"), PathElement::Key("iso_code")],
];
/// And a network: as a number, or as text (`AS64500`).
const ASN_KEYS: [Keys; 2] = [&[PathElement::Key("autonomous_system_number")], &[PathElement::Key("asn")]];

/// What the databases know of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Network.
    pub asn: Option<u32>,
    /// Country.
    pub country: Option<Country>,
}

/// What became of a file that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It is in use now.
    Loaded(PathBuf),
    /// It is not, for this reason; the one before stays.
    Kept(PathBuf, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Asn,
    Country,
}

/// Time of change and length: what tells one file from the next.
type Stamp = (Option<SystemTime>, u64);

struct File {
    of: Of,
    path: PathBuf,
    /// Of the file that was looked at last, good or not.
    stamp: Option<Stamp>,
    reader: Option<Arc<Reader<Vec<u8>>>>,
}

/// The configured databases.
#[derive(Default)]
pub struct Databases {
    files: RwLock<Vec<File>>,
    reload_s: u64,
}

impl std::fmt::Debug for Databases {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_list().entries(self.paths()).finish()
    }
}

impl Databases {
    /// Reads the files that `config` names.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names the file and what is wrong with it.
    pub fn open(config: &GeoConfig) -> Result<Self, ConfigError> {
        if !(1..=86_400).contains(&config.reload_s) {
            return Err(ConfigError::invalid("geo.reload_s", config.reload_s, "1 to 86400"));
        }
        let named = [("asn_db", Of::Asn, &config.asn_db), ("country_db", Of::Country, &config.country_db)];
        let mut files = Vec::new();
        for (key, of, path) in named {
            let Some(path) = path else { continue };
            let mut file = File { of, path: path.clone(), stamp: None, reader: None };
            file.reload().map_err(|detail| {
                let valid = format!("a database in MaxMind's format that knows {}; it says: {detail}", of.plural());
                ConfigError::invalid(format!("geo.{key}"), path.display(), valid)
            })?;
            files.push(file);
        }
        Ok(Self { files: RwLock::new(files), reload_s: config.reload_s })
    }

    /// What is known of `address`.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Found {
        let address = address.to_canonical();
        let mut found = Found::default();
        for file in self.files.read().unwrap_or_else(PoisonError::into_inner).iter() {
            // A database of IPv4 only has no answer for IPv6, which is no fault.
            let Some(record) = file.reader.as_ref().and_then(|reader| reader.lookup(address).ok()) else { continue };
            match file.of {
                Of::Asn => found.asn = asn_of(&record),
                Of::Country => found.country = country_of(&record),
            }
        }
        found
    }

    /// Loads the files that changed since they were last looked at. A bad one is told and not used. Reads files: not
    /// for a task.
    pub fn reload_changed(&self) -> Vec<Reload> {
        let mut out = Vec::new();
        for index in 0.. {
            let (of, path, stamp) = {
                let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
                let Some(file) = files.get(index) else { return out };
                (file.of, file.path.clone(), file.stamp)
            };
            let mut fresh = File { of, path: path.clone(), stamp, reader: None };
            if stamp_of(&path).is_ok_and(|now| Some(now) == stamp) {
                continue;
            }
            let read = fresh.reload();
            let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
            if fresh.stamp == stamp {
                // It could not even be looked at, and that is not news.
                continue;
            }
            files[index].stamp = fresh.stamp;
            match read {
                Ok(()) => {
                    files[index].reader = fresh.reader;
                    out.push(Reload::Loaded(path));
                }
                Err(detail) => out.push(Reload::Kept(path, detail)),
            }
        }
        out
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).iter().map(|file| file.path.clone()).collect()
    }
}

impl File {
    fn reload(&mut self) -> Result<(), String> {
        let stamp = stamp_of(&self.path);
        // A file that is gone is a change too, but only once.
        self.stamp = Some(*stamp.as_ref().unwrap_or(&(None, 0)));
        let (_, length) = stamp?;
        if length > FILE_MAX_BYTES {
            return Err(format!("{length} bytes, at most {FILE_MAX_BYTES} are valid"));
        }
        let reader = Reader::open_readfile(&self.path).map_err(|error| error.to_string())?;
        check(&reader, self.of)?;
        metrics::gauge!("spillway_geo_database_build_seconds", "of" => self.of.name())
            .set(reader.metadata().build_epoch as f64);
        self.reader = Some(Arc::new(reader));
        Ok(())
    }
}

impl Of {
    const fn name(self) -> &'static str {
        match self {
            Self::Asn => "asn",
            Self::Country => "country",
        }
    }

    const fn plural(self) -> &'static str {
        match self {
            Self::Asn => "networks",
            Self::Country => "countries",
        }
    }
}

fn stamp_of(path: &Path) -> Result<Stamp, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    Ok((metadata.modified().ok(), metadata.len()))
}

/// Reads the file's networks: a damaged one, or one about something else, is not to be used.
fn check(reader: &Reader<Vec<u8>>, of: Of) -> Result<(), String> {
    let told = |error: MaxMindDbError| error.to_string();
    let mut known = 0_usize;
    for record in reader.networks(WithinOptions::default()).map_err(told)?.take(CHECKED_NETWORKS) {
        let record = record.map_err(told)?;
        known += usize::from(match of {
            Of::Asn => asn_of(&record).is_some(),
            Of::Country => country_of(&record).is_some(),
        });
    }
    if known == 0 {
        let kind = &reader.metadata().database_type;
        return Err(format!("a {kind:?} database, which names no {}", of.plural()));
    }
    Ok(())
}

type Record<'a> = maxminddb::LookupResult<'a, Vec<u8>>;

fn country_of(record: &Record<'_>) -> Option<Country> {
    // Another shape than a key expects is an error there, and only means that another key is the right one.
    let at = |keys: &Keys| record.decode_path::<&str>(keys).ok().flatten();
    COUNTRY_KEYS.iter().find_map(|keys| at(keys).and_then(Country::new))
}

fn asn_of(record: &Record<'_>) -> Option<u32> {
    let number = |keys: &Keys| record.decode_path::<u32>(keys).ok().flatten().filter(|asn| *asn != 0);
    let text = |keys: &Keys| record.decode_path::<&str>(keys).ok().flatten().and_then(asn);
    ASN_KEYS.iter().find_map(|keys| number(keys).or_else(|| text(keys)))
}

/// Looks at the files every `geo.reload_s` and loads what changed, until `shutdown`.
pub async fn watch(databases: Arc<Databases>, shutdown: CancellationToken) {
    if databases.paths().is_empty() {
        return;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(databases.reload_s));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let looking = Arc::clone(&databases);
        let Ok(changes) = tokio::task::spawn_blocking(move || looking.reload_changed()).await else { continue };
        for change in changes {
            match change {
                Reload::Loaded(path) => {
                    metrics::counter!("spillway_geo_reloads_total", "outcome" => "loaded").increment(1);
                    tracing::info!(path = %path.display(), "a new geo database is in use");
                }
                Reload::Kept(path, reason) => {
                    metrics::counter!("spillway_geo_reloads_total", "outcome" => "kept").increment(1);
                    tracing::warn!(path = %path.display(), reason, "a new geo database is bad; the old one stays");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::geo::test_database::{Value, database};

    fn flat(country: &str, prefix: &str) -> (String, Value) {
        (prefix.to_owned(), Value::map([("country_code", Value::text(country))]))
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("spillway-geo-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("folder");
        folder
    }

    fn of(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn every_shape_of_database_in_use_is_read() {
        let folder = folder("shapes");
        let maxmind = Value::map([("country", Value::map([("iso_code", Value::text("SE"))]))]);
        let registered = Value::map([("registered_country", Value::map([("iso_code", Value::text("NO"))]))]);
        let plain = Value::map([("country", Value::text("FI")), ("asn", Value::text("AS64500"))]);
        let countries = database(&[
            flat("DE", "10.1.0.0/16"),
            ("10.2.0.0/16".into(), maxmind),
            ("10.3.0.0/16".into(), registered),
            ("10.4.0.0/16".into(), plain.clone()),
            flat("FR", "2001:db8::/32"),
        ]);
        let networks = database(&[
            ("10.1.0.0/16".into(), Value::map([("autonomous_system_number", Value::Number(64_501))])),
            ("10.4.0.0/16".into(), plain),
        ]);
        let (country_db, asn_db) = (folder.join("country.mmdb"), folder.join("asn.mmdb"));
        fs::write(&country_db, countries).expect("write");
        fs::write(&asn_db, networks).expect("write");
        let config = GeoConfig { asn_db: Some(asn_db), country_db: Some(country_db), ..GeoConfig::default() };
        let databases = Databases::open(&config).expect("open");
        let found = |text: &str| {
            let found = databases.find(of(text));
            (found.country.map(|country| country.as_str().to_owned()).unwrap_or_default(), found.asn)
        };
        assert_eq!(found("10.1.2.3"), ("DE".into(), Some(64_501)));
        assert_eq!(found("::ffff:10.1.2.3"), ("DE".into(), Some(64_501)));
        assert_eq!(found("10.2.2.3"), ("SE".into(), None));
        assert_eq!(found("10.3.2.3"), ("NO".into(), None));
        assert_eq!(found("10.4.2.3"), ("FI".into(), Some(64_500)));
        assert_eq!(found("2001:db8::9"), ("FR".into(), None));
        assert_eq!(found("192.0.2.1"), (String::new(), None));
        fs::remove_dir_all(folder).expect("remove");
    }

    #[test]
    fn a_changed_file_is_loaded_and_a_bad_one_is_not() {
        let folder = folder("reload");
        let path = folder.join("country.mmdb");
        fs::write(&path, database(&[flat("DE", "10.0.0.0/8")])).expect("write");
        let config = GeoConfig { country_db: Some(path.clone()), ..GeoConfig::default() };
        let databases = Databases::open(&config).expect("open");
        let country = || databases.find(of("10.1.1.1")).country.map(|country| country.as_str().to_owned());
        assert_eq!(country().as_deref(), Some("DE"));
        assert_eq!(databases.reload_changed(), [], "nothing changed");

        let whole = database(&[flat("FR", "10.0.0.0/8"), flat("FR", "11.0.0.0/8")]);
        fs::write(&path, &whole[..whole.len() / 2]).expect("write");
        let kept = databases.reload_changed();
        assert!(matches!(&kept[..], [Reload::Kept(at, why)] if *at == path && !why.is_empty()), "{kept:?}");
        assert_eq!((country().as_deref(), databases.reload_changed()), (Some("DE"), vec![]), "told once");

        fs::remove_file(&path).expect("remove");
        assert!(matches!(&databases.reload_changed()[..], [Reload::Kept(..)]));
        assert_eq!((country().as_deref(), databases.reload_changed()), (Some("DE"), vec![]), "told once");

        fs::write(&path, whole).expect("write");
        assert_eq!(databases.reload_changed(), [Reload::Loaded(path)]);
        assert_eq!(country().as_deref(), Some("FR"));
        fs::remove_dir_all(folder).expect("remove");
    }

    #[test]
    fn a_file_that_is_none_or_about_something_else_is_named() {
        let folder = folder("bad");
        let opened = |bytes: Option<Vec<u8>>| {
            let path = folder.join("asn.mmdb");
            let _ = fs::remove_file(&path);
            if let Some(bytes) = bytes {
                fs::write(&path, bytes).expect("write");
            }
            let config = GeoConfig { asn_db: Some(path), ..GeoConfig::default() };
            Databases::open(&config).expect_err("bad").to_string()
        };
        for (bytes, says) in [
            (None, "No such file"),
            (Some(vec![]), "asn.mmdb"),
            (Some(b"not a database".to_vec()), "geo.asn_db"),
            (Some(database(&[flat("DE", "10.0.0.0/8")])), "names no networks"),
        ] {
            let error = opened(bytes);
            assert!(error.contains(says) && error.contains("asn.mmdb"), "{error}");
        }
        let config = GeoConfig { reload_s: 0, ..GeoConfig::default() };
        assert!(Databases::open(&config).expect_err("bad").to_string().contains("geo.reload_s"));
        fs::remove_dir_all(folder).expect("remove");
    }

    #[test]
    fn no_byte_of_a_damaged_file_brings_the_reader_down() {
        let whole = database(&[flat("DE", "10.0.0.0/8"), flat("FR", "2001:db8::/32")]);
        let mut refused = 0;
        for at in 0..whole.len() {
            for with in [0x00, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = with;
                let reader = Reader::from_source(damaged).map_err(|error| error.to_string());
                match reader.and_then(|reader| check(&reader, Of::Country).map(|()| reader)) {
                    Ok(reader) => {
                        for address in ["10.1.1.1", "2001:db8::1", "::"] {
                            let _ = reader.lookup(of(address)).map(|record| (country_of(&record), asn_of(&record)));
                        }
                    }
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > 0);
    }
}

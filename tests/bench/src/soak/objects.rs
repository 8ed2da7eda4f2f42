//! What is asked for: objects of many sizes and versions, whose bytes both the origin and the clients know by heart.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::body::Bytes;

use crate::edge::origin::noise;
use crate::soak::random::Random;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// Sizes, and how many there are of each among a hundred. The largest are more than the edge keeps.
const SIZES: [(u32, usize); 7] =
    [(30, KIB), (28, 16 * KIB), (20, 256 * KIB), (12, MIB), (6, 4 * MIB), (3, 7 * MIB), (1, 8 * MIB)];
/// How steep popularity is: the object of rank n is asked for as often as this power of n says.
const ZIPF: f64 = 0.9;
/// Objects of one folder, which a purge may name, and of one tag.
const FOLDER: usize = 64;
const TAGS: usize = 61;
/// A later version is so many bytes longer, up to [`LENGTHS`] of them.
const LONGER_BYTES: usize = 13;
const LENGTHS: usize = 7;
/// Where the bytes of a body may begin.
const PLACES: usize = 8 * MIB;

/// How an object's answers look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// Without a length.
    pub(crate) chunked: bool,
    /// Its ETag is a weak one.
    pub(crate) weak: bool,
    pub(crate) control: &'static str,
}

const CONTROLS: [&str; 6] = [
    "max-age=600",
    "max-age=600, stale-if-error=60",
    "max-age=60",
    "max-age=2, stale-while-revalidate=5",
    "max-age=1",
    "no-store",
];

/// All objects.
pub(crate) struct Objects {
    noise: Bytes,
    sizes: Vec<usize>,
    /// What the origin has now.
    versions: Vec<AtomicU32>,
    /// Nothing older may be answered to who asks now: it was purged.
    oldest: Vec<AtomicU32>,
    /// Sums of popularity; the last is that of all.
    popularity: Vec<f64>,
    /// Objects from the most popular one on.
    ranks: Vec<usize>,
}

impl Objects {
    /// So many that they take `bytes` together.
    pub(crate) fn new(bytes: usize, random: &mut Random) -> Self {
        let mut sizes = Vec::new();
        let mut sum = 0;
        while sum < bytes {
            let size = random.one_of(&SIZES);
            sizes.push(size);
            sum += size;
        }
        let mut ranks: Vec<usize> = (0..sizes.len()).collect();
        for at in (1..ranks.len()).rev() {
            ranks.swap(at, random.below(at + 1));
        }
        let mut sum = 0.0;
        let popularity = (1..=sizes.len()).map(|rank| {
            sum += (rank as f64).powf(-ZIPF);
            sum
        });
        Self {
            noise: noise(PLACES + 8 * MIB + LENGTHS * LONGER_BYTES),
            versions: sizes.iter().map(|_| AtomicU32::new(1)).collect(),
            oldest: sizes.iter().map(|_| AtomicU32::new(0)).collect(),
            popularity: popularity.collect(),
            sizes,
            ranks,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.sizes.len()
    }

    /// Bytes of all.
    pub(crate) fn bytes(&self) -> u64 {
        self.sizes.iter().map(|size| *size as u64).sum()
    }

    /// Some object, popular ones more often.
    pub(crate) fn popular(&self, random: &mut Random) -> usize {
        let drawn = random.share() * self.popularity.last().copied().unwrap_or_default();
        self.ranks[self.popularity.partition_point(|sum| *sum <= drawn).min(self.ranks.len() - 1)]
    }

    /// Bytes that every version of an object has at least.
    pub(crate) fn least_bytes(&self, number: usize) -> usize {
        self.sizes[number]
    }

    /// Body of a version.
    pub(crate) fn body(&self, number: usize, version: u32) -> Bytes {
        let bytes = self.sizes[number] + (version as usize % LENGTHS) * LONGER_BYTES;
        let from = Random::new((number as u64) << 32 | u64::from(version)).below(PLACES);
        self.noise.slice(from..from + bytes)
    }

    pub(crate) fn version(&self, number: usize) -> u32 {
        self.versions[number].load(Ordering::Relaxed)
    }

    /// From now on the origin has another version.
    pub(crate) fn change(&self, number: usize) {
        self.versions[number].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn oldest(&self, number: usize) -> u32 {
        self.oldest[number].load(Ordering::Relaxed)
    }

    /// A purge was answered that was sent when the origin had `version`.
    pub(crate) fn purged(&self, number: usize, version: u32) {
        self.oldest[number].fetch_max(version, Ordering::Relaxed);
    }

    pub(crate) fn manner(&self, number: usize) -> Manner {
        // By the object's number, so that each manner meets each size and popularity.
        let chance = Random::new(!(number as u64)).below(1_000);
        Manner {
            chunked: chance.is_multiple_of(8),
            weak: chance % 10 == 1,
            control: if chance < 20 { "no-store" } else { CONTROLS[chance % (CONTROLS.len() - 1)] },
        }
    }

    pub(crate) fn etag(&self, number: usize, version: u32) -> String {
        format!("{}\"{number}-{version}\"", if self.manner(number).weak { "W/" } else { "" })
    }

    /// The version of object `number` that an ETag names.
    pub(crate) fn version_of(&self, number: usize, etag: &str) -> Option<u32> {
        let (named, version) = etag.trim_start_matches("W/").trim_matches('"').split_once('-')?;
        let version = version.parse().ok()?;
        (named.parse() == Ok(number) && version > 0 && version <= self.version(number)).then_some(version)
    }

    pub(crate) fn folder(&self, number: usize) -> (String, Range<usize>) {
        let folder = number / FOLDER;
        (format!("/{folder}/"), folder * FOLDER..((folder + 1) * FOLDER).min(self.count()))
    }

    pub(crate) fn tag(&self, number: usize) -> (String, impl Iterator<Item = usize>) {
        let tag = number % TAGS;
        (format!("tag-{tag}"), (tag..self.count()).step_by(TAGS))
    }

    pub(crate) fn path(&self, number: usize) -> String {
        format!("{}{number}", self.folder(number).0)
    }

    /// The object at `path`.
    pub(crate) fn at(&self, path: &str) -> Option<usize> {
        let number = path.rsplit('/').next()?.parse().ok()?;
        (number < self.count() && self.path(number) == path).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_differ_and_are_told_by_their_etags() {
        let objects = Objects::new(64 * MIB, &mut Random::new(1));
        assert!(objects.bytes() >= 64 * MIB as u64 && objects.count() > 50);
        for number in 0..objects.count() {
            assert_eq!(objects.at(&objects.path(number)), Some(number));
            assert_eq!(objects.version_of(number, &objects.etag(number, 1)), Some(1));
            assert_eq!(objects.version_of(number, &objects.etag(number, 2)), None, "there is none yet");
            assert_eq!(objects.version_of(number, &objects.etag(number + 1, 1)), None);
            assert_ne!(objects.body(number, 1), objects.body(number, 2));
            assert_ne!(objects.body(number, 1), objects.body(number, 1 + LENGTHS as u32), "of one length");
        }
        assert_eq!(objects.at("/0/64"), None);
    }

    #[test]
    fn popular_ones_are_asked_for_more_often_and_all_may_be() {
        let objects = Objects::new(64 * MIB, &mut Random::new(1));
        let mut asked = vec![0; objects.count()];
        let mut random = Random::new(2);
        for _ in 0..100_000 {
            asked[objects.popular(&mut random)] += 1;
        }
        assert!(asked.iter().all(|count| *count > 0));
        assert!(asked[objects.ranks[0]] > 5 * asked[objects.ranks[objects.count() / 2]]);
    }
}

//! A 32-bit hash of two texts: FNV-1a over both, then Murmur3's finaliser. Chosen because JavaScript can compute it
//! exactly (`Math.imul`), and because it needs no state.

/// Hash of (`first`, `second`), evenly spread over 32 bits.
///
/// FNV-1a 32 (offset 0x811c9dc5, prime 0x01000193) over `first`, the byte 0xff (which no UTF-8 text contains),
/// `second`; then `h ^= h >> 16; h *= 0x85ebca6b; h ^= h >> 13; h *= 0xc2b2ae35; h ^= h >> 16` (Appleby, `MurmurHash3`
/// `fmix32`).
#[must_use]
pub fn hash_pair(first: &str, second: &str) -> u32 {
    finish(second.bytes().fold(prefix(first), step))
}

/// FNV's prime.
const PRIME: u32 = 0x0100_0193;

/// FNV-1a, one byte.
pub(crate) const fn step(hash: u32, byte: u8) -> u32 {
    (hash ^ byte as u32).wrapping_mul(PRIME)
}

/// The hash's state after `first` and the byte between the texts.
pub(crate) fn prefix(first: &str) -> u32 {
    step(first.bytes().fold(0x811c_9dc5, step), 0xff)
}

/// Murmur3's finaliser.
pub(crate) const fn finish(mut hash: u32) -> u32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

/// The place of `session` in 0 to 999,999 for the purpose `salt`: a share of *n* ppm is every session below *n*.
///
/// A share moves by this, never by chance at each poll: "10 % per poll" would be 47 % after six.
#[must_use]
pub fn share_of(session: &str, salt: &str) -> u32 {
    share(hash_pair(session, salt))
}

/// The place of a hash in 0 to 999,999.
pub(crate) const fn share(hash: u32) -> u32 {
    ((hash as u64 * 1_000_000) >> 32) as u32
}

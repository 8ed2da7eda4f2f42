//! The one place that draws random numbers: ids and keys. Decisions never do.

/// `N` random bytes from the system.
///
/// # Panics
/// If the system has no randomness, without which no key may be made.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "ids and keys are minted here and nowhere else")]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    getrandom::fill(&mut out).expect("the system's random source answers");
    out
}

/// A random id of `chars` characters of `[a-z0-9]` (5 bits each).
#[must_use]
pub fn id(chars: usize) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut out = String::with_capacity(chars);
    while out.len() < chars {
        for byte in bytes::<16>() {
            if out.len() < chars {
                out.push(char::from(ALPHABET[usize::from(byte & 31)]));
            }
        }
    }
    out
}

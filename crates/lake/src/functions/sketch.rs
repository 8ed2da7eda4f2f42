//! Quantiles that merge: DDSketch with relative error 0.01.

use sketches_ddsketch::{Config, DDSketch};

/// Values kept as they are before the sketch's bins pay; most cells of a rollup never have more.
const FEW: usize = 64;

/// A sketch that is small while it has few values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sketch {
    few: Vec<(f64, u64)>,
    many: Option<Box<Bins>>,
}

#[derive(Clone)]
struct Bins(DDSketch);

impl std::fmt::Debug for Bins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DDSketch of {} values", self.0.count())
    }
}

/// Bytes that are no sketch, or one of another accuracy.
#[derive(Debug, thiserror::Error)]
#[error("{0} (valid: a DDSketch with relative error 0.01, as dd_sketch and dd_merge give it)")]
pub(crate) struct NotASketch(String);

impl Sketch {
    /// Adds `value` `count` times. What is no finite number is not a value.
    pub(crate) fn add(&mut self, value: f64, count: u64) {
        if !value.is_finite() || count == 0 {
            return;
        }
        match &mut self.many {
            Some(bins) => bins.0.add_with_count(value, count),
            None => {
                self.few.push((value, count));
                if self.few.len() > FEW {
                    self.spread();
                }
            }
        }
    }

    fn spread(&mut self) -> &mut DDSketch {
        let bins = self.many.get_or_insert_with(|| Box::new(Bins(DDSketch::new(Config::defaults()))));
        for (value, count) in self.few.drain(..) {
            bins.0.add_with_count(value, count);
        }
        self.few = Vec::new();
        &mut bins.0
    }

    /// Adds what `bytes` hold.
    ///
    /// # Errors
    /// [`NotASketch`]; nothing was added.
    pub(crate) fn merge(&mut self, bytes: &[u8]) -> Result<(), NotASketch> {
        let other = read(bytes)?;
        self.spread().merge(&other).map_err(|error| NotASketch(error.to_string()))
    }

    /// Whether it has no value.
    pub(crate) fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.as_ref().is_none_or(|bins| bins.0.count() == 0)
    }

    /// Its bytes; `None` if it has no value.
    pub(crate) fn to_bytes(&self) -> Option<Vec<u8>> {
        if self.is_empty() {
            return None;
        }
        let mut whole = self.clone();
        Some(whole.spread().to_java_bytes())
    }

    /// Memory, bytes.
    pub(crate) fn size(&self) -> usize {
        let bins = self.many.as_ref().map_or(0, |bins| size_of::<DDSketch>() + bins.0.length() * size_of::<u64>());
        size_of::<Self>() + self.few.capacity() * size_of::<(f64, u64)>() + bins
    }
}

/// The sketch in `bytes`.
///
/// # Errors
/// [`NotASketch`].
pub(crate) fn read(bytes: &[u8]) -> Result<DDSketch, NotASketch> {
    let read = || {
        let sketch = DDSketch::from_java_bytes(bytes).map_err(|error| NotASketch(error.to_string()))?;
        // Merging with an empty one of ours fails if the accuracy differs.
        let mut ours = DDSketch::new(Config::defaults());
        ours.merge(&sketch).map_err(|error| NotASketch(error.to_string()))?;
        Ok(ours)
    };
    // The decoder takes any bin numbers, and its arithmetic may overflow on ones that no sketch has.
    std::panic::catch_unwind(read).unwrap_or_else(|_| Err(NotASketch("bins out of range".to_owned())))
}

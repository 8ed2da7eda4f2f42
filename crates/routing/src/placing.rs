//! Sorting a few things that are in no order at all: a processor that guesses wrongly where a jump goes loses more time
//! than it takes to compare each with each.

use crate::names::SLOTS;

/// Where each of `items` begins, if item `i` takes `size(i)` places and what isn't `later_first` keeps its order. At
/// most [`SLOTS`] items.
pub(crate) fn places<T>(
    items: &[T],
    later_first: impl Fn(&T, &T) -> bool,
    size: impl Fn(&T) -> u8,
    out: &mut [u8; SLOTS],
) {
    for (j, later) in items.iter().enumerate() {
        let taken = size(later);
        let mut place = 0;
        for (earlier, begins) in items[..j].iter().zip(out.iter_mut()) {
            // All ones or nothing, not a jump.
            let first = 0_u8.wrapping_sub(u8::from(later_first(earlier, later)));
            *begins += taken & first;
            place += size(earlier) & !first;
        }
        out[j % SLOTS] = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_stable_sort() {
        for case in 0_u32..2000 {
            let items: alloc::vec::Vec<(u32, u8)> = (0..case % 9)
                .map(|n| (case.wrapping_mul(n + 7).wrapping_mul(0x9e37_79b1) >> 29, (case + n) as u8 % 4))
                .collect();
            let mut out = [0; SLOTS];
            places(&items, |earlier, later| later.0 < earlier.0, |item| item.1, &mut out);
            let mut sorted: alloc::vec::Vec<usize> = (0..items.len()).collect();
            sorted.sort_by_key(|index| items[*index].0);
            let mut begins = 0;
            for index in sorted {
                assert_eq!(out[index], begins, "{items:?}: {index}");
                begins += items[index].1;
            }
        }
    }
}

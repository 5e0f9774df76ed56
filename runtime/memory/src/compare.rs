//! `memcmp`.

use core::arch::x86_64::{__m128i, _mm_cmpeq_epi8, _mm_movemask_epi8};

use crate::blocks::{ONE, Piece};

/// What `_mm_movemask_epi8` says of two pieces that are the same.
const SAME: u32 = 0xffff;

/// Compares `count` bytes: negative, zero or positive as the first byte that differs is less in `one`, nowhere, or greater.
///
/// # Safety
/// `count` bytes from `one` on and from `other` on may be read.
#[inline(always)]
pub(crate) unsafe fn compare(one: *const u8, other: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's promise; each size of piece is at most `count` and at least half of it.
    unsafe {
        match count {
            0 => 0,
            1 => i32::from(u8::load(one)) - i32::from(u8::load(other)),
            2..=3 => {
                ends(count - 2, |at| order(u16::load(one.add(at)).to_be(), u16::load(other.add(at)).to_be()))
            }
            4..=7 => {
                ends(count - 4, |at| order(u32::load(one.add(at)).to_be(), u32::load(other.add(at)).to_be()))
            }
            8..=15 => {
                ends(count - 8, |at| order(u64::load(one.add(at)).to_be(), u64::load(other.add(at)).to_be()))
            }
            _ => steps(one, other, count),
        }
    }
}

#[inline(always)]
fn order<T: Ord>(one: T, other: T) -> i32 {
    one.cmp(&other) as i32
}

/// Compares the piece at the beginning and, if that is the same, the one at `last`.
#[inline(always)]
fn ends(last: usize, order_at: impl Fn(usize) -> i32) -> i32 {
    match order_at(0) {
        0 => order_at(last),
        differs => differs,
    }
}

/// Compares register by register; the last may overlap the one before, whose bytes are the same.
///
/// # Safety
/// As for [`compare`]; `count` is at least a register's size.
unsafe fn steps(one: *const u8, other: *const u8, count: usize) -> i32 {
    let last = count - ONE;
    let mut at = 0;
    // SAFETY: the caller's promise; `at` is `last` at most.
    unsafe {
        loop {
            let same = _mm_cmpeq_epi8(__m128i::load(one.add(at)), __m128i::load(other.add(at)));
            let differs = _mm_movemask_epi8(same).cast_unsigned() ^ SAME;
            if differs != 0 {
                at += differs.trailing_zeros() as usize;
                return i32::from(u8::load(one.add(at))) - i32::from(u8::load(other.add(at)));
            }
            if at == last {
                return 0;
            }
            at = last.min(at + ONE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    fn compares(one: &[u8], other: &[u8]) -> Ordering {
        assert_eq!(one.len(), other.len());
        // SAFETY: both have as many bytes.
        unsafe { compare(one.as_ptr(), other.as_ptr(), one.len()) }.cmp(&0)
    }

    #[test]
    fn the_first_byte_that_differs_decides_as_an_unsigned_number() {
        for count in 1..100 {
            let bytes: Vec<u8> = (0..count + 16).map(|at| (at * 37) as u8).collect();
            for alignment in 0..16 {
                let one = &bytes[alignment..alignment + count];
                let same = one.to_vec();
                assert_eq!(compares(one, &same), Ordering::Equal);
                for at in 0..count {
                    let mut other = one.to_vec();
                    other[at] ^= 0x80;
                    // What comes later differs too, the other way round, and does not count.
                    if let Some(later) = other.get_mut(at + 1) {
                        *later = if one[at] < 0x80 {
                            one[at + 1].wrapping_sub(1)
                        } else {
                            one[at + 1].wrapping_add(1)
                        };
                    }
                    let expected = if one[at] < 0x80 { Ordering::Less } else { Ordering::Greater };
                    assert_eq!(compares(one, &other), expected, "{count} bytes, {at}");
                    assert_eq!(compares(&other, one), expected.reverse(), "{count} bytes, {at}");
                }
            }
        }
    }

    #[test]
    fn bytes_beyond_the_count_do_not_count() {
        assert_eq!(compares(&[], &[]), Ordering::Equal);
        for count in 0..80 {
            let (one, other) = ([7; 100], [vec![7; count], vec![9; 100 - count]].concat());
            assert_eq!(compares(&one[..count], &other[..count]), Ordering::Equal);
        }
    }
}

//! `memset`.

use core::arch::x86_64::{__m128i, _mm_set1_epi8};

use crate::blocks::{Four, ONE, Piece, STEP, Two};

/// Writes `value` to `count` bytes.
///
/// # Safety
/// `count` bytes from `to` on may be written.
#[inline(always)]
pub(crate) unsafe fn fill(to: *mut u8, value: u8, count: usize) {
    let eight = u64::from_ne_bytes([value; 8]);
    // SAFETY: the caller's promise; each size of piece is at most `count` and at least half of it. The cuts are meant.
    unsafe {
        match count {
            0 => {}
            1 => value.store(to),
            2..=4 => ends(to, eight as u16, count),
            5..=8 => ends(to, eight as u32, count),
            9..=16 => ends(to, eight, count),
            17..=32 => ends::<__m128i>(to, sixteen(value), count),
            33..=64 => ends::<Two>(to, [sixteen(value); 2], count),
            65..=128 => ends::<Four>(to, [[sixteen(value); 2]; 2], count),
            _ => steps(to, sixteen(value), count),
        }
    }
}

#[inline(always)]
fn sixteen(value: u8) -> __m128i {
    // SAFETY: every x86-64 has SSE2.
    unsafe { _mm_set1_epi8(value.cast_signed()) }
}

/// Fills by one piece from the beginning and one from the end.
///
/// # Safety
/// As for [`fill`]; `count` is from one to two times the piece's size.
#[inline(always)]
unsafe fn ends<P: Piece>(to: *mut u8, piece: P, count: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        piece.store(to);
        piece.store(to.add(count - size_of::<P>()));
    }
}

/// Fills step by step, at aligned addresses.
///
/// # Safety
/// As for [`fill`]; `count` is more than a step.
unsafe fn steps(to: *mut u8, one: __m128i, count: usize) {
    let (step, last): (Four, _) = ([[one; 2]; 2], count - STEP);
    // SAFETY: the caller's promise; steps begin before `last`, which is the beginning of a step within `count`.
    unsafe {
        one.store(to);
        let mut at = ONE - to.addr() % ONE;
        while at < last {
            step.store(to.add(at));
            at += STEP;
        }
        step.store(to.add(last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_filled_at_every_alignment_and_nothing_beside_it() {
        for count in (0..300).chain([1_000, 4_096, 5_000]) {
            for alignment in 0..16 {
                let mut bytes = vec![1; count + 64];
                // SAFETY: the place is within the buffer.
                unsafe { fill(bytes.as_mut_ptr().add(alignment), 0xa5, count) };
                let is_right =
                    |(at, byte)| byte == if (alignment..alignment + count).contains(&at) { 0xa5 } else { 1 };
                assert!(bytes.into_iter().enumerate().all(is_right), "{count} bytes at {alignment}");
            }
        }
    }
}

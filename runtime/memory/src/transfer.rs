//! `memcpy` and `memmove`, which are one function: to see whether two places overlap costs next to nothing.

use core::arch::x86_64::__m128i;

use crate::blocks::{Four, ONE, Piece, STEP, Two};

/// Copies `count` bytes, as if by way of a third place.
///
/// # Safety
/// `count` bytes from `from` on may be read, and from `to` on written.
#[inline(always)]
pub(crate) unsafe fn transfer(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: the caller's promise; each size of piece is at most `count` and at least half of it.
    unsafe {
        match count {
            0 => {}
            1 => u8::load(from).store(to),
            2..=4 => ends::<u16>(to, from, count),
            5..=8 => ends::<u32>(to, from, count),
            9..=16 => ends::<u64>(to, from, count),
            17..=32 => ends::<__m128i>(to, from, count),
            33..=64 => ends::<Two>(to, from, count),
            65..=128 => ends::<Four>(to, from, count),
            // Nothing is overwritten before it was read if one goes up towards what is below, and down towards what is above.
            _ if to.addr().wrapping_sub(from.addr()) >= count => upwards(to, from, count),
            _ => downwards(to, from, count),
        }
    }
}

/// Copies by one piece from the beginning and one from the end.
///
/// # Safety
/// As for [`transfer`]; `count` is from one to two times the piece's size.
#[inline(always)]
unsafe fn ends<P: Piece>(to: *mut u8, from: *const u8, count: usize) {
    let last = count - size_of::<P>();
    // SAFETY: the caller's promise.
    unsafe {
        let (begin, end) = (P::load(from), P::load(from.add(last)));
        begin.store(to);
        end.store(to.add(last));
    }
}

/// Copies step by step from the beginning, to aligned addresses.
///
/// # Safety
/// As for [`transfer`]; `count` is more than a step, and `to` is not within the `count` bytes after `from`.
unsafe fn upwards(to: *mut u8, from: *const u8, count: usize) {
    let last = count - STEP;
    // SAFETY: the caller's promise; `at` is at most ONE, which is less than `count`, and steps end before `last`, which is the
    // beginning of a step within `count`. The two ends are read before anything is written.
    unsafe {
        let (begin, end) = (__m128i::load(from), Four::load(from.add(last)));
        let mut at = ONE - to.addr() % ONE;
        while at < last {
            Four::load(from.add(at)).store(to.add(at));
            at += STEP;
        }
        begin.store(to);
        end.store(to.add(last));
    }
}

/// Copies step by step from the end, to aligned addresses.
///
/// # Safety
/// As for [`transfer`]; `count` is more than two steps.
unsafe fn downwards(to: *mut u8, from: *const u8, count: usize) {
    let last = count - ONE;
    // SAFETY: the caller's promise; `at` is less than `count`, and each step begins STEP below an `at` that is more than STEP.
    // The two ends are read before anything is written.
    unsafe {
        let (begin, end) = (Four::load(from), __m128i::load(from.add(last)));
        let mut at = count - (to.addr() + count) % ONE;
        while at > STEP {
            at -= STEP;
            Four::load(from.add(at)).store(to.add(at));
        }
        end.store(to.add(last));
        begin.store(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Copies within one buffer, and compares with what the standard library does.
    fn copies(count: usize, from: usize, to: usize) {
        let mut bytes: Vec<u8> = (0..2 * count + 256).map(|at| (at * 31 + at / 251) as u8).collect();
        let mut expected = bytes.clone();
        expected.copy_within(from..from + count, to);
        let base = bytes.as_mut_ptr();
        // SAFETY: both places are within the buffer.
        unsafe { transfer(base.add(to), base.add(from), count) };
        assert!(bytes == expected, "{count} bytes from {from} to {to}");
    }

    #[test]
    fn every_size_is_copied_to_and_from_every_alignment() {
        for count in 0..300 {
            for alignment in 0..16 {
                copies(count, alignment, count + 32);
                copies(count, 0, count + 32 + alignment);
                copies(count, count + 32, alignment);
            }
        }
    }

    #[test]
    fn overlapping_places_are_copied_as_if_they_were_apart() {
        for count in (0..300).chain([1_000, 4_096, 5_000]) {
            for distance in (0..130).filter(|distance| *distance < count.max(1)) {
                copies(count, 40, 40 + distance);
                copies(count, 40 + distance, 40);
            }
        }
    }
}

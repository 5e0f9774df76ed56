//! Pieces of memory that registers hold: every x86-64 has SSE2.

use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};

/// What one register holds, in bytes.
pub(crate) const ONE: usize = size_of::<__m128i>();
/// What a step of a loop moves, in bytes.
pub(crate) const STEP: usize = 4 * ONE;

/// Something that is read whole before it is written, at any address.
pub(crate) trait Piece: Copy {
    /// Reads it.
    ///
    /// # Safety
    /// Its bytes from `from` on may be read.
    unsafe fn load(from: *const u8) -> Self;

    /// Writes it.
    ///
    /// # Safety
    /// Its bytes from `to` on may be written.
    unsafe fn store(self, to: *mut u8);
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl Piece for $integer {
            #[inline(always)]
            unsafe fn load(from: *const u8) -> Self {
                // SAFETY: the caller's promise; any bytes are an integer.
                unsafe { from.cast::<Self>().read_unaligned() }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut u8) {
                // SAFETY: the caller's promise.
                unsafe { to.cast::<Self>().write_unaligned(self) }
            }
        }
    )*};
}
integers!(u8 u16 u32 u64);

impl Piece for __m128i {
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm_loadu_si128(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { _mm_storeu_si128(to.cast(), self) }
    }
}

impl<P: Piece> Piece for [P; 2] {
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promise, half by half.
        unsafe { [P::load(from), P::load(from.add(size_of::<P>()))] }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller's promise, half by half.
        unsafe {
            self[0].store(to);
            self[1].store(to.add(size_of::<P>()));
        }
    }
}

/// Two registers.
pub(crate) type Two = [__m128i; 2];
/// Four registers.
pub(crate) type Four = [Two; 2];

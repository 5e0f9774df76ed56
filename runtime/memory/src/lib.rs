//! `memcpy`, `memmove`, `memset`, `memcmp` and `bcmp` of C for x86-64, in place of musl's.
//!
//! musl copies by `rep movsq`, whose beginning costs more than a small copy, and compares byte by byte. Compiled Wasm calls these
//! functions for `memory.copy` and `memory.fill`, and Rust for every move and comparison of bytes. A program takes them by naming
//! this crate: `use wisp_memory as _;`. Elsewhere musl's are left in their place.
//!
//! What is small is read whole before any of it is written, as two pieces that may overlap: one from its beginning and one from
//! its end. That needs no loop, and is right however the two places overlap.

// What is written here must not be turned into calls of itself.
#![no_builtins]

#[cfg(target_arch = "x86_64")]
mod blocks;
#[cfg(target_arch = "x86_64")]
mod compare;
#[cfg(target_arch = "x86_64")]
mod fill;
#[cfg(target_arch = "x86_64")]
mod transfer;

/// The names that the linker looks for. The library's own tests use the functions by their paths, and leave C's alone.
#[cfg(all(target_arch = "x86_64", target_env = "musl", not(test)))]
mod names {
    use core::ffi::{c_int, c_void};

    use crate::{compare, fill, transfer};

    /// `memcpy(3)`.
    ///
    /// # Safety
    /// As in C.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, count: usize) -> *mut c_void {
        // SAFETY: the caller's promise.
        unsafe { transfer::transfer(to.cast(), from.cast(), count) };
        to
    }

    /// `memmove(3)`.
    ///
    /// # Safety
    /// As in C.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut c_void, from: *const c_void, count: usize) -> *mut c_void {
        // SAFETY: the caller's promise.
        unsafe { transfer::transfer(to.cast(), from.cast(), count) };
        to
    }

    /// `memset(3)`.
    ///
    /// # Safety
    /// As in C.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut c_void, value: c_int, count: usize) -> *mut c_void {
        // SAFETY: the caller's promise. C says that the value is converted to a byte.
        unsafe { fill::fill(to.cast(), value as u8, count) };
        to
    }

    /// `memcmp(3)`.
    ///
    /// # Safety
    /// As in C.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(one: *const c_void, other: *const c_void, count: usize) -> c_int {
        // SAFETY: the caller's promise.
        unsafe { compare::compare(one.cast(), other.cast(), count) }
    }

    /// `bcmp(3)`.
    ///
    /// # Safety
    /// As in C.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(one: *const c_void, other: *const c_void, count: usize) -> c_int {
        // SAFETY: the caller's promise.
        unsafe { compare::compare(one.cast(), other.cast(), count) }
    }
}

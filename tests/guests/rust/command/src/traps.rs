//! Ways to die. The functions' names are what backtraces are searched for.

use std::hint::black_box;

use crate::Outcome;

pub(crate) fn trap(kind: &str) -> Outcome {
    match kind {
        "unreachable" => reach_the_unreachable(),
        "bounds" => read_out_of_bounds(),
        "stack" => println!("{}", dig(black_box(0))),
        "divide" => println!("{}", divide(black_box(1), black_box(0))),
        "abort" => std::process::abort(),
        "panic" => panic!("as it was asked to"),
        _ => return Err("no such trap".into()),
    }
    Ok(())
}

#[inline(never)]
fn reach_the_unreachable() {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

#[inline(never)]
fn read_out_of_bounds() {
    let beyond = black_box(usize::MAX - 64) as *const u32;
    // SAFETY: none; the address is outside the memory of a 32-bit guest, which traps, and of a native process, which dies.
    let value = unsafe { beyond.read_volatile() };
    println!("read {value}");
}

#[inline(never)]
#[allow(unconditional_recursion)] // it is what is asked for
fn dig(depth: u64) -> u64 {
    black_box(dig(black_box(depth + 1))) + depth
}

/// The division instruction without the check that Rust puts before it.
#[inline(never)]
fn divide(dividend: i32, divisor: i32) -> i32 {
    // SAFETY: none; it is not true, so that the processor finds out and not a check.
    unsafe { std::hint::assert_unchecked(divisor != 0) };
    dividend / divisor
}

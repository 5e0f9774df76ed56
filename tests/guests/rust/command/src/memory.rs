//! Memory, up to the limit and into it.

use crate::Outcome;

const MEBIBYTE: usize = 1 << 20;

/// Grows by a mebibyte until the host refuses, touches what it got, says how much it was and goes on.
pub(crate) fn grow_until_refused() {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut block = Vec::new();
        if block.try_reserve_exact(MEBIBYTE).is_err() {
            break;
        }
        block.resize(MEBIBYTE, 1);
        blocks.push(block);
    }
    let got = blocks.len();
    drop(blocks);
    println!("refused after {got} MiB, and going on");
}

/// Allocates for ever, as programs do that do not ask.
pub(crate) fn allocate_until_dead() {
    println!("allocating");
    let mut blocks = Vec::new();
    loop {
        blocks.push(vec![1u8; MEBIBYTE]);
        std::hint::black_box(&blocks);
    }
}

/// Holds so much memory until standard input ends.
pub(crate) fn touch(mebibytes: usize) -> Outcome {
    let block = vec![1u8; mebibytes * MEBIBYTE];
    println!("touched {mebibytes} MiB");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    std::hint::black_box(block);
    Ok(())
}

//! Programs of the kinds that guests are made of. Each makes its own input, does a fixed amount of work, and answers a checksum,
//! so that nothing can be left out of it.

mod core;
mod data;
mod text;

use std::time::Instant;

/// Every program, by its name.
pub const PROGRAMS: &[(&str, fn() -> u64)] = &[
    ("core", core::lists_matrices_and_states),
    ("database", data::database),
    ("json", text::json),
    ("regex", text::regex),
    ("sha256", data::sha256),
];

/// A processor that is slower for a moment, as a virtual one often is, only ever makes a run longer: the fastest of these is what the
/// program takes.
const TURNS: usize = 8;

/// Runs a program; how long the fastest of its turns took in milliseconds, and its checksum. `None` where there is none of this name.
pub fn run(name: &str) -> Option<(f64, u64)> {
    let (_, program) = PROGRAMS.iter().find(|(known, _)| *known == name)?;
    let turn = || {
        let start = Instant::now();
        let checksum = program();
        (start.elapsed().as_secs_f64() * 1e3, checksum)
    };
    (0..TURNS).map(|_| turn()).min_by(|one, other| one.0.total_cmp(&other.0))
}

/// Numbers that look random and are always the same.
pub(crate) fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(seed), |&number| {
        let number = number ^ (number << 13);
        let number = number ^ (number >> 7);
        Some(number ^ (number << 17))
    })
    .skip(1)
}

//! `wisp-runtime` as a command line over bundles, without containerd.

mod binaries;
mod cache;
mod commands;
mod exports;
mod spec;
mod unified;

fn main() {
    wisp_tests::suite::main(&[
        binaries::CASES,
        cache::CASES,
        commands::CASES,
        exports::CASES,
        spec::CASES,
        unified::CASES,
    ])
}

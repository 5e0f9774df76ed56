//! `wisp-runtime` as a command line over bundles, without containerd.

mod binaries;
mod build;
mod cache;
mod commands;
mod compile;
mod docs;
mod elsewhere;
mod exports;
mod inspect;
mod podman;
mod run;
mod services;
mod spec;
mod terminal;
mod typed;
mod unified;

fn main() {
    wisp_tests::suite::main(&[
        binaries::CASES,
        build::CASES,
        cache::CASES,
        commands::CASES,
        compile::CASES,
        docs::CASES,
        elsewhere::CASES,
        elsewhere::REQUESTED,
        exports::CASES,
        inspect::CASES,
        podman::CASES,
        run::CASES,
        services::CASES,
        spec::CASES,
        terminal::CASES,
        typed::CASES,
        unified::CASES,
    ])
}

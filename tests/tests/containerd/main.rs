//! Wisp's shim under real containerds. `cargo test -p wisp-tests --test containerd -- 2.4/` runs the cases of one version.

mod compile;
mod docker;
mod ends;
mod http;
mod images;
mod limits;
mod refusals;
mod sandbox;
mod signals;
mod stdio;
mod survival;
mod tasks;
mod top;

fn main() {
    wisp_tests::suite::main(&[
        ends::CASES,
        refusals::CASES,
        signals::CASES,
        stdio::CASES,
        tasks::CASES,
        top::CASES,
        sandbox::CASES,
        http::CASES,
        images::CASES,
        compile::CASES,
        docker::CASES,
        docker::ONCE,
        http::OWN_CASES,
        limits::CASES,
        limits::OWN_CASES,
        survival::CASES,
        survival::ONCE,
    ])
}

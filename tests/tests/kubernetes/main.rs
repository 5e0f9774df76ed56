//! Wasm pods under real kubelets. `cargo test -p wisp-tests --test kubernetes -- uml/` runs the cases of one place.

mod autoscaling;
mod ends;
mod examples;
mod figures;
mod images;
mod installer;
mod languages;
mod looking;
mod namespaces;
mod neighbours;
mod network;
mod pages;
mod probes;
mod resources;
mod restarts;
mod rollout;
mod security;
mod survival;
mod upgrade;
mod volumes;
mod workloads;

fn main() {
    let tables = [
        // Those that wait longest come first: others run beside them.
        upgrade::CASES,
        languages::CASES,
        workloads::CASES,
        examples::CASES,
        autoscaling::CASES,
        resources::CASES,
        restarts::CASES,
        ends::CASES,
        looking::CASES,
        probes::CASES,
        neighbours::CASES,
        namespaces::CASES,
        volumes::CASES,
        security::CASES,
        network::CASES,
        images::CASES,
        installer::CASES,
        pages::CASES,
        rollout::CASES,
        survival::CASES,
        figures::CASES,
    ];
    wisp_tests::kube::suite::main(&tables.concat())
}

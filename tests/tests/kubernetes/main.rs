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
        // It waits for kubelet to tidy up, beside all others.
        upgrade::CASES,
        ends::CASES,
        restarts::CASES,
        looking::CASES,
        probes::CASES,
        neighbours::CASES,
        namespaces::CASES,
        volumes::CASES,
        security::CASES,
        resources::CASES,
        network::CASES,
        workloads::CASES,
        autoscaling::CASES,
        examples::CASES,
        images::CASES,
        installer::CASES,
        languages::CASES,
        pages::CASES,
        rollout::CASES,
        survival::CASES,
        figures::CASES,
    ];
    wisp_tests::kube::suite::main(&tables.concat())
}

//! Pods with Wasm as a kubelet makes them, through containerd's CRI plugin. Names begin with version and sandboxer:
//! `cargo test -p wisp-tests --test cri -- 2.4/shim` runs the cases of one.

mod images;
mod inside;
mod life;
mod namespaces;
mod network;
mod security;
mod streams;
mod survival;
mod validation;
mod volumes;

fn main() {
    wisp_tests::suite::main(&[
        life::CASES,
        network::CASES,
        network::IN_NODES_NETWORK,
        namespaces::CASES,
        namespaces::OF_2,
        inside::CASES,
        streams::CASES,
        security::CASES,
        volumes::CASES,
        volumes::OF_2,
        images::CASES,
        survival::CASES,
        survival::OWN_CASES,
        validation::ON_REQUEST,
    ])
}

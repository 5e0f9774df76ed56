//! Pods with Wasm as a kubelet makes them, through containerd's CRI plugin. Names begin with version and sandboxer:
//! `cargo test -p wisp-tests --test cri -- 2.4/shim` runs the cases of one.

mod images;
mod life;

fn main() {
    wisp_tests::suite::main(&[images::CASES, life::CASES])
}

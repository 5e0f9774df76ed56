//! Wisp's shim under real containerds. `cargo test -p wisp-tests --test containerd -- 2.4/` runs the cases of one version.

mod ends;

fn main() {
    wisp_tests::suite::main(&[ends::CASES])
}

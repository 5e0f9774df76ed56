//! `wisp-runtime` as a command line over bundles.

fn main() {
    wisp_tests::suite::main(&[])
}

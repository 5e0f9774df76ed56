//! How the program is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A static program relocates itself at each start. Packed, what it reads for that is less than a fiftieth.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}

//! How the program is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A static program relocates itself at each start. Packed, what it reads for that is less than a fiftieth. Elsewhere the linker
    // may be one that is asked in other words.
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

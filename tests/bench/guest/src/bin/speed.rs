//! `speed`: runs every program and prints its name, its milliseconds and its checksum.

fn main() {
    for (name, _) in speed::PROGRAMS {
        if let Some((milliseconds, checksum)) = speed::run(name) {
            println!("{name} {milliseconds:.3} {checksum:x}");
        }
    }
}

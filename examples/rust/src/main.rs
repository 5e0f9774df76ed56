//! A command: it reads its arguments, says hello, and ends.

fn main() {
    let name = std::env::args().nth(1).unwrap_or_else(|| "world".into());
    println!("hello {name} from Rust");
}

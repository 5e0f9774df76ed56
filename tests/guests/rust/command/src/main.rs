//! `command VERB [argument…]`: one thing that a test wants a guest to do. The same source is built as a WASI 0.1 module,
//! as a WASI 0.2 component and as a native Linux binary, so that the same case runs under Wisp and under runc.

mod files;
mod memory;
mod net;
mod stdio;
mod traps;

use std::time::Duration;

/// What a verb answers: nothing, or one line for stderr and exit code 1.
type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let Err(error) = run(&args) {
        eprintln!("{}: {error}", args.join(" "));
        std::process::exit(1);
    }
}

fn run(args: &[&str]) -> Outcome {
    match args {
        [] | ["hello"] => println!("hello from {}", world()),
        ["exit", code] => std::process::exit(code.parse()?),
        ["args", rest @ ..] => rest.iter().for_each(|arg| println!("{arg}")),
        ["env"] => std::env::vars().for_each(|(name, value)| println!("{name}={value}")),
        ["env", name] => println!("{}", std::env::var(name)?),
        ["cwd"] => println!("{}", working_directory()?),
        ["loop"] => stdio::say_then("looping", spin)?,
        ["sleep", seconds] => {
            let time = Duration::from_secs_f64(seconds.parse()?);
            stdio::say_then("sleeping", || std::thread::sleep(time))?;
        }
        ["tick", milliseconds] => stdio::tick(milliseconds.parse()?)?,
        ["clock"] => {
            println!("{}", std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs())
        }
        ["random"] => println!("{:?}", std::collections::hash_map::RandomState::new()),
        ["trap", kind] => traps::trap(kind)?,
        ["grow"] => memory::grow_until_refused(),
        ["alloc"] => memory::allocate_until_dead(),
        ["touch", mebibytes] => memory::touch(mebibytes.parse()?)?,
        ["echo"] => stdio::echo()?,
        ["lines", count] => stdio::lines(count.parse()?)?,
        ["fill"] => stdio::fill()?,
        ["both"] => stdio::both()?,
        ["ls", path] => files::list(path)?,
        ["cat", path] => files::cat(path)?,
        ["write", path, text] => std::fs::write(path, text)?,
        ["fill-file", path, mebibytes] => files::fill(path, mebibytes.parse()?)?,
        ["probe"] => files::probe(),
        ["connect", address, text] => net::connect(address, text)?,
        ["listen", address] => net::listen(address)?,
        ["datagram", address, text] => net::datagram(address, text)?,
        ["resolve", name] => net::resolve(name)?,
        ["fetch", url] => net::fetch(url)?,
        _ => return Err("no such verb".into()),
    }
    Ok(())
}

/// The standard library does not ask its host for it.
#[cfg(all(target_os = "wasi", target_env = "p2"))]
fn working_directory() -> Result<String, Box<dyn std::error::Error>> {
    Ok(wasip2::cli::environment::initial_cwd().ok_or("none")?)
}

#[cfg(not(all(target_os = "wasi", target_env = "p2")))]
fn working_directory() -> Result<String, Box<dyn std::error::Error>> {
    Ok(std::env::current_dir()?.display().to_string())
}

fn world() -> &'static str {
    if cfg!(all(target_os = "wasi", target_env = "p1")) {
        "Rust, WASI 0.1"
    } else if cfg!(target_os = "wasi") {
        "Rust, WASI 0.2"
    } else {
        "Rust, native"
    }
}

fn spin() {
    let mut turns = 0u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

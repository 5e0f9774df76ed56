//! `wisp-compiler`: compiles the Wasm program on stdin, writes the compiled code to descriptor 3 and what it found in the
//! program ([`wisp_contract::facts::Facts`], as JSON) to stdout.
//!
//! `wisp-runtime` runs it as a confined process, because what comes in is hostile: it needs no file, no network and no
//! environment. It exits 0, or 1 with one sentence on stderr.

mod detour;
mod refuse;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, RawFd};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use wisp_contract::facts::{Facts, Kind};
use wisp_engine::{Engine, Profile};
// The linker takes memcpy and its like from here.
use wisp_memory as _;

/// Functions are compiled beside each other, and would wait for the one lock of musl's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where the compiled code goes.
const CODE_FD: RawFd = 3;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if stderr is gone.
            let _ = writeln!(io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let asked = profile(std::env::args().skip(1))?;
    let mut wasm = Vec::new();
    io::stdin().read_to_end(&mut wasm).context("the program could not be read from stdin")?;
    wisp_reader::unless_wasm(&wasm)?;

    // The profile itself may depend on what is found; this one has every feature.
    let read = |profile| anyhow::Ok(wisp_reader::read(&wasm, engine(profile)?.get_wasm_features()));
    let mut facts = read(Profile::Fast)?.map_err(|error| wisp_reader::invalid(&wasm, &error))?.facts;
    let profile = match asked {
        Some(profile) => profile,
        None => fitting(Profile::for_kind(facts.kind), |profile| Ok(read(profile)?.is_ok()))?,
    };
    let engine = engine(profile)?;
    let code = match direct(&engine, profile, &wasm, &mut facts) {
        Some(code) => code,
        None => compiled(&engine, facts.kind, &wasm)
            .map_err(|error| refuse::uncompilable(&wasm, engine.get_wasm_features(), &error))?,
    };

    facts.wasmtime = wisp_engine::WASMTIME.to_owned();
    facts.profile = profile.name().to_owned();
    facts.code_bytes = code.len() as u64;
    write_code(&code).context("the compiled code could not be written")?;
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, &facts)?;
    stdout.flush().context("what was found in the program could not be written")
}

/// The code of a service without its detour to the host, by which each request's instance is made in less time; then `facts` has what
/// such an instance needs. `None` where the program is compiled as it is.
fn direct(engine: &Engine, profile: Profile, wasm: &[u8], facts: &mut Facts) -> Option<Vec<u8>> {
    if !matches!(profile, Profile::Service | Profile::Service02) || facts.kind.is_module() {
        return None;
    }
    let direct = detour::without(wasm)?;
    let demands = wisp_reader::read(&direct, engine.get_wasm_features()).ok()?.facts;
    let code = compiled(engine, facts.kind, &direct).ok()?;
    facts.core_instances = demands.core_instances;
    facts.table_elements = demands.table_elements;
    Some(code)
}

fn compiled(engine: &Engine, kind: Kind, wasm: &[u8]) -> Result<Vec<u8>, wisp_engine::Error> {
    if kind.is_module() { engine.precompile_module(wasm) } else { engine.precompile_component(wasm) }
}

/// The first of `profile` and the wider ones that holds the program.
fn fitting(profile: Profile, holds: impl Fn(Profile) -> Result<bool>) -> Result<Profile> {
    match profile.wider() {
        Some(wider) if !holds(profile)? => fitting(wider, holds),
        _ => Ok(profile),
    }
}

fn engine(profile: Profile) -> Result<Engine> {
    wisp_engine::compiler(profile)
        .map_err(anyhow::Error::from)
        .context("Wasmtime cannot compile on this machine")
}

/// The profile that `--profile` asks for; `None` for `auto`, which is the default.
fn profile(mut args: impl Iterator<Item = String>) -> Result<Option<Profile>> {
    let mut profile = None;
    while let Some(arg) = args.next() {
        let value = match arg.split_once('=') {
            Some(("--profile", value)) => value.to_owned(),
            None if arg == "--profile" => args.next().unwrap_or_default(),
            _ => bail!(
                "{arg:?} is not an option; use --profile auto|fast|service|service-0.2|debug|profile|small-va"
            ),
        };
        profile = if value == "auto" { None } else { Some(value.parse().map_err(anyhow::Error::msg)?) };
    }
    Ok(profile)
}

fn write_code(code: &[u8]) -> io::Result<()> {
    rustix::io::fcntl_getfd(borrow(CODE_FD))?;
    // SAFETY: the descriptor is open, is this process's by contract with its parent, and nothing else here uses it.
    let mut file = unsafe { File::from_raw_fd(CODE_FD) };
    file.write_all(code)
}

/// A descriptor by number, to ask whether it is open at all.
fn borrow(fd: RawFd) -> std::os::fd::BorrowedFd<'static> {
    // SAFETY: nothing in this process closes the descriptors that it was started with.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Option<Profile>> {
        profile(args.iter().map(ToString::to_string))
    }

    #[test]
    fn programs_are_read_with_the_features_that_they_are_compiled_with() {
        assert_eq!(engine(Profile::Fast).unwrap().get_wasm_features(), wisp_reader::features());
    }

    #[test]
    fn the_profile_is_chosen_by_the_program_unless_asked_for() {
        assert_eq!(parse(&[]).unwrap(), None);
        assert_eq!(parse(&["--profile", "auto"]).unwrap(), None);
        assert_eq!(parse(&["--profile=debug"]).unwrap(), Some(Profile::Debug));
        assert!(parse(&["--profile", "fastest"]).is_err());
        assert!(parse(&["program.wasm"]).is_err());
    }
}

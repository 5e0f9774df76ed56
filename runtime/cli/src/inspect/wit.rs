//! A component's interfaces as WIT.
//!
//! Components are hostile, and a small one may describe types that take for ever to write down. So another process of this
//! program writes them ([`print`]), with bounds on its time and memory, and what it says is read up to a limit.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Resource, Rlimit, setrlimit};
use wit_component::{DecodedWasm, WitPrinter};

/// The hidden command that [`print`] is behind.
const COMMAND: &str = "wit-of-stdin";
/// The longest WIT that is shown, in bytes.
const LONGEST: u64 = 4 << 20;
/// The time of a processor that one component may take, in seconds.
const SECONDS: u64 = 10;
/// The memory that it may take, in bytes; the Wasm is in there too.
const MEMORY: u64 = 2 << 30;

/// The WIT of a component, by another process.
///
/// # Errors
/// Where it is no component, its types have no WIT, or they go over the bounds.
pub(super) fn of(wasm: &[u8]) -> Result<String> {
    // A core module begins with version 1 and layer 0.
    ensure!(!wasm.starts_with(b"\0asm\x01\0\0\0"), "a core module has no WIT; a component was expected");
    let mut child = Command::new("/proc/self/exe")
        .arg(COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("a process that reads the component's types")?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        bail!("a process without pipes");
    };
    let (mut wit, mut complaint) = (String::new(), String::new());
    thread::scope(|scope| {
        // It may end before it has read everything, or say more than is read: both end its pipes.
        scope.spawn(move || stdin.write_all(wasm).ok());
        scope.spawn(|| stderr.take(4096).read_to_string(&mut complaint).ok());
        let mut stdout = stdout.take(LONGEST + 1);
        stdout.read_to_string(&mut wit).map(drop)
    })
    .context("the component's types")?;
    ensure!(
        wit.len() as u64 <= LONGEST,
        "the component's types take more than {} to write",
        bytesize::ByteSize::b(LONGEST)
    );
    if child.wait()?.success() {
        return Ok(wit);
    }
    let complaint = complaint.lines().next().unwrap_or_default();
    if let Some(sentence) = complaint.strip_prefix("wisp: ") {
        return Err(anyhow!(sentence.to_owned()));
    }
    bail!(
        "the component's types took more than {SECONDS} seconds or {} to write",
        bytesize::ByteSize::b(MEMORY)
    )
}

/// Writes the WIT of the component that is `wasm`, within bounds on this process.
///
/// # Errors
/// Where it is no component, or its types have no WIT.
pub(crate) fn print(wasm: &mut impl Read, out: &mut impl Write) -> Result<()> {
    let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Cpu, limit(SECONDS))?;
    setrlimit(Resource::As, limit(MEMORY))?;
    setrlimit(Resource::Core, limit(0))?;
    let mut bytes = Vec::new();
    wasm.read_to_end(&mut bytes)?;
    out.write_all(write(&bytes)?.as_bytes())?;
    Ok(())
}

fn write(wasm: &[u8]) -> Result<String> {
    let decoded = match wit_component::decode(wasm) {
        Ok(decoded) => decoded,
        Err(error) => bail!("there is no WIT of it: {}", one_line(&error)),
    };
    let package = decoded.package();
    let resolve = match &decoded {
        DecodedWasm::WitPackage(resolve, _) | DecodedWasm::Component(resolve, _) => resolve,
    };
    let others: Vec<_> = resolve.packages.iter().map(|(id, _)| id).filter(|id| *id != package).collect();
    let mut printer = WitPrinter::default();
    printer.emit_docs(false);
    printer.print(resolve, package, &others).map_err(|error| anyhow!(one_line(&error)))?;
    Ok(printer.output.to_string())
}

fn one_line(error: &impl std::fmt::Display) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_written_as_a_world() {
        let wasm = wat::parse_str(
            r#"(component
                 (import "acme:rockets/pad@1.0.0" (instance (export "launch" (func (param "count" u32)))))
                 (core module $m (func (export "f") (param i32)))
                 (core instance $i (instantiate $m))
                 (func (export "go") (param "far" u32) (canon lift (core func $i "f"))))"#,
        )
        .unwrap();
        let wit = write(&wasm).unwrap();
        for line in
            ["import acme:rockets/pad@1.0.0;", "export go: func(far: u32);", "launch: func(count: u32);"]
        {
            assert!(wit.contains(line), "{line} in {wit}");
        }
    }

    #[test]
    fn a_broken_component_is_refused_in_one_line() {
        let error = write(b"\0asm\x0d\0\x01\0\xff\x01").unwrap_err().to_string();
        assert!(error.starts_with("there is no WIT") && !error.contains('\n'), "{error}");
    }
}

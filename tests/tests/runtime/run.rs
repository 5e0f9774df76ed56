//! `wisp run`, as root and as nobody, in a space of its own.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wisp_tests::bed::{LIMIT, eventually};
use wisp_tests::process::{self, Finished};
use wisp_tests::space::{Cache, Space};
use wisp_tests::suite::Case;
use wisp_tests::{Outcome, cases, site};

pub(crate) const CASES: &[Case] = cases![Once:
    run_ends_with_the_guests_own_exit_code,
    run_gives_the_guest_its_arguments_and_variables_and_none_of_its_own,
    run_shows_the_guest_the_folders_that_are_named_and_no_other,
    run_takes_text_and_standard_input_and_calls_exports,
    run_tells_a_trap_as_a_pod_does,
    run_refuses_memory_beyond_the_limit,
    run_tells_what_cannot_run_with_dockers_exit_codes,
    run_refuses_a_wrong_command_line_with_dockers_exit_code,
    run_serves_until_it_is_interrupted,
];

const SUM: &str = r#"(module (func (export "add") (param i32 i32) (result i32)
    (i32.add (local.get 0) (local.get 1))))"#;

/// Who runs, with a folder that is theirs.
struct User {
    space: Space,
    folder: PathBuf,
    is_root: bool,
}

/// Root and nobody.
fn users(case: &str) -> Result<[User; 2]> {
    let user = |name: &str| -> Result<User> {
        let folder = site::run_folder()?.join(format!("run-{case}-{name}"));
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o777))?;
        let space = Space::new(Cache::Folder(site::run_folder()?.join("cache")), None)?;
        Ok(User { space, folder, is_root: name == "root" })
    };
    Ok([user("root")?, user("nobody")?])
}

impl User {
    fn command(&self, args: &[&str]) -> Result<Command> {
        // A process that enters a space is at its root.
        let mut command = self.space.command("env");
        command.arg("-C").arg(&self.folder);
        if !self.is_root {
            command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
        }
        command
            .arg(site::binary("wisp")?)
            .arg("run")
            .args(args)
            .env("XDG_CACHE_HOME", self.folder.join("cache"));
        Ok(command)
    }

    fn run(&self, args: &[&str]) -> Result<Finished> {
        process::run(&mut self.command(args)?, LIMIT)
    }

    /// Runs the Rust command with options before it and arguments after it.
    fn guest(&self, options: &[&str], args: &[&str]) -> Result<Finished> {
        let guest = site::guest("rust-0.2.wasm")?.display().to_string();
        self.run(&[options, &[guest.as_str()], args].concat())
    }
}

fn run_ends_with_the_guests_own_exit_code() -> Outcome {
    for user in users("code")? {
        let ended = user.guest(&[], &["hello"])?;
        ensure!(ended.code == 0 && ended.stdout == "hello from Rust, WASI 0.2\n", "{ended:?}");
        let module = site::guest("rust-0.1.wasm")?.display().to_string();
        let ended = user.run(&[&module, "exit", "42"])?;
        ensure!(ended.code == 42, "{ended:?}");
    }
    Ok(())
}

fn run_gives_the_guest_its_arguments_and_variables_and_none_of_its_own() -> Outcome {
    for user in users("env")? {
        fs::write(user.folder.join("list"), "# a comment\nA=file\nB=file\n")?;
        let ended = user.guest(&["--env-file", "list", "-e", "B=2", "--env", "C=x=y"], &["env"])?;
        ensure!(ended.code == 0 && ended.stdout == "A=file\nB=2\nC=x=y\n", "{ended:?}");
        let ended = user.guest(&["--rm", "-it"], &["args", "--verbose", "a b"])?;
        ensure!(ended.stdout == "--verbose\na b\n", "{ended:?}");
    }
    Ok(())
}

fn run_shows_the_guest_the_folders_that_are_named_and_no_other() -> Outcome {
    for user in users("volumes")? {
        fs::create_dir(user.folder.join("data"))?;
        fs::set_permissions(user.folder.join("data"), Permissions::from_mode(0o777))?;
        fs::write(user.folder.join("data/there"), "content")?;
        let ended = user.guest(&["-v", "data:/data:ro"], &["cat", "/data/there"])?;
        ensure!(ended.code == 0 && ended.stdout.contains("content"), "{ended:?}");
        let ended = user.guest(&["-v", "data:/data:ro"], &["write", "/data/new", "text"])?;
        ensure!(ended.code == 1 && !user.folder.join("data/new").exists(), "{ended:?}");
        let ended = user.guest(&["-v", "data:/data"], &["write", "/data/new", "text"])?;
        ensure!(ended.code == 0 && fs::read_to_string(user.folder.join("data/new"))? == "text", "{ended:?}");
        for path in ["/etc/passwd", "/data/../list", "/proc/self/status"] {
            let ended = user.guest(&["-v", "data:/data"], &["cat", path])?;
            ensure!(ended.code == 1, "{path}: {ended:?}");
        }
    }
    Ok(())
}

fn run_takes_text_and_standard_input_and_calls_exports() -> Outcome {
    for user in users("text")? {
        let path = user.folder.join("sum.wat");
        fs::write(&path, SUM)?;
        for args in [&["--invoke", "add", "sum.wat", "2", "3"][..], &["sum.wat#add", "2", "3"]] {
            let ended = user.run(args)?;
            ensure!(ended.code == 0 && ended.stdout == "5\n", "{args:?}: {ended:?}");
        }
        let mut command = user.command(&["--invoke", "add", "-", "2", "3"])?;
        let ended = process::run_from(&mut command, File::open(&path)?.into(), LIMIT)?;
        ensure!(ended.code == 0 && ended.stdout == "5\n", "{ended:?}");
    }
    Ok(())
}

fn run_tells_a_trap_as_a_pod_does() -> Outcome {
    for user in users("trap")? {
        let ended = user.guest(&[], &["trap", "divide"])?;
        let told = ended.stderr.contains("wasm trap: integer divide by zero")
            && ended.stderr.contains("traps::divide");
        ensure!(ended.code == 134 && told, "{ended:?}");
    }
    Ok(())
}

fn run_refuses_memory_beyond_the_limit() -> Outcome {
    for user in users("memory")? {
        let ended = user.guest(&["-m", "32m"], &["alloc"])?;
        ensure!(ended.code == 134 && ended.stderr.contains("memory limit is 32 MiB"), "{ended:?}");
    }
    Ok(())
}

fn run_tells_what_cannot_run_with_dockers_exit_codes() -> Outcome {
    for user in users("refused")? {
        fs::write(user.folder.join("sum.wat"), SUM)?;
        fs::write(user.folder.join("bad.wat"), "(module (func $f (call $none)))")?;
        fs::write(user.folder.join("text.wasm"), "no program")?;
        for (args, code, word) in [
            (&["none.wasm"][..], 127, "none.wasm"),
            (&["text.wasm"], 126, "WebAssembly"),
            (&["bad.wat"], 126, "bad.wat:1:"),
            (&["sum.wat"], 126, "add"),
            (&["sum.wat#none"], 126, "none"),
            (&["-v", "nowhere:/a", "sum.wat#add", "1", "2"], 125, "nowhere"),
            (&["-v", "sum.wat:/a:xx", "sum.wat#add", "1", "2"], 125, "xx"),
            (&["-w", "a", "sum.wat#add", "1", "2"], 125, "absolute"),
            (&["-p", "127.0.0:1", "sum.wat#add", "1", "2"], 125, "no address"),
        ] {
            let ended = user.run(args)?;
            ensure!(ended.code == code && ended.stderr.contains(word), "{args:?}: {ended:?}");
            ensure!(ended.stderr.trim().lines().count() == 1, "{args:?}: {ended:?}");
        }
    }
    Ok(())
}

fn run_refuses_a_wrong_command_line_with_dockers_exit_code() -> Outcome {
    let [root, _] = users("usage")?;
    for args in [&["--no-such", "a.wasm"][..], &["-m", "much", "a.wasm"], &[]] {
        let ended = root.run(args)?;
        ensure!(ended.code == 125 && ended.stderr.starts_with("error: "), "{args:?}: {ended:?}");
    }
    let ended = root.run(&["--help"])?;
    ensure!(ended.code == 0 && ended.stdout.contains("Examples:"), "{ended:?}");
    Ok(())
}

fn run_serves_until_it_is_interrupted() -> Outcome {
    let ways = [(Signal::SIGINT, "9090:8080", "localhost"), (Signal::SIGTERM, "127.0.0.1:9090", "127.0.0.1")];
    for (user, (signal, publish, host)) in users("http")?.into_iter().zip(ways) {
        let guest = site::guest("http-0.2.wasm")?.display().to_string();
        let mut command = user.command(&["-p", publish, &guest])?;
        process::dies_with_us(&mut command).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("starting wisp run")?;
        let mut said = String::new();
        BufReader::new(child.stderr.take().context("stderr")?).read_line(&mut said)?;
        ensure!(said.contains(&format!("http://{host}:9090/")), "{said}");
        // The port is bound when the address is told, and listens at once.
        let mut stream = eventually("the service", LIMIT, || {
            user.space.inside(|| Ok(TcpStream::connect("127.0.0.1:9090").ok()))
        })?;
        write!(stream, "GET /hello HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.contains("hello from Rust, wasi:http 0.2"), "{answer}");
        kill(Pid::from_raw(child.id().cast_signed()), signal)?;
        let status = process::wait(&mut child, LIMIT)?.context("wisp run goes on")?;
        ensure!(process::code(status) == 0, "{status}");
    }
    Ok(())
}

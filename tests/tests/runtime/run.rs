//! `wisp run`, as root and as nobody, in a space of its own.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use wisp_tests::bed::LIMIT;
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
    run_takes_images_by_name_and_from_layouts_and_archives,
    run_does_with_an_image_what_docker_does,
    root_of_a_namespace_of_their_own_runs_as_whoever_they_are,
    images_are_listed_renamed_and_removed,
];

const SUM: &str = r#"(module (func (export "add") (param i32 i32) (result i32)
    (i32.add (local.get 0) (local.get 1))))"#;

/// Who runs, with a folder that is theirs.
pub(crate) struct User {
    pub(crate) space: Space,
    pub(crate) folder: PathBuf,
    is_root: bool,
}

/// Root and nobody.
pub(crate) fn users(case: &str) -> Result<[User; 2]> {
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
    /// `wisp run`.
    pub(crate) fn command(&self, args: &[&str]) -> Result<Command> {
        self.wisp(&[&["run"], args].concat())
    }

    /// `wisp`.
    pub(crate) fn wisp(&self, args: &[&str]) -> Result<Command> {
        let mut command = self.program(&[])?;
        command.args(args);
        Ok(command)
    }

    /// `wisp`, run by another program.
    fn program(&self, by: &[&str]) -> Result<Command> {
        // A process that enters a space is at its root.
        let mut command = self.space.command("env");
        command.arg("-C").arg(&self.folder);
        if !self.is_root {
            command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
        }
        command
            .args(by)
            .arg(site::binary("wisp")?)
            .env("XDG_CACHE_HOME", self.folder.join("cache"))
            .env("XDG_DATA_HOME", self.folder.join("data-home"));
        Ok(command)
    }

    fn run(&self, args: &[&str]) -> Result<Finished> {
        process::run(&mut self.command(args)?, LIMIT)
    }

    /// Runs `wisp` with these arguments, which must succeed.
    fn does(&self, args: &[&str]) -> Result<String> {
        process::run(&mut self.wisp(args)?, LIMIT)?.success().with_context(|| args.join(" "))
    }

    /// Runs the Rust command with options before it and arguments after it.
    pub(crate) fn guest(&self, options: &[&str], args: &[&str]) -> Result<Finished> {
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

fn run_takes_images_by_name_and_from_layouts_and_archives() -> Outcome {
    for user in users("images")? {
        let guest = site::guest("rust-0.2.wasm")?.display().to_string();
        let built = user.does(&["build", "-t", "wisp.test/app:1", &guest])?;
        user.does(&["build", "-t", "wisp.test/artifact:1", "--artifact", &guest])?;
        user.does(&["save", "-o", "app.tar", "wisp.test/app:1"])?;
        let digest = built.lines().last().context("a digest")?;
        for image in ["wisp.test/app:1", digest, "app.tar", "data-home/wisp/images:1", "wisp.test/artifact:1"]
        {
            // The tag 1 is two images' in the store as a layout.
            let ended = user.run(&[image, "hello"])?;
            let several = image.ends_with("images:1");
            let told = if several { ended.stderr.contains("name one of them") } else { ended.code == 0 };
            ensure!(told && (several || ended.stdout == "hello from Rust, WASI 0.2\n"), "{image}: {ended:?}");
        }
        for (args, code, word) in [
            (&["--pull=never", "wisp.test/none:1"][..], 127, "there is no image wisp.test/none:1"),
            (&["--entrypoint=/none.wasm", "wisp.test/app:1"], 127, "none.wasm"),
            (&["data-home"], 127, "an OCI layout was expected"),
        ] {
            let ended = user.run(args)?;
            ensure!(ended.code == code && ended.stderr.contains(word), "{args:?}: {ended:?}");
        }
    }
    Ok(())
}

fn run_does_with_an_image_what_docker_does() -> Outcome {
    for user in users("docker")? {
        let guest = site::guest("rust-0.2.wasm")?.display().to_string();
        let options = ["-e", "A=image", "-e", "B=image", "--cmd", "env", "-w", "/work"];
        user.does(&[&["build", "-t", "wisp.test/app:1"], &options[..], &[&guest]].concat())?;
        let ended = user.run(&["-e", "B=2", "wisp.test/app:1"])?;
        ensure!(ended.code == 0 && ended.stdout == "A=image\nB=2\n", "the image's command: {ended:?}");
        let ended = user.run(&["wisp.test/app:1", "args", "x"])?;
        ensure!(ended.stdout == "x\n", "other arguments: {ended:?}");
        let ended = user.run(&["--entrypoint", "rust-0.2.wasm", "wisp.test/app:1", "hello"])?;
        ensure!(ended.stdout == "hello from Rust, WASI 0.2\n", "an entrypoint: {ended:?}");
        // The guest sees the image's files, and what it writes there is gone with it.
        let ended = user.run(&["wisp.test/app:1", "write", "/new", "text"])?;
        ensure!(ended.code == 0, "{ended:?}");
        let ended = user.run(&["wisp.test/app:1", "cat", "/new"])?;
        ensure!(ended.code == 1, "{ended:?}");
    }
    Ok(())
}

fn root_of_a_namespace_of_their_own_runs_as_whoever_they_are() -> Outcome {
    let [_, nobody] = users("namespace")?;
    let guest = site::guest("rust-0.2.wasm")?.display().to_string();
    let mut command = nobody.program(&["unshare", "--user", "--map-root-user"])?;
    let ended = process::run(command.args(["run", &guest, "hello"]), LIMIT)?;
    ensure!(ended.code == 0 && ended.stdout == "hello from Rust, WASI 0.2\n", "{ended:?}");
    ensure!(nobody.folder.join("cache/wisp/compiled").is_dir(), "the compiled code is in no cache of theirs");
    Ok(())
}

fn images_are_listed_renamed_and_removed() -> Outcome {
    for user in users("list")? {
        let guest = site::guest("rust-0.1.wasm")?.display().to_string();
        let first = user.does(&["build", "-t", "wisp.test/app:1", &guest])?;
        let again = user.does(&["build", "-t", "wisp.test/app:1", &guest])?;
        ensure!(first == again, "the same files made another image: {first}, {again}");
        user.does(&["tag", "wisp.test/app:1", "wisp.test/app:2"])?;
        ensure!(user.does(&["images", "-q"])? == "wisp.test/app:1\nwisp.test/app:2\n");
        let listed: serde_json::Value = serde_json::from_str(&user.does(&["images", "--json"])?)?;
        ensure!(listed[1]["digest"].as_str() == first.lines().last(), "{listed}");
        user.does(&["rmi", "wisp.test/app:1"])?;
        ensure!(user.run(&["wisp.test/app:2", "hello"])?.code == 0);
        user.does(&["rmi", "wisp.test/app:2"])?;
        let left = fs::read_dir(user.folder.join("data-home/wisp/images/blobs/sha256"))?.count();
        ensure!(left == 0, "{left} blobs are left");
    }
    Ok(())
}

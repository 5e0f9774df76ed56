//! How guests begin and end.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use wisp_tests::bed::Bed;
use wisp_tests::suite::Case;
use wisp_tests::task::{Container, RUNC, WISP};
use wisp_tests::{Outcome, cases};

pub(crate) const CASES: &[Case] = cases![Shared:
    a_guest_that_returns_exits_0,
    a_guest_that_exits_with_a_code_exits_with_it,
    arguments_reach_the_guest_unchanged,
    environment_and_folder_reach_the_guest,
    the_image_says_what_runs_where_the_command_line_does_not,
    a_guest_in_every_language_says_hello,
    the_platform_in_the_image_decides_nothing,
    an_unreachable_exits_134_and_names_the_function,
    a_read_out_of_bounds_exits_134_and_names_the_function,
    an_exhausted_stack_exits_134_and_names_the_function,
    a_division_by_zero_exits_134_and_names_the_function,
    a_guest_killed_by_sigkill_exits_137,
    a_guest_process_killed_from_outside_exits_137_as_under_runc,
    a_native_program_runs_in_the_same_way,
    an_exported_function_is_called_with_its_arguments,
];

/// The command of each WASI version.
pub(crate) const COMMANDS: [&str; 3] = ["/rust-0.1.wasm", "/rust-0.2.wasm", "/rust-0.3.wasm"];

fn a_guest_that_returns_exits_0(bed: &Bed) -> Outcome {
    for program in COMMANDS {
        Container::new(bed, &[program, "hello"])?.run()?.code(0)?;
    }
    Ok(())
}

fn a_guest_that_exits_with_a_code_exits_with_it(bed: &Bed) -> Outcome {
    // WASI 0.2 knows two codes: a guest's 7 becomes 1 before it reaches its host.
    for (program, codes) in COMMANDS.into_iter().zip([&[1, 7, 125][..], &[1], &[1, 7, 125]]) {
        for &code in codes {
            Container::new(bed, &[program, "exit", &code.to_string()])?.run()?.code(code)?;
        }
    }
    Ok(())
}

fn arguments_reach_the_guest_unchanged(bed: &Bed) -> Outcome {
    let odd = ["one", "", "two words", "ünïcödé", "--flag=x"];
    for program in COMMANDS {
        let ended = Container::new(bed, &[&[program, "args"], &odd[..]].concat())?.run()?.code(0)?;
        ensure!(ended.stdout.lines().eq(odd), "{program} printed {:?}", ended.stdout);
    }
    Ok(())
}

fn environment_and_folder_reach_the_guest(bed: &Bed) -> Outcome {
    for program in COMMANDS {
        let ended = Container::new(bed, &[program, "env"])?.flags(&["--env", "GIVEN=a b"]).run()?.code(0)?;
        for line in ["GIVEN=a b", "FROM_IMAGE=yes"] {
            ensure!(ended.stdout.lines().any(|one| one == line), "{program} has no {line}: {}", ended.stdout);
        }
        let surprise = ended.stdout.lines().find(|line| line.starts_with("WISP"));
        ensure!(surprise.is_none(), "{program} sees {surprise:?}");
    }
    // WASI 0.1 has no notion of a folder to be in.
    for program in &COMMANDS[1..] {
        Container::new(bed, &[program, "cwd"])?
            .flags(&["--cwd", "/data"])
            .run()?
            .code(0)?
            .stdout("/data\n")?;
    }
    Ok(())
}

fn the_image_says_what_runs_where_the_command_line_does_not(bed: &Bed) -> Outcome {
    Container::new(bed, &[])?.run()?.code(0)?.stdout("hello from Rust, WASI 0.2\n")?;
    Ok(())
}

fn a_guest_in_every_language_says_hello(bed: &Bed) -> Outcome {
    for (program, greeting) in [
        ("/rust-0.1.wasm", "hello from Rust, WASI 0.1\n"),
        ("/rust-0.2.wasm", "hello from Rust, WASI 0.2\n"),
        ("/rust-0.3.wasm", "hello from Rust, WASI 0.3\n"),
        ("/c.wasm", "hello from C, WASI 0.1\n"),
        ("/go.wasm", "hello from Go, WASI 0.1\n"),
    ] {
        Container::new(bed, &[program])?.runtime(WISP).run()?.code(0)?.stdout(greeting)?;
    }
    Ok(())
}

fn the_platform_in_the_image_decides_nothing(bed: &Bed) -> Outcome {
    use wisp_tests::image::Image;
    for (os, architecture) in [("wasi", "wasm"), ("wasi", "wasm32"), ("wasip1", "wasm"), ("wasip2", "wasm")] {
        let platform = format!("{os}/{architecture}");
        let image = Image::new(&format!("wisp.test/{os}-{architecture}:1"))
            .platform(os, architecture)
            .file_of("/hello.wasm", wisp_tests::site::guest("rust-0.2.wasm")?)
            .config("Entrypoint", serde_json::json!(["/hello.wasm"]));
        bed.import_for(&image, &platform)?;
        let flags = ["--platform", &platform];
        Container::of_image(bed, image.name(), &[])
            .runtime(WISP)
            .flags(&flags)
            .run()?
            .code(0)?
            .stdout("hello from Rust, WASI 0.2\n")?;
    }
    Ok(())
}

/// A trap exits 134, says why in Wasmtime's words, and names the function that it was in.
fn trapped(bed: &Bed, kind: &str, cause: &str, function: &str) -> Outcome {
    for program in &COMMANDS[..2] {
        let ended = Container::new(bed, &[program, "trap", kind])?.runtime(WISP).run()?.code(134)?;
        ended.stderr_has(cause)?.stderr_has(function)?;
    }
    Ok(())
}

fn an_unreachable_exits_134_and_names_the_function(bed: &Bed) -> Outcome {
    trapped(bed, "unreachable", "unreachable", "reach_the_unreachable")?;
    let ended = Container::new(bed, &[COMMANDS[2], "trap"])?.runtime(WISP).run()?.code(134)?;
    ended.stderr_has("unreachable")?.stderr_has("reach_the_unreachable")?;
    Ok(())
}

fn a_read_out_of_bounds_exits_134_and_names_the_function(bed: &Bed) -> Outcome {
    trapped(bed, "bounds", "out of bounds memory access", "read_out_of_bounds")
}

fn an_exhausted_stack_exits_134_and_names_the_function(bed: &Bed) -> Outcome {
    trapped(bed, "stack", "call stack exhausted", "dig")
}

fn a_division_by_zero_exits_134_and_names_the_function(bed: &Bed) -> Outcome {
    trapped(bed, "divide", "integer divide by zero", "divide")
}

fn a_guest_killed_by_sigkill_exits_137(bed: &Bed) -> Outcome {
    for program in COMMANDS {
        let task = Container::new(bed, &[program, "loop"])?.start()?;
        task.until("looping")?;
        task.kill(Signal::SIGKILL)?;
        task.wait()?.code(137)?;
    }
    Ok(())
}

fn a_guest_process_killed_from_outside_exits_137_as_under_runc(bed: &Bed) -> Outcome {
    for runtime in [RUNC, WISP] {
        let task = Container::new(bed, &["/rust-0.2.wasm", "loop"])?.runtime(runtime).start()?;
        task.until("looping")?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(task.pid()?.cast_signed()), Signal::SIGKILL)?;
        task.wait()?.code(137)?;
    }
    Ok(())
}

fn a_native_program_runs_in_the_same_way(bed: &Bed) -> Outcome {
    Container::new(bed, &["/native", "hello"])?.run()?.code(0)?.stdout("hello from Rust, native\n")?;
    Container::new(bed, &["/native", "exit", "9"])?.run()?.code(9)?;
    Ok(())
}

fn an_exported_function_is_called_with_its_arguments(bed: &Bed) -> Outcome {
    use wisp_tests::image::Image;
    let module = wat::parse_str(
        r#"(module
            (global $ready (mut i32) (i32.const 0))
            (func (export "_initialize") (global.set $ready (i32.const 1000)))
            (func (export "add") (param i32 i64) (result i64)
                (i64.add (i64.extend_i32_s (i32.add (local.get 0) (global.get $ready))) (local.get 1))))"#,
    )?;
    let image = Image::new("wisp.test/export:1").file("/add.wasm", module);
    bed.import(&image, &[])?;
    let run = |args: &[&str]| Container::of_image(bed, image.name(), args).runtime(WISP).run();
    run(&["/add.wasm#add", "2", "3"])?.code(0)?.stdout("1005\n")?;
    for (args, why) in [
        (&["/add.wasm#add", "2"][..], "add"),
        (&["/add.wasm#add", "2", "x"], "add"),
        (&["/add.wasm#sub"], "sub"),
    ] {
        let ended = run(args)?;
        refused_with(ended.refused()?, &[why])?;
    }
    Ok(())
}

/// Requires these words in a refusal.
pub(crate) fn refused_with(line: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(line.to_lowercase().contains(&word.to_lowercase()), "{word:?} is not in: {line}");
    }
    Ok(())
}

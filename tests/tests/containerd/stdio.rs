//! Standard input, output and error, in all the forms that containerd has for them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use wisp_tests::bed::{Bed, LIMIT, eventually};
use wisp_tests::suite::Case;
use wisp_tests::task::{Container, Task};
use wisp_tests::{Outcome, cases};

use crate::ends::COMMANDS;

pub(crate) const CASES: &[Case] = cases![Shared:
    the_two_outputs_stay_apart,
    input_reaches_the_guest_and_ends,
    a_million_lines_arrive_whole,
    output_goes_to_a_file,
    output_goes_to_a_logger_of_its_own,
    a_guest_without_outputs_runs,
    a_terminal_echoes_and_ends_its_input,
    a_terminal_changes_its_size,
    ctrl_c_in_a_terminal_exits_130,
];

fn the_two_outputs_stay_apart(bed: &Bed) -> Outcome {
    for program in &COMMANDS[..2] {
        let ended = Container::new(bed, &[program, "both"])?.run()?.code(0)?.stdout("to stdout\n")?;
        ensure!(ended.stderr == "to stderr\n", "stderr is {:?}", ended.stderr);
    }
    Ok(())
}

fn input_reaches_the_guest_and_ends(bed: &Bed) -> Outcome {
    for program in COMMANDS {
        let mut task = Container::new(bed, &[program, "echo"])?.stdin().start()?;
        task.until("reading")?;
        task.write("first\n")?;
        task.until("first")?;
        task.write("second\n")?;
        let ended = task.wait()?.code(0)?;
        ensure!(ended.stdout.starts_with("reading\nfirst\nsecond\n"), "{program} printed {:?}", ended.stdout);
    }
    Ok(())
}

fn a_million_lines_arrive_whole(bed: &Bed) -> Outcome {
    let ended = Container::new(bed, &["/rust-0.2.wasm", "lines", "1000000"])?.run()?.code(0)?;
    let wrong = ended.stdout.lines().zip(1u32..).find(|(line, number)| *line != format!("line {number}"));
    ensure!(wrong.is_none(), "{wrong:?}");
    ensure!(ended.stdout.lines().count() == 1_000_000, "{} lines", ended.stdout.lines().count());
    Ok(())
}

fn output_goes_to_a_file(bed: &Bed) -> Outcome {
    let task = Container::new(bed, &["/rust-0.2.wasm", "both"])?.detach()?;
    let ended = task.wait()?.code(0)?;
    for line in ["to stdout", "to stderr"] {
        ensure!(ended.stdout.contains(line), "the file has no {line:?}: {:?}", ended.stdout);
    }
    Ok(())
}

/// containerd's protocol for loggers: outputs at descriptors 3 and 4, and 5 is closed to say that the logger is ready.
const LOGGER: &str = r#"#!/bin/sh
folder=$2
exec 5>&-
cat <&3 >"$folder/stdout" &
cat <&4 >"$folder/stderr" &
echo "$CONTAINER_NAMESPACE $CONTAINER_ID" >"$folder/who"
wait
"#;

fn output_goes_to_a_logger_of_its_own(bed: &Bed) -> Outcome {
    let folder = bed.folder.join(bed.id("logger"));
    fs::create_dir_all(&folder)?;
    let logger = folder.join("logger.sh");
    fs::write(&logger, LOGGER)?;
    fs::set_permissions(&logger, fs::Permissions::from_mode(0o755))?;
    let uri = format!("binary://{}?folder={}", logger.display(), folder.display());

    let container = Container::new(bed, &["/rust-0.2.wasm", "both"])?.flags(&["--log-uri", &uri]);
    let id = container.id().to_owned();
    container.run()?.code(0)?;
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    // A logger may be ended by the shim once it has read everything.
    eventually("the logger's files", LIMIT, || {
        Ok((read("stdout") == "to stdout\n" && read("stderr") == "to stderr\n").then_some(()))
    })?;
    ensure!(read("who").trim() == format!("{} {id}", bed.namespace), "{:?}", read("who"));
    Ok(())
}

fn a_guest_without_outputs_runs(bed: &Bed) -> Outcome {
    Container::new(bed, &["/rust-0.2.wasm", "both"])?.flags(&["--null-io"]).run()?.code(0)?.stdout("")?;
    Ok(())
}

fn a_terminal_echoes_and_ends_its_input(bed: &Bed) -> Outcome {
    for program in &COMMANDS[..2] {
        let mut task = Container::new(bed, &[program, "echo"])?.start_in_terminal()?;
        task.until("reading\n")?;
        ensure!(terminal(&task).is_ok(), "the input is no terminal");
        task.write("typed\n")?;
        task.until("typed\ntyped\n")?; // the terminal's echo, and the guest's
        task.write("\u{4}")?;
        task.until("read 6 bytes\n")?;
        task.wait()?.code(0)?;
    }
    Ok(())
}

/// The size of the terminal that is the guest's input.
fn terminal(task: &Task<'_>) -> Result<rustix::termios::Winsize> {
    let terminal = fs::File::open(format!("/proc/{}/fd/0", task.pid()?))?;
    Ok(rustix::termios::tcgetwinsize(&terminal)?)
}

fn a_terminal_changes_its_size(bed: &Bed) -> Outcome {
    let mut task = Container::new(bed, &["/rust-0.2.wasm", "echo"])?.start_in_terminal()?;
    task.until("reading")?;
    // `ctr` sets the size that its own terminal has, soon after the start.
    eventually("the size of the terminal", LIMIT, || {
        task.client()?.resize(&task.id, "", 132, 43)?;
        let size = terminal(&task)?;
        Ok(((size.ws_col, size.ws_row) == (132, 43)).then_some(()))
    })?;
    task.write("\u{4}")?;
    task.wait()?.code(0)?;
    Ok(())
}

fn ctrl_c_in_a_terminal_exits_130(bed: &Bed) -> Outcome {
    let mut task = Container::new(bed, &["/rust-0.2.wasm", "echo"])?.start_in_terminal()?;
    task.until("reading")?;
    task.write("\u{3}")?;
    task.wait()?.code(130)?;
    Ok(())
}

//! `wisp` in a terminal and elsewhere.

use std::fs;

use anyhow::{Result, ensure};
use wisp_tests::bed::LIMIT;
use wisp_tests::registry::Registry;
use wisp_tests::suite::Case;
use wisp_tests::terminal::Terminal;
use wisp_tests::{Outcome, cases, process, site};

use crate::run::{User, users};

pub(crate) const CASES: &[Case] = cases![Once:
    run_hands_the_guest_the_terminal_that_it_is_in,
    run_in_a_terminal_ends_with_ctrl_c,
    a_transfer_is_a_bar_on_a_terminal_and_plain_lines_elsewhere,
];

/// docker's ways to say it, and none: the terminal is the guest's in any case.
const OPTIONS: [&[&str]; 3] = [&["-it"], &["--interactive", "--tty", "--rm"], &[]];

/// The guest, which repeats what is typed.
fn echo(user: &User, options: &[&str]) -> Result<Terminal> {
    let guest = site::guest("rust-0.2.wasm")?.display().to_string();
    let terminal = Terminal::start(user.command(&[options, &[&guest, "echo"]].concat())?)?;
    terminal.until("reading\n")?;
    Ok(terminal)
}

fn run_hands_the_guest_the_terminal_that_it_is_in() -> Outcome {
    for user in users("terminal")? {
        for options in OPTIONS {
            let mut terminal = echo(&user, options)?;
            terminal.types("typed\n")?;
            terminal.until("typed\ntyped\n")?; // the terminal's echo, and the guest's
            // A terminal that becomes another size takes nothing from the guest.
            terminal.resize(132, 43)?;
            terminal.types("again\n")?;
            terminal.until("again\nagain\n")?;
            terminal.types("\u{4}")?;
            let (code, said) = terminal.ended()?;
            ensure!(code == 0 && said.ends_with("read 12 bytes\r\n"), "{options:?}: {code}, {said:?}");
        }
    }
    Ok(())
}

fn run_in_a_terminal_ends_with_ctrl_c() -> Outcome {
    for user in users("ctrl-c")? {
        let mut terminal = echo(&user, &["-it"])?;
        terminal.types("\u{3}")?;
        let (code, said) = terminal.ended()?;
        ensure!(code == 130, "{code}, {said:?}");
    }
    Ok(())
}

fn a_transfer_is_a_bar_on_a_terminal_and_plain_lines_elsewhere() -> Outcome {
    let [user, _] = users("progress")?;
    let registry = Registry::start(&user.space, &user.folder.join("registry"), 5108)?;
    let guest = site::guest("rust-0.2.wasm")?.display().to_string();
    for (command, done) in [("push", "is there, "), ("pull", "pulled, ")] {
        let line = |name: &str| match command {
            "push" => vec![command.to_owned(), guest.clone(), registry.name(name)],
            _ => vec![command.to_owned(), registry.name(name)],
        };
        let typed = |name: &str| user.wisp(&line(name).iter().map(String::as_str).collect::<Vec<_>>());

        let (code, said) = Terminal::start(typed("bar:1")?)?.ended()?;
        let last = said.lines().last().unwrap_or_default();
        ensure!(code == 0 && said.contains(&format!("{command}ing [")), "no bar: {code}, {said:?}");
        ensure!(said.contains(" B of ") || said.contains("iB of "), "no sizes: {said:?}");
        ensure!(!said.contains(done), "lines beside the bar: {said:?}");
        ensure!(last.contains("sha256:"), "the digest is not the last line: {said:?}");

        // What the terminal brought would not be brought again.
        fs::remove_dir_all(user.folder.join("data-home"))?;
        let ended = process::run(&mut typed("lines:1")?, LIMIT)?;
        ensure!(ended.code == 0 && ended.stdout.trim().len() == "sha256:".len() + 64, "{ended:?}");
        ensure!(ended.stderr.lines().all(|line| line.contains(done)), "{ended:?}");
        ensure!(ended.stderr.contains(done) && !ended.stderr.contains(['\r', '\x1b']), "{ended:?}");
    }
    Ok(())
}

//! `wisp completions`: the command line, as shells complete it.

use std::io::Write;

use anyhow::Result;
use clap_complete::Shell;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints a shell's script.
///
/// # Errors
/// The output's.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::command_line(), "wisp", &mut script);
    Ok(out.write_all(&script)?)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_is_told_the_commands_and_their_options() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            run(&Args { shell: *shell }, &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("inspect") && script.contains("json"), "{shell}: {script}");
        }
    }
}

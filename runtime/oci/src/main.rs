//! `wisp-runtime`: the command line. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    wisp_runtime::run(std::env::args_os())
}

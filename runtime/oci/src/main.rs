//! `wisp-runtime`: the command line. Everything is in the library.

use std::process::ExitCode;

// The linker takes memcpy and its like from here.
use wisp_memory as _;

// A command ends after milliseconds. musl's allocator maps and unmaps a page for almost each size of block meanwhile.
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    wisp_runtime::run(std::env::args_os())
}

//! What a person sees while blobs move: one bar on a terminal, plain lines elsewhere, all on standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use wisp_registry::Watch;

/// The progress of one command.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
}

impl Progress {
    /// Nothing to be seen yet.
    pub(crate) fn new() -> Self {
        let is_terminal = io::stderr().is_terminal();
        let target = if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let form = "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}";
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar, is_terminal }
    }

    /// So many bytes are to be moved, which is this.
    pub(super) fn expect(&self, what: &'static str, bytes: u64) {
        self.bar.set_message(what);
        self.bar.inc_length(bytes);
    }

    /// Something was done, which a log should have.
    pub(super) fn line(&self, text: &str) {
        if !self.is_terminal {
            writeln!(io::stderr(), "{text}").ok();
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    pub(crate) fn watch(&self) -> Arc<dyn Watch> {
        Arc::new(self.clone())
    }
}

impl Watch for Progress {
    fn waits(&self, why: &str, pause: Duration) {
        let text = format!("{why}; again in {} s", pause.as_secs().max(1));
        if self.is_terminal {
            self.bar.println(text);
        } else {
            self.line(&text);
        }
    }

    fn moved(&self, _digest: &str, bytes: u64) {
        self.bar.inc(bytes);
    }
}

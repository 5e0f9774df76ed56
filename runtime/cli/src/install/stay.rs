//! Staying until somebody says otherwise.

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

/// Keeps SIGTERM and SIGINT for [`wait`]: what has begun is finished first.
///
/// # Errors
/// Those of `sigprocmask(2)`.
pub(super) fn block() -> Result<SigSet> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block().context("blocking signals")?;
    Ok(signals)
}

/// Waits for one of these signals.
///
/// # Errors
/// Those of `sigwait(3)`.
pub(super) fn wait(signals: &SigSet) -> Result<()> {
    signals.wait().context("waiting for a signal")?;
    Ok(())
}

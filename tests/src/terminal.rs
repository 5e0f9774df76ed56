//! A pseudo-terminal with a command in it, and the person in front of it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use anyhow::{Context, Result, ensure};
use nix::pty::openpty;
use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::bed::LIMIT;
use crate::process::{self, dies_with_us};
use crate::text::Text;

/// A command whose terminal this is, for all three of its streams and for signals.
#[derive(Debug)]
pub struct Terminal {
    ours: File,
    child: Child,
    said: Text,
}

impl Terminal {
    /// Starts a command in a terminal of 80 columns and 24 rows.
    ///
    /// # Errors
    /// Those of the kernel, and of starting the command.
    pub fn start(mut command: Command) -> Result<Self> {
        let shown = process::shown(&command);
        let pair = openpty(None, None).context("a pseudo-terminal")?;
        let (ours, theirs) = (File::from(pair.master), pair.slave);
        resize(&ours, 80, 24)?;
        let stream = || theirs.try_clone();
        dies_with_us(&mut command).stdin(stream()?).stdout(stream()?).stderr(stream()?);
        let lead = || -> io::Result<()> {
            setsid()?;
            Ok(ioctl_tiocsctty(rustix::stdio::stdin())?)
        };
        // SAFETY: two bare system calls, which are async-signal-safe.
        unsafe { command.pre_exec(lead) };
        // The command has copies of its end, which go with it.
        let child = command.spawn().with_context(|| format!("starting {shown}"))?;
        let said = Text::of(Some(ours.try_clone()?));
        Ok(Self { ours, child, said })
    }

    /// Waits until it shows a text, carriage returns left out.
    ///
    /// # Errors
    /// What it showed instead.
    pub fn until(&self, text: &str) -> Result<()> {
        let found = self.said.wait_for(text, &self.said, LIMIT);
        ensure!(found, "{text:?} was expected in {:?}", self.said.text());
        Ok(())
    }

    /// Types.
    ///
    /// # Errors
    /// Those of writing.
    pub fn types(&mut self, text: &str) -> Result<()> {
        Ok(self.ours.write_all(text.as_bytes())?)
    }

    /// Makes it larger or smaller, of which its command hears.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        resize(&self.ours, columns, rows)
    }

    /// Waits for the end of its command; the exit code and all that it showed.
    ///
    /// # Errors
    /// Where the command goes on.
    pub fn ended(mut self) -> Result<(i32, String)> {
        let status = process::wait(&mut self.child, LIMIT)?;
        let status = status.with_context(|| format!("it goes on after {:?}", self.said.text()))?;
        Ok((process::code(status), self.said.whole(LIMIT)))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(terminal: impl AsFd, columns: u16, rows: u16) -> Result<()> {
    Ok(tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?)
}

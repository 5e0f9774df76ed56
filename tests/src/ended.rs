//! How a container of `ctr run` ended, and what a case requires of that.

use anyhow::{Result, ensure};

/// How a container ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The exit code that `ctr` passed on.
    pub code: i32,
    /// The container's standard output.
    pub stdout: String,
    /// The container's standard error and, where it failed, what `ctr` said.
    pub stderr: String,
}

impl Ended {
    /// Requires an exit code.
    ///
    /// # Errors
    /// All that is known, where it is another.
    pub fn code(self, wanted: i32) -> Result<Self> {
        ensure!(self.code == wanted, "exit code {} and not {wanted}\n{}", self.code, self.all());
        Ok(self)
    }

    /// Requires the whole standard output.
    ///
    /// # Errors
    /// All that is known, where it is another.
    pub fn stdout(self, wanted: &str) -> Result<Self> {
        ensure!(self.stdout == wanted, "stdout is not {wanted:?}\n{}", self.all());
        Ok(self)
    }

    /// Requires a text in standard error.
    ///
    /// # Errors
    /// All that is known, where it is not there.
    pub fn stderr_has(self, wanted: &str) -> Result<Self> {
        ensure!(self.stderr.contains(wanted), "stderr does not say {wanted:?}\n{}", self.all());
        Ok(self)
    }

    /// Requires that the container was not even created; the one line that `ctr` printed.
    ///
    /// # Errors
    /// Where it was, or where it was said in more or less than one line.
    pub fn refused(&self) -> Result<&str> {
        let said: Vec<_> = self.stderr.lines().filter(|line| line.starts_with("ctr: ")).collect();
        ensure!(self.code == 1 && said.len() == 1, "not refused in one line\n{}", self.all());
        ensure!(self.stderr.trim().lines().count() == 1, "more than one line\n{}", self.all());
        Ok(said[0])
    }

    fn all(&self) -> String {
        format!(
            "code:   {}\nstdout: {}\nstderr: {}",
            self.code,
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }
}

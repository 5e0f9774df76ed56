//! Programs of the node, each with a bound on its time.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// How long a program may take that answers at once where all is well.
pub(crate) const QUICK: Duration = Duration::from_secs(20);

/// Runs a program to its end and answers its standard output.
///
/// # Errors
/// One sentence with what the program said, where it fails, hangs or is not there.
pub(crate) fn output(program: &Path, args: &[&str], limit: Duration) -> Result<String> {
    let name = program.display();
    let mut child = Command::new(program)
        .args(args)
        // Ours may be that of a container in which nothing of the node is.
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    let (out, err) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("`{name} {}` did not end within {limit:?}", args.join(" "));
        }
        thread::sleep(Duration::from_millis(10)); // a child with pipes has no other bounded wait
    };
    let text = |pipe: thread::JoinHandle<Vec<u8>>| {
        pipe.join()
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|_| anyhow!("a reader panicked"))
    };
    let (out, err) = (text(out)?, text(err)?);
    if !status.success() {
        bail!("`{name} {}` failed ({status}): {}", args.join(" "), last_line(&err));
    }
    Ok(out)
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes); // what was read before an error is still worth showing
        }
        bytes
    })
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_quoted_and_one_that_hangs_is_ended() {
        let sh = Path::new("/bin/sh");
        assert_eq!(output(sh, &["-c", "echo yes | cat"], QUICK).unwrap(), "yes\n");
        let error = output(sh, &["-c", "echo no such thing >&2; exit 3"], QUICK).unwrap_err().to_string();
        assert!(error.contains("exit status: 3): no such thing"), "{error}");
        let error = output(Path::new("/bin/sleep"), &["100"], Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("did not end within"), "{error}");
    }
}

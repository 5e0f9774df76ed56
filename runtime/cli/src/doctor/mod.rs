//! `wisp doctor`: what on this node would keep a Wasm pod from running, each with its cure.

mod cgroups;
mod containerd;
mod host;
mod programs;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use crate::node;

/// What a person says to `wisp doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The main file of containerd's configuration; by default that of the containerd that runs
    #[arg(long, value_name = "FILE")]
    containerd_config: Option<PathBuf>,
    /// The handler's name, as a RuntimeClass gives it
    #[arg(long, value_name = "NAME", default_value = "wisp")]
    handler: String,
    /// The node's root directory, where this runs in a container
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    root: PathBuf,
}

/// How a finding is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Ok,
    /// Pods run, but some pods or some of what they ask for do not.
    Warning,
    /// No Wasm pod runs.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at.
    check: &'static str,
    /// How it is.
    state: State,
    /// What was found.
    found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, state: State::Ok, found: found.into(), cure: None }
    }

    fn warning(check: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { check, state: State::Warning, found: found.into(), cure: Some(cure.into()) }
    }

    fn failed(check: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { check, state: State::Failed, found: found.into(), cure: Some(cure.into()) }
    }
}

/// Looks at the node and tells what it found; answers whether Wasm pods can run.
///
/// # Errors
/// Where the node's root cannot be entered or nothing can be written.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<bool> {
    node::enter(&args.root)?;
    let mut findings = containerd::look(args.containerd_config.as_deref(), &args.handler);
    findings.extend(host::look());
    let healthy = findings.iter().all(|finding| finding.state != State::Failed);
    if args.json {
        writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(&json!({"healthy": healthy, "findings": findings}))?
        )?;
    } else {
        table(&findings, out)?;
    }
    Ok(healthy)
}

fn table(findings: &[Finding], out: &mut impl Write) -> Result<()> {
    for Finding { check, state, found, cure } in findings {
        let state = match state {
            State::Ok => "ok",
            State::Warning => "WARNING",
            State::Failed => "FAILED",
        };
        writeln!(
            out,
            "{state:<8} {check:<18} {found}{}",
            cure.as_ref().map(|cure| format!("; {cure}")).unwrap_or_default()
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_a_line_with_its_cure() {
        let findings =
            [Finding::ok("kernel", "6.1"), Finding::failed("handler", "there is none", "run `wisp install`")];
        let mut out = Vec::new();
        table(&findings, &mut out).unwrap();
        let lines = String::from_utf8(out).unwrap();
        assert_eq!(
            lines,
            "ok       kernel             6.1\nFAILED   handler            there is none; run `wisp install`\n"
        );
    }
}

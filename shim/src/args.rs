//! The command line that containerd calls a shim with: Go's flags (`-name value`, `-name=value`, one dash or two), then
//! an action. See containerd's `core/runtime/v2/command.go`.

use std::path::PathBuf;

/// The action with which the shim runs itself.
pub(crate) const HOLD: &str = "hold";

/// What the process was started for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Be the shim: no action was named.
    #[default]
    Serve,
    /// Start a shim for a container, or find the one that serves its pod, and print its address.
    Start,
    /// Clean up what is left of a container whose task is gone.
    Delete,
    /// Hold a pod's namespaces; the shim runs this itself.
    Hold,
    /// `-info`: describe the runtime.
    Info,
    /// `-v`: print the version.
    Version,
}

/// The parsed command line.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Args {
    /// What to do.
    pub action: Action,
    /// The containerd namespace.
    pub namespace: String,
    /// The container's id.
    pub id: String,
    /// The path of containerd's gRPC socket.
    pub address: String,
    /// The bundle; where it is not given, the working directory is the bundle.
    pub bundle: Option<PathBuf>,
    /// Whether debug messages are wanted.
    pub debug: bool,
}

/// Parses the arguments after the program's name.
///
/// # Errors
/// One sentence about the first argument that a shim does not know.
pub(crate) fn parse(args: impl IntoIterator<Item = String>) -> Result<Args, String> {
    let mut parsed = Args::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            parsed.action = action(&arg)?;
            break;
        };
        let (name, inline) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        match name {
            "debug" => parsed.debug = truth(inline),
            "v" | "version" if truth(inline.clone()) => parsed.action = Action::Version,
            "info" if truth(inline.clone()) => parsed.action = Action::Info,
            "v" | "version" | "info" => {}
            "namespace" | "id" | "address" | "bundle" | "publish-binary" | "socket" | "debug-socket" => {
                let value =
                    inline.or_else(|| args.next()).ok_or(format!("the flag -{name} needs a value"))?;
                parsed.set(name, value);
            }
            _ => return Err(format!("unknown flag -{name}")),
        }
        if matches!(parsed.action, Action::Version | Action::Info) {
            break;
        }
    }
    Ok(parsed)
}

fn action(name: &str) -> Result<Action, String> {
    match name {
        "start" => Ok(Action::Start),
        "delete" => Ok(Action::Delete),
        HOLD => Ok(Action::Hold),
        "" => Ok(Action::Serve),
        other => Err(format!("unknown action {other:?}; a shim knows start and delete")),
    }
}

fn truth(value: Option<String>) -> bool {
    value.is_none_or(|value| {
        value.eq_ignore_ascii_case("true") || value == "1" || value.eq_ignore_ascii_case("t")
    })
}

impl Args {
    fn set(&mut self, name: &str, value: String) {
        match name {
            "namespace" => self.namespace = value,
            "id" => self.id = value,
            "address" => self.address = value,
            "bundle" => self.bundle = (!value.is_empty()).then(|| PathBuf::from(value)),
            // Events go over ttrpc, and the server's socket is inherited.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> Result<Args, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn containerds_own_call_is_understood() {
        let args = parse_words(
            "-namespace k8s.io -address /run/c.sock -publish-binary /usr/bin/containerd -id abc -bundle /b -debug start",
        )
        .unwrap();
        assert_eq!(args.action, Action::Start);
        assert_eq!(
            (args.namespace.as_str(), args.id.as_str(), args.address.as_str()),
            ("k8s.io", "abc", "/run/c.sock")
        );
        assert_eq!(args.bundle, Some(PathBuf::from("/b")));
        assert!(args.debug);
    }

    #[test]
    fn one_dash_two_dashes_and_equals_signs_mean_the_same() {
        let plain = parse_words("-namespace n -id i delete").unwrap();
        assert_eq!(plain, parse_words("--namespace=n --id=i delete").unwrap());
        assert_eq!(plain, parse_words("-namespace n -debug=false -id i delete").unwrap());
    }

    #[test]
    fn without_an_action_the_process_is_the_shim() {
        assert_eq!(parse_words("-namespace n -id i").unwrap().action, Action::Serve);
        assert_eq!(parse_words("-v").unwrap().action, Action::Version);
        assert_eq!(parse_words("-info").unwrap().action, Action::Info);
    }

    #[test]
    fn unknown_words_are_refused_with_a_sentence() {
        assert_eq!(parse_words("-nonsense x start").unwrap_err(), "unknown flag -nonsense");
        assert!(parse_words("restart").unwrap_err().contains("start and delete"));
        assert_eq!(parse_words("-id").unwrap_err(), "the flag -id needs a value");
    }
}

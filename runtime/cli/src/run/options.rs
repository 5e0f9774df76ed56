//! The options of `wisp run`, in docker's words.

use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::program::Origin;

/// Where a service listens unless it is told otherwise.
const PORT: u16 = 8080;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Set a variable of the guest: NAME=VALUE, or NAME to hand over one's own
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Set the variables that a file lists, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Let the guest see a folder, and write there unless `:ro` is said
    #[arg(short, long, value_name = "HOST:GUEST[:ro]")]
    volume: Vec<String>,
    /// The guest's working directory; the image's, else /
    #[arg(short, long, value_name = "PATH")]
    pub(super) workdir: Option<String>,
    #[command(flatten)]
    pub(super) origin: Origin,
    /// The port of an HTTP service on this machine (8080), on one address or on all; GUEST may only be the port that the service
    /// has in a pod
    #[arg(short, long, value_name = "[ADDRESS:]HOST[:GUEST]")]
    publish: Option<String>,
    /// The guest's memory limit, for instance 64m; held by the guest process itself, not by a cgroup
    #[arg(short, long, value_name = "BYTES", value_parser = bytes)]
    pub(super) memory: Option<u64>,
    /// Processors for a service's threads; not a quota, for which there would have to be a cgroup
    #[arg(long, value_name = "NUMBER", value_parser = processors)]
    pub(super) cpus: Option<f64>,
    /// Call this export with the arguments
    #[arg(long, value_name = "EXPORT")]
    invoke: Option<String>,
    /// Accepted for docker's sake: standard input is always the guest's
    #[arg(short, long)]
    interactive: bool,
    /// Accepted for docker's sake: a terminal is always the guest's
    #[arg(short, long)]
    tty: bool,
    /// Accepted for docker's sake: nothing is ever left
    #[arg(long)]
    rm: bool,
    /// A Wasm module or component, binary or text; `-` reads it from standard input; FILE#EXPORT is FILE with --invoke EXPORT.
    /// Or an image: by its name, or the folder or archive of an OCI layout
    #[arg(value_name = "FILE|IMAGE")]
    file: String,
    /// The guest's arguments
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) args: Vec<String>,
}

/// A folder that the guest sees.
#[derive(Debug, PartialEq)]
pub(super) struct Volume {
    /// The folder on this machine.
    pub(super) host: PathBuf,
    /// Its absolute path for the guest.
    pub(super) guest: String,
    /// Whether the guest may write.
    pub(super) writable: bool,
}

/// Where a service listens on this machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Listen {
    /// One address, or all.
    pub(super) address: Option<IpAddr>,
    /// The port.
    pub(super) port: u16,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) if !address.is_unspecified() => {
                write!(f, "{}", SocketAddr::new(address, self.port))
            }
            _ => write!(f, "localhost:{}", self.port),
        }
    }
}

impl Args {
    /// The file, and the export that is named.
    pub(super) fn program(&self) -> (&str, Option<String>) {
        match (&self.invoke, self.file.rsplit_once('#')) {
            (Some(export), _) => (&self.file, Some(export.clone())),
            (None, Some((file, export))) if !export.is_empty() => (file, Some(export.to_owned())),
            (None, _) => (&self.file, None),
        }
    }

    /// The working directory, of an image that says one.
    pub(super) fn workdir(&self, image: Option<String>) -> Result<String> {
        let workdir = self.workdir.clone().or(image).unwrap_or_else(|| "/".into());
        ensure!(workdir.starts_with('/'), "--workdir {workdir}: an absolute path was expected");
        Ok(workdir)
    }

    /// The guest's variables; later ones win.
    pub(super) fn environment(&self, image: Vec<String>) -> Result<Vec<String>> {
        let mut variables = Vec::new();
        let port = self.publish.as_ref().map(|_| self.listen(&image)).transpose()?;
        image.iter().try_for_each(|variable| set(&mut variables, variable))?;
        for file in &self.env_file {
            let text = fs::read_to_string(file).with_context(|| format!("--env-file {}", file.display()))?;
            for line in
                text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'))
            {
                set(&mut variables, line)?;
            }
        }
        self.env.iter().try_for_each(|variable| set(&mut variables, variable))?;
        if let Some(Listen { port, .. }) = port {
            set(&mut variables, &format!("PORT={port}"))?;
        }
        Ok(variables)
    }

    /// Where a service listens.
    pub(super) fn listen(&self, image: &[String]) -> Result<Listen> {
        let inside = self
            .env
            .iter()
            .rev()
            .chain(image.iter().rev())
            .find_map(|variable| variable.strip_prefix("PORT="));
        let inside = inside.map_or(Ok(PORT), |text| port(text).with_context(|| format!("PORT={text}")))?;
        let Some(publish) = &self.publish else { return Ok(Listen { address: None, port: inside }) };
        let (listen, asked) = published(publish).with_context(|| format!("--publish {publish}"))?;
        if let Some(asked) = asked.filter(|asked| *asked != inside) {
            bail!(
                "--publish {publish}: the service's port is {inside} and not {asked}; use --publish HOST:{inside}, or say \
                 --env PORT={asked} too"
            );
        }
        Ok(listen)
    }

    /// What `--cpus` does less than docker's, if anything, for a service or for what is none: there is no cgroup to hold a quota.
    pub(super) fn unkept_processors(&self, serves: bool) -> Option<String> {
        let cpus = self.cpus?;
        match (serves, cpus.fract() == 0.0) {
            (true, true) => None,
            (true, false) => {
                let threads = cpus.ceil();
                Some(format!(
                    "--cpus {cpus} is not a quota: the service has threads for {threads}, and may keep them busy"
                ))
            }
            (false, _) => Some(format!(
                "--cpus {cpus} changes nothing: only an HTTP service has threads, and there is no quota"
            )),
        }
    }

    /// The folders that the guest sees.
    pub(super) fn volumes(&self) -> Result<Vec<Volume>> {
        self.volume.iter().map(|text| volume(text).with_context(|| format!("--volume {text}"))).collect()
    }
}

impl Volume {
    /// The files of an image.
    pub(super) fn root(folder: &Path) -> Self {
        Self { host: folder.to_path_buf(), guest: "/".into(), writable: true }
    }
}

fn set(variables: &mut Vec<String>, variable: &str) -> Result<()> {
    let (name, value) = match variable.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (variable, std::env::var(variable).ok()),
    };
    ensure!(!name.is_empty(), "the variable {variable:?} has no name; NAME=VALUE was expected");
    variables.retain(|other| other.split_once('=').is_none_or(|(other, _)| other != name));
    // A variable that is not set here is not set there, as with docker.
    variables.extend(value.map(|value| format!("{name}={value}")));
    Ok(())
}

fn volume(text: &str) -> Result<Volume> {
    let mut parts = text.split(':');
    let (Some(host), Some(guest), mode, None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        bail!("HOST:GUEST or HOST:GUEST:ro was expected");
    };
    ensure!(guest.starts_with('/'), "{guest:?} is not an absolute path of the guest's");
    let writable = match mode {
        None | Some("rw") => true,
        Some("ro") => false,
        Some(other) => bail!("{other:?} is neither ro nor rw"),
    };
    Ok(Volume { host: host.into(), guest: guest.to_owned(), writable })
}

/// What `--publish` says: where to listen, and the guest's port if it is named.
fn published(text: &str) -> Result<(Listen, Option<u16>)> {
    let (address, ports) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, ports) = rest.split_once("]:").context("[ADDRESS]:HOST was expected")?;
            (Some(address), ports)
        }
        None => match text.split_once(':') {
            Some((address, ports)) if address.contains('.') => (Some(address), ports),
            _ => (None, text),
        },
    };
    let address = address.map(|text| {
        text.parse().with_context(|| format!("{text:?} is no address; one such as 127.0.0.1 was expected"))
    });
    let (outside, inside) = match ports.split_once(':') {
        Some((outside, inside)) => (outside, Some(port(inside)?)),
        None => (ports, None),
    };
    Ok((Listen { address: address.transpose()?, port: port(outside)? }, inside))
}

fn port(text: &str) -> Result<u16> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.with_context(|| format!("{text:?} is not a port; a number from 1 to 65535 was expected"))
}

/// A size as docker takes it: a number with b, k, m or g, in powers of 1024.
fn bytes(text: &str) -> Result<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => Some(0),
        "k" | "kb" | "kib" => Some(10),
        "m" | "mb" | "mib" => Some(20),
        "g" | "gb" | "gib" => Some(30),
        _ => None,
    };
    let size =
        shift.and_then(|shift| digits.parse::<u64>().ok()?.checked_mul(1 << shift)).filter(|size| *size > 0);
    size.context("a number of bytes above 0 was expected, for instance 64m or 1g")
}

fn processors(text: &str) -> Result<f64> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.context("a number of processors above 0 was expected, for instance 1.5")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        assert_eq!(bytes("64m").unwrap(), 64 << 20);
        assert_eq!(bytes("1GiB").unwrap(), 1 << 30);
        assert_eq!(bytes("4096").unwrap(), 4096);
        for wrong in ["", "m", "0", "-1", "1x", "99999999999g"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_port_is_published_on_all_addresses_or_on_one() {
        let said = |text| published(text).map(|(listen, inside)| (listen.to_string(), inside));
        assert_eq!(said("9000").unwrap(), ("localhost:9000".to_owned(), None));
        assert_eq!(said("9000:8080").unwrap(), ("localhost:9000".to_owned(), Some(8080)));
        assert_eq!(said("127.0.0.1:9000").unwrap(), ("127.0.0.1:9000".to_owned(), None));
        assert_eq!(said("[::1]:9000:80").unwrap(), ("[::1]:9000".to_owned(), Some(80)));
        assert_eq!(said("0.0.0.0:9000").unwrap(), ("localhost:9000".to_owned(), None));
        for wrong in ["", "0", "here:9000", "127.0.0.1", "127.0.0:1", "::1:9000", "[::1]9000", "1:2:3"] {
            assert!(said(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_volume_is_writable_unless_it_says_ro() {
        assert!(volume("/a:/b").unwrap().writable && volume("/a:/b:rw").unwrap().writable);
        assert!(!volume("a:/b:ro").unwrap().writable);
        for wrong in ["/a", "/a:b", "/a:/b:x", "/a:/b:ro:ro"] {
            assert!(volume(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_variable_that_is_set_again_has_its_last_value() {
        let mut variables = Vec::new();
        for variable in ["A=1", "B=2", "A=3=4"] {
            set(&mut variables, variable).unwrap();
        }
        assert_eq!(variables, ["B=2", "A=3=4"]);
        assert!(set(&mut variables, "=1").is_err());
    }
}

//! The node's configuration, `/etc/wisp/config.toml`: the administrator's word on how Wisp runs guests here.
//!
//! Every key has a default (`docs/configuration.md` lists them); a file that is not there is a file without keys. An
//! unknown key or a bad value is an error that names its line, because a limit that is silently not in force is worse
//! than a pod that does not start.

mod annotations;

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use bytesize::ByteSize;
use serde::Deserialize;
use wisp_contract::plan::HttpSettings;

pub use annotations::{AnnotationError, DRAIN_DELAY, REQUESTS_PER_INSTANCE};

/// Where the configuration is.
pub const PATH: &str = "/etc/wisp/config.toml";

/// The whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[cache]`: compiled code.
    pub cache: Cache,
    /// `[compiler]`: the process that compiles.
    pub compiler: Compiler,
    /// `[http]`: how HTTP services serve.
    pub http: Http,
    /// `[policy]`: what a pod's annotations may ask for.
    pub policy: Policy,
}

/// `[cache]`: where compiled code is kept.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// The folder; only root writes it.
    pub path: PathBuf,
    /// The size that the folder is kept under; the entries that were used longest ago go first.
    pub max_size: ByteSize,
}

impl Default for Cache {
    fn default() -> Self {
        Self { path: "/var/cache/wisp".into(), max_size: ByteSize::gib(4) }
    }
}

/// `[compiler]`: bounds of one compile.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Compiler {
    /// Memory that one compile may take.
    pub memory: ByteSize,
    /// The longest that one compile may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How long a compile goes on when nobody waits for it any more: a kubelet gives up and tries again later.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
    /// Compiles at one time; further ones wait for their turn.
    pub at_once: u32,
}

impl Default for Compiler {
    fn default() -> Self {
        Self {
            memory: ByteSize::gib(4),
            timeout: Duration::from_secs(600),
            linger: Duration::from_secs(300),
            at_once: 4,
        }
    }
}

/// `[http]`: time-outs and limits of HTTP services, see [`HttpSettings`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// How long a service goes on accepting after SIGTERM, unless the pod asks otherwise.
    #[serde(with = "humantime_serde")]
    pub drain_delay: Duration,
    /// How long requests in flight may take to finish after that.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// How long a client may take to send a request's headers.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// How long a kept-alive connection may be idle.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// How long one request may take.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// Connections at one time.
    pub max_connections: u32,
    /// Requests at one time.
    pub max_requests: u32,
    /// Requests that one instance may serve, unless the pod asks otherwise.
    pub requests_per_instance: u32,
    /// Streams at one time on one HTTP/2 connection.
    pub max_streams: u32,
    /// A request's headers.
    pub max_header_size: ByteSize,
    /// A request's body.
    pub max_body_size: ByteSize,
}

impl Default for Http {
    fn default() -> Self {
        let http = HttpSettings::default();
        Self {
            drain_delay: Duration::from_millis(http.drain_delay_ms),
            drain_timeout: Duration::from_millis(http.drain_timeout_ms),
            header_timeout: Duration::from_millis(http.header_timeout_ms),
            idle_timeout: Duration::from_millis(http.idle_timeout_ms),
            request_timeout: Duration::from_millis(http.request_timeout_ms),
            max_connections: http.max_connections,
            max_requests: http.max_requests,
            requests_per_instance: http.requests_per_instance,
            max_streams: http.max_streams,
            max_header_size: ByteSize::b(u64::from(http.max_header_bytes)),
            max_body_size: ByteSize::b(http.max_body_bytes),
        }
    }
}

impl Http {
    /// The settings in the form that a guest process takes.
    #[must_use]
    pub fn settings(&self) -> HttpSettings {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        HttpSettings {
            address: None,
            drain_delay_ms: ms(self.drain_delay),
            drain_timeout_ms: ms(self.drain_timeout),
            header_timeout_ms: ms(self.header_timeout),
            idle_timeout_ms: ms(self.idle_timeout),
            request_timeout_ms: ms(self.request_timeout),
            max_connections: self.max_connections,
            max_requests: self.max_requests,
            requests_per_instance: self.requests_per_instance,
            max_streams: self.max_streams,
            max_header_bytes: u32::try_from(self.max_header_size.as_u64()).unwrap_or(u32::MAX),
            max_body_bytes: self.max_body_size.as_u64(),
        }
    }
}

/// `[policy]`: the bounds of what a pod may ask for with annotations.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The longest `wisp.dev/drain-delay`.
    #[serde(with = "humantime_serde")]
    pub max_drain_delay: Duration,
    /// The most `wisp.dev/requests-per-instance`.
    pub max_requests_per_instance: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self { max_drain_delay: Duration::from_secs(60), max_requests_per_instance: 1_000_000 }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is there and cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file says something that is not known, or says it wrongly.
    #[error(
        "{path}, line {line}: {message}; correct the line or remove it (docs/configuration.md lists the keys)"
    )]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
}

impl Config {
    /// Reads the node's configuration from [`PATH`].
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn load() -> Result<Self, Error> {
        Self::read(Path::new(PATH))
    }

    /// Reads a configuration; a file that is not there gives the defaults.
    ///
    /// # Errors
    /// [`Error`] names the file and the line.
    pub fn read(path: &Path) -> Result<Self, Error> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(Error::Read { path: path.into(), source }),
        }
    }

    /// Understands the text of a configuration; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Parse`] names the line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = 1 + text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
            let message = error.message().trim().replace('\n', ", ");
            Error::Parse { path: path.into(), line, message }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("config.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_that_is_not_there_gives_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Config::read(&dir.path().join("none")).unwrap(), Config::default());
        assert_eq!(parse("").unwrap(), Config::default());
    }

    #[test]
    fn durations_and_sizes_are_written_as_people_write_them() {
        let config = parse(
            "[cache]\nmax_size = '512 MiB'\n[http]\ndrain_delay = '3s 500ms'\nmax_header_size = '16 KiB'\n",
        )
        .unwrap();
        assert_eq!(config.cache.max_size, ByteSize::mib(512));
        assert_eq!(config.http.settings().drain_delay_ms, 3_500);
        assert_eq!(config.http.settings().max_header_bytes, 16 << 10);
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let error = parse("[cache]\npath = '/c'\nmax = 3\n").unwrap_err();
        assert!(error.starts_with("config.toml, line 3: unknown field `max`"), "{error}");
    }

    #[test]
    fn a_bad_value_is_an_error_with_its_line() {
        let error = parse("# a comment\n[http]\ndrain_delay = 'soon'\n").unwrap_err();
        assert!(error.starts_with("config.toml, line 3: "), "{error}");
        let error = parse("[http\n").unwrap_err();
        assert!(error.starts_with("config.toml, line 1: "), "{error}");
    }
}

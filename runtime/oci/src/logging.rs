//! The log, in the two forms that runc writes and containerd reads.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Mutex;
use std::time::SystemTime;

use anyhow::Context;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::args::{Global, LogFormat};

/// Sends this process's log where the flags say.
///
/// # Errors
/// If the file cannot be opened.
pub fn start(global: &Global) -> anyhow::Result<()> {
    let out: Box<dyn Write + Send> = match &global.log {
        Some(path) => Box::new(
            OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .with_context(|| format!("the log {} cannot be opened", path.display()))?,
        ),
        None => Box::new(std::io::stderr()),
    };
    let level = if global.debug { Level::DEBUG } else { Level::INFO };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .event_format(Lines { format: global.log_format, debug: global.debug })
        .with_writer(Mutex::new(out))
        .finish();
    // A second start in one process (tests) keeps the first.
    tracing::subscriber::set_global_default(subscriber).ok();
    Ok(())
}

/// logrus's lines.
struct Lines {
    format: LogFormat,
    debug: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            _ => "debug",
        };
        // What the libraries under us log, at whatever level, is for their developers.
        if !self.debug && !event.metadata().target().starts_with("wisp") {
            return Ok(());
        }
        let mut message = Message::default();
        event.record(&mut message);
        let time = humantime::format_rfc3339_seconds(SystemTime::now());
        match self.format {
            LogFormat::Json => {
                writeln!(out, "{}", json!({ "level": level, "msg": message.0, "time": time.to_string() }))
            }
            LogFormat::Text => writeln!(out, "time=\"{time}\" level={level} msg={:?}", message.0),
        }
    }
}

/// The message and its fields as one text.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        if field.name() == "message" {
            write!(self.0, "{value:?}").ok();
        } else {
            write!(self.0, " {}={value:?}", field.name()).ok();
        }
    }
}

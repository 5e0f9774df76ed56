//! The shim's log: lines in logrus's text form on stderr, which the daemon has connected to the bundle's `log` fifo, from
//! which containerd copies them into its own log.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::time::rfc3339;

static DEBUG: AtomicBool = AtomicBool::new(false);

/// Sends the process's log to stderr, debug messages only if `debug` is set.
pub(crate) fn init(debug: bool) {
    DEBUG.store(debug, Ordering::Relaxed);
    // Both fail only where a logger is set already, which then stays.
    let _ = tracing::subscriber::set_global_default(Logrus);
    let _ = log::set_logger(&Logrus);
    // What uses `log` is ttrpc, which reports each closed connection; only what needs a person is passed on.
    log::set_max_level(if debug { log::LevelFilter::Info } else { log::LevelFilter::Error });
}

struct Logrus;

impl Subscriber for Logrus {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= if DEBUG.load(Ordering::Relaxed) { Level::DEBUG } else { Level::INFO }
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            _ => "debug",
        };
        write_line(level, &fields.message, &fields.others);
    }

    // Spans are not used.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

impl log::Log for Logrus {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let level = if record.level() == log::Level::Error { "warning" } else { "debug" };
        write_line(level, &record.args().to_string(), "");
    }

    fn flush(&self) {}
}

#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.record_str(field, &format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // Writing to a string does not fail.
        let _ = if value.contains([' ', '"', '=', '\n']) || value.is_empty() {
            write!(self.others, " {}={value:?}", field.name())
        } else {
            write!(self.others, " {}={value}", field.name())
        };
    }
}

/// One line, one write: lines of several processes do not mix. A full or closed log loses the line and nothing else.
fn write_line(level: &str, message: &str, fields: &str) {
    let line = format!(
        "time=\"{}\" level={level} msg={message:?} runtime=io.containerd.wisp.v1{fields}\n",
        rfc3339(SystemTime::now())
    );
    let _ = io::stderr().write_all(line.as_bytes());
}

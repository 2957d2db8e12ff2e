//! Keeps the newest lines of the log for the API.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::shard::clock;
use crate::streams::api::{LogEntry, LogRing};

/// The lines, shared by the threads that log and the one that answers.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<LogRing>>);

impl Log {
    /// Does something with the lines.
    pub(super) fn with<R>(&self, call: impl FnOnce(&mut LogRing) -> R) -> R {
        call(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The layer that fills it: lines of `info` and above. What the log must not tell, such as
    /// passwords and keys, is not in a line in the first place: their types print as `hidden`.
    pub fn layer<S: Subscriber>(&self) -> impl Layer<S> + use<S> {
        LogLayer(self.clone())
    }
}

struct LogLayer(Log);

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let kind = match *metadata.level() {
            Level::ERROR => "FAIL",
            Level::WARN => "WARN",
            Level::INFO => "INFO",
            _ => return,
        };
        let mut line = Line::default();
        event.record(&mut line);
        let file = metadata.file().unwrap_or("");
        let entry = LogEntry {
            number: 0,
            unix_s: clock::unix_millis() / 1000,
            kind,
            text: line.message + &line.fields,
            stream: line.stream,
            place: format!("{file}:{}", metadata.line().unwrap_or(0)),
        };
        self.0.with(|ring| ring.push(entry));
    }
}

/// An event as text: the message, then its fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
    stream: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a text does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "stream" => write!(self.stream, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use crate::config::Secret;

    use super::*;

    #[test]
    fn lines_are_kept_with_their_fields_and_without_secrets() {
        let log = Log::default();
        let subscriber = tracing_subscriber::registry().with(log.layer());
        tracing::subscriber::with_default(subscriber, || {
            let key = Secret::new("s3cret");
            tracing::info!(stream = %"live", ?key, "a publisher begins");
            tracing::debug!("not kept");
            tracing::warn!(n = 1, text = "x", "look");
        });
        let lines = log.with(|ring| ring.since(0));
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].text, "a publisher begins key=hidden");
        assert_eq!((lines[0].kind, &*lines[0].stream), ("INFO", "live"));
        assert!(lines[0].place.contains("log_layer.rs:"));
        assert_eq!(
            (lines[1].kind, &*lines[1].text),
            ("WARN", "look n=1 text=x")
        );
    }
}

//! The newest lines of the log.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{Api, Effect, Work, is_true, or_null};

/// Lines that are kept, as in MistServer.
pub const LINES_MAX: usize = 100;

/// The longest text of a line, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024;

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    /// Counts the lines since the start.
    pub number: u64,
    /// Seconds since 1970.
    pub unix_s: i64,
    /// `INFO`, `WARN` or `FAIL`.
    pub kind: &'static str,
    /// What it says.
    pub text: String,
    /// The stream that it is about, or nothing.
    pub stream: String,
    /// File and line of the source.
    pub place: String,
}

impl LogEntry {
    /// In the form of MistServer's `log`.
    pub fn to_value(&self, pid: u32) -> Value {
        let Self {
            unix_s,
            kind,
            text,
            stream,
            place,
            ..
        } = self;
        json!([unix_s, kind, text, stream, pid, "ringside", place])
    }
}

/// The newest [`LINES_MAX`] lines.
#[derive(Debug, Default)]
pub struct LogRing {
    lines: VecDeque<LogEntry>,
    count: u64,
}

impl LogRing {
    /// Adds a line; its number is set here.
    pub fn push(&mut self, mut entry: LogEntry) {
        if entry.text.len() > TEXT_BYTES_MAX {
            let end = entry.text.floor_char_boundary(TEXT_BYTES_MAX);
            entry.text.truncate(end);
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        entry.number = self.count;
        self.count += 1;
        self.lines.push_back(entry);
    }

    /// The lines from number `from` on, oldest first.
    pub fn since(&self, from: u64) -> Vec<LogEntry> {
        self.lines
            .iter()
            .filter(|line| line.number >= from)
            .cloned()
            .collect()
    }

    /// The number that the next line gets.
    pub fn next_number(&self) -> u64 {
        self.count
    }

    /// Forgets all lines.
    pub fn clear(&mut self) {
        self.lines.clear();
    }
}

/// `log`: shows the lines.
pub(super) fn log(_: &mut Api, work: &mut Work<'_>, _: &Value) {
    let pid = work.world.pid;
    let lines: Vec<Value> = work
        .world
        .log
        .iter()
        .map(|line| line.to_value(pid))
        .collect();
    work.put("log", or_null(lines.into()));
}

/// `clearstatlogs`: forgets the lines.
pub(super) fn clear(_: &mut Api, work: &mut Work<'_>, argument: &Value) {
    if is_true(argument) {
        work.effects.push(Effect::ClearLog);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_lines_are_kept() {
        let mut ring = LogRing::default();
        for n in 0..250_i64 {
            ring.push(LogEntry {
                number: 0,
                unix_s: n,
                kind: "INFO",
                text: "ü".repeat(TEXT_BYTES_MAX),
                stream: String::new(),
                place: "a:1".to_owned(),
            });
        }
        let lines = ring.since(0);
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!((lines[0].unix_s, lines[0].number), (150, 150));
        assert_eq!(lines[0].text.len(), TEXT_BYTES_MAX);
        assert_eq!(ring.since(248).len(), 2);
        assert_eq!(ring.next_number(), 250);
    }
}

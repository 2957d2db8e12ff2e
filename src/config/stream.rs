//! A configured stream.

use std::fmt;
use std::time::Duration;

use super::node::{Fault, Node};
use super::notice::Notice;
use super::secret::Secret;

/// The longest stream name, in bytes.
pub const NAME_BYTES_MAX: usize = 100;

/// A stream of the configuration; `name+anything` uses the settings of `name`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stream {
    /// Where its media comes from.
    pub source: Source,
    /// `DVR`: how much of the past is kept for viewers who want to go back. In memory only as far
    /// as `limits.stream_bytes_max` allows. Milliseconds, 0 to 86 400 000, default 50 000.
    pub window: Duration,
    /// `segmentsize`: the shortest segment. Milliseconds, 0 to 60 000, default 1900.
    pub segment: Duration,
    /// `maxkeepaway`: the furthest that a player may be told to stay behind the live edge.
    /// Milliseconds, 0 to 3 600 000, default 45 000.
    pub keep_away: Duration,
    /// `resume`: keep the buffer when the publisher leaves and go on with it when one comes back.
    /// Default false.
    pub resume: bool,
    /// `takeover`: a new publisher that is allowed in replaces the one before; otherwise it is
    /// refused while the other one is there. Not a setting of MistServer. Default false.
    pub takeover: bool,
    /// `always_on`: start the source without viewers. Default false.
    pub always_on: bool,
    /// `stop_sessions`: end viewers' sessions when the settings change. Default false.
    pub stop_sessions: bool,
    /// `fallback_stream`: what viewers get while this one is offline; may be empty.
    pub fallback: String,
    /// `inputtimeout`: how long a source may be silent. Seconds, 1 to 86 400, default 30.
    pub input_timeout: Duration,
    /// `tags`: labels to choose streams by.
    pub tags: Vec<String>,
}

/// Where a stream's media comes from. May hold a password, so its `Debug` form ends at the scheme.
#[derive(Clone, PartialEq, Eq)]
pub struct Source(Secret);

impl Source {
    /// From the text of the configuration.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Secret::new(text))
    }

    /// The whole text. What takes it must not log it.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What stands before `://`; `file` for a path.
    pub fn scheme(&self) -> &str {
        self.expose()
            .split_once("://")
            .map_or("file", |(scheme, _)| scheme)
    }

    /// What stands behind `push://`, if that is what this is.
    pub fn push(&self) -> Option<&str> {
        self.expose().strip_prefix("push://")
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme())
    }
}

impl Stream {
    pub(super) fn read(
        name: &str,
        node: &Node<'_>,
        notices: &mut Vec<Notice>,
    ) -> Result<Self, Fault> {
        node.members()?;
        let source = Source::new(node.get("source").text()?);
        match source
            .push()
            .map(|rest| rest.split('@').next().unwrap_or(""))
        {
            None if source.expose().is_empty() => notices.push(Notice::SourceMissing {
                stream: name.to_owned(),
            }),
            None => notices.push(Notice::SourceNotServed {
                stream: name.to_owned(),
                scheme: source.scheme().to_owned(),
            }),
            Some(host) if !is_address(host) => notices.push(Notice::HostNotCompared {
                stream: name.to_owned(),
            }),
            Some(_) => {}
        }
        let stream = Self {
            source,
            window: node.get("DVR").millis(0..=86_400_000, 50_000)?,
            segment: node.get("segmentsize").millis(0..=60_000, 1900)?,
            keep_away: node.get("maxkeepaway").millis(0..=3_600_000, 45_000)?,
            resume: node.get("resume").flag(false)?,
            takeover: node.get("takeover").flag(false)?,
            always_on: node.get("always_on").flag(false)?,
            stop_sessions: node.get("stop_sessions").flag(false)?,
            fallback: node.get("fallback_stream").text()?,
            input_timeout: Duration::from_secs(node.get("inputtimeout").number(1..=86_400, 30)?),
            tags: node.get("tags").texts()?,
        };
        let settings = [
            (stream.always_on, "always_on"),
            (stream.stop_sessions, "stop_sessions"),
            (!stream.fallback.is_empty(), "fallback_stream"),
            (!node.get("processes").is_empty_list(), "processes"),
        ];
        let without_effect = settings.into_iter().filter(|(is_set, _)| *is_set);
        notices.extend(without_effect.map(|(_, setting)| Notice::SettingNotServed {
            stream: name.to_owned(),
            setting,
        }));
        Ok(stream)
    }
}

/// True for what a peer's address can be compared with.
fn is_address(host: &str) -> bool {
    matches!(host, "" | "localhost")
        || host.parse::<ipnet::IpNet>().is_ok()
        || host.parse::<std::net::IpAddr>().is_ok()
}

/// A stream name's base by MistServer's rule: lower case, and every character outside
/// `[a-z0-9_.-]` left out. None if nothing usable is left.
pub fn base_name(raw: &str) -> Option<String> {
    let base: String = raw
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .filter(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '.' | '-'))
        .collect();
    // `.` and `..` are the only names of this alphabet that mean something to a file system.
    let usable = !matches!(base.as_str(), "" | "." | "..") && base.len() <= NAME_BYTES_MAX;
    usable.then_some(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_names_are_reduced() {
        for (raw, base) in [
            ("live", Some("live")),
            ("Live_1.Main-A", Some("live_1.main-a")),
            ("my stream!", Some("mystream")),
            ("büro", Some("bro")),
            ("../etc", Some("..etc")),
            ("..", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(base_name(raw).as_deref(), base, "{raw}");
        }
        assert_eq!(base_name(&"a".repeat(101)), None);
    }

    #[test]
    fn a_source_is_not_printed_whole() {
        let source = Source::new("push://127.0.0.1@secret");
        assert_eq!(format!("{source:?}"), "push://");
        assert_eq!(source.push(), Some("127.0.0.1@secret"));
        assert_eq!(Source::new("/media/vod/").scheme(), "file");
    }
}

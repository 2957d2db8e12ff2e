//! Stream names by MistServer's rules.

use std::fmt;
use std::sync::Arc;

use crate::config::{Config, NAME_BYTES_MAX, Stream, base_name};

/// The name of a stream: a base of `[a-z0-9_.-]`, and maybe `+` and a wildcard, which is kept as
/// it was given. 1 to 100 bytes; no control character, slash or backslash. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Arc<str>);

/// A text that no stream can have as its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a stream name")]
pub struct BadName;

impl StreamName {
    /// Reduces `raw` to a name: the base to lower case, without the characters it cannot have.
    pub fn parse(raw: &str) -> Result<Self, BadName> {
        let (base, wildcard) = match raw.split_once('+') {
            Some((base, wildcard)) => (base, Some(wildcard)),
            None => (raw, None),
        };
        // A wildcard reaches file names through `$wildcard` in push targets.
        let walks = |text: &str| {
            matches!(text, "" | "." | "..")
                || text.contains(|c: char| c.is_control() || matches!(c, '/' | '\\'))
        };
        // A slash in the base would vanish and make the name of another stream.
        if wildcard.is_some_and(walks) || base.contains(['/', '\\', '\0']) {
            return Err(BadName);
        }
        let mut name = base_name(base).ok_or(BadName)?;
        if let Some(wildcard) = wildcard {
            name.push('+');
            name.push_str(wildcard);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(BadName);
        }
        Ok(Self(name.into()))
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the stream's settings are configured under.
    pub fn base(&self) -> &str {
        self.0.split_once('+').map_or(&*self.0, |(base, _)| base)
    }

    /// What stands behind the `+`.
    pub fn wildcard(&self) -> Option<&str> {
        self.0.split_once('+').map(|(_, wildcard)| wildcard)
    }

    /// The stream's settings, which `name+anything` takes from `name`.
    pub fn settings<'a>(&self, config: &'a Config) -> Option<&'a Stream> {
        config.stream(self.base())
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    use super::*;

    fn name(raw: &str) -> Result<String, BadName> {
        StreamName::parse(raw).map(|name| name.to_string())
    }

    #[test]
    fn the_base_is_reduced_and_the_wildcard_kept() {
        for (raw, reduced) in [
            ("live", "live"),
            ("Live_1.A-b", "live_1.a-b"),
            ("my stream", "mystream"),
            ("Live+Some Thing!", "live+Some Thing!"),
            ("a+b+c", "a+b+c"),
            ("a+ü", "a+ü"),
        ] {
            assert_eq!(name(raw).as_deref(), Ok(reduced), "{raw}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for raw in [
            "", "+", "+a", "a+", "!", ".", "..", "../a", "a/b", "a\\b", "a\0", "a+b/c", "a+..",
            "a+.", "a+b\\c", "a+b\0", "a+b\n",
        ] {
            assert_eq!(name(raw), Err(BadName), "{raw:?}");
        }
    }

    #[test]
    fn the_length_is_bounded() {
        let long = "a".repeat(100);
        assert_eq!(name(&long), Ok(long.clone()));
        assert_eq!(name(&format!("{long}a")), Err(BadName));
        assert_eq!(name(&format!("{}+b", "a".repeat(99))), Err(BadName));
        let shortened = format!("{}{}", "!".repeat(100), "a");
        assert_eq!(name(&shortened).as_deref(), Ok("a"));
    }

    #[test]
    fn a_wildcard_has_the_settings_of_its_base() {
        let config = parse(r#"{"streams":{"live":{"source":"push://@x"}}}"#, "c")
            .unwrap()
            .config;
        let name = StreamName::parse("LIVE+cam").unwrap();
        assert_eq!((name.base(), name.wildcard()), ("live", Some("cam")));
        assert_eq!(name.settings(&config).unwrap().source.push(), Some("@x"));
        assert!(
            StreamName::parse("other+cam")
                .unwrap()
                .settings(&config)
                .is_none()
        );
    }
}

//! What a new configuration changes, for a reload without a restart.

use super::Config;

/// The difference between two configurations. Names are in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Streams that are gone: their publishers and viewers are to be closed.
    pub removed: Vec<String>,
    /// Streams whose settings differ.
    pub changed: Vec<String>,
    /// Streams that are new.
    pub added: Vec<String>,
    /// Ports are to be opened or closed.
    pub protocols: bool,
    /// Something else differs.
    pub other: bool,
}

impl Changes {
    /// What is different in `new`.
    pub fn between(old: &Config, new: &Config) -> Self {
        let (before, after) = (&old.streams, &new.streams);
        let names = |names: &mut dyn Iterator<Item = &String>| names.cloned().collect();
        let rest_of = |config: &Config| Config {
            streams: Default::default(),
            protocols: Default::default(),
            document: Default::default(),
            ..config.clone()
        };
        Self {
            removed: names(&mut before.keys().filter(|name| !after.contains_key(*name))),
            changed: names(&mut before.iter().filter_map(|(name, stream)| {
                let differs = after.get(name).is_some_and(|after| after != stream);
                differs.then_some(name)
            })),
            added: names(&mut after.keys().filter(|name| !before.contains_key(*name))),
            protocols: old.protocols != new.protocols,
            other: rest_of(old) != rest_of(new),
        }
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    use super::*;

    fn config(text: &str) -> Config {
        parse(text, "config.json").unwrap().config
    }

    #[test]
    fn streams_are_told_apart() {
        let old = config(
            r#"{"streams":{"a":{"source":"push://"},"b":{"source":"push://"},"c":{"source":"push://"}}}"#,
        );
        let new = config(
            r#"{"streams":{"d":{"source":"push://"},"c":{"source":"push://@x"},"b":{"source":"push://"}}}"#,
        );
        let changes = Changes::between(&old, &new);
        assert_eq!(changes.removed, ["a"]);
        assert_eq!(changes.changed, ["c"]);
        assert_eq!(changes.added, ["d"]);
        assert!(!changes.protocols && !changes.other);
    }

    #[test]
    fn the_rest_is_seen_too() {
        let old = config("{}");
        assert!(Changes::between(&old, &config(r#"{"unknown":1}"#)).is_empty());
        let ports = config(r#"{"config":{"protocols":[{"connector":"HTTP"}]}}"#);
        assert!(Changes::between(&old, &ports).protocols);
        let keys = config(r#"{"streamkeys":{"a":"live"}}"#);
        let changes = Changes::between(&old, &keys);
        assert!(changes.other && !changes.protocols && !changes.is_empty());
    }
}

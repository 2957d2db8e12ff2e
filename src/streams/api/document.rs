//! Changing the configuration's document, one command at a time.

use serde_json::{Map, Value};

use crate::config::{Config, Loaded, read_document, strip_reported};

/// The document while a call changes it. Each change is read by the same reader as the file before
/// it counts, so that the document is a configuration at all times.
#[derive(Debug)]
pub(super) struct Edit {
    document: Map<String, Value>,
    loaded: Option<Loaded>,
}

impl Edit {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            document: config.document().clone(),
            loaded: None,
        }
    }

    /// Makes one change, or none if it cannot be made or the result cannot be used.
    pub(super) fn attempt(
        &mut self,
        change: impl FnOnce(&mut Map<String, Value>) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut draft = self.document.clone();
        change(&mut draft)?;
        strip_reported(&mut draft);
        if draft != self.document {
            let loaded = read_document(draft)?;
            self.document = loaded.config.document().clone();
            self.loaded = Some(loaded);
        }
        Ok(())
    }

    /// A section; `null` when it is not there.
    pub(super) fn section(&self, name: &str) -> Value {
        self.document.get(name).cloned().unwrap_or_default()
    }

    pub(super) fn document(&self) -> &Map<String, Value> {
        &self.document
    }

    /// The configuration so far, if anything has changed.
    pub(super) fn loaded(&self) -> Option<&Config> {
        self.loaded.as_ref().map(|loaded| &loaded.config)
    }

    /// The configuration, if anything has changed.
    pub(super) fn into_loaded(self) -> Option<Loaded> {
        self.loaded
    }
}

/// A section that is an object, made if it is missing.
pub(super) fn object<'a>(
    document: &'a mut Map<String, Value>,
    name: &str,
) -> &'a mut Map<String, Value> {
    let section = document.entry(name).or_insert(Value::Null);
    if !section.is_object() {
        *section = Value::Object(Map::new());
    }
    section.as_object_mut().expect("made an object above")
}

/// A member that is a list, made if it is missing. One text counts as a list of one.
pub(super) fn list<'a>(document: &'a mut Map<String, Value>, name: &str) -> &'a mut Vec<Value> {
    let member = document.entry(name).or_insert(Value::Null);
    if !member.is_array() {
        let only = member.as_str().filter(|text| !text.is_empty());
        *member = only.into_iter().collect();
    }
    member.as_array_mut().expect("made a list above")
}

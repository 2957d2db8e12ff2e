//! MistServer's HTTP API: `/api` and `/api2` of the control port.
//!
//! Pure: a request, the configuration and what the shards and the machine say come in; a reply, a
//! new configuration and [`Effect`]s go out. In this order, which `server` follows:
//!
//! 1. [`Call::read`] takes the request apart ([`transport`]).
//! 2. [`Authorizer::decide`] says who may ([`authorize`]).
//! 3. [`Needs::of`] says what has to be asked first: the shards, the machine, a folder.
//! 4. [`Api::execute`] carries the commands out, in an order of its own.
//!
//! Commands that this server cannot carry out are answered in the member `errors` of the reply,
//! which MistServer does not have; its own members keep their form.

pub mod accounts;
pub mod authorize;
pub mod browse;
pub mod caller;
mod capabilities;
mod collab;
mod configuration;
mod document;
pub mod events;
mod keys;
pub mod log;
pub mod machine;
mod protocols;
mod sessions;
mod statistics;
pub mod transport;
mod unbuilt;

use serde_json::{Map, Value};

use crate::config::{Config, Loaded, Protocols};
use crate::streams::client::{ClientSnapshot, SessionFilter};
use crate::streams::name::StreamName;
use crate::streams::snapshot::ShardSnapshot;

use document::Edit;
use sessions::RuntimeTags;

pub use authorize::{Attempt, Authorizer, Verdict};
pub use browse::{Listing, Place};
pub use caller::Caller;
pub use log::{LogEntry, LogRing};
pub use machine::Machine;
pub use statistics::{History, Sample};
pub use transport::{Call, Reply};

/// Something to be done for a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Write the configuration; the reply waits for it.
    Save,
    /// Read the file again; the reply waits for it.
    Reload,
    /// End the server, as SIGTERM does.
    Shutdown,
    /// End these sessions.
    StopSessions(SessionFilter),
    /// End this stream.
    Nuke(StreamName),
    /// Forget the log.
    ClearLog,
}

/// What has to be asked before a call can be carried out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// What the shards have.
    pub snapshots: bool,
    /// Each of their clients.
    pub clients: bool,
    /// Load and memory.
    pub machine: bool,
    /// A folder.
    pub folder: Option<Place>,
}

impl Needs {
    /// What a call needs.
    pub fn of(call: &Call, config: &Config) -> Self {
        let asks = |names: &[&str]| names.iter().any(|name| call.commands.contains_key(*name));
        Self {
            snapshots: !call.is_minimal()
                || asks(&[
                    "streams",
                    "addstream",
                    "deletestream",
                    "active_streams",
                    "stats_streams",
                    "stream_tags",
                ]),
            clients: asks(&["clients"]),
            machine: asks(&["load", "capabilities"]),
            folder: call
                .commands
                .get("browse")
                .and_then(Value::as_str)
                .and_then(|path| Place::of(&config.media.roots, path).ok()),
        }
    }
}

impl Call {
    /// The reply has only what was asked for.
    fn is_minimal(&self) -> bool {
        self.is_minimal || self.commands.get("minimal").is_some_and(is_true)
    }
}

/// What a call is carried out with.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The configuration in force.
    pub config: &'a Config,
    /// What the server listens on.
    pub listening: &'a Protocols,
    /// The wall clock, in milliseconds since 1970.
    pub unix_ms: i64,
    /// What the shards have, if that was needed.
    pub shards: &'a [ShardSnapshot],
    /// Their clients, if these were needed.
    pub clients: &'a [ClientSnapshot],
    /// The machine, if it was needed.
    pub machine: Option<&'a Machine>,
    /// The folder, if one was needed.
    pub listing: Option<&'a Result<Listing, String>>,
    /// The newest lines of the log, oldest first.
    pub log: &'a [LogEntry],
    /// This process.
    pub pid: u32,
    /// The Host that the caller asked for.
    pub host: &'a str,
    /// The caller is on this machine.
    pub is_local: bool,
}

/// What came of a call.
#[derive(Debug)]
pub struct Done {
    /// The reply.
    pub reply: Reply,
    /// The configuration from here on, if it has changed.
    pub loaded: Option<Loaded>,
    /// What is to be done, in order.
    pub effects: Vec<Effect>,
}

/// A call that is being carried out.
struct Work<'a> {
    /// The name of the command.
    command: &'static str,
    world: &'a World<'a>,
    edit: Edit,
    reply: Reply,
    effects: Vec<Effect>,
}

impl Work<'_> {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.reply.members.insert(name.to_owned(), value.into());
    }

    fn fail(&mut self, command: &str, reason: impl std::fmt::Display) {
        self.reply.note_error(format!("{command}: {reason}"));
    }

    /// Says why the command of now is not carried out.
    fn refuse(&mut self, reason: &str) {
        self.fail(self.command, reason);
    }

    /// Changes the document, unless it would not be a configuration any more. False if so.
    fn change(
        &mut self,
        command: &str,
        change: impl FnOnce(&mut Map<String, Value>) -> Result<(), String>,
    ) -> bool {
        match self.edit.attempt(change) {
            Ok(()) => true,
            Err(reason) => {
                self.fail(command, format!("{reason}; nothing was changed"));
                false
            }
        }
    }

    /// The members of a section of the document; none if it is no object.
    fn members(&self, name: &str) -> Map<String, Value> {
        let section = self.edit.document().get(name);
        section
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    }

    /// A section of the document.
    fn section(&self, name: &str) -> Value {
        self.edit.section(name)
    }
}

/// A command: carries it out with its argument.
type Command = fn(&mut Api, &mut Work<'_>, &Value);

/// All commands in the order in which they are carried out, whatever the order of the call: first
/// what replaces the configuration, then what changes it, then what acts, then what asks.
const COMMANDS: &[(&str, Command)] = &[
    ("config_reload", configuration::reload),
    ("config_restore", configuration::restore),
    ("config", configuration::config),
    ("addprotocol", protocols::add),
    ("updateprotocol", protocols::update),
    ("deleteprotocol", protocols::delete),
    ("streams", configuration::streams),
    ("addstream", configuration::add_stream),
    ("deletestream", configuration::delete_stream),
    ("deletestreamsource", unbuilt::delete_source),
    ("tags", configuration::tags),
    ("add_tag", configuration::add_tag),
    ("remove_tag", configuration::remove_tag),
    ("bandwidth", configuration::bandwidth),
    ("ui_settings", configuration::ui_settings),
    ("collab_password", collab::password),
    ("streamkeys", keys::stream_keys),
    ("streamkey_add", keys::add),
    ("streamkey_del", keys::delete),
    ("push_auto_add", unbuilt::push),
    ("push_auto_remove", unbuilt::push_auto_remove),
    ("push_auto_list", unbuilt::push_auto_list),
    ("push_settings", unbuilt::push_settings),
    ("push_start", unbuilt::push),
    ("push_list", unbuilt::nothing_of_it),
    ("push_stop", nothing),
    ("push_stop_graceful", nothing),
    ("variable_add", unbuilt::variable),
    ("variable_remove", unbuilt::variable),
    ("variable_list", unbuilt::variable_list),
    ("external_writer_add", unbuilt::external_writer),
    ("external_writer_remove", unbuilt::external_writer),
    ("external_writer_list", unbuilt::external_writer_list),
    ("addjwks", unbuilt::jwks_change),
    ("deletejwks", unbuilt::jwks_change),
    ("jwks", unbuilt::jwks),
    ("playlist", unbuilt::playlist),
    ("proc_list", unbuilt::nothing_of_it),
    ("enumerate_sources", unbuilt::nothing_of_it),
    ("tag_stream", sessions::tag_stream),
    ("untag_stream", sessions::untag_stream),
    ("stream_tags", sessions::stream_tags),
    ("tag_sessid", unbuilt::session_tags),
    ("stop_tag", unbuilt::session_tags),
    ("stop_sessions", sessions::stop_sessions),
    ("stop_sessid", sessions::stop_session),
    ("invalidate_sessions", sessions::invalidate),
    ("no_unconfigured_streams", nothing),
    ("nuke_stream", sessions::nuke),
    ("capabilities", capabilities::capabilities),
    ("load", machine::load),
    ("browse", browse::browse),
    ("version", configuration::version),
    ("api_endpoint", configuration::endpoint),
    ("clients", statistics::clients),
    ("totals", statistics::totals),
    ("active_streams", statistics::active_streams),
    ("stats_streams", statistics::stats_streams),
    ("log", log::log),
    ("clearstatlogs", log::clear),
    ("update", nothing),
    ("checkupdate", nothing),
    ("autoupdate", unbuilt::update),
    ("abortupdate", nothing),
    ("config_backup", configuration::backup),
    ("save", configuration::save),
    ("shutdown", configuration::shutdown),
    // What says how, not what.
    ("authorize", nothing),
    ("logout", nothing),
    ("minimal", nothing),
];

/// What there is nothing to do for: there are no pushes to stop, no stream that is not configured
/// lives on, and packages are updated by whoever installed them.
fn nothing(_: &mut Api, _: &mut Work<'_>, _: &Value) {}

/// The API's memory between calls.
#[derive(Debug)]
pub struct Api {
    /// Who may call.
    pub authorizer: Authorizer,
    /// What the shards had over the last minutes.
    pub history: History,
    tags: RuntimeTags,
    /// Names this run of the server.
    instance: String,
}

impl Api {
    /// With 8 random bytes that name this run.
    pub fn new(instance: [u8; 8]) -> Self {
        Self {
            authorizer: Authorizer::default(),
            history: History::default(),
            tags: RuntimeTags::default(),
            instance: accounts::to_hex(&instance),
        }
    }

    /// Carries a call out. `authorize` is what the reply says of the caller.
    pub fn execute(
        &mut self,
        call: &Call,
        authorize: Map<String, Value>,
        world: &World<'_>,
    ) -> Done {
        let mut work = Work {
            command: "",
            world,
            edit: Edit::new(world.config),
            reply: Reply::new(Map::new()),
            effects: Vec::new(),
        };
        work.put("LTS", 1);
        work.put("authorize", authorize);
        for (name, command) in COMMANDS {
            work.command = name;
            if let Some(argument) = call.commands.get(*name) {
                command(self, &mut work, argument);
            } else if !call.is_minimal() {
                match *name {
                    "config" | "streams" | "log" => command(self, &mut work, &Value::Bool(true)),
                    _ => {}
                }
            }
        }
        for name in call.commands.keys() {
            if !COMMANDS.iter().any(|(known, _)| known == name) {
                let name: String = name.chars().take(64).collect();
                work.fail(&name, "no such command");
            }
        }
        Done {
            reply: work.reply,
            loaded: work.edit.into_loaded(),
            effects: work.effects,
        }
    }
}

/// Whether an argument means yes: everything but `false`, `null`, 0 and an empty text.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// The texts of an argument that may be one text, a list of them, or an object with them as names.
fn names(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items
            .iter()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect(),
        Value::Object(members) => members.keys().cloned().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

/// What is asked for, of an argument that may be one or a list of them.
fn each(argument: &Value) -> &[Value] {
    match argument.as_array() {
        Some(items) => items,
        None => std::slice::from_ref(argument),
    }
}

/// MistServer writes `null` for a list or an object that nothing was put into.
fn or_null(value: Value) -> Value {
    let is_empty = match &value {
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    if is_empty { Value::Null } else { value }
}

#[cfg(test)]
mod tests;

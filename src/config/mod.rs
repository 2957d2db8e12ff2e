//! Reads `config.json`, MistServer's configuration with a few sections more, and
//! `core-pinning.toml`.
//!
//! The whole document is kept beside what is read from it, so that saving loses no key that this
//! version does not know. An error names the file, the line, the column and what was expected; a
//! setting without effect is a [`Notice`], not an error: a configuration that works in MistServer
//! starts here too.

mod changes;
mod environment;
mod error;
mod node;
mod notice;
mod pinning;
mod position;
mod protocol;
mod secret;
mod sections;
mod stream;
mod webrtc;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use crate::proto::{http, http2};

pub use changes::Changes;
pub use environment::{Environment, EnvironmentError};
pub use error::Error;
pub use notice::Notice;
pub use pinning::{Count, Host, Pinning};
pub use protocol::{Http, Https, Protocols, Rtmp, Standing};
pub use secret::Secret;
pub use sections::{
    Account, Bandwidth, Certificate, Collab, CollabLog, CollabSession, Delivery, General, Limits,
    Media, Merge, SessionModes, Spaces,
};
pub use stream::{NAME_BYTES_MAX, Source, Stream, base_name};
pub use webrtc::{IceServer, MediaPorts, WebRtc};

use node::{Fault, Node};

/// A configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// `streams` by the name they answer to.
    pub streams: BTreeMap<String, Stream>,
    /// `config.protocols`.
    pub protocols: Protocols,
    /// The rest of `config`.
    pub general: General,
    /// `streamkeys`: secret names, and the stream that a push to one lands in.
    pub stream_keys: Vec<(Secret, String)>,
    /// `account`.
    pub accounts: BTreeMap<String, Account>,
    /// `bandwidth`.
    pub bandwidth: Bandwidth,
    /// `limits`.
    pub limits: Limits,
    /// `delivery`.
    pub delivery: Delivery,
    /// `media`.
    pub media: Media,
    /// `webrtc`.
    pub webrtc: WebRtc,
    /// `spaces`.
    pub spaces: Spaces,
    /// `collab`; None without the section, which means no session.
    pub collab: Option<Collab>,
    /// `tls.certificates`, and that of the environment: see [`Config::add_certificate`]. The first
    /// is for clients that ask for no name.
    pub certificates: Vec<Certificate>,
    /// The file does not say which protocols are on.
    has_default_protocols: bool,
    document: Document,
}

/// The file's whole content. Not printed: it holds every password.
#[derive(Clone, PartialEq, Eq, Default)]
struct Document(Map<String, Value>);

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} sections", self.0.len())
    }
}

/// A configuration and what its operator should know about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// In the order of the file.
    pub notices: Vec<Notice>,
}

/// Reads a file. A missing or empty one means the defaults.
pub fn load(path: &Path) -> Result<Loaded, Error> {
    let file = path.display().to_string();
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(reason) => return Err(Error::Unreadable { file, reason }),
    };
    match str::from_utf8(&bytes) {
        Ok(text) => parse(text, &file),
        Err(error) => Err(encoding_error(&bytes, error.valid_up_to(), file)),
    }
}

/// `good` bytes are UTF-8, and the one behind them is not.
fn encoding_error(bytes: &[u8], good: usize, file: String) -> Error {
    let before = String::from_utf8_lossy(bytes.get(..good).unwrap_or_default());
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    Error::Syntax {
        file,
        line: 1 + before.matches('\n').count(),
        column: 1 + last_line.chars().count(),
        message: "expected text in UTF-8".to_owned(),
    }
}

/// Reads the text of a file; `file` is its name in errors.
pub fn parse(text: &str, file: &str) -> Result<Loaded, Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut notices = Vec::new();
    let document = if text.trim().is_empty() {
        notices.push(Notice::Defaults {
            file: file.to_owned(),
        });
        Value::Object(Map::new())
    } else {
        serde_json::from_str(text).map_err(|error| syntax_error(&error, file))?
    };
    let read = Config::read(&document, file, &mut notices);
    let mut config = read.map_err(|fault| {
        let (line, column) = position::locate(text, &fault.path);
        Error::Value {
            file: file.to_owned(),
            line,
            column,
            path: fault.path.to_string(),
            expected: fault.expected,
            found: fault.found,
        }
    })?;
    if let Value::Object(members) = document {
        config.document = Document(members);
    }
    Ok(Loaded { config, notices })
}

/// Reads a document that was put together in memory, as after a call of the API. The error names
/// the value and what was expected.
pub fn read_document(document: Map<String, Value>) -> Result<Loaded, String> {
    let mut notices = Vec::new();
    let document = Value::Object(document);
    let mut config =
        Config::read(&document, "the configuration", &mut notices).map_err(|fault| {
            let Fault {
                path,
                expected,
                found,
            } = fault;
            format!("{path}: expected {expected}, found {found}")
        })?;
    if let Value::Object(members) = document {
        config.document = Document(members);
    }
    Ok(Loaded { config, notices })
}

fn syntax_error(error: &serde_json::Error, file: &str) -> Error {
    let (line, column) = (error.line(), error.column());
    let message = error.to_string();
    let place = format!(" at line {line} column {column}");
    Error::Syntax {
        file: file.to_owned(),
        line,
        // The end of a file behind a line break is column 0 to serde_json.
        column: column.max(1),
        message: message.strip_suffix(&place).unwrap_or(&message).to_owned(),
    }
}

impl Config {
    fn read(document: &Value, file: &str, notices: &mut Vec<Notice>) -> Result<Self, Fault> {
        let root = Node::root(document);
        if !document.is_object() {
            return Err(root.fault("an object: { ... }"));
        }
        let general = root.get("config");
        let states_protocols = document
            .get("config")
            .is_some_and(|config| config.get("protocols").is_some());
        let mut config = Self {
            streams: read_streams(&root.get("streams"), notices)?,
            protocols: Protocols::read(&general.get("protocols"), states_protocols, notices)?,
            general: General::read(&general, notices)?,
            stream_keys: read_stream_keys(&root.get("streamkeys"))?,
            accounts: read_accounts(&root.get("account"))?,
            bandwidth: Bandwidth::read(&root.get("bandwidth"))?,
            limits: Limits::read(&root.get("limits"))?,
            delivery: Delivery::read(&root.get("delivery"))?,
            media: Media::read(&root.get("media"))?,
            webrtc: WebRtc::read(&root.get("webrtc"), notices)?,
            spaces: Spaces::read(&root.get("spaces"))?,
            collab: root
                .get("collab")
                .present()
                .map(|node| Collab::read(&node))
                .transpose()?,
            certificates: Vec::new(),
            has_default_protocols: !states_protocols,
            document: Document::default(),
        };
        for certificate in Certificate::read_all(&root.get("tls"))? {
            config.add_certificate(certificate);
        }
        let not_served = [
            ("auto_push", &["auto_push"][..]),
            ("config.triggers", &["config", "triggers"]),
            ("config_split", &["config_split"]),
            ("jwks", &["jwks"]),
            ("variables", &["variables"]),
        ];
        for (section, keys) in not_served {
            let value = keys.iter().try_fold(document, |value, key| value.get(*key));
            if has_content(value) {
                notices.push(Notice::SectionNotServed { section });
            }
        }
        if config.streams.is_empty() {
            notices.push(Notice::NoStreams {
                file: file.to_owned(),
            });
        }
        Ok(config)
    }

    /// One more certificate for HTTPS, which it turns on at its default port if the file does not say
    /// which protocols are on.
    pub fn add_certificate(&mut self, certificate: Certificate) {
        if self.has_default_protocols && self.protocols.https.is_empty() {
            self.protocols = self.protocols.clone().with_default_https();
        }
        if !self.certificates.contains(&certificate) {
            self.certificates.push(certificate);
        }
    }

    /// The settings of the stream `base`; those of `name+wildcard` are those of `name`.
    pub fn stream(&self, base: &str) -> Option<&Stream> {
        self.streams.get(base)
    }

    /// The document as it is to be saved: what was read, without the members that only report a
    /// state. MistServer's file is one line.
    pub fn to_text(&self) -> String {
        Value::Object(self.to_document()).to_string()
    }

    /// The document that [`Config::to_text`] writes.
    pub fn to_document(&self) -> Map<String, Value> {
        let mut document = self.document.0.clone();
        strip_reported(&mut document);
        document
    }

    /// The document as it was read. What takes it must not log it: it holds every password.
    pub fn document(&self) -> &Map<String, Value> {
        &self.document.0
    }

    /// The bounds of an HTTP connection.
    pub fn http_options(&self) -> http::Options {
        let limits = &self.limits;
        http::Options {
            target_bytes_max: limits.http_header_bytes_max.min(8 * 1024),
            header_bytes_max: limits.http_header_bytes_max,
            body_bytes_max: limits.http_body_bytes_max,
            pipelined_bytes_max: limits.http_header_bytes_max,
            header_timeout: limits.unauthenticated_ms,
            body_timeout: limits.http_body_ms,
            keep_alive_timeout: limits.http_keep_alive_ms,
            ..http::Options::default()
        }
    }
}

/// Takes out the members that only report a state: MistServer's pages send back what they were
/// shown.
pub fn strip_reported(document: &mut Map<String, Value>) {
    document.shift_remove("log");
    let strip = |value: &mut Value| {
        if let Value::Object(members) = value {
            members.shift_remove("online");
            members.shift_remove("error");
        }
    };
    if let Some(Value::Object(streams)) = document.get_mut("streams") {
        streams.values_mut().for_each(strip);
    }
    let protocols = document
        .get_mut("config")
        .and_then(|config| config.get_mut("protocols"));
    if let Some(Value::Array(protocols)) = protocols {
        protocols.iter_mut().for_each(strip);
    }
}

impl Config {
    /// The bounds of an HTTP/2 connection: those of HTTP/1 where both have them.
    pub fn http2_options(&self) -> http2::Options {
        let http1 = self.http_options();
        let defaults = http2::Options::default();
        http2::Options {
            target_bytes_max: http1.target_bytes_max,
            header_bytes_max: http1.header_bytes_max,
            body_bytes_max: http1.body_bytes_max,
            bodies_bytes_max: defaults.bodies_bytes_max.max(http1.body_bytes_max),
            handshake_timeout: http1.header_timeout,
            header_timeout: http1.header_timeout,
            body_timeout: http1.body_timeout,
            idle_timeout: http1.keep_alive_timeout,
            ..defaults
        }
    }
}

fn has_content(section: Option<&Value>) -> bool {
    match section {
        None | Some(Value::Null) => false,
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(members)) => !members.is_empty(),
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => true,
    }
}

/// A name that is already in its reduced form wins over one that has to be reduced to it.
fn read_streams(
    node: &Node<'_>,
    notices: &mut Vec<Notice>,
) -> Result<BTreeMap<String, Stream>, Fault> {
    let mut streams = BTreeMap::new();
    let (exact, reduced): (Vec<_>, Vec<_>) = node
        .members()?
        .into_iter()
        .partition(|(name, _)| base_name(name).as_deref() == Some(name));
    for (name, node) in exact {
        streams.insert(name.to_owned(), Stream::read(name, &node, notices)?);
    }
    for (name, node) in reduced {
        let stream = Stream::read(name, &node, notices)?;
        let base =
            base_name(name).filter(|base| !name.contains('+') && !streams.contains_key(base));
        notices.push(match &base {
            Some(base) => Notice::NameReduced {
                stream: name.to_owned(),
                reduced: base.clone(),
            },
            None => Notice::NameUnusable {
                stream: name.to_owned(),
            },
        });
        streams.extend(base.map(|base| (base, stream)));
    }
    Ok(streams)
}

fn read_stream_keys(node: &Node<'_>) -> Result<Vec<(Secret, String)>, Fault> {
    // The names of members are the secrets, so an error must not lead through them.
    node.members()?
        .into_iter()
        .map(|(key, stream)| match stream.text() {
            Ok(name) if !key.is_empty() => Ok((Secret::new(key), name)),
            Ok(_) | Err(_) => Err(node.fault("an object of texts: {\"KEY\": \"STREAM\"}")),
        })
        .collect()
}

fn read_accounts(node: &Node<'_>) -> Result<BTreeMap<String, Account>, Fault> {
    node.members()?
        .into_iter()
        .map(|(name, account)| {
            let (password, challenge) = (account.get("password"), account.get("challenge"));
            let account = Account {
                password: password.secret()?,
                challenge: challenge.secret()?,
            };
            Ok((name.to_owned(), account))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(text: &str) -> Loaded {
        parse(text, "config.json").unwrap()
    }

    fn error(text: &str) -> String {
        parse(text, "config.json").unwrap_err().to_string()
    }

    const EXAMPLE: &str = include_str!("../../tests/data/mistserver/config_example.json");
    const EMPTY: &str = include_str!("../../tests/data/mistserver/config_saved_from_empty.json");

    #[test]
    fn a_configuration_of_mistserver_is_read() {
        let Loaded { config, notices } = read(EXAMPLE);
        assert_eq!(
            config.streams.keys().collect::<Vec<_>>(),
            ["live", "pull", "vod"]
        );
        let live = config.stream("live").unwrap();
        assert_eq!(live.source.push(), Some(""));
        assert_eq!(live.window, Duration::from_secs(50));
        assert_eq!(
            config.protocols.http[0].listen,
            "127.0.0.1:8080".parse().unwrap()
        );
        assert_eq!(
            config.protocols.rtmp[0].listen,
            "127.0.0.1:1935".parse().unwrap()
        );
        assert!(config.protocols.flv && config.protocols.mp4 && config.protocols.ts);
        assert_eq!(config.general.controller, "127.0.0.1:4242".parse().unwrap());
        assert!(config.general.prometheus.matches("metrics"));
        let account = &config.accounts["test"];
        assert!(account.password.matches("098f6bcd4621d373cade4e832627b4f6"));

        assert!(config.protocols.webrtc);
        let connector = "TSSRT".to_owned();
        assert!(notices.contains(&Notice::ConnectorNotServed { connector }));
        let (stream, scheme) = ("pull".to_owned(), "dtsc".to_owned());
        assert!(notices.contains(&Notice::SourceNotServed { stream, scheme }));
        assert_eq!(notices.len(), 16 + 2);
    }

    #[test]
    fn nothing_is_lost_in_saving() {
        for text in [
            EXAMPLE,
            EMPTY,
            r#"{"new_section":{"b":1,"a":[null,2.5]},"streams":null}"#,
        ] {
            let before: Value = serde_json::from_str(text).unwrap();
            let saved = read(text).config.to_text();
            assert_eq!(serde_json::from_str::<Value>(&saved).unwrap(), before);
            assert!(!saved.contains('\n'), "one line");
        }
    }

    /// serde_json reads a decimal fraction a little off unless told to be exact, so that each
    /// save moved `config.location` and numbers wider than 64 bits. Found by fuzzing.
    #[test]
    fn numbers_do_not_drift_from_save_to_save() {
        let text = r#"{"config":{"location":{"lat":31.245270191439438,"lon":-0.1}},
                       "wide":[5555555555555555555555555555555555555555555555555552]}"#;
        let once = read(text).config.to_text();
        assert!(once.contains("31.245270191439438"));
        assert_eq!(read(&once).config.to_text(), once);
    }

    #[test]
    fn reported_states_are_not_saved() {
        let text = r#"{"log":[1],"config":{"protocols":[{"connector":"HTTP","online":1}]},
                       "streams":{"a":{"source":"push://","online":2,"error":"x"}}}"#;
        assert_eq!(
            read(text).config.to_text(),
            r#"{"config":{"protocols":[{"connector":"HTTP"}]},"streams":{"a":{"source":"push://"}}}"#
        );
    }

    #[test]
    fn an_empty_file_serves_and_says_what_to_do() {
        for text in ["", " \n", "\u{feff}"] {
            let Loaded { config, notices } = read(text);
            assert_eq!(config.protocols, Protocols::default());
            let file = || "config.json".to_owned();
            assert_eq!(
                notices,
                [
                    Notice::Defaults { file: file() },
                    Notice::NoStreams { file: file() }
                ]
            );
            assert!(
                notices[1]
                    .to_string()
                    .contains("rtmp://THIS-HOST/live/live")
            );
        }
        let missing = load(Path::new("no/such/config.json")).unwrap();
        assert_eq!(missing.config, read("").config);
    }

    #[test]
    fn an_unreadable_file_says_why_once() {
        let said = load(Path::new("src")).unwrap_err().to_string();
        assert_eq!(said.matches("directory").count(), 1, "{said}");

        let said = |bytes: &[u8], good| encoding_error(bytes, good, "c".to_owned()).to_string();
        assert_eq!(said(b"{\n \xff}", 3), "c:2:2: expected text in UTF-8");
        assert_eq!(said(b"\xff", 0), "c:1:1: expected text in UTF-8");
    }

    #[test]
    fn a_file_that_ends_too_early_has_a_place() {
        let said = parse("{\"streams\":\n", "c").unwrap_err().to_string();
        assert!(said.starts_with("c:2:1: "), "{said}");
    }

    #[test]
    fn a_stream_without_source_is_named() {
        let notices = read(r#"{"streams":{"a":{}}}"#).notices;
        let stream = "a".to_owned();
        assert_eq!(notices, [Notice::SourceMissing { stream }]);
    }

    #[test]
    fn an_explicit_list_of_protocols_is_obeyed() {
        let protocols = |list: &str| read(&format!(r#"{{"config":{{"protocols":{list}}}}}"#));
        for none in ["null", "[]"] {
            let Loaded { config, notices } = protocols(none);
            assert!(config.protocols.http.is_empty() && config.protocols.rtmp.is_empty());
            assert!(notices.contains(&Notice::NoProtocols));
        }
        let Loaded { config, notices } = protocols(
            r#"[{"connector":"RTMP","port":"1936","acceptable":"1"},{"connector":"FLV"},
                {"connector":"Gopher"}]"#,
        );
        assert_eq!(config.protocols.rtmp[0].listen.port(), 1936);
        assert!(config.protocols.rtmp[0].play && !config.protocols.rtmp[0].publish);
        assert!(!config.protocols.mp4);
        let connector = |name: &str| name.to_owned();
        assert!(notices.contains(&Notice::NeedsHttp {
            connector: connector("FLV")
        }));
        assert!(notices.contains(&Notice::ConnectorUnknown {
            connector: connector("Gopher")
        }));
        assert_eq!(read(EMPTY).config.protocols.http, []);
        assert_eq!(
            read(r#"{"config":{}}"#).config.protocols,
            Protocols::default()
        );
    }

    #[test]
    fn errors_name_the_place_and_what_was_expected() {
        assert_eq!(
            error(
                "{\n  \"streams\": {\"live\": {\"source\": \"push://\",\n    \"DVR\": \"long\"}}}"
            ),
            "config.json:3:12: streams.live.DVR: expected a whole number of milliseconds from 0 \
             to 86400000, found a text"
        );
        assert_eq!(error("{\n\"a\": 1,\n}"), "config.json:3:1: trailing comma");
        assert_eq!(
            error(r#"{"streams": ["live"]}"#),
            "config.json:1:13: streams: expected an object, found a list"
        );
        assert_eq!(
            error(r#"{"config":{"protocols":[{"connector":"HTTP","port":70000}]}}"#),
            "config.json:1:52: config.protocols[0].port: expected a whole number from 1 to 65535, \
             found 70000"
        );
        assert_eq!(
            error(r#"{"spaces":{"more_ports":[1,2,3,4,5,6,7,8,9]}}"#),
            "config.json:1:25: spaces.more_ports: expected at most 8 ports, found a list"
        );
        assert_eq!(
            error("[]"),
            "config.json:1:1: the file: expected an object: { ... }, found a list"
        );
        assert_eq!(
            error(r#"{"delivery":{"merge":"never"}}"#),
            "config.json:1:22: delivery.merge: expected \"adaptive\", \"off\" or \"fixed\", found a text"
        );
    }

    #[test]
    fn one_port_is_one_protocols() {
        let text = r#"{"config":{"protocols":[{"connector":"HTTP"},
                       {"connector":"RTMP","interface":"127.0.0.1","port":8080}]}}"#;
        assert_eq!(
            error(text),
            "config.json:2:75: config.protocols[1].port: expected a port that no other protocol \
             listens on, found 8080"
        );
    }

    #[test]
    fn secrets_stay_out_of_errors_and_debug_output() {
        let text = r#"{"streams":{"live":{"source":"push://127.0.0.1@hunter2"}},
                       "streamkeys":{"hunter2":"live"},"account":{"a":{"password":"hunter2"}},
                       "collab":{"sessions":[{"admin_password":"hunter2"}]}}"#;
        let loaded = read(text);
        assert!(!format!("{loaded:?}").contains("hunter2"));
        assert!(!error(r#"{"streamkeys":{"hunter2":["live"]}}"#).contains("hunter2"));
        assert!(!error(r#"{"delivery":{"merge":"hunter2"}}"#).contains("hunter2"));
    }

    #[test]
    fn names_are_reduced_as_mistserver_does() {
        let Loaded { config, notices } = read(
            r#"{"streams":{"Live":{"source":"push://@a"},"My Cam":{"source":"push://"},
                "live":{"source":"push://@b"},"+":{"source":"push://"}}}"#,
        );
        assert_eq!(config.streams.keys().collect::<Vec<_>>(), ["live", "mycam"]);
        assert_eq!(config.streams["live"].source.push(), Some("@b"));
        assert_eq!(
            notices,
            [
                Notice::NameUnusable {
                    stream: "Live".into()
                },
                Notice::NameReduced {
                    stream: "My Cam".into(),
                    reduced: "mycam".into()
                },
                Notice::NameUnusable { stream: "+".into() },
            ]
        );
    }

    #[test]
    fn the_sections_of_ours_have_defaults() {
        let config = read("{}").config;
        assert_eq!(config.delivery.merge, Merge::Adaptive);
        assert_eq!(config.delivery.merge_ms_max, Duration::from_millis(100));
        assert_eq!(config.webrtc.listen(0).port(), 18_203);
        assert_eq!(config.spaces.listen.port(), 4000);
        assert_eq!(config.collab, None);
        assert_eq!(config.http_options(), http::Options::default());
    }

    #[test]
    fn the_sections_of_ours_are_read() {
        let Loaded { config, notices } = read(
            r#"{"webrtc":{"port":20000,"announced":["192.0.2.1"]},"spaces":{"more_ports":[443,8080]},"collab":{"sessions":[{"port":6000}]},
                "limits":{"http_header_bytes_max":4096,"connections_max":5},
                "delivery":{"merge":"fixed","merge_ms_max":20},
                "tls":{"certificates":[{"cert":"c.pem","key":"k.pem"}]},
                "config":{"triggers":{"USER_NEW":[{"handler":"/bin/true"}]}}}"#,
        );
        assert_eq!(config.webrtc.announced.len(), 1);
        let ports: Vec<u16> = config.spaces.addresses().map(|it| it.port()).collect();
        assert_eq!(ports, [4000, 443, 8080]);
        let session = &config.collab.as_ref().unwrap().sessions[0];
        assert_eq!(session.port, 6000);
        assert!(session.admin_password.matches("admin"));
        assert_eq!((session.autosave_keep, session.log), (10, CollabLog::Off));
        assert_eq!(session.stall, Duration::from_secs(60));
        assert_eq!(config.http_options().header_bytes_max, 4096);
        assert_eq!(config.limits.connections_max, 5);
        assert_eq!(config.delivery.merge, Merge::Fixed);
        assert_eq!(config.certificates[0].key, "k.pem");
        assert_eq!(config.protocols.https.len(), 1);
        let section = "config.triggers";
        assert!(notices.contains(&Notice::SectionNotServed { section }));
    }

    #[test]
    fn a_log_needs_a_file() {
        let session = |members: &str| {
            let text = format!(r#"{{"collab":{{"sessions":[{{{members}}}]}}}}"#);
            let Value::Object(document) = serde_json::from_str(&text).unwrap() else {
                panic!("an object");
            };
            read_document(document).map(|loaded| loaded.config.collab.unwrap().sessions.remove(0))
        };
        let kept = session(r#""autosave":"a.db","autosave_s":5,"autosave_keep":3,"log":"synced""#);
        let kept = kept.unwrap();
        assert_eq!((kept.log, kept.autosave_keep), (CollabLog::Synced, 3));
        assert!(
            session(r#""log":"written""#)
                .unwrap_err()
                .contains("autosave")
        );
        assert!(
            session(r#""autosave":"a.db","log":"yes""#)
                .unwrap_err()
                .contains("synced")
        );
    }

    #[test]
    fn a_certificate_turns_https_on() {
        let pair = r#"{"cert":"c.pem","key":"k.pem"}"#;
        let config = read(&format!(r#"{{"tls":{{"certificates":[{pair}]}}}}"#)).config;
        assert_eq!(config.protocols.https[0].listen.port(), 4433);
        assert_eq!(config.protocols.https[0].certificate, None);

        let mut config = read("{}").config;
        assert_eq!(config.protocols.https, []);
        let certificate = Certificate {
            cert: vec!["c.pem".to_owned()],
            key: "k.pem".to_owned(),
        };
        config.add_certificate(certificate.clone());
        config.add_certificate(certificate);
        assert_eq!(config.protocols.https.len(), 1);
        assert_eq!(config.certificates.len(), 1);
    }

    #[test]
    fn connectors_have_certificates_of_their_own() {
        let config = read(
            r#"{"config":{"protocols":[
                {"connector":"HTTPS","cert":["c.pem","chain.pem"],"key":"k.pem","port":8443},
                {"connector":"RTMP","cert":"c.pem","key":"k.pem","port":1936},
                {"connector":"RTMP","cert":"","key":""}]}}"#,
        )
        .config;
        let https = config.protocols.https[0].certificate.as_ref().unwrap();
        assert_eq!(https.cert, ["c.pem", "chain.pem"]);
        let keys: Vec<_> = config
            .protocols
            .rtmp
            .iter()
            .map(|rtmp| {
                rtmp.certificate
                    .as_ref()
                    .map(|certificate| certificate.key.as_str())
            })
            .collect();
        assert_eq!(keys, [Some("k.pem"), None]);
        assert!(config.protocols.mp4, "the formats are on with HTTPS alone");
        let half = r#"{"config":{"protocols":[{"connector":"HTTPS","cert":"c.pem"}]}}"#;
        assert!(error(half).contains("config.protocols[0].key: expected the name of a PEM file"));
    }

    #[test]
    fn the_address_of_spaces_is_a_socket_or_a_path() {
        for url in ["", "/spaces/", "wss://example.com/", "ws://192.0.2.1:4000"] {
            let config = read(&format!(r#"{{"spaces": {{"url": "{url}"}}}}"#)).config;
            assert_eq!(config.spaces.url, url);
        }
        let page = error(r#"{"spaces": {"url": "https://example.com/"}}"#);
        assert!(page.contains("spaces.url: expected an address with ws://"));
    }

    #[test]
    fn settings_of_a_stream_without_effect_are_named() {
        let text = r#"{"streams": {"live": {"source": "push://", "fallback_stream": "x",
            "always_on": true, "processes": [{"process": "AV"}]}}}"#;
        let notices = parse(text, "c").unwrap().notices;
        let expected = ["always_on", "fallback_stream", "processes"];
        assert_eq!(
            notices,
            expected.map(|setting| Notice::SettingNotServed {
                stream: "live".to_owned(),
                setting,
            })
        );
        let text = r#"{"streams": {"live": {"source": "push://", "processes": null}}}"#;
        let notices = parse(text, "c").unwrap().notices;
        assert!(notices.is_empty(), "{notices:?}");
    }
}

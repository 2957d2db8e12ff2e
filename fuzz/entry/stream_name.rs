//! A name is in its alphabet, is its own reduced form, and passes no secret on.

use std::net::{IpAddr, Ipv4Addr};

use ringside::config::parse;
use ringside::streams::access::{PublishRequest, PushSource, may_publish};
use ringside::streams::info::script;
use ringside::streams::name::StreamName;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(name) = StreamName::parse(text) {
        assert!((1..=100).contains(&name.as_str().len()));
        assert!(!name.as_str().contains(['/', '\\', '\0', '\n']));
        let alphabet = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '.' | '-');
        assert!(!name.base().is_empty() && name.base().chars().all(alphabet));
        assert_eq!(StreamName::parse(name.as_str()).as_ref(), Ok(&name));
        let script = script(&name, &Default::default());
        assert!(script.is_ascii() && !script.contains('<'));
        assert_eq!(script.lines().count(), 4);
    }
    let _ = PushSource::parse(text);
    let config = parse(
        r#"{"streams":{"guarded":{"source":"push://192.0.2.1@sesame"}},"streamkeys":{"key":"guarded"}}"#,
        "config.json",
    )
    .expect("it is well-formed")
    .config;
    let (app, stream) = text.split_once('/').unwrap_or(("", text));
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let request = PublishRequest::rtmp(app, stream, peer);
    if may_publish(&config, &request).is_ok() {
        assert!(request.name == "key" || request.passwords.iter().any(|word| word == "sesame"));
    }
}

//! The API under any call: nothing panics, and the document stays a configuration.
//!
//! The first byte chooses the form: bit 0 the path, bit 1 a body or a query, bit 2 a caller of this
//! machine, bit 3 an `Authorization` field from the text's first line.

use std::sync::LazyLock;
use std::time::Instant;

use ringside::base::ids::ConnId;
use ringside::config::{Config, parse};
use ringside::proto::http;
use ringside::streams::api::accounts::Accounts;
use ringside::streams::api::{Api, Attempt, Call, Caller, Needs, Verdict, World};

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let text = r#"{
        "account": {"test": {"password": "098f6bcd4621d373cade4e832627b4f6"}},
        "config": {"protocols": [{"connector": "HTTP"}, {"connector": "RTMP"}]},
        "streams": {"live": {"source": "push://"}},
        "media": {"roots": ["/media"]}, "tags": ["a"]
    }"#;
    parse(text, "config.json").expect("a configuration").config
});

#[allow(clippy::disallowed_methods, reason = "a run has to begin at some time")]
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

pub(crate) fn run(data: &[u8]) {
    let Some((form, text)) = data.split_first() else {
        return;
    };
    let path = if form & 1 == 0 { "/api" } else { "/api2" };
    let (field, text) = match (form & 8, text.iter().position(|byte| *byte == b'\n')) {
        (8, Some(end)) => (&text[..end], &text[end + 1..]),
        _ => (&[][..], text),
    };
    let mut bytes = Vec::new();
    if form & 2 == 0 {
        bytes.extend_from_slice(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n").as_bytes());
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", text.len()).as_bytes());
    } else {
        bytes.extend_from_slice(format!("GET {path}?").as_bytes());
        bytes.extend_from_slice(text);
        bytes.extend_from_slice(b" HTTP/1.1\r\nHost: localhost\r\n");
    }
    if form & 4 != 0 {
        bytes.extend_from_slice(b"Via: 1.1 proxy\r\n");
    }
    if !field.is_empty() {
        bytes.extend_from_slice(b"Authorization: ");
        bytes.extend_from_slice(field);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    if form & 2 == 0 {
        bytes.extend_from_slice(text);
    }
    let now = *START;
    let mut session = http::Session::new(now, http::Options::default());
    session.handle_input(now, &bytes);
    let Some(http::Event::Request(request)) = session.poll_event() else {
        return;
    };
    let caller = Caller::of(&request, [127, 0, 0, 1].into(), None, &[]);
    let Ok(Some(call)) = Call::read(&request) else {
        return;
    };
    let mut api = Api::new([0; 8]);
    let attempt = Attempt {
        now,
        conn: ConnId(1),
        caller: &caller,
        commands: &call.commands,
        authorization: request.header("authorization"),
        random: [0; 16],
    };
    let accounts = Accounts::open(&CONFIG, None);
    let authorize = match api.authorizer.decide(&attempt, &accounts) {
        Verdict::Granted(authorize) => authorize,
        Verdict::Refused(reply) => {
            assert!(!reply.members.contains_key("LTS"), "nothing is told");
            let _ = reply.into_response(call.callback.as_deref());
            return;
        }
        Verdict::Verify { .. } | Verdict::MakeAccount { .. } => return,
    };
    // The corpus knows the password, for the sake of what comes behind it.
    let shows = request.header("authorization").is_some();
    assert!(
        caller.is_local || shows,
        "a caller from elsewhere has shown nothing"
    );
    let _ = Needs::of(&call, &CONFIG);
    let world = World {
        config: &CONFIG,
        listening: &CONFIG.protocols,
        unix_ms: 0,
        shards: &[],
        clients: &[],
        machine: None,
        listing: None,
        log: &[],
        pid: 1,
        host: request.host(),
        is_local: caller.is_local,
    };
    api.history.watch_streams(now, &call.commands);
    let done = api.execute(&call, authorize, &world);
    if let Some(loaded) = done.loaded {
        let text = loaded.config.to_text();
        let again = parse(&text, "config.json").expect("what is saved can be read");
        assert_eq!(again.config.to_text(), text);
    }
    let response = done.reply.into_response(call.callback.as_deref());
    assert_eq!(response.status, 200);
}

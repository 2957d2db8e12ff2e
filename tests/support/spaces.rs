//! A server of spaces, and who comes to it in browsers.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::rtc::report_of;
use super::{Server, free_port, http, repository, scratch};

pub const WORLD: &str = "https://example.com/world.json";

/// How long browsers may take.
pub const BROWSE_MAX: Duration = Duration::from_secs(90);

pub struct Spaces {
    pub server: Server,
    pub port: u16,
}

impl Spaces {
    /// A server with these settings of spaces.
    #[track_caller]
    pub fn start(settings: Value) -> Self {
        Self::start_edited(settings, |_| {})
    }

    /// As `start`, after `edit` has had its way with the configuration.
    #[track_caller]
    pub fn start_edited(settings: Value, edit: impl FnOnce(&mut Value)) -> Self {
        Self::start_with(settings, edit, |_| {})
    }

    /// As `start`, of so many media shards.
    #[track_caller]
    pub fn start_on(shards: u16, settings: Value) -> Self {
        let pinning = scratch().join(format!("pinning-{}.toml", free_port()));
        fs::write(&pinning, format!("[shards]\nmedia = {shards}\n")).expect("it can be written");
        let prepare = |command: &mut Command| {
            command.arg("--pinning").arg(&pinning);
        };
        Self::start_with(settings, |_| {}, prepare)
    }

    #[track_caller]
    fn start_with(
        mut settings: Value,
        edit: impl FnOnce(&mut Value),
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let port = free_port();
        settings["interface"] = "127.0.0.1".into();
        settings["port"] = port.into();
        let edit = |all: &mut Value| {
            edit(all);
            all["spaces"] = settings;
        };
        let server = Server::start_edited(json!({"live": {"source": "push://"}}), edit, prepare);
        Self { server, port }
    }

    pub fn page(&self) -> String {
        self.server.url("/space.html")
    }

    /// How many are in the world.
    pub fn players(&self) -> usize {
        let path = format!("/spaces?space={WORLD}");
        let listed = http::get(self.server.control, &path).expect("it answers");
        let listed: Value = serde_json::from_str(&listed.text()).unwrap_or_default();
        listed["players"].as_array().map_or(0, Vec::len)
    }

    /// What players with the original's client library saw, by `tests/browser/spaces.mjs`, whose plan
    /// has these `players` and `seconds`. The plan and the report are left in the scratch folder.
    #[track_caller]
    pub fn browse(&self, browser: &str, name: &str, players: &Value, seconds: u64) -> Value {
        let plan = json!({
            "url": format!("ws://127.0.0.1:{}/", self.port),
            "world": WORLD,
            "seconds": seconds,
            "players": players,
        });
        let [path, report_path] =
            ["plan", "report"].map(|what| scratch().join(format!("{name}.{what}.json")));
        fs::write(&path, plan.to_string()).expect("the scratch folder is writable");
        let mut command = Command::new("node");
        command
            .arg(repository().join("tests/browser/spaces.mjs"))
            .arg(browser)
            .arg(&path);
        let report = report_of(&mut command, BROWSE_MAX);
        fs::write(report_path, report.to_string()).expect("the scratch folder is writable");
        report
    }
}

/// A scenario of `tests/browser/space_page.mjs`, with screenshots left in the scratch folder.
pub fn page_command(scenario: &str, browser: &str, url: &str) -> Command {
    let mut command = Command::new("node");
    command
        .arg(repository().join("tests/browser/space_page.mjs"))
        .args([scenario, browser, url])
        .arg(scratch().join(format!("space-{scenario}-{browser}")));
    command
}

//! Logins, and what is answered before them.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::message::{Message, Subject, dict};
use super::session::{Client, PICKLE, Session, State};
use super::tries::network;
use crate::proto::pickle::{Dict, Value, decode};
use crate::proto::replication::{Channel, Generation, Kind, Wire};

/// Bytes of the longest name.
const NAME_MAX: usize = 256;

/// What servers of the two wires said they are.
const VERSION_ZMTP: &str = "0.9.11";
const VERSION_TCP: &str = "0.10.2";

impl Session {
    pub(super) fn server_info(&mut self, identity: &Bytes) {
        let wire = self.clients.get(identity).map(|client| client.wire);
        let version = match (&self.version, wire) {
            (Some(version), _) => version.as_str(),
            (None, Some(Wire::Tcp)) => VERSION_TCP,
            (None, Some(Wire::Zmtp | Wire::FourPorts) | None) => VERSION_ZMTP,
        };
        let value = dict([
            ("private", self.is_private().into()),
            ("version", version.into()),
        ]);
        let message = Message::of_server(Kind::RequestServerInfo, Subject::None, &value);
        self.send(identity, Channel::Command, &message);
    }

    /// Somebody wants to log in: at once, or a while later where others from its address have failed.
    pub(super) fn ask_login(&mut self, now: Instant, identity: &Bytes, body: &Bytes) {
        let Some(client) = self.clients.get(identity) else {
            return;
        };
        let address = client.address;
        let delay = self.tries.delay(now, address);
        let waits =
            |client: &Client| client.login.is_some() && network(client.address) == network(address);
        if delay.is_zero() {
            self.login(now, identity, body);
        } else if self.clients.values().any(waits) {
            // Several guesses at once would make the delay worth nothing.
            self.refuse_login(
                identity,
                "FAILED: too many wrong passwords, try again later",
            );
        } else if let Some(client) = self.clients.get_mut(identity) {
            client.login = Some((now + delay, body.clone()));
        }
    }

    /// Takes the logins whose time has come.
    pub(super) fn take_logins(&mut self, now: Instant) {
        for identity in self.due(now, |client| client.login.as_ref()) {
            let client = self.clients.get_mut(&identity);
            if let Some((_, body)) = client.and_then(|client| client.login.take()) {
                self.login(now, &identity, &body);
            }
        }
    }

    fn login(&mut self, now: Instant, identity: &Bytes, body: &Bytes) {
        let Ok(Value::Dict(asked)) = decode(body, PICKLE) else {
            self.statistics.refused_messages += 1;
            return;
        };
        let name = asked
            .of("AUTH_ID")
            .and_then(Value::as_text)
            .unwrap_or_default();
        let name = Bytes::copy_from_slice(name.as_bytes());
        let is_admin = asked.of("AUTH_TYPE").and_then(Value::as_text) == Some("ADMIN");
        if self.user(identity).is_some() {
            self.refuse_login(identity, "FAILED: client already logged in");
            return;
        }
        let generation = self.generation_of(identity);
        let is_admin = match self.check(generation, &asked, &name, is_admin) {
            Ok(is_admin) => is_admin,
            Err(Refusal::Password(reason)) => {
                if let Some(client) = self.clients.get(identity) {
                    self.tries.failed(now, client.address);
                }
                self.refuse_login(identity, &reason);
                return;
            }
            Err(Refusal::Generation(reason)) => {
                self.statistics.refused_generations += 1;
                tracing::info!(
                    port = self.options.port,
                    user = %String::from_utf8_lossy(&name),
                    reason,
                    "a user cannot come to the collaborative session"
                );
                self.refuse_login(identity, &reason);
                return;
            }
            Err(Refusal::Other(reason)) => {
                self.refuse_login(identity, &reason);
                return;
            }
        };
        if generation == Generation::A {
            self.forget_empty_scene();
        }
        let version = asked
            .of("VERSION")
            .and_then(Value::as_text)
            .unwrap_or_default();
        self.version.get_or_insert_with(|| version.to_owned());
        self.statistics.logins += 1;
        tracing::info!(
            port = self.options.port,
            user = %String::from_utf8_lossy(&name),
            is_admin,
            version,
            "a user has come to the collaborative session"
        );
        self.add_user(identity, name, is_admin);
        let Some(client) = self.clients.get(identity) else {
            return;
        };
        let has_data = client.lanes[Channel::Data as usize].conn.is_some();
        match client.wire {
            Wire::Zmtp | Wire::FourPorts => {
                self.tell_users();
                self.answer_login(identity);
            }
            Wire::Tcp if has_data => {
                self.answer_login(identity);
                self.tell_users();
            }
            Wire::Tcp => {
                let until = now + self.options.timeout.max(Duration::from_millis(500));
                if let Some(user) = self.user(identity) {
                    user.waits_for_data = Some(until);
                }
            }
        }
    }

    /// The data connection of a client is there, for which its login may wait.
    pub(super) fn data_opened(&mut self, identity: &Bytes) {
        let waited = self
            .user(identity)
            .and_then(|user| user.waits_for_data.take());
        if waited.is_some() {
            self.answer_login(identity);
            self.tell_users();
        }
    }

    pub(super) fn give_up_data(&mut self, now: Instant) {
        for identity in self.users.clone() {
            let until = self.user(&identity).and_then(|user| user.waits_for_data);
            if until.is_some_and(|until| now >= until) {
                self.refuse_login(&identity, "FAILED: data channel timeout");
                self.leave(&identity, "its data connection does not come");
            }
        }
    }

    fn answer_login(&mut self, identity: &Bytes) {
        let answer = match self.state {
            State::Waiting | State::Filling { .. } => "LOBBY",
            State::Active => "RUNNING",
        };
        if let Some(user) = self.user(identity) {
            user.will_ask = answer == "RUNNING";
        }
        let message = Message::of_server(Kind::Auth, Subject::None, &answer.into());
        self.send(identity, Channel::Command, &message);
    }

    fn refuse_login(&mut self, identity: &Bytes, reason: &str) {
        self.statistics.refused_logins += 1;
        let message = Message::of_server(Kind::Auth, Subject::None, &reason.into());
        self.send(identity, Channel::Command, &message);
    }

    /// Whether somebody may come in, and whether as an administrator.
    fn check(
        &self,
        generation: Generation,
        asked: &Dict,
        name: &[u8],
        is_admin: bool,
    ) -> Result<bool, Refusal> {
        let refuse = |reason: &str| Err(Refusal::Other(reason.to_owned()));
        if name.is_empty() || name.len() > NAME_MAX || name == b"COMMON" || name == b"server" {
            return refuse("FAILED: this name cannot be used");
        }
        if self.identity_of(name).is_some() {
            return refuse("FAILED: client already logged in");
        }
        let given = |key| asked.of(key).and_then(Value::as_text).unwrap_or_default();
        let is_admin = match generation {
            Generation::A => self.check_password(given("PWD"), is_admin)?,
            Generation::Later => {
                self.check_passwords(given("A_PWD"), given("S_PWD"), is_admin)?;
                is_admin
            }
        };
        let version = given("VERSION");
        match self.generation() {
            Some(there) if there != generation => {
                let there = match there {
                    Generation::A => "0.1, with which others do not go together",
                    Generation::Later => "0.9 and later",
                };
                return Err(Refusal::Generation(format!(
                    "FAILED: wrong client version ({version}, but this session is of {there})"
                )));
            }
            Some(_) | None => {}
        }
        let is_listed = self.options.versions.iter().any(|listed| listed == version);
        let wanted = match (self.options.versions.is_empty(), &self.version) {
            (true, Some(first)) if first != version => first.clone(),
            (false, _) if !is_listed => self.options.versions.join(", "),
            (true | false, _) => return Ok(is_admin),
        };
        refuse(&format!(
            "FAILED: wrong client version ({version} != {wanted})"
        ))
    }
}

impl Session {
    fn check_passwords(&self, admin: &str, server: &str, is_admin: bool) -> Result<(), Refusal> {
        let refuse = |reason: &str| Err(Refusal::Password(reason.to_owned()));
        if is_admin && !self.options.admin_password.matches(admin) {
            return refuse("FAILED: wrong admin password");
        }
        if self.is_private() && !self.options.server_password.matches(server) {
            return refuse("FAILED: wrong server password");
        }
        Ok(())
    }

    /// A client of generation A has one password to give, and says that it is an administrator if it
    /// gives any: which of the two it is makes the difference.
    fn check_password(&self, given: &str, is_admin: bool) -> Result<bool, Refusal> {
        let is_admins = self.options.admin_password.matches(given);
        let is_servers = self.options.server_password.matches(given);
        match (is_admin, self.is_private()) {
            (true, _) if is_admins => Ok(true),
            (_, true) if is_servers => Ok(false),
            (false, false) => Ok(false),
            (true | false, _) => Err(Refusal::Password("FAILED: wrong password".to_owned())),
        }
    }

    fn is_private(&self) -> bool {
        !no_password(self.options.server_password.expose())
    }
}

/// Why a login is refused.
enum Refusal {
    /// A password is wrong, which may be a guess.
    Password(String),
    /// The session is of clients that it could not understand.
    Generation(String),
    /// Anything else.
    Other(String),
}

/// The original's clients and its server write the absence of a password in three ways.
fn no_password(password: &str) -> bool {
    password.is_empty() || password == "None"
}

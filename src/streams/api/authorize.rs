//! Who may call.
//!
//! As MistServer, with what it leaves open closed: a challenge is random, answers one login from
//! the address it was given to, and expires; failures of an address make it wait; a login stays
//! with its connection only while the same page (or program) uses it, and never behind a proxy,
//! where one connection may carry many callers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding};
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::accounts::{self, ACCOUNT_BYTES_MAX, Accounts};
use super::caller::Caller;
use super::transport::Reply;
use crate::base::ids::ConnId;
use crate::config::Secret;

/// How long a challenge can be answered.
const CHALLENGE_MAX: Duration = Duration::from_secs(60);

/// Challenges of one address that can be answered: a script asks for one and answers it.
const CHALLENGES_PER_ADDRESS_MAX: usize = 8;

/// Addresses with challenges, and networks with failures, that are remembered: together about
/// 1 MB. Beyond it the oldest are forgotten.
const ADDRESSES_MAX: usize = 2048;

/// Failures before a network has to wait; from then on a second, doubled each time.
const FREE_FAILURES: u32 = 3;
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How long a failure is remembered.
const FAILURES_FORGOTTEN: Duration = Duration::from_secs(600);

/// Connections whose login is remembered: those of the control port.
const GRANTED_MAX: usize = 1024;

/// What is answered to a caller that may not call.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// It may; `status` is the reply's `authorize`.
    Granted(Map<String, Value>),
    /// It may not.
    Refused(Reply),
    /// Its password has to be compared with a hash, by [`accounts::verify`], off this thread.
    /// [`Authorizer::verified`] takes the result.
    Verify {
        /// `None` for an account that is not there.
        hash: Option<String>,
        /// The MD5 of what it gave as its password.
        md5: Secret,
    },
    /// It makes the first account, by [`accounts::protect`], off this thread.
    MakeAccount {
        /// The account's name.
        name: String,
        /// The MD5 of its password.
        md5: Secret,
    },
}

/// What a caller showed.
enum Shown {
    /// A name and the answer to a challenge.
    Response { name: String, response: String },
    /// A name and a password.
    Password { name: String, password: Secret },
    /// Nothing; it wants a challenge.
    Nothing,
}

#[derive(Debug, Default)]
struct Failures {
    count: u32,
    until: Option<Instant>,
    last: Option<Instant>,
}

#[derive(Debug)]
struct Challenge {
    text: String,
    since: Instant,
}

/// Decides who may call.
#[derive(Debug, Default)]
pub struct Authorizer {
    challenges: BTreeMap<IpAddr, VecDeque<Challenge>>,
    failures: BTreeMap<IpNet, Failures>,
    /// Connections that have logged in, with the origin that they did from.
    granted: HashMap<ConnId, Option<String>, foldhash::fast::RandomState>,
}

/// One request to be decided on.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// When.
    pub now: Instant,
    /// On which connection.
    pub conn: ConnId,
    /// By whom.
    pub caller: &'a Caller,
    /// The call's commands.
    pub commands: &'a Map<String, Value>,
    /// The `Authorization` field.
    pub authorization: Option<&'a str>,
    /// 16 random bytes, in case a challenge is needed.
    pub random: [u8; 16],
}

impl Authorizer {
    /// Decides on a request.
    pub fn decide(&mut self, attempt: &Attempt<'_>, accounts: &Accounts) -> Verdict {
        let Attempt {
            conn,
            caller,
            commands,
            ..
        } = *attempt;
        if accounts.is_empty() {
            return first_account(caller, commands);
        }
        if caller.is_local {
            return granted(true);
        }
        if commands.contains_key("logout") {
            self.granted.remove(&conn);
            return self.challenge(attempt, None);
        }
        let is_same_page = self.granted.get(&conn) == Some(&caller.origin)
            && (caller.origin.is_some() || !caller.is_cross_site);
        if !caller.is_proxied && is_same_page {
            return granted(false);
        }
        let by_field = attempt.authorization.is_some();
        match shown(attempt) {
            Err(text) => self.refuse(attempt, by_field, Some(text)),
            Ok(Shown::Nothing) => self.refuse(attempt, by_field, None),
            Ok(Shown::Response { name, response }) => {
                if let Some(refusal) = self.blocked(attempt) {
                    return Verdict::Refused(refusal);
                }
                if self.answers_challenge(attempt, accounts, &name, &response) {
                    self.grant(attempt)
                } else {
                    self.fail(attempt);
                    self.refuse(attempt, by_field, None)
                }
            }
            Ok(Shown::Password { name, password }) => {
                if let Some(refusal) = self.blocked(attempt) {
                    return Verdict::Refused(refusal);
                }
                let md5 = Secret::new(accounts::md5_hex(password.expose()));
                match accounts.get(&name) {
                    // An account as MistServer keeps it, before it was saved here.
                    Some(known) if known.hash.is_none() => {
                        let is_right = known
                            .md5
                            .as_ref()
                            .is_some_and(|own| own.matches(md5.expose()));
                        self.verified(attempt, is_right)
                    }
                    known => Verdict::Verify {
                        hash: known.and_then(|known| known.hash.clone()),
                        md5,
                    },
                }
            }
        }
    }

    /// Decides on a request whose password was compared.
    pub fn verified(&mut self, attempt: &Attempt<'_>, is_right: bool) -> Verdict {
        if is_right {
            return self.grant(attempt);
        }
        self.fail(attempt);
        Verdict::Refused(Reply {
            status: 401,
            members: refused_members("a wrong name or password"),
            authenticate: Some("Basic realm=\"ringside\"".to_owned()),
            retry_after: None,
        })
    }

    /// A connection is gone.
    pub fn connection_gone(&mut self, conn: ConnId) {
        self.granted.remove(&conn);
    }

    fn grant(&mut self, attempt: &Attempt<'_>) -> Verdict {
        self.failures.remove(&network(attempt.caller.address));
        if !attempt.caller.is_proxied && self.granted.len() < GRANTED_MAX {
            self.granted
                .insert(attempt.conn, attempt.caller.origin.clone());
        }
        granted(false)
    }

    /// Whether a text answers one of the challenges that this address was given. All are tried,
    /// because the caller does not say which it answers; the one it answers is used up.
    fn answers_challenge(
        &mut self,
        attempt: &Attempt<'_>,
        accounts: &Accounts,
        name: &str,
        response: &str,
    ) -> bool {
        let md5 = accounts
            .get(name)
            .and_then(|known| known.md5.as_ref())
            .map_or("", Secret::expose);
        let now = attempt.now;
        let Some(challenges) = self.challenges.get_mut(&attempt.caller.address) else {
            return false;
        };
        challenges.retain(|challenge| now < challenge.since + CHALLENGE_MAX);
        let answered = challenges.iter().position(|challenge| {
            Secret::new(accounts::response(md5, &challenge.text))
                .matches(&response.to_ascii_lowercase())
        });
        match answered {
            Some(at) if !md5.is_empty() => {
                challenges.remove(at);
                if challenges.is_empty() {
                    self.challenges.remove(&attempt.caller.address);
                }
                true
            }
            Some(_) | None => false,
        }
    }

    fn fail(&mut self, attempt: &Attempt<'_>) {
        let now = attempt.now;
        let network = network(attempt.caller.address);
        if self.failures.len() >= ADDRESSES_MAX && !self.failures.contains_key(&network) {
            self.failures
                .retain(|_, failures| !failures.is_forgotten(now));
            let oldest = self
                .failures
                .iter()
                .min_by_key(|(_, failures)| failures.last)
                .map(|(network, _)| *network)
                .filter(|_| self.failures.len() >= ADDRESSES_MAX);
            oldest.map(|network| self.failures.remove(&network));
        }
        let failures = self.failures.entry(network).or_default();
        if failures.is_forgotten(now) {
            *failures = Failures::default();
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = Some(now);
        let over = failures.count.saturating_sub(FREE_FAILURES);
        if over > 0 {
            let wait = Duration::from_secs(1 << (over - 1).min(6)).min(WAIT_MAX);
            failures.until = Some(now + wait);
        }
        tracing::warn!(
            address = %attempt.caller.address,
            failures = failures.count,
            "a login to the API failed"
        );
    }

    /// The refusal of an address that has to wait.
    fn blocked(&mut self, attempt: &Attempt<'_>) -> Option<Reply> {
        let failures = self.failures.get(&network(attempt.caller.address))?;
        let left = failures.until?.checked_duration_since(attempt.now)?;
        if left.is_zero() {
            return None;
        }
        let seconds = left.as_secs() + 1;
        let mut members = Map::new();
        let challenge = self.new_challenge(attempt);
        let error = format!("too many wrong logins: try again in {seconds} s");
        members.insert(
            "authorize".to_owned(),
            json!({"status": "CHALL", "challenge": challenge, "error": error}),
        );
        Some(Reply {
            status: 429,
            members,
            authenticate: None,
            retry_after: Some(seconds),
        })
    }

    fn refuse(
        &mut self,
        attempt: &Attempt<'_>,
        by_field: bool,
        error: Option<&'static str>,
    ) -> Verdict {
        if !by_field {
            return self.challenge(attempt, error);
        }
        let challenge = self.new_challenge(attempt);
        let authorize = json!({"challenge": challenge, "status": "CHALL"});
        Verdict::Refused(Reply {
            status: 403,
            authenticate: Some(format!("json {authorize}")),
            members: match error {
                Some(error) => refused_members(error),
                None => Map::from_iter([("authorize".to_owned(), authorize)]),
            },
            retry_after: None,
        })
    }

    fn challenge(&mut self, attempt: &Attempt<'_>, error: Option<&'static str>) -> Verdict {
        let mut authorize = Map::new();
        let challenge = self.new_challenge(attempt);
        authorize.insert("challenge".to_owned(), challenge.into());
        authorize.insert("status".to_owned(), "CHALL".into());
        if let Some(error) = error {
            authorize.insert("error".to_owned(), error.into());
        }
        Verdict::Refused(Reply::new(Map::from_iter([(
            "authorize".to_owned(),
            authorize.into(),
        )])))
    }

    fn new_challenge(&mut self, attempt: &Attempt<'_>) -> String {
        let address = attempt.caller.address;
        if self.challenges.len() >= ADDRESSES_MAX && !self.challenges.contains_key(&address) {
            let oldest = self
                .challenges
                .iter()
                .min_by_key(|(_, challenges)| challenges.back().map(|newest| newest.since))
                .map(|(address, _)| *address);
            oldest.map(|address| self.challenges.remove(&address));
        }
        let challenges = self.challenges.entry(address).or_default();
        if challenges.len() == CHALLENGES_PER_ADDRESS_MAX {
            challenges.pop_front();
        }
        let text = accounts::to_hex(&attempt.random);
        challenges.push_back(Challenge {
            text: text.clone(),
            since: attempt.now,
        });
        text
    }
}

impl Failures {
    fn is_forgotten(&self, now: Instant) -> bool {
        self.last
            .is_none_or(|last| now >= last + FAILURES_FORGOTTEN)
    }
}

/// Who holds one address of IPv6 holds a network of 64 bits.
fn network(address: IpAddr) -> IpNet {
    let bits = if address.is_ipv4() { 32 } else { 64 };
    IpNet::new(address, bits)
        .map(|network| network.trunc())
        .unwrap_or_else(|_| address.into())
}

fn granted(is_local: bool) -> Verdict {
    let mut authorize = Map::new();
    authorize.insert("status".to_owned(), "OK".into());
    if is_local {
        authorize.insert("local".to_owned(), true.into());
    }
    Verdict::Granted(authorize)
}

fn refused_members(error: &str) -> Map<String, Value> {
    Map::from_iter([(
        "authorize".to_owned(),
        json!({"status": "CHALL", "error": error}),
    )])
}

/// Without an account this machine may do everything, and nobody else anything: MistServer lets
/// whoever comes first over the network make the account.
fn first_account(caller: &Caller, commands: &Map<String, Value>) -> Verdict {
    let status = |status: &str| json!({"status": status});
    if !caller.is_local {
        let mut authorize = status("NOACC");
        authorize["error"] = "There is no account. Make the first one on the machine itself: \
                              ringside serve -a NAME:PASSWORD, or the API's authorize with \
                              new_username and new_password."
            .into();
        return Verdict::Refused(Reply {
            status: 403,
            members: Map::from_iter([("authorize".to_owned(), authorize)]),
            authenticate: None,
            retry_after: None,
        });
    }
    let wanted = |name: &str| {
        let text = commands.get("authorize")?.get(name)?.as_str()?;
        Some(text.to_owned())
    };
    match (wanted("new_username"), wanted("new_password")) {
        (Some(name), Some(password)) if is_account_name(&name) && !password.is_empty() => {
            Verdict::MakeAccount {
                name,
                md5: Secret::new(accounts::md5_hex(&password)),
            }
        }
        (Some(_), Some(_)) => {
            let mut authorize = status("NOACC");
            authorize["error"] =
                "A name has 1 to 256 bytes and no control character; a password is not empty."
                    .into();
            Verdict::Refused(Reply::new(Map::from_iter([(
                "authorize".to_owned(),
                authorize,
            )])))
        }
        _ => Verdict::Granted(Map::from_iter([("status".to_owned(), "NOACC".into())])),
    }
}

/// 1 to [`ACCOUNT_BYTES_MAX`] bytes, no control character, and no colon, at which
/// `Authorization: Basic` divides.
pub fn is_account_name(name: &str) -> bool {
    (1..=ACCOUNT_BYTES_MAX).contains(&name.len())
        && !name.contains(|c: char| c.is_control() || c == ':')
}

/// What the caller showed, in the field or else in the call.
fn shown(attempt: &Attempt<'_>) -> Result<Shown, &'static str> {
    let of = |object: &Value| {
        let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or("");
        match (text("username"), text("password")) {
            (_, "") => Shown::Nothing,
            (name, response) => Shown::Response {
                name: name.to_owned(),
                response: response.to_owned(),
            },
        }
    };
    let Some(field) = attempt.authorization else {
        return Ok(attempt.commands.get("authorize").map_or(Shown::Nothing, of));
    };
    let (scheme, rest) = field.split_once(' ').unwrap_or((field, ""));
    if scheme.eq_ignore_ascii_case("json") {
        return serde_json::from_str::<Value>(rest)
            .map(|object| of(&object))
            .map_err(|_| "Authorization: json {\"username\": ..., \"password\": ...}");
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err("Authorization has to be json or Basic");
    }
    if !attempt.caller.is_private {
        return Err("Authorization: Basic can be overheard here: use json, or HTTPS");
    }
    let bad = "Authorization: Basic with NAME:PASSWORD in base 64";
    let bytes = Base64::decode_vec(rest.trim()).map_err(|_| bad)?;
    let text = String::from_utf8(bytes).map_err(|_| bad)?;
    let (name, password) = text.split_once(':').ok_or(bad)?;
    Ok(Shown::Password {
        name: name.to_owned(),
        password: Secret::new(password),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use crate::config::parse;

    use super::*;

    static START: LazyLock<Instant> = LazyLock::new(crate::streams::api::tests::start);

    const MD5: &str = "098f6bcd4621d373cade4e832627b4f6";

    struct Scene {
        authorizer: Authorizer,
        accounts: Accounts,
        now: Instant,
        random: u8,
    }

    impl Scene {
        fn new(text: &str) -> Self {
            let config = parse(text, "c").unwrap().config;
            Self {
                authorizer: Authorizer::default(),
                accounts: Accounts::open(&config, None),
                now: *START,
                random: 0,
            }
        }

        fn with_account() -> Self {
            Self::new(&format!(
                r#"{{"account":{{"test":{{"password":"{MD5}"}}}}}}"#
            ))
        }

        fn decide(
            &mut self,
            caller: &Caller,
            commands: &Value,
            authorization: Option<&str>,
        ) -> Verdict {
            self.random = self.random.wrapping_add(1);
            let commands = commands.as_object().unwrap();
            let attempt = Attempt {
                now: self.now,
                conn: ConnId(1),
                caller,
                commands,
                authorization,
                random: [self.random; 16],
            };
            self.authorizer.decide(&attempt, &self.accounts)
        }

        fn challenge(&mut self, caller: &Caller) -> String {
            let commands = json!({"authorize": {"username": "test", "password": ""}});
            let Verdict::Refused(reply) = self.decide(caller, &commands, None) else {
                panic!("no challenge");
            };
            reply.members["authorize"]["challenge"]
                .as_str()
                .unwrap()
                .to_owned()
        }
    }

    fn far(address: &str) -> Caller {
        Caller {
            address: address.parse().unwrap(),
            is_local: false,
            is_proxied: false,
            is_private: false,
            origin: None,
            is_cross_site: false,
        }
    }

    fn here() -> Caller {
        Caller {
            is_local: true,
            is_private: true,
            ..far("127.0.0.1")
        }
    }

    fn login(challenge: &str) -> Value {
        let password = accounts::response(MD5, challenge);
        json!({"authorize": {"username": "test", "password": password}})
    }

    fn is_granted(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Granted(_))
    }

    #[test]
    fn a_challenge_is_answered_once_from_where_it_was_asked_for() {
        let mut scene = Scene::with_account();
        let mut proxied = far("203.0.113.1");
        proxied.is_proxied = true; // No login stays with the connection.
        let challenge = scene.challenge(&proxied);
        assert_eq!(challenge.len(), 32);
        let login = login(&challenge);
        assert!(!is_granted(&scene.decide(
            &far("203.0.113.2"),
            &login,
            None
        )));
        assert!(is_granted(&scene.decide(&proxied, &login, None)));
        assert!(!is_granted(&scene.decide(&proxied, &login, None)), "replay");
    }

    #[test]
    fn a_challenge_expires() {
        let mut scene = Scene::with_account();
        let caller = far("203.0.113.1");
        let login = login(&scene.challenge(&caller));
        scene.now += CHALLENGE_MAX;
        assert!(!is_granted(&scene.decide(&caller, &login, None)));
    }

    #[test]
    fn a_login_stays_with_its_connection_and_page() {
        let mut scene = Scene::with_account();
        let caller = far("203.0.113.1");
        let login = login(&scene.challenge(&caller));
        assert!(is_granted(&scene.decide(&caller, &login, None)));
        let nothing = json!({});
        assert!(is_granted(&scene.decide(&caller, &nothing, None)));
        let page = Caller {
            origin: Some("https://evil.example".to_owned()),
            ..caller.clone()
        };
        assert!(!is_granted(&scene.decide(&page, &nothing, None)));
        let proxied = Caller {
            is_proxied: true,
            ..caller.clone()
        };
        assert!(!is_granted(&scene.decide(&proxied, &nothing, None)));
        assert!(is_granted(&scene.decide(&caller, &nothing, None)));
        scene.decide(&caller, &json!({"logout": true}), None);
        assert!(!is_granted(&scene.decide(&caller, &nothing, None)));
    }

    #[test]
    fn failures_make_an_address_wait() {
        let mut scene = Scene::with_account();
        let caller = far("2001:db8::1");
        let wrong = json!({"authorize": {"username": "test", "password": "00"}});
        for _ in 0..=FREE_FAILURES {
            let Verdict::Refused(reply) = scene.decide(&caller, &wrong, None) else {
                panic!();
            };
            assert_eq!(reply.status, 200);
        }
        let neighbour = far("2001:db8::2");
        let right = login(&scene.challenge(&neighbour));
        let Verdict::Refused(reply) = scene.decide(&neighbour, &right, None) else {
            panic!();
        };
        assert_eq!((reply.status, reply.retry_after), (429, Some(2)));
        let elsewhere = far("2001:db8:1::");
        let login_elsewhere = login(&scene.challenge(&elsewhere));
        assert!(is_granted(&scene.decide(
            &elsewhere,
            &login_elsewhere,
            None
        )));
        scene.now += Duration::from_secs(1);
        assert!(is_granted(&scene.decide(&neighbour, &right, None)));
    }

    #[test]
    fn memory_of_addresses_is_bounded() {
        let mut scene = Scene::with_account();
        let wrong = json!({"authorize": {"username": "test", "password": "00"}});
        for n in 0..2 * ADDRESSES_MAX as u32 {
            let caller = far(&std::net::Ipv4Addr::from(n).to_string());
            scene.now += Duration::from_micros(1);
            scene.decide(&caller, &wrong, None);
        }
        assert!(scene.authorizer.failures.len() <= ADDRESSES_MAX);
        assert!(scene.authorizer.challenges.len() <= ADDRESSES_MAX);
    }

    #[test]
    fn the_field_is_another_way() {
        let mut scene = Scene::with_account();
        let caller = far("203.0.113.1");
        let Verdict::Refused(reply) = scene.decide(&caller, &json!({}), Some("json {}")) else {
            panic!();
        };
        assert_eq!(reply.status, 403);
        let field = reply.authenticate.unwrap();
        let challenge: Value = serde_json::from_str(field.strip_prefix("json ").unwrap()).unwrap();
        let login = login(challenge["challenge"].as_str().unwrap());
        let field = format!("json {}", login["authorize"]);
        assert!(is_granted(&scene.decide(&caller, &json!({}), Some(&field))));
    }

    #[test]
    fn a_password_is_taken_where_nobody_listens() {
        let mut scene = Scene::with_account();
        let field = format!("Basic {}", Base64::encode_string(b"test:test"));
        let Verdict::Refused(reply) = scene.decide(&far("203.0.113.1"), &json!({}), Some(&field))
        else {
            panic!();
        };
        assert_eq!(reply.status, 403);
        let proxied = Caller {
            is_local: false,
            is_proxied: true,
            ..here()
        };
        assert!(is_granted(&scene.decide(
            &proxied,
            &json!({}),
            Some(&field)
        )));
        let wrong = format!("Basic {}", Base64::encode_string(b"test:tset"));
        assert!(!is_granted(&scene.decide(
            &proxied,
            &json!({}),
            Some(&wrong)
        )));
    }

    #[test]
    fn the_first_account_is_made_here() {
        let mut scene = Scene::new("{}");
        let new = json!({"authorize": {"new_username": "a", "new_password": "b"}});
        let Verdict::Refused(reply) = scene.decide(&far("203.0.113.1"), &new, None) else {
            panic!();
        };
        assert_eq!(reply.status, 403);
        assert_eq!(reply.members["authorize"]["status"], "NOACC");
        assert_eq!(
            scene.decide(&here(), &new, None),
            Verdict::MakeAccount {
                name: "a".to_owned(),
                md5: Secret::new(accounts::md5_hex("b"))
            }
        );
        let Verdict::Granted(authorize) = scene.decide(&here(), &json!({}), None) else {
            panic!();
        };
        assert_eq!(Value::Object(authorize), json!({"status": "NOACC"}));
        let empty = json!({"authorize": {"new_username": "a:b", "new_password": "b"}});
        assert!(matches!(
            scene.decide(&here(), &empty, None),
            Verdict::Refused(_)
        ));
    }

    #[test]
    fn an_account_without_a_password_lets_nobody_in() {
        let mut scene = Scene::new(r#"{"account":{"test":{}}}"#);
        let caller = far("203.0.113.1");
        let challenge = scene.challenge(&caller);
        let password = accounts::response("", &challenge);
        for name in ["test", "nobody"] {
            let login = json!({"authorize": {"username": name, "password": password}});
            assert!(!is_granted(&scene.decide(&caller, &login, None)));
        }
    }
}

//! The agent against requests as peers make them, and as they should not.

use std::time::Instant as Clock;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::proto::stun::{Builder, Class, Key, Message, TransactionId};

const HIGH: u32 = 0x6e00_1eff;
const LOW: u32 = 0x6e00_0aff;

/// An agent and what its peer needs.
struct Scene {
    now: Instant,
    agent: Agent,
    count: u8,
}

fn credentials(name: &str) -> Credentials {
    Credentials {
        ufrag: name.to_owned(),
        password: format!("password-of-{name}-with-22-characters"),
    }
}

fn path(number: u8) -> Path {
    Path {
        remote: ([192, 0, 2, number], 5000).into(),
        channel: Channel(0),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test has to begin at some time"
)]
fn start() -> Instant {
    Clock::now()
}

impl Scene {
    fn new(remote: Option<Credentials>) -> Self {
        let now = start();
        Self {
            now,
            agent: Agent::new(now, credentials("ours"), remote, Options::default()),
            count: 0,
        }
    }

    /// A request with the peer's newest credentials, as a browser makes one.
    fn request(&mut self, server: &str, client: &str) -> Builder {
        self.count += 1;
        Builder::new(Class::Request, TransactionId([self.count; 12])).username(server, client)
    }

    fn check(&mut self, number: u8, priority: u32, nominates: bool) -> Vec<Event> {
        self.check_as(("ours", "theirs"), number, priority, nominates)
    }

    fn check_as(
        &mut self,
        (server, client): (&str, &str),
        number: u8,
        priority: u32,
        nominates: bool,
    ) -> Vec<Event> {
        let request = self
            .request(server, client)
            .controlling(5)
            .priority(priority);
        let request = match nominates {
            true => request.use_candidate(),
            false => request,
        };
        let key = Key::new(&credentials(server).password);
        let request = request.sign(&key).finish();
        let response = self.send(number, &request).expect("a response");
        let message = Message::parse(&response).unwrap();
        assert_eq!(message.class, Class::Success);
        assert_eq!(message.mapped_address, Some(path(number).remote));
        assert!(message.is_authentic(&key) && message.has_fingerprint);
        self.events()
    }

    fn send(&mut self, number: u8, bytes: &[u8]) -> Option<Bytes> {
        self.agent.handle_input(self.now, path(number), bytes);
        let (to, response) = self.agent.poll_transmit()?;
        assert_eq!(to, path(number));
        assert_eq!(self.agent.poll_transmit(), None, "one at most");
        assert!(response.len() <= bytes.len(), "no amplifier");
        Some(response)
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.agent.poll_event()).collect()
    }

    fn wait(&mut self, seconds: u64) -> Vec<Event> {
        self.now += Duration::from_secs(seconds);
        self.agent.handle_timeout(self.now);
        self.events()
    }
}

#[test]
fn a_check_validates_and_a_nomination_selects() {
    let mut scene = Scene::new(Some(credentials("theirs")));
    assert!(!scene.agent.is_valid(path(1)));
    assert_eq!(scene.check(1, LOW, false), [Event::Validated(path(1))]);
    assert!(scene.agent.is_valid(path(1)));
    assert!(!scene.agent.is_valid(path(2)));
    assert_eq!(scene.agent.selected(), None);
    assert_eq!(scene.agent.best(), Some(path(1)));
    assert_eq!(scene.check(1, LOW, true), [Event::Selected(path(1))]);
    assert_eq!(scene.agent.selected(), Some(path(1)));
    assert_eq!(scene.check(1, LOW, true), []);
}

#[test]
fn one_address_over_two_sockets_is_two_paths() {
    let mut scene = Scene::new(Some(credentials("theirs")));
    scene.check(1, LOW, false);
    let other = Path {
        channel: Channel(1),
        ..path(1)
    };
    assert!(!scene.agent.is_valid(other));
}

#[test]
fn strangers_get_no_answer() {
    let mut scene = Scene::new(Some(credentials("theirs")));
    let key = Key::new(&credentials("ours").password);
    let wrong_key = Key::new(&credentials("other").password);

    for (server, client) in [
        ("other", "theirs"),
        ("ours", "other"),
        ("our", "theirs"),
        ("", ""),
    ] {
        let request = scene
            .request(server, client)
            .priority(1)
            .sign(&key)
            .finish();
        assert_eq!(scene.send(1, &request), None);
    }
    let nameless = Builder::new(Class::Request, TransactionId([1; 12]))
        .sign(&key)
        .finish();
    assert_eq!(scene.send(1, &nameless), None);
    assert_eq!(scene.agent.statistics().wrong_username, 5);

    let forged = scene.request("ours", "theirs").sign(&wrong_key).finish();
    assert_eq!(scene.send(1, &forged), None);
    let unsigned = scene.request("ours", "theirs").priority(1).finish();
    assert_eq!(scene.send(1, &unsigned), None);
    assert_eq!(scene.agent.statistics().wrong_integrity, 2);

    let request = scene.request("ours", "theirs").sign(&key).finish();
    let mut damaged = request.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(scene.send(1, &damaged), None);
    assert_eq!(scene.send(1, &request[..30]), None);
    assert_eq!(scene.agent.statistics().malformed, 2);

    let indication = Builder::new(Class::Indication, TransactionId([1; 12])).finish();
    assert_eq!(scene.send(1, &indication), None);
    assert_eq!(scene.agent.statistics().unexpected, 1);

    assert_eq!(scene.events(), []);
    assert!(!scene.agent.is_valid(path(1)));
    assert_eq!(scene.agent.statistics().answered, 0);
}

#[test]
fn a_check_may_come_before_the_peers_credentials() {
    let mut scene = Scene::new(None);
    assert_eq!(scene.check(1, LOW, true).len(), 2);
    scene.agent.set_remote(credentials("theirs"));
    assert_eq!(scene.check(1, LOW, true), []);
    let key = Key::new(&credentials("ours").password);
    let request = scene
        .request("ours", "other")
        .priority(1)
        .sign(&key)
        .finish();
    assert_eq!(scene.send(1, &request), None);
}

#[test]
fn a_controlled_peer_is_refused() {
    let mut scene = Scene::new(None);
    let key = Key::new(&credentials("ours").password);
    let request = scene
        .request("ours", "theirs")
        .priority(1)
        .controlled(u64::MAX)
        .use_candidate()
        .sign(&key)
        .finish();
    let response = scene.send(1, &request).unwrap();
    let message = Message::parse(&response).unwrap();
    assert_eq!(message.error_code, Some(487));
    assert!(message.is_authentic(&key));
    assert_eq!(scene.events(), []);
    assert!(!scene.agent.is_valid(path(1)));
    assert_eq!(scene.agent.statistics().role_conflicts, 1);
}

#[test]
fn what_must_be_understood_and_is_not_is_refused() {
    let mut scene = Scene::new(None);
    let key = Key::new(&credentials("ours").password);
    // There is no attribute of this kind to build, so one with a number above is given its number.
    let request = scene
        .request("ours", "theirs")
        .controlling(5)
        .priority(1)
        .finish();
    let mut unsigned = request[..request.len() - 8].to_vec();
    let place = unsigned.len() - 8 - 12;
    unsigned[place..place + 2].copy_from_slice(&[0x7F, 0x01]);
    let request = sign(unsigned, &key);
    let response = scene.send(1, &request).unwrap();
    let message = Message::parse(&response).unwrap();
    assert_eq!(message.error_code, Some(420));
    assert!(
        response
            .windows(6)
            .any(|bytes| bytes == [0, 0x0A, 0, 2, 0x7F, 1])
    );
    assert_eq!(scene.events(), []);
}

/// MESSAGE-INTEGRITY for bytes that the builder does not make.
fn sign(mut bytes: Vec<u8>, key: &Key) -> Vec<u8> {
    let probe = |bytes: &[u8], tag: &[u8]| {
        let mut whole = [bytes, &[0, 8, 0, 20], tag].concat();
        let length = whole.len() as u16 - 20;
        whole[2..4].copy_from_slice(&length.to_be_bytes());
        whole
    };
    let context = aws_lc_rs::hmac::Key::new(
        aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        credentials("ours").password.as_bytes(),
    );
    let length = bytes.len() as u16 + 24 - 20;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    let tag = aws_lc_rs::hmac::sign(&context, &bytes);
    let whole = probe(&bytes, tag.as_ref());
    assert!(Message::parse(&whole).unwrap().is_authentic(key));
    whole
}

/// A check without all that RFC 8445 asks for may be smaller than its response, which is not sent
/// then. With PRIORITY and a role it never is, even with the shortest names over IPv6.
#[test]
fn a_response_is_never_larger_than_its_request() {
    let mut scene = Scene::new(None);
    let key = Key::new(&credentials("ours").password);
    let v6 = Path {
        remote: "[2001:db8::1]:5000".parse().unwrap(),
        channel: Channel(0),
    };
    let bare = scene.request("ours", "t").sign(&key).finish();
    scene.agent.handle_input(scene.now, v6, &bare);
    assert_eq!(scene.agent.poll_transmit(), None);
    assert_eq!(scene.agent.statistics().unsent, 1);
    assert!(!scene.agent.is_valid(v6), "not answered, so not validated");

    let whole = scene
        .request("ours", "t")
        .priority(1)
        .controlling(1)
        .sign(&key)
        .finish();
    scene.agent.handle_input(scene.now, v6, &whole);
    let (_, response) = scene.agent.poll_transmit().unwrap();
    assert!(response.len() < whole.len());
}

/// Row 22 of the quirks: Firefox nominates every path it checks, and later only keeps consent on the
/// one of the highest priority.
#[test]
fn firefox_nominates_all_paths_and_uses_the_best() {
    for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1], [1, 3, 2]] {
        let mut scene = Scene::new(Some(credentials("theirs")));
        for number in order {
            scene.check(number, LOW + u32::from(number), true);
        }
        for _ in 0..10 {
            scene.check(3, LOW + 3, false);
            assert_eq!(scene.wait(4), []);
        }
        assert_eq!(scene.agent.selected(), Some(path(3)), "{order:?}");
    }
}

/// The same request again, because its response was lost, is no second nomination.
#[test]
fn a_repeated_request_does_not_nominate_again() {
    let mut scene = Scene::new(Some(credentials("theirs")));
    scene.check(1, HIGH, true);
    let key = Key::new(&credentials("ours").password);
    let request = scene
        .request("ours", "theirs")
        .controlling(5)
        .priority(LOW)
        .use_candidate()
        .sign(&key)
        .finish();
    for _ in 0..5 {
        scene.send(2, &request).unwrap();
    }
    assert_eq!(scene.agent.selected(), Some(path(1)));
}

/// Row 27 of the quirks: Chromium moves to another local address after the connection was made. It
/// nominates with each check of the path that it uses and no other.
#[test]
fn chromium_is_followed_to_another_address() {
    let mut scene = Scene::new(Some(credentials("theirs")));
    scene.check(1, LOW, true);
    scene.check(2, HIGH, false);
    assert_eq!(scene.agent.selected(), Some(path(1)));

    assert_eq!(
        scene.check(2, HIGH, true),
        [Event::Selected(path(2))],
        "a better one at once"
    );
    scene.check(1, LOW, true);
    scene.check(2, HIGH, false);
    assert_eq!(
        scene.check(1, LOW, true),
        [Event::Selected(path(1))],
        "a worse one when it stays with it"
    );
}

/// A NAT that gives the peer another port: the same candidate, so the same priority.
#[test]
fn a_new_port_of_a_nat_is_followed_at_once() {
    let mut scene = Scene::new(Some(credentials("theirs")));
    scene.check(1, HIGH, true);
    assert_eq!(
        scene.check(2, HIGH, true),
        [Event::Validated(path(2)), Event::Selected(path(2))]
    );
}

#[test]
fn a_peer_that_alternates_stays_on_the_better_path() {
    let mut scene = Scene::new(Some(credentials("theirs")));
    scene.check(1, HIGH, true);
    for _ in 0..20 {
        assert!(
            !scene
                .check(2, LOW, true)
                .contains(&Event::Selected(path(2)))
        );
        scene.check(1, HIGH, true);
    }
}

/// Rows 12 and 13 of the quirks: OBS states no candidates, so the first that is heard of it is a
/// check.
#[test]
fn a_peer_without_candidates_is_found_by_its_check() {
    let mut scene = Scene::new(Some(credentials("theirs")));
    assert_eq!(
        scene.check(1, HIGH, true),
        [Event::Validated(path(1)), Event::Selected(path(1))]
    );
}

#[test]
fn a_peer_that_never_comes_expires() {
    let mut scene = Scene::new(None);
    let (at, reason) = scene.agent.poll_timeout().unwrap();
    assert_eq!(at, scene.now + Duration::from_secs(30));
    assert_eq!(reason, "first ICE check");
    assert_eq!(scene.wait(29), []);
    assert_eq!(scene.wait(1), [Event::Expired]);
    assert_eq!(scene.wait(100), [], "once");
    assert_eq!(scene.agent.poll_timeout(), None);

    let key = Key::new(&credentials("ours").password);
    let late = scene.request("ours", "theirs").sign(&key).finish();
    assert_eq!(scene.send(1, &late), None);
}

#[test]
fn consent_is_of_the_selected_path() {
    let mut scene = Scene::new(Some(credentials("theirs")));
    scene.check(1, HIGH, true);
    for _ in 0..20 {
        scene.check(1, HIGH, false);
        assert_eq!(scene.wait(29), []);
    }
    scene.check(1, HIGH, false);
    scene.wait(15);
    scene.check(2, LOW, false);
    // What is not authenticated counts for nothing.
    scene.send(
        1,
        &Builder::new(Class::Indication, TransactionId([1; 12])).finish(),
    );
    assert_eq!(scene.wait(14), []);
    assert_eq!(scene.wait(1), [Event::Expired]);
}

#[test]
fn paths_are_bounded_and_the_oldest_goes() {
    let mut scene = Scene::new(Some(credentials("theirs")));
    scene.check(1, HIGH, true);
    for number in 2..=16 {
        scene.check(number, LOW, false);
    }
    scene.check(2, LOW, false);
    scene.now += Duration::from_millis(1);
    scene.check(2, LOW, false);
    assert_eq!(
        scene.check(17, LOW, false),
        [Event::Dropped(path(3)), Event::Validated(path(17))]
    );
    assert_eq!(scene.agent.paths().count(), 16);
    assert_eq!(scene.agent.statistics().paths_dropped, 1);
    assert!(scene.agent.is_valid(path(1)) && !scene.agent.is_valid(path(3)));
}

#[test]
fn a_silent_path_does_not_stay_valid() {
    let mut scene = Scene::new(Some(credentials("theirs")));
    scene.check(1, HIGH, true);
    scene.check(2, LOW, false);
    for _ in 0..4 {
        scene.wait(10);
        scene.check(1, HIGH, true);
    }
    assert_eq!(
        scene.check(3, LOW, false),
        [Event::Dropped(path(2)), Event::Validated(path(3))]
    );
}

#[test]
fn a_restart_keeps_the_old_path_until_the_new_one_is_nominated() {
    let mut scene = Scene::new(Some(credentials("theirs")));
    scene.check(1, HIGH, true);
    scene.agent.restart(credentials("ours2"), None);
    scene.agent.set_remote(credentials("theirs2"));
    assert_eq!(scene.agent.ufrags().collect::<Vec<_>>(), ["ours2", "ours"]);

    assert_eq!(scene.check(1, HIGH, true), [], "the old credentials work");
    assert_eq!(
        scene.check(2, HIGH, true),
        [Event::Validated(path(2))],
        "and nominate nothing"
    );
    let new = ("ours2", "theirs2");
    assert_eq!(
        scene.check_as(new, 3, LOW, false),
        [Event::Validated(path(3))]
    );
    assert_eq!(scene.agent.selected(), Some(path(1)));
    assert_eq!(
        scene.check_as(new, 3, LOW, true),
        [
            Event::Selected(path(3)),
            Event::Dropped(path(1)),
            Event::Dropped(path(2))
        ]
    );
    assert_eq!(scene.agent.ufrags().collect::<Vec<_>>(), ["ours2"]);
    let key = Key::new(&credentials("ours").password);
    let old = scene
        .request("ours", "theirs")
        .priority(1)
        .sign(&key)
        .finish();
    assert_eq!(scene.send(1, &old), None);
}

#[test]
fn a_restart_may_end_on_the_same_path() {
    let mut scene = Scene::new(Some(credentials("theirs")));
    scene.check(1, HIGH, true);
    scene.agent.restart(credentials("ours2"), None);
    assert_eq!(scene.check_as(("ours2", "theirs2"), 1, LOW, true), []);
    assert_eq!(scene.agent.ufrags().count(), 1);
    assert_eq!(scene.agent.selected(), Some(path(1)));
}

#[test]
fn a_restart_during_a_restart_keeps_what_works() {
    let mut scene = Scene::new(Some(credentials("theirs")));
    scene.check(1, HIGH, true);
    scene.agent.restart(credentials("ours2"), None);
    scene.agent.restart(credentials("ours3"), None);
    assert_eq!(scene.agent.ufrags().collect::<Vec<_>>(), ["ours3", "ours"]);
    scene.check(1, HIGH, true);
    assert_eq!(scene.check_as(("ours3", "x"), 1, HIGH, true), []);
    assert_eq!(scene.agent.ufrags().collect::<Vec<_>>(), ["ours3"]);
}

#[test]
fn the_fragment_of_a_check_is_found() {
    let mut scene = Scene::new(None);
    let request = scene.request("ours", "theirs").finish();
    assert_eq!(ufrag_of(&request), Some("ours"));
    let request = Builder::new(Class::Success, TransactionId([1; 12]))
        .username("ours", "theirs")
        .finish();
    assert_eq!(ufrag_of(&request), None);
}

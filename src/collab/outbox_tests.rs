//! Tests of what waits.

use super::*;
use crate::proto::pickle::{Dict, Limits, Value, decode, encode};
use crate::proto::replication::Kind;

fn of(subject: Subject, bytes: usize) -> Rc<Message> {
    Message::relayed(subject, &[Bytes::from(vec![1; bytes])])
}

fn uuid(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn a_newer_node_replaces_what_is_older_only_when_much_waits() {
    let mut outbox = Outbox::new();
    let big = 20 << 20;
    for _ in 0..3 {
        assert_eq!(outbox.push(&of(Subject::Node(uuid("a")), big), 0), Ok(0));
    }
    assert_eq!(outbox.push(&of(Subject::Commit(uuid("a")), 10), 0), Ok(0));
    assert_eq!(outbox.push(&of(Subject::Commit(uuid("b")), 10), 0), Ok(0));
    assert_eq!(outbox.push(&of(Subject::Node(uuid("a")), big), 0), Ok(4));
    assert_eq!(outbox.waiting.len(), 2);
    assert!(outbox.bytes() < big + 100);
}

#[test]
fn changes_without_a_newer_node_are_not_lost_but_refused() {
    let mut outbox = Outbox::new();
    let change = of(Subject::Commit(uuid("a")), 1 << 20);
    let pushed = (0..200).find(|_| outbox.push(&change, 0) == Err(Overfull));
    assert_eq!(pushed, Some(64));
}

/// A change of more than all that may wait made the server let everybody go who was to get it.
#[test]
fn one_message_may_be_bigger_than_what_may_wait() {
    let mut outbox = Outbox::new();
    let big = of(Subject::Commit(uuid("a")), OWN_BYTES_MAX + 1);
    assert_eq!(outbox.push(&of(Subject::None, 10), 0), Ok(0));
    assert_eq!(outbox.push(&big, 0), Ok(0));
    assert_eq!(outbox.push(&of(Subject::None, 10), 0), Ok(0));
    assert_eq!(outbox.push(&big, 0), Err(Overfull));
}

/// Nobody could fetch a scene with a node of more than what may wait.
#[test]
fn the_stored_copy_of_one_node_may_be_of_any_size() {
    let mut outbox = Outbox::new();
    let change = of(Subject::Commit(uuid("a")), 10 << 20);
    let chain = vec![change; 20];
    assert_eq!(outbox.push_stored(&chain, 0), Ok(0));
    // Whoever asks for more without having read that is one who reads too slowly.
    assert_eq!(outbox.push_stored(&chain, 0), Err(Overfull));
    let mut outbox = Outbox::new();
    assert_eq!(outbox.push_stored(&chain, 0), Ok(0));
    while !outbox.take(Wire::Tcp, 0).is_empty() {}
    assert_eq!((outbox.bytes(), outbox.stored), (0, 0));
    assert_eq!(outbox.push_stored(&chain, 0), Ok(0));
    outbox.forget(|it| *it == uuid("a"));
    assert_eq!(outbox.stored, 0);
}

/// Whoever had fetched a big node and always left one message waiting was allowed as much for ever.
#[test]
fn what_a_big_node_was_allowed_others_are_not() {
    let mut outbox = Outbox::new();
    let node = of(Subject::Node(uuid("a")), 200 << 20);
    assert_eq!(outbox.push_stored(&[node], 0), Ok(0));
    assert_eq!(outbox.push(&of(Subject::None, 10), 0), Ok(0));
    outbox.take(Wire::Tcp, 0);
    assert_eq!(outbox.waiting.len(), 1);
    let change = of(Subject::None, 1 << 20);
    let pushed = (0..200).find(|_| outbox.push(&change, 0) == Err(Overfull));
    assert_eq!(pushed, Some(64));
}

#[test]
fn only_the_newest_table_of_users_waits() {
    let mut outbox = Outbox::new();
    assert_eq!(outbox.push(&of(Subject::Users, 5), 0), Ok(0));
    assert_eq!(outbox.push(&of(Subject::None, 5), 0), Ok(0));
    assert_eq!(outbox.push(&of(Subject::Users, 6), 0), Ok(1));
    assert_eq!(outbox.waiting.len(), 2);
    assert_eq!(outbox.take(Wire::Tcp, 0).len(), 2);
    assert!(outbox.is_empty());
    assert_eq!(outbox.bytes(), 0);
    assert_eq!(outbox.push(&of(Subject::Users, 6), 0), Ok(0));
}

fn says(user: &'static str, key: &str, number: i64) -> Rc<Message> {
    let update: Dict = [(Value::from(key), number.into())].into_iter().collect();
    let parts = [
        Bytes::copy_from_slice(&Kind::UpdateUserMetadata.part()),
        uuid(user),
        encode(&update.clone().into()).into(),
    ];
    Message::metadata(&uuid(user), update, &parts)
}

/// The body of the only message of this connection.
fn body(outbox: &mut Outbox) -> Value {
    let bytes: Vec<u8> = outbox.take(Wire::Tcp, 0).concat();
    let start = bytes
        .windows(2)
        .rposition(|two| two == b"\x80\x04")
        .unwrap();
    decode(&Bytes::from(bytes).slice(start..), Limits::default()).unwrap()
}

#[test]
fn what_a_user_says_of_itself_is_one_message_while_it_waits() {
    let mut outbox = Outbox::new();
    assert_eq!(outbox.push(&says("bob", "frame", 1), 0), Ok(0));
    assert_eq!(outbox.push(&says("bob", "mode", 5), 0), Ok(1));
    assert_eq!(outbox.push(&says("bob", "frame", 2), 0), Ok(1));
    assert_eq!(outbox.waiting.len(), 1);
    let said = body(&mut outbox);
    let said = said.as_dict().unwrap();
    assert_eq!(said.of("frame"), Some(&Value::Int(2)));
    assert_eq!(said.of("mode"), Some(&Value::Int(5)));
    assert_eq!((outbox.bytes(), outbox.metadata.len()), (0, 0));
    assert_eq!(outbox.push(&says("bob", "frame", 3), 0), Ok(0));
}

#[test]
fn a_user_is_in_the_table_before_it_says_something() {
    let mut outbox = Outbox::new();
    assert_eq!(outbox.push(&of(Subject::Users, 5), 0), Ok(0));
    assert_eq!(outbox.push(&says("bob", "frame", 1), 0), Ok(0));
    assert_eq!(outbox.push(&says("carol", "frame", 1), 0), Ok(0));
    // The next table has what both have said.
    assert_eq!(outbox.push(&of(Subject::Users, 6), 0), Ok(3));
    assert_eq!(outbox.push(&says("bob", "frame", 2), 0), Ok(0));
    let subjects: Vec<_> = outbox.waiting.iter().map(|w| &w.message.subject).collect();
    assert_eq!(subjects, [&Subject::Users, &Subject::Metadata(uuid("bob"))]);
}

#[test]
fn what_is_not_logged_does_not_go_out() {
    let mut outbox = Outbox::new();
    for after in [0, 1, 2] {
        outbox.push(&of(Subject::None, 5), after).unwrap();
    }
    assert_eq!(outbox.take(Wire::Tcp, 0).len(), 1);
    assert!(!outbox.is_ready(0));
    assert!(outbox.take(Wire::Tcp, 0).is_empty());
    assert!(outbox.is_ready(1));
    assert_eq!(outbox.take(Wire::Tcp, 2).len(), 2);
    assert!(outbox.is_empty());
}

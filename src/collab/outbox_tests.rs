//! Tests of what waits.

use super::*;

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
        assert_eq!(outbox.push(&of(Subject::Node(uuid("a")), big)), Ok(0));
    }
    assert_eq!(outbox.push(&of(Subject::Commit(uuid("a")), 10)), Ok(0));
    assert_eq!(outbox.push(&of(Subject::Commit(uuid("b")), 10)), Ok(0));
    assert_eq!(outbox.push(&of(Subject::Node(uuid("a")), big)), Ok(4));
    assert_eq!(outbox.waiting.len(), 2);
    assert!(outbox.bytes() < big + 100);
}

#[test]
fn changes_without_a_newer_node_are_not_lost_but_refused() {
    let mut outbox = Outbox::new();
    let change = of(Subject::Commit(uuid("a")), 1 << 20);
    let pushed = (0..200).find(|_| outbox.push(&change) == Err(Overfull));
    assert_eq!(pushed, Some(63));
}

#[test]
fn only_the_newest_table_of_users_waits() {
    let mut outbox = Outbox::new();
    assert_eq!(outbox.push(&of(Subject::Users, 5)), Ok(0));
    assert_eq!(outbox.push(&of(Subject::None, 5)), Ok(0));
    assert_eq!(outbox.push(&of(Subject::Users, 6)), Ok(1));
    assert_eq!(outbox.waiting.len(), 2);
    assert_eq!(outbox.take(Wire::Tcp).len(), 2);
    assert!(outbox.is_empty());
    assert_eq!(outbox.bytes(), 0);
    assert_eq!(outbox.push(&of(Subject::Users, 6)), Ok(0));
}

#[test]
fn nothing_that_users_say_of_themselves_waits_before_a_table() {
    // A client that is told of a user before a table has named it takes that for a fault.
    let mut outbox = Outbox::new();
    let mut push = |subject, bytes| outbox.push(&of(subject, bytes));
    assert_eq!(push(Subject::Users, 5), Ok(0));
    assert_eq!(push(Subject::Metadata(uuid("bob")), 5), Ok(0));
    assert_eq!(push(Subject::None, 5), Ok(0));
    assert_eq!(push(Subject::Users, 6), Ok(2));
    assert_eq!(push(Subject::Metadata(uuid("bob")), 7), Ok(0));
    let subjects: Vec<&Subject> = outbox.waiting.iter().map(|m| &m.subject).collect();
    assert_eq!(
        subjects,
        [
            &Subject::None,
            &Subject::Users,
            &Subject::Metadata(uuid("bob"))
        ]
    );
}

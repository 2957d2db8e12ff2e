//! Clients of generation A: that all end with the same scene, although what they are told comes by
//! two connections and most of what they do has no echo.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "virtual time needs some instant to start from"
)]

mod collab_sim;

use std::time::{Duration, Instant};

use collab_sim::client::dict;
use collab_sim::four::{Four, done, hello, laid, node, plain, public, right, statistics, thing};
use collab_sim::stage::Stage;
use collab_sim::{CUBE, LAMP, MESH};
use ringside::proto::replication::{Kind, Port, Wire};

#[test]
fn whoever_fetches_learns_what_happens_to_what_is_on_its_way() {
    let (mut stage, alice, bob) = laid();
    let (carol, answer) = Four::come(&mut stage, "carol", None);
    assert_eq!(answer, "RUNNING");
    carol.ask(&mut stage);
    assert_eq!(carol.catalogue(&mut stage), [CUBE, LAMP]);
    // She has asked for the lamp and does not read: it is removed before she gets it.
    let link = stage.links.get_mut(&carol.links[1]).unwrap();
    link.is_reading = false;
    carol.get(&mut stage, LAMP);
    alice.say(&mut stage, Kind::Delete, &LAMP.into());
    carol.heard(&mut stage);
    stage.resume(carol.links[1]);
    assert_eq!(
        carol.nodes(&mut stage),
        [plain(LAMP, 2)],
        "she waits for it"
    );
    // The cube is locked while it is on its way, and changed.
    carol.get(&mut stage, CUBE);
    assert_eq!(carol.heard(&mut stage), [(Kind::Delete, LAMP.into())]);
    bob.say(&mut stage, Kind::Right, &right(CUBE, "bob"));
    bob.push(&mut stage, &plain(CUBE, 5));
    assert_eq!(carol.nodes(&mut stage), [plain(CUBE, 1)]);
    carol.heard(&mut stage);
    carol.say(&mut stage, Kind::Snapshot, &done());
    assert_eq!(carol.heard(&mut stage), [(Kind::Right, right(CUBE, "bob"))]);
    assert_eq!(carol.nodes(&mut stage), [node(CUBE, "bob", &thing(5))]);
}

#[test]
fn whoever_asks_for_what_is_gone_gets_another_catalogue() {
    let (mut stage, alice, bob) = laid();
    let (carol, _) = Four::come(&mut stage, "carol", None);
    carol.ask(&mut stage);
    carol.catalogue(&mut stage);
    carol.get(&mut stage, LAMP);
    carol.nodes(&mut stage);
    // The cube, which is the rest of her catalogue, is replaced by a mesh.
    bob.push(&mut stage, &plain(MESH, 3));
    alice.say(&mut stage, Kind::Delete, &CUBE.into());
    bob.push(&mut stage, &plain(LAMP, 4));
    carol.heard(&mut stage);
    carol.get(&mut stage, CUBE);
    // She has all, and gets what she can go on with as it is now.
    assert_eq!(carol.catalogue(&mut stage), [LAMP]);
    carol.get(&mut stage, LAMP);
    assert_eq!(carol.nodes(&mut stage), [plain(LAMP, 4)]);
    carol.say(&mut stage, Kind::Snapshot, &done());
    assert_eq!(carol.nodes(&mut stage), [plain(MESH, 3)]);

    // Nothing is left: who comes now waits for the first node.
    for uuid in [LAMP, MESH] {
        alice.say(&mut stage, Kind::Delete, &uuid.into());
    }
    let (dora, answer) = Four::come(&mut stage, "dora", None);
    assert_eq!(answer, "RUNNING");
    dora.ask(&mut stage);
    assert_eq!(dora.heard(&mut stage), []);
    bob.push(&mut stage, &plain(CUBE, 6));
    assert_eq!(dora.fetch(&mut stage), [plain(CUBE, 6)]);
}

#[test]
fn a_removal_is_told_again_to_whom_an_older_node_has_brought_it_back() {
    let (mut stage, alice, bob) = laid();
    alice.say(&mut stage, Kind::Delete, &CUBE.into());
    alice.say(&mut stage, Kind::Delete, &LAMP.into());
    assert_eq!(bob.heard(&mut stage).len(), 2);
    // Somebody has made it again meanwhile.
    bob.push(&mut stage, &plain(LAMP, 7));
    stage.advance(stage.now + Duration::from_secs(3));
    // She has removed it at once, but what bob had sent of it may have come to her after that.
    for client in [&alice, &bob] {
        assert_eq!(client.heard(&mut stage), [(Kind::Delete, CUBE.into())]);
    }
    // Of so many some are told early.
    for n in 0..4100 {
        let uuid = format!("bbbbbbbb-0000-4000-8000-{n:012}");
        bob.push(&mut stage, &plain(&uuid, n));
        bob.say(&mut stage, Kind::Delete, &uuid.as_str().into());
    }
    assert_eq!(alice.heard(&mut stage).len(), 4104);
    stage.advance(stage.now + Duration::from_secs(3));
    assert_eq!(alice.heard(&mut stage).len(), 4096);
}

/// A node that was on its way for longer than that came back and stayed.
#[test]
fn a_removal_is_told_again_once_what_was_on_its_way_has_come() {
    let (mut stage, alice, bob) = laid();
    let (carol, _) = Four::come(&mut stage, "carol", None);
    carol.ask(&mut stage);
    carol.fetch(&mut stage);
    // How many removals each of the three has heard of.
    let told = |stage: &mut Stage| [&alice, &bob, &carol].map(|client| client.heard(stage).len());
    // Bob's connection for nodes is slow, his other one is not.
    let link = bob.links[1];
    stage.links.get_mut(&link).unwrap().is_reading = false;
    alice.push(&mut stage, &plain(MESH, 1));
    alice.say(&mut stage, Kind::Delete, &MESH.into());
    assert_eq!(told(&mut stage), [0, 1, 1]);
    stage.advance(stage.now + Duration::from_secs(9));
    assert_eq!(told(&mut stage), [1, 0, 1]);
    // He connects again, and nothing is on its way to him any more.
    stage.resume(link);
    assert_eq!(bob.nodes(&mut stage), [plain(MESH, 1)]);
    stage.drop_link(link);
    let link = stage.connect(Port::Second, Wire::FourPorts);
    stage.input(link, &hello(Port::Second, b"bob"));
    stage.advance(stage.now + Duration::from_millis(1900));
    assert_eq!(told(&mut stage), [0; 3], "it may be on its way yet");
    stage.advance(stage.now + Duration::from_secs(3));
    assert_eq!(bob.heard(&mut stage), [(Kind::Delete, MESH.into())]);
    assert_eq!(told(&mut stage), [0; 3]);

    // Whoever is behind and leaves is waited for no longer.
    stage.links.get_mut(&link).unwrap().is_reading = false;
    alice.push(&mut stage, &plain(MESH, 2));
    alice.say(&mut stage, Kind::Delete, &MESH.into());
    for link in [alice.links, bob.links, carol.links].concat() {
        stage.drop_link(link);
    }
    stage.drop_link(link);
    stage.advance(stage.now + Duration::from_secs(3));
    assert_eq!(stage.session.deadline(), None);
}

#[test]
fn of_many_who_are_behind_some_are_told_of_a_removal_as_if_they_were_not() {
    let (mut stage, alice, _bob) = laid();
    let crowd: Vec<Four> = (0..66)
        .map(|n| {
            let (client, _) = Four::come(&mut stage, format!("user{n}").leak(), None);
            client.ask(&mut stage);
            client.fetch(&mut stage);
            client
        })
        .collect();
    for client in &crowd {
        let link = stage.links.get_mut(&client.links[1]).unwrap();
        link.is_reading = false;
    }
    alice.push(&mut stage, &plain(MESH, 1));
    alice.say(&mut stage, Kind::Delete, &MESH.into());
    let told = |stage: &mut Stage| {
        let heard = crowd.iter().map(|client| client.heard(stage).len());
        heard.sum::<usize>()
    };
    assert_eq!(told(&mut stage), 66);
    stage.advance(stage.now + Duration::from_secs(3));
    assert_eq!(told(&mut stage), 2);
    for client in &crowd {
        stage.resume(client.links[1]);
    }
    stage.advance(stage.now + Duration::from_secs(6));
    assert_eq!(told(&mut stage), 64);
}

/// Its client dies of a second catalogue, once it has all of the first.
#[test]
fn whoever_will_ask_for_the_scene_is_offered_none_before() {
    let (mut stage, alice, bob) = laid();
    for uuid in [CUBE, LAMP] {
        alice.say(&mut stage, Kind::Delete, &uuid.into());
    }
    let (carol, answer) = Four::come(&mut stage, "carol", None);
    assert_eq!(answer, "RUNNING");
    bob.push(&mut stage, &plain(MESH, 1));
    assert_eq!(carol.heard(&mut stage), []);
    carol.ask(&mut stage);
    assert_eq!(carol.fetch(&mut stage), [plain(MESH, 1)]);

    // She asks while nobody has a scene, and is offered the next one.
    let (dora, answer) = Four::come(&mut stage, "dora", Some("adm"));
    assert_eq!(answer, "RUNNING");
    alice.say(&mut stage, Kind::Delete, &MESH.into());
    for link in [alice.links, bob.links, carol.links].concat() {
        stage.drop_link(link);
    }
    stage.advance(stage.now + Duration::from_secs(1));
    let (erin, answer) = Four::come(&mut stage, "erin", Some("adm"));
    assert_eq!(answer, "LOBBY");
    dora.ask(&mut stage);
    dora.heard(&mut stage);
    erin.give(&mut stage, &[plain(CUBE, 3)]);
    assert_eq!(dora.fetch(&mut stage), [plain(CUBE, 3)]);
}

/// Users of this generation lock a node without waiting for an echo. What was told twice of it, or
/// what somebody else did at once, left each of them with another owner.
#[test]
fn all_agree_on_who_has_locked_a_node() {
    let (mut stage, alice, bob) = laid();
    // Both have locked it before they hear of each other.
    alice.say(&mut stage, Kind::Right, &right(CUBE, "alice"));
    bob.say(&mut stage, Kind::Right, &right(CUBE, "bob"));
    let of_bob = (Kind::Right, right(CUBE, "bob"));
    assert_eq!(alice.heard(&mut stage), std::slice::from_ref(&of_bob));
    let of_alice = (Kind::Right, right(CUBE, "alice"));
    assert_eq!(bob.heard(&mut stage), [of_alice, of_bob]);
    // He gives it back before he has heard of the echo, which would give it to him again.
    bob.say(&mut stage, Kind::Right, &right(CUBE, "COMMON"));
    let of_nobody = (Kind::Right, right(CUBE, "COMMON"));
    for client in [&alice, &bob] {
        assert_eq!(client.heard(&mut stage), std::slice::from_ref(&of_nobody));
    }
    // Alice locks it and gives it back; bob has locked it before he hears of either.
    for owner in ["alice", "COMMON"] {
        alice.say(&mut stage, Kind::Right, &right(CUBE, owner));
    }
    bob.say(&mut stage, Kind::Right, &right(CUBE, "bob"));
    for client in [&alice, &bob] {
        let last = client.heard(&mut stage).pop();
        assert_eq!(last, Some((Kind::Right, right(CUBE, "bob"))));
    }
    bob.say(&mut stage, Kind::Right, &right(CUBE, "COMMON"));
    for client in [&alice, &bob] {
        client.heard(&mut stage);
    }
    // What nobody else touches is not echoed, as by the original.
    stage.advance(stage.now + Duration::from_secs(6));
    bob.say(&mut stage, Kind::Right, &right(CUBE, "bob"));
    bob.say(&mut stage, Kind::Right, &right(CUBE, "COMMON"));
    assert_eq!(bob.heard(&mut stage), []);
    alice.heard(&mut stage);

    // Carol fetches what bob gives back meanwhile, and takes it.
    bob.say(&mut stage, Kind::Right, &right(LAMP, "bob"));
    let (carol, _) = Four::come(&mut stage, "carol", None);
    carol.ask(&mut stage);
    carol.catalogue(&mut stage);
    carol.get(&mut stage, LAMP);
    let given = node(LAMP, "bob", &thing(2));
    assert_eq!(carol.nodes(&mut stage), [given]);
    for link in bob.links {
        stage.drop_link(link);
    }
    stage.advance(stage.now + Duration::from_secs(1));
    assert_eq!(carol.heard(&mut stage), [], "she is told when she has it");
    carol.get(&mut stage, CUBE);
    let free = (Kind::Right, right(LAMP, "COMMON"));
    assert_eq!(carol.heard(&mut stage), [free]);
    carol.say(&mut stage, Kind::Snapshot, &done());
    carol.say(&mut stage, Kind::Right, &right(LAMP, "carol"));
    let hers = (Kind::Right, right(LAMP, "carol"));
    assert_eq!(
        carol.heard(&mut stage),
        [hers],
        "and not again whose it was"
    );
}

#[test]
fn an_empty_scene_that_nobody_has_is_begun_anew() {
    let (mut stage, alice, bob) = laid();
    for uuid in [CUBE, LAMP] {
        alice.say(&mut stage, Kind::Delete, &uuid.into());
    }
    for link in [alice.links, bob.links].concat() {
        stage.drop_link(link);
    }
    stage.advance(stage.now + Duration::from_secs(1));
    let (alice, answer) = Four::come(&mut stage, "alice", Some("adm"));
    assert_eq!(answer, "LOBBY");
    alice.give(&mut stage, &[plain(MESH, 1)]);
    assert_eq!(statistics(&stage).nodes, 1);
    assert_eq!(stage.kept.nodes(), 1);
}

/// Whoever waits in an empty scene could neither fetch nor bring one.
#[test]
fn an_empty_scene_in_which_somebody_waits_is_begun_anew() {
    let (mut stage, alice, bob) = laid();
    for uuid in [CUBE, LAMP] {
        alice.say(&mut stage, Kind::Delete, &uuid.into());
    }
    let (carol, answer) = Four::come(&mut stage, "carol", Some("adm"));
    assert_eq!(answer, "RUNNING");
    carol.ask(&mut stage);
    for link in [alice.links, bob.links].concat() {
        stage.drop_link(link);
    }
    stage.advance(stage.now + Duration::from_secs(1));
    carol.heard(&mut stage);
    carol.give(&mut stage, &[plain(MESH, 1)]);
    assert_eq!(statistics(&stage).nodes, 1);
}

/// Its client dies of a catalogue that comes before the answer to its own offer.
#[test]
fn who_offers_a_scene_a_moment_too_late_is_refused_before_it_is_told_of_the_other() {
    let mut stage = Stage::new(Instant::now(), public());
    let (alice, _) = Four::come(&mut stage, "alice", Some("adm"));
    let (bob, _) = Four::come(&mut stage, "bob", Some("adm"));
    alice.offer(&mut stage, &[plain(CUBE, 1)]);
    stage.advance(stage.now + Duration::from_millis(300));
    bob.offer(&mut stage, &[plain(MESH, 1)]);
    alice.set(&mut stage, &plain(CUBE, 1));
    let end = dict([("STATE", "END".into())]);
    alice.say(&mut stage, Kind::ServerSnapshot, &end);
    assert_eq!(statistics(&stage).nodes, 1);
    assert_eq!(bob.heard(&mut stage), []);
    stage.advance(stage.now + Duration::from_millis(300));
    let heard = bob.heard(&mut stage);
    let kinds: Vec<Kind> = heard.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [Kind::ServerSnapshot, Kind::Snapshot]);
    assert_eq!(
        heard[0].1.as_dict().unwrap().of("STATE"),
        Some(&"REJECTED".into())
    );
}

/// Who comes next may be of another generation, and waits for the answer to its login first.
#[test]
fn whoever_comes_when_all_have_left_is_not_told_of_removals_before() {
    let (mut stage, alice, bob) = laid();
    alice.say(&mut stage, Kind::Delete, &CUBE.into());
    for link in [alice.links, bob.links].concat() {
        stage.drop_link(link);
    }
    stage.advance(stage.now + Duration::from_secs(1));
    let (carol, answer) = Four::come(&mut stage, "carol", None);
    assert_eq!(answer, "RUNNING");
    stage.advance(stage.now + Duration::from_secs(3));
    assert_eq!(carol.heard(&mut stage), []);
}

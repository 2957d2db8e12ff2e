//! The scene, and the messages about its nodes, each with a mark.

use bytes::Bytes;
use ringside::base::prng::Prng;
use ringside::proto::pickle::{Dict, Pieces, Value, encode};
use ringside::proto::replication::{Generation, Kind, Part};

use super::options::{Options, What};
use crate::stamp;

/// What a node of generation A is.
const TYPE: &[u8] = b"Object";

/// What a text before a node's number in its uuid says: which run has made it.
const UUID_HEAD_BYTES: usize = "00000000-0000-4000-8000-".len();

/// A dict of text keys.
pub(super) fn dict<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let entries = entries.map(|(key, value)| (Value::from(key), value));
    Value::Dict(entries.into_iter().collect::<Dict>())
}

/// All nodes, and what senders send about them.
#[derive(Debug)]
pub(super) struct Scene {
    uuids: Vec<Bytes>,
    /// A node's data. The first piece has the mark, and the big one is shared.
    data: Vec<Bytes>,
    change: Bytes,
    no_dependencies: Bytes,
    /// What a node begins with.
    kind: Bytes,
}

impl Scene {
    pub(super) fn new(options: &Options) -> Self {
        let mut prng = Prng::new(options.seed);
        let run = prng.next_u64() as u32;
        let uuids = (0..options.nodes)
            .map(|node| format!("{run:08x}-0000-4000-8000-{node:012x}").into())
            .collect();
        let bare = encode(&object(Vec::new())).len();
        let mut noise = vec![0; (options.node_bytes as usize).saturating_sub(bare)];
        prng.fill(&mut noise);
        let floats = |value: f64| dict([("new_value", Value::Float(value))]);
        let change = dict([(
            "values_changed",
            dict([
                ("root['mark']", dict([("new_value", empty_mark())])),
                ("root['location'][0]", floats(0.25)),
                ("root['location'][1]", floats(0.5)),
                ("root['location'][2]", floats(0.75)),
            ]),
        )]);
        Self {
            uuids,
            data: Pieces::of(&object(noise)),
            change: encode(&change).into(),
            no_dependencies: encode(&Value::List(Vec::new())).into(),
            kind: match options.wire(0).generation() {
                Generation::A => Bytes::from_static(TYPE),
                Generation::Later => Bytes::copy_from_slice(&Kind::Node.part()),
            },
        }
    }

    /// Whether a message with this first part is one of those that senders send.
    pub(super) fn is_sent(&self, kind: &[u8]) -> bool {
        self.kind == kind || Kind::read(kind) == Some(Kind::Commit)
    }

    /// The uuids of all nodes.
    pub(super) fn uuids(&self) -> impl Iterator<Item = &Bytes> {
        self.uuids.iter()
    }

    /// Which node a message is about.
    pub(super) fn node_of(&self, uuid: &[u8]) -> Option<usize> {
        let digits = str::from_utf8(uuid.get(UUID_HEAD_BYTES..)?).ok()?;
        let node = usize::from_str_radix(digits, 16).ok()?;
        (self.uuids.get(node)? == uuid).then_some(node)
    }

    /// A message about a node that is sent at a time.
    pub(super) fn message(
        &self,
        what: What,
        node: usize,
        number: u32,
        nanoseconds: u64,
    ) -> Vec<Part> {
        let uuid = vec![self.uuids[node].clone()];
        let dependencies = vec![self.no_dependencies.clone()];
        match what {
            What::Node => {
                let owner = vec![Bytes::from_static(b"COMMON")];
                let mut data = self.data.clone();
                data[0] = marked(&data[0], number, nanoseconds);
                vec![vec![self.kind.clone()], uuid, owner, dependencies, data]
            }
            What::Change => {
                let change = vec![marked(&self.change, number, nanoseconds)];
                let kind = Bytes::copy_from_slice(&Kind::Commit.part());
                vec![vec![kind], uuid, dependencies, change]
            }
        }
    }
}

/// A node's data as the add-on has them, more or less.
fn object(noise: Vec<u8>) -> Value {
    let numbers =
        |count: u32| Value::List((0..count).map(|n| Value::Float(f64::from(n))).collect());
    dict([
        ("type_id", "Object".into()),
        ("name", "Cube.001".into()),
        ("mark", empty_mark()),
        ("location", numbers(3)),
        ("rotation_euler", numbers(3)),
        ("scale", numbers(3)),
        ("matrix", Value::List(vec![numbers(4); 4])),
        ("mesh", Value::Bytes(noise.into())),
    ])
}

/// What is put in a mark's place before there is one.
fn empty_mark() -> Value {
    let mut mark = vec![0; stamp::SIZE];
    stamp::write(&mut mark, 0, 0);
    Value::Bytes(mark.into())
}

fn marked(template: &Bytes, number: u32, nanoseconds: u64) -> Bytes {
    let mut bytes = template.to_vec();
    let place = bytes
        .windows(stamp::MAGIC.len())
        .position(|window| window == stamp::MAGIC);
    let place = place.expect("templates are made with a mark");
    stamp::write(&mut bytes[place..], number, nanoseconds);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use ringside::proto::pickle::{Limits, decode};

    use super::*;

    fn scene(arguments: &[&str]) -> Scene {
        Scene::new(&Options::of(arguments).unwrap())
    }

    #[test]
    fn messages_have_a_mark_and_the_size_that_was_asked_for() {
        let scene = scene(&["--node-bytes", "100000", "--nodes", "3"]);
        let message = scene.message(What::Node, 2, 77, 88);
        let parts: Vec<Bytes> = message.iter().map(|part| part.concat().into()).collect();
        assert_eq!(Kind::read(&parts[0]), Some(Kind::Node));
        assert_eq!(scene.node_of(&parts[1]), Some(2));
        assert_eq!(stamp::find(&parts[4]), Some((77, 88)));
        assert!((99_990..=100_010).contains(&parts[4].len()));
        let data = decode(&parts[4], Limits::default()).unwrap();
        let mesh = data.as_dict().and_then(|data| data.of("mesh"));
        assert!(mesh.and_then(Value::as_bytes).unwrap().len() > 99_000);

        let message = scene.message(What::Change, 0, 5, 6);
        let parts: Vec<Bytes> = message.iter().map(|part| part.concat().into()).collect();
        assert_eq!(Kind::read(&parts[0]), Some(Kind::Commit));
        assert_eq!(scene.node_of(&parts[1]), Some(0));
        assert_eq!(stamp::find(&parts[3]), Some((5, 6)));
        assert!(parts[3].len() < 300, "{}", parts[3].len());
    }

    #[test]
    fn a_node_of_generation_a_begins_with_its_type() {
        let scene = scene(&["--generation-a", "2"]);
        let message = scene.message(What::Node, 1, 5, 6);
        let kind = message[0].concat();
        assert_eq!(kind, TYPE);
        assert!(scene.is_sent(&kind) && !scene.is_sent(&Kind::Node.part()));
        assert_eq!(stamp::find(&message[4].concat()), Some((5, 6)));
    }

    #[test]
    fn nodes_of_another_run_are_not_ours() {
        let ours = scene(&["--seed", "1"]);
        let other = scene(&["--seed", "2"]);
        let uuid = other.uuids().next().unwrap();
        assert_eq!(ours.node_of(uuid), None);
        assert_eq!(ours.node_of(b"short"), None);
        assert_eq!(ours.node_of(&[0xff; 36]), None);
    }
}

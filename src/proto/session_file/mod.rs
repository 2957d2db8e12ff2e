//! The `.db` files in which Blender's multi-user add-on keeps a session: gzip around a pickle
//! `{'nodes': [[part, part, part, part, part]...], 'users': {...}}`. A node's parts are those of
//! its message: number, uuid, owner, pickled dependencies, pickled data.
//!
//! A file may come from anybody, and what is in it goes to clients: each pickle is scanned, and
//! nothing grows beyond the limits on the way.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::proto::pickle::{self, Dict, Kind, Pieces, Rules, Scanner, Value};

/// What a file may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of the pickle inside; a bomb inflates a thousandfold.
    pub inflated_bytes_max: u64,
    /// Nodes of a session.
    pub nodes_max: usize,
    /// Bytes of a uuid or an owner's name.
    pub name_bytes_max: usize,
    /// Of each pickle.
    pub pickle: pickle::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            inflated_bytes_max: 2 << 30,
            nodes_max: 1 << 20,
            name_bytes_max: 256,
            pickle: pickle::Limits::default(),
        }
    }
}

/// Why a file is no session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Error {
    /// Not gzip, or cut.
    #[error("the file is not gzip, or damaged")]
    Gzip,
    /// More inside than [`Limits::inflated_bytes_max`].
    #[error("the file inflates to too much")]
    TooLong,
    /// A pickle that does not pass.
    #[error(transparent)]
    Pickle(#[from] pickle::Error),
    /// A pickle, but not of nodes and users.
    #[error("the file holds no session")]
    Form,
    /// More than [`Limits::nodes_max`].
    #[error("the session has too many nodes")]
    TooManyNodes,
    /// A node that is not five parts of a Node message.
    #[error("node {0} of the session is not a node")]
    Node(usize),
}

/// One node: the parts of its message behind the number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Its identifier, as text.
    pub uuid: Bytes,
    /// Its owner's name.
    pub owner: Bytes,
    /// The pickled list of identifiers that it needs, or `None`.
    pub dependencies: Bytes,
    /// The pickled dict.
    pub data: Bytes,
}

/// A session as it is kept.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Session {
    /// In the order in which they are to be made.
    pub nodes: Vec<Node>,
    /// What was known about each user.
    pub users: Dict,
}

/// The first part of a Node message: the pickled number 2.
pub const NODE_NUMBER: &[u8; 5] = b"\x80\x04K\x02.";

impl Session {
    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
        for piece in Pieces::of(&self.to_value()) {
            zip.write_all(&piece).expect("memory takes all of it");
        }
        zip.finish().expect("memory takes all of it")
    }

    /// Reads a file.
    pub fn read(file: &[u8], limits: Limits) -> Result<Self, Error> {
        let mut inside = Vec::new();
        let mut unzip = GzDecoder::new(file).take(limits.inflated_bytes_max.saturating_add(1));
        unzip.read_to_end(&mut inside).map_err(|_| Error::Gzip)?;
        if inside.len() as u64 > limits.inflated_bytes_max {
            return Err(Error::TooLong);
        }
        let value = pickle::decode(&Bytes::from(inside), limits.pickle)?;
        let session = value.as_dict().ok_or(Error::Form)?;
        let Some(Value::List(items)) = session.of("nodes") else {
            return Err(Error::Form);
        };
        if items.len() > limits.nodes_max {
            return Err(Error::TooManyNodes);
        }
        let users = match session.of("users") {
            Some(Value::Dict(users)) => users.clone(),
            Some(Value::None) | None => Dict::new(),
            Some(_) => return Err(Error::Form),
        };
        let mut scanner = Scanner::new(limits.pickle);
        let read = |(n, item)| node(item, limits, &mut scanner).ok_or(Error::Node(n));
        let nodes = items.iter().enumerate().map(read);
        Ok(Self {
            nodes: nodes.collect::<Result<_, _>>()?,
            users,
        })
    }

    fn to_value(&self) -> Value {
        let node = |node: &Node| {
            let number = Bytes::from_static(NODE_NUMBER);
            let parts = [
                &number,
                &node.uuid,
                &node.owner,
                &node.dependencies,
                &node.data,
            ];
            Value::List(parts.map(|part| Value::Bytes(part.clone())).to_vec())
        };
        let mut session = Dict::new();
        session.set("nodes", Value::List(self.nodes.iter().map(node).collect()));
        session.set("users", self.users.clone());
        session.into()
    }
}

fn node(item: &Value, limits: Limits, scanner: &mut Scanner) -> Option<Node> {
    let [number, uuid, owner, dependencies, data] = item.as_items()? else {
        return None;
    };
    if number.as_bytes()?.as_ref() != NODE_NUMBER {
        return None;
    }
    let name = |value: &Value| {
        let bytes = value.as_bytes()?;
        let fits = bytes.len() <= limits.name_bytes_max && std::str::from_utf8(bytes).is_ok();
        fits.then(|| bytes.clone())
    };
    let mut pickled = |value: &Value, kinds: &[Kind]| {
        let bytes = value.as_bytes()?;
        let summary = scanner.scan(bytes, Rules::Plain).ok()?;
        kinds.contains(&summary.kind).then(|| bytes.clone())
    };
    Some(Node {
        uuid: name(uuid)?,
        owner: name(owner)?,
        dependencies: pickled(dependencies, &[Kind::List, Kind::None])?,
        data: pickled(data, &[Kind::Dict])?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let mut users = Dict::new();
        users.set("alice", Dict::new());
        let node = |n: u8| Node {
            uuid: format!("00000000-0000-4000-8000-0000000000{n:02}").into(),
            owner: Bytes::from_static(b"COMMON"),
            dependencies: Bytes::from_static(b"\x80\x04]."),
            data: Bytes::from_static(b"\x80\x04}\x8c\x07type_id\x8c\x06Objects."),
        };
        Session {
            nodes: (0..3).map(node).collect(),
            users,
        }
    }

    fn zipped(value: &Value) -> Vec<u8> {
        let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
        zip.write_all(&pickle::encode(value)).unwrap();
        zip.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        for session in [session(), Session::default()] {
            let read = Session::read(&session.to_bytes(), Limits::default());
            assert_eq!(read, Ok(session));
        }
    }

    #[test]
    fn every_cut_is_refused() {
        let bytes = session().to_bytes();
        for end in 0..bytes.len() {
            assert!(
                Session::read(&bytes[..end], Limits::default()).is_err(),
                "{end}"
            );
        }
    }

    #[test]
    fn what_could_run_is_refused_inside_too() {
        let mut hostile = session();
        hostile.nodes[1].data = Bytes::from_static(b"\x80\x04cos\nsystem\n\x8c\x02id\x85R.");
        let read = Session::read(&hostile.to_bytes(), Limits::default());
        assert_eq!(read, Err(Error::Node(1)));
        let mut list = session();
        list.nodes[2].data = Bytes::from_static(b"\x80\x04].");
        let read = Session::read(&list.to_bytes(), Limits::default());
        assert_eq!(read, Err(Error::Node(2)), "data is a dict");
    }

    #[test]
    fn other_forms_and_bombs_are_refused() {
        let read = |bytes: &[u8]| Session::read(bytes, Limits::default());
        assert_eq!(read(b"no gzip"), Err(Error::Gzip));
        assert_eq!(read(&zipped(&Value::None)), Err(Error::Form));
        assert_eq!(read(&zipped(&Dict::new().into())), Err(Error::Form));
        let small = Limits {
            inflated_bytes_max: 1000,
            nodes_max: 2,
            ..Limits::default()
        };
        let bomb = zipped(&Value::Bytes(vec![0; 1 << 20].into()));
        assert!(bomb.len() < 100_000, "{}", bomb.len());
        assert_eq!(Session::read(&bomb, small), Err(Error::TooLong));
        let many = session().to_bytes();
        assert_eq!(Session::read(&many, small), Err(Error::TooManyNodes));
    }
}

//! The `.db` files in which Blender's multi-user add-on keeps a session: gzip around a pickle
//! `{'nodes': [[part, part, part, part, part]...], 'users': {...}}`. A node's parts are those of
//! its message: number, uuid, owner, pickled dependencies, pickled data.
//!
//! A node of generation A has the name of its type instead of the number. Its own add-on writes
//! files of another form, which are not read here.
//!
//! The server adds `'ringside': {'changes': [[uuid, dependencies, delta]...], 'log': [scene, next]}`,
//! which the add-on passes over: changes that no whole node holds, and where the log goes on.
//!
//! A file may come from anybody, and what is in it goes to clients: each pickle is scanned, and
//! nothing grows beyond the limits on the way.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::proto::pickle::{self, Dict, Kind, Pieces, Rules, Scanner, Value};
use crate::proto::session_log::{Mark, SceneId};

/// What a file may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of the pickle inside; a bomb inflates a thousandfold.
    pub inflated_bytes_max: u64,
    /// Nodes of a session.
    pub nodes_max: usize,
    /// Changes behind the nodes.
    pub changes_max: usize,
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
            changes_max: 1 << 22,
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
    /// More than [`Limits::changes_max`].
    #[error("the session has too many changes")]
    TooManyChanges,
    /// A node that is not five parts of a Node message.
    #[error("node {0} of the session is not a node")]
    Node(usize),
    /// A change that is not three parts of a Commit message.
    #[error("change {0} of the session is not a change")]
    Change(usize),
}

/// One node: the parts of its message behind the number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// What generation A says in the number's place.
    pub type_name: Option<Bytes>,
    /// Its identifier, as text.
    pub uuid: Bytes,
    /// Its owner's name.
    pub owner: Bytes,
    /// The pickled list of identifiers that it needs, or `None`.
    pub dependencies: Bytes,
    /// The pickled dict.
    pub data: Bytes,
}

/// One change: the parts of its message behind the number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The node's identifier, as text.
    pub uuid: Bytes,
    /// The pickled list of identifiers that it needs from then on, or `None`.
    pub dependencies: Bytes,
    /// The pickled delta.
    pub delta: Bytes,
}

/// A session as it is kept.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Session {
    /// In the order in which they are to be made.
    pub nodes: Vec<Node>,
    /// What was known about each user.
    pub users: Dict,
    /// What has changed since, in order.
    pub changes: Vec<Change>,
    /// Where the log goes on, if there is one.
    pub log: Option<Mark>,
}

/// The first part of a Node message: the pickled number 2.
pub const NODE_NUMBER: &[u8; 5] = b"\x80\x04K\x02.";

/// Opcodes of what is written around the nodes.
const MARK: u8 = b'(';
const EMPTY_LIST: u8 = b']';
const APPENDS: u8 = b'e';
const SETITEMS: u8 = b'u';
const STOP: u8 = b'.';

/// Items of a list that are added at once: as many stand on a reader's stack.
const BATCH: usize = 1000;

/// Writes a file node by node, so that it never is in memory as a whole.
#[derive(Debug)]
pub struct Writer<W: Write> {
    zip: GzEncoder<W>,
    batched: usize,
}

impl<W: Write> Writer<W> {
    /// A file without nodes.
    pub fn new(out: W) -> io::Result<Self> {
        let mut zip = GzEncoder::new(out, Compression::fast());
        zip.write_all(b"\x80\x04}(")?;
        splice(&"nodes".into(), &mut zip)?;
        zip.write_all(&[EMPTY_LIST])?;
        Ok(Self { zip, batched: 0 })
    }

    /// One more node.
    pub fn node(&mut self, node: &Node) -> io::Result<()> {
        if self.batched == 0 {
            self.zip.write_all(&[MARK])?;
        }
        let number = Bytes::from_static(NODE_NUMBER);
        let parts = [
            node.type_name.as_ref().unwrap_or(&number),
            &node.uuid,
            &node.owner,
            &node.dependencies,
            &node.data,
        ];
        splice(&list(parts), &mut self.zip)?;
        self.batched += 1;
        if self.batched == BATCH {
            self.end_batch()?;
        }
        Ok(())
    }

    fn end_batch(&mut self) -> io::Result<()> {
        if self.batched > 0 {
            self.zip.write_all(&[APPENDS])?;
            self.batched = 0;
        }
        Ok(())
    }

    /// The rest of the file. Gives back what it was written to.
    pub fn finish(mut self, users: &Dict, changes: &[Change], log: Option<Mark>) -> io::Result<W> {
        self.end_batch()?;
        let zip = &mut self.zip;
        splice(&"users".into(), zip)?;
        splice(&users.clone().into(), zip)?;
        if log.is_some() || !changes.is_empty() {
            let change =
                |change: &Change| list([&change.uuid, &change.dependencies, &change.delta]);
            let mut own = Dict::new();
            own.set("changes", Value::List(changes.iter().map(change).collect()));
            if let Some(Mark { scene, next }) = log {
                let scene = Value::Bytes(Bytes::copy_from_slice(&scene.0));
                // Larger numbers would take the disk longer than it lives.
                let next = i64::try_from(next).unwrap_or(i64::MAX).into();
                own.set("log", Value::List(vec![scene, next]));
            }
            splice(&"ringside".into(), zip)?;
            splice(&own.into(), zip)?;
        }
        zip.write_all(&[SETITEMS, STOP])?;
        self.zip.finish()
    }
}

fn list<const N: usize>(parts: [&Bytes; N]) -> Value {
    Value::List(parts.map(|part| Value::Bytes(part.clone())).to_vec())
}

/// Writes a value inside of another pickle. Values are written without references, so that they mean
/// the same everywhere.
fn splice(value: &Value, out: &mut impl Write) -> io::Result<()> {
    let pieces = Pieces::of(value);
    let last = pieces.len().saturating_sub(1);
    for (n, piece) in pieces.iter().enumerate() {
        let from = if n == 0 { 2 } else { 0 };
        let to = piece.len() - usize::from(n == last);
        out.write_all(&piece[from..to])?;
    }
    Ok(())
}

impl Session {
    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let written = Writer::new(Vec::new()).and_then(|mut writer| {
            for node in &self.nodes {
                writer.node(node)?;
            }
            writer.finish(&self.users, &self.changes, self.log)
        });
        written.expect("memory takes all of it")
    }

    /// Reads a file.
    pub fn read(file: &[u8], limits: Limits) -> Result<Self, Error> {
        let mut inside = Vec::new();
        let mut unzip = GzDecoder::new(file).take(limits.inflated_bytes_max.saturating_add(1));
        unzip.read_to_end(&mut inside).map_err(|_| Error::Gzip)?;
        if inside.len() as u64 > limits.inflated_bytes_max {
            return Err(Error::TooLong);
        }
        // A node has more than eight bytes for each of its items.
        let items_max = u32::try_from(inside.len() / 8).unwrap_or(u32::MAX);
        let outer = pickle::Limits {
            expanded_max: limits.pickle.expanded_max.max(items_max),
            ..limits.pickle
        };
        let value = pickle::decode(&Bytes::from(inside), outer)?;
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
        let nodes = nodes.collect::<Result<_, _>>()?;
        let own = match session.of("ringside") {
            Some(Value::Dict(own)) => own,
            Some(_) => return Err(Error::Form),
            None => &Dict::new(),
        };
        let changes = match own.of("changes") {
            Some(changes) => changes.as_items().ok_or(Error::Form)?,
            None => &[],
        };
        if changes.len() > limits.changes_max {
            return Err(Error::TooManyChanges);
        }
        let read = |(n, item)| change(item, limits, &mut scanner).ok_or(Error::Change(n));
        let changes = changes.iter().enumerate().map(read);
        Ok(Self {
            nodes,
            users,
            changes: changes.collect::<Result<_, _>>()?,
            log: own.of("log").map(mark).transpose()?,
        })
    }
}

fn node(item: &Value, limits: Limits, scanner: &mut Scanner) -> Option<Node> {
    let [number, uuid, owner, dependencies, data] = item.as_items()? else {
        return None;
    };
    let type_name = match number.as_bytes()?.as_ref() == NODE_NUMBER {
        true => None,
        false => Some(name(number, limits).filter(|name| !name.is_empty())?),
    };
    Some(Node {
        type_name: type_name.clone(),
        uuid: name(uuid, limits)?,
        owner: name(owner, limits)?,
        dependencies: pickled(dependencies, &[Kind::List, Kind::None], scanner)?,
        data: match type_name {
            None => pickled(data, &[Kind::Dict], scanner)?,
            Some(_) => safe(data, scanner)?.1,
        },
    })
}

fn change(item: &Value, limits: Limits, scanner: &mut Scanner) -> Option<Change> {
    let [uuid, dependencies, delta] = item.as_items()? else {
        return None;
    };
    let delta = delta.as_bytes()?;
    scanner.scan(delta, Rules::Delta).ok()?;
    Some(Change {
        uuid: name(uuid, limits)?,
        dependencies: pickled(dependencies, &[Kind::List, Kind::None], scanner)?,
        delta: delta.clone(),
    })
}

fn mark(value: &Value) -> Result<Mark, Error> {
    let Some([scene, next]) = value.as_items() else {
        return Err(Error::Form);
    };
    let scene = scene.as_bytes().and_then(|id| id.as_ref().try_into().ok());
    let next = next.as_int().and_then(|next| u64::try_from(next).ok());
    match (scene, next) {
        (Some(scene), Some(next)) => Ok(Mark {
            scene: SceneId(scene),
            next,
        }),
        (None | Some(_), _) => Err(Error::Form),
    }
}

fn name(value: &Value, limits: Limits) -> Option<Bytes> {
    let bytes = value.as_bytes()?;
    let fits = bytes.len() <= limits.name_bytes_max && std::str::from_utf8(bytes).is_ok();
    fits.then(|| bytes.clone())
}

fn pickled(value: &Value, kinds: &[Kind], scanner: &mut Scanner) -> Option<Bytes> {
    let (kind, bytes) = safe(value, scanner)?;
    kinds.contains(&kind).then_some(bytes)
}

fn safe(value: &Value, scanner: &mut Scanner) -> Option<(Kind, Bytes)> {
    let bytes = value.as_bytes()?;
    let summary = scanner.scan(bytes, Rules::Plain).ok()?;
    Some((summary.kind, bytes.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let mut users = Dict::new();
        users.set("alice", Dict::new());
        let node = |n: u8| Node {
            type_name: (n == 2).then(|| Bytes::from_static(b"BlScene")),
            uuid: format!("00000000-0000-4000-8000-0000000000{n:02}").into(),
            owner: Bytes::from_static(b"COMMON"),
            dependencies: Bytes::from_static(b"\x80\x04]."),
            data: Bytes::from_static(b"\x80\x04}\x8c\x07type_id\x8c\x06Objects."),
        };
        Session {
            nodes: (0..3).map(node).collect(),
            users,
            changes: vec![Change {
                uuid: Bytes::from_static(b"00000000-0000-4000-8000-000000000001"),
                dependencies: Bytes::from_static(b"\x80\x04]."),
                delta: Bytes::from_static(b"\x80\x04}."),
            }],
            log: Some(Mark {
                scene: SceneId([9; 16]),
                next: 4,
            }),
        }
    }

    fn zipped(value: &Value) -> Vec<u8> {
        let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
        zip.write_all(&pickle::encode(value)).unwrap();
        zip.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let mut big = session();
        let one = big.nodes[0].clone();
        big.nodes.extend((0..BATCH * 2).map(|_| one.clone()));
        big.nodes[5].data = {
            let mut dict = Dict::new();
            dict.set("file", Value::Bytes(vec![1; 1 << 20].into()));
            pickle::encode(&dict.into()).into()
        };
        for session in [session(), big, Session::default()] {
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
        list.nodes[1].data = Bytes::from_static(b"\x80\x04].");
        let read = Session::read(&list.to_bytes(), Limits::default());
        assert_eq!(read, Err(Error::Node(1)), "data is a dict");
        let mut typed = session();
        typed.nodes[2].data = Bytes::from_static(b"\x80\x04].");
        let read = Session::read(&typed.to_bytes(), Limits::default());
        assert_eq!(read, Ok(typed.clone()), "the type knows what its data are");
        typed.nodes[2].data = Bytes::from_static(b"\x80\x04cos\nsystem\n\x8c\x02id\x85R.");
        let read = Session::read(&typed.to_bytes(), Limits::default());
        assert_eq!(read, Err(Error::Node(2)));
        let mut change = session();
        change.changes[0].delta = Bytes::from_static(b"\x80\x04cos\nsystem\n\x8c\x02id\x85R.");
        let read = Session::read(&change.to_bytes(), Limits::default());
        assert_eq!(read, Err(Error::Change(0)));
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

//! The scene as it is kept on a disk.

use std::io;
use std::io::Write;

use bytes::Bytes;

use super::fold::{Folded, fold_now};
use super::relay::{is_safe_commit, is_safe_node, is_uuid};
use super::repository::{COMMON, Repository};
use super::session::PICKLE;
use crate::proto::pickle::{Dict, Scanner};
use crate::proto::replication::Generation;
use crate::proto::session_file::{self, Change as FileChange, Error, Limits, NODE_NUMBER, Writer};
use crate::proto::session_log::{Mark, Record};

/// The first part of a change.
const COMMIT_NUMBER: &[u8; 5] = b"\x80\x04K\x01.";

/// What a file of a session may ask for: as much as a session may have.
const FILE: Limits = Limits {
    inflated_bytes_max: 20 << 30,
    nodes_max: super::repository::NODES_MAX,
    changes_max: 1 << 22,
    name_bytes_max: 256,
    pickle: PICKLE,
};

/// What has changed in a session, for whoever keeps a copy of its scene.
#[derive(Clone, Debug)]
pub enum Change {
    /// What is to be logged.
    Record(Record),
    /// A node and its changes became one; nothing else has changed by it.
    Folded(Folded),
    /// The whole scene, where its keeper has missed changes.
    Whole(Box<Scene>),
}

impl Change {
    /// Bytes that it keeps in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Record(record) => record.bytes() + 256,
            Self::Folded(folded) => folded.data.as_ref().map_or(0, |(data, _)| data.len()) + 256,
            Self::Whole(_) => 256,
        }
    }
}

/// A scene: its nodes are the session's own bytes, so that a copy costs little.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    pub(super) repository: Repository,
    /// Somebody has brought all of it.
    pub(super) is_complete: bool,
}

impl Scene {
    /// True if there is one.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Nodes in it.
    pub fn nodes(&self) -> usize {
        self.repository.len()
    }

    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        self.repository.bytes()
    }

    /// Follows a change of the session.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Record(record) => {
                self.record(record);
            }
            Change::Folded(folded) => {
                self.repository.fold(folded);
            }
            Change::Whole(scene) => self.clone_from(scene),
        }
    }

    /// Follows a record of a log. False if no client may be sent it, or there is no room.
    pub fn replay(&mut self, record: &Record, scanner: &mut Scanner) -> bool {
        let is_safe = match record {
            Record::Begin | Record::Complete | Record::Delete(_) => true,
            Record::Node(parts) => {
                self.takes(Generation::Later)
                    && is_safe_node(scanner, Generation::Later, &node_parts(parts))
            }
            Record::Typed(parts) => {
                self.takes(Generation::A) && is_safe_node(scanner, Generation::A, parts)
            }
            Record::Commit(parts) => is_safe_commit(scanner, &commit_parts(parts)),
        };
        is_safe && self.record(record)
    }

    /// All nodes of a scene are of one generation.
    fn takes(&self, generation: Generation) -> bool {
        let there = self.repository.generation();
        there.is_none_or(|there| there == generation)
    }

    fn record(&mut self, record: &Record) -> bool {
        match record {
            Record::Begin => *self = Self::default(),
            Record::Complete => self.is_complete = true,
            Record::Node(parts) => return self.repository.set(node_parts(parts)).is_ok(),
            Record::Typed(parts) => return self.repository.set(parts.clone()).is_ok(),
            Record::Commit(parts) => return self.repository.commit(commit_parts(parts)).is_ok(),
            Record::Delete(uuid) => {
                self.repository.delete(uuid);
            }
        }
        true
    }

    /// A scanner for [`Scene::replay`].
    pub fn scanner() -> Scanner {
        Scanner::new(PICKLE)
    }

    /// Reads a file.
    pub fn read(file: &[u8]) -> Result<(Self, Option<Mark>), Error> {
        let session = session_file::Session::read(file, FILE)?;
        // Views of the file's bytes would keep all of them as long as one node stays.
        let own = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        let mut scene = Self {
            is_complete: true,
            ..Self::default()
        };
        for (n, node) in session.nodes.iter().enumerate() {
            if !is_uuid(&node.uuid) {
                return Err(Error::Node(n));
            }
            let parts = [&node.uuid, &node.owner, &node.dependencies, &node.data].map(own);
            let [uuid, _, dependencies, data] = parts;
            // Whoever had locked it is not here.
            let owner = Bytes::from_static(COMMON);
            let (generation, record) = match &node.type_name {
                None => (
                    Generation::Later,
                    Record::Node([uuid, owner, dependencies, data]),
                ),
                Some(name) => (
                    Generation::A,
                    Record::Typed([own(name), uuid, owner, dependencies, data]),
                ),
            };
            if !scene.takes(generation) {
                return Err(Error::Node(n));
            }
            if !scene.record(&record) {
                return Err(Error::TooLong);
            }
        }
        for change in &session.changes {
            let parts = [&change.uuid, &change.dependencies, &change.delta].map(own);
            if !scene.record(&Record::Commit(parts)) {
                return Err(Error::TooLong);
            }
        }
        Ok((scene, session.log))
    }

    /// Writes a file: changes are folded into their nodes, and those that cannot be come behind.
    pub fn write<W: Write>(&self, out: W, log: Option<Mark>) -> io::Result<W> {
        let mut writer = Writer::new(out)?;
        let mut changes = Vec::new();
        for node in self.repository.nodes() {
            let [kind, uuid, _, dependencies, data] = &node.parts;
            let mut written = session_file::Node {
                type_name: (node.generation() == Generation::A).then(|| kind.clone()),
                uuid: uuid.clone(),
                owner: Bytes::from_static(COMMON),
                dependencies: dependencies.clone(),
                data: data.clone(),
            };
            let mut left = node.commits.as_slice();
            if let Some((data, count)) = fold_now(&node.parts, left) {
                let (folded, rest) = left.split_at(count);
                if let Some([_, _, dependencies, _]) = folded.last() {
                    written.dependencies = dependencies.clone();
                }
                written.data = data;
                left = rest;
            }
            writer.node(&written)?;
            changes.extend(
                left.iter()
                    .map(|[_, uuid, dependencies, delta]| FileChange {
                        uuid: uuid.clone(),
                        dependencies: dependencies.clone(),
                        delta: delta.clone(),
                    }),
            );
        }
        writer.finish(&Dict::new(), &changes, log)
    }
}

fn node_parts([uuid, owner, dependencies, data]: &[Bytes; 4]) -> [Bytes; 5] {
    let kind = Bytes::from_static(NODE_NUMBER);
    [
        kind,
        uuid.clone(),
        owner.clone(),
        dependencies.clone(),
        data.clone(),
    ]
}

fn commit_parts([uuid, dependencies, delta]: &[Bytes; 3]) -> [Bytes; 4] {
    let kind = Bytes::from_static(COMMIT_NUMBER);
    [kind, uuid.clone(), dependencies.clone(), delta.clone()]
}

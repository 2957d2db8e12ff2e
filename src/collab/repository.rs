//! The scene: of each node the last whole one, and what has changed since.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;

use super::contested::Said;
use super::fold::{self, FoldJob, Folded};
use crate::proto::pickle::{Limits, Value, decode, encode};
use crate::proto::replication::{Generation, Kind};

/// The owner of what nobody has locked.
pub(super) const COMMON: &[u8] = b"COMMON";

/// Nodes of a scene.
pub(super) const NODES_MAX: usize = 1 << 20;

/// Bytes of a scene.
const BYTES_MAX: usize = 16 << 30;

/// Bytes that keeping a node or a change costs besides its parts.
const COST: usize = 256;

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) owner: Bytes,
    /// The five parts of its last whole message; in generation A the type's name is in the place of
    /// the number.
    pub(super) parts: [Bytes; 5],
    /// The four parts of each change since.
    pub(super) commits: Vec<[Bytes; 4]>,
    /// Its place in the catalogue.
    number: u64,
    /// Another one with each whole message.
    version: u64,
    /// With its changes.
    bytes: usize,
    base_bytes: usize,
    /// Its changes are folded from here on: how many, and how many bytes.
    fold_above: (usize, usize),
    is_folding: bool,
    /// In generation A.
    said: Option<Box<Said>>,
}

/// There is no room for more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full;

/// All nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Repository {
    nodes: HashMap<Bytes, Node>,
    bytes: usize,
    locks: usize,
    next_number: u64,
    next_version: u64,
}

impl Repository {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn locks(&self) -> usize {
        self.locks
    }

    /// Whose nodes they are, if there are any: all of a scene are of one generation.
    pub(super) fn generation(&self) -> Option<Generation> {
        self.nodes.values().next().map(Node::generation)
    }

    pub(super) fn node(&self, uuid: &[u8]) -> Option<&Node> {
        self.nodes.get(uuid)
    }

    /// The uuids in the order of their first appearance.
    pub(super) fn catalogue(&self) -> Vec<Bytes> {
        let mut nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|(uuid, node)| (node.number, uuid))
            .collect();
        nodes.sort_unstable();
        nodes.into_iter().map(|(_, uuid)| uuid.clone()).collect()
    }

    /// The nodes in that order.
    pub(super) fn nodes(&self) -> Vec<&Node> {
        let mut nodes: Vec<&Node> = self.nodes.values().collect();
        nodes.sort_unstable_by_key(|node| node.number);
        nodes
    }

    /// Some of the nodes that somebody has locked, with the owner.
    pub(super) fn locked(&self, count: usize) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        let locked = self.nodes.iter().filter(|(_, node)| node.owner != COMMON);
        locked.map(|(uuid, node)| (uuid, &node.owner)).take(count)
    }

    /// The nodes that take the most room.
    pub(super) fn largest(&self, count: usize) -> Vec<(&Bytes, &Node)> {
        let mut nodes: Vec<(&Bytes, &Node)> = self.nodes.iter().collect();
        let order = |(uuid, node): &(&Bytes, &Node)| (Reverse(node.bytes), (*uuid).clone());
        if nodes.len() > count {
            nodes.select_nth_unstable_by_key(count, |(_, node)| Reverse(node.bytes));
            nodes.truncate(count);
        }
        nodes.sort_unstable_by_key(order);
        nodes
    }

    /// Stores a whole node; one that is there keeps its owner.
    pub(super) fn set(&mut self, parts: [Bytes; 5]) -> Result<(), Full> {
        let bytes = parts.iter().map(Bytes::len).sum::<usize>() + COST;
        let uuid = parts[1].clone();
        let old = self.nodes.get(&uuid).map(|node| {
            let said = node.said.clone();
            (node.bytes, node.owner.clone(), node.number, said)
        });
        let before = old.as_ref().map_or(0, |(bytes, ..)| *bytes);
        if self.bytes - before + bytes > BYTES_MAX
            || (old.is_none() && self.nodes.len() >= NODES_MAX)
        {
            return Err(Full);
        }
        self.bytes = self.bytes - before + bytes;
        let (owner, number, said) = match old {
            Some((_, owner, number, said)) => (owner, number, said),
            None => {
                self.next_number += 1;
                let owner = parts[2].clone();
                self.locks += usize::from(owner != COMMON);
                (owner, self.next_number, None)
            }
        };
        self.next_version += 1;
        self.nodes.insert(
            uuid,
            Node {
                owner,
                parts,
                commits: Vec::new(),
                number,
                version: self.next_version,
                bytes,
                base_bytes: bytes,
                fold_above: fold::above(bytes),
                is_folding: false,
                said,
            },
        );
        Ok(())
    }

    /// Stores a change. False if there is no such node.
    pub(super) fn commit(&mut self, parts: [Bytes; 4]) -> Result<bool, Full> {
        let Some(node) = self.nodes.get_mut(&parts[1]) else {
            return Ok(false);
        };
        let bytes = parts.iter().map(Bytes::len).sum::<usize>() + COST;
        if self.bytes + bytes > BYTES_MAX {
            return Err(Full);
        }
        self.bytes += bytes;
        node.bytes += bytes;
        node.commits.push(parts);
        Ok(true)
    }

    /// The changes of a node, if they are many enough to be folded.
    pub(super) fn fold_job(&mut self, uuid: &[u8]) -> Option<FoldJob> {
        let node = self.nodes.get_mut(uuid)?;
        let (count, bytes) = node.fold_above;
        let is_long = node.commits.len() > count || node.bytes - node.base_bytes > bytes;
        if node.is_folding || !is_long {
            return None;
        }
        let job = FoldJob::new(node.version, &node.parts, &node.commits);
        node.is_folding = job.is_some();
        if job.is_none() {
            node.wait_to_fold();
        }
        job
    }

    /// A job was not taken: it is tried again with a later change.
    pub(super) fn unfolded(&mut self, job: &FoldJob) {
        if let Some(node) = self.nodes.get_mut(&job.uuid)
            && node.version == job.version
        {
            node.is_folding = false;
        }
    }

    /// Puts a folded node in the place of its first changes. False if it is another one meanwhile,
    /// or nothing could be folded.
    pub(super) fn fold(&mut self, folded: &Folded) -> bool {
        let Some(node) = self.nodes.get_mut(&folded.uuid) else {
            return false;
        };
        if node.version != folded.version {
            return false;
        }
        node.is_folding = false;
        let Some((data, count)) = &folded.data else {
            node.wait_to_fold();
            return false;
        };
        // Nothing but a whole message takes changes away, and that is another version.
        assert!((1..=node.commits.len()).contains(count));
        let mut dependencies = Bytes::new();
        for commit in node.commits.drain(..count) {
            node.bytes -= commit.iter().map(Bytes::len).sum::<usize>() + COST;
            self.bytes -= commit.iter().map(Bytes::len).sum::<usize>() + COST;
            [_, _, dependencies, _] = commit;
        }
        self.bytes -= node.base_bytes;
        node.bytes -= node.base_bytes;
        node.parts[3] = dependencies;
        node.parts[4] = data.clone();
        node.base_bytes = node.parts.iter().map(Bytes::len).sum::<usize>() + COST;
        self.bytes += node.base_bytes;
        node.bytes += node.base_bytes;
        node.fold_above = fold::above(node.base_bytes);
        if !node.commits.is_empty() && folded.is_stuck {
            node.wait_to_fold();
        }
        true
    }

    /// Gives a node to somebody. False if there is no such node.
    pub(super) fn own(&mut self, uuid: &[u8], owner: &Bytes) -> bool {
        let Some(node) = self.nodes.get_mut(uuid) else {
            return false;
        };
        self.locks -= usize::from(node.owner != COMMON);
        self.locks += usize::from(owner != COMMON);
        node.owner = owner.clone();
        true
    }

    /// Somebody says whose a node is, before it is. Whether that is echoed.
    pub(super) fn say(&mut self, now: Instant, by: &Bytes, uuid: &[u8]) -> bool {
        let Some(node) = self.nodes.get_mut(uuid) else {
            return false;
        };
        let said = Said::after(node.said.as_deref(), now, by, &node.owner);
        node.said.insert(Box::new(said)).is_echoed
    }

    /// What somebody owns.
    pub(super) fn owned(&self, owner: &[u8]) -> Vec<Bytes> {
        let mut owned: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.owner == owner)
            .map(|(uuid, node)| (node.number, uuid.clone()))
            .collect();
        owned.sort_unstable();
        owned.into_iter().map(|(_, uuid)| uuid).collect()
    }

    /// Removes a node, and its name from what depends on it. False if there is no such node.
    pub(super) fn delete(&mut self, uuid: &[u8]) -> bool {
        let Some(node) = self.nodes.remove(uuid) else {
            return false;
        };
        self.bytes -= node.bytes;
        self.locks -= usize::from(node.owner != COMMON);
        for node in self.nodes.values_mut() {
            let (mut before, mut after) = without(&mut node.parts[3], uuid);
            node.base_bytes = node.base_bytes - before + after;
            for commit in &mut node.commits {
                let (old, new) = without(&mut commit[2], uuid);
                before += old;
                after += new;
            }
            node.bytes = node.bytes - before + after;
            self.bytes = self.bytes - before + after;
        }
        true
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Node {
    pub(super) fn generation(&self) -> Generation {
        match Kind::read(&self.parts[0]) {
            Some(_) => Generation::Later,
            // A number is no UTF-8, and a name is.
            None => Generation::A,
        }
    }

    /// Bytes that it takes, with its changes.
    pub(super) fn size(&self) -> usize {
        self.bytes
    }

    /// What cannot be folded stays: it is tried again when there is twice as much.
    fn wait_to_fold(&mut self) {
        let (count, bytes) = self.fold_above;
        let chain = self.bytes - self.base_bytes;
        self.fold_above = (
            count.max(self.commits.len().saturating_mul(2)),
            bytes.max(chain.saturating_mul(2)),
        );
    }
}

/// Takes a uuid out of a pickled list. The list's bytes before and after.
fn without(list: &mut Bytes, uuid: &[u8]) -> (usize, usize) {
    let before = list.len();
    if holds(list, uuid)
        && let Ok(Value::List(items)) = decode(list, Limits::default())
    {
        let is_other = |item: &Value| item.as_text().is_none_or(|text| text.as_bytes() != uuid);
        let left: Vec<Value> = items.into_iter().filter(is_other).collect();
        *list = encode(&Value::List(left)).into();
    }
    (before, list.len())
}

/// Whether the name is somewhere in a list.
fn holds(list: &[u8], uuid: &[u8]) -> bool {
    // Every list of the scene is looked through for each node that goes, so that it matters that
    // most places differ in their first byte already.
    uuid.split_first().is_some_and(|(first, rest)| {
        let mut windows = list.windows(uuid.len());
        windows.any(|window| window[0] == *first && window[1..] == *rest)
    })
}

//! Messages on their way to clients.

use std::cell::OnceCell;
use std::rc::Rc;

use bytes::Bytes;

use crate::proto::pickle::{Dict, Pieces, Value};
use crate::proto::replication::{Kind, Part, Wire, bytes, frame};

/// What a newer message replaces in a queue that is too long.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Subject {
    /// A whole node.
    Node(Bytes),
    /// A change of a node.
    Commit(Bytes),
    /// The table of users.
    Users,
    /// What a user says of itself.
    Metadata(Bytes),
    /// Nothing replaces it.
    None,
}

/// A message, framed once for each wire however many get it.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) subject: Subject,
    /// What a user says of itself.
    update: Dict,
    parts: Vec<Part>,
    count: usize,
    zmtp: OnceCell<Vec<Bytes>>,
    tcp: OnceCell<Vec<Bytes>>,
    four_ports: OnceCell<Vec<Bytes>>,
}

impl Message {
    pub(super) fn new(subject: Subject, parts: Vec<Part>) -> Rc<Self> {
        Self::with_update(subject, parts, Dict::new())
    }

    fn with_update(subject: Subject, parts: Vec<Part>, update: Dict) -> Rc<Self> {
        let count = parts.iter().map(|part| bytes(part) + 8).sum();
        Rc::new(Self {
            subject,
            update,
            parts,
            count,
            zmtp: OnceCell::new(),
            tcp: OnceCell::new(),
            four_ports: OnceCell::new(),
        })
    }

    /// What a client sent, as it sent it.
    pub(super) fn relayed(subject: Subject, parts: &[Bytes]) -> Rc<Self> {
        let parts = parts.iter().map(|part| vec![part.clone()]).collect();
        Self::new(subject, parts)
    }

    /// What a user says of itself, as it said it.
    pub(super) fn metadata(user: &Bytes, update: Dict, parts: &[Bytes]) -> Rc<Self> {
        let parts = parts.iter().map(|part| vec![part.clone()]).collect();
        Self::with_update(Subject::Metadata(user.clone()), parts, update)
    }

    /// What a user has said of itself in two messages, the older one first.
    pub(super) fn merged(older: &Self, newer: &Self) -> Rc<Self> {
        let (Subject::Metadata(user), Some([kind, ..])) = (&newer.subject, newer.parts.get(..1))
        else {
            unreachable!("only what users say of themselves is merged");
        };
        let mut update = older.update.clone();
        for (key, value) in &newer.update {
            update.set(key.clone(), value.clone());
        }
        let body = Pieces::of(&update.clone().into());
        let parts = vec![kind.clone(), vec![user.clone()], body];
        Self::with_update(newer.subject.clone(), parts, update)
    }

    /// What the server itself says.
    pub(super) fn of_server(kind: Kind, subject: Subject, value: &Value) -> Rc<Self> {
        let parts = vec![
            vec![Bytes::copy_from_slice(&kind.part())],
            vec![Bytes::from_static(b"server")],
            Pieces::of(value),
        ];
        Self::new(subject, parts)
    }

    /// A whole node, with another owner.
    pub(super) fn with_owner(&self, owner: &Bytes) -> Rc<Self> {
        let mut parts = self.parts.clone();
        parts[2] = vec![owner.clone()];
        Self::new(self.subject.clone(), parts)
    }

    pub(super) fn bytes(&self) -> usize {
        self.count
    }

    pub(super) fn framed(&self, wire: Wire) -> &[Bytes] {
        let cell = match wire {
            Wire::Zmtp => &self.zmtp,
            Wire::Tcp => &self.tcp,
            Wire::FourPorts => &self.four_ports,
        };
        cell.get_or_init(|| frame(wire, &self.parts))
    }
}

/// A dict of text keys.
pub(super) fn dict<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let entries = entries.map(|(key, value)| (Value::from(key), value));
    Value::Dict(entries.into_iter().collect::<Dict>())
}

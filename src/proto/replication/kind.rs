//! The number that a message begins with.

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// A change of a node.
    Commit,
    /// A whole node.
    Node,
    /// A node goes.
    Delete,
    /// Nodes change their owner.
    Right,
    /// What the server has, to one who comes late.
    Snapshot,
    /// What the first client has, to the server.
    ServerSnapshot,
    /// A login.
    Auth,
    /// The server lets a client go.
    Disconnect,
    /// An administrator sends somebody away.
    Kick,
    /// All users.
    UpdateClientsState,
    /// What a user says of itself.
    UpdateUserMetadata,
    /// What the server is, asked before a login.
    RequestServerInfo,
}

const NUMBERS: &[(Kind, u8)] = &[
    (Kind::Commit, 1),
    (Kind::Node, 2),
    (Kind::Delete, 4),
    (Kind::Right, 5),
    (Kind::Snapshot, 7),
    (Kind::ServerSnapshot, 8),
    (Kind::Auth, 9),
    (Kind::Disconnect, 10),
    (Kind::Kick, 11),
    (Kind::UpdateClientsState, 12),
    (Kind::UpdateUserMetadata, 13),
    (Kind::RequestServerInfo, 14),
];

/// What generation A says instead of a number.
const NAMES: &[(Kind, &str)] = &[
    (Kind::Delete, "RepDeleteCommand"),
    (Kind::Right, "RepRightCommand"),
    (Kind::Snapshot, "RepSnapshotCommand"),
    (Kind::ServerSnapshot, "RepServerSnapshotCommand"),
    (Kind::Auth, "RepAuthCommand"),
    (Kind::Disconnect, "RepDisconnectCommand"),
    (Kind::Kick, "RepKickCommand"),
    (Kind::UpdateClientsState, "RepUpdateClientsState"),
    (Kind::UpdateUserMetadata, "RepUpdateUserMetadata"),
];

impl Kind {
    /// Reads a name of generation A.
    pub fn named(name: &[u8]) -> Option<Self> {
        let found = NAMES.iter().find(|(_, wanted)| wanted.as_bytes() == name);
        found.map(|(kind, _)| *kind)
    }

    /// The name in generation A, if it has one.
    pub fn name(self) -> Option<&'static str> {
        let found = NAMES.iter().find(|(kind, _)| *kind == self);
        found.map(|(_, name)| *name)
    }

    /// Reads the first part: the pickle of a small number, which all clients write alike.
    pub fn read(part: &[u8]) -> Option<Self> {
        let &[0x80, 4, b'K', number, b'.'] = part else {
            return None;
        };
        let found = NUMBERS.iter().find(|(_, wanted)| *wanted == number);
        found.map(|(kind, _)| *kind)
    }

    /// The first part.
    pub fn part(self) -> [u8; 5] {
        let number = NUMBERS
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or(0, |(_, number)| *number);
        [0x80, 4, b'K', number, b'.']
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_as_it_is_written() {
        for (kind, number) in NUMBERS {
            assert_eq!(kind.part(), [0x80, 4, 0x4b, *number, 0x2e]);
            assert_eq!(Kind::read(&kind.part()), Some(*kind));
        }
        for (kind, name) in NAMES {
            assert_eq!(kind.name(), Some(*name));
            assert_eq!(Kind::named(name.as_bytes()), Some(*kind));
        }
        assert_eq!(Kind::named(b"RepConfigCommand"), None, "nobody sends it");
        assert_eq!(Kind::RequestServerInfo.name(), None);
        assert_eq!(Kind::read(b"\x80\x04K\x03."), None);
        assert_eq!(Kind::read(b"\x80\x04K\x02"), None);
    }
}

//! Messages of generation A, and how they are seen as those of the later ones.
//!
//! ```text
//! command   owner | name | pickle
//! node      sender's identity | uuid | owner | type | pickled 1 | pickled dependencies
//!           data
//! ```
//!
//! A node comes as two messages by a connection of its own, whose socket has no identity, and goes as
//! two by another one. Here a command has its number, owner and pickle, and a node its type, uuid,
//! owner, dependencies and data.

use bytes::Bytes;

use super::{Kind, Part};

/// How many messages the data come in: clients begin another one after 2.5 GB, which is more than a
/// message may have here.
const COUNT: &[u8] = b"\x80\x04K\x01.";

/// Bytes of the first of a node's messages, which is kept until the second comes.
const HEAD_BYTES_MAX: usize = 4 << 20;

/// Who sends nodes, in the server's own messages.
pub(super) const SERVER: &[u8] = b"SERVER_PUSH";

/// The parts of a command with its number first. `None` if they are no command.
pub fn command(parts: &[Bytes]) -> Option<[Bytes; 3]> {
    let [owner, name, body] = parts else {
        return None;
    };
    let number = Bytes::copy_from_slice(&Kind::named(name)?.part());
    Some([number, owner.clone(), body.clone()])
}

/// What a message is on the wire: a node is two, and says who sends it.
pub(super) fn messages(sender: Bytes, parts: &[Part]) -> Vec<Vec<Part>> {
    let fixed = |bytes: &'static [u8]| vec![Bytes::from_static(bytes)];
    match parts {
        [kind, uuid, owner, dependencies, data] => {
            let head = [uuid, owner, kind].map(Part::clone);
            let [uuid, owner, kind] = head;
            let sender = vec![sender];
            let count = fixed(COUNT);
            vec![
                vec![sender, uuid, owner, kind, count, dependencies.clone()],
                vec![data.clone()],
            ]
        }
        [number, owner, body] => {
            let kind = Kind::read(&number.concat());
            let name = kind.and_then(Kind::name).unwrap_or_default();
            vec![vec![owner.clone(), fixed(name.as_bytes()), body.clone()]]
        }
        _ => vec![parts.to_vec()],
    }
}

/// Puts nodes together from the two messages that each comes in.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    head: Option<[Bytes; 4]>,
}

/// A message that is no part of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unpaired;

/// Whose node begins, or the parts of a node that is whole.
type Taken = (Option<Bytes>, Option<Vec<Bytes>>);

impl Pairs {
    /// The next message.
    pub(super) fn take(&mut self, parts: Vec<Bytes>) -> Result<Taken, Unpaired> {
        if let Some([kind, uuid, owner, dependencies]) = self.head.take() {
            let [data] = <[Bytes; 1]>::try_from(parts).map_err(|_| Unpaired)?;
            return Ok((None, Some(vec![kind, uuid, owner, dependencies, data])));
        }
        let [sender, uuid, owner, kind, count, dependencies] =
            <[Bytes; 6]>::try_from(parts).map_err(|_| Unpaired)?;
        let head = [kind, uuid, owner, dependencies];
        if count != COUNT || super::bytes(&head) > HEAD_BYTES_MAX {
            return Err(Unpaired);
        }
        self.head = Some(head);
        Ok((Some(sender), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::replication::{Wire, frame};

    fn part(bytes: &'static [u8]) -> Bytes {
        Bytes::from_static(bytes)
    }

    fn head() -> Vec<Bytes> {
        let head: [&[u8]; 6] = [b"me", b"cube", b"COMMON", b"Thing", COUNT, b"]"];
        head.map(Bytes::from_static).to_vec()
    }

    #[test]
    fn a_node_comes_in_two_messages_and_goes_in_two() {
        let mut pairs = Pairs::default();
        assert_eq!(pairs.take(head()), Ok((Some(part(b"me")), None)));
        let (_, whole) = pairs.take(vec![part(b"data")]).unwrap();
        let whole = whole.unwrap();
        let wanted: [&[u8]; 5] = [b"Thing", b"cube", b"COMMON", b"]", b"data"];
        assert_eq!(whole, wanted);
        let parts: Vec<Part> = whole.into_iter().map(|part| vec![part]).collect();
        let sent = frame(Wire::FourPorts, &parts).concat();
        let wanted = b"\x01\x0bSERVER_PUSH\x01\x04cube\x01\x06COMMON\x01\x05Thing\x01\x05\x80\x04K\x01.\x00\x01]\x00\x04data";
        assert_eq!(sent, wanted);
    }

    #[test]
    fn what_is_not_a_node_is_refused_and_forgotten() {
        let mut long = head();
        long[5] = vec![0; HEAD_BYTES_MAX].into();
        let mut many = head();
        many[4] = part(b"\x80\x04K\x02.");
        for wrong in [
            long,
            many,
            head()[..5].to_vec(),
            vec![part(b"data")],
            vec![],
        ] {
            assert_eq!(Pairs::default().take(wrong), Err(Unpaired));
        }
        let mut pairs = Pairs::default();
        pairs.take(head()).unwrap();
        assert_eq!(pairs.take(head()), Err(Unpaired));
        assert!(pairs.head.is_none());
    }

    #[test]
    fn a_command_changes_its_order_and_its_number() {
        let named = [b"bob".as_slice(), b"RepKickCommand", b"N."].map(Bytes::from_static);
        let numbered = command(&named).unwrap();
        assert_eq!(Kind::read(&numbered[0]), Some(Kind::Kick));
        assert_eq!(numbered[1..], [part(b"bob"), part(b"N.")]);
        let parts = numbered.map(|part| vec![part]);
        let said = messages(part(b""), &parts);
        assert_eq!(said, [named.map(|part| vec![part]).to_vec()]);
        assert_eq!(
            command(&[part(b"bob"), part(b"RepConfigCommand"), part(b"N.")]),
            None
        );
        let ping = [vec![part(b"PING")]];
        assert_eq!(messages(part(b""), &ping), [ping]);
    }
}

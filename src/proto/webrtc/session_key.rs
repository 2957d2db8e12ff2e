//! Names of WebRTC sessions, which say where a session was made.
//!
//! A datagram may arrive on any shard. The name in its first check (RFC 8445 section 7.1.2) leads
//! any shard to the one that made the session, without a table that shards share, and to the door
//! there.

use crate::base::ids::ShardId;

/// Five bits a character; no character that looks like another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Characters of a key: 1 bit of the tenant, 9 of the shard, 40 random ones.
const KEY_CHARACTERS: usize = 10;
const RANDOM_BITS: u32 = 40;
const SHARD_BITS: u32 = 9;

/// Random characters behind the key in a user name fragment, new at an ICE restart. RFC 8445
/// section 5.3 asks for 24 bits; the key has 40 of them already.
const GENERATION_CHARACTERS: usize = 4;

/// 160 bits; RFC 8445 section 5.3 asks for 128.
const PASSWORD_CHARACTERS: usize = 32;

/// 120 bits that only the session's maker knows, behind the key in its address.
const SECRET_CHARACTERS: usize = 24;

/// Random bytes from outside, of which each is used once.
#[derive(Debug)]
pub struct Entropy<'a>(pub &'a [u8]);

/// The door that a session is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tenant {
    /// Live streams.
    Streams,
    /// Spaces.
    Spaces,
}

/// Random bytes that one session's names take.
pub const ENTROPY_BYTES: usize =
    RANDOM_BITS as usize / 8 + GENERATION_CHARACTERS + PASSWORD_CHARACTERS + SECRET_CHARACTERS + 8;

impl Entropy<'_> {
    fn next(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().expect("enough was asked for");
        self.0 = rest;
        *first
    }

    /// Eight of them as a number.
    ///
    /// # Panics
    ///
    /// When there are not as many bytes left.
    pub fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.next()))
    }
}

/// Names a session of this process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionKey(u64);

impl SessionKey {
    /// A key for a session that `shard` makes.
    pub fn new(shard: ShardId, tenant: Tenant, random: &mut Entropy<'_>) -> Self {
        let mut key = u64::from(shard.0) & ((1 << SHARD_BITS) - 1);
        key |= match tenant {
            Tenant::Streams => 0,
            Tenant::Spaces => 1 << SHARD_BITS,
        };
        for _ in 0..RANDOM_BITS / 8 {
            key = key << 8 | u64::from(random.next());
        }
        Self(key)
    }

    /// Who made the session.
    pub fn shard(self) -> ShardId {
        ShardId((self.0 >> RANDOM_BITS & ((1 << SHARD_BITS) - 1)) as u16)
    }

    /// Whose it is.
    pub fn tenant(self) -> Tenant {
        match self.0 >> (RANDOM_BITS + SHARD_BITS) & 1 {
            0 => Tenant::Streams,
            _ => Tenant::Spaces,
        }
    }

    /// The key as a number below 2^50.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The session that a user name fragment of ours is of, or an address' last part.
    pub fn of(text: &str) -> Option<Self> {
        let mut key = 0;
        for character in text.as_bytes().get(..KEY_CHARACTERS)? {
            let value = ALPHABET.iter().position(|known| known == character)?;
            key = key << 5 | value as u64;
        }
        Some(Self(key))
    }

    /// A new user name fragment.
    pub fn ufrag(self, random: &mut Entropy<'_>) -> String {
        let mut text = self.text();
        push(&mut text, GENERATION_CHARACTERS, random);
        text
    }

    /// A new address that cannot be guessed.
    pub fn resource(self, random: &mut Entropy<'_>) -> String {
        let mut text = self.text();
        push(&mut text, SECRET_CHARACTERS, random);
        text
    }

    fn text(self) -> String {
        let character = |place: usize| {
            let shift = 5 * (KEY_CHARACTERS - 1 - place);
            char::from(ALPHABET[(self.0 >> shift) as usize & 31])
        };
        (0..KEY_CHARACTERS).map(character).collect()
    }
}

/// A new password.
pub fn password(random: &mut Entropy<'_>) -> String {
    let mut text = String::new();
    push(&mut text, PASSWORD_CHARACTERS, random);
    text
}

fn push(text: &mut String, characters: usize, random: &mut Entropy<'_>) {
    for _ in 0..characters {
        text.push(char::from(ALPHABET[usize::from(random.next() & 31)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_the_session_and_its_shard() {
        let bytes: Vec<u8> = (0..200).map(|n: u32| (n * 37 % 251) as u8).collect();
        let mut random = Entropy(&bytes);
        let key = SessionKey::new(ShardId(3), Tenant::Spaces, &mut random);
        assert_eq!(key.shard(), ShardId(3));
        assert_eq!(key.tenant(), Tenant::Spaces);
        let other = SessionKey::new(ShardId(3), Tenant::Streams, &mut random);
        assert_eq!(
            (other.shard(), other.tenant()),
            (ShardId(3), Tenant::Streams)
        );
        let ufrag = key.ufrag(&mut random);
        assert_eq!(SessionKey::of(&ufrag), Some(key));
        assert_eq!(SessionKey::of(&key.resource(&mut random)), Some(key));
        assert_ne!(ufrag, key.ufrag(&mut random), "a restart has other names");
        assert_eq!(password(&mut random).len(), 32);
    }

    #[test]
    fn what_is_not_ours_is_nobody() {
        assert_eq!(SessionKey::of("short"), None);
        assert_eq!(SessionKey::of("abcd+fghij"), None);
        assert_eq!(SessionKey::of("ABCDEFGHIJ"), None);
    }
}

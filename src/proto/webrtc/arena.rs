//! Where packets are sealed, and what comes out.

use crate::media::buffer::{Buffer, Pool, Slab};
use crate::proto::ice::Path;

/// Bytes of a slab. Sixteen packets of 1500 bytes take 24 kB; a slab goes back to the pool when the
/// kernel has taken the last of its packets, which is at the next submit.
const SLAB_BYTES: usize = 64 * 1024;

/// Packets of one send. More of them make bursts that queues on the way drop (`io::datagram`).
pub(super) const SEGMENTS_MAX: usize = 16;

/// The longest header: 12 bytes, the template's extensions and those of one packet, of which a
/// dependency descriptor is the longest. What has no room is left out.
pub(super) const HEADER_BYTES_MAX: usize = 160;

/// One send: a packet, or several of one size but for the last.
#[derive(Debug)]
pub struct Burst {
    /// Where it goes.
    pub path: Path,
    /// The packets, one behind the other.
    pub bytes: Buffer,
    /// The size of each but the last; `None` for a single one.
    pub segment_bytes: Option<u16>,
    /// How many they are.
    pub segments: usize,
}

/// Memory for what peers of one shard send, and their headers while they are written.
#[derive(Debug)]
pub struct Arena {
    pool: Pool,
    slab: Slab,
    pub(super) headers: Box<[[u8; HEADER_BYTES_MAX]; SEGMENTS_MAX]>,
}

impl Default for Arena {
    fn default() -> Self {
        let mut pool = Pool::new(SLAB_BYTES);
        let slab = pool.take();
        Self {
            pool,
            slab,
            headers: Box::new([[0; HEADER_BYTES_MAX]; SEGMENTS_MAX]),
        }
    }
}

impl Arena {
    /// Makes room for `bytes` in one slab, and says where it begins.
    pub(super) fn reserve(&mut self, bytes: usize) -> usize {
        if self.slab.room() < bytes {
            self.slab = self.pool.take();
        }
        self.slab.len()
    }

    /// Appends a packet: its parts, and room that `finish` fills in.
    ///
    /// # Panics
    ///
    /// When there is no room, which [`Arena::reserve`] makes.
    pub(super) fn compose(&mut self, parts: &[&[u8]], finish: impl FnOnce(&mut [u8])) {
        let fits = self.slab.compose(parts, finish);
        assert!(fits, "room is reserved for the whole burst");
    }

    /// What was appended since `begin`.
    pub(super) fn since(&self, begin: usize) -> Buffer {
        self.slab.view(begin..self.slab.len())
    }
}

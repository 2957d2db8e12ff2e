//! The streams of HTTP/2 connections. To the exchange each is a connection of its own, with an id
//! that no connection of the driver has.

use std::collections::{BTreeMap, HashMap};

use crate::base::ids::ConnId;
use crate::proto::http2::StreamNumber;

/// The bit that tells the two kinds of id apart. It lies in the lower half, which is the driver's
/// index of a connection and stays far below it.
const LINE: u64 = 1 << 31;

/// A stream whose request the exchange has, or whose answer it still sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Line {
    /// The connection.
    pub(super) conn: ConnId,
    /// The stream on it.
    pub(super) stream: StreamNumber,
    /// The exchange is told when all is sent.
    pub(super) is_streaming: bool,
    /// Bytes of the body that were handed over.
    pub(super) given: u64,
}

/// The lines of one shard. Their number is bounded by that of the connections and the streams that
/// each may have open.
#[derive(Debug, Default)]
pub(super) struct Lines {
    by_id: HashMap<ConnId, Line, foldhash::fast::RandomState>,
    by_stream: BTreeMap<(ConnId, StreamNumber), ConnId>,
    opened: u64,
}

impl Lines {
    /// Whether an id is that of a line.
    pub(super) fn is_line(conn: ConnId) -> bool {
        conn.0 & LINE != 0
    }

    /// A new line for a stream with a request.
    pub(super) fn open(&mut self, conn: ConnId, stream: StreamNumber) -> ConnId {
        let number = self.opened;
        self.opened += 1;
        // The number goes around the bit.
        let id = ConnId(((number & !(LINE - 1)) << 1) | LINE | (number & (LINE - 1)));
        self.by_stream.insert((conn, stream), id);
        self.by_id.insert(
            id,
            Line {
                conn,
                stream,
                is_streaming: false,
                given: 0,
            },
        );
        id
    }

    pub(super) fn line(&self, id: ConnId) -> Option<&Line> {
        self.by_id.get(&id)
    }

    pub(super) fn line_mut(&mut self, id: ConnId) -> Option<&mut Line> {
        self.by_id.get_mut(&id)
    }

    /// The line of a stream.
    pub(super) fn find(&self, conn: ConnId, stream: StreamNumber) -> Option<ConnId> {
        self.by_stream.get(&(conn, stream)).copied()
    }

    /// Forgets a line.
    pub(super) fn close(&mut self, id: ConnId) -> Option<Line> {
        let line = self.by_id.remove(&id)?;
        self.by_stream.remove(&(line.conn, line.stream));
        Some(line)
    }

    /// The lines of a connection.
    pub(super) fn of(&self, conn: ConnId) -> Vec<ConnId> {
        self.by_stream
            .range((conn, StreamNumber::MIN)..=(conn, StreamNumber::MAX))
            .map(|(_, id)| *id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_both_names() {
        let mut lines = Lines::default();
        let (first, second) = (ConnId(1 << 32), ConnId((2 << 32) | 1));
        let a = lines.open(first, StreamNumber::MIN);
        let b = lines.open(first, StreamNumber::MAX);
        let c = lines.open(second, StreamNumber::MIN);
        assert!([a, b, c].into_iter().all(Lines::is_line));
        assert!(!Lines::is_line(first) && !Lines::is_line(second));
        assert_eq!(lines.of(first), [a, b]);
        assert_eq!(lines.find(second, StreamNumber::MIN), Some(c));
        assert_eq!(lines.close(a).map(|line| line.conn), Some(first));
        assert_eq!(lines.close(a), None);
        assert_eq!(lines.find(first, StreamNumber::MIN), None);
        assert_eq!(lines.of(first), [b]);
    }

    #[test]
    fn ids_are_not_repeated() {
        let mut lines = Lines::default();
        let mut seen = std::collections::BTreeSet::new();
        for start in [0, (1 << 31) - 2, (1 << 32) - 2, (1 << 40) - 2] {
            lines.opened = start;
            for _ in 0..4 {
                let id = lines.open(ConnId(7), StreamNumber::MIN);
                assert!(Lines::is_line(id) && seen.insert(id), "{id} from {start}");
            }
        }
    }
}

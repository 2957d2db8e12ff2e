//! The streams of a peer: a small table that only authentic packets change.

use super::Error;
use super::replay::Window;

/// Most streams of a peer that are told apart, for RTP and for RTCP each. A publisher of three
/// layers with repair and sound has seven; the sum for one that has as many as it likes is
/// 64 * (80 + 32) bytes = 7 KiB.
pub const SOURCES_MAX: usize = 64;

/// By how many the table grows, so that most peers have it to size.
const GROWTH: usize = 4;

/// What is known of one stream.
#[derive(Clone, Copy, Debug)]
struct Source<const WORDS: usize> {
    ssrc: u32,
    /// The table's clock when its last packet came.
    used: u32,
    window: Window<WORDS>,
}

/// The streams that have had an authentic packet.
#[derive(Debug)]
pub(super) struct Sources<const WORDS: usize> {
    sources: Vec<Source<WORDS>>,
    /// Where the last packet's stream is; the next packet is often of the same one.
    last: usize,
    /// Counts packets, and may wrap.
    clock: u32,
}

impl<const WORDS: usize> Sources<WORDS> {
    pub(super) fn new() -> Self {
        Self {
            sources: Vec::new(),
            last: 0,
            clock: 0,
        }
    }

    /// The largest index of a stream, if it has had a packet.
    pub(super) fn newest(&mut self, ssrc: u32) -> Option<u64> {
        self.find(ssrc).map(|source| source.window.newest())
    }

    /// Fails if the packet came before.
    pub(super) fn check(&mut self, ssrc: u32, index: u64) -> Result<(), Error> {
        self.find(ssrc)
            .map_or(Ok(()), |source| source.window.check(index))
    }

    /// Notes an authentic packet. One of a new stream takes the place of the stream that has been
    /// silent for longest if there are [`SOURCES_MAX`]: a peer that changes its streams for hours
    /// goes on, and only it can make us forget.
    pub(super) fn mark(&mut self, ssrc: u32, index: u64) {
        self.clock = self.clock.wrapping_add(1);
        let clock = self.clock;
        if let Some(source) = self.find(ssrc) {
            source.used = clock;
            source.window.mark(index);
            return;
        }
        let source = Source {
            ssrc,
            used: clock,
            window: Window::new(index),
        };
        if self.sources.len() < SOURCES_MAX {
            if self.sources.len() == self.sources.capacity() {
                self.sources.reserve_exact(GROWTH);
            }
            self.sources.push(source);
        } else if let Some(silent) = self
            .sources
            .iter_mut()
            .max_by_key(|source| clock.wrapping_sub(source.used))
        {
            *silent = source;
        }
    }

    fn find(&mut self, ssrc: u32) -> Option<&mut Source<WORDS>> {
        let is_last = |source: &Source<WORDS>| source.ssrc == ssrc;
        if !self.sources.get(self.last).is_some_and(is_last) {
            self.last = self.sources.iter().position(is_last)?;
        }
        self.sources.get_mut(self.last)
    }

    /// What the table takes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.sources.capacity() * size_of::<Source<WORDS>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silent_makes_room() {
        let mut sources = Sources::<2>::new();
        for ssrc in 0..SOURCES_MAX as u32 {
            sources.mark(ssrc, 1);
        }
        sources.mark(0, 2);
        sources.mark(1000, 1);
        assert_eq!(sources.newest(0), Some(2));
        assert_eq!(sources.newest(1), None);
        assert_eq!(sources.newest(1000), Some(1));
        assert_eq!(sources.sources.len(), SOURCES_MAX);
    }
}

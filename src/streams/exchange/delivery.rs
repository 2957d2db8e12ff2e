//! From a frame to the bytes that viewers get.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use super::{Exchange, Output};
use crate::base::ids::StreamId;
use crate::config::Delivery;
use crate::hub::Pieces;
use crate::media::Frame;
use crate::streams::outlet::Outlet;
use crate::streams::output::Container;
use crate::streams::snapshot::Counters;
use crate::streams::stream::{Stream, Viewer};
use crate::streams::stream_mirror::Mirrored;

/// The most that is handed over for one viewer at once. It is what a slow viewer can hold on to
/// beyond the log itself; the kernel's socket buffer takes up to 4 MB by default.
const RUN_BYTES_MAX: u64 = 256 * 1024;

impl Exchange {
    /// Releases what has been gathered long enough.
    pub fn tick(&mut self) {
        let now = self.now;
        if self.next_due.is_none_or(|next| next > now) {
            return;
        }
        let config = Arc::clone(&self.config);
        let delivery = &config.delivery;
        self.next_due = None;
        for stream in self.streams.values_mut() {
            let due: Vec<usize> = stream
                .outlets
                .iter()
                .filter(|(_, outlet)| outlet.due.is_some_and(|due| due <= now))
                .map(|(key, _)| key)
                .collect();
            for key in due {
                release(
                    stream,
                    key,
                    &mut self.viewers,
                    delivery,
                    &mut self.outputs,
                    &mut self.counters,
                );
            }
            let later = stream.outlets.iter().filter_map(|(_, outlet)| outlet.due);
            self.next_due = self.next_due.into_iter().chain(later).min();
        }
    }

    /// Muxes a frame for all outputs, and sends it to their viewers now or when it is due.
    pub(super) fn show(&mut self, id: StreamId, frame: &Frame) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let config = Arc::clone(&self.config);
        let delivery = &config.delivery;
        let keys: smallvec::SmallVec<[usize; 8]> =
            stream.outlets.iter().map(|(key, _)| key).collect();
        for key in keys {
            let outlet = &mut stream.outlets[key];
            if !outlet.write(&mut self.pool, frame, &mut self.scratch) {
                continue;
            }
            outlet.trim(delivery);
            if self.merge_window == Duration::ZERO {
                release(
                    stream,
                    key,
                    &mut self.viewers,
                    delivery,
                    &mut self.outputs,
                    &mut self.counters,
                );
            } else {
                let due = *outlet.due.get_or_insert(self.now + self.merge_window);
                self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
            }
        }
        let is_awaited = self.waiting.contains_key(&stream.name);
        if stream.packets.is_watched {
            self.packetize(id, frame);
        }
        if is_awaited {
            self.seat_waiting(id);
        }
    }

    pub(super) fn mirror_frame(
        &mut self,
        id: StreamId,
        number: u64,
        frame: &Frame,
        is_entry: bool,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        match stream.mirror_frame(self.now, number, frame, is_entry) {
            Mirrored::Shown { lost } => {
                self.counters.mirror_lost += lost;
                self.show(id, frame);
            }
            Mirrored::Broken { lost } => self.counters.mirror_lost += lost + 1,
            Mirrored::Useless => {}
        }
    }
}

/// What was handed over for viewers.
#[derive(Clone, Copy)]
pub(super) struct Handed {
    container: Container,
    bytes: u64,
    runs: u64,
    skips: u64,
}

impl Handed {
    pub(super) fn nothing(container: Container) -> Self {
        Self {
            container,
            bytes: 0,
            runs: 0,
            skips: 0,
        }
    }

    pub(super) fn count(self, stream: &mut Stream, counters: &mut Counters) {
        stream.bytes_out[self.container as usize] += self.bytes;
        stream.skips += self.skips;
        counters.bytes_out[self.container as usize] += self.bytes;
        counters.runs_out += self.runs;
        counters.skips += self.skips;
    }
}

/// Sends what an output has gathered to all viewers that are idle.
pub(super) fn release(
    stream: &mut Stream,
    key: usize,
    viewers: &mut Slab<Viewer>,
    delivery: &Delivery,
    outputs: &mut VecDeque<Output>,
    counters: &mut Counters,
) {
    let outlet = &mut stream.outlets[key];
    outlet.released = outlet.feed.end();
    outlet.due = None;
    let received = outlet.gathered_since.take();
    let mut total = Handed::nothing(outlet.container);
    // Nearly all viewers read from the same position.
    let mut run = None;
    for viewer in &outlet.viewers {
        let viewer = &mut viewers[*viewer];
        if viewer.is_idle {
            let handed = deliver(viewer, outlet, delivery, received, &mut run, outputs);
            total.bytes += handed.bytes;
            total.runs += handed.runs;
            total.skips += handed.skips;
        }
    }
    total.count(stream, counters);
}

/// What was read of a feed for one viewer, for the next one at the same position.
pub(super) struct Run {
    from: u64,
    pieces: Pieces,
    next: u64,
}

/// Hands over what a viewer has not seen yet.
pub(super) fn deliver(
    viewer: &mut Viewer,
    outlet: &Outlet,
    delivery: &Delivery,
    received: Option<Instant>,
    run: &mut Option<Run>,
    outputs: &mut VecDeque<Output>,
) -> Handed {
    let feed = &outlet.feed;
    let mut handed = Handed::nothing(outlet.container);
    if viewer.is_paused {
        return handed;
    }
    let entry = feed
        .newest_entry()
        .filter(|entry| viewer.position.is_none_or(|position| *entry >= position));
    let kept = viewer.position.filter(|position| *position >= feed.start());
    let from = match (kept, entry) {
        (Some(position), None) => position,
        (Some(position), Some(_)) if !viewer.seeks && !is_late(position, outlet, delivery) => {
            position
        }
        (Some(_) | None, Some(entry)) => entry,
        (None, None) => return handed, // It begins at the next entry.
    };
    let header = match viewer.position {
        None => Some(outlet.entry_header.full.clone()),
        Some(position) if from > position => {
            handed.skips = 1;
            // It has not been told of changes between the two.
            (outlet.entry_header.since > position).then(|| outlet.entry_header.inline.clone())
        }
        Some(_) => None,
    };
    let run = match run {
        Some(run) if run.from == from => run,
        Some(_) | None => {
            let (pieces, next) = feed.read(from, RUN_BYTES_MAX);
            run.insert(Run { from, pieces, next })
        }
    };
    let pieces = run.pieces.clone();
    viewer.position = Some(run.next);
    viewer.seeks = false;
    let header = header.filter(|header| !header.is_empty());
    if pieces.is_empty() && header.is_none() {
        return handed;
    }
    handed.runs = 1;
    handed.bytes = header.as_ref().map_or(0, |header| header.len() as u64)
        + pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
    viewer.is_idle = false;
    outputs.push_back(Output::Send {
        conn: viewer.conn,
        header,
        pieces,
        received,
    });
    handed
}

/// Whether what a viewer would read next is so old that it had better skip.
pub(super) fn is_late(position: u64, outlet: &Outlet, delivery: &Delivery) -> bool {
    let feed = &outlet.feed;
    let (Some(mark), Some(newest)) = (feed.mark_at(position), feed.newest_dts()) else {
        return false;
    };
    newest.since(mark.dts) > delivery.viewer_queue_ms
}

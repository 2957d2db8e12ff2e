//! What clients have measured.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use ringside::proto::srtp::Profile;

use crate::tally::Times;

/// Where a run is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Phase {
    /// Clients join.
    Joining,
    /// What is received counts.
    Measuring,
    /// What was sent before may still come.
    Settling,
    /// All say goodbye.
    Over,
}

/// What the threads of a run share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    phase: AtomicU8,
    /// Clients that are connected, and those that failed.
    pub(super) connected: AtomicUsize,
    pub(super) failed: AtomicUsize,
    /// Clients that have media, or need none.
    pub(super) settled: AtomicUsize,
    /// Packets of media that subscribers have received, retransmissions among them.
    pub(super) received: AtomicU64,
    /// Packets of media that publishers have sent.
    pub(super) sent: AtomicU64,
    /// A thread has ended before its time.
    pub(super) is_broken: AtomicBool,
}

impl Shared {
    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Joining,
            1 => Phase::Measuring,
            2 => Phase::Settling,
            _ => Phase::Over,
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }
}

/// Sums of some clients.
#[derive(Clone, Default, Debug)]
pub(super) struct Tally {
    /// From the publisher's send to the subscriber's socket.
    pub(super) latency: Times,
    /// From the offer to the keys.
    pub(super) join: Times,
    /// From the offer to the first packet of media.
    pub(super) first_packet: Times,
    pub(super) jitter: Times,
    /// Sent within the window, and received of those, at once or again.
    pub(super) expected: u64,
    pub(super) received: u64,
    /// Numbers that were asked for again.
    pub(super) nacked: u64,
    pub(super) retransmissions: u64,
    pub(super) duplicates: u64,
    pub(super) plis: u64,
    /// Packets that could not be opened.
    pub(super) refused: u64,
    /// Of the load's own network.
    pub(super) harmed: u64,
    /// Of publishers.
    pub(super) asked: u64,
    pub(super) sent_again: u64,
    pub(super) keyframes_asked: u64,
    pub(super) late_frames: u64,
    pub(super) profiles: Vec<(Profile, u64)>,
    /// Packets that this side did not take from its sockets in time.
    pub(super) dropped_here: u64,
    pub(super) complaint: Option<String>,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.join.add(&other.join);
        self.first_packet.add(&other.first_packet);
        self.jitter.add(&other.jitter);
        self.expected += other.expected;
        self.received += other.received;
        self.nacked += other.nacked;
        self.retransmissions += other.retransmissions;
        self.duplicates += other.duplicates;
        self.plis += other.plis;
        self.refused += other.refused;
        self.harmed += other.harmed;
        self.asked += other.asked;
        self.sent_again += other.sent_again;
        self.keyframes_asked += other.keyframes_asked;
        self.late_frames += other.late_frames;
        for (profile, count) in &other.profiles {
            self.note_profile(*profile, *count);
        }
        self.dropped_here += other.dropped_here;
        if self.complaint.is_none() {
            self.complaint.clone_from(&other.complaint);
        }
    }

    pub(super) fn note_profile(&mut self, profile: Profile, count: u64) {
        match self
            .profiles
            .iter_mut()
            .find(|(known, _)| *known == profile)
        {
            Some((_, sum)) => *sum += count,
            None => self.profiles.push((profile, count)),
        }
    }

    pub(super) fn complain(&mut self, reason: String) {
        self.complaint.get_or_insert(reason);
    }
}

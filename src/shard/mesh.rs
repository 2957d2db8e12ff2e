//! One bounded single-producer single-consumer queue for each ordered pair of shards.
//!
//! A full queue drops media, which is counted, and never control messages: these wait at the
//! sender until there is room. A shard that is about to sleep says so first; the one that finds
//! it asleep after a push wakes it.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering, fence};

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::base::ids::ShardId;

/// Messages from one shard to another that are under way: 1024 are 13 s of one 2 Mbit/s stream
/// (77 frames a second), or 13 ms of 1000 of them.
const QUEUE_MESSAGES: usize = 1024;

/// Control messages that wait for room. A peer cannot grow it without bound: each connection has
/// at most a few requests open. Beyond it the receiving shard is taken for dead.
const WAITING_MAX: usize = 1 << 20;

/// One shard's end of the mesh.
#[derive(Debug)]
pub struct Mesh<M> {
    me: ShardId,
    /// By shard; `None` for this one.
    producers: Vec<Option<Producer<M>>>,
    consumers: Vec<Option<Consumer<M>>>,
    waiting: Vec<VecDeque<M>>,
    board: Arc<[Post]>,
    /// Shards that got a message and were asleep.
    to_wake: Vec<ShardId>,
    next: usize,
    dropped: u64,
}

/// What a shard shows the others.
#[derive(Debug)]
struct Post {
    asleep: AtomicBool,
    ring: AtomicI32,
}

/// Whether a message may be lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Dropped when the queue is full.
    Media,
    /// Never dropped, and never overtaken by media sent after it.
    Control,
}

/// Makes the ends of a mesh of `count` shards.
pub fn mesh<M>(count: usize) -> Vec<Mesh<M>> {
    let board: Arc<[Post]> = (0..count)
        .map(|_| Post {
            asleep: AtomicBool::new(false),
            ring: AtomicI32::new(-1),
        })
        .collect();
    let mut ends: Vec<Mesh<M>> = (0..count)
        .map(|me| Mesh {
            me: ShardId(me as u16),
            producers: (0..count).map(|_| None).collect(),
            consumers: (0..count).map(|_| None).collect(),
            waiting: (0..count).map(|_| VecDeque::new()).collect(),
            board: Arc::clone(&board),
            to_wake: Vec::new(),
            next: 0,
            dropped: 0,
        })
        .collect();
    for from in 0..count {
        for to in (0..count).filter(|to| *to != from) {
            let (producer, consumer) = RingBuffer::new(QUEUE_MESSAGES);
            ends[from].producers[to] = Some(producer);
            ends[to].consumers[from] = Some(consumer);
        }
    }
    ends
}

impl<M> Mesh<M> {
    /// The shard that holds this end.
    pub fn me(&self) -> ShardId {
        self.me
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.board.len()
    }

    /// Media messages that were dropped because a queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Messages under way from this shard to all others.
    pub fn depth(&self) -> usize {
        let queued: usize = self
            .producers
            .iter()
            .flatten()
            .map(|producer| QUEUE_MESSAGES - producer.slots())
            .sum();
        queued + self.waiting.iter().map(VecDeque::len).sum::<usize>()
    }

    /// Publishes the ring that others may send wake-ups to.
    pub fn publish_ring(&self, ring: RawFd) {
        self.board[self.me.index()]
            .ring
            .store(ring, Ordering::Release);
    }

    /// The ring of another shard, once it has published it.
    pub fn ring(&self, shard: ShardId) -> Option<RawFd> {
        let ring = self.board[shard.index()].ring.load(Ordering::Acquire);
        (ring >= 0).then_some(ring)
    }

    /// Sends a message. False if it was dropped.
    ///
    /// # Panics
    ///
    /// When `to` is this shard, or a receiver has not read for so long that it must be dead.
    pub fn send(&mut self, to: ShardId, class: Class, message: M) -> bool {
        let index = to.index();
        let producer = self.producers[index]
            .as_mut()
            .expect("a shard does not send to itself");
        let waiting = &mut self.waiting[index];
        let refused = if waiting.is_empty() {
            match producer.push(message) {
                Ok(()) => None,
                Err(PushError::Full(message)) => Some(message),
            }
        } else {
            Some(message)
        };
        let sent = match (refused, class) {
            (None, _) => true,
            (Some(message), Class::Control) => {
                assert!(waiting.len() < WAITING_MAX, "shard {to} does not read");
                waiting.push_back(message);
                true
            }
            (Some(_), Class::Media) => {
                self.dropped += 1;
                false
            }
        };
        self.note_sleeper(to);
        sent
    }

    /// The next message from any shard, fairly.
    pub fn receive(&mut self) -> Option<(ShardId, M)> {
        let count = self.consumers.len();
        for step in 0..count {
            let from = (self.next + step) % count;
            if let Some(consumer) = &mut self.consumers[from]
                && let Ok(message) = consumer.pop()
            {
                self.next = from + 1;
                return Some((ShardId(from as u16), message));
            }
        }
        None
    }

    /// Moves control messages that were waiting into queues that have room. True if some still
    /// wait, so that the caller comes back soon.
    pub fn flush(&mut self) -> bool {
        let mut some_wait = false;
        for index in 0..self.waiting.len() {
            let mut moved = false;
            while let Some(message) = self.waiting[index].pop_front() {
                let producer = self.producers[index]
                    .as_mut()
                    .expect("messages wait only for other shards");
                if let Err(PushError::Full(message)) = producer.push(message) {
                    self.waiting[index].push_front(message);
                    some_wait = true;
                    break;
                }
                moved = true;
            }
            if moved {
                self.note_sleeper(ShardId(index as u16));
            }
        }
        some_wait
    }

    /// Shards that have to be woken for messages sent since the last call.
    pub fn take_sleepers(&mut self) -> Option<ShardId> {
        self.to_wake.pop()
    }

    /// Says that this shard is about to wait. False if there is something to receive: do not
    /// wait then.
    pub fn fall_asleep(&mut self) -> bool {
        let post = &self.board[self.me.index()];
        post.asleep.store(true, Ordering::Relaxed);
        // Pairs with the fence in `note_sleeper`: either the sender sees the flag, or this shard
        // sees the message.
        fence(Ordering::SeqCst);
        if self
            .consumers
            .iter()
            .flatten()
            .all(|consumer| consumer.slots() == 0)
        {
            return true;
        }
        post.asleep.store(false, Ordering::Relaxed);
        false
    }

    /// Says that this shard is awake.
    pub fn wake_up(&self) {
        self.board[self.me.index()]
            .asleep
            .store(false, Ordering::Relaxed);
    }

    fn note_sleeper(&mut self, to: ShardId) {
        fence(Ordering::SeqCst);
        let post = &self.board[to.index()];
        if post.asleep.load(Ordering::Relaxed) && post.asleep.swap(false, Ordering::Relaxed) {
            self.to_wake.push(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Mesh<u32>, Mesh<u32>) {
        let mut ends = mesh(2);
        let b = ends.pop().expect("two ends");
        (ends.pop().expect("two ends"), b)
    }

    #[test]
    fn messages_arrive_in_order() {
        let (mut a, mut b) = pair();
        for n in 0..10 {
            assert!(a.send(ShardId(1), Class::Control, n));
        }
        let got: Vec<_> = std::iter::from_fn(|| b.receive()).collect();
        assert_eq!(got, (0..10).map(|n| (ShardId(0), n)).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_queue_drops_media_and_keeps_control_in_order() {
        let (mut a, mut b) = pair();
        for n in 0..QUEUE_MESSAGES as u32 {
            assert!(a.send(ShardId(1), Class::Media, n));
        }
        assert!(!a.send(ShardId(1), Class::Media, 9999));
        assert!(a.send(ShardId(1), Class::Control, 5000));
        assert_eq!(a.dropped(), 1);
        assert!(a.flush(), "no room yet");
        let mut got: Vec<_> = std::iter::from_fn(|| b.receive()).map(|(_, n)| n).collect();
        assert!(!a.flush(), "all moved");
        got.extend(std::iter::from_fn(|| b.receive()).map(|(_, n)| n));
        assert_eq!(got.len(), QUEUE_MESSAGES + 1);
        assert_eq!(got.last(), Some(&5000));
    }

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let (mut a, mut b) = pair();
        a.send(ShardId(1), Class::Control, 1);
        assert_eq!(a.take_sleepers(), None, "it is awake");
        assert!(!b.fall_asleep(), "there is a message");
        b.receive();
        assert!(b.fall_asleep());
        a.send(ShardId(1), Class::Control, 2);
        a.send(ShardId(1), Class::Control, 3);
        assert_eq!(a.take_sleepers(), Some(ShardId(1)));
        assert_eq!(a.take_sleepers(), None);
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let (mut a, mut b) = pair();
        let sender = std::thread::spawn(move || {
            for n in 0..100_000 {
                a.send(ShardId(1), Class::Control, n);
            }
            while a.flush() {
                std::thread::yield_now();
            }
        });
        let mut expected = 0;
        while expected < 100_000 {
            if let Some((_, n)) = b.receive() {
                assert_eq!(n, expected);
                expected += 1;
            }
        }
        sender.join().expect("sends all");
    }
}

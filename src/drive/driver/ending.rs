//! When connections are looked at again, and how they end.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::{Driver, Gone, Occurrence, State};
use crate::drive::Session;

/// How long a connection that this side closes may take to read what it was sent.
const LINGER: Duration = Duration::from_secs(2);

impl<S: Session> Driver<S> {
    pub(super) fn arm(&mut self, index: usize, at: Instant) {
        let connection = &mut self.connections[index];
        if connection.timer.is_none_or(|armed| at < armed) {
            connection.timer = Some(at);
            let conn = Self::id(index, connection.generation);
            self.timers.push(Reverse((at, conn)));
            self.forget_old_timers();
        }
    }

    /// Keeps `timers` from growing with entries of connections that are gone.
    pub(super) fn forget_old_timers(&mut self) {
        if self.timers.len() > 4 * self.connections.len() + 1024 {
            let connections = &self.connections;
            self.timers.retain(|Reverse((at, conn))| {
                connections
                    .get(Self::index(*conn))
                    .is_some_and(|connection| {
                        Self::id(Self::index(*conn), connection.generation) == *conn
                            && connection.timer == Some(*at)
                    })
            });
        }
    }

    pub(super) fn fire_timers(&mut self) {
        while let Some(Reverse((at, conn))) = self.timers.peek().copied() {
            if at > self.now {
                return;
            }
            self.timers.pop();
            let index = Self::index(conn);
            let now = self.now;
            let Some(connection) = self.connection(conn) else {
                continue;
            };
            if connection.timer == Some(at) {
                connection.timer = None;
            }
            match connection.state {
                State::Open => {
                    // The session may have moved its time since the entry was made.
                    match connection.session.poll_timeout() {
                        Some((due, _why)) if due <= now => {
                            connection.session.handle_timeout(now);
                            self.pump(index);
                        }
                        Some((due, _why)) => self.arm(index, due),
                        None => {}
                    }
                }
                State::Flushing { until, .. } if until > now => self.arm(index, until),
                State::Flushing { taken, .. } => {
                    let socket = connection.socket;
                    if self.net.sent_bytes(socket) > taken {
                        self.flush(index, now);
                    } else {
                        self.remove(index);
                    }
                }
                State::Lingering(end) if end <= now => self.remove(index),
                State::Lingering(end) => self.arm(index, end),
            }
        }
    }

    /// The peer is gone, or has to go.
    pub(super) fn lose(&mut self, index: usize, reason: Gone) {
        let connection = &mut self.connections[index];
        if connection.state == State::Open {
            let conn = Self::id(index, connection.generation);
            self.occurrences.push_back(Occurrence::Gone(conn, reason));
            // A peer that has only finished sending still reads the answer it waits for.
            if reason == Gone::Closed && !connection.streaming && connection.sending {
                connection.session.finish();
                self.flush(index, self.now);
                return;
            }
        }
        self.remove(index);
    }

    /// The peer sends no more, and may still read.
    pub(super) fn receive_ended(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.has_ended = true;
        match connection.state {
            // What it asked for just before is answered by the caller before the next turn.
            State::Open if !connection.streaming => {
                self.ended.push(Self::id(index, connection.generation));
            }
            State::Flushing { .. } => {}
            State::Open | State::Lingering(_) => self.lose(index, Gone::Closed),
        }
    }

    pub(super) fn let_ended_go(&mut self) {
        for conn in std::mem::take(&mut self.ended) {
            if let Some(connection) = self.connection(conn)
                && connection.state == State::Open
            {
                self.lose(Self::index(conn), Gone::Closed);
            }
        }
    }

    pub(super) fn flush(&mut self, index: usize, now: Instant) {
        let connection = &mut self.connections[index];
        let until = now + self.limits.flush_stall;
        let taken = self.net.sent_bytes(connection.socket);
        connection.state = State::Flushing { until, taken };
        self.arm(index, until);
    }

    pub(super) fn linger(&mut self, index: usize, now: Instant) {
        let connection = &mut self.connections[index];
        let end = now + LINGER;
        connection.state = State::Lingering(end);
        self.net.finish_sending(connection.socket);
        self.arm(index, end);
    }

    pub(super) fn remove(&mut self, index: usize) {
        let connection = self.connections.remove(index);
        self.unestablished -= usize::from(!connection.established);
        self.net.close(connection.socket);
    }

    /// Closes the oldest connection that is not established.
    pub(super) fn make_room(&mut self) -> bool {
        while let Some(conn) = self.arrivals.pop_front() {
            let Some(connection) = self.connection(conn) else {
                continue;
            };
            if !connection.established {
                let is_told = connection.state == State::Open;
                self.remove(Self::index(conn));
                self.counters.displaced += 1;
                if is_told {
                    self.occurrences
                        .push_back(Occurrence::Gone(conn, Gone::Displaced));
                }
                return true;
            }
        }
        false
    }

    /// Keeps `arrivals` from growing with connections that need no place in it.
    pub(super) fn forget_old_arrivals(&mut self) {
        if self.arrivals.len() > 2 * self.connections.len() + 64 {
            let connections = &self.connections;
            self.arrivals.retain(|conn| {
                connections
                    .get(Self::index(*conn))
                    .is_some_and(|connection| {
                        Self::id(Self::index(*conn), connection.generation) == *conn
                            && !connection.established
                    })
            });
        }
    }
}

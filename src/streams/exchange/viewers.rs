//! Viewers: those that wait for a stream, and those that have a seat.

use std::collections::VecDeque;
use std::time::Duration;

use super::delivery::deliver;
use super::http::{info_response, not_found, unavailable};
use super::{Business, Exchange, HttpReply, Output, RtcReply, RtmpReply, Waiting, Want};
use crate::base::ids::{ConnId, StreamId};
use crate::hub::Home;
use crate::streams::message::Message;
use crate::streams::name::StreamName;
use crate::streams::output::{Container, Selection};
use crate::streams::stream::{Stream, Viewer};

/// How long a viewer waits for a stream that is configured and not live, as in MistServer.
const WAIT_FOR_STREAM: Duration = Duration::from_secs(5);

/// Viewers of one shard that may wait for streams.
const WAITING_MAX: usize = 10_000;

impl Exchange {
    /// An RTMP session wants to play.
    pub fn rtmp_play(&mut self, conn: ConnId, name: &str) {
        if let Some(name) = self.playable(name) {
            self.want(
                conn,
                name,
                Want::Play {
                    container: Container::Rtmp,
                    is_chunked: false,
                    selection: Selection::default(),
                },
            );
        } else {
            self.counters.play_refused += 1;
            self.rtmp(conn, RtmpReply::PlayNotFound);
        }
    }

    /// A viewer stopped; its connection may go on.
    pub fn viewer_ended(&mut self, conn: ConnId) {
        if !matches!(self.business.get(&conn), Some(Business::Publisher(_))) {
            self.connection_gone(conn);
        }
    }

    /// A viewer paused or goes on; it goes on at the newest keyframe that it has not seen.
    pub fn viewer_paused(&mut self, conn: ConnId, is_paused: bool) {
        let Some(Business::Viewer(key)) = self.business.get(&conn) else {
            return;
        };
        let viewer = &mut self.viewers[*key];
        viewer.is_paused = is_paused;
        viewer.seeks = true;
        if viewer.is_idle {
            self.drained(conn);
        }
    }

    /// All that was handed over for a viewer is sent.
    pub fn drained(&mut self, conn: ConnId) {
        let Some(Business::Viewer(key)) = self.business.get(&conn) else {
            return;
        };
        let viewer = &mut self.viewers[*key];
        viewer.is_idle = true;
        let Some(stream) = self.streams.get_mut(&viewer.stream) else {
            return;
        };
        let outlet = &stream.outlets[viewer.outlet];
        let behind = viewer
            .position
            .is_none_or(|position| position < outlet.released);
        if behind {
            let delivery = &self.config.delivery;
            let handed = deliver(viewer, outlet, delivery, None, &mut None, &mut self.outputs);
            handed.count(stream, &mut self.counters);
        }
    }

    /// The name of a stream that may be played, by MistServer's rules.
    pub(super) fn playable(&self, name: &str) -> Option<StreamName> {
        let name = StreamName::parse(name).ok()?;
        (!self.is_draining && name.settings(&self.config).is_some()).then_some(name)
    }

    pub(super) fn want(&mut self, conn: ConnId, name: StreamName, want: Want) {
        let waiting: usize = self.waiting.values().map(Vec::len).sum();
        if waiting >= WAITING_MAX || self.business.contains_key(&conn) {
            self.give_up(conn, &name, &want);
            return;
        }
        self.business.insert(conn, Business::Waiting(name.clone()));
        self.waiting.entry(name.clone()).or_default().push(Waiting {
            conn,
            want,
            until: self.now + WAIT_FOR_STREAM,
        });
        if let Some(id) = self.by_name.get(&name) {
            self.seat_waiting(*id);
        } else {
            self.mesh(self.control, Message::Locate { name });
        }
    }

    pub(super) fn located(&mut self, name: &StreamName, home: Option<Home>) {
        let Some(home) = home else {
            // Viewers wait for the stream; whoever asks what it is like does not.
            self.answer_offline(name);
            return;
        };
        if home.shard == self.me || self.streams.contains_key(&home.stream) {
            self.seat_waiting(home.stream);
            return;
        }
        if !self.waiting.contains_key(name) {
            return;
        }
        let bytes_max = self.stream_bytes_max();
        self.by_name.insert(name.clone(), home.stream);
        let mut mirror = Stream::mirror(name.clone(), home, bytes_max);
        let wishes = self.wishes_of(&mirror);
        mirror.set_wishes(wishes);
        self.streams.insert(home.stream, mirror);
        self.mesh(
            home.shard,
            Message::Subscribe {
                stream: home.stream,
                wishes,
            },
        );
    }

    pub(super) fn answer_offline(&mut self, name: &StreamName) {
        let Some(waiting) = self.waiting.get_mut(name) else {
            return;
        };
        let mut asking = Vec::new();
        waiting.retain(|waiting| match waiting.want {
            Want::Info { .. } | Want::Segmented(_) => {
                asking.push((waiting.conn, waiting.want.clone()));
                false
            }
            // An offer waits, like what follows it.
            Want::Play { .. } | Want::Tracks | Want::Packets(_) => true,
        });
        if waiting.is_empty() {
            self.waiting.remove(name);
        }
        for (conn, want) in asking {
            self.business.remove(&conn);
            self.give_up(conn, name, &want);
        }
    }

    /// Serves those that wait for a stream, if it is ready.
    pub(super) fn seat_waiting(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if !self.waiting.contains_key(&stream.name) || !stream.is_ready(self.now) {
            return;
        }
        let name = stream.name.clone();
        for waiting in self.waiting.remove(&name).unwrap_or_default() {
            self.business.remove(&waiting.conn);
            match waiting.want {
                Want::Info { as_script, host } => {
                    self.answer_info(waiting.conn, id, as_script, &host)
                }
                Want::Segmented(request) => self.segmented_here(waiting.conn, id, request),
                Want::Tracks => self.answer_tracks(waiting.conn, id),
                Want::Packets(ref tracks) => {
                    if !self.seat_packets(waiting.conn, id, tracks) {
                        self.give_up(waiting.conn, &name, &waiting.want);
                    }
                }
                Want::Play {
                    container,
                    is_chunked,
                    ref selection,
                } => {
                    if !self.seat(waiting.conn, id, container, is_chunked, selection) {
                        self.give_up(waiting.conn, &name, &waiting.want);
                    }
                }
            }
        }
    }

    /// Makes a connection a viewer. False if the stream has too many outputs, or none of its
    /// tracks is left.
    pub(super) fn seat(
        &mut self,
        conn: ConnId,
        id: StreamId,
        container: Container,
        is_chunked: bool,
        selection: &Selection,
    ) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else {
            return false;
        };
        if selection.of(&stream.active(), container).is_empty() {
            return false;
        }
        let Some(key) = stream.outlet(&mut self.pool, container, is_chunked, selection) else {
            return false;
        };
        stream.views += 1;
        let outlet = &mut stream.outlets[key];
        outlet.empty_since = None;
        let viewer = self.viewers.insert(Viewer {
            conn,
            stream: id,
            outlet: key,
            container,
            position: None,
            is_idle: false,
            is_paused: false,
            seeks: false,
            taken: 0,
            taken_at: self.now,
            since: self.now,
        });
        outlet.viewers.push(viewer);
        self.business.insert(conn, Business::Viewer(viewer));
        self.counters.viewers_total += 1;
        self.review_wishes(id);
        match container {
            Container::Rtmp => self.rtmp(conn, RtmpReply::AcceptPlay),
            Container::Flv | Container::Ts | Container::Mp4 => {
                self.http(conn, HttpReply::Stream(container));
            }
            Container::WebRtc => unreachable!("its viewers watch packets"),
        }
        true
    }

    pub(super) fn give_up(&mut self, conn: ConnId, name: &StreamName, want: &Want) {
        match want {
            Want::Play { container, .. } => {
                self.counters.play_refused += 1;
                match container {
                    Container::Rtmp => self.rtmp(conn, RtmpReply::PlayNotFound),
                    Container::Flv | Container::Ts | Container::Mp4 => {
                        self.respond(conn, not_found());
                    }
                    Container::WebRtc => unreachable!("its viewers watch packets"),
                }
            }
            Want::Segmented(_) => {
                self.counters.play_refused += 1;
                self.respond(conn, not_found());
            }
            Want::Tracks | Want::Packets(_) => {
                self.counters.play_refused += 1;
                self.rtc(conn, RtcReply::NotFound);
            }
            Want::Info { as_script, .. } => {
                self.respond(conn, info_response(name, *as_script, &unavailable()))
            }
        }
    }

    pub(super) fn remove_viewer(&mut self, key: usize) {
        let viewer = self.viewers.remove(key);
        self.count_view(&viewer);
        if let Some(stream) = self.streams.get_mut(&viewer.stream) {
            let outlet = &mut stream.outlets[viewer.outlet];
            if let Some(at) = outlet.viewers.iter().position(|other| *other == key) {
                outlet.viewers.swap_remove(at);
            }
            if outlet.viewers.is_empty() {
                outlet.empty_since = Some(self.now);
            }
        }
    }

    pub(super) fn sweep_waiting(&mut self) {
        let now = self.now;
        let mut late = Vec::new();
        for waiting in self.waiting.values_mut() {
            waiting.retain(|waiting| {
                let stays = waiting.until > now;
                if !stays {
                    late.push((waiting.conn, waiting.want.clone()));
                }
                stays
            });
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        for (conn, want) in late {
            if let Some(Business::Waiting(name)) = self.business.remove(&conn) {
                self.give_up(conn, &name, &want);
            }
        }
    }

    pub(super) fn sweep_viewers(&mut self, taken: impl Fn(ConnId) -> u64) {
        let now = self.now;
        let stall = self.config.delivery.viewer_stall_ms;
        let mut stalled = Vec::new();
        for (_, viewer) in &mut self.viewers {
            let taken = taken(viewer.conn);
            if viewer.is_idle || taken != viewer.taken {
                viewer.taken = taken;
                viewer.taken_at = now;
            } else if now >= viewer.taken_at + stall {
                stalled.push(viewer.conn);
            }
        }
        for conn in stalled {
            tracing::debug!(?conn, "a viewer took nothing for too long");
            self.counters.stalled += 1;
            self.connection_gone(conn);
            self.outputs.push_back(Output::Abort(conn));
        }
    }

    pub(super) fn dismiss_viewers(&mut self, id: StreamId) {
        self.dismiss_packet_viewers(id);
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        for (_, outlet) in &mut stream.outlets {
            for key in std::mem::take(&mut outlet.viewers) {
                let viewer = self.viewers.remove(key);
                self.business.remove(&viewer.conn);
                end_viewer(&viewer, &mut self.outputs);
            }
            outlet.empty_since = Some(self.now);
        }
    }
}

pub(super) fn end_viewer(viewer: &Viewer, outputs: &mut VecDeque<Output>) {
    outputs.push_back(match viewer.container {
        Container::Rtmp => Output::Rtmp(viewer.conn, RtmpReply::EndPlay),
        Container::Flv | Container::Ts | Container::Mp4 => {
            Output::Http(viewer.conn, HttpReply::EndStream)
        }
        Container::WebRtc => unreachable!("its viewers watch packets"),
    });
}

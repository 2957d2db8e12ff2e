//! WebRTC sessions: publishers and viewers of packets.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::{Business, Exchange, Output, RtcReply, Via, Want};
use crate::base::ids::{ConnId, StreamId, TrackId};
use crate::media::{Packet, Track};
use crate::streams::access::PublishRequest;
use crate::streams::output::Container;
use crate::streams::packets::{PacketTrack, PacketViewer};
use crate::streams::stream::Stream;

/// Tracks that one viewer may watch: all simulcast layers of two cameras, and two of sound.
const TRACKS_MAX: usize = 8;

/// The least time between two runs that a viewer is given again. A run has up to a megabyte, and
/// its request 20 bytes.
const REFRESH_APART: Duration = Duration::from_secs(1);

impl Exchange {
    /// A WebRTC session wants to publish by `protocol`, such as `whip`. It is answered by
    /// [`RtcReply::AcceptPublish`], [`RtcReply::PublishBusy`] or [`RtcReply::PublishDenied`]; its
    /// tracks and packets are taken from then on.
    pub fn rtc_publish(
        &mut self,
        conn: ConnId,
        request: &PublishRequest<'_>,
        protocol: &'static str,
    ) {
        self.publish(conn, request, Via::Rtc(protocol));
    }

    /// A connection wants to know the tracks of a stream, to answer an offer with. It is answered
    /// by [`RtcReply::Tracks`] or [`RtcReply::NotFound`], and is nothing to the exchange after that.
    pub fn rtc_offer_info(&mut self, conn: ConnId, name: &str) {
        self.rtc_want(conn, name, Want::Tracks);
    }

    /// A session wants to view these tracks of a stream. Where that is not live (any more), it is
    /// answered by [`RtcReply::NotFound`]; else it gets [`Output::Packets`] until
    /// [`RtcReply::EndPlay`].
    pub fn rtc_view(&mut self, conn: ConnId, name: &str, tracks: Vec<TrackId>) {
        self.rtc_want(conn, name, Want::Packets(tracks));
    }

    fn rtc_want(&mut self, conn: ConnId, name: &str, want: Want) {
        if let Some(name) = self.playable(name) {
            self.want(conn, name, want);
        } else {
            self.counters.play_refused += 1;
            self.rtc(conn, RtcReply::NotFound);
        }
    }

    /// A viewer wants `to` as well, as it does to change from one simulcast layer to another. The
    /// first packets of `to` are those of a keyframe; [`Exchange::rtc_unwatch`] ends the old one.
    pub fn rtc_select(&mut self, conn: ConnId, from: TrackId, to: TrackId) {
        let Some(key) = self.is_watching(conn) else {
            return;
        };
        let viewer = &mut self.packet_viewers[key];
        let is_known = viewer.tracks.contains(&from) && !viewer.tracks.contains(&to);
        if !is_known || viewer.tracks.len() >= TRACKS_MAX {
            return;
        }
        viewer.tracks.push(to);
        let id = viewer.stream;
        self.watch(id, conn, to);
    }

    /// A viewer does not want a track any more.
    pub fn rtc_unwatch(&mut self, conn: ConnId, track: TrackId) {
        let Some(key) = self.is_watching(conn) else {
            return;
        };
        let viewer = &mut self.packet_viewers[key];
        viewer.tracks.retain(|other| *other != track);
        viewer.before = Some(track);
        let id = viewer.stream;
        if let Some(part) = self.part(id, track) {
            part.remove(conn);
        }
    }

    /// A viewer cannot decode a track without a keyframe (PLI or FIR). The publisher is asked for
    /// one, once for all who want it; where it cannot be asked, the viewer gets the run since the
    /// newest keyframe again.
    pub fn rtc_keyframe(&mut self, conn: ConnId, track: TrackId) {
        let now = self.now;
        let Some(key) = self.is_watching(conn) else {
            return;
        };
        let viewer = &mut self.packet_viewers[key];
        if !viewer.tracks.contains(&track) {
            return;
        }
        self.counters.keyframes_wanted += 1;
        let id = viewer.stream;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.is_packets {
            self.want_keyframe(id, track);
            return;
        }
        let is_early = viewer
            .refreshed
            .is_some_and(|at| now.saturating_duration_since(at) < REFRESH_APART);
        if is_early {
            return;
        }
        viewer.refreshed = Some(now);
        let part = stream.packets.tracks.get(&track);
        if let Some(run) = part.and_then(|part| part.run()) {
            self.give(id, track, Arc::from([conn]), run, true);
        }
    }

    /// A packet of a track that a viewer watches, if it is still here: for one that the viewer says
    /// it has not received.
    pub fn packet(&self, conn: ConnId, track: TrackId, number: u64) -> Option<&Packet> {
        let viewer = &self.packet_viewers[self.is_watching(conn)?];
        let part = self.streams.get(&viewer.stream)?.packets.tracks.get(&track);
        part.filter(|_| viewer.tracks.contains(&track) || viewer.before == Some(track))?
            .log
            .get(number)
    }

    /// The oldest and the newest point of the stream that a viewer watches, in milliseconds of its
    /// timeline.
    pub fn rtc_span(&self, conn: ConnId) -> Option<(i64, i64)> {
        let viewer = &self.packet_viewers[self.is_watching(conn)?];
        Some(self.streams.get(&viewer.stream)?.span_ms())
    }

    /// The tracks of a stream that WebRTC carries.
    fn carried(stream: &Stream) -> Vec<Track> {
        let mut tracks = stream.active();
        tracks.retain(|track| Container::WebRtc.carries(track.codec));
        tracks
    }

    pub(super) fn answer_tracks(&mut self, conn: ConnId, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        let tracks = Self::carried(stream);
        let left_out = stream.left_out(Container::WebRtc);
        if !left_out.is_empty() {
            tracing::info!(
                stream = %stream.name,
                container = Container::WebRtc.name(),
                codecs = left_out.join(","),
                "tracks are left out that the container cannot carry"
            );
        }
        if tracks.is_empty() {
            self.counters.play_refused += 1;
            self.rtc(conn, RtcReply::NotFound);
        } else {
            self.rtc(conn, RtcReply::Tracks(tracks));
        }
    }

    /// Makes a session a viewer of packets. False if none of its tracks is there.
    pub(super) fn seat_packets(&mut self, conn: ConnId, id: StreamId, tracks: &[TrackId]) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else {
            return false;
        };
        let carried = Self::carried(stream);
        let is_there = |id: &&TrackId| carried.iter().any(|track| track.id == **id);
        let mut tracks: SmallVec<[TrackId; 4]> = tracks.iter().filter(is_there).copied().collect();
        tracks.sort_unstable();
        tracks.dedup();
        tracks.truncate(TRACKS_MAX);
        if tracks.is_empty() {
            return false;
        }
        stream.views += 1;
        if stream.packets.viewers.is_empty() {
            stream.packets.told = stream.identities();
        }
        let is_reordered = tracks
            .iter()
            .any(|id| stream.statistics[id.index()].is_reordered);
        if is_reordered && !std::mem::replace(&mut stream.packets.has_warned, true) {
            tracing::info!(
                stream = %stream.name,
                "pictures come out of order (B-frames), which WebRTC viewers show unevenly"
            );
        }
        let key = self.packet_viewers.insert(PacketViewer {
            conn,
            stream: id,
            tracks: tracks.clone(),
            before: None,
            since: self.now,
            refreshed: None,
        });
        stream.packets.add_viewer(key);
        self.business.insert(conn, Business::Packets(key));
        self.counters.viewers_total += 1;
        self.review_wishes(id);
        for track in tracks {
            self.watch(id, conn, track);
        }
        true
    }

    /// Adds a viewer to a track: it begins at once if it can, or with the next keyframe.
    fn watch(&mut self, id: StreamId, conn: ConnId, track: TrackId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.packetize_backlog(track);
        let Some(known) = stream.tracks.get(track.index()) else {
            return;
        };
        let part = stream.packets.track(known);
        part.add(conn);
        self.start_pending(id, track);
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let is_home = stream.home_ref().is_some();
        let part = stream.packets.tracks.get(&track);
        // A mirror may be about to be told what it can begin with.
        if part.is_some_and(|part| part.has_pending() && (is_home || !part.log.is_empty())) {
            self.want_keyframe(id, track);
        }
    }

    fn part(&mut self, id: StreamId, track: TrackId) -> Option<&mut PacketTrack> {
        self.streams.get_mut(&id)?.packets.tracks.get_mut(&track)
    }

    pub(super) fn remove_packet_viewer(&mut self, key: usize) -> PacketViewer {
        let viewer = self.packet_viewers.remove(key);
        let watched = self.now.saturating_duration_since(viewer.since);
        if let Some(stream) = self.streams.get_mut(&viewer.stream) {
            stream.viewed += watched;
            stream.packets.viewers.remove(&key);
            for track in &viewer.tracks {
                if let Some(part) = stream.packets.tracks.get_mut(track) {
                    part.remove(viewer.conn);
                }
            }
        }
        viewer
    }

    /// Ends a viewer of packets from this side.
    pub(super) fn end_packet_viewer(&mut self, key: usize) {
        let viewer = self.remove_packet_viewer(key);
        self.business.remove(&viewer.conn);
        self.rtc(viewer.conn, RtcReply::EndPlay);
    }

    pub(super) fn dismiss_packet_viewers(&mut self, id: StreamId) {
        let viewers = self
            .streams
            .get(&id)
            .map(|stream| stream.packets.viewers.clone());
        for key in viewers.unwrap_or_default() {
            self.end_packet_viewer(key);
        }
    }

    /// Tells viewers of packets that there are other tracks, or other codecs, than they know of.
    pub(super) fn tell_tracks(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.packets.viewers.is_empty() {
            return;
        }
        let identities = stream.identities();
        if identities == stream.packets.told {
            return;
        }
        stream.packets.told = identities;
        // What is kept of a codec that has changed is let go of.
        for track in &stream.tracks {
            if stream.packets.tracks.contains_key(&track.id) {
                stream.packets.track(track);
            }
        }
        let tracks = Self::carried(stream);
        let viewers: Vec<usize> = stream.packets.viewers.iter().copied().collect();
        for key in viewers {
            let viewer = &self.packet_viewers[key];
            let is_left = |id: &TrackId| tracks.iter().any(|track| track.id == *id);
            if viewer.tracks.iter().any(is_left) {
                let conn = viewer.conn;
                self.rtc(conn, RtcReply::TracksChanged(tracks.clone()));
            } else {
                self.end_packet_viewer(key);
            }
        }
    }

    pub(super) fn rtc(&mut self, conn: ConnId, reply: RtcReply) {
        self.outputs.push_back(Output::Rtc(conn, reply));
    }
}

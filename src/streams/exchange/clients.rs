//! What the API wants of a shard: who is here, and that some leave.

use std::collections::BTreeMap;
use std::time::Duration;

use super::viewers::end_viewer;
use super::{Exchange, Publisher, Via};
use crate::base::ids::{ConnId, StreamId};
use crate::streams::client::{
    ClientSnapshot, EVERYWHERE, Figures, Role as ClientRole, SessionFilter, ShardClients, Tally,
    tally_of,
};
use crate::streams::message::Message;
use crate::streams::name::StreamName;
use crate::streams::output::Container;
use crate::streams::snapshot::ShardSnapshot;
use crate::streams::stream::{Role, Viewer};

/// What publishers speak, in MistServer's words.
const INPUT_RTMP: &str = "INPUT:RTMP";
const INPUT_RTC: &str = "INPUT:WebRTC";

impl Publisher {
    fn connector(&self) -> &'static str {
        match self.via {
            Via::Rtmp => INPUT_RTMP,
            Via::Rtc(_) => INPUT_RTC,
        }
    }
}

impl Exchange {
    /// Sums over the clients of this shard, and each of them if `each` is set; addresses and bytes
    /// of connections are for the door to fill in.
    pub fn clients(&self, each: bool) -> ShardClients {
        ShardClients {
            tally: self.tally(),
            sessions: self
                .sessions
                .iter()
                .map(|session| (session.id, session.form.connector()))
                .collect(),
            clients: if each {
                self.list_clients()
            } else {
                Vec::new()
            },
        }
    }

    fn tally(&self) -> Tally {
        let mut viewers = [0; Container::ALL.len()];
        for (_, viewer) in &self.viewers {
            viewers[viewer.container as usize] += 1;
        }
        viewers[Container::WebRtc as usize] = self.packet_viewers.len() as u64;
        let counters = &self.counters;
        let mut tally = tally_of(&viewers, &counters.bytes_out, &counters.segment_bytes_out);
        let by_packets = counters.packet_bytes_in;
        let by_frames = counters.bytes_in - by_packets;
        for (connector, down) in [(INPUT_RTMP, by_frames), (INPUT_RTC, by_packets)] {
            let publishers = self.begun_publishers();
            let of_it = publishers.filter(|publisher| publisher.connector() == connector);
            let figures = Figures {
                inputs: of_it.count() as u64,
                down,
                ..Figures::default()
            };
            if connector == INPUT_RTMP || figures != Figures::default() {
                tally.entry(connector).or_default().add(&figures);
            }
        }
        tally
    }

    /// Publishers that were let in.
    fn begun_publishers(&self) -> impl Iterator<Item = &Publisher> {
        self.publishers
            .values()
            .filter(|publisher| publisher.home.is_some())
    }

    fn list_clients(&self) -> Vec<ClientSnapshot> {
        let viewers = self.viewers.iter().filter_map(|(_, viewer)| {
            let stream = self.streams.get(&viewer.stream)?;
            Some(ClientSnapshot {
                id: (self.me, viewer.conn.0),
                conn: Some(viewer.conn),
                host: None,
                stream: stream.name.clone(),
                protocol: viewer.container.connector(),
                role: ClientRole::Viewer,
                age: self.now.saturating_duration_since(viewer.since),
                position_ms: stream.newest_ms(),
                up: 0,
                down: 0,
            })
        });
        let packet_viewers = self.packet_viewers.iter().filter_map(|(_, viewer)| {
            let stream = self.streams.get(&viewer.stream)?;
            Some(ClientSnapshot {
                id: (self.me, viewer.conn.0),
                conn: Some(viewer.conn),
                host: None,
                stream: stream.name.clone(),
                protocol: Container::WebRtc.connector(),
                role: ClientRole::Viewer,
                age: self.now.saturating_duration_since(viewer.since),
                position_ms: stream.newest_ms(),
                up: 0,
                down: 0,
            })
        });
        let publishers = self.begun_publishers().map(|publisher| {
            let stream = publisher
                .home
                .and_then(|home| self.streams.get(&home.stream));
            ClientSnapshot {
                id: (self.me, publisher.conn.0),
                conn: Some(publisher.conn),
                host: Some(publisher.peer),
                stream: publisher.name.clone(),
                protocol: publisher.connector(),
                role: ClientRole::Input,
                age: self.now.saturating_duration_since(publisher.since),
                position_ms: stream.map_or(0, |stream| stream.newest_ms()),
                up: 0,
                down: publisher.bytes,
            }
        });
        let sessions = self.sessions.iter().map(|session| {
            let id = self.by_name.get(&session.stream);
            let stream = id.and_then(|id| self.streams.get(id));
            let age_ms = self.unix_ms.saturating_sub(session.since_unix_ms).max(0);
            ClientSnapshot {
                id: (EVERYWHERE, session.id),
                conn: None,
                host: session.address,
                stream: session.stream.clone(),
                protocol: session.form.connector(),
                role: ClientRole::Viewer,
                age: Duration::from_millis(age_ms as u64),
                position_ms: stream.map_or(0, |stream| stream.newest_ms()),
                up: session.bytes,
                down: 0,
            }
        });
        viewers
            .chain(packet_viewers)
            .chain(publishers)
            .chain(sessions)
            .collect()
    }

    /// Adds the time that viewers who are still here have watched.
    pub(super) fn add_view_seconds(&self, snapshot: &mut ShardSnapshot) {
        let mut watched: BTreeMap<StreamId, Duration> = BTreeMap::new();
        let viewers = self.viewers.iter().map(|(_, it)| (it.stream, it.since));
        let packet_viewers = self.packet_viewers.iter();
        let packet_viewers = packet_viewers.map(|(_, it)| (it.stream, it.since));
        for (stream, since) in viewers.chain(packet_viewers) {
            *watched.entry(stream).or_default() += self.now.saturating_duration_since(since);
        }
        for stream in &mut snapshot.streams {
            stream.view_seconds += watched.get(&stream.id).map_or(0, Duration::as_secs);
        }
    }

    /// A viewer leaves: what it has watched is counted.
    pub(super) fn count_view(&mut self, viewer: &Viewer) {
        let watched = self.now.saturating_duration_since(viewer.since);
        if let Some(stream) = self.streams.get_mut(&viewer.stream) {
            stream.viewed += watched;
        }
    }

    /// Ends the sessions that a filter means.
    pub(super) fn stop_sessions(&mut self, filter: &SessionFilter) {
        let viewers: Vec<usize> = self
            .viewers
            .iter()
            .filter(|(_, viewer)| {
                self.streams.get(&viewer.stream).is_some_and(|stream| {
                    let id = (self.me, viewer.conn.0);
                    filter.matches(id, &stream.name, viewer.container.connector())
                })
            })
            .map(|(key, _)| key)
            .collect();
        for key in viewers {
            let viewer = &self.viewers[key];
            end_viewer(viewer, &mut self.outputs);
            let conn = viewer.conn;
            self.business.remove(&conn);
            self.remove_viewer(key);
        }
        let packet_viewers: Vec<usize> = self
            .packet_viewers
            .iter()
            .filter(|(_, viewer)| {
                self.streams.get(&viewer.stream).is_some_and(|stream| {
                    let id = (self.me, viewer.conn.0);
                    filter.matches(id, &stream.name, Container::WebRtc.connector())
                })
            })
            .map(|(key, _)| key)
            .collect();
        for key in packet_viewers {
            self.end_packet_viewer(key);
        }
        let sessions: Vec<u64> = self
            .sessions
            .iter()
            .filter(|session| {
                let id = (EVERYWHERE, session.id);
                filter.matches(id, &session.stream, session.form.connector())
            })
            .map(|session| session.id)
            .collect();
        for id in sessions {
            self.sessions.stop(self.now, id);
        }
        let publishers: Vec<ConnId> = self
            .publishers
            .values()
            .filter(|publisher| {
                let id = (self.me, publisher.conn.0);
                filter.matches(id, &publisher.name, publisher.connector())
            })
            .map(|publisher| publisher.conn)
            .collect();
        for conn in publishers {
            self.end_publisher(conn);
        }
    }

    /// Ends a stream at once: its publisher, its viewers and those that wait for it, and the buffer.
    pub(super) fn nuke(&mut self, name: &StreamName) {
        let publishers: Vec<ConnId> = self
            .publishers
            .values()
            .filter(|publisher| publisher.name == *name)
            .map(|publisher| publisher.conn)
            .collect();
        for conn in publishers {
            self.end_publisher(conn);
        }
        for waiting in self.waiting.remove(name).unwrap_or_default() {
            self.business.remove(&waiting.conn);
            self.give_up(waiting.conn, name, &waiting.want);
        }
        let Some(id) = self.by_name.get(name).copied() else {
            return;
        };
        self.dismiss_viewers(id);
        let now = self.now;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        // The publisher's own shard may say later that it is gone; the registrar keeps the name
        // until it does, so the release is asked for again with each sweep.
        let publication = match &stream.role {
            Role::Home(home) => home
                .publication
                .as_ref()
                .map(|publication| (publication.shard, publication.publisher)),
            Role::Mirror(_) => return,
        };
        if let Some((shard, publisher)) = publication {
            stream.end(now, shard, publisher);
        }
        if let Some(home) = stream.home() {
            home.alone_since = now
                .checked_sub(Duration::from_secs(2 * 86_400))
                .or(Some(now));
            home.is_releasing = true;
            let (name, stream) = (name.clone(), id);
            self.mesh(self.control, Message::Release { name, stream });
        }
    }
}

//! Publishers whose connection is on this shard.

use std::time::Duration;

use super::{Business, Exchange, Publisher, RtcReply, RtmpReply, Via};
use crate::base::ids::ConnId;
use crate::hub::{Claimed, Home};
use crate::media::{Frame, Track};
use crate::streams::access::{self, PublishRequest};
use crate::streams::message::Message;
use crate::streams::name::StreamName;

/// Tracks that a publisher may announce or change in a second: twice as many as it may have.
const TRACK_CHANGES_PER_S_MAX: u32 = 64;

impl Exchange {
    /// An RTMP session wants to publish.
    pub fn rtmp_publish(&mut self, conn: ConnId, request: &PublishRequest<'_>) {
        self.publish(conn, request, Via::Rtmp);
    }

    pub(super) fn publish(&mut self, conn: ConnId, request: &PublishRequest<'_>, via: Via) {
        let permitted = if self.is_draining {
            Err("the server is stopping".to_owned())
        } else {
            access::may_publish(&self.config, request).map_err(|denied| {
                tracing::info!(peer = %request.peer, reason = %denied, "a publisher is refused");
                denied.to_string()
            })
        };
        let name = match permitted {
            Ok(name) => name,
            Err(reason) => {
                self.counters.publish_refused += 1;
                match via {
                    Via::Rtmp => self.rtmp(conn, RtmpReply::PublishDenied),
                    Via::Rtc(_) => self.rtc(conn, RtcReply::PublishDenied(reason)),
                }
                return;
            }
        };
        let takeover = name
            .settings(&self.config)
            .is_some_and(|settings| settings.takeover);
        let publisher = self.next_publisher;
        self.next_publisher += 1;
        self.business.insert(conn, Business::Publisher(publisher));
        self.publishers.insert(
            publisher,
            Publisher {
                conn,
                via,
                name: name.clone(),
                peer: request.peer,
                home: None,
                since: self.now,
                frames: 0,
                bytes: 0,
                heard: self.now,
                changes: 0,
                changes_since: self.now,
            },
        );
        self.mesh(
            self.control,
            Message::Claim {
                name,
                publisher,
                takeover,
            },
        );
    }

    /// A publisher announced or changed a track.
    pub fn publisher_track(&mut self, conn: ConnId, track: Track) {
        let Some((publisher, home)) = self.publication_of(conn) else {
            return;
        };
        if self.changes_too_often(publisher) {
            tracing::info!("a publisher changes its tracks too often and is ended");
            self.counters.bad_media += 1;
            self.end_publisher(conn);
            return;
        }
        if home.shard == self.me {
            self.home_track(home.stream, (self.me, publisher), track);
        } else {
            self.mesh(
                home.shard,
                Message::IngestTrack {
                    stream: home.stream,
                    publisher,
                    track: Box::new(track),
                },
            );
        }
    }

    /// A change of a track is told to all shards and viewers, so it has a bound of its own.
    pub(super) fn changes_too_often(&mut self, publisher: u64) -> bool {
        let Some(entry) = self.publishers.get_mut(&publisher) else {
            return false;
        };
        if self.now >= entry.changes_since + Duration::from_secs(1) {
            entry.changes_since = self.now;
            entry.changes = 0;
        }
        entry.changes += 1;
        entry.changes > TRACK_CHANGES_PER_S_MAX
    }

    /// Ends a publisher from this side.
    pub(super) fn end_publisher(&mut self, conn: ConnId) {
        let Some(Business::Publisher(publisher)) = self.business.get(&conn) else {
            return;
        };
        let via = self
            .publishers
            .get(publisher)
            .map(|publisher| publisher.via);
        self.connection_gone(conn);
        match via {
            Some(Via::Rtmp) => self.rtmp(conn, RtmpReply::EndPublish),
            Some(Via::Rtc(_)) => self.rtc(conn, RtcReply::EndPublish),
            None => {}
        }
    }

    /// A publisher sent a frame.
    pub fn publisher_frame(&mut self, conn: ConnId, frame: Frame) {
        let Some((publisher, home)) = self.publication_of(conn) else {
            return;
        };
        let Some(entry) = self.publishers.get_mut(&publisher) else {
            return;
        };
        let number = entry.frames;
        entry.frames += 1;
        entry.bytes += frame.data.len() as u64;
        entry.heard = self.now;
        self.counters.frames_in += 1;
        self.counters.bytes_in += frame.data.len() as u64;
        if home.shard == self.me {
            self.home_frame(home.stream, (self.me, publisher), number, frame);
        } else {
            self.outputs.push_back(Self::media(
                home.shard,
                Message::Ingest {
                    stream: home.stream,
                    publisher,
                    number,
                    frame,
                },
            ));
        }
    }

    /// A publisher's tag could not be read.
    pub fn bad_media(&mut self) {
        self.counters.bad_media += 1;
    }

    /// A publisher stopped; its connection may go on.
    pub fn publisher_ended(&mut self, conn: ConnId) {
        if matches!(self.business.get(&conn), Some(Business::Publisher(_))) {
            self.connection_gone(conn);
        }
    }

    pub(super) fn publication_of(&self, conn: ConnId) -> Option<(u64, Home)> {
        let Some(Business::Publisher(publisher)) = self.business.get(&conn) else {
            return None;
        };
        let home = self.publishers.get(publisher)?.home?;
        Some((*publisher, home))
    }

    pub(super) fn claimed(&mut self, name: &StreamName, publisher: u64, claimed: Claimed) {
        if let Claimed::Granted { home, .. } = claimed
            && home.shard == self.me
        {
            // Also for a publisher that has gone since: the name stays taken until its home
            // releases it.
            self.make_home(name, home.stream);
        }
        let Some(entry) = self.publishers.get_mut(&publisher) else {
            return; // It has said so to the registrar.
        };
        let (conn, via) = (entry.conn, entry.via);
        match claimed {
            Claimed::Granted {
                home,
                turn,
                resumed,
                ..
            } => {
                entry.home = Some(home);
                self.counters.publishers_total += 1;
                tracing::info!(stream = %name, peer = %entry.peer, resumed, "a publisher begins");
                if home.shard == self.me {
                    let publisher = (self.me, publisher);
                    let kind = (via.protocol(), via.is_packets());
                    self.begin(home.stream, turn, publisher, kind);
                } else {
                    self.mesh(
                        home.shard,
                        Message::Begin {
                            stream: home.stream,
                            name: name.clone(),
                            publisher,
                            turn,
                            protocol: via.protocol(),
                            is_packets: via.is_packets(),
                        },
                    );
                }
                match via {
                    Via::Rtmp => self.rtmp(conn, RtmpReply::AcceptPublish),
                    Via::Rtc(_) => self.rtc(conn, RtcReply::AcceptPublish),
                }
            }
            Claimed::Busy | Claimed::Full => {
                let reason = if claimed == Claimed::Full {
                    "limits.streams_max is reached"
                } else {
                    "the stream has a publisher"
                };
                tracing::info!(stream = %name, peer = %entry.peer, reason, "a publisher is refused");
                self.counters.publish_refused += 1;
                self.publishers.remove(&publisher);
                self.business.remove(&conn);
                match via {
                    Via::Rtmp => self.rtmp(conn, RtmpReply::PublishBusy),
                    Via::Rtc(_) => self.rtc(conn, RtcReply::PublishBusy),
                }
            }
        }
    }

    pub(super) fn replaced(&mut self, publisher: u64) {
        if let Some(entry) = self.publishers.get(&publisher) {
            let conn = entry.conn;
            tracing::info!(stream = %entry.name, "a publisher is replaced");
            self.end_publisher(conn);
        }
    }

    pub(super) fn publisher_gone(&mut self, publisher: u64) {
        let Some(entry) = self.publishers.remove(&publisher) else {
            return;
        };
        if let Some(home) = entry.home {
            tracing::info!(stream = %entry.name, "a publisher is gone");
            if home.shard == self.me {
                self.end(home.stream, self.me, publisher);
            } else {
                self.mesh(
                    home.shard,
                    Message::End {
                        stream: home.stream,
                        publisher,
                    },
                );
            }
        }
        self.mesh(
            self.control,
            Message::Unclaim {
                name: entry.name,
                publisher,
            },
        );
    }

    /// Ends publishers that have been silent for longer than their stream allows.
    pub(super) fn sweep_publishers(&mut self) {
        let silent: Vec<(ConnId, StreamName)> = self
            .publishers
            .values()
            .filter(|publisher| {
                publisher
                    .name
                    .settings(&self.config)
                    .is_some_and(|settings| self.now >= publisher.heard + settings.input_timeout)
            })
            .map(|publisher| (publisher.conn, publisher.name.clone()))
            .collect();
        for (conn, name) in silent {
            tracing::info!(stream = %name, "a publisher has sent nothing for too long");
            self.end_publisher(conn);
        }
    }
}

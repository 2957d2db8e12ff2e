//! Offers by HTTP: requests come from `whip`, sessions are made and changed here.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::time::Instant;

use super::door::{Identity, RtcDoor};
use super::message::RtcMessage;
use super::sessions::{Made, State};
use crate::base::ids::{ConnId, ShardId, TrackId};
use crate::media::{Codec, Kind, Track, VideoFormat};
use crate::proto::http::{Request, Response};
use crate::proto::ice::Credentials;
use crate::proto::webrtc::{
    Entropy, Facts, Negotiated, Offer, Preferences, SessionKey, Tenant, answer_play,
    answer_publish, password,
};
use crate::streams::exchange::Exchange;
use crate::streams::name::StreamName;
use crate::streams::output::{Choice, Container, Selection};
use crate::streams::whip::{self, Ask, Change, PostedOffer, Role};

/// Who asked, while the answer is being found.
#[derive(Debug)]
pub(super) struct Asking {
    conn: ConnId,
    name: StreamName,
    offer: Box<Offer>,
    selection: Selection,
    layer: Option<String>,
    /// The connection is a WebSocket, with which the session is to end.
    is_socket: bool,
}

/// What a connection waits for that has asked for a stream's tracks.
#[derive(Debug)]
pub(super) enum Waiting {
    /// The answer to an offer.
    Answer(Box<Asking>),
    /// Another layer for a session of this shard.
    Layer {
        key: SessionKey,
        layer: String,
        /// The shard whose connection it is, if not this one's.
        by: Option<ShardId>,
        conn: ConnId,
    },
}

impl RtcDoor {
    /// A request on the streams' HTTP port. False if it is not about WebRTC.
    pub(in crate::streams) fn request(
        &mut self,
        exchange: &mut Exchange,
        conn: ConnId,
        from: IpAddr,
        request: &Request,
    ) -> bool {
        let Some(asked) = whip::read(request, &self.limits()) else {
            return false;
        };
        match asked {
            Ok(Ask::Options) => {
                let response = whip::options(self.ice_servers());
                self.respond(conn, response);
            }
            Ok(Ask::Offer(posted)) => self.offer(exchange, conn, from, &posted),
            Ok(ask @ (Ask::Patch { .. } | Ask::Delete { .. } | Ask::Layer { .. })) => {
                self.change(exchange, conn, ask);
            }
            Err(response) => self.respond(conn, response),
        }
        true
    }

    /// A request about a session: for its maker, which may be another shard.
    fn change(&mut self, exchange: &mut Exchange, conn: ConnId, ask: Ask) {
        let (Ask::Patch { key, .. } | Ask::Delete { key } | Ask::Layer { key, .. }) = &ask else {
            return;
        };
        match SessionKey::of(key).map(SessionKey::shard) {
            Some(maker) if maker == self.me => {
                if let Some(response) = self.change_made(exchange, (None, conn), ask) {
                    self.respond(conn, response);
                }
            }
            Some(maker) if self.is_media_shard(maker) => {
                let ask = Box::new(ask);
                self.mesh(maker, RtcMessage::Ask { conn, ask });
            }
            Some(_) | None => self.respond(conn, whip::no_session()),
        }
    }

    /// A request about a session that was made here. No response if it comes later.
    pub(super) fn change_made(
        &mut self,
        exchange: &mut Exchange,
        (by, conn): (Option<ShardId>, ConnId),
        ask: Ask,
    ) -> Option<Response> {
        match ask {
            Ask::Delete { key } => {
                let Some((key, _)) = self.sessions.at(&key) else {
                    return Some(whip::no_session());
                };
                self.end_later(key);
                Some(whip::deleted())
            }
            Ask::Patch {
                key,
                precondition,
                body,
            } => {
                let limits = self.limits();
                let Some((key, made)) = self.sessions.at(&key) else {
                    return Some(whip::no_session());
                };
                let read =
                    whip::read_patch(&precondition, &body, &made.etag, &made.remote, &limits);
                Some(match read {
                    Ok(Change::Candidates) => whip::patched(),
                    Ok(Change::Restart(remote)) => self.restart(key, remote),
                    Err(response) => response,
                })
            }
            Ask::Layer { key, layer } => {
                let Some((key, made)) = self.sessions.at(&key) else {
                    return Some(whip::no_session());
                };
                if made.publisher.is_some() {
                    return Some(whip::no_layer());
                }
                let name = made.name.clone();
                let waiting = Waiting::Layer {
                    key,
                    layer,
                    by,
                    conn,
                };
                // A connection of another shard may have a number that one of this shard has.
                let asker = self.next_asker();
                self.waiting.insert(asker, waiting);
                exchange.rtc_offer_info(asker, name.as_str());
                None
            }
            Ask::Options | Ask::Offer(_) => None,
        }
    }

    fn restart(&mut self, key: SessionKey, remote: Credentials) -> Response {
        let Some(random) = self.entropy() else {
            return whip::no_session();
        };
        let candidates = match &self.identity {
            Some(identity) => identity.candidates.clone(),
            None => return whip::no_session(),
        };
        let mut entropy = Entropy(&random);
        let local = Credentials {
            ufrag: key.ufrag(&mut entropy),
            password: password(&mut entropy),
        };
        let Some(made) = self.sessions.get_mut(key) else {
            return whip::no_session();
        };
        made.etag = etag(&local);
        made.remote = remote.clone();
        let response = whip::restarted(&local, &candidates, &made.mid, &made.etag);
        match &mut made.state {
            State::Waiting(negotiated) => {
                negotiated.local = local;
                negotiated.remote = remote;
            }
            State::RunBy(shard) => {
                let shard = *shard;
                self.mesh(shard, RtcMessage::Restart { key, local, remote });
            }
        }
        response
    }

    pub(super) fn offer(
        &mut self,
        exchange: &mut Exchange,
        conn: ConnId,
        from: IpAddr,
        posted: &PostedOffer,
    ) {
        let Some(identity) = &self.identity else {
            self.refuse(conn, 503, "WebRTC is off, or the server is stopping.");
            return;
        };
        let is_full = self.half_open() + self.publishing.len() + self.waiting.len()
            >= identity.half_open_max
            || self.sessions.len().max(self.peers().len()) >= identity.sessions_max;
        if is_full {
            self.refuse(conn, 503, "There are too many sessions.");
            return;
        }
        let offer = match Offer::parse(&posted.body, &identity.limits) {
            Ok(offer) => Box::new(offer),
            Err(problem) => {
                self.counters.offers_refused += 1;
                self.respond(conn, whip::offer_refused(&problem));
                return;
            }
        };
        let is_publisher = match posted.role {
            Role::Publish => true,
            Role::Play => false,
            Role::ByOffer => offer.sends(),
        };
        // A publisher's name may be a key, which says nothing to anybody else.
        let name = match StreamName::parse(&posted.name) {
            Err(_) if is_publisher => StreamName::parse("stream"),
            parsed => parsed,
        };
        let Ok(name) = name else {
            self.refuse(conn, 404, "There is no such stream.");
            return;
        };
        let asking = Box::new(Asking {
            conn,
            name,
            offer,
            selection: posted.selection.clone(),
            layer: posted.layer.clone(),
            is_socket: self.sockets.has(conn),
        });
        if is_publisher {
            let publisher = self.next_publisher();
            self.publishing.insert(publisher, asking);
            let protocol = match self.sockets.has(conn) {
                true => "webrtc",
                false => "whip",
            };
            exchange.rtc_publish(publisher, &posted.publish_request(from), protocol);
        } else {
            self.waiting.insert(conn, Waiting::Answer(asking));
            exchange.rtc_offer_info(conn, &posted.name);
        }
    }

    /// The exchange takes a publisher.
    pub(super) fn accept_publisher(
        &mut self,
        exchange: &mut Exchange,
        now: Instant,
        publisher: ConnId,
    ) {
        let Some(asking) = self.publishing.remove(&publisher) else {
            return;
        };
        let answered = self.answer(&asking.name, |facts| {
            answer_publish(&asking.offer, &publishing(), facts)
                .map(|answer| (answer.negotiated, answer.text))
        });
        match answered {
            Some((key, resource, Ok((negotiated, text)))) => {
                let names = (key, resource);
                self.created(now, &asking, names, negotiated, text, Some(publisher));
            }
            Some((_, _, Err(problem))) => {
                exchange.connection_gone(publisher);
                self.counters.offers_refused += 1;
                self.respond(asking.conn, whip::offer_refused(&problem));
            }
            None => {
                exchange.connection_gone(publisher);
                self.refuse(
                    asking.conn,
                    503,
                    "WebRTC is off, or the server is stopping.",
                );
            }
        }
    }

    /// The exchange does not take a publisher, because there is another one.
    pub(super) fn refuse_busy(&mut self, publisher: ConnId) {
        if let Some(asking) = self.publishing.remove(&publisher) {
            let text = "The stream has a publisher, or there are too many streams.";
            self.refuse(asking.conn, 409, text);
        }
    }

    /// The exchange does not let a publisher in.
    pub(super) fn refuse_publisher(&mut self, publisher: ConnId) {
        if let Some(asking) = self.publishing.remove(&publisher) {
            self.counters.offers_refused += 1;
            self.respond(asking.conn, whip::unauthorized());
        }
    }

    fn refuse(&mut self, conn: ConnId, status: u16, text: &str) {
        self.counters.offers_refused += 1;
        self.respond(conn, Response::text(status, text).with_cors());
    }

    /// There is no such stream. False if nobody here waited for it.
    pub(super) fn refuse_viewer(&mut self, conn: ConnId) -> bool {
        match self.waiting.remove(&conn) {
            Some(Waiting::Answer(asking)) => {
                let text = "There is no such stream, or it is not live.";
                self.refuse(asking.conn, 404, text);
            }
            Some(Waiting::Layer { by, conn, .. }) => {
                self.respond_to(by, conn, whip::no_layer());
            }
            None => return false,
        }
        true
    }

    /// The stream's tracks are known.
    pub(super) fn tracks_known(&mut self, now: Instant, conn: ConnId, tracks: &[Track]) {
        match self.waiting.remove(&conn) {
            Some(Waiting::Answer(asking)) => self.answer_viewer(now, &asking, tracks),
            Some(Waiting::Layer {
                key,
                layer,
                by,
                conn,
            }) => {
                let response = self.select(key, &layer, tracks);
                self.respond_to(by, conn, response);
            }
            None => {}
        }
    }

    fn respond_to(&mut self, by: Option<ShardId>, conn: ConnId, response: Response) {
        match by {
            None => self.respond(conn, response),
            Some(shard) => {
                let response = Box::new(response);
                self.mesh(shard, RtcMessage::Answer { conn, response });
            }
        }
    }

    /// A session is sent another layer from its next keyframe on.
    fn select(&mut self, key: SessionKey, layer: &str, tracks: &[Track]) -> Response {
        let Some(made) = self.sessions.get(key) else {
            return whip::no_session();
        };
        let found = tracks.iter().find(|track| {
            is_layer(track, layer) && Some(track.codec) == made.video && track.kind() == Kind::Video
        });
        let (Some(track), State::RunBy(shard)) = (found, &made.state) else {
            return whip::no_layer();
        };
        let (shard, track) = (*shard, track.id);
        self.mesh(shard, RtcMessage::Select { key, track });
        whip::layer_taken()
    }

    /// The offer of a viewer is answered with a stream's tracks.
    fn answer_viewer(&mut self, now: Instant, asking: &Asking, tracks: &[Track]) {
        let wanted = wanted(asking, tracks);
        let answered = self.answer(&asking.name, |facts| {
            answer_play(&asking.offer, &wanted, &Preferences::default(), facts)
                .map(|answer| (answer.negotiated, answer.text, answer.left_out))
        });
        match answered {
            Some((key, resource, Ok((negotiated, text, left_out)))) => {
                for (track, reason) in left_out {
                    tracing::info!(stream = %asking.name, %track, %reason, "a track is left out");
                }
                self.created(now, asking, (key, resource), negotiated, text, None);
            }
            Some((_, _, Err(problem))) => {
                self.counters.offers_refused += 1;
                self.respond(asking.conn, whip::offer_refused(&problem));
            }
            None => self.refuse(
                asking.conn,
                503,
                "WebRTC is off, or the server is stopping.",
            ),
        }
    }

    /// Makes a session's names and has its answer written.
    fn answer<R>(
        &self,
        name: &StreamName,
        write: impl FnOnce(&Facts<'_>) -> R,
    ) -> Option<(SessionKey, String, R)> {
        let Identity {
            fingerprint,
            candidates,
            ..
        } = self.identity.as_ref()?;
        let random = self.entropy()?;
        let mut entropy = Entropy(&random);
        let key = SessionKey::new(self.me, Tenant::Streams, &mut entropy);
        let credentials = Credentials {
            ufrag: key.ufrag(&mut entropy),
            password: password(&mut entropy),
        };
        let resource = key.resource(&mut entropy);
        let facts = Facts {
            credentials: &credentials,
            fingerprint,
            candidates,
            session: key.number(),
            seed: entropy.number(),
            name: name.as_str(),
        };
        let result = write(&facts);
        Some((key, resource, result))
    }

    /// A session is made, and its maker answered.
    fn created(
        &mut self,
        now: Instant,
        asking: &Asking,
        (key, resource): (SessionKey, String),
        negotiated: Negotiated,
        text: String,
        publisher: Option<ConnId>,
    ) {
        self.counters.offers_answered += 1;
        let etag = etag(&negotiated.local);
        let response = whip::created(text, &resource, &etag, self.ice_servers());
        let made = Made {
            name: asking.name.clone(),
            publisher,
            resource,
            etag,
            remote: negotiated.remote.clone(),
            mid: first_tag(&negotiated),
            video: video_codec(&negotiated),
            state: State::Waiting(Box::new(negotiated)),
            since: now,
            socket: None,
        };
        self.sessions.insert(key, made);
        if asking.is_socket && !self.bind(asking.conn, key) {
            self.end_later(key);
            return;
        }
        self.respond(asking.conn, response);
    }
}

/// Of publishers H.264 is asked first: it is what RTMP, HLS and most players take.
fn publishing() -> Preferences {
    Preferences {
        codecs: vec![Codec::H264],
        ..Preferences::default()
    }
}

/// Changes with an ICE restart (RFC 9725 section 4.3.1).
fn etag(local: &Credentials) -> String {
    format!("\"{}\"", local.ufrag)
}

fn first_tag(negotiated: &Negotiated) -> String {
    let incoming = negotiated.incoming.iter().map(|section| &section.mid);
    let mut all = incoming.chain(negotiated.outgoing.iter().map(|track| &track.mid));
    all.next().cloned().unwrap_or_default()
}

fn video_codec(negotiated: &Negotiated) -> Option<Codec> {
    let mut outgoing = negotiated.outgoing.iter();
    let video = outgoing.find(|track| track.kind == Kind::Video)?;
    Some(video.format.codec)
}

/// A layer is known by its name or by its track's number.
fn is_layer(track: &Track, layer: &str) -> bool {
    track.rid == layer || layer.parse() == Ok(track.id.0)
}

/// The tracks of a stream in the order in which they should be sent: those that the selection names,
/// and for each kind that it leaves open all of them, so that the first that fits is taken. Of
/// simulcast layers the biggest one comes first, whichever was heard first.
fn wanted(asking: &Asking, tracks: &[Track]) -> Vec<Track> {
    let choice = |track: &Track| match track.kind() {
        Kind::Video => &asking.selection.video,
        Kind::Audio => &asking.selection.audio,
    };
    let mut wanted: Vec<Track> = tracks
        .iter()
        .filter(|track| Container::WebRtc.carries(track.codec))
        .filter(|track| match choice(track) {
            Choice::First | Choice::All => true,
            Choice::Nothing => false,
            Choice::Track(number) => track.id == TrackId(*number),
            Choice::Codec(name) => track.codec.name().eq_ignore_ascii_case(name),
        })
        .cloned()
        .collect();
    if let Some(layer) = &asking.layer {
        wanted.retain(|track| track.kind() == Kind::Audio || is_layer(track, layer));
    }
    wanted.sort_by_key(|track| {
        let pixels = |video: VideoFormat| u64::from(video.width) * u64::from(video.height);
        let is_layer = !track.rid.is_empty();
        Reverse(match is_layer {
            true => track.video.map_or(0, pixels),
            false => u64::MAX,
        })
    });
    wanted
}

//! WHIP (RFC 9725) and WHEP: offers by HTTP.

use std::net::IpAddr;
use std::time::Instant;

use super::door::{Asking, Identity, RtcDoor};
use super::key::{Entropy, SessionKey, password};
use super::sessions::{Made, State};
use crate::base::ids::ConnId;
use crate::media::{Kind, Track};
use crate::proto::http::{Method, Request, Response};
use crate::proto::ice::Credentials;
use crate::proto::sdp;
use crate::proto::webrtc::{Facts, Negotiated, Offer, Preferences, answer_play, answer_publish};
use crate::streams::access::PublishRequest;
use crate::streams::exchange::Exchange;
use crate::streams::name::StreamName;
use crate::streams::output::{Choice, Container, Selection};

impl RtcDoor {
    /// A request on the streams' HTTP port. False if it is not about WebRTC.
    pub(in crate::streams) fn request(
        &mut self,
        exchange: &mut Exchange,
        conn: ConnId,
        from: IpAddr,
        request: &Request,
    ) -> bool {
        let mut parts = request.path.trim_start_matches('/').splitn(2, '/');
        let (Some(first @ ("whip" | "whep" | "webrtc")), Some(name)) = (parts.next(), parts.next())
        else {
            return false;
        };
        let response = match request.method {
            Method::Post => {
                self.offer(exchange, conn, from, request, first, name);
                return true;
            }
            Method::Options => self.options_response(),
            Method::Get | Method::Head | Method::Put | Method::Delete | Method::Patch => {
                return false;
            }
        };
        self.respond(conn, response);
        true
    }

    fn options_response(&self) -> Response {
        Response::new(204)
            .with_header("Accept-Post", "application/sdp")
            .with_cors()
    }

    fn offer(
        &mut self,
        exchange: &mut Exchange,
        conn: ConnId,
        from: IpAddr,
        request: &Request,
        kind: &str,
        name: &str,
    ) {
        let refuse = |status, text: String| Response::text(status, text).with_cors();
        let Some(identity) = &self.identity else {
            self.respond(conn, refuse(503, "WebRTC is off.".into()));
            return;
        };
        let full = if self.sessions.waiting() >= identity.half_open_max {
            Some("Too many sessions wait for their peers.")
        } else if self.sessions.len().max(self.peers().len()) >= identity.sessions_max {
            Some("There are too many sessions.")
        } else {
            None
        };
        if let Some(full) = full {
            self.counters.offers_refused += 1;
            self.respond(conn, refuse(503, full.into()));
            return;
        }
        let offer = match Offer::parse(&request.body, &sdp::Limits::default()) {
            Ok(offer) => Box::new(offer),
            Err(problem) => {
                self.counters.offers_refused += 1;
                self.respond(conn, refuse(400, format!("{problem}")));
                return;
            }
        };
        let Ok(stream) = StreamName::parse(name) else {
            self.respond(conn, refuse(404, "There is no such stream.".into()));
            return;
        };
        let choice = |parameter| {
            let text = request.parameter(parameter);
            text.and_then(|text| Choice::parse(&text))
                .unwrap_or_default()
        };
        let asking = Asking {
            conn,
            name: stream,
            offer,
            selection: Selection {
                video: choice("video"),
                audio: choice("audio"),
            },
        };
        if kind == "whip" || kind == "webrtc" && asking.offer.sends() {
            let publisher = self.next_publisher();
            self.publishing.insert(publisher, asking);
            let request = PublishRequest {
                name: name.into(),
                passwords: Vec::new(),
                peer: from,
            };
            exchange.rtc_publish(publisher, &request, "whip");
        } else {
            self.viewing.insert(conn, asking);
            exchange.rtc_offer_info(conn, name);
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
            answer_publish(&asking.offer, &Preferences::default(), facts)
                .map(|answer| (answer.negotiated, answer.text))
        });
        match answered {
            Some((key, resource, Ok((negotiated, text)))) => {
                self.created(
                    now,
                    &asking,
                    (key, resource),
                    negotiated,
                    text,
                    Some(publisher),
                );
            }
            Some((_, _, Err(problem))) => {
                exchange.connection_gone(publisher);
                self.refuse(asking.conn, 400, &problem.to_string());
            }
            None => {
                exchange.connection_gone(publisher);
                self.refuse(asking.conn, 503, "WebRTC is off.");
            }
        }
    }

    pub(super) fn refuse_publisher(&mut self, publisher: ConnId, status: u16, text: &str) {
        if let Some(asking) = self.publishing.remove(&publisher) {
            self.refuse(asking.conn, status, text);
        }
    }

    pub(super) fn refuse(&mut self, conn: ConnId, status: u16, text: &str) {
        self.counters.offers_refused += 1;
        self.respond(conn, Response::text(status, text).with_cors());
    }

    /// The stream's tracks are known: the offer is answered with them.
    pub(super) fn answer_viewer(&mut self, now: Instant, conn: ConnId, tracks: &[Track]) {
        let Some(asking) = self.viewing.remove(&conn) else {
            return;
        };
        let wanted = wanted(&asking.selection, tracks);
        let answered = self.answer(&asking.name, |facts| {
            answer_play(&asking.offer, &wanted, &Preferences::default(), facts)
                .map(|answer| (answer.negotiated, answer.text, answer.left_out))
        });
        match answered {
            Some((key, resource, Ok((negotiated, text, left_out)))) => {
                for (track, reason) in left_out {
                    tracing::info!(stream = %asking.name, %track, %reason, "a track is left out");
                }
                self.created(now, &asking, (key, resource), negotiated, text, None);
            }
            Some((_, _, Err(problem))) => self.refuse(conn, 406, &problem.to_string()),
            None => self.refuse(conn, 503, "WebRTC is off."),
        }
    }

    /// Makes a session's names and has its answer written.
    fn answer<R>(
        &mut self,
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
        let key = SessionKey::new(self.me, &mut entropy);
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
        let etag = format!("\"{}\"", negotiated.local.ufrag);
        let response = Response::new(201)
            .with_body("application/sdp", text)
            .with_header("Location", format!("/webrtc/{resource}"))
            .with_header("ETag", etag.clone())
            .with_cors();
        self.sessions.insert(
            key,
            Made {
                name: asking.name.clone(),
                publisher,
                resource,
                etag,
                state: State::Waiting(Box::new(negotiated)),
                since: now,
            },
        );
        self.respond(asking.conn, response);
    }
}

/// The tracks of a stream in the order in which they should be sent: those that the selection names,
/// and for each kind that it leaves open all of them, so that the first that fits is taken.
fn wanted(selection: &Selection, tracks: &[Track]) -> Vec<Track> {
    let choice = |track: &Track| match track.kind() {
        Kind::Video => &selection.video,
        Kind::Audio => &selection.audio,
    };
    tracks
        .iter()
        .filter(|track| Container::WebRtc.carries(track.codec))
        .filter(|track| match choice(track) {
            Choice::First | Choice::All => true,
            Choice::Nothing => false,
            Choice::Track(number) => track.id.0 == *number,
            Choice::Codec(name) => track.codec.name().eq_ignore_ascii_case(name),
        })
        .cloned()
        .collect()
}

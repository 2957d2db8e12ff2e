//! Connects the exchange to a shard's driver and mesh.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use crate::base::ids::{ConnId, ShardId};
use crate::config::Config;
use crate::drive::{Driver, ServerEvent, ServerSession};
use crate::io::Piece;
use crate::metrics::Latency;
use crate::proto::{http, rtmp};
use crate::shard::clock;
use crate::shard::mesh::{Class, Mesh};
use crate::streams::access::PublishRequest;
use crate::streams::client::ShardClients;
use crate::streams::exchange::{Exchange, HttpReply, Output, RtmpReply};
use crate::streams::message::Message;
use crate::streams::output::Container;

/// The streams of one shard, with their connections.
#[derive(Debug)]
pub struct Door {
    exchange: Exchange,
    latency: Latency,
    /// Receipt of frames whose sends are queued and not submitted.
    unsubmitted: Vec<(Instant, u64)>,
    /// RTMP connections by listeners that are not for both publishers and players.
    restricted: HashMap<ConnId, Restriction>,
}

#[derive(Clone, Copy, Debug)]
struct Restriction {
    publish: bool,
    play: bool,
}

impl Door {
    /// The door of shard `me`; the registrar is on shard `control`.
    pub fn new(me: ShardId, control: ShardId, config: Arc<Config>) -> Self {
        Self {
            exchange: Exchange::new(me, control, config, clock::now()),
            latency: Latency::default(),
            unsubmitted: Vec::new(),
            restricted: HashMap::new(),
        }
    }

    /// The exchange behind the door.
    pub fn exchange(&mut self) -> &mut Exchange {
        &mut self.exchange
    }

    /// How long frames have stayed so far.
    pub fn latency(&self) -> &Latency {
        &self.latency
    }

    /// Tells the time of this round.
    pub fn begin_round(&mut self, now: Instant) {
        self.exchange.set_time(now, clock::unix_millis());
    }

    /// A new RTMP connection may only publish, or only play.
    pub fn restrict(&mut self, conn: ConnId, publish: bool, play: bool) {
        if !(publish && play) {
            self.restricted.insert(conn, Restriction { publish, play });
        }
    }

    /// A session of this door has something to say.
    pub fn handle_event(
        &mut self,
        driver: &mut Driver<ServerSession>,
        conn: ConnId,
        event: ServerEvent,
    ) {
        match event {
            ServerEvent::Http(http::Event::Request(request)) => {
                self.exchange.http_request(conn, &request);
            }
            ServerEvent::Http(http::Event::Closed(_reason)) => {
                self.exchange.connection_gone(conn);
                driver.close(conn);
            }
            ServerEvent::Rtmp(event) => self.handle_rtmp(driver, conn, *event),
        }
    }

    fn handle_rtmp(
        &mut self,
        driver: &mut Driver<ServerSession>,
        conn: ConnId,
        event: rtmp::Event,
    ) {
        match event {
            rtmp::Event::Frame(frame) => self.exchange.publisher_frame(conn, frame),
            rtmp::Event::Track(track) => self.exchange.publisher_track(conn, track),
            rtmp::Event::BadMedia(error) => {
                tracing::debug!(?conn, %error, "media could not be read");
                self.exchange.bad_media();
            }
            rtmp::Event::Metadata(_) => {}
            rtmp::Event::Publish(_) if !self.may(conn).publish => {
                rtmp_reply(driver, conn, RtmpReply::PublishDenied);
            }
            rtmp::Event::Play(..) if !self.may(conn).play => {
                rtmp_reply(driver, conn, RtmpReply::PlayNotFound);
            }
            rtmp::Event::Publish(target) => {
                let peer = driver
                    .peer(conn)
                    .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
                let name = format!("{}?{}", target.name, target.query);
                let request = PublishRequest::rtmp(&target.app, &name, peer.to_canonical());
                self.exchange.rtmp_publish(conn, &request);
            }
            rtmp::Event::Play(target, _capabilities) => {
                self.exchange.rtmp_play(conn, &target.name);
            }
            rtmp::Event::Pause(is_paused) => self.exchange.viewer_paused(conn, is_paused),
            rtmp::Event::Unpublish => self.exchange.publisher_ended(conn),
            rtmp::Event::StopPlay => {
                driver.set_streaming(conn, false);
                self.exchange.viewer_ended(conn);
            }
            rtmp::Event::Closed(reason) => {
                tracing::debug!(?conn, ?reason, "an RTMP connection ends");
                self.restricted.remove(&conn);
                self.exchange.connection_gone(conn);
                driver.close(conn);
            }
        }
    }

    fn may(&self, conn: ConnId) -> Restriction {
        self.restricted.get(&conn).copied().unwrap_or(Restriction {
            publish: true,
            play: true,
        })
    }

    /// All that was handed over to a connection is sent.
    pub fn drained(&mut self, conn: ConnId) {
        self.exchange.drained(conn);
    }

    /// A connection is gone.
    pub fn gone(&mut self, conn: ConnId) {
        self.restricted.remove(&conn);
        self.exchange.connection_gone(conn);
    }

    /// Ends what has waited too long; called about twice a second.
    pub fn sweep(&mut self, driver: &Driver<ServerSession>) {
        self.exchange.sweep(|conn| driver.sent_bytes(conn));
        self.restricted
            .retain(|conn, _| driver.peer(*conn).is_some());
    }

    /// A message for this door.
    pub fn message(&mut self, from: ShardId, message: Message) {
        self.exchange.message(from, message);
    }

    /// Who is here: the exchange's answer, with what only the connections know.
    pub fn clients(&self, driver: &Driver<ServerSession>, each: bool) -> ShardClients {
        let mut clients = self.exchange.clients(each);
        for client in &mut clients.clients {
            let Some(conn) = client.conn else {
                continue;
            };
            client.up = driver.sent_bytes(conn);
            client.host = driver.peer(conn).map(|peer| peer.ip().to_canonical());
        }
        clients
    }

    /// Does what the exchange wants done.
    pub fn flush(&mut self, driver: &mut Driver<ServerSession>, mesh: &mut Mesh<Message>) {
        self.exchange.tick();
        while let Some(output) = self.exchange.poll() {
            match output {
                Output::Send {
                    conn,
                    header,
                    pieces,
                    received,
                } => {
                    let header = header.into_iter().map(Piece::Bytes);
                    driver.send(conn, header.chain(pieces.into_iter().map(Piece::Buffer)));
                    if let Some(received) = received {
                        self.note_send(received);
                    }
                    if driver.batch_is_full() {
                        self.submit(driver);
                    }
                }
                Output::Rtmp(conn, reply) => rtmp_reply(driver, conn, reply),
                Output::Http(conn, reply) => http_reply(driver, conn, reply),
                Output::Mesh {
                    to,
                    message,
                    is_media,
                } => {
                    let class = if is_media {
                        Class::Media
                    } else {
                        Class::Control
                    };
                    mesh.send(to, class, message);
                }
                Output::Close(conn) => driver.close(conn),
                Output::Abort(conn) => driver.abort(conn),
            }
        }
        if !self.unsubmitted.is_empty() {
            self.submit(driver);
        }
    }

    fn note_send(&mut self, received: Instant) {
        match self.unsubmitted.last_mut() {
            Some((last, sends)) if *last == received => *sends += 1,
            Some(_) | None => self.unsubmitted.push((received, 1)),
        }
    }

    /// Submits the queued sends and counts how long their frames have stayed.
    fn submit(&mut self, driver: &mut Driver<ServerSession>) {
        let now = clock::now();
        for (received, sends) in self.unsubmitted.drain(..) {
            self.latency
                .record(now.saturating_duration_since(received), sends);
        }
        if let Err(error) = driver.submit() {
            // The next turn meets the same error and ends the shard with its reason.
            tracing::error!(%error, "sends could not be submitted");
        }
    }
}

/// The session that a new connection to a streams' port gets.
pub fn http_session(now: Instant, options: &Arc<http::Options>) -> ServerSession {
    ServerSession::Http(Box::new(http::Session::new(now, Arc::clone(options))))
}

/// The session that a new connection to an RTMP port gets.
pub fn rtmp_session(now: Instant, options: rtmp::Options, peer: SocketAddr) -> ServerSession {
    // The seed fills the handshake's random bytes, which nothing depends on.
    let seed = clock::unix_millis() as u64 ^ (u64::from(peer.port()) << 48);
    ServerSession::Rtmp(Box::new(rtmp::Session::new(options, seed, now)))
}

fn rtmp_reply(driver: &mut Driver<ServerSession>, conn: ConnId, reply: RtmpReply) {
    let answer = |driver: &mut Driver<ServerSession>, call: &dyn Fn(&mut rtmp::Session)| {
        driver.with(conn, |session| session.rtmp().map(call));
    };
    match reply {
        RtmpReply::AcceptPublish => {
            driver.establish(conn);
            answer(driver, &rtmp::Session::accept_publish);
        }
        RtmpReply::PublishBusy => {
            answer(driver, &|session| {
                session.refuse_publish(rtmp::Refusal::Busy)
            });
            driver.close(conn);
        }
        RtmpReply::PublishDenied => {
            answer(driver, &|session| {
                session.refuse_publish(rtmp::Refusal::Denied);
            });
            driver.close(conn);
        }
        RtmpReply::EndPublish => {
            answer(driver, &|session| session.end_publish(rtmp::Refusal::Busy));
            driver.close(conn);
        }
        RtmpReply::AcceptPlay => {
            driver.establish(conn);
            answer(driver, &rtmp::Session::accept_play);
            driver.set_streaming(conn, true);
        }
        RtmpReply::PlayNotFound => {
            answer(driver, &|session| {
                session.refuse_play(rtmp::Refusal::NotFound);
            });
            driver.close(conn);
        }
        RtmpReply::EndPlay => {
            driver.set_streaming(conn, false);
            answer(driver, &rtmp::Session::end_play);
            driver.close(conn);
        }
    }
}

fn http_reply(driver: &mut Driver<ServerSession>, conn: ConnId, reply: HttpReply) {
    let now = driver.now();
    match reply {
        HttpReply::Respond(response) => {
            driver.with(conn, |session| {
                if let Some(session) = session.http() {
                    session.respond(now, response);
                }
            });
        }
        HttpReply::Stream(container) => {
            driver.establish(conn);
            driver.with(conn, |session| {
                if let Some(session) = session.http() {
                    session.respond_stream(now, 200, &stream_headers(container));
                }
            });
            driver.set_streaming(conn, true);
        }
        HttpReply::StreamHead(container) => {
            driver.with(conn, |session| {
                if let Some(session) = session.http() {
                    session.respond_stream(now, 200, &stream_headers(container));
                }
            });
        }
        HttpReply::EndStream => {
            driver.set_streaming(conn, false);
            driver.with(conn, |session| {
                if let Some(session) = session.http() {
                    session.end_stream(now);
                }
            });
        }
    }
}

fn stream_headers(container: Container) -> Vec<(&'static str, &'static str)> {
    let mut headers = vec![
        ("Content-Type", container.media_type()),
        ("Cache-Control", "no-store"),
        ("X-Accel-Buffering", "no"),
    ];
    headers.extend(http::CORS);
    headers
}

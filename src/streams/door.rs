//! Connects the exchange to a shard's driver and mesh.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::base::ids::{ConnId, ShardId};
use crate::config::Config;
use crate::drive::{Driver, ServerEvent, ServerSession};
use crate::hub::Pieces;
use crate::io::{DatagramIndex, Piece, ReceivedDatagram};
use crate::media::Packet;
use crate::metrics::Latency;
use crate::proto::{http, http2, rtmp, websocket};
use crate::shard::clock;
use crate::shard::mesh::{Class, Mesh};
use crate::streams::access::PublishRequest;
use crate::streams::client::ShardClients;
use crate::streams::exchange::{Exchange, HttpReply, Output, RtmpReply};
use crate::streams::lines::{Line, Lines};
use crate::streams::message::Message;
use crate::streams::output::Container;
use crate::streams::rtc::door::{Act, RtcDoor};

/// RFC 6455 section 7.4.1.
const CLOSE_NORMAL: u16 = 1000;

/// The streams of one shard, with their connections.
#[derive(Debug)]
pub struct Door {
    exchange: Exchange,
    latency: Latency,
    /// Receipt of frames whose sends are queued and not submitted.
    unsubmitted: Vec<(Instant, u64)>,
    /// RTMP connections by listeners that are not for both publishers and players.
    restricted: HashMap<ConnId, Restriction>,
    /// Streams of HTTP/2, which are connections to the exchange.
    lines: Lines,
    rtc: RtcDoor,
    /// Of connections from trusted proxies: whom the newest request is of.
    behind: HashMap<ConnId, IpAddr>,
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
            lines: Lines::default(),
            rtc: RtcDoor::new(me),
            behind: HashMap::new(),
        }
    }

    /// WebRTC.
    pub fn rtc(&mut self) -> &mut RtcDoor {
        &mut self.rtc
    }

    /// A datagram arrived.
    pub fn datagram(
        &mut self,
        driver: &mut Driver<ServerSession>,
        socket: DatagramIndex,
        received: ReceivedDatagram,
    ) {
        self.rtc.peers_mut().datagram(driver, socket, received);
    }

    /// When the door has something to do at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let exchange = self.exchange.deadline();
        exchange.into_iter().chain(self.rtc.deadline()).min()
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
                let from = self.client(driver, conn, &request);
                self.note_client(driver, conn, conn, from);
                if !self.rtc.dial(driver.now(), conn, from, &request) {
                    self.handle_request(conn, from, &request);
                }
            }
            ServerEvent::Http(http::Event::Closed(_reason)) => {
                self.exchange.connection_gone(conn);
                driver.close(conn);
            }
            ServerEvent::Http2(event) => self.handle_http2(driver, conn, event),
            ServerEvent::WebSocket(websocket::Event::Message(message)) => {
                if let websocket::Message::Text(text) = message {
                    let now = driver.now();
                    self.rtc.heard(now, &mut self.exchange, conn, &text);
                }
            }
            ServerEvent::WebSocket(websocket::Event::Closed(reason)) => {
                tracing::debug!(?conn, ?reason, "a WebSocket ends");
                self.rtc.connection_gone(conn);
                driver.close(conn);
            }
            ServerEvent::Frame(frame) => {
                driver.establish(conn);
                self.rtc.peers_mut().frame(driver, conn, &frame);
            }
            ServerEvent::Rtmp(event) => self.handle_rtmp(driver, conn, *event),
            ServerEvent::Replication(_) => unreachable!("these go to another door"),
        }
    }

    fn handle_http2(
        &mut self,
        driver: &mut Driver<ServerSession>,
        conn: ConnId,
        event: http2::Event,
    ) {
        match event {
            http2::Event::Request(stream, request) => {
                let from = self.client(driver, conn, &request);
                let line = self.lines.open(conn, stream);
                self.note_client(driver, conn, line, from);
                self.handle_request(line, from, &request);
            }
            http2::Event::Drained(stream) => {
                if let Some(id) = self.lines.find(conn, stream)
                    && self.lines.line(id).is_some_and(|line| line.is_streaming)
                {
                    self.exchange.drained(id);
                }
            }
            http2::Event::Reset(stream) => {
                if let Some(id) = self.lines.find(conn, stream) {
                    self.end_line(id);
                }
            }
            http2::Event::Closed(reason) => {
                tracing::debug!(?conn, ?reason, "an HTTP/2 connection ends");
                self.end_lines(conn);
                driver.close(conn);
            }
        }
    }

    fn handle_request(&mut self, conn: ConnId, from: IpAddr, request: &http::Request) {
        if !self.rtc.request(&mut self.exchange, conn, from, request) {
            self.exchange.http_request(conn, from, request);
        }
    }

    fn end_line(&mut self, id: ConnId) {
        self.lines.close(id);
        self.behind.remove(&id);
        self.rtc.connection_gone(id);
        self.exchange.connection_gone(id);
    }

    fn end_lines(&mut self, conn: ConnId) {
        for id in self.lines.of(conn) {
            self.end_line(id);
        }
    }

    /// Remembers whom a request over `conn` is of, if that is not its peer.
    fn note_client(
        &mut self,
        driver: &Driver<ServerSession>,
        conn: ConnId,
        id: ConnId,
        from: IpAddr,
    ) {
        if from != peer(driver, conn) {
            self.behind.insert(id, from);
        }
    }

    /// Whom a request comes from: the peer, or the client that a trusted proxy speaks for.
    fn client(
        &self,
        driver: &Driver<ServerSession>,
        conn: ConnId,
        request: &http::Request,
    ) -> IpAddr {
        http::client_address(peer(driver, conn), self.exchange.trusted_proxies(), request)
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
                let peer = peer(driver, conn);
                let name = format!("{}?{}", target.name, target.query);
                let request = PublishRequest::rtmp(&target.app, &name, peer);
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
        self.behind.remove(&conn);
        self.end_lines(conn);
        self.rtc.connection_gone(conn);
        self.exchange.connection_gone(conn);
    }

    /// Ends what has waited too long; called about twice a second.
    pub fn sweep(&mut self, driver: &mut Driver<ServerSession>) {
        let lines = &self.lines;
        self.exchange.sweep(|conn| match lines.line(conn) {
            Some(line) => taken(driver, line),
            None => driver.sent_bytes(conn),
        });
        self.rtc.sweep(driver, &mut self.exchange);
        self.restricted
            .retain(|conn, _| driver.peer(*conn).is_some());
    }

    /// A message for this door.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what the door has no part in is the exchange's"
    )]
    pub fn message(&mut self, driver: &mut Driver<ServerSession>, from: ShardId, message: Message) {
        match message {
            Message::Rtc(message) => {
                self.rtc.message(driver, &mut self.exchange, from, *message);
            }
            Message::Drain => {
                self.rtc.drain(driver, &mut self.exchange);
                self.exchange.message(from, Message::Drain);
            }
            message => self.exchange.message(from, message),
        }
    }

    /// Who is here: the exchange's answer, with what only the connections know.
    pub fn clients(&self, driver: &Driver<ServerSession>, each: bool) -> ShardClients {
        let mut clients = self.exchange.clients(each);
        for client in &mut clients.clients {
            let Some(conn) = client.conn else {
                continue;
            };
            let line = self.lines.line(conn);
            let socket = line.map_or(conn, |line| line.conn);
            client.up = match line {
                Some(line) => taken(driver, line),
                None => driver.sent_bytes(conn),
            };
            let peer = || driver.peer(socket).map(|peer| peer.ip().to_canonical());
            client.host = self.behind.get(&conn).copied().or_else(peer);
        }
        clients
    }

    /// Does what the exchange wants done.
    pub fn flush<M: From<Message>>(
        &mut self,
        driver: &mut Driver<ServerSession>,
        mesh: &mut Mesh<M>,
    ) {
        self.rtc.handle_timeouts(driver);
        self.rtc.pump(driver, &mut self.exchange);
        self.exchange.tick();
        loop {
            self.flush_exchange(driver, mesh);
            // What peers have to say of what they were sent may be news to the exchange.
            self.rtc.pump(driver, &mut self.exchange);
            if !self.act(driver, mesh) && !self.exchange.has_outputs() {
                break;
            }
        }
        if !self.unsubmitted.is_empty() {
            self.submit(driver);
        }
    }

    /// Does what the WebRTC door wants done. True if it was anything.
    fn act<M: From<Message>>(
        &mut self,
        driver: &mut Driver<ServerSession>,
        mesh: &mut Mesh<M>,
    ) -> bool {
        let acts = self.rtc.take_acts();
        let is_any = !acts.is_empty();
        for act in acts {
            match act {
                Act::Respond(conn, response) => {
                    let reply = HttpReply::Respond(response);
                    if Lines::is_line(conn) {
                        self.http2_reply(driver, conn, reply);
                    } else {
                        http_reply(driver, conn, reply);
                    }
                }
                Act::Upgrade(conn, accepted) => {
                    let (now, options) = (driver.now(), Arc::clone(self.rtc.socket_options()));
                    driver.with(conn, |session| session.upgrade(now, &options, *accepted));
                }
                Act::Say(conn, text) => with_websocket(driver, conn, |socket| {
                    socket.send_text(&text);
                }),
                Act::HangUp(conn) => {
                    let now = driver.now();
                    with_websocket(driver, conn, |socket| socket.close(now, CLOSE_NORMAL, ""));
                }
                Act::Establish(conn) => driver.establish(conn),
                Act::Mesh(to, message) if to == self.rtc.me() => {
                    self.rtc.message(driver, &mut self.exchange, to, message);
                }
                Act::Mesh(to, message) => {
                    let class = match message.may_be_lost() {
                        true => Class::Media,
                        false => Class::Control,
                    };
                    mesh.send(to, class, Message::Rtc(Box::new(message)).into());
                }
            }
        }
        is_any
    }

    fn flush_exchange<M: From<Message>>(
        &mut self,
        driver: &mut Driver<ServerSession>,
        mesh: &mut Mesh<M>,
    ) {
        while let Some(output) = self.exchange.poll() {
            match output {
                Output::Send {
                    conn,
                    header,
                    pieces,
                    received,
                } => {
                    if Lines::is_line(conn) {
                        self.send_line(driver, conn, header, pieces);
                    } else {
                        let header = header.into_iter().map(Piece::Bytes);
                        driver.send(conn, header.chain(pieces.into_iter().map(Piece::Buffer)));
                    }
                    if let Some(received) = received {
                        self.note_send(received);
                    }
                    if driver.batch_is_full() {
                        self.submit(driver);
                    }
                }
                Output::Rtmp(conn, reply) => rtmp_reply(driver, conn, reply),
                Output::Http(conn, reply) if Lines::is_line(conn) => {
                    self.http2_reply(driver, conn, reply);
                }
                Output::Http(conn, reply) => http_reply(driver, conn, reply),
                Output::Rtc(conn, reply) => {
                    self.rtc.reply(driver, &mut self.exchange, conn, reply);
                }
                Output::Packets {
                    packets,
                    viewers,
                    is_backlog,
                    ..
                } => self.forward(driver, &packets, &viewers, is_backlog),
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
                    mesh.send(to, class, message.into());
                }
                Output::Close(conn) | Output::Abort(conn) if RtcDoor::is_ours(conn) => {
                    self.rtc.close(driver, &mut self.exchange, conn);
                }
                Output::Close(conn) | Output::Abort(conn) if Lines::is_line(conn) => {
                    self.reset_line(driver, conn);
                }
                Output::Establish(conn) => {
                    driver.establish(self.lines.line(conn).map_or(conn, |line| line.conn));
                }
                Output::Close(conn) => driver.close(conn),
                Output::Abort(conn) => driver.abort(conn),
            }
        }
    }

    /// Sends packets of one track to all who watch it.
    fn forward(
        &mut self,
        driver: &mut Driver<ServerSession>,
        packets: &[Packet],
        viewers: &[ConnId],
        is_backlog: bool,
    ) {
        let received = packets.first().map(|packet| packet.received);
        for viewer in viewers {
            self.rtc.forward(driver, packets, *viewer, is_backlog);
            if let Some(received) = received.filter(|_| !is_backlog) {
                self.note_send(received);
            }
            if driver.batch_is_full() {
                self.submit(driver);
            }
        }
    }

    /// Hands pieces of a body over to a stream of HTTP/2.
    fn send_line(
        &mut self,
        driver: &mut Driver<ServerSession>,
        id: ConnId,
        header: Option<Bytes>,
        pieces: Pieces,
    ) {
        let Some(line) = self.lines.line_mut(id) else {
            return;
        };
        let header_bytes = header.as_ref().map_or(0, Bytes::len);
        line.given += (header_bytes + length_of(&pieces)) as u64;
        let (stream, now) = (line.stream, driver.now());
        with_http2(driver, line.conn, |session| {
            let pieces = pieces.into_iter().map(Bytes::from);
            for piece in header.into_iter().chain(pieces) {
                session.send(now, stream, piece);
            }
        });
    }

    /// As [`http_reply`], on a stream of HTTP/2.
    fn http2_reply(&mut self, driver: &mut Driver<ServerSession>, id: ConnId, reply: HttpReply) {
        let Some(&Line { conn, stream, .. }) = self.lines.line(id) else {
            return;
        };
        let now = driver.now();
        let respond_stream = |driver: &mut Driver<ServerSession>, status, headers: &[_]| {
            with_http2(driver, conn, |session| {
                session.respond_stream(now, stream, status, headers)
            })
        };
        let is_over = match reply {
            HttpReply::Respond(response) => {
                with_http2(driver, conn, |session| {
                    session.respond(now, stream, response)
                });
                true
            }
            HttpReply::Shared(response, pieces) => {
                let length = length_of(&pieces) as u64;
                driver.establish(conn);
                with_http2(driver, conn, |session| {
                    session.respond_shared(now, stream, &response, length);
                    for piece in pieces {
                        session.send(now, stream, piece);
                    }
                });
                true
            }
            HttpReply::Stream(container) => {
                driver.establish(conn);
                let framing = respond_stream(driver, 200, &stream_headers(container));
                if let Some(line) = self.lines.line_mut(id) {
                    line.is_streaming = true;
                }
                self.exchange.drained(id);
                framing == Some(http::Framing::NoBody)
            }
            HttpReply::StreamHead(container) => {
                respond_stream(driver, 200, &stream_headers(container));
                true
            }
            HttpReply::Begin(response) => {
                driver.establish(conn);
                let framing = respond_stream(driver, response.status, &header_fields(&response));
                framing == Some(http::Framing::NoBody)
            }
            HttpReply::Run(pieces) => {
                self.send_line(driver, id, None, pieces);
                false
            }
            HttpReply::EndStream => {
                with_http2(driver, conn, |session| session.end_stream(now, stream));
                true
            }
        };
        if is_over {
            self.end_line(id);
        }
    }

    /// Ends a stream that this side does not go on with; the connection lives on.
    fn reset_line(&mut self, driver: &mut Driver<ServerSession>, id: ConnId) {
        self.behind.remove(&id);
        if let Some(line) = self.lines.close(id) {
            let now = driver.now();
            with_http2(driver, line.conn, |session| {
                session.reset_stream(now, line.stream);
            });
            self.exchange.connection_gone(id);
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

fn with_websocket(
    driver: &mut Driver<ServerSession>,
    conn: ConnId,
    call: impl FnOnce(&mut websocket::Session),
) {
    driver.with(conn, |session| session.websocket().map(call));
}

fn with_http2<R>(
    driver: &mut Driver<ServerSession>,
    conn: ConnId,
    call: impl FnOnce(&mut http2::Session) -> R,
) -> Option<R> {
    driver.with(conn, |session| session.http2().map(call))?
}

/// Bytes of a line's body that its connection has taken.
fn taken(driver: &Driver<ServerSession>, line: &Line) -> u64 {
    let session = driver.session(line.conn).and_then(ServerSession::as_http2);
    let queued = session.map_or(0, |session| session.queued_bytes(line.stream));
    line.given.saturating_sub(queued as u64)
}

fn length_of(pieces: &Pieces) -> usize {
    pieces.iter().map(|piece| piece.len()).sum()
}

fn header_fields(response: &http::Response) -> Vec<(&str, &str)> {
    response
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_ref()))
        .collect()
}

/// Where a connection comes from.
fn peer(driver: &Driver<ServerSession>, conn: ConnId) -> IpAddr {
    driver
        .peer(conn)
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip())
        .to_canonical()
}

/// The session that a new connection to a streams' port gets.
pub fn http_session(now: Instant, options: &Arc<http::Options>) -> ServerSession {
    ServerSession::Http(Box::new(http::Session::new(now, Arc::clone(options))))
}

/// Fills the random bytes of an RTMP handshake, which nothing depends on.
pub fn rtmp_seed(peer: SocketAddr) -> u64 {
    clock::unix_millis() as u64 ^ (u64::from(peer.port()) << 48)
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
        HttpReply::Shared(response, pieces) => {
            driver.establish(conn);
            let length = length_of(&pieces);
            let respond = |session: &mut ServerSession| {
                session
                    .http()
                    .is_some_and(|session| session.respond_shared(now, &response, length))
            };
            driver.with_body(conn, respond, pieces.into_iter().map(Piece::Buffer));
        }
        HttpReply::Begin(response) => {
            driver.establish(conn);
            driver.with(conn, |session| {
                if let Some(session) = session.http() {
                    session.respond_stream(now, response.status, &header_fields(&response));
                }
            });
        }
        HttpReply::Run(pieces) => send_run(driver, conn, pieces),
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

/// Sends a run of a live body, framed as its head has said.
fn send_run(driver: &mut Driver<ServerSession>, conn: ConnId, pieces: Pieces) {
    let framing = driver.with(conn, |session| {
        session.http().and_then(|http| http.framing())
    });
    let length = length_of(&pieces);
    let pieces = pieces.into_iter().map(Piece::Buffer);
    match framing.flatten() {
        Some(http::Framing::Chunked) if length > 0 => {
            let size = Piece::Bytes(format!("{length:x}\r\n").into());
            let end = Piece::Bytes(Bytes::from_static(b"\r\n"));
            driver.send(conn, std::iter::once(size).chain(pieces).chain([end]));
        }
        Some(http::Framing::Close) => driver.send(conn, pieces),
        Some(http::Framing::Chunked | http::Framing::NoBody) | None => {}
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

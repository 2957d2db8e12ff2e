//! WebSockets that signal: an offer over one makes a session, which lives as long as it.
//!
//! The session is made on the WebSocket's shard. What a client asks for later goes to the shard
//! that runs the session, and what is said of it comes back from there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::door::{Act, RtcDoor};

use super::message::RtcMessage;
use super::sessions::State;
use super::websocket::{self, Admission, Allowance, Command, Dialect, Reply};
use crate::base::ids::{ConnId, ShardId};
use crate::proto::http::{Request, Response};
use crate::proto::webrtc::SessionKey;
use crate::proto::websocket::{Options, accept};
use crate::streams::exchange::Exchange;
use crate::streams::output::Choice;
use crate::streams::whip::{self, PostedOffer};

/// How long a WebSocket may be there without an offer that is answered.
const OFFER_MAX: Duration = Duration::from_secs(30);

/// Commands that are kept until the session is run.
const PENDING_MAX: usize = 8;

/// What may wait to be sent on one WebSocket. An answer has some kilobytes.
const QUEUE_BYTES_MAX: usize = 256 * 1024;

/// A WebSocket of this shard.
#[derive(Debug)]
struct Socket {
    /// What its request said; the body is that of the newest offer.
    posted: PostedOffer,
    from: IpAddr,
    since: Instant,
    stage: Stage,
    /// What was asked for before there was anybody to do it.
    pending: Vec<Command>,
    allowance: Allowance,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// There is no offer.
    Open,
    /// An offer is being answered.
    Asked,
    /// It was answered.
    Answered(SessionKey),
}

/// The WebSockets of one shard.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    sockets: BTreeMap<ConnId, Socket>,
    options: Arc<Options>,
}

impl Sockets {
    /// An offer as text in JSON is longer by its line ends.
    pub(super) fn set_offer_bytes_max(&mut self, bytes: usize) {
        let message_bytes_max = 2 * bytes + websocket::COMMAND_BYTES_MAX;
        self.options = Arc::new(Options {
            frame_bytes_max: message_bytes_max as u64,
            message_bytes_max,
            queue_bytes_max: QUEUE_BYTES_MAX,
            // An offer and an answer are all that would gain from it.
            deflate: None,
            ..Options::default()
        });
    }

    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether a connection is one of them.
    pub(super) fn has(&self, conn: ConnId) -> bool {
        self.sockets.contains_key(&conn)
    }
}

impl RtcDoor {
    /// How WebSockets are run.
    pub(in crate::streams) fn socket_options(&self) -> &Arc<Options> {
        &self.sockets.options
    }

    /// A request that may be for a WebSocket. False if it is not.
    pub(in crate::streams) fn dial(
        &mut self,
        now: Instant,
        conn: ConnId,
        from: IpAddr,
        request: &Request,
    ) -> bool {
        let Some(read) = whip::read_socket(request) else {
            return false;
        };
        let posted = match read {
            Ok(posted) if self.identity.is_some() => posted,
            Ok(_) => {
                let text = "WebRTC is off, or the server is stopping.";
                self.respond(conn, Response::text(503, text).with_cors());
                return true;
            }
            Err(response) => {
                self.respond(conn, response);
                return true;
            }
        };
        match accept(request, &self.sockets.options, &[]) {
            Ok(accepted) => {
                let socket = Socket {
                    posted,
                    from,
                    since: now,
                    stage: Stage::Open,
                    pending: Vec::new(),
                    allowance: Allowance::new(now),
                };
                self.sockets.sockets.insert(conn, socket);
                self.acts.push(Act::Upgrade(conn, Box::new(accepted)));
            }
            Err(error) => self.respond(conn, error.response()),
        }
        true
    }

    /// A message has come over a WebSocket.
    pub(in crate::streams) fn heard(
        &mut self,
        now: Instant,
        exchange: &mut Exchange,
        conn: ConnId,
        text: &str,
    ) {
        let Some(socket) = self.sockets.sockets.get_mut(&conn) else {
            return;
        };
        match socket.allowance.admit(now) {
            Admission::Granted => {}
            Admission::Refused => {
                self.say(conn, &Reply::Error("", "there are too many messages"));
                return;
            }
            Admission::Ignored => return,
        }
        match websocket::read(text) {
            Ok(Command::Offer(offer)) => self.offered(exchange, conn, offer),
            Ok(Command::Stop) => match socket.stage {
                Stage::Answered(key) => self.end_later(key),
                Stage::Open | Stage::Asked => self.hang_up(conn),
            },
            Ok(command) => self.ordered(conn, command),
            Err(fault) => {
                let message = fault.to_string();
                self.say(conn, &Reply::Error(fault.command(), &message));
            }
        }
    }

    fn offered(&mut self, exchange: &mut Exchange, conn: ConnId, offer: String) {
        let Some(socket) = self.sockets.sockets.get_mut(&conn) else {
            return;
        };
        if socket.stage != Stage::Open {
            let text = "there is a session already: open another WebSocket for another offer";
            self.say(conn, &Reply::Error("offer_sdp", text));
            return;
        }
        socket.stage = Stage::Asked;
        socket.posted.body = offer.into();
        let (posted, from) = (socket.posted.clone(), socket.from);
        self.offer(exchange, conn, from, &posted);
    }

    /// A command for the shard that runs the session, if one does.
    fn ordered(&mut self, conn: ConnId, command: Command) {
        let Some(socket) = self.sockets.sockets.get_mut(&conn) else {
            return;
        };
        if let Stage::Answered(key) = socket.stage
            && let Some(State::RunBy(shard)) = self.sessions.get(key).map(|made| &made.state)
        {
            let (shard, command) = (*shard, Box::new(command));
            self.mesh(shard, RtcMessage::Command { key, command });
            return;
        }
        // Players choose tracks before they offer; an answer can have any, a session cannot.
        let mut command = command;
        if let Command::Tracks { video, audio } = &mut command
            && socket.stage == Stage::Open
        {
            let selection = &mut socket.posted.selection;
            video.take_if(|selector| take(&mut selection.video, selector));
            audio.take_if(|selector| take(&mut selection.audio, selector));
            if video.is_none() && audio.is_none() {
                return;
            }
        }
        if socket.pending.len() < PENDING_MAX {
            socket.pending.push(command);
        } else {
            self.say(conn, &Reply::Error("", "nothing is connected yet"));
        }
    }

    /// A session that was made here is run from now on.
    pub(super) fn hand_over_commands(&mut self, key: SessionKey, to: ShardId) {
        let socket = self.sessions.get(key).and_then(|made| made.socket);
        let socket = socket.and_then(|conn| self.sockets.sockets.get_mut(&conn));
        let pending = socket.map(|socket| std::mem::take(&mut socket.pending));
        for command in pending.unwrap_or_default() {
            let command = Box::new(command);
            self.mesh(to, RtcMessage::Command { key, command });
        }
    }

    /// The response to an offer is there, as it would be by HTTP.
    pub(super) fn answer_socket(&mut self, conn: ConnId, response: &Response) {
        let text = String::from_utf8_lossy(&response.body);
        if response.status == 201 {
            self.acts.push(Act::Establish(conn));
            self.say(conn, &Reply::Answer(&text));
            return;
        }
        if let Some(socket) = self.sockets.sockets.get_mut(&conn) {
            socket.stage = Stage::Open;
        }
        self.say(conn, &Reply::NoAnswer);
        self.say(conn, &Reply::Error("offer_sdp", text.trim_end()));
    }

    /// An offer that came over a WebSocket has become a session. False if the WebSocket is gone.
    pub(super) fn bind(&mut self, conn: ConnId, key: SessionKey) -> bool {
        let Some(socket) = self.sockets.sockets.get_mut(&conn) else {
            return false;
        };
        socket.stage = Stage::Answered(key);
        if let Some(made) = self.sessions.get_mut(key) {
            made.socket = Some(conn);
        }
        true
    }

    /// Something is said of a session that was made here.
    pub(super) fn said(&mut self, key: SessionKey, text: String) {
        if let Some(conn) = self.sessions.get(key).and_then(|made| made.socket) {
            self.acts.push(Act::Say(conn, text));
        }
    }

    /// A session is over, whose WebSocket this is.
    pub(super) fn session_over(&mut self, conn: ConnId) {
        if self.sockets.has(conn) {
            self.say(conn, &Reply::Stop);
            self.hang_up(conn);
        }
    }

    /// A WebSocket is gone: its session ends.
    pub(super) fn socket_gone(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.sockets.remove(&conn)
            && let Stage::Answered(key) = socket.stage
        {
            self.end_later(key);
        }
    }

    /// Ends WebSockets that bring no offer.
    pub(super) fn sweep_sockets(&mut self, now: Instant) {
        let is_idle =
            |socket: &Socket| socket.stage == Stage::Open && now >= socket.since + OFFER_MAX;
        let sockets = self.sockets.sockets.iter();
        let idle: Vec<ConnId> = sockets
            .filter(|(_, socket)| is_idle(socket))
            .map(|(conn, _)| *conn)
            .collect();
        for conn in idle {
            self.say(conn, &Reply::Error("offer_sdp", "no offer came in time"));
            self.hang_up(conn);
        }
    }

    /// Ends those that have no session; the others end with theirs.
    pub(super) fn drain_sockets(&mut self) {
        let conns: Vec<ConnId> = self.sockets.sockets.keys().copied().collect();
        for conn in conns {
            self.session_over(conn);
        }
    }

    /// A session that a client is told of never came to be.
    pub(super) fn say_never_came(&mut self, key: SessionKey) {
        if let Some(conn) = self.sessions.get(key).and_then(|made| made.socket) {
            let text = "nothing has come from the peer, neither by UDP nor by TCP";
            self.say(conn, &Reply::Error("offer_sdp", text));
        }
    }

    fn say(&mut self, conn: ConnId, reply: &Reply<'_>) {
        let text = reply.write(Dialect::Socket);
        self.acts.push(Act::Say(conn, text));
    }

    fn hang_up(&mut self, conn: ConnId) {
        self.sockets.sockets.remove(&conn);
        self.acts.push(Act::HangUp(conn));
    }
}

/// Takes a selector for the answer. False if only the stream's tracks can tell what it means.
fn take(choice: &mut Choice, selector: &str) -> bool {
    match Choice::parse(selector) {
        Some(taken @ (Choice::First | Choice::All | Choice::Nothing | Choice::Track(_))) => {
            *choice = taken;
            true
        }
        Some(Choice::Codec(_)) | None => false,
    }
}

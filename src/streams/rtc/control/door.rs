//! Does what is asked for of a session that runs here, and says how it goes.

use std::time::Instant;

use super::{CHANNEL, Choosing, Control, TIME_EVERY};
use crate::base::ids::ConnId;
use crate::drive::{Driver, ServerSession};
use crate::media::{Kind, Track};
use crate::proto::sctp;
use crate::proto::webrtc::SessionKey;
use crate::streams::exchange::Exchange;
use crate::streams::rtc::door::RtcDoor;
use crate::streams::rtc::message::RtcMessage;
use crate::streams::rtc::websocket::{
    self, Admission, COMMAND_BYTES_MAX, Command, Dialect, Point, Reply, Speed, Times, Wish,
};

const KINDS: [Kind; 2] = [Kind::Video, Kind::Audio];

/// There is nothing but the newest of a live session.
const ONLY_LIVE: &str = "only \"live\" can be sought: a WebRTC session is always at the live point";
const ONLY_NORMAL: &str = "a live WebRTC session has the speed 1 only";
const PUBLISHERS_ONLY: &str = "this is for publishers: a viewer chooses by tracks";
const VIEWERS_ONLY: &str = "this is for viewers: nothing is sent to a publisher";

impl RtcDoor {
    /// A command has come for a session that runs here.
    pub(in crate::streams::rtc) fn command(
        &mut self,
        driver: &mut Driver<ServerSession>,
        exchange: &mut Exchange,
        (key, dialect): (SessionKey, Dialect),
        command: Command,
    ) {
        let Some(conn) = self.peers.conn_of(key) else {
            return;
        };
        let Some(running) = self.running.get(&conn) else {
            return;
        };
        match running.is_publisher {
            true => self.command_publisher(driver, conn, dialect, &command),
            false => self.command_viewer(driver, exchange, (conn, key), dialect, command),
        }
    }

    fn command_publisher(
        &mut self,
        driver: &mut Driver<ServerSession>,
        conn: ConnId,
        dialect: Dialect,
        command: &Command,
    ) {
        let now = driver.now();
        let reply = match command {
            Command::VideoBitrate(bits) => {
                let limited = self
                    .peers
                    .with(driver, conn, |peer| peer.limit_bitrate(*bits));
                match limited {
                    Some(true) => Reply::Bitrate(*bits),
                    Some(false) | None => Reply::Error(
                        "video_bitrate",
                        "goog-remb was not agreed on, by which a publisher is told",
                    ),
                }
            }
            Command::KeyframeInterval(every) => {
                if let Some(control) = self.controls.get_mut(&conn) {
                    control.keyframes = Some((*every, now));
                }
                Reply::KeyframeInterval(*every)
            }
            Command::Offer(_)
            | Command::Tracks { .. }
            | Command::Play
            | Command::Hold
            | Command::Seek(_)
            | Command::SetSpeed(_)
            | Command::Stop
            | Command::RtpProperties
            | Command::CodecData => {
                let (command, text) = refusal(command, VIEWERS_ONLY);
                Reply::Error(command, text)
            }
        };
        self.tell(driver, conn, dialect, &reply);
    }

    fn command_viewer(
        &mut self,
        driver: &mut Driver<ServerSession>,
        exchange: &mut Exchange,
        (conn, key): (ConnId, SessionKey),
        dialect: Dialect,
        command: Command,
    ) {
        match command {
            Command::Hold => self.hold(driver, exchange, conn, dialect, true),
            Command::Play => self.hold(driver, exchange, conn, dialect, false),
            // Players go on after a pause by seeking the live point.
            Command::Seek(Point::Live) => {
                self.set_held(driver, conn, false);
                self.tell(driver, conn, dialect, &Reply::Live);
                self.tell_time(driver, exchange, conn);
            }
            Command::SetSpeed(speed @ Speed::Auto) => {
                self.tell(driver, conn, dialect, &Reply::Speed(speed));
            }
            Command::SetSpeed(speed @ Speed::Times(1.0)) => {
                self.tell(driver, conn, dialect, &Reply::Speed(speed));
            }
            Command::Stop => self.end_running(driver, exchange, key),
            Command::Tracks { video, audio } => {
                let video = video.map(|selector| (Kind::Video, selector));
                let audio = audio.map(|selector| (Kind::Audio, selector));
                let selectors: Vec<_> = video.into_iter().chain(audio).collect();
                let Some(running) = self.running.get(&conn).filter(|_| !selectors.is_empty())
                else {
                    return self.tell_time(driver, exchange, conn);
                };
                let name = running.name.clone();
                let asker = self.next_asker();
                let choosing = Choosing {
                    conn,
                    key,
                    dialect,
                    selectors,
                };
                self.choosing.insert(asker, choosing);
                exchange.rtc_offer_info(asker, name.as_str());
            }
            Command::Offer(_)
            | Command::Seek(Point::At(_))
            | Command::SetSpeed(Speed::Times(_))
            | Command::VideoBitrate(_)
            | Command::KeyframeInterval(_)
            | Command::RtpProperties
            | Command::CodecData => {
                let (command, text) = refusal(&command, PUBLISHERS_ONLY);
                self.tell(driver, conn, dialect, &Reply::Error(command, text));
            }
        }
    }

    fn hold(
        &mut self,
        driver: &mut Driver<ServerSession>,
        exchange: &Exchange,
        conn: ConnId,
        dialect: Dialect,
        is_held: bool,
    ) {
        self.set_held(driver, conn, is_held);
        self.tell(driver, conn, dialect, &Reply::Paused(is_held));
        self.tell_time(driver, exchange, conn);
    }

    fn set_held(&mut self, driver: &mut Driver<ServerSession>, conn: ConnId, is_held: bool) {
        if let Some(control) = self.controls.get_mut(&conn) {
            control.is_held = is_held;
        }
        self.apply_pauses(driver, conn);
    }

    fn apply_pauses(&mut self, driver: &mut Driver<ServerSession>, conn: ConnId) {
        let Some(control) = self.controls.get(&conn) else {
            return;
        };
        let paused = KINDS.map(|kind| control.is_paused(kind));
        self.peers.with(driver, conn, |peer| {
            for (kind, is_paused) in KINDS.into_iter().zip(paused) {
                peer.set_paused(kind, is_paused);
            }
        });
    }

    /// The tracks are known that a viewer chooses among. False if nobody here waited for them.
    pub(in crate::streams::rtc) fn chosen(
        &mut self,
        driver: &mut Driver<ServerSession>,
        exchange: &mut Exchange,
        asker: ConnId,
        tracks: &[Track],
    ) -> bool {
        let Some(choosing) = self.choosing.remove(&asker) else {
            return false;
        };
        let Choosing {
            conn,
            key,
            dialect,
            selectors,
        } = choosing;
        for (kind, selector) in selectors {
            let Some(codec) = self.peers.peer(conn).and_then(|peer| peer.sends(kind)) else {
                let text = "nothing of this kind was agreed on in the session's answer";
                self.tell(driver, conn, dialect, &Reply::Error("tracks", text));
                continue;
            };
            match websocket::choose(&selector, kind, codec, tracks) {
                Ok(wish) => {
                    if let Some(control) = self.controls.get_mut(&conn) {
                        control.set_without(kind, wish == Wish::Nothing);
                    }
                    if let Wish::Track(track) = wish {
                        self.select_running(driver, exchange, key, (kind, track));
                    }
                }
                Err(error) => {
                    let text = error.to_string();
                    self.tell(driver, conn, dialect, &Reply::Error("tracks", &text));
                }
            }
        }
        self.apply_pauses(driver, conn);
        self.tell_time(driver, exchange, conn);
        true
    }

    /// Something has happened on a data channel.
    pub(in crate::streams::rtc) fn channel_event(
        &mut self,
        driver: &mut Driver<ServerSession>,
        exchange: &mut Exchange,
        conn: ConnId,
        event: sctp::Event,
    ) {
        let now = driver.now();
        let Some(running) = self.running.get(&conn) else {
            return;
        };
        let key = running.key;
        match event {
            sctp::Event::Opened { channel, label, .. } => {
                if label == CHANNEL && !running.is_publisher {
                    let control = self.controls.entry(conn);
                    let control = control.or_insert_with(|| Control::new(now, false));
                    control.channel = Some(channel);
                } else {
                    self.counters.channels_ignored += 1;
                }
            }
            sctp::Event::Message {
                channel,
                is_text,
                bytes,
            } => {
                let control = self.controls.get_mut(&conn);
                let control = control.filter(|control| control.channel == Some(channel));
                let text = std::str::from_utf8(&bytes).ok();
                let text = text.filter(|text| is_text && text.len() <= COMMAND_BYTES_MAX);
                let (Some(control), Some(text)) = (control, text) else {
                    self.counters.data_ignored += 1;
                    return;
                };
                let reply = match (control.allowance.admit(now), websocket::read(text)) {
                    (Admission::Granted, Ok(command)) => {
                        let by = (key, Dialect::Channel);
                        return self.command(driver, exchange, by, command);
                    }
                    (Admission::Granted, Err(fault)) => {
                        Reply::Error(fault.command(), &fault.to_string()).write(Dialect::Channel)
                    }
                    (Admission::Refused, _) => {
                        Reply::Error("", "there are too many messages").write(Dialect::Channel)
                    }
                    (Admission::Ignored, _) => {
                        self.counters.data_ignored += 1;
                        return;
                    }
                };
                self.send_text(driver, conn, &reply);
            }
            sctp::Event::Closed(channel) => {
                if let Some(control) = self.controls.get_mut(&conn)
                    && control.channel == Some(channel)
                {
                    control.channel = None;
                }
            }
            sctp::Event::Writable(_) | sctp::Event::Gone => {}
        }
    }

    /// About twice a second: says what time it is, and asks for keyframes.
    pub(in crate::streams::rtc) fn sweep_controls(
        &mut self,
        driver: &mut Driver<ServerSession>,
        exchange: &Exchange,
    ) {
        let now = driver.now();
        let mut due = Vec::new();
        for (conn, control) in &mut self.controls {
            let is_asked = control
                .keyframes
                .is_some_and(|(every, at)| now >= at + every);
            let is_told = control.told.is_none_or(|at| now >= at + TIME_EVERY);
            if let Some((_, at)) = control.keyframes.as_mut().filter(|_| is_asked) {
                *at = now;
            }
            if is_asked || is_told {
                due.push((*conn, is_asked, is_told));
            }
        }
        for (conn, is_asked, is_told) in due {
            if is_asked {
                self.peers.with(driver, conn, |peer| {
                    for track in peer.pictures() {
                        peer.request_keyframe(now, track);
                    }
                });
            }
            let is_connected = self
                .peers
                .peer(conn)
                .is_some_and(|peer| peer.is_connected());
            if is_told && is_connected {
                self.tell_time(driver, exchange, conn);
            }
        }
    }

    fn tell_time(&mut self, driver: &mut Driver<ServerSession>, exchange: &Exchange, conn: ConnId) {
        let now = driver.now();
        let (Some(control), Some(peer), Some(running)) = (
            self.controls.get_mut(&conn),
            self.peers.peer(conn),
            self.running.get(&conn),
        ) else {
            return;
        };
        control.told = Some(now);
        if running.is_publisher {
            let since = now.saturating_duration_since(control.since);
            let codecs: Vec<_> = control.tracks.iter().map(|(_, codec)| *codec).collect();
            let reply = Reply::Media(since.as_millis() as u64, &codecs);
            self.tell(driver, conn, Dialect::Socket, &reply);
            return;
        }
        let span = exchange.rtc_span(conn);
        let newest = peer.newest().map(|time| time.as_millis());
        let current = newest
            .or_else(|| span.map(|(_, end)| end))
            .unwrap_or_default();
        let (begin, end) = span.unwrap_or((current, current));
        let times = Times {
            current,
            begin: begin.min(current),
            end: end.max(current),
            tracks: peer.playing().map(|track| track.0).collect(),
            is_paused: control.is_held,
        };
        let (has_socket, has_channel) = (control.has_socket, control.channel.is_some());
        if has_socket {
            self.tell(driver, conn, Dialect::Socket, &Reply::Time(&times));
        }
        if has_channel {
            self.tell(driver, conn, Dialect::Channel, &Reply::Time(&times));
        }
    }

    /// The session is about to end from this side.
    pub(in crate::streams::rtc) fn tell_stop(
        &mut self,
        driver: &mut Driver<ServerSession>,
        conn: ConnId,
    ) {
        // The session's maker tells the WebSocket, whatever the reason is.
        self.tell(driver, conn, Dialect::Channel, &Reply::Stop);
    }

    fn tell(
        &mut self,
        driver: &mut Driver<ServerSession>,
        conn: ConnId,
        dialect: Dialect,
        reply: &Reply<'_>,
    ) {
        match dialect {
            Dialect::Socket => {
                if let Some(running) = self.running.get(&conn) {
                    let (key, text) = (running.key, reply.write(dialect));
                    self.mesh(key.shard(), RtcMessage::Said { key, text });
                }
            }
            Dialect::Channel => {
                if self
                    .controls
                    .get(&conn)
                    .is_some_and(|it| it.channel.is_some())
                {
                    self.send_text(driver, conn, &reply.write(dialect));
                }
            }
        }
    }

    /// Sends a message on the data channel. One that does not fit is dropped: the peer does not
    /// read, and will be told the time again.
    fn send_text(&mut self, driver: &mut Driver<ServerSession>, conn: ConnId, text: &str) {
        let Some(channel) = self.controls.get(&conn).and_then(|it| it.channel) else {
            return;
        };
        let now: Instant = driver.now();
        self.peers.with(driver, conn, |peer| {
            if let Some(data) = peer.data() {
                let _ = data.send(now, channel, true, text.as_bytes());
                peer.flush_data(now);
            }
        });
    }
}

/// The name of a command that a session cannot obey, and why: `otherwise` if one of another kind
/// could.
fn refusal(command: &Command, otherwise: &'static str) -> (&'static str, &'static str) {
    let text = match command {
        Command::Seek(Point::At(_)) => ONLY_LIVE,
        Command::SetSpeed(_) => ONLY_NORMAL,
        Command::RtpProperties => "how long a lost packet is waited for follows from the path",
        Command::CodecData => "the session's answer says what its codecs are",
        Command::Offer(_) => "the session has been answered",
        Command::Tracks { .. }
        | Command::Play
        | Command::Hold
        | Command::Seek(Point::Live)
        | Command::Stop
        | Command::VideoBitrate(_)
        | Command::KeyframeInterval(_) => otherwise,
    };
    (name(command), text)
}

fn name(command: &Command) -> &'static str {
    match command {
        Command::Offer(_) => "offer_sdp",
        Command::Tracks { .. } => "tracks",
        Command::Play => "play",
        Command::Hold => "hold",
        Command::Seek(_) => "seek",
        Command::SetSpeed(_) => "set_speed",
        Command::Stop => "stop",
        Command::VideoBitrate(_) => "video_bitrate",
        Command::KeyframeInterval(_) => "keyframe_interval",
        Command::RtpProperties => "rtp_props",
        Command::CodecData => "request_codec_data",
    }
}

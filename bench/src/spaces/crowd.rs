//! All players: their sockets and their time, on one thread.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ringside::base::ids::ConnId;
use ringside::drive::{Driver, Occurrence};
use ringside::proto::dtls::Context;
use ringside::proto::rtp::Kind;
use ringside::shard::clock;
use serde_json::Value;

use super::line::{Line, Said};
use super::options::Options;
use super::player::{Player, Says, location_sent};
use super::tally::Tally;
use super::transport::Transport;
use crate::fleet::{RING, limits};
use crate::publisher::connect;
use crate::rtc::media;
use crate::rtc::socket::{self, BATCH, Mailbox};
use crate::stamp;

/// What comes from the server to a producing transport are acknowledgements: they are looked at
/// once in so many looks.
const PRODUCER_LOOKS: u64 = 8;

/// What a player does when its time has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Act {
    Locate,
    Speak,
    Chat,
}

/// All players.
pub(super) struct Crowd {
    options: Options,
    context: Context,
    driver: Driver<Line>,
    players: Vec<Player>,
    by_conn: HashMap<ConnId, usize>,
    acts: BinaryHeap<Reverse<(Instant, usize, Act)>>,
    mailbox: Mailbox,
    started: Instant,
    look_at: Instant,
    looks: u64,
    /// What is sent within it counts, in nanoseconds of marks.
    window: Option<(u64, u64)>,
    pub(super) tally: Tally,
}

impl Crowd {
    pub(super) fn new(options: &Options, context: &Context) -> io::Result<Self> {
        let limits = limits(Duration::ZERO);
        let now = clock::now();
        Ok(Self {
            options: options.clone(),
            context: context.clone(),
            driver: Driver::new(RING, limits)?,
            players: Vec::new(),
            by_conn: HashMap::new(),
            acts: BinaryHeap::new(),
            mailbox: Mailbox::new(false),
            started: now,
            look_at: now,
            looks: 0,
            window: None,
            tally: Tally::default(),
        })
    }

    /// What is sent from here on for so long counts.
    pub(super) fn measure(&mut self, time: Duration) {
        let from = stamp::nanoseconds();
        self.window = Some((from, from + time.as_nanos() as u64));
    }

    /// All have come as far as they will.
    pub(super) fn is_settled(&self) -> bool {
        self.players.len() == self.options.players
            && self.players.iter().all(|player| self.has_arrived(player))
    }

    fn has_arrived(&self, player: &Player) -> bool {
        let is_alone = self.options.members(player.world) < 2;
        player.is_gone || player.is_in && (self.options.no_media || is_alone || player.has_location)
    }

    /// Lets the time go on until `end`, or until `is_over`.
    pub(super) fn run(
        &mut self,
        end: Instant,
        is_over: impl Fn(&Self) -> bool,
    ) -> anyhow::Result<()> {
        while !is_over(self) {
            let now = clock::now();
            if now >= end {
                break;
            }
            self.admit(now)?;
            let next = self.acts.peek().map(|Reverse((at, ..))| *at);
            let next = next.into_iter().chain([self.look_at, end]).min();
            self.driver.turn(true, next)?;
            self.hear()?;
            self.act()?;
            let now = clock::now();
            if now >= self.look_at {
                self.look_at = now + Duration::from_micros(self.options.poll_us);
                self.look(now)?;
            }
        }
        Ok(())
    }

    /// Lets players come.
    fn admit(&mut self, now: Instant) -> anyhow::Result<()> {
        if self.players.len() == self.options.players {
            return Ok(());
        }
        let elapsed = (now - self.started).as_secs_f64();
        let due = (elapsed * self.options.connect_rate) as usize + 1;
        let under_way = self.players.iter().rev().take(2 * self.options.parallel);
        let mut under_way = under_way.filter(|player| !self.has_arrived(player)).count();
        while self.players.len() < self.options.players.min(due)
            && under_way < self.options.parallel
        {
            let index = self.players.len();
            let seed = self.options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (index as u64) << 16;
            let server = self.options.spaces;
            let line = Line::new(&server.to_string(), seed);
            let began = clock::now();
            let conn = self.driver.open(connect(server)?, server, line);
            let conn = conn.context("no room for a connection")?;
            self.driver.establish(conn);
            self.by_conn.insert(conn, index);
            let (world, _) = self.options.place(index);
            let player = Player::new(began, index, world, conn, seed);
            self.players.push(player);
            under_way += 1;
        }
        Ok(())
    }

    fn hear(&mut self) -> anyhow::Result<()> {
        while let Some(occurrence) = self.driver.poll() {
            let (conn, said) = match occurrence {
                Occurrence::Event(conn, said) => (conn, said),
                Occurrence::Gone(conn, reason) => (conn, Said::Closed(format!("{reason:?}"))),
                Occurrence::Accepted { .. } | Occurrence::Drained(_) | Occurrence::Datagram(..) => {
                    continue;
                }
            };
            let Some(index) = self.by_conn.get(&conn).copied() else {
                continue;
            };
            match said {
                Said::Open => {
                    let mut says = Says::default();
                    let has_media = !self.options.no_media;
                    let world = self.players[index].world;
                    let is_other = |it: &Player| it.world == world && it.may_send;
                    let has_company = self.players.iter().any(is_other);
                    self.players[index].has_company = has_company;
                    self.players[index].opened(clock::now(), has_media, &mut says);
                    self.say(index, says);
                }
                Said::Text(text) => self.read(index, &text),
                Said::Closed(reason) => self.lose(index, reason),
            }
        }
        Ok(())
    }

    fn say(&mut self, index: usize, says: Says) {
        let conn = self.players[index].conn;
        self.driver.with(conn, |line| {
            says.0.iter().for_each(|message| line.say(message));
        });
    }

    fn lose(&mut self, index: usize, reason: String) {
        let player = &mut self.players[index];
        if !player.is_gone {
            player.is_gone = true;
            self.tally.failed += 1;
            self.tally.complaint.get_or_insert(reason);
        }
    }

    fn is_in_window(&self, sent: u64) -> bool {
        self.window
            .is_some_and(|(from, to)| (from..to).contains(&sent))
    }

    fn read(&mut self, index: usize, text: &str) {
        let now = clock::now();
        if let Some((_, sent)) = stamp::find(text.as_bytes()) {
            if self.is_in_window(sent) {
                let time = stamp::nanoseconds_at(now).saturating_sub(sent);
                self.tally.chat.record(Duration::from_nanos(time));
                self.tally.chats += 1;
            }
            return;
        }
        let Ok(message) = serde_json::from_str::<Value>(text) else {
            return self.lose(index, format!("not a message: {text}"));
        };
        let subject = message["subject"].as_str().unwrap_or_default();
        let player = &mut self.players[index];
        let mut says = Says::default();
        if subject == "join_success" {
            player.is_in = true;
            self.tally.joined += 1;
            if let Some(asked) = player.asked {
                self.tally.join.record(now - asked);
            }
            if self.options.chat > 0.0 {
                let every = Duration::from_secs_f64(1.0 / self.options.chat);
                let at = self.turn_of(index, now, every);
                self.acts.push(Reverse((at, index, Act::Chat)));
            }
            return;
        }
        let told = player.told(now, &self.context, subject, &message["data"], &mut says);
        self.say(index, says);
        if let Err(error) = told {
            self.lose(index, format!("{subject}: {error:#}"));
        }
    }

    /// The next turn of a player in a round of a length: those of a space come one after the
    /// other, and those of all spaces between each other.
    fn turn_of(&self, index: usize, now: Instant, round: Duration) -> Instant {
        let worlds = self.options.worlds as f64;
        let world = self.players[index].world;
        let members = self.options.members(world) as f64;
        let (_, place) = self.options.place(index);
        let place = place as f64 + world as f64 / worlds;
        let offset = round.mul_f64(place / members);
        let rounds = (now - self.started).as_nanos() / round.as_nanos().max(1);
        self.started + round * (rounds as u32 + 1) + offset
    }

    /// Does what is due.
    fn act(&mut self) -> anyhow::Result<()> {
        let mut sent = 0;
        while let Some(Reverse((at, index, act))) = self.acts.peek().copied() {
            let now = clock::now();
            if at > now {
                break;
            }
            self.acts.pop();
            if self.players[index].is_gone {
                continue;
            }
            let counts = self.is_in_window(stamp::nanoseconds_at(now));
            let others = self.options.members(self.players[index].world) as u64 - 1;
            let every = match act {
                Act::Locate => {
                    let is_sent = self.players[index].send_location(now);
                    let every = self.options.round();
                    self.tally.late += u64::from(counts && now - at > every / 10);
                    self.tally.unsent += u64::from(counts && !is_sent);
                    if counts && is_sent {
                        self.tally.locations_sent += 1;
                        self.tally.locations_due += others;
                    }
                    every
                }
                Act::Speak => {
                    if self.players[index].send_sound() && counts {
                        self.tally.sounds_sent += 1;
                        self.tally.sounds_due += others;
                    }
                    media::SOUND_EVERY
                }
                Act::Chat => {
                    let mut mark = [0; stamp::SIZE];
                    let sent = stamp::nanoseconds_at(now);
                    stamp::write(&mut mark, index as u32, sent);
                    let text = String::from_utf8_lossy(&mark);
                    let message = format!(r#"{{"subject":"chat","data":"{text}"}}"#);
                    self.say(index, Says(vec![message]));
                    if counts {
                        self.tally.chats_sent += 1;
                        // It comes back to its author.
                        self.tally.chats_due += others + 1;
                    }
                    Duration::from_secs_f64(1.0 / self.options.chat)
                }
            };
            // One that is far behind does not make up for it in a burst.
            let next = (at + every).max(now.checked_sub(every).unwrap_or(now));
            self.acts.push(Reverse((next, index, act)));
            sent += 1;
            if sent % 64 == 0 {
                self.driver.turn(false, None)?;
            }
        }
        Ok(())
    }

    /// Looks at the sockets.
    fn look(&mut self, now: Instant) -> io::Result<()> {
        self.looks += 1;
        let looks_at_producers = self.looks.is_multiple_of(PRODUCER_LOOKS);
        for index in 0..self.players.len() {
            let player = &mut self.players[index];
            if player.is_gone {
                continue;
            }
            let is_new = player.producer.as_ref().is_some_and(|it| !it.is_connected);
            if looks_at_producers || is_new {
                if let Some(producer) = &mut player.producer {
                    drain(producer, &mut self.mailbox, now, |_, _| {})?;
                }
                self.begin(index, now);
            }
            self.look_at_consumer(index, now)?;
            let complaint = self.players[index]
                .transports()
                .find_map(|transport| transport.complaint.take());
            if let Some(complaint) = complaint {
                self.lose(index, complaint);
            }
        }
        Ok(())
    }

    /// A player whose transport is connected begins to say where it is.
    fn begin(&mut self, index: usize, now: Instant) {
        let player = &mut self.players[index];
        let producer = player.producer.as_ref();
        if player.may_send || !producer.is_some_and(|producer| producer.is_connected) {
            return;
        }
        player.may_send = true;
        let mut says = Says::default();
        if self.options.voice {
            player.produce_sound(&mut says);
            let at = self.turn_of(index, now, media::SOUND_EVERY);
            self.acts.push(Reverse((at, index, Act::Speak)));
        }
        self.say(index, says);
        let at = self.turn_of(index, now, self.options.round());
        self.acts.push(Reverse((at, index, Act::Locate)));
    }

    fn look_at_consumer(&mut self, index: usize, now: Instant) -> io::Result<()> {
        let Self {
            players,
            mailbox,
            tally,
            window,
            ..
        } = self;
        let player = &mut players[index];
        let Some(consumer) = &mut player.consumer else {
            return Ok(());
        };
        let (began, asked) = (player.began, player.asked.unwrap_or(player.began));
        let has_company = player.has_company;
        let has_location = &mut player.has_location;
        let counts = |sent: u64| window.is_some_and(|(from, to)| (from..to).contains(&sent));
        drain(consumer, mailbox, now, |arrived, what| {
            let age = |sent: u64| Duration::from_nanos(arrived.saturating_sub(sent));
            match what {
                Came::Datagram => tally.datagrams += u64::from(counts(arrived)),
                Came::Location(sent) => {
                    let is_first = !std::mem::replace(has_location, true);
                    if is_first && has_company {
                        tally.join_to_location.record(since(asked, arrived));
                        tally.connect_to_location.record(since(began, arrived));
                    }
                    if counts(sent) {
                        tally.locations += 1;
                        tally.location.record(age(sent));
                    }
                }
                Came::Sound(sent) if counts(sent) => {
                    tally.sounds += 1;
                    tally.sound.record(age(sent));
                }
                Came::Sound(_) => {}
            }
        })
    }

    /// All say goodbye. Gives the datagrams that this side did not take from its sockets in time.
    pub(super) fn end(&mut self) -> anyhow::Result<u64> {
        let now = clock::now();
        let mut ports = Vec::new();
        for player in &mut self.players {
            for transport in player.transports() {
                transport.close(now);
                let address = transport.socket.local_addr();
                ports.extend(address.ok().map(|address| address.port()));
            }
        }
        ports.sort_unstable();
        let dropped = socket::dropped(&ports);
        self.driver.close_all();
        self.driver.turn(false, None)?;
        Ok(dropped)
    }
}

/// What comes to a consumer.
enum Came {
    Datagram,
    /// When it was sent.
    Location(u64),
    Sound(u64),
}

/// Takes all that is in a transport's socket, and lets its time go on. `tell` is told when
/// something came, in nanoseconds of marks, and what.
fn drain(
    transport: &mut Transport,
    mailbox: &mut Mailbox,
    now: Instant,
    mut tell: impl FnMut(u64, Came),
) -> io::Result<()> {
    loop {
        let count = mailbox.look(&transport.socket)?;
        for index in 0..count {
            let letter = mailbox.letter(index);
            let arrived = letter.time.map(|time| time.as_nanos() as u64);
            let arrived = arrived.unwrap_or_else(|| stamp::nanoseconds_at(now));
            tell(arrived, Came::Datagram);
            if Kind::of(letter.bytes) == Kind::Rtp {
                let keys = transport.peer.keys.as_mut();
                let opened = keys.and_then(|keys| keys.inbound.unprotect_rtp(letter.bytes).ok());
                let packet = opened.map(|opened| &letter.bytes[..opened.bytes]);
                let header = packet.and_then(|it| ringside::proto::rtp::Header::parse(it).ok());
                if let Some(sent) = header.and_then(|it| media::sound_sent(it.payload())) {
                    tell(arrived, Came::Sound(sent));
                }
                continue;
            }
            transport.input(now, letter.bytes, &mut |_, bytes| {
                if let Some(sent) = location_sent(&bytes) {
                    tell(arrived, Came::Location(sent));
                }
            });
        }
        if count < BATCH {
            break;
        }
    }
    transport.handle_timeout(now, &mut |_, _| {});
    Ok(())
}

/// From a time of this process to one of marks.
fn since(from: Instant, to: u64) -> Duration {
    Duration::from_nanos(to.saturating_sub(stamp::nanoseconds_at(from)))
}

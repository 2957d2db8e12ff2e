//! The clients of one thread: their offers, their sockets and their time.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringside::base::ids::ConnId;
use ringside::drive::{Driver, Occurrence};
use ringside::proto::dtls::Context;
use ringside::proto::rtp::Kind;
use ringside::shard::clock;

use super::netem::{Harm, Netem};
use super::peer::{Keys, Peer, Progress};
use super::post::Post;
use super::sdp;
use super::socket::{self, BATCH, Mailbox};
use super::tally::{Phase, Shared, Tally};
use crate::fleet::{RING, limits};
use crate::publisher::connect;
use crate::stamp;

/// What a client does with media.
pub(super) trait Role {
    /// What it asks for.
    fn offer(&self, peer: &Peer, fingerprint: &str) -> String;
    /// Media can go.
    fn connected(&mut self, now: Instant);
    /// A packet of media came, sealed.
    fn media(&mut self, turn: &mut Turn<'_>, bytes: &mut [u8]);
    /// A packet of RTCP came, sealed.
    fn control(&mut self, turn: &mut Turn<'_>, bytes: &[u8]);
    /// Called with each look at the sockets, and when it is due.
    fn handle_timeout(&mut self, turn: &mut Turn<'_>);
    /// When it wants to be called at the latest.
    fn due(&self) -> Option<Instant>;
    /// It has received what it came for.
    fn has_media(&self) -> bool;
    /// The run goes on.
    fn enter(&mut self, phase: Phase);
    /// Adds what it has measured.
    fn sum(&mut self, now: Instant, tally: &mut Tally);
}

/// What a role is given with each call.
pub(super) struct Turn<'a> {
    pub(super) now: Instant,
    /// When what is being handled came.
    pub(super) arrived: Instant,
    pub(super) phase: Phase,
    /// When measuring began, in nanoseconds of marks.
    pub(super) measured_from: Option<u64>,
    pub(super) tally: &'a mut Tally,
    pub(super) shared: &'a Shared,
    /// Datagrams to send.
    pub(super) out: &'a mut Vec<Vec<u8>>,
    /// Packets of media that were received.
    pub(super) received: u64,
    keys: &'a mut Option<Box<Keys>>,
}

impl Turn<'_> {
    pub(super) fn keys(&mut self) -> Option<&mut Keys> {
        self.keys.as_deref_mut()
    }

    /// To use them and the turn at once; they have to be given back.
    pub(super) fn take_keys(&mut self) -> Option<Box<Keys>> {
        self.keys.take()
    }

    pub(super) fn give_keys(&mut self, keys: Box<Keys>) {
        *self.keys = Some(keys);
    }

    /// Seals and sends RTCP.
    pub(super) fn send_control(&mut self, mut packet: Vec<u8>) {
        if let Some(keys) = self.keys.as_deref_mut()
            && keys.outbound.protect_rtcp(&mut packet).is_ok()
        {
            self.out.push(packet);
        }
    }
}

/// What a thread is to do.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) http: SocketAddr,
    pub(super) count: usize,
    /// New clients in a second.
    pub(super) connect_rate: f64,
    /// Clients that may join at one time.
    pub(super) parallel: usize,
    /// Between two looks at the sockets.
    pub(super) poll: Duration,
    /// The thread wakes for its clients' times too.
    pub(super) is_punctual: bool,
    /// Groups of datagrams are taken whole.
    pub(super) whole: bool,
    /// Clients leave once they are connected.
    pub(super) leaves: bool,
    pub(super) receive: Harm,
    pub(super) send: Harm,
    pub(super) seed: u64,
}

/// One client to be.
pub(super) struct Newcomer<R> {
    pub(super) role: R,
    /// `/whep/live`.
    pub(super) target: String,
    /// The kernel tells when its datagrams come.
    pub(super) tells_time: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The offer is on its way.
    Asking(ConnId),
    /// Checks and handshake are.
    Joining,
    Connected,
    Gone,
}

struct Client<R> {
    role: R,
    peer: Peer,
    state: State,
    tells_time: bool,
    socket: Option<UdpSocket>,
    began: Instant,
    has_media: bool,
    receive: Option<Netem<Vec<u8>>>,
    send: Option<Netem<Vec<u8>>>,
}

/// The clients of one thread.
pub(super) struct Crew<R> {
    plan: Plan,
    context: Context,
    shared: Arc<Shared>,
    driver: Driver<Post>,
    clients: Vec<Client<R>>,
    mailbox: Mailbox,
    tally: Tally,
    joining: usize,
    phase: Phase,
    measured_from: Option<u64>,
    out: Vec<Vec<u8>>,
}

impl<R: Role> Crew<R> {
    pub(super) fn new(plan: Plan, context: &Context, shared: &Arc<Shared>) -> io::Result<Self> {
        let limits = limits(Duration::ZERO);
        Ok(Self {
            mailbox: Mailbox::new(plan.whole),
            plan,
            context: context.clone(),
            shared: Arc::clone(shared),
            driver: Driver::new(RING, limits)?,
            clients: Vec::new(),
            tally: Tally::default(),
            joining: 0,
            phase: Phase::Joining,
            measured_from: None,
            out: Vec::new(),
        })
    }

    /// Runs clients that `make` makes until the run is over.
    pub(super) fn run(mut self, make: impl FnMut(usize) -> Newcomer<R>) -> io::Result<Tally> {
        let result = self.go_round(make);
        if result.is_err() {
            self.shared.is_broken.store(true, Ordering::Relaxed);
        }
        result?;
        let now = clock::now();
        let mut ports = Vec::new();
        for client in &mut self.clients {
            client.role.sum(now, &mut self.tally);
            let harmed = [&client.receive, &client.send].into_iter().flatten();
            self.tally.harmed += harmed.map(|netem| netem.lost).sum::<u64>();
            let address = client.socket.as_ref().and_then(|s| s.local_addr().ok());
            ports.extend(address.map(|address| address.port()));
        }
        ports.sort_unstable();
        self.tally.dropped_here = socket::dropped(&ports);
        Ok(self.tally)
    }

    fn go_round(&mut self, mut make: impl FnMut(usize) -> Newcomer<R>) -> io::Result<()> {
        let started = clock::now();
        let mut look_at = started;
        while self.shared.phase() != Phase::Over {
            let now = clock::now();
            let elapsed = (now - started).as_secs_f64();
            let due = (elapsed * self.plan.connect_rate) as usize + 1;
            while self.clients.len() < self.plan.count.min(due) && self.joining < self.plan.parallel
            {
                self.begin(make(self.clients.len()));
            }
            let own = self.clients.iter().filter_map(|client| client.role.due());
            let own = self.plan.is_punctual.then(|| own.min()).flatten();
            self.driver
                .turn(true, own.into_iter().chain([look_at]).min())?;
            self.hear()?;
            self.follow();
            let now = clock::now();
            let is_look = now >= look_at;
            if is_look {
                look_at = now + self.plan.poll;
            }
            for index in 0..self.clients.len() {
                if is_look {
                    self.look(index)?;
                }
                self.let_time_go_on(index);
            }
        }
        self.follow();
        let now = clock::now();
        for index in 0..self.clients.len() {
            self.clients[index].peer.close(now, &mut self.out);
            self.flush(index, now);
        }
        Ok(())
    }

    /// Posts an offer.
    fn begin(&mut self, newcomer: Newcomer<R>) {
        let index = self.clients.len() as u64;
        let Newcomer {
            role,
            target,
            tells_time,
        } = newcomer;
        let plan = &self.plan;
        let seed = plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (index << 1);
        let peer = Peer::new(&self.context, seed);
        let fingerprint = self.context.certificate().fingerprint_text();
        let fingerprint = fingerprint.trim_start_matches("sha-256 ");
        let offer = role.offer(&peer, fingerprint);
        let netem = |harm: Harm, seed| harm.is_some().then(|| Netem::new(harm, seed));
        let began = clock::now();
        let post = Post::new(&plan.http.to_string(), &target, &offer);
        let conn = connect(plan.http)
            .ok()
            .and_then(|fd| self.driver.open(fd, plan.http, post));
        if let Some(conn) = conn {
            self.driver.establish(conn);
            self.joining += 1;
        }
        self.clients.push(Client {
            role,
            peer,
            state: conn.map_or(State::Gone, State::Asking),
            tells_time,
            socket: None,
            began,
            has_media: false,
            receive: netem(plan.receive, seed),
            send: netem(plan.send, seed | 1),
        });
        if conn.is_none() {
            self.lost("no connection for the offer".to_owned());
        }
    }

    fn lost(&mut self, reason: String) {
        self.tally.complain(reason);
        self.shared.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes answers in.
    fn hear(&mut self) -> io::Result<()> {
        while let Some(occurrence) = self.driver.poll() {
            let (conn, answered) = match occurrence {
                Occurrence::Event(conn, answered) => {
                    self.driver.abort(conn);
                    (conn, answered)
                }
                Occurrence::Gone(conn, gone) => (conn, Err(format!("the offer: {gone:?}"))),
                Occurrence::Accepted { .. } | Occurrence::Drained(_) | Occurrence::Datagram(..) => {
                    continue;
                }
            };
            let asks = |client: &Client<R>| client.state == State::Asking(conn);
            let Some(index) = self.clients.iter().position(asks) else {
                continue;
            };
            let read = answered.and_then(|text| {
                sdp::answer(&text, self.plan.http).map_err(|error| format!("{error:#}"))
            });
            match read {
                Ok(answer) => self.answered(index, answer)?,
                Err(reason) => self.gone(index, reason),
            }
        }
        Ok(())
    }

    fn answered(&mut self, index: usize, answer: sdp::Answer) -> io::Result<()> {
        let client = &mut self.clients[index];
        let whole = self.plan.whole;
        client.socket = Some(socket::open(answer.address, client.tells_time, whole)?);
        client.state = State::Joining;
        let now = clock::now();
        client.peer.answered(now, answer, &mut self.out);
        self.flush(index, now);
        Ok(())
    }

    fn gone(&mut self, index: usize, reason: String) {
        let client = &mut self.clients[index];
        self.joining -= usize::from(!matches!(client.state, State::Connected | State::Gone));
        client.state = State::Gone;
        self.lost(reason);
    }

    /// Goes on with the run.
    fn follow(&mut self) {
        let phase = self.shared.phase();
        if phase == self.phase {
            return;
        }
        self.phase = phase;
        if phase == Phase::Measuring {
            self.measured_from = Some(stamp::nanoseconds());
        }
        for client in &mut self.clients {
            client.role.enter(phase);
        }
    }

    /// Takes what is in a client's socket.
    fn look(&mut self, index: usize) -> io::Result<()> {
        loop {
            let client = &self.clients[index];
            let Some(socket) = &client.socket else {
                return Ok(());
            };
            if client.state == State::Gone {
                return Ok(());
            }
            let count = self.mailbox.look(socket)?;
            let now = clock::now();
            // The letters are of this look only, and handling one needs all of the crew.
            let mut mailbox = std::mem::replace(&mut self.mailbox, Mailbox::empty());
            for letter in 0..count {
                let letter = mailbox.letter(letter);
                let arrived = letter.time.map_or(now, |time| instant(now, time));
                let segment = letter.segment.unwrap_or(usize::MAX).max(1);
                for bytes in letter.bytes.chunks_mut(segment) {
                    match &mut self.clients[index].receive {
                        Some(netem) => netem.push(now, bytes.to_vec()),
                        None => self.receive(index, now, arrived, bytes),
                    }
                }
            }
            self.mailbox = mailbox;
            self.flush(index, now);
            if count < BATCH {
                return Ok(());
            }
        }
    }

    fn receive(&mut self, index: usize, now: Instant, arrived: Instant, bytes: &mut [u8]) {
        let client = &mut self.clients[index];
        let kind = Kind::of(bytes);
        if matches!(kind, Kind::Stun | Kind::Dtls) {
            client.peer.input(now, bytes, &mut self.out);
            self.progress(index, now);
            return;
        }
        if client.state != State::Connected {
            return;
        }
        let mut turn = Turn {
            now,
            arrived,
            phase: self.phase,
            measured_from: self.measured_from,
            tally: &mut self.tally,
            shared: &self.shared,
            out: &mut self.out,
            received: 0,
            keys: &mut client.peer.keys,
        };
        if kind == Kind::Rtp {
            client.role.media(&mut turn, bytes);
        } else {
            client.role.control(&mut turn, bytes);
        }
        let received = turn.received;
        self.shared.received.fetch_add(received, Ordering::Relaxed);
        if !client.has_media && client.role.has_media() {
            client.has_media = true;
            self.tally.first_packet.record(now - client.began);
            self.shared.settled.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn progress(&mut self, index: usize, now: Instant) {
        let client = &mut self.clients[index];
        match client.peer.progress() {
            None => {}
            Some(Progress::Connected) => {
                client.state = State::Connected;
                self.joining -= 1;
                self.tally.join.record(now - client.began);
                if let Some(keys) = &client.peer.keys {
                    self.tally.note_profile(keys.outbound.profile(), 1);
                }
                self.shared.connected.fetch_add(1, Ordering::Relaxed);
                if self.plan.leaves {
                    client.peer.close(now, &mut self.out);
                    client.state = State::Gone;
                } else {
                    client.role.connected(now);
                }
            }
            Some(Progress::Failed(reason)) if client.state != State::Gone => {
                self.gone(index, reason);
            }
            Some(Progress::Failed(_)) => {}
        }
    }

    fn let_time_go_on(&mut self, index: usize) {
        let now = clock::now();
        while let Some(mut bytes) = self.clients[index]
            .receive
            .as_mut()
            .and_then(|netem| netem.poll(now))
        {
            self.receive(index, now, now, &mut bytes);
        }
        let client = &mut self.clients[index];
        if client.state == State::Gone {
            return;
        }
        client.peer.handle_timeout(now, &mut self.out);
        if client.state == State::Connected {
            let mut turn = Turn {
                now,
                arrived: now,
                phase: self.phase,
                measured_from: self.measured_from,
                tally: &mut self.tally,
                shared: &self.shared,
                out: &mut self.out,
                received: 0,
                keys: &mut client.peer.keys,
            };
            client.role.handle_timeout(&mut turn);
        }
        self.progress(index, now);
        self.flush(index, now);
    }

    /// Sends what a client has to send.
    fn flush(&mut self, index: usize, now: Instant) {
        let client = &mut self.clients[index];
        for bytes in self.out.drain(..) {
            match (&mut client.send, &client.socket) {
                (Some(netem), Some(_)) => netem.push(now, bytes),
                // What does not go is lost, as on any network.
                (None, Some(socket)) => drop(socket.send(&bytes)),
                (Some(_) | None, None) => {}
            }
        }
        if let (Some(netem), Some(socket)) = (&mut client.send, &client.socket) {
            while let Some(bytes) = netem.poll(now) {
                drop(socket.send(&bytes));
            }
        }
    }
}

/// A time of the wall clock as one of this process.
fn instant(now: Instant, time: Duration) -> Instant {
    let wall = Duration::from_nanos(stamp::nanoseconds_at(now));
    match time.checked_sub(wall) {
        Some(later) => now + later,
        None => now.checked_sub(wall - time).unwrap_or(now),
    }
}

//! The other side of a server's peer: ICE that controls, DTLS that begins, and the keys of SRTP.

use std::time::Instant;

use bytes::Bytes;
use ringside::base::prng::Prng;
use ringside::proto::dtls::{self, Context, Role, SrtpKeys};
use ringside::proto::ice::{Channel, Checker, CheckerEvent, CheckerOptions, Credentials, Path};
use ringside::proto::rtp::Kind;
use ringside::proto::srtp::{Inbound, Outbound, Profile};

use super::sdp::Answer;

/// What protects media.
pub(crate) struct Keys {
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
}

impl Keys {
    fn new(keys: &SrtpKeys) -> Option<Self> {
        let profile = Profile::from_id(keys.profile().number())?;
        Some(Self {
            inbound: Inbound::new(profile, keys.server_key(), keys.server_salt()),
            outbound: Outbound::new(profile, keys.client_key(), keys.client_salt()),
        })
    }
}

/// What a peer has come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// Media can go.
    Connected,
    /// It will not.
    Failed(String),
}

/// One transport.
pub(crate) struct Peer {
    local: Credentials,
    seed: u64,
    context: Context,
    path: Option<Path>,
    checker: Option<Checker>,
    dtls: Option<dtls::Session>,
    expected: Option<dtls::Fingerprint>,
    pub(crate) keys: Option<Box<Keys>>,
    progress: Option<Progress>,
    data: Vec<Bytes>,
}

impl Peer {
    pub(crate) fn new(context: &Context, seed: u64) -> Self {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut prng = Prng::new(seed);
        let mut word = |count: usize| -> String {
            (0..count)
                .map(|_| char::from(LETTERS[prng.below(LETTERS.len() as u64) as usize]))
                .collect()
        };
        Self {
            local: Credentials {
                ufrag: word(8),
                password: word(24),
            },
            seed,
            context: context.clone(),
            path: None,
            checker: None,
            dtls: None,
            expected: None,
            keys: None,
            progress: None,
            data: Vec::new(),
        }
    }

    /// For the offer.
    pub(crate) fn local(&self) -> &Credentials {
        &self.local
    }

    /// The server has answered.
    pub(crate) fn answered(&mut self, now: Instant, answer: Answer, out: &mut Vec<Vec<u8>>) {
        let path = Path {
            remote: answer.address,
            channel: Channel(0),
        };
        self.path = Some(path);
        self.expected = Some(answer.fingerprint);
        self.checker = Some(Checker::new(
            now,
            self.local.clone(),
            answer.remote,
            path,
            self.seed,
            CheckerOptions::default(),
        ));
        self.drain(now, out);
    }

    /// A datagram that is not media.
    pub(crate) fn input(&mut self, now: Instant, bytes: &[u8], out: &mut Vec<Vec<u8>>) {
        match Kind::of(bytes) {
            Kind::Stun => {
                if let (Some(checker), Some(path)) = (&mut self.checker, self.path) {
                    checker.handle_input(now, path, bytes);
                }
            }
            Kind::Dtls => {
                if let Some(dtls) = &mut self.dtls {
                    dtls.handle_input(now, bytes);
                }
            }
            Kind::Rtp | Kind::Rtcp | Kind::Other => return,
        }
        self.drain(now, out);
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        if self.due().is_none_or(|due| due > now) {
            return;
        }
        if let Some(checker) = &mut self.checker {
            checker.handle_timeout(now);
        }
        if let Some(dtls) = &mut self.dtls {
            dtls.handle_timeout(now);
        }
        self.drain(now, out);
    }

    /// When [`Peer::handle_timeout`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        let checker = self.checker.as_ref().and_then(Checker::poll_timeout);
        let dtls = self.dtls.as_ref().and_then(dtls::Session::poll_timeout);
        let due = checker.into_iter().chain(dtls).map(|(at, _why)| at);
        due.min()
    }

    /// What has become of it, once.
    pub(crate) fn progress(&mut self) -> Option<Progress> {
        self.progress.take()
    }

    /// What came in records of DTLS.
    pub(crate) fn take_data(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.data)
    }

    /// Sends a packet in a record of DTLS.
    pub(crate) fn write(&mut self, now: Instant, packet: &[u8], out: &mut Vec<Vec<u8>>) {
        if let Some(dtls) = &mut self.dtls {
            // One that does not fit is lost, as on any network.
            let _ = dtls.write(now, packet);
            while let Some(bytes) = dtls.poll_transmit() {
                out.push(bytes.to_vec());
            }
        }
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        if let Some(dtls) = &mut self.dtls {
            dtls.close(now);
        }
        self.checker = None;
        self.drain(now, out);
    }

    fn drain(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        if let Some(checker) = &mut self.checker {
            while let Some((_, bytes)) = checker.poll_transmit() {
                out.push(bytes.to_vec());
            }
            match checker.poll_event() {
                Some(CheckerEvent::Connected) => {
                    let session =
                        dtls::Session::new(now, Role::Client, &self.context, self.expected.take());
                    match session {
                        Ok(session) => self.dtls = Some(session),
                        Err(error) => self.fail(format!("DTLS: {error}")),
                    }
                }
                Some(CheckerEvent::Failed) => self.fail("ICE: no response".to_owned()),
                None => {}
            }
        }
        while let Some(event) = self.dtls.as_mut().and_then(dtls::Session::poll_event) {
            match event {
                dtls::Event::Connected { srtp } => match srtp.as_ref().and_then(Keys::new) {
                    Some(keys) => {
                        self.keys = Some(Box::new(keys));
                        self.progress = Some(Progress::Connected);
                    }
                    None => self.fail("DTLS: no profile of SRTP in common".to_owned()),
                },
                dtls::Event::Data(bytes) => self.data.push(bytes),
                dtls::Event::Closed(reason) => self.fail(format!("DTLS: {reason}")),
            }
        }
        while let Some(bytes) = self.dtls.as_mut().and_then(dtls::Session::poll_transmit) {
            out.push(bytes.to_vec());
        }
    }

    fn fail(&mut self, reason: String) {
        self.progress = Some(Progress::Failed(reason));
    }
}

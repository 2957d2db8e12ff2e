//! Makes transports, and hands each to the shard where its player's first check arrives.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::ids::ShardId;
use crate::drive::{Claim, Driver, Peers, ServerSession};
use crate::io::fill_random;
use crate::proto::ice::Credentials;
use crate::proto::webrtc::{ENTROPY_BYTES, Entropy, Peer, SessionKey, Tenant, password};
use crate::shard::clock;
use crate::spaces::door::{Door, Running};
use crate::spaces::message::{Granted, Message, Parameters, Refusal, Report, TransportId};

/// A transport that was made here.
#[derive(Debug)]
pub(in crate::spaces) struct Made {
    pub(in crate::spaces) key: SessionKey,
    pub(in crate::spaces) local: Credentials,
    pub(in crate::spaces) state: State,
}

#[derive(Debug)]
pub(in crate::spaces) enum State {
    /// No check has come. What was ordered waits.
    Waiting(Vec<Message>),
    RunBy(ShardId),
}

impl Door {
    pub(in crate::spaces) fn open(&mut self, transport: TransportId) {
        let report = match self.make(transport) {
            Ok(parameters) => Report::Opened {
                transport,
                parameters: Box::new(parameters),
            },
            Err(refusal) => Report::Refused { transport, refusal },
        };
        self.report(report);
    }

    pub(in crate::spaces) fn make(
        &mut self,
        transport: TransportId,
    ) -> Result<Parameters, Refusal> {
        let identity = self.identity.as_ref().ok_or(Refusal::Unavailable)?;
        if self.made.len() >= identity.transports_max || self.made.contains_key(&transport) {
            return Err(Refusal::TooMany);
        }
        let mut random = [0; ENTROPY_BYTES];
        fill_random(&mut random).map_err(|_| Refusal::Unavailable)?;
        let mut entropy = Entropy(&random);
        let key = SessionKey::new(self.me, Tenant::Spaces, &mut entropy);
        let local = Credentials {
            ufrag: key.ufrag(&mut entropy),
            password: password(&mut entropy),
        };
        let parameters = Parameters {
            local: local.clone(),
            candidates: identity.candidates.clone(),
            fingerprints: vec![identity.fingerprint.clone()],
        };
        let state = State::Waiting(Vec::new());
        self.made.insert(transport, Made { key, local, state });
        self.by_key.insert(key, transport);
        Ok(parameters)
    }

    pub(in crate::spaces) fn forget_made(&mut self, transport: TransportId) {
        if let Some(made) = self.made.remove(&transport) {
            self.by_key.remove(&made.key);
        }
    }

    /// A check has come for a transport that was made here.
    pub(in crate::spaces) fn claimed(
        &mut self,
        driver: &mut Driver<ServerSession>,
        peers: &mut Peers,
        claim: Claim,
    ) {
        let Claim { key, by, stray } = claim;
        let transport = self.by_key.get(&key).copied();
        let made = transport.and_then(|transport| self.made.get_mut(&transport));
        let (Some(transport), Some(made)) = (transport, made) else {
            peers.drop_stray();
            return;
        };
        match std::mem::replace(&mut made.state, State::RunBy(by)) {
            State::Waiting(held) => {
                let local = made.local.clone();
                let granted = Box::new(Granted {
                    transport,
                    key,
                    local,
                    held,
                    stray,
                });
                if by == self.me {
                    self.message(driver, peers, Message::Granted(granted));
                } else {
                    self.send(by, Message::Granted(granted));
                }
            }
            State::RunBy(shard) => {
                made.state = State::RunBy(shard);
                if shard == self.me {
                    peers.stray(driver, by, &stray);
                } else {
                    peers.pass_on(key, shard, by, stray);
                }
            }
        }
    }

    /// Runs a transport. False if this shard is about to end.
    pub(in crate::spaces) fn start(
        &mut self,
        driver: &Driver<ServerSession>,
        peers: &mut Peers,
        transport: TransportId,
        key: SessionKey,
        local: Credentials,
    ) -> bool {
        let Some(identity) = &self.identity else {
            return false;
        };
        let ufrag = local.ufrag.clone();
        let unix = Duration::from_millis(clock::unix_millis().unsigned_abs());
        let peer = Peer::open(driver.now(), unix, local, &identity.shared, seed());
        let conn = peers.add(key, peer, &ufrag);
        self.by_conn.insert(conn, transport);
        let running = Running {
            conn,
            channels: BTreeMap::new(),
            tracks: BTreeMap::new(),
            sounds: BTreeMap::new(),
            early: Vec::new(),
            unopened: Vec::new(),
        };
        self.running.insert(transport, running);
        true
    }
}

pub(in crate::spaces) fn seed() -> u64 {
    let mut seed = [0; 8];
    fill_random(&mut seed).expect("the kernel has had random bytes for the transport's names");
    u64::from_le_bytes(seed)
}

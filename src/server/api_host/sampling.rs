//! What the shards say: for a call, and once a second for the history.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{ApiHost, Errand, Sampling};
use crate::base::ids::ShardId;
use crate::shard::clock;
use crate::streams::{ShardClients, ShardSnapshot};

impl ApiHost {
    /// A shard's answer. False if the API has not asked.
    pub(in crate::server) fn snapshot(
        &mut self,
        now: Instant,
        from: ShardId,
        token: u64,
        snapshot: ShardSnapshot,
    ) {
        if let Some(gathered) = self.gathered(token) {
            gathered.snapshots.insert(from, snapshot);
            self.execute_if_ready(now, token);
        } else if let Some(sample) = self.sample.as_mut().filter(|sample| sample.token == token) {
            if let Some(snapshots) = &mut sample.snapshots {
                snapshots.insert(from, snapshot);
            }
            self.finish_sample(now);
        }
    }

    /// A shard's answer.
    pub(in crate::server) fn clients(
        &mut self,
        now: Instant,
        from: ShardId,
        token: u64,
        clients: ShardClients,
    ) {
        if let Some(gathered) = self.gathered(token) {
            gathered.clients.insert(from, clients);
            self.execute_if_ready(now, token);
        } else if let Some(sample) = self.sample.as_mut().filter(|sample| sample.token == token) {
            sample.clients.insert(from, clients);
            self.finish_sample(now);
        }
    }

    /// Whether a snapshot with this number was asked for here.
    pub(in crate::server) fn has_asked(&self, token: u64) -> bool {
        self.calls.contains_key(&token)
            || self
                .sample
                .as_ref()
                .is_some_and(|sample| sample.token == token)
    }

    pub(super) fn begin_sample(&mut self, now: Instant) {
        let token = self.next_token();
        let each = self.api.history.watches_clients(now) || self.listeners.want_clients();
        let watches_streams =
            self.api.history.watches_streams(now) || self.listeners.want_streams();
        self.errands.push(Errand::AskClients { token, each });
        if watches_streams {
            self.errands.push(Errand::AskSnapshots { token });
        }
        // One that is not complete by now never will be: its second is left out.
        self.sample = Some(Sampling {
            token,
            clients: BTreeMap::new(),
            snapshots: watches_streams.then(BTreeMap::new),
        });
    }

    pub(super) fn finish_sample(&mut self, now: Instant) {
        let is_complete = self.sample.as_ref().is_some_and(|sample| {
            sample.clients.len() == self.media_shards
                && sample
                    .snapshots
                    .as_ref()
                    .is_none_or(|snapshots| snapshots.len() == self.media_shards)
        });
        let Some(sample) = self.sample.take_if(|_| is_complete) else {
            return;
        };
        let shards: Vec<ShardClients> = sample.clients.into_values().collect();
        let tally = ShardClients::sum(&shards);
        let clients = ShardClients::merge(shards);
        let snapshots: Option<Vec<ShardSnapshot>> = sample
            .snapshots
            .map(|snapshots| snapshots.into_values().collect());
        self.listeners.tell(snapshots.as_deref(), &clients);
        let snapshots = snapshots.unwrap_or_default();
        self.api
            .history
            .add(clock::unix_millis() / 1000, tally, &snapshots);
        if !clients.is_empty() {
            self.api.history.pace(now, &clients);
        }
    }
}

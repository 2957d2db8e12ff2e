//! Runs the API on the control shard: a call waits here for the shards, the worker and the disk.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::base::ids::{ConnId, ShardId};
use crate::config::{Certificate, Changes, Config, Loaded, Notice, Protocols};
use crate::io::Waker;
use crate::proto::http::{Request, Response};
use crate::server::config_file::SaveError;
use crate::server::log_layer::Log;
use crate::server::worker::{Job, Report, Worker, key_beside, random};
use crate::shard::clock;
use crate::streams::api::accounts::{Accounts, Key};
use crate::streams::api::{
    Api, Attempt, Call, Caller, Effect, Listing, Machine, Needs, Reply, Verdict, World,
};
use crate::streams::name::StreamName;
use crate::streams::{SessionFilter, ShardClients, ShardSnapshot};

/// How long the shards and the worker may take for a call.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Calls that may wait at once. Each holds its commands: at most the largest body.
const CALLS_MAX: usize = 64;

/// When changes are written, counted from the last of them, as in MistServer.
const SAVE_AFTER: Duration = Duration::from_secs(60);

/// How often sums are taken.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// What the API wants of the control shard.
#[derive(Debug)]
pub(super) enum Errand {
    /// Answer a connection.
    Respond(ConnId, Response),
    /// Ask all media shards what they have.
    AskSnapshots { token: u64 },
    /// Ask all media shards who is there.
    AskClients { token: u64, each: bool },
    /// End these sessions.
    StopSessions(SessionFilter),
    /// End this stream.
    Nuke(StreamName),
    /// Use this configuration.
    Use(Arc<Config>),
    /// Their files may have changed.
    LookAtCertificates,
    /// End the server.
    Shutdown,
}

/// The API with its calls.
pub(super) struct ApiHost {
    api: Api,
    worker: Worker,
    log: Log,
    config: Arc<Config>,
    accounts: Accounts,
    key: Option<Key>,
    listening: Protocols,
    /// The certificate that the environment names.
    environment: Option<Certificate>,
    /// What is known of the configuration, and was said.
    notices: Vec<Notice>,
    media_shards: usize,
    calls: BTreeMap<u64, Waiting>,
    next_token: u64,
    /// When the configuration is to be written, if it has changed.
    save_at: Option<Instant>,
    /// The worker is at it.
    saving: bool,
    next_sample: Instant,
    sample: Option<Sampling>,
    errands: Vec<Errand>,
}

/// A call on its way.
struct Waiting {
    conn: ConnId,
    caller: Caller,
    host: String,
    authorization: Option<String>,
    call: Call,
    until: Instant,
    step: Step,
}

enum Step {
    /// For the worker to compare or hash a password.
    Password,
    /// For what the call needs.
    Gather(Map<String, Value>, Box<Gathered>),
    /// For the disk.
    Disk(Reply, usize),
}

/// What has come in for a call.
#[derive(Default)]
struct Gathered {
    needs: Needs,
    snapshots: BTreeMap<ShardId, ShardSnapshot>,
    clients: BTreeMap<ShardId, ShardClients>,
    machine: Option<Machine>,
    listing: Option<Result<Listing, String>>,
}

/// A second of the history on its way.
struct Sampling {
    token: u64,
    clients: BTreeMap<ShardId, ShardClients>,
    snapshots: Option<BTreeMap<ShardId, ShardSnapshot>>,
}

/// What the host is made with.
pub(super) struct Options<'a> {
    pub(super) config: Arc<Config>,
    pub(super) config_path: Option<&'a Path>,
    pub(super) environment: Option<Certificate>,
    pub(super) notices: Vec<Notice>,
    pub(super) log: Log,
    pub(super) media_shards: usize,
    pub(super) waker: Waker,
    pub(super) now: Instant,
    pub(super) first_token: u64,
}

impl ApiHost {
    pub(super) fn new(options: Options<'_>) -> std::io::Result<Self> {
        let key = options.config_path.and_then(key_beside);
        Ok(Self {
            api: Api::new(random()),
            worker: Worker::start(options.config_path, options.waker)?,
            log: options.log,
            accounts: Accounts::open(&options.config, key.as_ref()),
            listening: options.config.protocols.clone(),
            environment: options.environment,
            notices: options.notices,
            config: options.config,
            key,
            media_shards: options.media_shards,
            calls: BTreeMap::new(),
            next_token: options.first_token,
            save_at: None,
            saving: false,
            next_sample: options.now,
            sample: None,
            errands: Vec::new(),
        })
    }

    /// What is to be done, in order.
    pub(super) fn take_errands(&mut self) -> Vec<Errand> {
        std::mem::take(&mut self.errands)
    }

    /// When [`ApiHost::tick`] has to be called at the latest.
    pub(super) fn deadline(&self) -> Instant {
        let calls = self.calls.values().map(|call| call.until);
        calls
            .chain(self.save_at.filter(|_| !self.saving))
            .chain([self.next_sample])
            .min()
            .unwrap_or(self.next_sample)
    }

    /// A request. False if it is not for the API.
    pub(super) fn request(
        &mut self,
        now: Instant,
        conn: ConnId,
        (peer, own): (IpAddr, Option<IpAddr>),
        request: &Request,
    ) -> bool {
        let call = match Call::read(request) {
            Ok(Some(call)) => call,
            Ok(None) => return false,
            Err(response) => {
                self.errands.push(Errand::Respond(conn, response));
                return true;
            }
        };
        if self.calls.len() >= CALLS_MAX {
            let response = Response::text(503, "Too many calls at once.");
            self.errands.push(Errand::Respond(conn, response));
            return true;
        }
        let trusted = &self.config.general.trusted_proxies;
        let waiting = Waiting {
            conn,
            caller: Caller::of(request, peer, own, trusted),
            host: request.host().to_owned(),
            authorization: request.header("authorization").map(str::to_owned),
            call,
            until: now + ANSWER_MAX,
            step: Step::Password,
        };
        let attempt = waiting.attempt(now);
        let verdict = self.api.authorizer.decide(&attempt, &self.accounts);
        let token = self.next_token();
        self.proceed(now, token, waiting, verdict);
        true
    }

    /// A connection is gone.
    pub(super) fn connection_gone(&mut self, conn: ConnId) {
        self.api.authorizer.connection_gone(conn);
    }

    fn next_token(&mut self) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        token
    }

    fn proceed(&mut self, now: Instant, token: u64, waiting: Waiting, verdict: Verdict) {
        let job = match verdict {
            Verdict::Refused(reply) => {
                self.answer(waiting.conn, reply, &waiting.call);
                return;
            }
            Verdict::Granted(authorize) => {
                self.gather(now, token, waiting, authorize);
                return;
            }
            Verdict::Verify { hash, md5 } => Job::Verify {
                ticket: token,
                hash,
                md5,
            },
            Verdict::MakeAccount { name, md5 } => Job::Protect {
                ticket: token,
                name,
                md5,
                keeps_md5: self.config.general.challenge_login,
            },
        };
        if self.worker.send(job).is_err() {
            self.busy(waiting.conn);
            return;
        }
        self.calls.insert(
            token,
            Waiting {
                step: Step::Password,
                ..waiting
            },
        );
    }

    fn busy(&mut self, conn: ConnId) {
        let response =
            Response::text(503, "Too much to do: try again.").with_header("Retry-After", "1");
        self.errands.push(Errand::Respond(conn, response));
    }

    fn answer(&mut self, conn: ConnId, reply: Reply, call: &Call) {
        let response = reply.into_response(call.callback.as_deref());
        self.errands.push(Errand::Respond(conn, response));
    }

    fn gather(
        &mut self,
        now: Instant,
        token: u64,
        waiting: Waiting,
        authorize: Map<String, Value>,
    ) {
        let needs = Needs::of(&waiting.call, &self.config);
        self.api.history.watch_streams(now, &waiting.call.commands);
        if needs.clients {
            self.api.history.watch_clients(now);
            self.errands.push(Errand::AskClients { token, each: true });
        }
        if needs.snapshots {
            self.errands.push(Errand::AskSnapshots { token });
        }
        let look = needs.machine.then_some(Job::Look { ticket: token });
        let list = needs.folder.clone().map(|place| Job::List {
            ticket: token,
            place,
        });
        for job in look.into_iter().chain(list) {
            if self.worker.send(job).is_err() {
                self.busy(waiting.conn);
                return;
            }
        }
        let gathered = Box::new(Gathered {
            needs,
            ..Gathered::default()
        });
        let waiting = Waiting {
            step: Step::Gather(authorize, gathered),
            ..waiting
        };
        self.calls.insert(token, waiting);
        self.execute_if_ready(now, token);
    }

    /// Carries a call out, if all that it needs is there.
    fn execute_if_ready(&mut self, now: Instant, token: u64) {
        let is_ready = match self.calls.get(&token).map(|waiting| &waiting.step) {
            Some(Step::Gather(_, gathered)) => gathered.is_complete(self.media_shards),
            Some(Step::Password | Step::Disk(..)) | None => false,
        };
        if !is_ready {
            return;
        }
        let Some(waiting) = self.calls.remove(&token) else {
            return;
        };
        let Step::Gather(authorize, gathered) = waiting.step else {
            return;
        };
        let snapshots: Vec<ShardSnapshot> = gathered.snapshots.into_values().collect();
        let clients = ShardClients::merge(gathered.clients.into_values().collect());
        if gathered.needs.clients {
            self.api.history.pace(now, &clients);
        }
        let log = self.log.with(|ring| ring.since(0));
        let config = Arc::clone(&self.config);
        let world = World {
            config: &config,
            listening: &self.listening,
            unix_ms: clock::unix_millis(),
            shards: &snapshots,
            clients: &clients,
            machine: gathered.machine.as_ref(),
            listing: gathered.listing.as_ref(),
            log: &log,
            pid: std::process::id(),
            host: &waiting.host,
            is_local: waiting.caller.is_local,
        };
        let done = self.api.execute(&waiting.call, authorize, &world);
        if let Some(loaded) = done.loaded {
            self.use_config(loaded, "the configuration was changed over the API");
            self.save_at = Some(now + SAVE_AFTER);
        }
        let mut reply = done.reply;
        let mut on_disk = 0;
        for effect in done.effects {
            let job = match effect {
                Effect::Save => self.save_job(Some(token)),
                Effect::Reload => self.read_job(Some(token)),
                Effect::Shutdown => {
                    self.errands.push(Errand::Shutdown);
                    continue;
                }
                Effect::StopSessions(filter) => {
                    self.errands.push(Errand::StopSessions(filter));
                    continue;
                }
                Effect::Nuke(name) => {
                    self.errands.push(Errand::Nuke(name));
                    continue;
                }
                Effect::ClearLog => {
                    self.log.with(|ring| ring.clear());
                    continue;
                }
            };
            match self.worker.send(job) {
                Ok(()) => on_disk += 1,
                Err(_) => {
                    self.saving = false;
                    self.save_at = Some(now + SAVE_AFTER);
                    reply.note_error("not saved: too much to do: try again".to_owned());
                }
            }
        }
        if on_disk == 0 {
            self.answer(waiting.conn, reply, &waiting.call);
            return;
        }
        self.calls.insert(
            token,
            Waiting {
                step: Step::Disk(reply, on_disk),
                until: now + ANSWER_MAX,
                ..waiting
            },
        );
    }

    fn save_job(&mut self, ticket: Option<u64>) -> Job {
        self.saving = true;
        self.save_at = None;
        Job::Save {
            ticket,
            document: self.config.to_document(),
            keeps_md5: self.config.general.challenge_login,
        }
    }

    fn read_job(&self, ticket: Option<u64>) -> Job {
        Job::Read {
            ticket,
            unsaved: self.save_at.map(|_| self.config.to_document()),
        }
    }

    /// Reads the file again, as SIGHUP asks.
    pub(super) fn read_again(&self) {
        let job = self.read_job(None);
        if self.worker.send(job).is_err() {
            tracing::error!("the configuration is not read: too much to do");
        }
    }

    /// Takes another configuration into use.
    fn use_config(&mut self, loaded: Loaded, how: &str) {
        let Loaded {
            mut config,
            notices,
        } = loaded;
        if let Some(certificate) = &self.environment {
            config.add_certificate(certificate.clone());
        }
        for notice in notices
            .iter()
            .filter(|notice| !self.notices.contains(notice))
        {
            tracing::warn!("{notice}");
        }
        self.notices = notices;
        let changes = Changes::between(&self.config, &config);
        if config.protocols != self.listening && changes.protocols {
            tracing::warn!("ports and interfaces change when the server is started again");
        }
        tracing::info!(
            added = changes.added.join(","),
            changed = changes.changed.join(","),
            removed = changes.removed.join(","),
            "{how}"
        );
        self.config = Arc::new(config);
        self.accounts = Accounts::open(&self.config, self.key.as_ref());
        self.errands.push(Errand::Use(Arc::clone(&self.config)));
    }

    /// What the worker has done.
    pub(super) fn receive_reports(&mut self, now: Instant) {
        while let Some(report) = self.worker.receive() {
            self.report(now, report);
        }
    }

    fn report(&mut self, now: Instant, report: Report) {
        match report {
            Report::Verified { ticket, is_right } => {
                if let Some(waiting) = self.calls.remove(&ticket) {
                    let attempt = waiting.attempt(now);
                    let verdict = self.api.authorizer.verified(&attempt, is_right);
                    self.proceed(now, ticket, waiting, verdict);
                }
            }
            Report::Protected {
                ticket,
                name,
                account,
                key,
            } => self.account_made(now, ticket, name, account, key),
            Report::Looked { ticket, machine } => {
                if let Some(gathered) = self.gathered(ticket) {
                    gathered.machine = Some(machine);
                }
                self.execute_if_ready(now, ticket);
            }
            Report::Listed { ticket, result } => {
                if let Some(gathered) = self.gathered(ticket) {
                    gathered.listing = Some(result);
                }
                self.execute_if_ready(now, ticket);
            }
            Report::Read {
                ticket,
                was_asked,
                result,
            } => {
                if let (false, true, Some(_)) = (was_asked, result.is_ok(), self.save_at) {
                    let unsaved = Job::Keep(self.config.to_document());
                    if self.worker.send(unsaved).is_err() {
                        tracing::error!("changes made over the API cannot be kept");
                    }
                }
                let error = self.file_was_read(*result).err();
                self.disk_done(ticket, error.map(|error| format!("config_reload: {error}")));
            }
            Report::Saved {
                ticket,
                result,
                accounts,
                key,
            } => {
                self.saving = false;
                self.key = self.key.take().or(key);
                if let Some(accounts) = accounts {
                    self.accounts_protected(accounts.0, accounts.1);
                }
                let error = self.saved(now, result);
                self.disk_done(ticket, error.map(|error| format!("save: {error}")));
            }
        }
    }

    fn gathered(&mut self, token: u64) -> Option<&mut Gathered> {
        match &mut self.calls.get_mut(&token)?.step {
            Step::Gather(_, gathered) => Some(gathered),
            Step::Password | Step::Disk(..) => None,
        }
    }

    /// The first account has its hash: it holds from here on, and is written at once.
    fn account_made(
        &mut self,
        now: Instant,
        token: u64,
        name: String,
        account: Value,
        key: Option<Key>,
    ) {
        self.key = self.key.take().or(key);
        let Some(waiting) = self.calls.remove(&token) else {
            return;
        };
        if !self.accounts.is_empty() {
            // Two callers made the first account at once: the first one has.
            let attempt = waiting.attempt(now);
            let verdict = self.api.authorizer.decide(&attempt, &self.accounts);
            self.proceed(now, token, waiting, verdict);
            return;
        }
        let mut document = self.config.document().clone();
        let accounts = Map::from_iter([(name, account)]);
        document.insert("account".to_owned(), Value::Object(accounts));
        match crate::config::read_document(document) {
            Ok(loaded) => {
                self.use_config(loaded, "the first account was made");
            }
            Err(error) => tracing::error!(error, "the account cannot be used"),
        }
        self.save_at = Some(now);
        let authorize = Map::from_iter([("status".to_owned(), "ACC_MADE".into())]);
        self.gather(now, token, waiting, authorize);
    }

    /// Takes over what was saved of accounts, unless they have changed meanwhile.
    fn accounts_protected(&mut self, before: Value, after: Value) {
        if self.config.document().get("account") != Some(&before) {
            return;
        }
        let mut document = self.config.document().clone();
        document.insert("account".to_owned(), after);
        if let Ok(mut loaded) = crate::config::read_document(document) {
            if let Some(certificate) = &self.environment {
                loaded.config.add_certificate(certificate.clone());
            }
            self.config = Arc::new(loaded.config);
            self.accounts = Accounts::open(&self.config, self.key.as_ref());
            self.errands.push(Errand::Use(Arc::clone(&self.config)));
        }
    }

    fn file_was_read(&mut self, result: Result<Loaded, String>) -> Result<(), String> {
        match result {
            Ok(loaded) => {
                if self.save_at.take().is_some() {
                    tracing::warn!(
                        "the file holds, and what was changed over the API since it was saved last \
                         does not"
                    );
                }
                self.use_config(loaded, "the configuration was read again");
                Ok(())
            }
            Err(error) => {
                tracing::error!("{error}; the running configuration stays");
                self.errands.push(Errand::LookAtCertificates);
                Err(error)
            }
        }
    }

    /// Takes note of what became of a save. What failed is tried again a while later.
    fn saved(&mut self, now: Instant, result: Result<(), SaveError>) -> Option<String> {
        let error = match result {
            Ok(()) => {
                tracing::info!("the configuration was saved");
                return None;
            }
            Err(SaveError::Changed(loaded)) => {
                let text = "the file was changed by somebody else meanwhile: it holds, and what \
                            was to be saved is beside it";
                self.save_at = None;
                let _ = self.file_was_read(*loaded);
                tracing::warn!("{text}");
                return Some(text.to_owned());
            }
            Err(SaveError::NoFile) => SaveError::NoFile,
            Err(error) => {
                self.save_at.get_or_insert(now + SAVE_AFTER);
                error
            }
        };
        tracing::error!(%error, "the configuration was not saved; the old file is whole");
        Some(format!("not saved: {error}"))
    }

    fn disk_done(&mut self, ticket: Option<u64>, error: Option<String>) {
        let Some(token) = ticket else {
            return;
        };
        let Some(mut waiting) = self.calls.remove(&token) else {
            return;
        };
        let Step::Disk(mut reply, left) = waiting.step else {
            return;
        };
        if let Some(error) = error {
            reply.note_error(error);
        }
        if left > 1 {
            waiting.step = Step::Disk(reply, left - 1);
            self.calls.insert(token, waiting);
        } else {
            self.answer(waiting.conn, reply, &waiting.call);
        }
    }

    /// A shard's answer. False if the API has not asked.
    pub(super) fn snapshot(
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
    pub(super) fn clients(
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
    pub(super) fn has_asked(&self, token: u64) -> bool {
        self.calls.contains_key(&token)
            || self
                .sample
                .as_ref()
                .is_some_and(|sample| sample.token == token)
    }

    fn begin_sample(&mut self, now: Instant) {
        let token = self.next_token();
        let each = self.api.history.watches_clients(now);
        let watches_streams = self.api.history.watches_streams(now);
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

    fn finish_sample(&mut self, now: Instant) {
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
        let snapshots: Vec<ShardSnapshot> = sample
            .snapshots
            .into_iter()
            .flat_map(BTreeMap::into_values)
            .collect();
        self.api
            .history
            .add(clock::unix_millis() / 1000, tally, &snapshots);
        if !clients.is_empty() {
            self.api.history.pace(now, &clients);
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        if now >= self.next_sample {
            self.next_sample = now + SAMPLE_EVERY;
            self.begin_sample(now);
        }
        if !self.saving && self.save_at.is_some_and(|at| now >= at) {
            let job = self.save_job(None);
            if self.worker.send(job).is_err() {
                self.saving = false;
                self.save_at = Some(now + Duration::from_secs(1));
            }
        }
        let late: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, waiting)| now >= waiting.until)
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            if let Some(waiting) = self.calls.remove(&token) {
                let response = Response::text(503, "No answer in time.");
                self.errands.push(Errand::Respond(waiting.conn, response));
            }
        }
    }

    /// Writes what is not written, at the end of the server.
    pub(super) fn finish(&mut self, now: Instant) {
        self.receive_reports(now);
        if self.save_at.is_none() {
            return;
        }
        let job = self.save_job(Some(u64::MAX));
        if self.worker.send(job).is_err() {
            tracing::error!("the configuration was not saved: too much to do");
            return;
        }
        while let Some(report) = self.worker.wait(ANSWER_MAX) {
            let is_last = matches!(
                report,
                Report::Saved {
                    ticket: Some(u64::MAX),
                    ..
                }
            );
            self.report(now, report);
            if is_last {
                return;
            }
        }
        tracing::error!("the configuration was not saved: the disk does not answer");
    }
}

impl Gathered {
    fn is_complete(&self, media_shards: usize) -> bool {
        (!self.needs.snapshots || self.snapshots.len() == media_shards)
            && (!self.needs.clients || self.clients.len() == media_shards)
            && (!self.needs.machine || self.machine.is_some())
            && (self.needs.folder.is_none() || self.listing.is_some())
    }
}

impl Waiting {
    fn attempt(&self, now: Instant) -> Attempt<'_> {
        Attempt {
            now,
            conn: self.conn,
            caller: &self.caller,
            commands: &self.call.commands,
            authorization: self.authorization.as_deref(),
            random: random(),
        }
    }
}

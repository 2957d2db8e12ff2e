//! Runs the API on the control shard: a call waits here for the shards, the worker and the disk.

mod file;
mod sampling;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::base::ids::{ConnId, ShardId};
use crate::config::{Config, Environment, Notice, Protocols};
use crate::io::Waker;
use crate::proto::http::{Request, Response};
use crate::proto::websocket;
use crate::server::api_events::{Frame, Listeners};
use crate::server::log_layer::Log;
use crate::server::worker::{Job, Report, Worker, key_beside, random};
use crate::shard::clock;
use crate::streams::api::accounts::{Accounts, Key};
use crate::streams::api::events::Subscription;
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
pub(in crate::server) enum Errand {
    /// Answer a connection.
    Respond(ConnId, Response),
    /// Make a connection a WebSocket.
    Upgrade(ConnId, Box<websocket::Accepted>),
    /// Send a text over one.
    Send(ConnId, String),
    /// Close one.
    Close(ConnId),
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
pub(in crate::server) struct ApiHost {
    api: Api,
    worker: Worker,
    log: Log,
    config: Arc<Config>,
    accounts: Accounts,
    key: Option<Key>,
    listening: Protocols,
    /// What the environment says, which holds over the file.
    environment: Environment,
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
    listeners: Listeners,
    websocket: Arc<websocket::Options>,
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
pub(in crate::server) struct Options<'a> {
    pub(in crate::server) config: Arc<Config>,
    pub(in crate::server) config_path: Option<&'a Path>,
    pub(in crate::server) environment: Environment,
    pub(in crate::server) notices: Vec<Notice>,
    pub(in crate::server) log: Log,
    pub(in crate::server) media_shards: usize,
    pub(in crate::server) waker: Waker,
    pub(in crate::server) now: Instant,
    pub(in crate::server) first_token: u64,
}

impl ApiHost {
    pub(in crate::server) fn new(options: Options<'_>) -> std::io::Result<Self> {
        let key = options.config_path.and_then(key_beside);
        Ok(Self {
            api: Api::new(random()),
            worker: Worker::start(options.config_path, options.waker)?,
            log: options.log.clone(),
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
            listeners: Listeners::new(options.log.clone()),
            websocket: Arc::new(websocket_options()),
            errands: Vec::new(),
        })
    }

    /// What is to be done, in order.
    pub(in crate::server) fn take_errands(&mut self) -> Vec<Errand> {
        std::mem::take(&mut self.errands)
    }

    /// When [`ApiHost::tick`] has to be called at the latest.
    pub(in crate::server) fn deadline(&self) -> Instant {
        let calls = self.calls.values().map(|call| call.until);
        calls
            .chain(self.save_at.filter(|_| !self.saving))
            .chain([self.next_sample])
            .min()
            .unwrap_or(self.next_sample)
    }

    /// A request. False if it is not for the API.
    pub(in crate::server) fn request(
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

    /// Somebody wants to listen. False if the request is for something else.
    pub(in crate::server) fn listen(
        &mut self,
        now: Instant,
        conn: ConnId,
        (peer, own): (IpAddr, Option<IpAddr>),
        request: &Request,
    ) -> bool {
        let Some(subscription) = Subscription::read(request) else {
            return false;
        };
        let accepted = match websocket::accept(request, &self.websocket, &[]) {
            Ok(_) if self.listeners.is_full() => Err(Response::text(503, "Too many listen.")),
            Ok(accepted) => Ok(accepted),
            Err(error) => Err(error.response()),
        };
        match accepted {
            Err(response) => self.errands.push(Errand::Respond(conn, response)),
            Ok(accepted) => {
                let trusted = &self.config.general.trusted_proxies;
                let caller = Caller::of(request, peer, own, trusted);
                // Without an account only callers of this machine may, as in a call.
                let is_authorized = caller.is_local;
                self.errands.push(Errand::Upgrade(conn, Box::new(accepted)));
                self.listeners
                    .come(now, conn, subscription, caller, is_authorized);
                self.hand_over_frames();
            }
        }
        true
    }

    /// What the sessions of WebSockets are made with.
    pub(in crate::server) fn websocket_options(&self) -> &Arc<websocket::Options> {
        &self.websocket
    }

    /// A listener sent a text.
    pub(in crate::server) fn heard(&mut self, now: Instant, conn: ConnId, text: &str) {
        let Some((caller, commands)) = self.listeners.login(conn, text) else {
            return;
        };
        let caller = Caller {
            // The login is of this connection, which nobody else shares from here on.
            is_proxied: true,
            ..caller.clone()
        };
        let attempt = Attempt {
            now,
            conn,
            caller: &caller,
            commands: &commands,
            authorization: None,
            random: random(),
        };
        match self.api.authorizer.decide(&attempt, &self.accounts) {
            Verdict::Granted(_) => self.listeners.begin(conn),
            Verdict::Refused(reply) => self.listeners.refuse(conn, &reply),
            // The first account is made by a call, and a password is shown in a field.
            Verdict::Verify { .. } | Verdict::MakeAccount { .. } => {}
        }
        self.hand_over_frames();
    }

    fn hand_over_frames(&mut self) {
        let frames = self.listeners.take_frames().into_iter();
        self.errands.extend(frames.map(|frame| match frame {
            Frame::Send(conn, text) => Errand::Send(conn, text),
            Frame::Close(conn) => Errand::Close(conn),
        }));
    }

    /// A connection is gone.
    pub(in crate::server) fn connection_gone(&mut self, conn: ConnId) {
        self.listeners.connection_gone(conn);
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

    /// What the worker has done.
    pub(in crate::server) fn receive_reports(&mut self, now: Instant) {
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

    /// Does what is due.
    pub(in crate::server) fn tick(&mut self, now: Instant) {
        self.listeners.tick(now);
        self.hand_over_frames();
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
}

/// A listener sends a login and nothing else.
fn websocket_options() -> websocket::Options {
    websocket::Options {
        frame_bytes_max: 4096,
        message_bytes_max: 4096,
        deflate: None,
        ..websocket::Options::default()
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

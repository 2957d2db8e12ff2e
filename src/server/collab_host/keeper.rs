//! Keeps one session on the disk, on a thread of its own. It follows the session's changes in a
//! copy of the scene, which shares the session's bytes, so that a save costs the shard nothing; a
//! save itself runs on one more thread, so that the log goes on meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem};

use super::files::{Files, Log};
use crate::collab::{Change, Scene};
use crate::config::CollabLog;
use crate::io::Waker;
use crate::proto::session_log::{Head, Mark, Record, SceneId};
use crate::shard::clock;

/// When a save that has failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Bytes that are logged before the file is written out of turn; as many as the scene has, if those
/// are more.
const LOG_BYTES: u64 = 64 << 20;

/// Changes that are written at once.
const BATCH: usize = 4096;

/// What can be changed while it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Options {
    /// The longest that a change is in no file.
    pub(super) interval: Duration,
    /// Backups that stay.
    pub(super) keep: usize,
}

/// What a keeper begins with.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) port: u16,
    pub(super) files: Arc<Files>,
    pub(super) scene: Scene,
    /// The scene and the next log of it.
    pub(super) mark: Mark,
    pub(super) log: CollabLog,
    /// A log that begins now goes on from what the files hold.
    pub(super) is_continued: bool,
    pub(super) options: Options,
}

/// What came of a save that was asked for.
pub(super) type Outcome = Result<PathBuf, String>;

enum Input {
    Change(Change),
    Options(Options),
    Save(u64),
    Saved(Saved),
    End,
}

struct Saved {
    result: io::Result<u64>,
    mark: Option<Mark>,
    took: Duration,
}

/// What the shard sees of the keeper.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    /// Bytes of changes that the keeper has not taken.
    pub(super) pending_bytes: AtomicU64,
    /// Records that are logged, or will not be.
    pub(super) logged: AtomicU64,
    pub(super) saves: AtomicU64,
    pub(super) save_failures: AtomicU64,
    pub(super) saved_unix_s: AtomicU64,
    pub(super) saved_bytes: AtomicU64,
    pub(super) save_ms: AtomicU64,
    pub(super) is_unsaved: AtomicBool,
    pub(super) log_bytes: AtomicU64,
    pub(super) log_failures: AtomicU64,
    pub(super) is_log_failing: AtomicBool,
}

/// The keeper's end on the shard. Dropped, it waits until everything is on the disk.
#[derive(Debug)]
pub(super) struct Keeper {
    inputs: Sender<Input>,
    outcomes: Receiver<(u64, Outcome)>,
    pub(super) gauges: Arc<Gauges>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread.
    pub(super) fn start(plan: Plan, waker: Waker) -> io::Result<Self> {
        let (inputs, queue) = mpsc::channel();
        let (tell, outcomes) = mpsc::channel();
        let gauges = Arc::new(Gauges::default());
        let desk = Desk {
            plan,
            log: None,
            is_log_wanted: false,
            broken_at: None,
            waker,
            gauges: Arc::clone(&gauges),
            inputs: inputs.clone(),
            tell,
            records: 0,
            dirty_since: None,
            is_saving: false,
            retry_at: None,
            saved_at: None,
            last_took: Duration::ZERO,
            asked: Vec::new(),
            under_way: Vec::new(),
            logged_before: 0,
        };
        let thread = thread::Builder::new()
            .name("collab-keep".to_owned())
            .spawn(move || desk.run(&queue))?;
        Ok(Self {
            inputs,
            outcomes,
            gauges,
            thread: Some(thread),
        })
    }

    /// Hands a change over.
    pub(super) fn keep(&self, change: Change) {
        let bytes = change.bytes() as u64;
        self.gauges
            .pending_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        self.send(Input::Change(change));
    }

    pub(super) fn set_options(&self, options: Options) {
        self.send(Input::Options(options));
    }

    /// Has the scene saved. What comes of it is told by [`Keeper::outcome`].
    pub(super) fn save(&self, token: u64) {
        self.send(Input::Save(token));
    }

    pub(super) fn outcome(&self) -> Option<(u64, Outcome)> {
        self.outcomes.try_recv().ok()
    }

    fn send(&self, input: Input) {
        // A keeper that panicked has ended the process.
        let _ = self.inputs.send(input);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.send(Input::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The keeper itself.
struct Desk {
    plan: Plan,
    log: Option<Log>,
    /// Changes are to be logged.
    is_log_wanted: bool,
    /// The log in which records are missing, until a file has them.
    broken_at: Option<u64>,
    waker: Waker,
    gauges: Arc<Gauges>,
    inputs: Sender<Input>,
    tell: Sender<(u64, Outcome)>,
    records: u64,
    dirty_since: Option<Instant>,
    is_saving: bool,
    retry_at: Option<Instant>,
    saved_at: Option<Instant>,
    last_took: Duration,
    /// Who wants a save that begins after this.
    asked: Vec<u64>,
    /// Who waits for the one that runs.
    under_way: Vec<u64>,
    /// Bytes of logs before the current one that no file has.
    logged_before: u64,
}

impl Desk {
    fn run(mut self, queue: &Receiver<Input>) {
        self.is_log_wanted = self.plan.log != CollabLog::Off;
        self.begin();
        loop {
            let now = clock::now();
            let input = match self.due(now) {
                Some(due) => queue.recv_timeout(due.saturating_duration_since(now)),
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match input {
                Ok(input) => {
                    let mut inputs = std::iter::once(input)
                        .chain(std::iter::from_fn(|| queue.try_recv().ok()))
                        .take(BATCH);
                    if inputs.any(|input| !self.take(input)) {
                        self.publish();
                        return self.finish(queue);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.finish(queue),
            }
            self.publish();
            self.save_if_due(clock::now());
        }
    }

    /// Begins a log behind what the files hold; where they do not hold the scene, it counts for nothing
    /// before they do.
    fn begin(&mut self) {
        if !self.is_log_wanted {
            return;
        }
        if !self.plan.is_continued {
            self.broken_at = Some(self.plan.mark.next.saturating_sub(1));
            self.dirty_since = Some(clock::now());
        }
        if let Err(error) = self.next_log() {
            self.log_failed(&error);
        }
    }

    /// Begins the next log. The mark goes on from it.
    fn next_log(&mut self) -> io::Result<()> {
        if let Some(Err(error)) = self.log.as_mut().map(Log::flush) {
            self.log_failed(&error);
        }
        let number = self.plan.mark.next;
        let head = Head {
            scene: self.plan.mark.scene,
            number,
            follows_gap: self.broken_at.is_some(),
        };
        let file = self.plan.files.create_log(&head)?;
        self.plan.mark.next = number + 1;
        let log = Log::new(file, number, self.plan.log == CollabLog::Synced);
        if let Some(old) = self.log.replace(log) {
            self.logged_before += old.bytes();
        }
        Ok(())
    }

    /// False at the end.
    fn take(&mut self, input: Input) -> bool {
        match input {
            Input::Change(change) => self.change(&change),
            Input::Options(options) => self.plan.options = options,
            Input::Save(token) => self.asked.push(token),
            Input::Saved(saved) => self.saved(saved),
            Input::End => return false,
        }
        true
    }

    fn change(&mut self, change: &Change) {
        self.plan.scene.apply(change);
        match change {
            Change::Record(record) => {
                self.records += 1;
                self.write(record);
                self.touched();
            }
            Change::Folded(_) => {}
            Change::Whole(_) => {
                // What was missed is in no log.
                self.log_failed(&io::Error::other("the log has fallen too far behind"));
                self.touched();
            }
        }
        self.gauges
            .pending_bytes
            .fetch_sub(change.bytes() as u64, Ordering::Relaxed);
    }

    fn touched(&mut self) {
        if self.plan.scene.is_complete() {
            self.dirty_since.get_or_insert_with(clock::now);
        }
        self.gauges
            .is_unsaved
            .store(self.dirty_since.is_some(), Ordering::Relaxed);
    }

    fn write(&mut self, record: &Record) {
        if let Some(log) = &mut self.log
            && let Err(error) = log.append(record)
        {
            self.log_failed(&error);
        }
    }

    /// Has the records written that were taken, and says so.
    fn publish(&mut self) {
        if let Some(Err(error)) = self.log.as_mut().map(Log::flush) {
            self.log_failed(&error);
        }
        let bytes = self.log.as_ref().map_or(0, Log::bytes) + self.logged_before;
        self.gauges.log_bytes.store(bytes, Ordering::Relaxed);
        self.gauges
            .is_log_failing
            .store(self.broken_at.is_some(), Ordering::Relaxed);
        // Where there is no log, nobody waits for it.
        if self.gauges.logged.swap(self.records, Ordering::Release) != self.records
            && self.is_log_wanted
        {
            self.waker.wake();
        }
    }

    /// The log cannot be written: the session goes on without, until a file has what is missing in it.
    fn log_failed(&mut self, error: &io::Error) {
        if !self.is_log_wanted {
            return;
        }
        tracing::error!(
            port = self.plan.port,
            file = %self.plan.files.path().display(),
            %error,
            "the log of the collaborative session cannot be written; the session goes on without"
        );
        self.gauges.log_failures.fetch_add(1, Ordering::Relaxed);
        if let Some(log) = self.log.take() {
            self.logged_before += log.bytes();
        }
        // No log after this one fits what is before the gap.
        self.broken_at = Some(self.plan.mark.next.saturating_sub(1));
        // A disk that takes files and no logs is not to be kept busy with files.
        let retry = self.saved_at.map(|saved| saved + RETRY_AFTER);
        self.retry_at = self.retry_at.max(retry);
        self.dirty_since.get_or_insert_with(clock::now);
    }

    /// When the next save begins.
    fn due(&self, now: Instant) -> Option<Instant> {
        if self.is_saving || !self.plan.scene.is_complete() {
            return None;
        }
        if !self.asked.is_empty() {
            return Some(now);
        }
        let logged = self.log.as_ref().map_or(0, Log::bytes) + self.logged_before;
        let is_urgent = self.broken_at.is_some()
            || (self.is_log_wanted && logged > LOG_BYTES.max(self.plan.scene.bytes() as u64));
        // A save takes a while, and a change may be as old as the interval when it is through.
        let interval = self.plan.options.interval;
        let wait = interval - self.last_took.min(interval / 2);
        let due = match (is_urgent, self.dirty_since) {
            (true, _) => Some(now),
            (false, since) => since.map(|since| since + wait),
        };
        due.map(|due| self.retry_at.map_or(due, |retry| due.max(retry)))
    }

    fn save_if_due(&mut self, now: Instant) {
        if !self.asked.is_empty() && !self.plan.scene.is_complete() {
            for token in mem::take(&mut self.asked) {
                self.answer(token, Err("there is no scene to save".to_owned()));
            }
        }
        if self.due(now).is_none_or(|due| due > now) {
            return;
        }
        self.under_way = mem::take(&mut self.asked);
        if self.is_log_wanted
            && let Err(error) = self.next_log()
        {
            let result = Err(error);
            return self.saved(Saved {
                result,
                mark: None,
                took: Duration::ZERO,
            });
        }
        self.dirty_since = None;
        self.is_saving = true;
        let job = self.job(self.is_log_wanted);
        let inputs = self.inputs.clone();
        let spawned = thread::Builder::new()
            .name("collab-save".to_owned())
            .spawn(move || {
                let saved = catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|_| Saved {
                    result: Err(io::Error::other("the save panicked")),
                    mark: None,
                    took: Duration::ZERO,
                });
                // The keeper waits for it before it ends.
                let _ = inputs.send(Input::Saved(saved));
            });
        if let Err(error) = spawned {
            self.saved(Saved {
                result: Err(error),
                mark: None,
                took: Duration::ZERO,
            });
        }
    }

    /// A save of the scene as it is. A file may name a log that has not begun.
    fn job(&self, is_logged: bool) -> impl FnOnce() -> Saved + Send + 'static {
        let scene = self.plan.scene.clone();
        let files = Arc::clone(&self.plan.files);
        let keep = self.plan.options.keep;
        let next = self
            .log
            .as_ref()
            .map_or(self.plan.mark.next, |log| log.number);
        let scene_id = self.plan.mark.scene;
        let mark = is_logged.then_some(Mark {
            scene: scene_id,
            next,
        });
        move || {
            let began = clock::now();
            let result = files.save(&scene, mark, keep);
            let took = clock::now().saturating_duration_since(began);
            Saved { result, mark, took }
        }
    }

    fn saved(&mut self, saved: Saved) {
        self.is_saving = false;
        let outcome = match &saved.result {
            Ok(bytes) => {
                let next = saved.mark.map_or(u64::MAX, |mark| mark.next);
                self.plan.files.forget_logs(next);
                self.logged_before = 0;
                if self.broken_at.is_some_and(|broken| broken < next) {
                    tracing::info!(
                        port = self.plan.port,
                        "the log of the collaborative session is whole again"
                    );
                    self.broken_at = None;
                }
                self.retry_at = None;
                self.saved_at = Some(clock::now());
                self.last_took = saved.took;
                let gauges = &self.gauges;
                gauges.saves.fetch_add(1, Ordering::Relaxed);
                gauges.saved_bytes.store(*bytes, Ordering::Relaxed);
                let took = saved.took.as_millis() as u64;
                gauges.save_ms.store(took, Ordering::Relaxed);
                let unix_s = clock::unix_millis() / 1000;
                gauges.saved_unix_s.store(unix_s as u64, Ordering::Relaxed);
                tracing::info!(
                    port = self.plan.port,
                    file = %self.plan.files.path().display(),
                    bytes,
                    took_ms = took,
                    "the collaborative session was saved"
                );
                Ok(self.plan.files.path().to_owned())
            }
            Err(error) => {
                self.save_failed(error);
                Err(error.to_string())
            }
        };
        for token in mem::take(&mut self.under_way) {
            self.answer(token, outcome.clone());
        }
        self.gauges
            .is_unsaved
            .store(self.dirty_since.is_some(), Ordering::Relaxed);
    }

    fn save_failed(&mut self, error: &io::Error) {
        tracing::error!(
            port = self.plan.port,
            file = %self.plan.files.path().display(),
            %error,
            "the collaborative session cannot be saved; it goes on, and the old file is whole"
        );
        self.gauges.save_failures.fetch_add(1, Ordering::Relaxed);
        let now = clock::now();
        self.retry_at = Some(now + RETRY_AFTER);
        self.dirty_since.get_or_insert(now);
    }

    fn answer(&self, token: u64, outcome: Outcome) {
        // The shard has ended: so does this thread.
        let _ = self.tell.send((token, outcome));
        self.waker.wake();
    }

    /// The last save.
    fn finish(mut self, queue: &Receiver<Input>) {
        while self.is_saving {
            match queue.recv() {
                Ok(input) => {
                    self.take(input);
                }
                Err(_) => return,
            }
        }
        self.publish();
        if self.plan.scene.is_complete() && (self.dirty_since.is_some() || self.broken_at.is_some())
        {
            self.log = None;
            let saved = self.job(self.is_log_wanted)();
            self.saved(saved);
        }
    }
}

/// Names a scene.
pub(super) fn new_scene_id() -> SceneId {
    SceneId(crate::server::worker::random())
}

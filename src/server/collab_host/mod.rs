//! What collaborative sessions have done away from their shard: files and folding.

mod files;
mod folder;
mod keeper;
mod metrics;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::bail;
use serde_json::json;

use crate::base::ids::ShardId;
use crate::collab::door::{Door, Place, Row};
use crate::collab::{AdminMessage, Answer, Command, Mode, Order, Scene};
use crate::config::{Collab, CollabLog, CollabSession, Config};
use crate::io::Waker;
use crate::proto::session_log::Mark;
use files::Files;
use folder::Folder;
use keeper::{Keeper, Options, Plan, new_scene_id};

/// Bytes of changes that wait for a keeper. The disk stands still then, and the keeper gets the whole
/// scene when it goes on, which costs less than all changes.
const PENDING_BYTES_MAX: u64 = 256 << 20;

/// What a session begins with, and how it is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) place: Place,
    scene: Scene,
    /// None if it is not kept.
    plan: Option<Plan>,
}

impl Kept {
    /// What the session begins with.
    pub(super) fn begin(&self) -> (Scene, Mode) {
        let mode = match self.plan.as_ref().map(|plan| plan.log) {
            None => Mode::Off,
            Some(CollabLog::Off) => Mode::File,
            Some(CollabLog::Written | CollabLog::Synced) => Mode::Log,
        };
        (self.scene.clone(), mode)
    }
}

/// Reads what was kept of the sessions, before anybody can come to them.
pub(super) fn restore(config: &Config) -> anyhow::Result<Vec<Kept>> {
    let mut kept = Vec::new();
    let sessions = config.collab.iter().flat_map(|collab| &collab.sessions);
    for (place, session) in sessions.enumerate() {
        let place = Place(place);
        let preload = Some(Path::new(&session.preload)).filter(|_| !session.preload.is_empty());
        if !session.autosave.is_empty() {
            let plan = plan(session, preload)?;
            let scene = plan.scene.clone();
            let plan = Some(plan);
            kept.push(Kept { place, scene, plan });
        } else if let Some(scene) = preload.and_then(files::preload) {
            let plan = None;
            kept.push(Kept { place, scene, plan });
        }
    }
    Ok(kept)
}

fn plan(session: &CollabSession, preload: Option<&Path>) -> anyhow::Result<Plan> {
    let path = Path::new(&session.autosave);
    let Ok(files) = Files::open(path) else {
        bail!(
            "collab.sessions: {} is kept by another server or session",
            path.display()
        );
    };
    let found = files.restore(preload);
    tracing::info!(
        port = session.port,
        file = %path.display(),
        nodes = found.scene.nodes(),
        bytes = found.scene.bytes(),
        has_scene = found.scene.is_complete(),
        "the collaborative session is kept"
    );
    let scene_id = found.scene_id.filter(|_| found.is_continued);
    let mark = Mark {
        scene: scene_id.unwrap_or_else(new_scene_id),
        next: found.next_log,
    };
    let mut is_continued = found.is_continued || !found.scene.is_complete();
    if session.log != CollabLog::Off && !is_continued {
        // A log goes on from a file that says so.
        match files.save(&found.scene, Some(mark), session.autosave_keep) {
            Ok(_) => {
                files.forget_logs(mark.next);
                is_continued = true;
            }
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "the scene cannot be saved");
            }
        }
    }
    Ok(Plan {
        port: session.port,
        files: Arc::new(files),
        mark,
        scene: found.scene,
        log: session.log,
        is_continued,
        options: options(session),
    })
}

fn options(session: &CollabSession) -> Options {
    Options {
        interval: session.autosave_interval,
        keep: session.autosave_keep,
    }
}

/// The threads that work for the sessions of one shard.
#[derive(Debug, Default)]
pub(super) struct CollabHost {
    folder: Option<Folder>,
    keepers: BTreeMap<Place, Post>,
    /// Saves that were asked for: who is told, and the number of the question.
    saves: BTreeMap<u64, (ShardId, u64)>,
    next_save: u64,
    answers: Vec<(ShardId, AdminMessage)>,
}

/// Saves that are asked for at once.
const SAVES_MAX: usize = 64;

/// A keeper, and what is known of it.
#[derive(Debug)]
struct Post {
    port: u16,
    file: String,
    keeper: Keeper,
    is_lost: bool,
    losses: u64,
}

impl CollabHost {
    /// The threads that the door's sessions need; none if it has no sessions.
    pub(super) fn start(door: &Door, kept: Vec<Kept>, waker: &Waker) -> io::Result<Self> {
        if door.is_empty() {
            return Ok(Self::default());
        }
        let mut keepers = BTreeMap::new();
        for Kept { place, plan, .. } in kept {
            let Some(plan) = plan else {
                continue;
            };
            let post = Post {
                port: plan.port,
                file: plan.files.path().display().to_string(),
                keeper: Keeper::start(plan, waker.clone())?,
                is_lost: false,
                losses: 0,
            };
            keepers.insert(place, post);
        }
        Ok(Self {
            folder: Some(Folder::start(waker.clone())?),
            keepers,
            ..Self::default()
        })
    }

    /// Hands over what the sessions want done, and takes what was done.
    pub(super) fn run(&mut self, now: Instant, door: &mut Door) {
        let Some(folder) = &self.folder else {
            return;
        };
        while let Some((place, folded)) = folder.receive() {
            door.folded(place, folded);
        }
        while let Some((place, order)) = door.poll_order() {
            match order {
                Order::Fold(job) => {
                    if let Err(job) = folder.send(place, job) {
                        door.not_folded(place, &job);
                    }
                }
                Order::Keep(change) => {
                    if let Some(post) = self.keepers.get(&place) {
                        post.keeper.keep(change);
                    }
                }
            }
        }
        for (place, post) in &mut self.keepers {
            while let Some((save, outcome)) = post.keeper.outcome() {
                let Some((shard, token)) = self.saves.remove(&save) else {
                    continue;
                };
                let answer = match outcome {
                    Ok(file) => Answer::Done(json!({"done": true, "file": file})),
                    Err(why) => Answer::Refused(500, why),
                };
                let message = AdminMessage::Answer { token, answer };
                self.answers.push((shard, message));
            }
            let gauges = &post.keeper.gauges;
            door.logged(now, *place, gauges.logged.load(Ordering::Acquire));
            let pending = gauges.pending_bytes.load(Ordering::Relaxed);
            if !post.is_lost && pending > PENDING_BYTES_MAX {
                post.is_lost = true;
                post.losses += 1;
                tracing::error!(
                    port = post.port,
                    pending,
                    "the disk of a collaborative session does not follow"
                );
                door.keeper_lost(now, *place);
            } else if post.is_lost && pending == 0 {
                post.is_lost = false;
                tracing::warn!(
                    port = post.port,
                    "the disk of a collaborative session follows again"
                );
                door.keeper_found(*place);
            }
        }
    }

    /// An operator asks something of the sessions.
    pub(super) fn ask(&mut self, door: &mut Door, from: ShardId, token: u64, command: &Command) {
        let answer = match command {
            Command::Save(port) => match self.begin_save(door, from, token, *port) {
                Ok(()) => return,
                Err(answer) => answer,
            },
            Command::List | Command::Show(_) | Command::Kick { .. } => {
                let keepers = &self.keepers;
                door.answer(command, |place, session| {
                    if let Some(post) = keepers.get(&place) {
                        session["kept"] = metrics::describe(post);
                    }
                })
            }
        };
        let message = AdminMessage::Answer { token, answer };
        self.answers.push((from, message));
    }

    /// Has a session saved, or says why it cannot be.
    fn begin_save(
        &mut self,
        door: &Door,
        from: ShardId,
        token: u64,
        port: u16,
    ) -> Result<(), Answer> {
        let Some(place) = door.place(port) else {
            return Err(Answer::NotHere);
        };
        let Some(post) = self.keepers.get(&place) else {
            let why = "The session has no file: collab.sessions[].autosave names one.";
            return Err(Answer::Refused(409, why.to_owned()));
        };
        if self.saves.len() >= SAVES_MAX {
            return Err(Answer::Refused(503, "Too many saves at once.".to_owned()));
        }
        self.next_save += 1;
        self.saves.insert(self.next_save, (from, token));
        post.keeper.save(self.next_save);
        Ok(())
    }

    /// The next answer, and for which shard.
    pub(super) fn take_answer(&mut self) -> Option<(ShardId, AdminMessage)> {
        self.answers.pop()
    }

    /// Takes over what can change while sessions run.
    pub(super) fn configure(&self, collab: Option<&Collab>) {
        for session in collab.iter().flat_map(|collab| &collab.sessions) {
            let posts = self.keepers.values();
            for post in posts.filter(|post| post.port == session.port) {
                post.keeper.set_options(options(session));
            }
        }
    }

    /// What metrics tell of the files.
    pub(super) fn rows(&self) -> Vec<Row> {
        metrics::rows(self.keepers.values())
    }
}

//! A thread that folds chains of changes, one after the other.

use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TrySendError};
use std::{io, thread};

use crate::collab::door::Place;
use crate::collab::{FoldJob, Folded};
use crate::io::Waker;

/// Jobs that may wait. A node whose job finds no place is folded with a later change.
const JOBS_MAX: usize = 64;

/// The folder's end on the shard.
#[derive(Debug)]
pub(super) struct Folder {
    jobs: SyncSender<(Place, FoldJob)>,
    results: Receiver<(Place, Folded)>,
}

impl Folder {
    /// Starts the thread. It ends when this is dropped.
    pub(super) fn start(waker: Waker) -> io::Result<Self> {
        let (jobs, orders) = mpsc::sync_channel::<(Place, FoldJob)>(JOBS_MAX);
        let (tell, results): (Sender<(Place, Folded)>, _) = mpsc::channel();
        thread::Builder::new()
            .name("collab-fold".to_owned())
            .spawn(move || {
                while let Ok((place, job)) = orders.recv() {
                    if tell.send((place, job.run())).is_err() {
                        return; // The shard has ended.
                    }
                    waker.wake();
                }
            })?;
        Ok(Self { jobs, results })
    }

    /// Hands a job over, or gives it back when too many wait.
    pub(super) fn send(&self, place: Place, job: FoldJob) -> Result<(), FoldJob> {
        self.jobs
            .try_send((place, job))
            .map_err(|error| match error {
                TrySendError::Full((_, job)) | TrySendError::Disconnected((_, job)) => job,
            })
    }

    /// The next result.
    pub(super) fn receive(&self) -> Option<(Place, Folded)> {
        self.results.try_recv().ok()
    }
}

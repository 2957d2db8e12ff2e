//! What collaborative sessions have done away from their shard: files and folding.

mod folder;

use std::io;

use crate::collab::Order;
use crate::collab::door::Door;
use crate::io::Waker;
use folder::Folder;

/// The threads that work for the sessions of one shard.
#[derive(Debug, Default)]
pub(super) struct CollabHost {
    folder: Option<Folder>,
}

impl CollabHost {
    /// The threads that the door's sessions need; none if it has no sessions.
    pub(super) fn start(door: &Door, waker: &Waker) -> io::Result<Self> {
        if door.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self {
            folder: Some(Folder::start(waker.clone())?),
        })
    }

    /// Hands over what the sessions want done, and takes what was done.
    pub(super) fn run(&self, door: &mut Door) {
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
                Order::Keep(_) => unreachable!("no session is kept"),
            }
        }
    }
}

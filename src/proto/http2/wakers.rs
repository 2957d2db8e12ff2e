//! How `h2` says that it can go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// Notes that something can go on.
#[derive(Default)]
pub(super) struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.raise();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raise();
    }
}

impl Flag {
    pub(super) fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// One flag for the connection and one for all its streams: streams are looked at only when `h2`
/// says that something happened to one of them.
pub(super) struct Wakers {
    pub(super) connection: Arc<Flag>,
    pub(super) connection_waker: Waker,
    pub(super) streams: Arc<Flag>,
    pub(super) streams_waker: Waker,
}

impl Wakers {
    pub(super) fn new() -> Self {
        let (connection, streams) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
        Self {
            connection_waker: Arc::clone(&connection).into(),
            connection,
            streams_waker: Arc::clone(&streams).into(),
            streams,
        }
    }
}

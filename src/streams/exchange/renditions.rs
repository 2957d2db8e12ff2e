//! The renditions of a shard: made at home, told to the shards that have viewers of them, let go when
//! nobody asks.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Exchange, HttpReply, Output};
use crate::base::ids::{ConnId, ShardId, StreamId, TrackId};
use crate::media::{Frame, MediaTime, Track};
use crate::streams::exchange::answers;
use crate::streams::message::Message;
use crate::streams::segment_request::SegmentRequest;
use crate::streams::segments::Key;
use crate::streams::segments::cutter::Cut;
use crate::streams::segments::listing::{Listing, Update};
use crate::streams::segments::maker::Maker;
use crate::streams::segments::rendition::{Follower, Rendition, Waiter};
use crate::streams::stream::Role;

/// Renditions of one stream: two forms of a dozen tracks.
const RENDITIONS_MAX: usize = 32;

/// How long a rendition that nobody asks for is kept up.
const RENDITION_LINGER: Duration = Duration::from_secs(60);

impl Exchange {
    /// Sees to it that a rendition is made. False if there are too many.
    pub(super) fn need(&mut self, id: StreamId, key: &Key) -> bool {
        let now = self.now;
        let part = self.config.delivery.part_ms;
        let me = self.me;
        let Some(stream) = self.streams.get_mut(&id) else {
            return false;
        };
        if let Some(rendition) = stream.renditions.get_mut(key) {
            rendition.asked = now;
            return true;
        }
        if stream.renditions.len() >= RENDITIONS_MAX {
            return false;
        }
        if let Role::Mirror(mirror) = &stream.role {
            let home = mirror.home.shard;
            stream
                .renditions
                .insert(key.clone(), Rendition::mirrored(key.form, now));
            debug_assert!(home != me);
            let message = Message::SubscribeRendition {
                stream: id,
                key: key.clone(),
            };
            self.mesh(home, message);
            return true;
        }
        self.make_rendition(id, key, part)
    }

    /// Makes a rendition at home, from all that is kept.
    fn make_rendition(&mut self, id: StreamId, key: &Key, part: Duration) -> bool {
        let now = self.now;
        let Some(stream) = self.streams.get_mut(&id) else {
            return false;
        };
        let Some(mut maker) = Maker::new(key, &stream.tracks, part) else {
            return false;
        };
        let segment = stream
            .name
            .settings(&self.config)
            .map_or(Duration::from_secs(2), |settings| settings.segment);
        let mut updates = Vec::new();
        // Whatever track segments were cut by at the time. Those whose frame is gone are not there.
        let cuts: BTreeMap<(TrackId, MediaTime), Cut> = stream
            .cutter
            .cuts()
            .map(|cut| ((cut.track, cut.dts), *cut))
            .collect();
        for frame in stream.kept() {
            if let Some(cut) = cuts.get(&(frame.track, frame.dts)) {
                maker.cut(&mut self.pool, cut, &mut updates);
            }
            maker.frame(&mut self.pool, frame, &mut updates);
        }
        let rendition = Rendition::at_home(key.form, maker, segment, part, now);
        stream.renditions.insert(key.clone(), rendition);
        self.take_updates(id, key, updates);
        true
    }

    pub(super) fn rendition(
        &mut self,
        id: StreamId,
        key: &Key,
    ) -> Option<&mut Rendition<Box<SegmentRequest>>> {
        self.streams.get_mut(&id)?.renditions.get_mut(key)
    }

    /// A frame of a stream that is at home here: cuts and makes what somebody has asked for.
    pub(super) fn segment_frame(&mut self, id: StreamId, frame: &Frame, is_entry: bool) {
        let unix_ms = self.unix_ms;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let cut = stream.cut(unix_ms, frame, is_entry);
        if stream.renditions.is_empty() {
            return;
        }
        let mut made: Vec<(Key, Vec<Update>)> = Vec::new();
        for (key, rendition) in &mut stream.renditions {
            let Some(maker) = &mut rendition.maker else {
                continue;
            };
            let mut updates = Vec::new();
            if let Some(cut) = &cut {
                maker.cut(&mut self.pool, cut, &mut updates);
            }
            maker.frame(&mut self.pool, frame, &mut updates);
            if !updates.is_empty() {
                made.push((key.clone(), updates));
            }
        }
        for (key, updates) in made {
            self.take_updates(id, &key, updates);
        }
    }

    /// A track is new or has changed: its renditions go on with another initialisation segment.
    pub(super) fn segment_track(&mut self, id: StreamId, track: &Track) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let mut made: Vec<(Key, Vec<Update>)> = Vec::new();
        for (key, rendition) in &mut stream.renditions {
            if let Some(maker) = &mut rendition.maker {
                let mut updates = Vec::new();
                maker.track_changed(&mut self.pool, track, &mut updates);
                made.push((key.clone(), updates));
            }
        }
        for (key, updates) in made {
            self.take_updates(id, &key, updates);
        }
    }

    /// Steps of a rendition, made here or told by the home shard.
    pub(super) fn take_updates(&mut self, id: StreamId, key: &Key, updates: Vec<Update>) {
        let mut has_changed = false;
        for update in updates {
            let Some(rendition) = self.rendition(id, key) else {
                return;
            };
            let subscribers: Vec<ShardId> = rendition.subscribers.iter().copied().collect();
            for shard in subscribers {
                let message = Message::RenditionUpdate {
                    stream: id,
                    key: key.clone(),
                    update: Box::new(update.clone()),
                };
                self.mesh(shard, message);
            }
            self.lead(id, key, &update);
            let Some(rendition) = self.rendition(id, key) else {
                return;
            };
            if let Some(listing) = &mut rendition.listing {
                has_changed |= listing.update(update);
            }
        }
        if !has_changed {
            return;
        }
        let bytes_max = self.stream_bytes_max();
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let window = stream
            .name
            .settings(&self.config)
            .map_or(Duration::ZERO, |settings| settings.window);
        if let Some(listing) = stream
            .renditions
            .get_mut(key)
            .and_then(|rendition| rendition.listing.as_mut())
        {
            listing.trim(window, bytes_max);
        }
        self.wake(id, key);
    }

    /// Hands a step on to those that follow what it is of, before the listing takes it.
    fn lead(&mut self, id: StreamId, key: &Key, update: &Update) {
        let Some(rendition) = self.rendition(id, key) else {
            return;
        };
        if rendition.followers.is_empty() {
            return;
        }
        let Some((number, part)) = rendition
            .listing
            .as_ref()
            .and_then(Listing::newest)
            .map(|(number, parts)| (number, parts as u32))
        else {
            return;
        };
        let of_it = |follower: &Follower| {
            follower.number == number && follower.part.is_none_or(|wanted| wanted == part)
        };
        match update {
            Update::Chunk(pieces) => {
                let mut runs = Vec::new();
                for (conn, follower) in &mut rendition.followers {
                    if of_it(follower) {
                        runs.push((*conn, !follower.has_begun));
                        follower.has_begun = true;
                    }
                }
                for (conn, begins) in runs {
                    if begins {
                        self.http(conn, HttpReply::Begin(answers::growing(key)));
                    }
                    self.run(conn, id, key.form, pieces.clone());
                }
            }
            Update::Part(_) => self.end_followers(id, key, |follower| {
                follower.number == number && follower.part == Some(part)
            }),
            Update::Close { .. } => {
                self.end_followers(id, key, |follower| follower.number == number);
            }
            Update::Open(opening) => {
                // A part that was to come before this segment does not.
                let next = opening.number;
                self.end_followers(id, key, |follower| follower.number < next);
            }
            Update::Gap { opening, .. } => {
                let next = opening.number;
                self.end_followers(id, key, |follower| follower.number <= next);
            }
            Update::Init { .. } => {}
        }
    }

    fn end_followers(&mut self, id: StreamId, key: &Key, which: impl Fn(&Follower) -> bool) {
        let Some(rendition) = self.rendition(id, key) else {
            return;
        };
        let mut ended = Vec::new();
        rendition.followers.retain(|conn, follower| {
            let ends = which(follower);
            if ends {
                ended.push((*conn, follower.has_begun));
            }
            !ends
        });
        for (conn, has_begun) in ended {
            self.waiters -= 1;
            self.business.remove(&conn);
            if has_begun {
                self.http(conn, HttpReply::EndStream);
            } else {
                self.respond(conn, answers::not_kept());
            }
        }
    }

    /// Answers those that have waited for what is there now.
    fn wake(&mut self, id: StreamId, key: &Key) {
        let Some(rendition) = self.rendition(id, key) else {
            return;
        };
        let Some(listing) = rendition.listing.as_ref() else {
            return;
        };
        let is_there = |waiter: &Waiter<Box<SegmentRequest>>| match waiter.target {
            Some((number, part)) => listing.has(number, part),
            None => listing.has_media(),
        };
        let ready: Vec<ConnId> = rendition
            .waiters
            .iter()
            .filter(|(_, waiter)| is_there(waiter))
            .map(|(conn, _)| *conn)
            .collect();
        for conn in ready {
            let Some(waiter) = self
                .rendition(id, key)
                .and_then(|rendition| rendition.waiters.remove(&conn))
            else {
                return;
            };
            self.waiters -= 1;
            self.business.remove(&conn);
            self.segmented_here(conn, id, waiter.request);
        }
    }

    /// Another shard has viewers of a rendition.
    pub(super) fn subscribe_rendition(&mut self, from: ShardId, id: StreamId, key: Key) {
        let is_made = self
            .streams
            .get(&id)
            .is_some_and(|stream| stream.home_ref().is_some() && key.is_of(&stream.tracks))
            && self.need(id, &key);
        let rendition = self.rendition(id, &key).filter(|_| is_made);
        let listing = rendition.and_then(|rendition| {
            rendition.subscribers.insert(from);
            rendition.listing.clone()
        });
        let message = Message::RenditionBacklog {
            stream: id,
            key,
            listing: listing.map(Box::new),
        };
        self.mesh(from, message);
    }

    /// The home shard's answer.
    pub(super) fn rendition_backlog(
        &mut self,
        id: StreamId,
        key: &Key,
        listing: Option<Box<Listing>>,
    ) {
        let Some(listing) = listing else {
            self.drop_rendition(id, key);
            return;
        };
        if let Some(rendition) = self.rendition(id, key) {
            rendition.listing = Some(*listing);
            self.wake(id, key);
        }
    }

    fn drop_rendition(&mut self, id: StreamId, key: &Key) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if let Some(mut rendition) = stream.renditions.remove(key) {
            self.dismiss(&mut rendition);
        }
    }

    /// A stream or a rendition is over for those that wait for more of it.
    pub(super) fn dismiss(&mut self, rendition: &mut Rendition<Box<SegmentRequest>>) {
        for conn in std::mem::take(&mut rendition.waiters).into_keys() {
            self.waiters -= 1;
            self.business.remove(&conn);
            self.respond(conn, answers::over());
        }
        for (conn, follower) in std::mem::take(&mut rendition.followers) {
            self.waiters -= 1;
            self.business.remove(&conn);
            if follower.has_begun {
                // Its end was not reached, so the connection's end says that it is not whole.
                self.outputs.push_back(Output::Abort(conn));
            } else {
                self.respond(conn, answers::over());
            }
        }
    }

    /// Nobody is to wait here for segments of a stream. Other shards may still be told of them.
    pub(super) fn dismiss_segmented(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let mut renditions = std::mem::take(&mut stream.renditions);
        for rendition in renditions.values_mut() {
            self.dismiss(rendition);
        }
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.renditions = renditions;
        }
    }

    /// A connection that waits for a part or a segment is gone.
    pub(super) fn segmented_gone(&mut self, conn: ConnId, id: StreamId, key: &Key) {
        if let Some(rendition) = self.rendition(id, key) {
            let was_here = rendition.waiters.remove(&conn).is_some()
                || rendition.followers.remove(&conn).is_some();
            self.waiters -= usize::from(was_here);
        }
    }

    /// Once in a while: ends what has waited long enough, and lets go of what nobody asks for.
    pub(super) fn sweep_renditions(&mut self) {
        let now = self.now;
        let mut late = Vec::new();
        let mut stopped = Vec::new();
        let mut unused = Vec::new();
        for (id, stream) in &mut self.streams {
            for (key, rendition) in &mut stream.renditions {
                if rendition.is_waited_for() {
                    rendition.asked = now;
                }
                rendition.waiters.retain(|conn, waiter| {
                    let stays = waiter.until > now;
                    if !stays {
                        late.push(*conn);
                    }
                    stays
                });
                rendition.followers.retain(|conn, follower| {
                    let stays = follower.until > now;
                    if !stays {
                        stopped.push((*conn, follower.has_begun));
                    }
                    stays
                });
                let is_idle =
                    rendition.subscribers.is_empty() && now >= rendition.asked + RENDITION_LINGER;
                if is_idle {
                    unused.push((*id, key.clone()));
                }
            }
        }
        for conn in late {
            self.waiters -= 1;
            self.business.remove(&conn);
            self.respond(conn, answers::late());
        }
        for (conn, has_begun) in stopped {
            self.waiters -= 1;
            self.business.remove(&conn);
            if has_begun {
                // Its end was not reached, so the connection's end says that it is not whole.
                self.outputs.push_back(Output::Abort(conn));
            } else {
                self.respond(conn, answers::late());
            }
        }
        for (id, key) in unused {
            let home = self.streams.get(&id).and_then(|stream| match &stream.role {
                Role::Mirror(mirror) => Some(mirror.home.shard),
                Role::Home(_) => None,
            });
            if let Some(home) = home {
                let message = Message::UnsubscribeRendition {
                    stream: id,
                    key: key.clone(),
                };
                self.mesh(home, message);
            }
            self.drop_rendition(id, &key);
        }
        self.sessions.sweep(now);
    }

    /// Another shard has no viewers of a rendition any more.
    pub(super) fn unsubscribe_rendition(&mut self, from: ShardId, id: StreamId, key: &Key) {
        if let Some(rendition) = self.rendition(id, key) {
            rendition.subscribers.remove(&from);
        }
    }
}

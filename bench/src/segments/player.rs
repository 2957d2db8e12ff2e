//! A viewer of segments on one connection: asks for playlists and media as hls.js and dash.js do,
//! and keeps an eye on how far behind the live edge it would play.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::drive::Session;
use ringside::proto::http::ClientSession;

use super::m3u8::{self, Playlist};
use super::mpd::Mpd;
use crate::stamp;
use crate::tally::Times;
use crate::viewer::{Failed, STALL, Shared};

/// How a viewer behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Manner {
    /// Whole segments; playlists by the clock.
    Hls,
    /// Parts; playlists by blocking reloads.
    LowLatency,
    /// A description by the clock, segments while they are made.
    Dash,
}

/// What all viewers of a run do.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    pub(super) manner: Manner,
    pub(super) host: String,
    /// Path of the first playlist or the description.
    pub(super) entry: String,
    /// Asks for the hinted part before it is listed.
    pub(super) uses_hints: bool,
    /// Leaves media alone.
    pub(super) playlists_only: bool,
    /// Asks for delta updates.
    pub(super) uses_deltas: bool,
}

/// What viewers have measured.
#[derive(Clone, Default, Debug)]
pub(super) struct Tally {
    pub(super) playlists: u64,
    pub(super) playlist_bytes: u64,
    pub(super) media: u64,
    pub(super) media_bytes: u64,
    pub(super) stalls: u64,
    pub(super) errors: u64,
    pub(super) complaint: Option<String>,
    /// From the publisher's write of the frame that completed a part to the answer of a blocking
    /// reload that waited for it; only if the publisher is in this process.
    pub(super) reload: Times,
    /// From the first viewer's answer of the same part to this one's.
    pub(super) spread: Times,
    /// From the end of a piece of media, by its date, to its last byte here.
    pub(super) edge: Times,
    /// Between what would be on the screen and the clock.
    pub(super) latency: Times,
    /// From connecting to the first media.
    pub(super) first_media: Times,
    /// When each part was first answered, as (playlist, segment, part), and when the frame that
    /// completed it was written, in nanoseconds of [`stamp`].
    firsts: HashMap<(usize, u64, u64), (Instant, Option<u64>)>,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.playlists += other.playlists;
        self.playlist_bytes += other.playlist_bytes;
        self.media += other.media;
        self.media_bytes += other.media_bytes;
        self.stalls += other.stalls;
        self.errors += other.errors;
        self.reload.add(&other.reload);
        self.spread.add(&other.spread);
        self.edge.add(&other.edge);
        self.latency.add(&other.latency);
        self.first_media.add(&other.first_media);
        if self.complaint.is_none() {
            self.complaint.clone_from(&other.complaint);
        }
    }

    pub(super) fn complain(&mut self, reason: &str) {
        self.errors += 1;
        self.complaint.get_or_insert_with(|| reason.to_owned());
    }
}

/// A piece of media to load.
#[derive(Clone, Debug)]
struct Item {
    path: String,
    /// Microseconds since 1970.
    end_us: Option<i64>,
    duration_us: i64,
}

#[derive(Debug, Default)]
struct Track {
    path: String,
    queue: VecDeque<Item>,
    /// The next segment and part, once a playlist was read.
    next: Option<(u64, u64)>,
    /// What was loaded because it was hinted at.
    fetched: Option<String>,
    hint: Option<String>,
    map: Option<String>,
    target_us: i64,
    /// Not before this is the playlist read again.
    reload_at: Option<Instant>,
}

#[derive(Clone, Debug)]
enum Doing {
    Entry,
    /// The playlist of a track, and what it waits for.
    Playlist(usize, Option<(u64, u64)>),
    Init,
    Media(usize, Item),
    Idle(Instant),
    Over,
}

/// One viewer.
pub(super) struct Player {
    habits: Rc<Habits>,
    tally: Rc<RefCell<Tally>>,
    shared: Arc<Shared>,
    http: ClientSession,
    doing: Doing,
    asked: Instant,
    body: Vec<u8>,
    body_bytes: u64,
    tracks: Vec<Track>,
    turn: usize,
    connected: Instant,
    /// Where playing begins, in microseconds since 1970: as far from the end as the server wants
    /// it, although loading begins with the keyframe before.
    start_us: Option<i64>,
    /// When bytes came last.
    heard: Instant,
    /// When playing began or went on, and the media time then in microseconds since 1970.
    clock: Option<(Instant, i64)>,
    buffered_us: i64,
    failure: Option<Failed>,
}

/// As long as this after the playlist that was the same as before, it is read again.
const RETRY: Duration = Duration::from_millis(500);

impl Player {
    pub(super) fn new(
        habits: &Rc<Habits>,
        tally: &Rc<RefCell<Tally>>,
        shared: &Arc<Shared>,
        now: Instant,
    ) -> Self {
        Self {
            http: ClientSession::get(&habits.host, &habits.entry),
            habits: Rc::clone(habits),
            tally: Rc::clone(tally),
            shared: Arc::clone(shared),
            doing: Doing::Entry,
            asked: now,
            body: Vec::new(),
            body_bytes: 0,
            tracks: Vec::new(),
            turn: 0,
            connected: now,
            start_us: None,
            heard: now,
            clock: None,
            buffered_us: 0,
            failure: None,
        }
    }

    /// It has played.
    pub(super) fn has_media(&self) -> bool {
        self.clock.is_some()
    }

    fn is_measuring(&self) -> bool {
        self.shared.is_measuring.load(Ordering::Relaxed)
    }

    fn ask(&mut self, now: Instant, path: &str, doing: Doing) {
        self.http = ClientSession::get(&self.habits.host, path);
        self.doing = doing;
        self.asked = now;
        self.body.clear();
        self.body_bytes = 0;
    }

    fn fail(&mut self, reason: String) {
        self.doing = Doing::Over;
        self.failure = Some(Failed(reason));
    }

    /// A whole response.
    fn answered(&mut self, now: Instant) {
        let doing = std::mem::replace(&mut self.doing, Doing::Over);
        let status = self.http.status().unwrap_or(0);
        if status != 200 {
            let at = match &doing {
                Doing::Media(_, item) => item.path.clone(),
                Doing::Entry | Doing::Playlist(..) | Doing::Init | Doing::Idle(_) | Doing::Over => {
                    format!("{doing:?}")
                }
            };
            return self.fail(format!("status {status} for {at}"));
        }
        if self.is_measuring() {
            let mut tally = self.tally.borrow_mut();
            match &doing {
                Doing::Media(..) => {
                    tally.media += 1;
                    tally.media_bytes += self.body_bytes;
                }
                Doing::Entry | Doing::Playlist(..) => {
                    tally.playlists += 1;
                    tally.playlist_bytes += self.body_bytes;
                }
                Doing::Init | Doing::Idle(_) | Doing::Over => {}
            }
        }
        match doing {
            Doing::Entry if self.habits.manner == Manner::Dash => self.read_description(now),
            Doing::Entry => self.read_master(),
            Doing::Playlist(track, awaited) => self.read_playlist(now, track, awaited),
            Doing::Media(track, item) => self.loaded(now, track, &item),
            Doing::Init => {}
            Doing::Idle(_) | Doing::Over => return,
        }
        if self.failure.is_none() {
            self.go_on(now);
        }
    }

    fn read_master(&mut self) {
        let text = String::from_utf8_lossy(&self.body);
        match m3u8::variant(&text) {
            Some(uris) => {
                let track = |uri: &String| Track {
                    path: m3u8::resolve(&self.habits.entry, uri),
                    ..Track::default()
                };
                self.tracks = uris.iter().map(track).collect();
            }
            None => self.fail("no multivariant playlist".to_owned()),
        }
    }

    fn read_playlist(&mut self, now: Instant, index: usize, awaited: Option<(u64, u64)>) {
        let playlist = Playlist::parse(&String::from_utf8_lossy(&self.body));
        let Some(playlist) = playlist.filter(|playlist| !playlist.segments.is_empty()) else {
            return self.fail("no media playlist".to_owned());
        };
        if playlist.is_ended {
            return self.fail("the stream has ended".to_owned());
        }
        if let Some(awaited) = awaited {
            if playlist.next() <= awaited {
                return self.fail(format!("answered without {awaited:?}"));
            }
            self.measure_reload(now, index, awaited);
        }
        let is_low_latency = self.habits.manner == Manner::LowLatency;
        if is_low_latency && !playlist.can_block {
            return self.fail("the playlist has no blocking reload".to_owned());
        }
        let track = &mut self.tracks[index];
        let next = playlist.next();
        let has_grown = track.next != Some(next);
        let wait = if has_grown {
            Duration::from_micros(playlist.target_us as u64)
        } else {
            RETRY
        };
        track.reload_at = (!is_low_latency).then(|| now + wait);
        track.target_us = playlist.target_us;
        track.hint = playlist
            .hint
            .as_deref()
            .map(|hint| m3u8::resolve(&track.path, hint));
        let map = playlist
            .map
            .as_deref()
            .map(|map| m3u8::resolve(&track.path, map));
        if index == 0 && track.next.is_none() && is_low_latency {
            let end = playlist.end_us();
            self.start_us = end.map(|end| end - playlist.part_hold_back_us);
        }
        let from = match track.next {
            Some(known) => known,
            None if is_low_latency => low_latency_start(&playlist),
            // Three target durations from the end, as the specification has it.
            None => (next.0.saturating_sub(3).max(playlist.first), 0),
        };
        let items = items(&playlist, from, is_low_latency, &track.path);
        let end = items.last().map(|(place, _)| *place);
        let (there, wanted): (Vec<Item>, Vec<Item>) = items
            .into_iter()
            .map(|(_, item)| item)
            .partition(|item| track.fetched.as_ref() == Some(&item.path));
        track.queue.extend(wanted);
        track.next = Some(if is_low_latency {
            next
        } else {
            // An open segment is taken when it is whole.
            end.map_or(from, |(number, _)| (number + 1, 0))
        });
        if map.is_some() && map != track.map {
            track.map.clone_from(&map);
            if let Some(path) = map.filter(|_| !self.habits.playlists_only) {
                let item = Item {
                    path,
                    end_us: None,
                    duration_us: 0,
                };
                self.tracks[index].queue.push_front(item);
            }
        }
        for item in there {
            self.loaded(now, index, &item);
        }
        if self.habits.playlists_only {
            let had = !self.tracks[index].queue.is_empty();
            self.tracks[index].queue.clear();
            if had && self.clock.is_none() {
                self.begin(now, 0);
            }
        }
    }

    fn measure_reload(&self, now: Instant, index: usize, awaited: (u64, u64)) {
        if !self.is_measuring() {
            return;
        }
        let mut tally = self.tally.borrow_mut();
        let key = (index, awaited.0, awaited.1);
        // The first answer comes within a fraction of the time between two frames, so the frame
        // that was written last is the one that completed the part.
        let first = (now, stamp::last());
        let (first, written) = *tally.firsts.entry(key).or_insert(first);
        // A reload that was not yet waiting when the part came was answered at once.
        let asked = stamp::nanoseconds_at(self.asked);
        if first < self.asked || written.is_some_and(|written| written < asked) {
            return;
        }
        tally.spread.record(now - first);
        if let Some(written) = written {
            let late = stamp::nanoseconds_at(now).saturating_sub(written);
            tally.reload.record(Duration::from_nanos(late));
        }
    }

    fn read_description(&mut self, now: Instant) {
        let Some(mpd) = Mpd::parse(&String::from_utf8_lossy(&self.body)) else {
            return self.fail("no description with a timeline".to_owned());
        };
        if mpd.tracks.is_empty() {
            return self.fail("a description without tracks".to_owned());
        }
        let entry = self.habits.entry.clone();
        self.tracks.resize_with(mpd.tracks.len(), Track::default);
        for (track, listed) in self.tracks.iter_mut().zip(&mpd.tracks) {
            track.path.clone_from(&entry);
            let item = |uri: &str, end_us, duration_us| Item {
                path: m3u8::resolve(&entry, uri),
                end_us,
                duration_us,
            };
            if track.map.as_deref() != Some(&listed.initialization) {
                track.map = Some(listed.initialization.clone());
                track.queue.push_back(item(&listed.initialization, None, 0));
            }
            let (mut number, _) = track.next.unwrap_or_else(|| (listed.last(), 0));
            while let Some((uri, end, duration)) = listed.segment(number) {
                track
                    .queue
                    .push_back(item(&uri, Some(end), duration.max(1)));
                number += 1;
            }
            track.next = Some((number, 0));
            track.reload_at = Some(now + mpd.update.min(RETRY));
        }
    }

    /// A piece of media has arrived whole.
    fn loaded(&mut self, now: Instant, index: usize, item: &Item) {
        if self.tracks[index].hint.as_ref() == Some(&item.path) {
            self.tracks[index].fetched = Some(item.path.clone());
        }
        let Some(end) = item.end_us.filter(|_| index == 0) else {
            return;
        };
        let now_us = stamp::nanoseconds_at(now) as i64 / 1000;
        let micros = |us: i64| Duration::from_micros(us.max(0) as u64);
        let Some((since, media)) = self.clock else {
            let begin = end - item.duration_us;
            return self.begin(now, self.start_us.map_or(begin, |start| start.max(begin)));
        };
        if self.habits.manner == Manner::Dash {
            // What has come of a segment is played before it is whole, so there is no telling
            // from whole segments what would be on the screen.
            if self.is_measuring() {
                self.tally.borrow_mut().edge.record(micros(now_us - end));
            }
            return;
        }
        let at = media + (now - since).as_micros() as i64;
        let has_stalled = at > self.buffered_us && self.buffered_us > 0;
        let at = if has_stalled { self.buffered_us } else { at };
        if has_stalled {
            self.clock = Some((now, at));
        }
        self.buffered_us = end;
        if self.is_measuring() {
            let mut tally = self.tally.borrow_mut();
            tally.stalls += u64::from(has_stalled);
            tally.edge.record(micros(now_us - end));
            tally.latency.record(micros(now_us - at));
        }
    }

    fn begin(&mut self, now: Instant, media_us: i64) {
        self.clock = Some((now, media_us));
        self.tally
            .borrow_mut()
            .first_media
            .record(now - self.connected);
        self.shared.settled.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks for what is next: media that is known, else the playlist of the track whose turn it
    /// is.
    fn go_on(&mut self, now: Instant) {
        if let Some(index) = self.tracks.iter().position(|track| track.next.is_none()) {
            let path = self.tracks[index].path.clone();
            return self.ask(now, &path, Doing::Playlist(index, None));
        }
        for index in 0..self.tracks.len() {
            if let Some(item) = self.tracks[index].queue.pop_front() {
                let path = item.path.clone();
                let doing = if item.end_us.is_none() && item.duration_us == 0 {
                    Doing::Init
                } else {
                    Doing::Media(index, item)
                };
                return self.ask(now, &path, doing);
            }
        }
        self.turn = (self.turn + 1) % self.tracks.len().max(1);
        match self.habits.manner {
            Manner::LowLatency => self.reload_blocking(now),
            Manner::Hls | Manner::Dash => {
                let due = self.tracks[self.turn].reload_at.unwrap_or(now);
                if due > now {
                    self.doing = Doing::Idle(due);
                } else if self.habits.manner == Manner::Dash {
                    let path = self.habits.entry.clone();
                    self.ask(now, &path, Doing::Entry);
                } else {
                    let path = self.tracks[self.turn].path.clone();
                    self.ask(now, &path, Doing::Playlist(self.turn, None));
                }
            }
        }
    }

    fn reload_blocking(&mut self, now: Instant) {
        let (turn, track) = (self.turn, &self.tracks[self.turn]);
        let Some((msn, part)) = track.next else {
            return;
        };
        let is_new = |hint: &&String| track.fetched.as_ref() != Some(*hint);
        if self.habits.uses_hints
            && let Some(hint) = track.hint.as_ref().filter(is_new)
        {
            let item = Item {
                path: hint.clone(),
                end_us: None,
                duration_us: 1,
            };
            let path = hint.clone();
            return self.ask(now, &path, Doing::Media(turn, item));
        }
        let joint = if track.path.contains('?') { '&' } else { '?' };
        let skip = if self.habits.uses_deltas {
            "&_HLS_skip=YES"
        } else {
            ""
        };
        let path = format!("{}{joint}_HLS_msn={msn}&_HLS_part={part}{skip}", track.path);
        self.ask(now, &path, Doing::Playlist(turn, Some((msn, part))));
    }
}

/// The newest part that a decoder can begin with and that is as far from the end as the server
/// wants it.
fn low_latency_start(playlist: &Playlist) -> (u64, u64) {
    let mut after = 0;
    for (offset, segment) in playlist.segments.iter().enumerate().rev() {
        let number = playlist.first + offset as u64;
        for (index, part) in segment.parts.iter().enumerate().rev() {
            after += part.duration_us;
            if part.is_independent && after >= playlist.part_hold_back_us {
                return (number, index as u64);
            }
        }
        if segment.parts.is_empty() {
            return (number, 0);
        }
    }
    (playlist.first, 0)
}

/// What there is from `from` on: parts where they are listed and wanted, else whole segments.
fn items(
    playlist: &Playlist,
    from: (u64, u64),
    wants_parts: bool,
    base: &str,
) -> Vec<((u64, u64), Item)> {
    let mut found = Vec::new();
    for (segment, number) in playlist.segments.iter().zip(playlist.first..) {
        if number < from.0 {
            continue;
        }
        if wants_parts && !segment.parts.is_empty() {
            let mut end = segment.start_us;
            for (part, index) in segment.parts.iter().zip(0..) {
                end = end.map(|end| end + part.duration_us);
                if (number, index) >= from {
                    let item = Item {
                        path: m3u8::resolve(base, &part.uri),
                        end_us: end,
                        duration_us: part.duration_us.max(1),
                    };
                    found.push(((number, index), item));
                }
            }
        } else if let Some(uri) = &segment.uri
            && from.1 == 0
        {
            let item = Item {
                path: m3u8::resolve(base, uri),
                end_us: segment.start_us.map(|start| start + segment.duration_us),
                duration_us: segment.duration_us.max(1),
            };
            found.push(((number, 0), item));
        }
    }
    found
}

impl Drop for Player {
    fn drop(&mut self) {
        if self.clock.is_none() {
            self.shared.settled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Session for Player {
    type Event = Failed;

    fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        let is_media = matches!(self.doing, Doing::Media(..));
        let silence = now - self.heard.max(self.asked);
        if self.habits.manner == Manner::Dash && is_media && silence > STALL && self.is_measuring()
        {
            self.tally.borrow_mut().stalls += 1;
        }
        self.heard = now;
        let count = bytes.len() as u64;
        self.shared.bytes.fetch_add(count, Ordering::Relaxed);
        let keeps = !matches!(self.doing, Doing::Media(..) | Doing::Init);
        let (body, body_bytes) = (&mut self.body, &mut self.body_bytes);
        let result = self.http.handle_input(bytes, |piece| {
            *body_bytes += piece.len() as u64;
            if keeps {
                body.extend_from_slice(piece);
            }
        });
        if let Err(error) = result {
            self.fail(format!("HTTP: {error}"));
        } else if self.http.is_done() {
            self.answered(now);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.doing, Doing::Idle(until) if until <= now) {
            self.go_on(now);
        }
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        self.http.poll_transmit()
    }

    fn poll_event(&mut self) -> Option<Failed> {
        self.failure.take()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.doing {
            Doing::Idle(until) => Some((until, "reload")),
            Doing::Entry | Doing::Playlist(..) | Doing::Init | Doing::Media(..) | Doing::Over => {
                None
            }
        }
    }
}

//! Players of playlists: each asks for one thing after the other, on any shard, and looks closely
//! at what it gets.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ringside::base::ids::ConnId;
use ringside::base::prng::Prng;
use ringside::hub::Pieces;
use ringside::proto::http::Response;
use ringside::streams::HttpReply;

use super::player::{Player, Style, View, What};
use super::playlist::{self, Media};
use super::shelf::{Got, Shelf};

/// A request is answered in this time: waiting for the stream, for the first part of one rendition
/// and of another, and what a step of the simulation lasts.
const PATIENCE: Duration = Duration::from_secs(5 + 10 + 10 + 5);

/// Requests of one player that are under way at once.
const UNDER_WAY_MAX: usize = 4;

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Asked {
    player: u64,
    what: What,
    at: Duration,
    is_head: bool,
    is_old: bool,
    has_range: bool,
    leaves_at: Option<Duration>,
    /// What has come of a body that is sent as it is made.
    body: Option<Body>,
}

#[derive(Default)]
struct Body(Vec<u8>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A request that somebody wants to make.
pub(crate) struct Wish {
    pub(crate) head: String,
    pub(crate) conn: Option<(usize, ConnId)>,
    pub(crate) asked: Asked,
}

/// What a reply means for its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Then {
    /// More comes.
    Goes,
    /// It is free.
    Free,
}

/// The world around a reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) shard: usize,
    pub(crate) now: Duration,
    /// The number of the stream that is there.
    pub(crate) life: Option<u64>,
    /// Frames may be missing.
    pub(crate) may_gap: bool,
    /// A configuration without the stream may be in force, or the shard lets everybody go.
    pub(crate) is_closed: bool,
}

#[derive(Default)]
pub(crate) struct Audience {
    pub(crate) players: BTreeMap<u64, Player>,
    pub(crate) asked: BTreeMap<(usize, ConnId), Asked>,
    pub(crate) shelf: Shelf,
    next: u64,
    /// Playlists, bodies that were sent at once, and bodies that were sent as they were made.
    pub(crate) playlists: u64,
    pub(crate) bodies: u64,
    pub(crate) followed: u64,
    pub(crate) aborts: u64,
    /// Requests that were answered late or not to be had.
    pub(crate) refused: BTreeMap<u16, u64>,
}

impl Audience {
    pub(crate) fn join(&mut self, name: usize, style: Style, is_cmaf: bool, now: Duration) {
        self.next += 1;
        self.players.insert(
            self.next,
            Player {
                name,
                style,
                is_cmaf: is_cmaf || style == Style::Dash,
                next_at: now,
                views: Vec::new(),
                idle: Vec::new(),
                under_way: 0,
                asks_for_views: false,
                got: 0,
                got_at: now,
            },
        );
    }

    /// What the players want to ask for.
    pub(crate) fn wishes(&mut self, rng: &mut Prng, now: Duration, names: &[&str]) -> Vec<Wish> {
        let mut out = Vec::new();
        for (id, player) in &mut self.players {
            if now < player.next_at || player.under_way >= UNDER_WAY_MAX {
                continue;
            }
            player.next_at = now + Duration::from_micros(20_000 + rng.below(250_000));
            let Some((what, path)) = player.want(rng, now) else {
                continue;
            };
            match &what {
                What::Playlist { key, .. } | What::Init(key, _) | What::Bytes(key, ..) => {
                    self.shelf.ask(key, now);
                }
                What::Description => {
                    for view in &player.views {
                        self.shelf
                            .ask(&(player.name, true, view.rendition.clone()), now);
                    }
                }
                What::Master | What::Nonsense => {}
            }
            player.under_way += 1;
            let is_old = player.style == Style::Old;
            let is_bytes = matches!(what, What::Bytes(..));
            let is_head = is_bytes && rng.chance(3);
            let method = if is_head { "HEAD" } else { "GET" };
            let form = if player.is_cmaf { "cmaf" } else { "hls" };
            let version = if is_old { "1.0" } else { "1.1" };
            let name = names[player.name];
            let mut head = format!("{method} /{form}/{name}/{path} HTTP/{version}\r\n");
            let has_range = is_bytes && rng.chance(5);
            if has_range {
                let range = ["0-99", "100-", "-188", "99999999-"][rng.below(4) as usize];
                head.push_str(&format!("Range: bytes={range}\r\n"));
            }
            let leaves_at = rng
                .chance(4)
                .then(|| now + Duration::from_micros(rng.below(1_500_000)));
            let conn = if rng.chance(50) {
                player.idle.pop()
            } else {
                None
            };
            out.push(Wish {
                head,
                conn,
                asked: Asked {
                    player: *id,
                    what,
                    at: now,
                    is_head,
                    is_old,
                    has_range,
                    leaves_at,
                    body: None,
                },
            });
        }
        out
    }

    /// Connections whose player has had enough, and one that was promised an answer by now.
    pub(crate) fn leaving(&self, now: Duration) -> Vec<(usize, ConnId)> {
        self.asked
            .iter()
            .filter(|(_, asked)| asked.leaves_at.is_some_and(|at| at <= now))
            .map(|(at, _)| *at)
            .collect()
    }

    pub(crate) fn late(&self, now: Duration) -> Option<(&(usize, ConnId), &Asked)> {
        self.asked
            .iter()
            .find(|(_, asked)| now > asked.at + PATIENCE)
    }

    /// The stream that a request is about.
    pub(crate) fn name_of(&self, asked: &Asked) -> Option<usize> {
        Some(self.players.get(&asked.player)?.name)
    }

    /// A connection is gone.
    pub(crate) fn gone(&mut self, at: (usize, ConnId)) {
        if let Some(asked) = self.asked.remove(&at) {
            self.done(&asked);
        }
        for player in self.players.values_mut() {
            player.idle.retain(|idle| *idle != at);
        }
    }

    /// A shard closes connections that wait for a request.
    pub(crate) fn close_idle(&mut self, shard: usize) {
        for player in self.players.values_mut() {
            player.idle.retain(|(on, _)| *on != shard);
        }
    }

    fn done(&mut self, asked: &Asked) {
        if let Some(player) = self.players.get_mut(&asked.player) {
            player.under_way -= 1;
            match &asked.what {
                What::Playlist { view, .. } => {
                    if let Some(view) = player.views.get_mut(*view) {
                        view.is_asking = false;
                    }
                }
                What::Master | What::Description => player.asks_for_views = false,
                What::Init(..) | What::Bytes(..) | What::Nonsense => {}
            }
        }
    }

    /// The server has closed a connection without the end of its answer.
    pub(crate) fn aborted(&mut self, at: (usize, ConnId)) -> Result<(), String> {
        let asked = self.asked.remove(&at).ok_or("nobody is there")?;
        self.done(&asked);
        if asked.body.is_none() {
            return Err(format!("closed instead of answered: {asked:?}"));
        }
        self.aborts += 1;
        Ok(())
    }

    /// A reply to somebody who has asked.
    pub(crate) fn reply(
        &mut self,
        conn: ConnId,
        reply: &HttpReply,
        scene: Scene,
    ) -> Result<Then, String> {
        let at = (scene.shard, conn);
        let mut asked = self.asked.remove(&at).ok_or("nobody has asked")?;
        let taken = self.take(&mut asked, reply, scene);
        let then = taken.map_err(|error| format!("{error}\n{asked:?}"))?;
        match then {
            Then::Goes => {
                self.asked.insert(at, asked);
            }
            Then::Free => {
                self.done(&asked);
                if let Some(player) = self.players.get_mut(&asked.player)
                    && !asked.is_old
                    && !scene.is_closed
                {
                    player.idle.push(at);
                }
            }
        }
        Ok(then)
    }

    fn take(&mut self, asked: &mut Asked, reply: &HttpReply, scene: Scene) -> Result<Then, String> {
        let may_follow = !asked.is_old && !asked.is_head && !asked.has_range;
        match (reply, &mut asked.body) {
            (HttpReply::Respond(response), None) => self.respond(asked, response, None, scene)?,
            (HttpReply::Shared(response, pieces), None) => {
                self.respond(asked, response, Some(pieces), scene)?;
            }
            (HttpReply::Begin(response), None) if may_follow && response.status == 200 => {
                asked.body = Some(Body::default());
                return Ok(Then::Goes);
            }
            (HttpReply::Run(pieces), Some(Body(body))) => {
                let before = body.len();
                pieces
                    .iter()
                    .for_each(|piece| body.extend_from_slice(piece));
                if body.len() == before {
                    return Err("an empty run".into());
                }
                return Ok(Then::Goes);
            }
            (HttpReply::EndStream, Some(Body(body))) => {
                let body = std::mem::take(body);
                self.followed += 1;
                self.keep(asked, &Got::Whole(&body), scene)?;
            }
            (_, body) => {
                return Err(format!("{reply:?} is out of place after {body:?}"));
            }
        }
        Ok(Then::Free)
    }

    fn respond(
        &mut self,
        asked: &Asked,
        response: &Response,
        pieces: Option<&Pieces>,
        scene: Scene,
    ) -> Result<(), String> {
        let status = response.status;
        if !matches!(status, 200 | 206) {
            *self.refused.entry(status).or_default() += 1;
        }
        let is_odd = matches!(asked.what, What::Nonsense);
        match status {
            200 | 206 => {}
            400 if is_odd || matches!(asked.what, What::Playlist { msn: Some(_), .. }) => {
                return Ok(());
            }
            404 | 503 => return self.refuse(asked, response, scene),
            416 if asked.has_range => return Ok(()),
            _ => return Err(format!("{status} for {asked:?}")),
        }
        let text = || std::str::from_utf8(&response.body).map_err(|error| error.to_string());
        let now = scene.now;
        match &asked.what {
            What::Master => {
                let uris = playlist::master(text()?)?;
                if let Some(player) = self.players.get_mut(&asked.player) {
                    player.views = uris
                        .iter()
                        .map(|uri| View::new(uri, now))
                        .collect::<Option<_>>()
                        .ok_or_else(|| format!("not to be followed: {uris:?}"))?;
                }
            }
            What::Description => {
                let described = playlist::description(text()?)?;
                self.playlists += 1;
                if let Some(player) = self.players.get_mut(&asked.player) {
                    player.describe(&described, now)?;
                }
            }
            What::Playlist {
                view,
                key,
                msn,
                part,
                is_clip,
            } => {
                let media = Media::parse(text()?, key.1)
                    .map_err(|error| format!("{error}\n{}", text().unwrap_or("")))?;
                self.playlists += 1;
                let (next, parts) = media.next_part();
                let lacks = msn.is_some_and(|msn| {
                    next < msn || next == msn && part.is_none_or(|part| parts <= part)
                });
                if lacks && !is_clip {
                    return Err(format!("{asked:?} is answered with {media:?}"));
                }
                self.shelf.listing(scene, key, &media, *is_clip)?;
                if let Some(player) = self.players.get_mut(&asked.player)
                    && let Some(view) = player.views.get_mut(*view)
                {
                    view.last = Some(media);
                }
            }
            What::Init(key, name) => {
                self.shelf.init(scene.life, key, name, &response.body)?;
            }
            What::Bytes(..) => {
                let pieces = pieces.ok_or_else(|| format!("no bytes for {asked:?}"))?;
                let body: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
                self.bodies += 1;
                let range = response
                    .headers
                    .iter()
                    .find(|(name, _)| *name == "Content-Range");
                let got = match (status, range) {
                    (206, Some((_, range))) if asked.has_range => span(range, &body)?,
                    (200, None) if !asked.has_range => Got::Whole(&body),
                    _ => return Err(format!("{status} with {range:?} for {asked:?}")),
                };
                self.keep(asked, &got, scene)?;
            }
            What::Nonsense => return Err(format!("{asked:?} is answered: {:?}", response.body)),
        }
        Ok(())
    }

    /// Something is not to be had.
    fn refuse(&mut self, asked: &Asked, response: &Response, scene: Scene) -> Result<(), String> {
        let status = response.status;
        if let What::Bytes(key, number, None) = &asked.what
            && self.shelf.is_offered(scene, key, *number)
            && scene.life.is_some()
        {
            return Err(format!(
                "{status} for what was offered: {scene:?} {:?}",
                response.body
            ));
        }
        if let What::Bytes(key, number, part) = &asked.what
            && let Some(player) = self.players.get_mut(&asked.player)
        {
            // It may come yet.
            for view in &mut player.views {
                if view.rendition == key.2 {
                    view.fetched.remove(&(*number, *part));
                }
            }
        }
        if let Some(player) = self.players.get_mut(&asked.player)
            && status == 404
            && matches!(asked.what, What::Playlist { .. } | What::Description)
        {
            player.views.clear(); // It begins anew.
        }
        Ok(())
    }

    fn keep(&mut self, asked: &Asked, got: &Got<'_>, scene: Scene) -> Result<(), String> {
        let What::Bytes(key, number, part) = &asked.what else {
            return Err(format!("bytes for {asked:?}"));
        };
        self.shelf
            .bytes(key, (*number, *part), got, scene.may_gap)?;
        if let Some(player) = self.players.get_mut(&asked.player) {
            player.got += 1;
            player.got_at = scene.now;
        }
        Ok(())
    }
}

fn span<'a>(header: &str, body: &'a [u8]) -> Result<Got<'a>, String> {
    let numbers: Option<Vec<usize>> = header
        .strip_prefix("bytes ")
        .map(|text| text.split(['-', '/']).flat_map(str::parse).collect());
    match numbers.as_deref() {
        Some([first, last, length]) if last + 1 - first == body.len() => {
            Ok(Got::Span(*first, *length, body))
        }
        _ => Err(format!("{header} for {} bytes", body.len())),
    }
}

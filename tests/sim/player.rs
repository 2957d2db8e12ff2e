//! A player of playlists: what it asks for next.

use std::collections::BTreeSet;
use std::time::Duration;

use ringside::base::ids::ConnId;
use ringside::base::prng::Prng;

use super::playlist::{self, Media};
use super::shelf::Key;

/// How a player plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    /// Segments only.
    Plain,
    /// With reloads that block.
    Low,
    /// It asks for parts before they are there.
    Hinting,
    /// With delta updates.
    Delta,
    /// HTTP/1.0.
    Old,
    /// A part of the stream.
    Clip,
    /// A description instead of playlists.
    Dash,
    /// What nobody should ask for.
    Odd,
}

impl Style {
    pub(crate) const ALL: [Self; 8] = [
        Self::Plain,
        Self::Low,
        Self::Hinting,
        Self::Delta,
        Self::Old,
        Self::Clip,
        Self::Dash,
        Self::Odd,
    ];

    fn has_parts(self) -> bool {
        matches!(self, Self::Low | Self::Hinting | Self::Delta | Self::Old)
    }
}

#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) name: usize,
    pub(crate) style: Style,
    pub(crate) is_cmaf: bool,
    pub(crate) next_at: Duration,
    pub(crate) views: Vec<View>,
    /// Connections that may be used again.
    pub(crate) idle: Vec<(usize, ConnId)>,
    pub(crate) under_way: usize,
    pub(crate) asks_for_views: bool,
    /// Segments and parts that it got, and when the last.
    pub(crate) got: u64,
    pub(crate) got_at: Duration,
}

/// One playlist of a player.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) rendition: String,
    pub(crate) query: String,
    pub(crate) last: Option<Media>,
    pub(crate) asked_at: Duration,
    pub(crate) is_asking: bool,
    pub(crate) fetched: BTreeSet<(u64, Option<usize>)>,
    pub(crate) inits: BTreeSet<String>,
}

/// What a request is for.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Master,
    Description,
    Playlist {
        view: usize,
        key: Key,
        msn: Option<u64>,
        part: Option<usize>,
        is_clip: bool,
    },
    Init(Key, String),
    /// A segment or a part.
    Bytes(Key, u64, Option<usize>),
    Nonsense,
}

impl View {
    pub(crate) fn new(uri: &str, now: Duration) -> Option<Self> {
        let (rendition, file) = uri.split_once('/')?;
        let query = file.strip_prefix("index.m3u8")?;
        Some(Self {
            rendition: rendition.to_owned(),
            query: query.strip_prefix('?').unwrap_or("").to_owned(),
            last: None,
            asked_at: now,
            is_asking: false,
            fetched: BTreeSet::new(),
            inits: BTreeSet::new(),
        })
    }
}

impl Player {
    pub(crate) fn want(&mut self, rng: &mut Prng, now: Duration) -> Option<(What, String)> {
        if self.style == Style::Odd && rng.chance(50) {
            return Some(self.nonsense(rng));
        }
        let is_stale = self.style == Style::Dash && rng.chance(20);
        if self.views.is_empty() || is_stale {
            return self.want_views(rng);
        }
        let index = rng.below(self.views.len() as u64) as usize;
        let key = (self.name, self.is_cmaf, self.views[index].rendition.clone());
        let view = &self.views[index];
        let is_due = if self.style.has_parts() {
            view.last.is_none() || rng.chance(50)
        } else {
            view.last.is_none() || now > view.asked_at + RELOAD
        };
        if self.style != Style::Dash && !view.is_asking && is_due {
            return Some(self.want_playlist(rng, now, index, key));
        }
        self.want_bytes(rng, index, key)
    }

    fn want_views(&mut self, rng: &mut Prng) -> Option<(What, String)> {
        if self.asks_for_views {
            return None;
        }
        self.asks_for_views = true;
        if self.style == Style::Dash {
            return Some((What::Description, "index.mpd".into()));
        }
        let query = match (self.style, rng.below(5)) {
            (Style::Clip, 0) => "?start=-4000",
            (Style::Clip, 1) => "?start=1000&stop=5000",
            (Style::Clip, 2) => "?start=2000&duration=6",
            (Style::Clip, 3) => "?startunix=1700000010&stopunix=1700000020",
            (Style::Clip, _) => "?stop=99999999",
            (Style::Plain, 0..3) => "?llhls=0",
            _ => "",
        };
        Some((What::Master, format!("index.m3u8{query}")))
    }

    fn want_playlist(
        &mut self,
        rng: &mut Prng,
        now: Duration,
        index: usize,
        key: Key,
    ) -> (What, String) {
        let view = &mut self.views[index];
        view.is_asking = true;
        view.asked_at = now;
        let mut query: Vec<String> = vec![view.query.clone()];
        query.retain(|text| !text.is_empty());
        let (mut msn, mut part) = (None, None);
        if let Some(last) = &view.last
            && self.style.has_parts()
        {
            let (number, next) = last.next_part();
            msn = Some(number);
            part = rng.chance(80).then_some(next);
            query.push(format!("_HLS_msn={number}"));
            query.extend(part.map(|part| format!("_HLS_part={part}")));
            if self.style == Style::Delta {
                query.push("_HLS_skip=YES".into());
            }
        }
        let query = if query.is_empty() {
            String::new()
        } else {
            format!("?{}", query.join("&"))
        };
        let what = What::Playlist {
            view: index,
            key,
            msn,
            part,
            is_clip: self.style == Style::Clip,
        };
        (what, format!("{}/index.m3u8{query}", view.rendition))
    }

    fn want_bytes(&mut self, rng: &mut Prng, index: usize, key: Key) -> Option<(What, String)> {
        let has_parts = self.style.has_parts();
        let view = &mut self.views[index];
        let last = view.last.as_ref()?;
        let rendition = &view.rendition;
        let map = last
            .segments
            .last()
            .and_then(|segment| segment.map.clone())
            .filter(|map| !view.inits.contains(map));
        if let Some(map) = map {
            view.inits.insert(map.clone());
            let path = format!("{rendition}/{map}");
            return Some((What::Init(key, map), path));
        }
        let wish = |number: u64, part: Option<usize>| {
            let file = playlist::file(self.is_cmaf, number, part);
            let path = format!("{rendition}/{file}");
            Some((What::Bytes(key.clone(), number, part), path))
        };
        if self.style == Style::Hinting
            && let Some(hint) = &last.hint
            && rng.chance(70)
        {
            let numbers: Vec<u64> = hint
                .trim_start_matches("chunk_")
                .split('.')
                .flat_map(str::parse)
                .collect();
            let [number, part] = numbers[..] else {
                panic!("a hint for a part: {hint}");
            };
            if view.fetched.insert((number, Some(part as usize))) {
                return wish(number, Some(part as usize));
            }
        }
        let (open, next) = last.next_part();
        // What is being made, as a whole.
        if rng.chance(10) && view.fetched.insert((open, None)) {
            return wish(open, None);
        }
        // Or what has been there for long.
        if rng.chance(5)
            && let Some(first) = last.segments.first()
            && first.is_complete
        {
            return wish(first.number, None);
        }
        if has_parts && rng.chance(3) {
            return wish(open, Some(next + rng.below(3) as usize));
        }
        for segment in last.segments.iter().rev().take(3) {
            if has_parts {
                let unseen = (0..segment.parts.len())
                    .find(|part| view.fetched.insert((segment.number, Some(*part))));
                if let Some(part) = unseen {
                    return wish(segment.number, Some(part));
                }
            }
            if segment.is_complete && !segment.is_gap && view.fetched.insert((segment.number, None))
            {
                return wish(segment.number, None);
            }
        }
        None
    }

    fn nonsense(&self, rng: &mut Prng) -> (What, String) {
        let number = rng.below(3_000_000_000);
        let path = match rng.below(8) {
            0 => format!("1/index.m3u8?_HLS_msn={}", 3_000_000_000 + number),
            1 => "1/index.m3u8?_HLS_part=1".into(),
            2 => "9_10/index.m3u8".into(),
            3 if self.is_cmaf => format!("1/chunk_{number}.m4s"),
            3 => format!("1_2/{number}.ts"),
            4 if self.is_cmaf => "1/init_77.m4s".into(),
            4 => "2_1/index.m3u8".into(),
            5 => "index.m3u8?start=soon".into(),
            6 if self.is_cmaf => format!("2/chunk_{number}.{}.m4s", rng.below(99)),
            6 => format!("1_2/{number}.{}.ts", rng.below(99)),
            _ => "index.m3u8?video=none&audio=none".into(),
        };
        (What::Nonsense, path)
    }

    /// A description takes the place of playlists.
    pub(crate) fn describe(
        &mut self,
        described: &[playlist::Described],
        now: Duration,
    ) -> Result<(), String> {
        for representation in described {
            let known = self
                .views
                .iter()
                .position(|view| view.rendition == representation.id);
            let view = match known {
                Some(index) => &mut self.views[index],
                None => {
                    let uri = format!("{}/index.m3u8", representation.id);
                    self.views.extend(View::new(&uri, now));
                    self.views.last_mut().ok_or("no representation")?
                }
            };
            for pair in representation.timeline.windows(2) {
                if pair[1].0 < pair[0].0 + pair[0].1 {
                    return Err(format!("segments overlap: {representation:?}"));
                }
            }
            let map = representation
                .init
                .strip_prefix("$RepresentationID$/")
                .ok_or("another place for the init segment")?;
            let count = representation.timeline.len() as u64;
            // Of periods that follow one another the last counts.
            view.last = Some(Media {
                target_s: 1,
                msn: representation.first,
                segments: (0..count)
                    .map(|index| playlist::Listed {
                        number: representation.first + index,
                        // The last one is being made, perhaps.
                        is_complete: true,
                        map: Some(map.to_owned()),
                        ..playlist::Listed::default()
                    })
                    .collect(),
                ..Media::default()
            });
        }
        Ok(())
    }
}

/// How often a player without parts looks for more.
const RELOAD: Duration = Duration::from_millis(900);

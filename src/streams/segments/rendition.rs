//! One rendition on one shard: its listing, who waits for it, and its rendered playlists.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::base::ids::{ConnId, ShardId};
use crate::proto::hls;
use crate::streams::segments::Form;
use crate::streams::segments::listing::Listing;
use crate::streams::segments::maker::{Maker, PART_SLACK};
use crate::streams::segments::playlists::{self, Clip};

/// A rendition.
#[derive(Debug)]
pub(in crate::streams) struct Rendition<W> {
    pub(in crate::streams) form: Form,
    /// `None` on a mirror that has not heard from the home shard.
    pub(in crate::streams) listing: Option<Listing>,
    /// At home.
    pub(in crate::streams) maker: Option<Maker>,
    /// At home: the shards that are told.
    pub(in crate::streams) subscribers: BTreeSet<ShardId>,
    /// Requests for what is not there yet.
    pub(in crate::streams) waiters: BTreeMap<ConnId, Waiter<W>>,
    /// Requests that are answered as a part or a segment is made.
    pub(in crate::streams) followers: BTreeMap<ConnId, Follower>,
    /// When it was last asked for here.
    pub(in crate::streams) asked: Instant,
    rendered: [Option<Rendered>; 3],
}

/// A request that waits.
#[derive(Debug)]
pub(in crate::streams) struct Waiter<W> {
    pub(in crate::streams) request: W,
    pub(in crate::streams) until: Instant,
    /// It can be answered when this is complete; at any change, if there is none.
    pub(in crate::streams) target: Option<(u64, Option<u32>)>,
}

/// A request for a part or a segment that is being made, or comes next.
#[derive(Clone, Copy, Debug)]
pub(in crate::streams) struct Follower {
    pub(in crate::streams) number: u64,
    pub(in crate::streams) part: Option<u32>,
    pub(in crate::streams) has_begun: bool,
    pub(in crate::streams) until: Instant,
}

/// Which playlist of a rendition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::streams) enum Version {
    /// Segments only.
    Plain = 0,
    /// With parts.
    LowLatency = 1,
    /// With parts, and without what players have seen.
    Delta = 2,
}

/// A playlist as it is sent.
#[derive(Clone, Debug)]
pub(in crate::streams) struct Rendered {
    version: u64,
    pub(in crate::streams) text: Bytes,
    gzip: Option<Bytes>,
}

impl<W> Rendition<W> {
    /// At home.
    pub(in crate::streams) fn at_home(
        form: Form,
        maker: Maker,
        segment: Duration,
        part: Duration,
        now: Instant,
    ) -> Self {
        Self {
            listing: Some(Listing::new(segment, part + PART_SLACK)),
            maker: Some(maker),
            ..Self::mirrored(form, now)
        }
    }

    /// On a mirror.
    pub(in crate::streams) fn mirrored(form: Form, now: Instant) -> Self {
        Self {
            form,
            listing: None,
            maker: None,
            subscribers: BTreeSet::new(),
            waiters: BTreeMap::new(),
            followers: BTreeMap::new(),
            asked: now,
            rendered: [const { None }; 3],
        }
    }

    /// Whether a playlist need not be rendered.
    pub(in crate::streams) fn is_fresh(&self, version: Version) -> bool {
        let known = self.rendered[version as usize].as_ref();
        let listing = self.listing.as_ref();
        known.map(|rendered| rendered.version) == listing.map(Listing::version)
    }

    /// A playlist, rendered once for all who ask until it changes. `gzip` compresses it.
    pub(in crate::streams) fn playlist(
        &mut self,
        version: Version,
        gzip: bool,
        reports: Vec<hls::RenditionReport>,
    ) -> Option<(Bytes, bool)> {
        let is_fresh = self.is_fresh(version);
        let listing = self.listing.as_ref()?;
        let cached = &mut self.rendered[version as usize];
        if !is_fresh {
            let has_parts = version != Version::Plain;
            let reports = if has_parts { reports } else { Vec::new() };
            let playlist =
                playlists::media(self.form, listing, has_parts, Clip::default(), reports);
            let mut text = String::new();
            playlist.write(version == Version::Delta, &mut text);
            *cached = Some(Rendered {
                version: listing.version(),
                text: text.into(),
                gzip: None,
            });
        }
        let rendered = cached.as_mut()?;
        if !gzip || rendered.text.len() < GZIP_FROM {
            return Some((rendered.text.clone(), false));
        }
        let text = &rendered.text;
        let packed = rendered.gzip.get_or_insert_with(|| compress(text));
        Some((packed.clone(), true))
    }

    /// Whether anybody waits here.
    pub(in crate::streams) fn is_waited_for(&self) -> bool {
        !self.waiters.is_empty() || !self.followers.is_empty()
    }
}

/// Shorter texts do not get smaller by more than a packet.
const GZIP_FROM: usize = 1024;

/// A text in the form of RFC 1952.
pub(in crate::streams) fn compress(text: &[u8]) -> Bytes {
    use std::io::Write as _;
    let level = flate2::Compression::new(4);
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(text.len() / 4), level);
    let written = encoder.write_all(text).and_then(|()| encoder.finish());
    written.expect("a Vec takes all bytes").into()
}

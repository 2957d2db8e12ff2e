//! Our answer: what is taken of an offer, and what of a stream is sent.

use std::collections::BTreeSet;

use crate::base::ids::TrackId;
use crate::base::prng::Prng;
use crate::media::{Codec, Kind, Track};
use crate::proto::ice::Credentials;
use crate::proto::rtp::{Extension, ExtensionMap};

use super::formats::{is_sent, misfit, parameter};
use super::offer::{Content, Direction, MediaContent, Offer, OfferedExtension, Section};
use super::text::{Verdict, write_answer};
use super::{Fingerprint, Format, Incoming, LeftOut, Negotiated, Outgoing, Problem, Setup, Stream};

/// What this side would like of what an offer leaves open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preferences {
    /// Codecs that come before all others, the first one first. The others keep the offer's order.
    /// A browser sends the first codec of the answer.
    pub codecs: Vec<Codec>,
    /// Publishers may leave turning the picture to us. It has to be passed on or turned then, which
    /// RTMP and files cannot have done; a browser turns it itself if this is off.
    pub orientation: bool,
    /// Publishers are asked for stereo in Opus (RFC 7587 section 6.1); browsers send mono otherwise.
    pub stereo: bool,
    /// Data channels are taken.
    pub data_channels: bool,
    /// Receivers tell when each packet came, which takes a packet from each of them every 50 to
    /// 100 ms. Without it they tell what they can receive (REMB) about once a second.
    pub transport_cc: bool,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            codecs: Vec::new(),
            orientation: false,
            stereo: true,
            data_channels: true,
            transport_cc: false,
        }
    }
}

/// This side of a session, as the answer states it.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Our ICE credentials.
    pub credentials: &'a Credentials,
    /// Of our certificate.
    pub fingerprint: &'a Fingerprint,
    /// Our candidates, each as the value of an `a=candidate:` line: `1 1 udp 2130706431 ...`.
    pub candidates: &'a [String],
    /// Not used twice; at most 2^63 - 1 so that all read it.
    pub session: u64,
    /// What our SSRCs come from.
    pub seed: u64,
    /// The stream's name. Receivers find tracks that belong together by it.
    pub name: &'a str,
}

/// The answer to a publisher.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublishAnswer {
    /// What was agreed on.
    pub negotiated: Negotiated,
    /// The answer's text.
    pub text: String,
}

/// The answer to a receiver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlayAnswer {
    /// What was agreed on.
    pub negotiated: Negotiated,
    /// The answer's text.
    pub text: String,
    /// Tracks that are not sent.
    pub left_out: Vec<(TrackId, LeftOut)>,
}

/// Our number for SCTP (RFC 8841 section 5.1).
pub(super) const SCTP_PORT: u16 = 5000;
/// The largest data channel message that is taken, as browsers have it.
pub(super) const MESSAGE_BYTES_MAX: u64 = 262_144;

/// Takes all audio and video that an offer sends and that is known here: WHIP (RFC 9725).
pub fn answer_publish(
    offer: &Offer,
    preferences: &Preferences,
    facts: &Facts<'_>,
) -> Result<PublishAnswer, Problem> {
    let mut answer = Answer::new(offer, preferences);
    let mut refused: Option<Problem> = None;
    for section in &offer.sections {
        let verdict = match &section.content {
            Content::Media(media) if !section.rejected => match answer.receive(section, media) {
                Some(verdict) => verdict,
                None => {
                    refused = refused
                        .or_else(|| media.direction.sends().then(|| no_codec(section, media)));
                    Verdict::Rejected
                }
            },
            Content::Media(_) => Verdict::Rejected,
            Content::Data { .. } | Content::Other => answer.other(section),
        };
        answer.verdicts.push(verdict);
    }
    if answer.incoming.is_empty() {
        return Err(refused.unwrap_or(Problem::NothingSent));
    }
    let text = write_answer(offer, &answer.verdicts, facts);
    Ok(PublishAnswer {
        negotiated: answer.negotiated(facts),
        text,
    })
}

/// Sends tracks in the sections that receive: WHEP. The tracks come in the order of preference;
/// each section gets the first one of its kind that it can carry and that no earlier section has.
pub fn answer_play(
    offer: &Offer,
    tracks: &[Track],
    preferences: &Preferences,
    facts: &Facts<'_>,
) -> Result<PlayAnswer, Problem> {
    let mut answer = Answer::new(offer, preferences);
    let mut ssrcs = Ssrcs::new(offer, facts.seed);
    for section in &offer.sections {
        let verdict = match &section.content {
            Content::Media(media) if !section.rejected => {
                answer.send(section, media, tracks, &mut ssrcs)
            }
            Content::Media(_) => Verdict::Rejected,
            Content::Data { .. } | Content::Other => answer.other(section),
        };
        answer.verdicts.push(verdict);
    }
    let left_out: Vec<_> = tracks
        .iter()
        .filter(|track| answer.outgoing.iter().all(|out| out.track != track.id))
        .map(|track| (track.id, left_out(offer, track)))
        .collect();
    if answer.outgoing.is_empty() {
        return Err(Problem::NothingToSend(left_out));
    }
    let text = write_answer(offer, &answer.verdicts, facts);
    Ok(PlayAnswer {
        negotiated: answer.negotiated(facts),
        text,
        left_out,
    })
}

fn no_codec(section: &Section, media: &MediaContent) -> Problem {
    Problem::NoCodec {
        place: section.place.clone(),
        offered: media.names.clone(),
    }
}

/// Why a track went nowhere.
fn left_out(offer: &Offer, track: &Track) -> LeftOut {
    let codec = track.codec;
    if !is_sent(codec) {
        return LeftOut::NotByRtp(codec);
    }
    if has_too_many_channels(track) {
        return LeftOut::Channels(codec);
    }
    let sections: Vec<_> = offer
        .sections
        .iter()
        .filter(|section| !section.rejected)
        .filter_map(|section| match &section.content {
            Content::Media(media) => Some(media),
            Content::Data { .. } | Content::Other => None,
        })
        .filter(|media| media.kind == track.kind() && media.direction.receives())
        .collect();
    let of_codec = || {
        let formats = sections.iter().flat_map(|media| &media.formats);
        formats.filter(|format| format.codec == codec)
    };
    if sections.is_empty() {
        LeftOut::NoSection(codec)
    } else if of_codec().next().is_none() {
        LeftOut::NotOffered(codec)
    } else if of_codec().all(|format| misfit(track, format).is_none()) {
        LeftOut::Profile(codec)
    } else {
        LeftOut::NoSection(codec)
    }
}

fn has_too_many_channels(track: &Track) -> bool {
    let channels = track.audio.map_or(0, |audio| audio.channels);
    let most = match track.codec {
        Codec::Ulaw | Codec::Alaw | Codec::G722 => 1,
        Codec::H264
        | Codec::Hevc
        | Codec::Av1
        | Codec::Vp8
        | Codec::Vp9
        | Codec::Aac
        | Codec::Mp3
        | Codec::Opus
        | Codec::Flac
        | Codec::Ac3
        | Codec::Eac3 => 2,
    };
    track.kind() == Kind::Audio && channels > most
}

/// An answer while it is made.
struct Answer<'a> {
    offer: &'a Offer,
    preferences: &'a Preferences,
    verdicts: Vec<Verdict>,
    incoming: Vec<Incoming>,
    outgoing: Vec<Outgoing>,
    data: Option<super::DataSupport>,
    /// Formats of all sections so far: in a bundle a payload type means the same everywhere.
    taken: Vec<Format>,
    reduced_size: bool,
}

impl<'a> Answer<'a> {
    fn new(offer: &'a Offer, preferences: &'a Preferences) -> Self {
        Self {
            offer,
            preferences,
            verdicts: Vec::with_capacity(offer.sections.len()),
            incoming: Vec::new(),
            outgoing: Vec::new(),
            data: None,
            taken: Vec::new(),
            reduced_size: true,
        }
    }

    fn negotiated(self, facts: &Facts<'_>) -> Negotiated {
        let transport = &self.offer.transport;
        Negotiated {
            local: facts.credentials.clone(),
            remote: transport.credentials.clone(),
            fingerprints: transport.fingerprints.clone(),
            setup: transport.setup,
            incoming: self.incoming,
            outgoing: self.outgoing,
            data: self.data,
            rtcp_reduced_size: self.reduced_size,
            mixed_forms: self.offer.mixed_extensions,
        }
    }

    /// Data channels once, and nothing else.
    fn other(&mut self, section: &Section) -> Verdict {
        let wanted = self.preferences.data_channels && self.data.is_none() && !section.rejected;
        match section.content {
            Content::Data { support, old } if wanted => {
                self.data = Some(support);
                Verdict::Data { old }
            }
            Content::Data { .. } | Content::Media(_) | Content::Other => Verdict::Rejected,
        }
    }

    /// Formats whose numbers mean nothing else in an earlier section of the bundle.
    fn usable<'m>(&'m self, media: &'m MediaContent) -> impl Iterator<Item = &'m Format> {
        media.formats.iter().filter(|format| {
            !self.offer.bundled || self.taken.iter().all(|taken| agree(taken, format))
        })
    }

    /// A section that takes what the peer sends; `None` if no format is known.
    fn receive(&mut self, section: &Section, media: &MediaContent) -> Option<Verdict> {
        let mut formats: Vec<Format> = self.usable(media).cloned().collect();
        if formats.is_empty() {
            return None;
        }
        let order = &self.preferences.codecs;
        formats.sort_by_key(|format| {
            let place = order.iter().position(|codec| *codec == format.codec);
            place.unwrap_or(order.len())
        });
        if !media.direction.sends() {
            return Some(idle(media, formats));
        }
        if self.preferences.stereo {
            formats.iter_mut().for_each(ask_for_stereo);
        }
        let extensions = self.extensions(media, Direction::Send, |extension| {
            extension != Extension::VideoOrientation || self.preferences.orientation
        });
        self.reduced_size &= media.rtcp_reduced_size;
        self.taken.extend(formats.iter().cloned());
        self.incoming.push(Incoming {
            mid: section.mid().to_owned(),
            kind: media.kind,
            formats: formats.clone(),
            streams: media.streams.clone(),
            rids: media.rids.clone(),
            extensions: map(&extensions),
        });
        Some(Verdict::Media {
            direction: Direction::Receive,
            formats,
            extensions,
            rids: media.rids.clone(),
            sent: None,
        })
    }

    /// A section that carries the first track that it can; an idle one if there is none.
    fn send(
        &mut self,
        section: &Section,
        media: &MediaContent,
        tracks: &[Track],
        ssrcs: &mut Ssrcs,
    ) -> Verdict {
        let chosen = tracks
            .iter()
            .filter(|track| media.direction.receives() && track.kind() == media.kind)
            .filter(|track| self.outgoing.iter().all(|out| out.track != track.id))
            .find_map(|track| Some((track, self.best_format(media, track)?)));
        let Some((track, format)) = chosen else {
            let formats: Vec<_> = self.usable(media).cloned().collect();
            return match formats.is_empty() {
                true => Verdict::Rejected,
                false => idle(media, formats),
            };
        };
        let transport_cc = self.preferences.transport_cc;
        let extensions = self.extensions(media, Direction::Receive, |extension| match extension {
            Extension::Mid
            | Extension::AbsSendTime
            | Extension::AbsCaptureTime
            | Extension::PlayoutDelay
            | Extension::VideoOrientation => true,
            Extension::TransportCc => transport_cc,
            Extension::AudioLevel => media.kind == Kind::Audio,
            Extension::DependencyDescriptor => format.codec == Codec::Av1,
            // Layers are ours to choose; a receiver gets one stream.
            Extension::Rid | Extension::RepairedRid => false,
        });
        let stream = Stream {
            ssrc: ssrcs.next(),
            rtx_ssrc: format.rtx.map(|_| ssrcs.next()),
        };
        self.reduced_size &= media.rtcp_reduced_size;
        self.taken.push(format.clone());
        self.outgoing.push(Outgoing {
            mid: section.mid().to_owned(),
            track: track.id,
            kind: media.kind,
            format: format.clone(),
            stream,
            extensions: map(&extensions),
        });
        Verdict::Media {
            direction: Direction::Send,
            formats: vec![format],
            extensions,
            rids: Vec::new(),
            sent: Some((track.id, stream)),
        }
    }

    fn best_format(&self, media: &MediaContent, track: &Track) -> Option<Format> {
        if has_too_many_channels(track) {
            return None;
        }
        let (_, format) = self
            .usable(media)
            .filter(|format| format.codec == track.codec)
            .filter_map(|format| Some((misfit(track, format)?, format)))
            .min_by_key(|(misfit, _)| *misfit)?;
        let mut format = format.clone();
        // A retransmission is answered to a NACK only.
        format.rtx = format.rtx.filter(|_| format.nack);
        // It costs twice the bytes: for those who want it more than the plain form.
        format.red = format.red.filter(|red| red.is_preferred);
        format.transport_cc &= self.preferences.transport_cc;
        let stereo = track.audio.is_some_and(|audio| audio.channels == 2);
        if format.codec == Codec::Opus && stereo {
            add_parameter(&mut format, "sprop-stereo", "1");
            add_parameter(&mut format, "stereo", "1");
        }
        Some(format)
    }

    /// Extensions that go in the direction that `peer` has, each number and each name once.
    fn extensions(
        &self,
        media: &MediaContent,
        peer: Direction,
        wanted: impl Fn(Extension) -> bool,
    ) -> Vec<OfferedExtension> {
        let mut chosen: Vec<OfferedExtension> = Vec::new();
        for offered in &media.extensions {
            let goes = match offered.direction {
                None | Some(Direction::SendReceive) => true,
                Some(direction) => direction == peer,
            };
            let taken = |known: &OfferedExtension| {
                known.id == offered.id || known.extension == offered.extension
            };
            if goes && wanted(offered.extension) && !chosen.iter().any(taken) {
                chosen.push(*offered);
            }
        }
        chosen
    }
}

/// A section that stays in the bundle and carries nothing.
fn idle(media: &MediaContent, formats: Vec<Format>) -> Verdict {
    Verdict::Media {
        direction: Direction::Inactive,
        formats,
        extensions: media
            .extensions
            .iter()
            .filter(|offered| offered.extension == Extension::Mid)
            .take(1)
            .copied()
            .collect(),
        rids: Vec::new(),
        sent: None,
    }
}

/// Whether two formats can be in one bundle (RFC 9143 section 10.1.1).
fn agree(one: &Format, other: &Format) -> bool {
    let red = |format: &Format| format.red.map(|red| red.payload_type);
    let numbers = |format: &Format| [Some(format.payload_type), format.rtx, red(format)];
    let same = one.payload_type == other.payload_type
        && one.codec == other.codec
        && one.rtx == other.rtx
        && red(one) == red(other);
    let apart = numbers(one)
        .iter()
        .flatten()
        .all(|number| !numbers(other).contains(&Some(*number)));
    same || apart
}

fn ask_for_stereo(format: &mut Format) {
    if format.codec == Codec::Opus {
        add_parameter(format, "stereo", "1");
    }
}

fn add_parameter(format: &mut Format, name: &str, value: &str) {
    if parameter(&format.parameters, name).is_some() {
        return;
    }
    if !format.parameters.is_empty() {
        format.parameters.push(';');
    }
    format.parameters.push_str(name);
    format.parameters.push('=');
    format.parameters.push_str(value);
}

fn map(extensions: &[OfferedExtension]) -> ExtensionMap {
    let mut map = ExtensionMap::default();
    for chosen in extensions {
        map.set(chosen.extension, chosen.id);
    }
    map
}

/// Our SSRCs: none twice, none that the peer has.
struct Ssrcs {
    prng: Prng,
    used: BTreeSet<u32>,
}

impl Ssrcs {
    fn new(offer: &Offer, seed: u64) -> Self {
        let mut used = BTreeSet::from([0]);
        for section in &offer.sections {
            if let Content::Media(media) = &section.content {
                used.extend(&media.ssrcs);
            }
        }
        let prng = Prng::new(seed);
        Self { prng, used }
    }

    fn next(&mut self) -> u32 {
        loop {
            let ssrc = self.prng.next_u64() as u32;
            if self.used.insert(ssrc) {
                return ssrc;
            }
        }
    }
}

impl Setup {
    /// Our role as an answer says it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Passive => "passive",
            Self::Active => "active",
        }
    }
}

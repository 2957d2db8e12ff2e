//! What a peer offers: its transport and its media sections.

use std::collections::BTreeSet;

use crate::media::Kind;
use crate::proto::ice::Credentials;
use crate::proto::rtp::Extension;
use crate::proto::sdp::{Attributes, Description, Limits, Media};

use super::formats::{offered_formats, offered_names};
use super::problem::quoted;
use super::{DataSupport, Fingerprint, Format, Place, Problem, Setup, Stream};

/// Streams of one section that are remembered: three layers with repair, twice.
const STREAMS_MAX: usize = 12;
/// Simulcast layers of one section; browsers send three.
const RIDS_MAX: usize = 4;
/// SCTP's port where the offer names none (RFC 8841 section 5.1 has no default; all use this one).
const SCTP_PORT: u64 = 5000;
/// What a peer takes if it does not say (RFC 8841 section 6).
const MESSAGE_BYTES_DEFAULT: u64 = 65_536;

/// An offer that can be answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// How the peer is reached: of the first section, which carries the others.
    pub(super) transport: Transport,
    /// It has a BUNDLE group.
    pub(super) bundled: bool,
    /// Tags of the sections in that group.
    pub(super) bundle: BTreeSet<String>,
    /// One-byte and two-byte header extensions may be mixed in all sections (RFC 8285).
    pub(super) mixed_extensions: bool,
    pub(super) sections: Vec<Section>,
}

/// How the peer is reached and known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Transport {
    pub(super) credentials: Credentials,
    pub(super) fingerprints: Vec<Fingerprint>,
    /// Our role.
    pub(super) setup: Setup,
}

/// A media section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Section {
    pub(super) place: Place,
    pub(super) protocol: String,
    /// The formats as written.
    pub(super) formats: Vec<String>,
    /// The peer rejected it, or it would need a transport of its own.
    pub(super) rejected: bool,
    pub(super) content: Content,
}

impl Section {
    pub(super) fn mid(&self) -> &str {
        &self.place.mid
    }
}

/// What a section is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Content {
    Media(MediaContent),
    Data {
        support: DataSupport,
        /// The form before RFC 8841, where the format is the port.
        old: bool,
    },
    Other,
}

/// Audio or video.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct MediaContent {
    pub(super) kind: Kind,
    pub(super) direction: Direction,
    /// Formats that are known here, in the offer's order.
    pub(super) formats: Vec<Format>,
    /// Names of all of its codecs, for a problem's text.
    pub(super) names: String,
    pub(super) extensions: Vec<OfferedExtension>,
    pub(super) mixed_extensions: bool,
    pub(super) streams: Vec<Stream>,
    /// All SSRCs, so that ours differ.
    pub(super) ssrcs: Vec<u32>,
    pub(super) rids: Vec<String>,
    pub(super) rtcp_reduced_size: bool,
    /// `a=x-google-flag:conference`: legacy simulcast of a screen is sent only if it is answered.
    pub(super) conference: bool,
}

/// A header extension that is known here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OfferedExtension {
    pub(super) id: u8,
    pub(super) extension: Extension,
    /// As the offer has it; `None` without one, which means both.
    pub(super) direction: Option<Direction>,
}

/// Who sends, as the side that says it sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    SendReceive,
    Send,
    Receive,
    Inactive,
}

impl Direction {
    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::SendReceive, Self::Send, Self::Receive, Self::Inactive]
            .into_iter()
            .find(|direction| text.eq_ignore_ascii_case(direction.text()))
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::SendReceive => "sendrecv",
            Self::Send => "sendonly",
            Self::Receive => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    pub(super) fn sends(self) -> bool {
        matches!(self, Self::SendReceive | Self::Send)
    }

    pub(super) fn receives(self) -> bool {
        matches!(self, Self::SendReceive | Self::Receive)
    }

    /// As the other side sees it.
    pub(super) fn reversed(self) -> Self {
        match self {
            Self::Send => Self::Receive,
            Self::Receive => Self::Send,
            Self::SendReceive | Self::Inactive => self,
        }
    }
}

impl Offer {
    /// Reads an offer.
    pub fn parse(text: &[u8], limits: &Limits) -> Result<Self, Problem> {
        let description = Description::parse(text, limits)?;
        if description.media.is_empty() {
            return Err(Problem::NoMedia);
        }
        let session = &description.attributes;
        let groups = session.values("group");
        // OBS has `group:LS` beside the group that counts (quirk 12).
        let bundle = groups.filter_map(|group| group.strip_prefix("BUNDLE"));
        let bundles: Vec<_> = bundle.collect();
        let mut offer = Self {
            transport: transport(session, &description.media)?,
            bundled: !bundles.is_empty(),
            bundle: bundles
                .iter()
                .flat_map(|mids| mids.split_ascii_whitespace())
                .map(str::to_owned)
                .collect(),
            mixed_extensions: session.has("extmap-allow-mixed"),
            sections: Vec::with_capacity(description.media.len()),
        };
        let mut mids = BTreeSet::new();
        for (index, media) in description.media.iter().enumerate() {
            let section = offer.section(session, media, place(index, media))?;
            if !section.mid().is_empty() && !mids.insert(section.mid().to_owned()) {
                return Err(Problem::MidTwice(section.place));
            }
            offer.sections.push(section);
        }
        Ok(offer)
    }

    /// The peer sends media, or would.
    pub fn sends(&self) -> bool {
        self.sections.iter().any(|section| match &section.content {
            Content::Media(media) => !section.rejected && media.direction == Direction::Send,
            Content::Data { .. } | Content::Other => false,
        })
    }

    /// The peer's ICE credentials.
    pub fn credentials(&self) -> &Credentials {
        &self.transport.credentials
    }

    fn section(
        &self,
        session: &Attributes<'_>,
        media: &Media<'_>,
        place: Place,
    ) -> Result<Section, Problem> {
        let in_bundle = self.bundled && self.bundle.contains(&place.mid);
        // There is one transport. Without a bundle a section can share it if it says the same.
        let ufrag = attribute(session, media, "ice-ufrag");
        let elsewhere =
            !in_bundle && ufrag.is_some_and(|ufrag| ufrag != self.transport.credentials.ufrag);
        let rejected = is_rejected(media) || elsewhere;
        let content = match media.kind {
            "audio" if by_rtp(media) => self.media_content(session, media, Kind::Audio),
            "video" if by_rtp(media) => self.media_content(session, media, Kind::Video),
            "application" => data_content(media),
            _ => Content::Other,
        };
        let muxed = media.attributes.has("rtcp-mux") || media.attributes.has("bundle-only");
        if !muxed && !rejected && matches!(content, Content::Media(_)) {
            let attribute = "rtcp-mux";
            return Err(Problem::Missing { place, attribute });
        }
        Ok(Section {
            place,
            protocol: media.protocol.to_owned(),
            formats: media.formats.iter().map(|&f| f.to_owned()).collect(),
            rejected,
            content,
        })
    }

    fn media_content(&self, session: &Attributes<'_>, media: &Media<'_>, kind: Kind) -> Content {
        let attributes = &media.attributes;
        let direction = |attributes: &Attributes<'_>| {
            attributes
                .iter()
                .find_map(|attribute| Direction::parse(attribute.name))
        };
        let mixed_extensions = attributes.has("extmap-allow-mixed");
        let two_bytes = mixed_extensions || self.mixed_extensions;
        let (streams, ssrcs) = streams(attributes);
        Content::Media(MediaContent {
            kind,
            direction: direction(attributes)
                .or_else(|| direction(session))
                .unwrap_or(Direction::SendReceive),
            formats: offered_formats(media, kind),
            names: quoted(&offered_names(media)),
            extensions: attributes
                .values("extmap")
                .filter_map(|value| extension(value, two_bytes))
                .collect(),
            mixed_extensions,
            streams,
            ssrcs,
            rids: rids(attributes),
            rtcp_reduced_size: attributes.has("rtcp-rsize"),
            conference: attributes.value("x-google-flag") == Some("conference"),
        })
    }
}

fn place(index: usize, media: &Media<'_>) -> Place {
    Place {
        number: index + 1,
        kind: media.kind.to_owned(),
        mid: media.attributes.value("mid").unwrap_or("").to_owned(),
    }
}

/// Port 0 is a rejection, except where the section is for a bundle only (RFC 9143 section 6).
fn is_rejected(media: &Media<'_>) -> bool {
    media.port == 0 && !media.attributes.has("bundle-only")
}

/// `UDP/TLS/RTP/SAVPF` and what senders write for it (RFC 8829 section 5.1.2).
fn by_rtp(media: &Media<'_>) -> bool {
    let known = [
        "UDP/TLS/RTP/SAVPF",
        "UDP/TLS/RTP/SAVP",
        "TCP/DTLS/RTP/SAVPF",
        "TCP/DTLS/RTP/SAVP",
        "TCP/TLS/RTP/SAVPF",
        "RTP/SAVPF",
        "RTP/SAVP",
        "RTP/AVPF",
        "RTP/AVP",
    ];
    known.contains(&media.protocol)
}

/// Of the section, else of the session: OBS writes the transport there (quirk 12).
fn attribute<'a>(session: &Attributes<'a>, media: &Media<'a>, name: &str) -> Option<&'a str> {
    media.attributes.value(name).or_else(|| session.value(name))
}

/// The transport of the first section that is not rejected and has one.
fn transport(session: &Attributes<'_>, sections: &[Media<'_>]) -> Result<Transport, Problem> {
    let live = || {
        sections
            .iter()
            .enumerate()
            .filter(|(_, media)| !is_rejected(media))
    };
    let (index, media) = live()
        .find(|(_, media)| attribute(session, media, "ice-ufrag").is_some())
        .or_else(|| live().next())
        .ok_or(Problem::NoMedia)?;
    let missing = |attribute| Problem::Missing {
        place: place(index, media),
        attribute,
    };
    let malformed = |attribute| Problem::Malformed {
        place: place(index, media),
        attribute,
    };
    let text = |name, lengths: std::ops::RangeInclusive<usize>| {
        let text = attribute(session, media, name).ok_or_else(|| missing(name))?;
        // More than `ice-char`s are let through: the text is compared, and nothing else.
        let fits = lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| text.to_owned()).ok_or_else(|| malformed(name))
    };
    let credentials = Credentials {
        ufrag: text("ice-ufrag", 4..=256)?,
        password: text("ice-pwd", 22..=256)?,
    };
    let mut values: Vec<_> = media.attributes.values("fingerprint").collect();
    if values.is_empty() {
        values = session.values("fingerprint").collect();
    }
    let fingerprints: Vec<_> = values
        .iter()
        .filter_map(|value| Fingerprint::parse(value))
        .take(FINGERPRINTS_MAX)
        .collect();
    if fingerprints.is_empty() {
        return Err(match values.is_empty() {
            true => missing("fingerprint"),
            false => malformed("fingerprint"),
        });
    }
    let setup = match attribute(session, media, "setup") {
        Some("passive") => Setup::Active,
        // FFmpeg's first versions say `active` (quirk 16); RFC 4145 section 4 takes silence for it.
        Some("actpass" | "active") | None => Setup::Passive,
        Some(_) => return Err(malformed("setup")),
    };
    Ok(Transport {
        credentials,
        fingerprints,
        setup,
    })
}

/// A certificate has one for each hash.
const FINGERPRINTS_MAX: usize = 8;

impl Fingerprint {
    /// Reads `sha-256 AB:CD:...`; `None` for hashes that are too weak and for those that are not
    /// of their length.
    pub fn parse(value: &str) -> Option<Self> {
        let (algorithm, digits) = value.split_once(' ')?;
        let algorithm = algorithm.to_ascii_lowercase();
        let length = match algorithm.as_str() {
            "sha-256" => 32,
            "sha-384" => 48,
            "sha-512" => 64,
            _ => return None,
        };
        let byte = |pair: &str| match pair.len() {
            2 => u8::from_str_radix(pair, 16).ok(),
            _ => None,
        };
        let bytes: Vec<u8> = digits.trim().split(':').map(byte).collect::<Option<_>>()?;
        (bytes.len() == length).then_some(Self { algorithm, bytes })
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.algorithm)?;
        for (index, byte) in self.bytes.iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

fn data_content(media: &Media<'_>) -> Content {
    let number = |name| media.attributes.value(name).and_then(|v| v.parse().ok());
    let format = media.formats.first().copied().unwrap_or("");
    let (port, old) = match media.protocol {
        "UDP/DTLS/SCTP" | "TCP/DTLS/SCTP" if format == "webrtc-datachannel" => {
            (number("sctp-port").unwrap_or(SCTP_PORT), false)
        }
        "DTLS/SCTP" => match format.parse() {
            Ok(port) => (port, true),
            Err(_) => return Content::Other,
        },
        _ => return Content::Other,
    };
    let Ok(port) = u16::try_from(port) else {
        return Content::Other;
    };
    let support = DataSupport {
        port,
        message_bytes_max: number("max-message-size").unwrap_or(MESSAGE_BYTES_DEFAULT),
    };
    Content::Data { support, old }
}

/// `ID[/DIRECTION] URI [ATTRIBUTES]` (RFC 8285 section 5).
fn extension(value: &str, two_bytes: bool) -> Option<OfferedExtension> {
    let mut words = value.split_ascii_whitespace();
    let (id, direction) = match words.next()?.split_once('/') {
        Some((id, direction)) => (id, Some(Direction::parse(direction)?)),
        None => (value.split_ascii_whitespace().next()?, None),
    };
    let id = id.parse().ok()?;
    let uri = words.next()?;
    let extension = Extension::ALL
        .into_iter()
        .find(|known| known.uri() == uri)?;
    // 15 has no meaning in the one-byte form, and none but that form is sure to be read.
    let usable = (1..=14).contains(&id) || (two_bytes && id > 15);
    usable.then_some(OfferedExtension {
        id,
        extension,
        direction,
    })
}

/// Streams named by SSRC, and all SSRCs. Layers of SSRC simulcast come in the order of their
/// `SIM` group.
fn streams(attributes: &Attributes<'_>) -> (Vec<Stream>, Vec<u32>) {
    let mut named: Vec<u32> = Vec::new();
    for value in attributes.values("ssrc") {
        let ssrc = value.split(' ').next().and_then(|ssrc| ssrc.parse().ok());
        let Some(ssrc) = ssrc.filter(|ssrc| !named.contains(ssrc)) else {
            continue;
        };
        if named.len() < 2 * STREAMS_MAX {
            named.push(ssrc);
        }
    }
    let group = |semantics: &'static str| {
        attributes.values("ssrc-group").filter_map(move |value| {
            let mut words = value.split_ascii_whitespace();
            (words.next()? == semantics).then(|| {
                words
                    .map_while(|ssrc| ssrc.parse().ok())
                    .collect::<Vec<u32>>()
            })
        })
    };
    let pairs: Vec<(u32, u32)> = group("FID")
        .filter_map(|group| Some((*group.first()?, *group.get(1)?)))
        .take(STREAMS_MAX)
        .collect();
    let simulcast: Vec<u32> = group("SIM").next().unwrap_or_default();
    // A sender may name streams in groups only.
    for ssrc in simulcast.iter().chain(pairs.iter().map(|(ssrc, _)| ssrc)) {
        if !named.contains(ssrc) && named.len() < 2 * STREAMS_MAX {
            named.push(*ssrc);
        }
    }
    let is_repair = |ssrc: u32| pairs.iter().any(|(_, repair)| *repair == ssrc);
    let mut media: Vec<u32> = named.iter().copied().filter(|s| !is_repair(*s)).collect();
    media.sort_by_key(|ssrc| {
        simulcast
            .iter()
            .position(|s| s == ssrc)
            .unwrap_or(usize::MAX)
    });
    media.truncate(STREAMS_MAX);
    let streams = media
        .iter()
        .map(|&ssrc| Stream {
            ssrc,
            rtx_ssrc: pairs.iter().find(|(s, _)| *s == ssrc).map(|(_, rtx)| *rtx),
        })
        .collect();
    named.extend(pairs.iter().map(|(_, repair)| *repair));
    (streams, named)
}

/// Layers that the peer sends (RFC 8853): `a=simulcast:send h;m,~x;l`, with `a=rid:h send` each.
fn rids(attributes: &Attributes<'_>) -> Vec<String> {
    let declared: Vec<&str> = attributes
        .values("rid")
        .filter_map(|value| {
            let mut words = value.split_ascii_whitespace();
            let id = words.next()?;
            (words.next()? == "send").then_some(id)
        })
        .take(2 * RIDS_MAX)
        .collect();
    let Some(simulcast) = attributes.value("simulcast") else {
        return Vec::new();
    };
    let mut words = simulcast.split_ascii_whitespace();
    let Some(layers) = words
        .find(|word| *word == "send")
        .and_then(|_| words.next())
    else {
        return Vec::new();
    };
    // The form before RFC 8853, in Firefox: `send rid=h;m`.
    let layers = layers.strip_prefix("rid=").unwrap_or(layers);
    let mut rids: Vec<String> = Vec::new();
    for layer in layers.split(';') {
        // Of alternatives the first is taken; a tilde marks a layer that starts paused.
        let id = layer
            .split(',')
            .next()
            .unwrap_or("")
            .trim_start_matches('~');
        let known = declared.contains(&id) && !rids.iter().any(|rid| rid == id);
        if known && rids.len() < RIDS_MAX {
            rids.push(id.to_owned());
        }
    }
    rids
}

//! An answer as text.

use std::fmt::Write;

use crate::base::ids::TrackId;
use crate::media::Kind;

use super::answer::{MESSAGE_BYTES_MAX, SCTP_PORT};
use super::formats::write_format;
use super::offer::{Content, Direction, Offer, OfferedExtension, Section};
use super::{Facts, Format, Stream};

/// What becomes of a section of an offer.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// Port 0.
    Rejected,
    /// Audio or video.
    Media {
        /// As we see it.
        direction: Direction,
        formats: Vec<Format>,
        extensions: Vec<OfferedExtension>,
        /// Layers that are taken.
        rids: Vec<String>,
        /// What we send.
        sent: Option<(TrackId, Stream)>,
    },
    /// Data channels.
    Data { old: bool },
}

/// Writes an answer: one section for each of the offer's, in its order (RFC 3264 section 6).
pub(super) fn write_answer(offer: &Offer, verdicts: &[Verdict], facts: &Facts<'_>) -> String {
    let mut out = String::with_capacity(1024 * (1 + verdicts.len()));
    let session = facts.session;
    // Candidates and host addresses are not repeated in `o=`: RFC 8829 section 5.2.1.
    let _ = write!(
        out,
        "v=0\r\no=- {session} 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
    );
    let sections = || offer.sections.iter().zip(verdicts);
    if offer.bundled {
        out.push_str("a=group:BUNDLE");
        for (section, verdict) in sections() {
            let bundled = offer.bundle.contains(section.mid());
            if bundled && !matches!(verdict, Verdict::Rejected) {
                let _ = write!(out, " {}", section.mid());
            }
        }
        out.push_str("\r\n");
    }
    if offer.mixed_extensions {
        out.push_str("a=extmap-allow-mixed\r\n");
    }
    // `ice2` has the peer nominate as RFC 8445 says, once, and not at every check (quirk 22).
    out.push_str("a=msid-semantic:WMS *\r\na=ice-lite\r\na=ice-options:ice2 trickle\r\n");
    let mut first = true;
    for (section, verdict) in sections() {
        write_section(&mut out, offer, section, verdict, facts, first);
        // Sections of a bundle after its first one have that one's candidates.
        first &= matches!(verdict, Verdict::Rejected) || !offer.bundled;
    }
    out
}

fn write_section(
    out: &mut String,
    offer: &Offer,
    section: &Section,
    verdict: &Verdict,
    facts: &Facts<'_>,
    with_candidates: bool,
) {
    let (kind, protocol) = (&section.place.kind, &section.protocol);
    let port = if matches!(verdict, Verdict::Rejected) {
        0
    } else {
        9
    };
    let _ = write!(out, "m={kind} {port} {protocol}");
    match verdict {
        Verdict::Media { formats, .. } => {
            for format in formats {
                let red = |preferred| {
                    let red = format.red.filter(|red| red.is_preferred == preferred);
                    red.map(|red| red.payload_type)
                };
                for number in [red(true), Some(format.payload_type), red(false)] {
                    let _ = number.map(|number| write!(out, " {number}"));
                }
            }
            for rtx in formats.iter().filter_map(|format| format.rtx) {
                let _ = write!(out, " {rtx}");
            }
        }
        Verdict::Data { old: true } => {
            let _ = write!(out, " {SCTP_PORT}");
        }
        Verdict::Data { old: false } => out.push_str(" webrtc-datachannel"),
        // RFC 3264 section 6: a rejected section still has a format.
        Verdict::Rejected if section.formats.is_empty() => out.push_str(" 0"),
        Verdict::Rejected => section.formats.iter().for_each(|format| {
            let _ = write!(out, " {format}");
        }),
    }
    // In each section: Chromium takes no `c=` line for all of them (quirk 27).
    out.push_str("\r\nc=IN IP4 0.0.0.0\r\n");
    if matches!(verdict, Verdict::Rejected) {
        write_mid(out, section);
        out.push_str("a=inactive\r\n");
        return;
    }
    write_transport(out, offer, facts, with_candidates);
    write_mid(out, section);
    match verdict {
        Verdict::Media { .. } => write_media(out, section, verdict, facts),
        Verdict::Data { old: true } => {
            let _ = write!(
                out,
                "a=sctpmap:{SCTP_PORT} webrtc-datachannel 1024\r\na=max-message-size:{MESSAGE_BYTES_MAX}\r\n"
            );
        }
        Verdict::Data { old: false } => {
            let _ = write!(
                out,
                "a=sctp-port:{SCTP_PORT}\r\na=max-message-size:{MESSAGE_BYTES_MAX}\r\n"
            );
        }
        Verdict::Rejected => {}
    }
}

fn write_mid(out: &mut String, section: &Section) {
    if !section.mid().is_empty() {
        let _ = write!(out, "a=mid:{}\r\n", section.mid());
    }
}

/// In all sections, because some peers read them in their own section only; they are the same.
fn write_transport(out: &mut String, offer: &Offer, facts: &Facts<'_>, with_candidates: bool) {
    if with_candidates {
        for candidate in facts.candidates {
            let _ = write!(out, "a=candidate:{candidate}\r\n");
        }
        out.push_str("a=end-of-candidates\r\n");
    }
    let _ = write!(
        out,
        "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:{}\r\na=setup:{}\r\n",
        facts.credentials.ufrag,
        facts.credentials.password,
        facts.fingerprint,
        offer.transport.setup.text(),
    );
}

fn write_media(out: &mut String, section: &Section, verdict: &Verdict, facts: &Facts<'_>) {
    let Verdict::Media {
        direction,
        formats,
        extensions,
        rids,
        sent,
    } = verdict
    else {
        return;
    };
    let Content::Media(media) = &section.content else {
        return;
    };
    if media.mixed_extensions {
        out.push_str("a=extmap-allow-mixed\r\n");
    }
    for chosen in extensions {
        let _ = write!(out, "a=extmap:{}", chosen.id);
        if let Some(direction) = chosen.direction {
            let _ = write!(out, "/{}", direction.reversed().text());
        }
        let _ = write!(out, " {}\r\n", chosen.extension.uri());
    }
    let _ = write!(out, "a={}\r\n", direction.text());
    let stream = stream_name(facts.name);
    let track = |id: TrackId| match media.kind {
        Kind::Video => format!("video{id}"),
        Kind::Audio => format!("audio{id}"),
    };
    // Players take the stream of the `track` event: a track without one has none there.
    if let Some((id, _)) = sent {
        let _ = write!(out, "a=msid:{stream} {}\r\n", track(*id));
    }
    out.push_str("a=rtcp-mux\r\n");
    if media.rtcp_reduced_size {
        out.push_str("a=rtcp-rsize\r\n");
    }
    for format in formats {
        write_format(out, format);
    }
    for rid in rids {
        let _ = write!(out, "a=rid:{rid} recv\r\n");
    }
    if !rids.is_empty() {
        let _ = write!(out, "a=simulcast:recv {}\r\n", rids.join(";"));
    }
    if media.conference {
        out.push_str("a=x-google-flag:conference\r\n");
    }
    if let Some((id, streams)) = sent {
        let Stream { ssrc, rtx_ssrc } = streams;
        if let Some(rtx) = rtx_ssrc {
            let _ = write!(out, "a=ssrc-group:FID {ssrc} {rtx}\r\n");
        }
        for ssrc in [Some(*ssrc), *rtx_ssrc].into_iter().flatten() {
            let track = track(*id);
            let _ = write!(
                out,
                "a=ssrc:{ssrc} cname:{stream}\r\na=ssrc:{ssrc} msid:{stream} {track}\r\n"
            );
        }
    }
}

/// At most 64 characters that a `token` may have (RFC 8866 section 9).
fn stream_name(name: &str) -> String {
    const CHARS_MAX: usize = 64;
    let token = |c: &char| c.is_ascii_alphanumeric() || "+-._".contains(*c);
    let name: String = name.chars().filter(token).take(CHARS_MAX).collect();
    match name.is_empty() {
        true => "ringside".to_owned(),
        false => name,
    }
}

//! The offers of a browser, as far as this side needs them, and the answers to them.

use std::fmt::Write;
use std::net::SocketAddr;

use anyhow::{Context, bail};
use ringside::proto::dtls::Fingerprint;
use ringside::proto::ice::{Candidate, Credentials, Transport};

use super::media::Codec;

pub(super) const VIDEO: u8 = 102;
pub(super) const REPAIR: u8 = 103;
pub(super) const AUDIO: u8 = 111;

/// Numbers of header extensions.
pub(super) const ABS_SEND_TIME: u8 = 2;
pub(super) const MID: u8 = 9;

/// Tags of the sections.
pub(super) const VIDEO_MID: &str = "0";
pub(super) const AUDIO_MID: &str = "1";

/// What is asked for, or sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub(super) codec: Codec,
    pub(super) video: bool,
    pub(super) audio: bool,
}

/// The sources of a publisher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sources {
    pub(super) video: u32,
    pub(super) repair: u32,
    pub(super) audio: u32,
}

/// An offer; of a publisher if it has sources.
pub(super) fn offer(
    wanted: Wanted,
    sources: Option<Sources>,
    local: &Credentials,
    fingerprint: &str,
) -> String {
    let mut mids = Vec::new();
    if wanted.video {
        mids.push(VIDEO_MID);
    }
    if wanted.audio {
        mids.push(AUDIO_MID);
    }
    let mut out = format!(
        "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
         a=group:BUNDLE {}\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n",
        mids.join(" ")
    );
    let direction = if sources.is_some() {
        "sendonly"
    } else {
        "recvonly"
    };
    let mut section = |kind: &str, formats: &str, mid: &str, rest: &str| {
        let _ = write!(
            out,
            "m={kind} 9 UDP/TLS/RTP/SAVPF {formats}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
             a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=ice-options:trickle\r\n\
             a=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\na=mid:{mid}\r\n\
             a=extmap:{ABS_SEND_TIME} http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r\n\
             a=extmap:{MID} urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
             a={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n{rest}",
            local.ufrag, local.password
        );
    };
    if wanted.video {
        let mut rest = format!(
            "a=rtpmap:{VIDEO} {}/90000\r\na=rtcp-fb:{VIDEO} ccm fir\r\na=rtcp-fb:{VIDEO} nack\r\n\
             a=rtcp-fb:{VIDEO} nack pli\r\n",
            wanted.codec.name()
        );
        if wanted.codec == Codec::H264 {
            let _ = write!(
                rest,
                "a=fmtp:{VIDEO} level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n"
            );
        }
        let _ = write!(
            rest,
            "a=rtpmap:{REPAIR} rtx/90000\r\na=fmtp:{REPAIR} apt={VIDEO}\r\n"
        );
        if let Some(Sources { video, repair, .. }) = sources {
            let _ = write!(
                rest,
                "a=ssrc-group:FID {video} {repair}\r\na=ssrc:{video} cname:load\r\na=ssrc:{repair} cname:load\r\n"
            );
        }
        section("video", &format!("{VIDEO} {REPAIR}"), VIDEO_MID, &rest);
    }
    if wanted.audio {
        let mut rest = format!(
            "a=rtpmap:{AUDIO} opus/48000/2\r\na=fmtp:{AUDIO} minptime=10;useinbandfec=1\r\n"
        );
        if let Some(Sources { audio, .. }) = sources {
            let _ = write!(rest, "a=ssrc:{audio} cname:load\r\n");
        }
        section("audio", &AUDIO.to_string(), AUDIO_MID, &rest);
    }
    out
}

/// What an answer says of its transport.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(crate) remote: Credentials,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) address: SocketAddr,
}

/// A certificate's hash as signalling has it: `AB:CD:...`.
pub(crate) fn fingerprint(algorithm: &str, hash: &str) -> anyhow::Result<Fingerprint> {
    let bytes = hash
        .split(':')
        .map(|pair| u8::from_str_radix(pair, 16))
        .collect::<Result<Vec<u8>, _>>()?;
    Fingerprint::new(algorithm, &bytes).context("an unknown hash")
}

/// Reads an answer. Of its addresses the one of `server` is taken, or else the first.
pub(super) fn answer(text: &str, server: SocketAddr) -> anyhow::Result<Answer> {
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix("a=")?.strip_prefix(name))
            .with_context(|| format!("the answer has no {name}"))
    };
    let remote = Credentials {
        ufrag: value("ice-ufrag:")?.to_owned(),
        password: value("ice-pwd:")?.to_owned(),
    };
    if value("setup:")? != "passive" {
        bail!("the server wants to begin the handshake");
    }
    let (algorithm, hash) = value("fingerprint:")?
        .split_once(' ')
        .context("half a fingerprint")?;
    let fingerprint = fingerprint(algorithm, hash)?;
    let addresses: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| Candidate::parse(line.strip_prefix("a=candidate:")?))
        .filter(|candidate| candidate.transport == Transport::Udp)
        .map(|candidate| candidate.address)
        .collect();
    let same = addresses
        .iter()
        .find(|address| address.ip() == server.ip())
        .copied();
    // On the loopback a server answers that announces other addresses of its machine.
    let near = addresses.first().map(|first| {
        if server.ip().is_loopback() {
            SocketAddr::new(server.ip(), first.port())
        } else {
            *first
        }
    });
    Ok(Answer {
        remote,
        fingerprint,
        address: same.or(near).context("the answer has no address")?,
    })
}

#[cfg(test)]
mod tests {
    use ringside::proto::sdp::Limits;
    use ringside::proto::webrtc::Offer;

    use super::*;

    fn local() -> Credentials {
        Credentials {
            ufrag: "abcd".to_owned(),
            password: "0123456789012345678901".to_owned(),
        }
    }

    #[test]
    fn offers_are_what_the_server_reads() {
        let wanted = Wanted {
            codec: Codec::H264,
            video: true,
            audio: true,
        };
        let fingerprint = ["AB"; 32].join(":");
        let read = |sources| {
            let text = offer(wanted, sources, &local(), &fingerprint);
            Offer::parse(text.as_bytes(), &Limits::default()).unwrap()
        };
        assert!(!read(None).sends());
        let sources = Sources {
            video: 1,
            repair: 2,
            audio: 3,
        };
        assert!(read(Some(sources)).sends());
    }

    #[test]
    fn an_answer_names_the_way() {
        let hash = ["AB"; 32].join(":");
        let text = format!(
            "v=0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=fingerprint:sha-256 {hash}\r\na=setup:passive\r\n\
             a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\n"
        );
        let read = answer(&text, "127.0.0.1:80".parse().unwrap()).unwrap();
        assert_eq!(read.address, "127.0.0.1:5000".parse().unwrap());
        let read = answer(&text, "192.0.2.9:80".parse().unwrap()).unwrap();
        assert_eq!(read.address, "192.0.2.1:5000".parse().unwrap());
        assert!(answer("v=0\r\n", "127.0.0.1:80".parse().unwrap()).is_err());
    }
}

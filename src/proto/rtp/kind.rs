//! What a datagram is, where STUN, DTLS, RTP and RTCP share a port.

/// What a datagram is, by its first two bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// First byte 0 to 3.
    Stun,
    /// First byte 20 to 63.
    Dtls,
    /// First byte 128 to 191, and not RTCP.
    Rtp,
    /// First byte 128 to 191, second 192 to 223.
    Rtcp,
    /// Anything else: nothing, TURN channels, ZRTP, QUIC.
    Other,
}

impl Kind {
    /// The kind of a datagram (RFC 7983 section 7). Only its first two bytes are looked at: what
    /// it is taken for may still find it malformed.
    #[inline]
    pub fn of(datagram: &[u8]) -> Self {
        match datagram.first() {
            Some(128..=191) if is_rtcp(datagram) => Self::Rtcp,
            Some(128..=191) => Self::Rtp,
            Some(20..=63) => Self::Dtls,
            Some(0..=3) => Self::Stun,
            Some(_) | None => Self::Other,
        }
    }
}

/// Whether a packet of RTP or RTCP is RTCP: 64 to 95 cannot be a payload type where both share a
/// port (RFC 5761 section 4).
#[inline]
pub fn is_rtcp(packet: &[u8]) -> bool {
    matches!(packet.get(1), Some(192..=223))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart_by_ranges() {
        for (bytes, kind) in [
            (&[][..], Kind::Other),
            (&[0, 1], Kind::Stun),
            (&[3, 1], Kind::Stun),
            (&[4, 1], Kind::Other),
            (&[19, 1], Kind::Other),
            (&[20, 254], Kind::Dtls),
            (&[63, 254], Kind::Dtls),
            (&[64, 0], Kind::Other),
            (&[127, 0], Kind::Other),
            (&[128], Kind::Rtp),
            (&[128, 96], Kind::Rtp),
            (&[128, 0x80 | 63], Kind::Rtp),
            (&[128, 192], Kind::Rtcp),
            (&[0x81, 200], Kind::Rtcp),
            (&[191, 223], Kind::Rtcp),
            (&[128, 224], Kind::Rtp),
            (&[192, 200], Kind::Other),
        ] {
            assert_eq!(Kind::of(bytes), kind, "{bytes:?}");
        }
    }
}

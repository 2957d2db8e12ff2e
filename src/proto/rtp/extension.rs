//! Header extensions by name and by number.

/// A header extension that is understood here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Extension {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid` (RFC 9143).
    Mid,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id` (RFC 8852).
    Rid,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id` (RFC 8852).
    RepairedRid,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`.
    AbsSendTime,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`.
    TransportCc,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464).
    AudioLevel,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time`.
    AbsCaptureTime,
    /// `https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension`.
    DependencyDescriptor,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`.
    PlayoutDelay,
    /// `urn:3gpp:video-orientation`.
    VideoOrientation,
}

impl Extension {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Mid,
        Self::Rid,
        Self::RepairedRid,
        Self::AbsSendTime,
        Self::TransportCc,
        Self::AudioLevel,
        Self::AbsCaptureTime,
        Self::DependencyDescriptor,
        Self::PlayoutDelay,
        Self::VideoOrientation,
    ];

    /// Its name in `a=extmap` lines.
    pub fn uri(self) -> &'static str {
        match self {
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Self::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Self::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Self::TransportCc => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
            Self::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Self::AbsCaptureTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
            Self::DependencyDescriptor => {
                "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
            }
            Self::PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
            Self::VideoOrientation => "urn:3gpp:video-orientation",
        }
    }
}

/// The number that each extension was given for one RTP session: 1 to 14 fit the one-byte form,
/// 15 to 255 the two-byte form only (RFC 8285 section 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExtensionMap {
    ids: [u8; Extension::ALL.len()],
    /// The extension of each number of the one-byte form, which is looked up for each packet.
    known: [Option<Extension>; 16],
}

impl ExtensionMap {
    /// Gives an extension a number, 1 to 255; 0 takes it out.
    pub fn set(&mut self, extension: Extension, id: u8) {
        self.ids[extension as usize] = id;
        for id in 1..16u8 {
            self.known[usize::from(id)] = self.search(id);
        }
    }

    /// The number of an extension.
    pub fn id(&self, extension: Extension) -> Option<u8> {
        Some(self.ids[extension as usize]).filter(|id| *id != 0)
    }

    /// The extension with a number.
    pub fn extension(&self, id: u8) -> Option<Extension> {
        match self.known.get(usize::from(id)) {
            Some(known) => *known,
            None => self.search(id),
        }
    }

    fn search(&self, id: u8) -> Option<Extension> {
        let at = self.ids.iter().position(|known| *known == id && id != 0)?;
        Some(Extension::ALL[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_both_ways() {
        let mut map = ExtensionMap::default();
        map.set(Extension::Mid, 4);
        map.set(Extension::Rid, 200);
        assert_eq!(map.id(Extension::Mid), Some(4));
        assert_eq!(map.extension(4), Some(Extension::Mid));
        assert_eq!(map.extension(200), Some(Extension::Rid));
        assert_eq!((map.extension(0), map.extension(5)), (None, None));
        map.set(Extension::Mid, 0);
        assert_eq!((map.id(Extension::Mid), map.extension(4)), (None, None));
    }
}

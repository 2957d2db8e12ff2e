//! Opus: identification header and packet duration (RFC 7845 5.1, RFC 6716 3.1).

use super::Error;
use crate::base::bytes::Reader;

/// The rate of every Opus timeline.
pub const RATE: u32 = 48_000;

/// The longest packet, 120 ms.
const SAMPLES_MAX: u32 = 5760;

const MAGIC: &[u8] = b"OpusHead";

/// What an identification header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head<'a> {
    /// Channels of the output.
    pub channels: u8,
    /// Samples to drop when decoding begins.
    pub pre_skip: u16,
    /// Rate of what was encoded, for information.
    pub input_rate: u32,
    /// Gain in 1/256 dB.
    pub gain: i16,
    /// Channel mapping family.
    pub family: u8,
    /// Stream count, coupled count and mapping; empty in family 0.
    pub mapping: &'a [u8],
}

/// Reads an `OpusHead`.
pub fn parse_head(init: &[u8]) -> Result<Head<'_>, Error> {
    let rest = init.strip_prefix(MAGIC).ok_or(Error::Malformed)?;
    let mut reader = Reader::new(rest);
    let [version, channels] = reader.array()?;
    let pre_skip = u16::from_le_bytes(reader.array()?);
    let input_rate = u32::from_le_bytes(reader.array()?);
    let gain = i16::from_le_bytes(reader.array()?);
    let family = reader.u8()?;
    if version >> 4 != 0 || channels == 0 || family == 0 && channels > 2 {
        return Err(Error::Malformed);
    }
    let mapping = if family == 0 {
        &[]
    } else {
        reader.take(2 + usize::from(channels))?
    };
    Ok(Head {
        channels,
        pre_skip,
        input_rate,
        gain,
        family,
        mapping,
    })
}

/// An `OpusHead` of family 0 for one or two channels without pre-skip, for a publisher that
/// sends none.
pub fn build_head(channels: u8) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&[1, channels.clamp(1, 2), 0, 0]);
    out.extend_from_slice(&RATE.to_le_bytes());
    out.extend_from_slice(&[0, 0, 0]);
    out
}

/// Samples of a packet at 48 kHz.
pub fn packet_samples(packet: &[u8]) -> Result<u32, Error> {
    let mut reader = Reader::new(packet);
    let toc = reader.u8()?;
    let frame = match toc >> 3 {
        config @ 0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        config @ 12..=15 => [480, 960][usize::from(config & 1)],
        config => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(reader.u8()? & 0x3f),
    };
    let samples = frame * frames;
    if samples == 0 || samples > SAMPLES_MAX {
        return Err(Error::Malformed);
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_reads_back() {
        let head = build_head(2);
        let parsed = parse_head(&head).unwrap();
        assert_eq!((parsed.channels, parsed.family), (2, 0));
        assert_eq!(parse_head(&head[..18]), Err(Error::Short));
    }

    #[test]
    fn durations_from_the_first_byte() {
        assert_eq!(packet_samples(&[0xfc]), Ok(960), "CELT, 20 ms, one frame");
        assert_eq!(packet_samples(&[0x19]), Ok(5760), "SILK, 60 ms, two frames");
        assert_eq!(
            packet_samples(&[0x83, 4]),
            Ok(480),
            "CELT, 2.5 ms, four frames"
        );
        assert_eq!(packet_samples(&[0x1b, 3]), Err(Error::Malformed), "180 ms");
        assert_eq!(packet_samples(&[]), Err(Error::Short));
    }
}

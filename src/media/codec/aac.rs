//! AAC: AudioSpecificConfig and ADTS (ISO/IEC 14496-3 1.6, 1.A.3).

use super::Error;
use super::bits::BitReader;

/// Bytes of an ADTS header without a checksum.
pub const ADTS_HEADER_SIZE: usize = 7;

/// The largest frame ADTS can hold.
pub const ADTS_PAYLOAD_MAX: usize = 0x1fff - ADTS_HEADER_SIZE;

const OBJECT_LC: u8 = 2;
const OBJECT_SBR: u8 = 5;
const OBJECT_PS: u8 = 29;

const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

/// What an AudioSpecificConfig says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Audio object type of the core decoder: 2 is AAC-LC.
    pub object: u8,
    /// Sampling rate of the core decoder.
    pub core_rate: u32,
    /// Sampling rate with spectral band replication.
    pub rate: u32,
    /// channelConfiguration; 0 when a program config element tells.
    pub channel_config: u8,
    /// Channels of the output, parametric stereo included.
    pub channels: u8,
    /// Spectral band replication is signalled.
    pub sbr: bool,
    /// Parametric stereo is signalled.
    pub ps: bool,
    /// Samples of a frame at the core rate: 1024 or 960.
    pub core_samples: u32,
}

impl Config {
    /// Samples of a frame at the output rate.
    pub fn samples(&self) -> u32 {
        let scaled = u64::from(self.core_samples) * u64::from(self.rate);
        (scaled / u64::from(self.core_rate)) as u32
    }

    /// The object type that RFC 6381 names.
    pub fn named_object(&self) -> u8 {
        match (self.ps, self.sbr) {
            (true, _) => OBJECT_PS,
            (false, true) => OBJECT_SBR,
            (false, false) => self.object,
        }
    }
}

/// Reads an AudioSpecificConfig.
pub fn parse_config(init: &[u8]) -> Result<Config, Error> {
    let reader = &mut BitReader::new(init);
    let mut object = read_object(reader)?;
    let core_rate = read_rate(reader)?;
    let channel_config = reader.small(4)?;
    let (mut sbr, mut ps, mut rate) = (false, false, core_rate);
    if matches!(object, OBJECT_SBR | OBJECT_PS) {
        (sbr, ps) = (true, object == OBJECT_PS);
        rate = read_rate(reader)?;
        object = read_object(reader)?;
    }
    let mut core_samples = 1024;
    let mut channels = match channel_config {
        1..=6 => channel_config,
        7 | 12 | 14 => 8,
        11 => 7,
        13 => 24,
        _ => 0,
    };
    if has_general_audio(object) {
        if reader.flag()? {
            core_samples = 960;
        }
        if reader.flag()? {
            reader.skip(14)?;
        }
        reader.skip(1)?;
        if channel_config == 0 {
            channels = read_program_channels(reader).unwrap_or(0);
        } else if !sbr {
            read_late_extension(reader, &mut sbr, &mut ps, &mut rate);
        }
    }
    if ps && channels == 1 {
        channels = 2;
    }
    Ok(Config {
        object,
        core_rate,
        rate,
        channel_config,
        channels,
        sbr,
        ps,
        core_samples,
    })
}

fn read_object(reader: &mut BitReader<'_>) -> Result<u8, Error> {
    const ESCAPE: u8 = 31;
    let object = reader.small(5)?;
    if object == ESCAPE {
        return Ok(32 + reader.small(6)?);
    }
    Ok(object)
}

fn read_rate(reader: &mut BitReader<'_>) -> Result<u32, Error> {
    const EXPLICIT: usize = 15;
    const RATE_MAX: u32 = 768_000;
    let index = reader.bits(4)? as usize;
    let rate = match RATES.get(index) {
        Some(rate) => *rate,
        None if index == EXPLICIT => reader.bits(24)?,
        None => 0,
    };
    if rate == 0 || rate > RATE_MAX {
        return Err(Error::Malformed);
    }
    Ok(rate)
}

/// The object types whose configuration is a GASpecificConfig (ISO/IEC 14496-3 table 1.15).
fn has_general_audio(object: u8) -> bool {
    matches!(object, 1..=4 | 6 | 7 | 17 | 19..=23)
}

/// Channels of a program config element (ISO/IEC 14496-3 4.4.1.1).
fn read_program_channels(reader: &mut BitReader<'_>) -> Result<u8, Error> {
    reader.skip(4 + 2 + 4)?;
    let (front, side, back) = (reader.bits(4)?, reader.bits(4)?, reader.bits(4)?);
    let low_frequency = reader.small(2)?;
    reader.skip(3 + 4)?;
    for mixdown_bits in [4, 4, 3] {
        if reader.flag()? {
            reader.skip(mixdown_bits)?;
        }
    }
    let mut channels = low_frequency;
    for _ in 0..front + side + back {
        channels += if reader.flag()? { 2 } else { 1 };
        reader.skip(4)?;
    }
    Ok(channels)
}

/// SBR and PS told after the core configuration, which a decoder of only the core does not see.
fn read_late_extension(reader: &mut BitReader<'_>, sbr: &mut bool, ps: &mut bool, rate: &mut u32) {
    const SYNC_SBR: u32 = 0x2b7;
    const SYNC_PS: u32 = 0x548;
    let mut read = || -> Result<(), Error> {
        if reader.bits(11)? != SYNC_SBR || read_object(reader)? != OBJECT_SBR || !reader.flag()? {
            return Ok(());
        }
        *rate = read_rate(reader)?;
        *sbr = true;
        *ps = reader.bits(11)? == SYNC_PS && reader.flag()?;
        Ok(())
    };
    // Most configurations end before it.
    let _ = read();
}

/// The AudioSpecificConfig of AAC-LC at this rate, or nothing if it has no rate index.
pub fn build_config(rate: u32, channels: u8) -> Option<[u8; 2]> {
    let index = rate_index(rate)?;
    let channel_config = channel_config(channels)?;
    Some([
        OBJECT_LC << 3 | index >> 1,
        index << 7 | channel_config << 3,
    ])
}

fn rate_index(rate: u32) -> Option<u8> {
    RATES
        .iter()
        .position(|known| *known == rate)
        .map(|index| index as u8)
}

fn channel_config(channels: u8) -> Option<u8> {
    match channels {
        1..=6 => Some(channels),
        8 => Some(7),
        _ => None,
    }
}

/// The part of an ADTS header that is the same for all frames of a track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Adts {
    header: [u8; ADTS_HEADER_SIZE],
}

impl Adts {
    /// The header for this configuration's core, or nothing if ADTS cannot say it: it knows four
    /// object types, frames of 1024 samples and the indexed rates.
    ///
    /// ```text
    ///  0        1        2        3        4        5        6
    ///  11111111 1111vll1 ppffffpc ccoohhss ssssssss sssnnnnn nnnnnnbb
    ///  v: MPEG-2  ll: layer  1: no checksum  p: object - 1  f: rate index  c: channels
    ///  s: size with header  n: fullness (all ones: variable rate)  b: frames - 1
    /// ```
    pub fn new(config: &Config) -> Option<Self> {
        if !(1..=4).contains(&config.object) || config.core_samples != 1024 {
            return None;
        }
        let index = rate_index(config.core_rate)?;
        let channels = match config.channel_config {
            0 => channel_config(config.channels)?,
            known @ 1..=7 => known,
            _ => return None,
        };
        Some(Self {
            header: [
                0xff,
                0xf1,
                (config.object - 1) << 6 | index << 2 | channels >> 2,
                channels << 6,
                0,
                0x1f,
                0xfc,
            ],
        })
    }

    /// The header of a frame with `size` bytes of payload, or nothing if that is too large.
    pub fn header(&self, size: usize) -> Option<[u8; ADTS_HEADER_SIZE]> {
        if size > ADTS_PAYLOAD_MAX {
            return None;
        }
        let size = (size + ADTS_HEADER_SIZE) as u16;
        let mut header = self.header;
        header[3] |= (size >> 11) as u8;
        header[4] = (size >> 3) as u8;
        header[5] |= (size << 5) as u8;
        Some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_complexity_stereo() {
        let config = parse_config(&[0x11, 0x90]).unwrap();
        assert_eq!(
            (config.rate, config.channels, config.object),
            (48_000, 2, 2)
        );
        assert_eq!(config.samples(), 1024);
        assert_eq!(build_config(48_000, 2), Some([0x11, 0x90]));
    }

    #[test]
    fn spectral_band_replication_told_first_or_last() {
        // Object 5, core 24 kHz mono, output 48 kHz, object 2.
        let first = parse_config(&[0x2b, 0x09, 0x88, 0x00]).unwrap();
        assert_eq!((first.core_rate, first.rate), (24_000, 48_000));
        assert_eq!((first.samples(), first.named_object()), (2048, 5));
        // Object 2, 24 kHz stereo, then the sync extension with 48 kHz.
        let last = parse_config(&[0x13, 0x10, 0x56, 0xe5, 0x98]).unwrap();
        assert_eq!(
            (last.core_rate, last.rate, last.sbr),
            (24_000, 48_000, true)
        );
        assert_eq!(last.object, 2);
    }

    #[test]
    fn parametric_stereo_has_two_channels() {
        let config = parse_config(&[0xeb, 0x09, 0x88, 0x00]).unwrap();
        assert_eq!((config.channels, config.named_object()), (2, 29));
    }

    #[test]
    fn channels_from_a_program_config_element() {
        // Object 2, 48 kHz, channel config 0; one front pair, one low frequency element.
        let mut bits = String::from("00010 0011 0000 000 0000 01 0011 0001 0000 0000 01 000 0000");
        bits += "0 0 0 1 0000 0000 000";
        let bits: Vec<_> = bits.bytes().filter(|bit| *bit != b' ').collect();
        let bytes: Vec<u8> = bits
            .chunks(8)
            .map(|byte| {
                let value = byte.iter().fold(0, |sum, bit| sum << 1 | (bit - b'0'));
                value << (8 - byte.len())
            })
            .collect();
        let config = parse_config(&bytes).unwrap();
        assert_eq!((config.channel_config, config.channels), (0, 3));
    }

    #[test]
    fn adts_carries_the_size() {
        let adts = Adts::new(&parse_config(&[0x11, 0x90]).unwrap()).unwrap();
        let header = adts.header(0x123).unwrap();
        assert_eq!(header, [0xff, 0xf1, 0x4c, 0x80, 0x25, 0x5f, 0xfc]);
        assert_eq!(adts.header(ADTS_PAYLOAD_MAX + 1), None);
    }

    #[test]
    fn broken_configurations_are_errors() {
        assert_eq!(parse_config(&[]), Err(Error::Short));
        assert_eq!(parse_config(&[0x16, 0x90]), Err(Error::Malformed));
    }
}

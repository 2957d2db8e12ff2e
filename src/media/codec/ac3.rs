//! AC-3 and E-AC-3: sync frames, `dac3`, `dec3` (ETSI TS 102 366 4.3, E.1.2, F.4, F.6).

use super::Error;
use super::bits::BitReader;

const RATES: [u32; 3] = [48_000, 44_100, 32_000];
const SYNC_WORD: u32 = 0x0b77;
const SAMPLES_OF_BLOCK: u32 = 256;

/// What a configuration or the first sync frame says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Sampling rate code.
    fscod: u8,
    bsid: u8,
    bsmod: u8,
    /// Coding mode: which full channels there are.
    acmod: u8,
    lfe: bool,
    /// bit_rate_code of AC-3, data_rate in kbit/s of E-AC-3.
    bit_rate: u16,
}

impl Config {
    /// Samples a second.
    pub fn rate(&self) -> u32 {
        RATES[usize::from(self.fscod).min(2)]
    }

    /// Channels of the independent stream, with the low frequency one.
    pub fn channels(&self) -> u8 {
        const FULL: [u8; 8] = [2, 1, 2, 3, 3, 4, 4, 5];
        FULL[usize::from(self.acmod & 7)] + u8::from(self.lfe)
    }
}

/// Reads `dac3` contents.
pub fn parse_dac3(init: &[u8]) -> Result<Config, Error> {
    let mut reader = BitReader::new(init);
    let config = Config {
        fscod: reader.small(2)?,
        bsid: reader.small(5)?,
        bsmod: reader.small(3)?,
        acmod: reader.small(3)?,
        lfe: reader.flag()?,
        bit_rate: reader.bits(5)? as u16,
    };
    checked(config)
}

/// `dac3` contents.
pub fn build_dac3(config: &Config) -> [u8; 3] {
    let bits = u32::from(config.fscod) << 22
        | u32::from(config.bsid) << 17
        | u32::from(config.bsmod) << 14
        | u32::from(config.acmod) << 11
        | u32::from(config.lfe) << 10
        | u32::from(config.bit_rate & 0x1f) << 5;
    let [_, bytes @ ..] = bits.to_be_bytes();
    bytes
}

/// Reads `dec3` contents: the first independent substream.
pub fn parse_dec3(init: &[u8]) -> Result<Config, Error> {
    let mut reader = BitReader::new(init);
    let bit_rate = reader.bits(13)? as u16;
    reader.skip(3)?;
    let (fscod, bsid) = (reader.small(2)?, reader.small(5)?);
    reader.skip(2)?;
    let config = Config {
        fscod,
        bsid,
        bsmod: reader.small(3)?,
        acmod: reader.small(3)?,
        lfe: reader.flag()?,
        bit_rate,
    };
    checked(config)
}

/// `dec3` contents for one independent substream without dependent ones.
pub fn build_dec3(config: &Config) -> [u8; 5] {
    let [high, low] = (config.bit_rate << 3).to_be_bytes();
    [
        high,
        low,
        config.fscod << 6 | config.bsid << 1,
        config.bsmod << 4 | config.acmod << 1 | u8::from(config.lfe),
        0,
    ]
}

fn checked(config: Config) -> Result<Config, Error> {
    if config.fscod > 2 {
        return Err(Error::Malformed);
    }
    Ok(config)
}

/// Reads the header of an AC-3 sync frame.
pub fn parse_ac3_frame(frame: &[u8]) -> Result<Config, Error> {
    const BSID_MAX: u8 = 10;
    let mut reader = BitReader::new(frame);
    if reader.bits(16)? != SYNC_WORD {
        return Err(Error::Malformed);
    }
    reader.skip(16)?;
    let (fscod, size_code) = (reader.small(2)?, reader.small(6)?);
    let (bsid, bsmod, acmod) = (reader.small(5)?, reader.small(3)?, reader.small(3)?);
    if bsid > BSID_MAX {
        return Err(Error::Malformed);
    }
    if acmod & 1 != 0 && acmod != 1 {
        reader.skip(2)?;
    }
    if acmod & 4 != 0 {
        reader.skip(2)?;
    }
    if acmod == 2 {
        reader.skip(2)?;
    }
    checked(Config {
        fscod,
        bsid,
        bsmod,
        acmod,
        lfe: reader.flag()?,
        bit_rate: u16::from(size_code >> 1),
    })
}

/// One E-AC-3 sync frame's header.
struct Syncframe {
    config: Config,
    dependent: bool,
    substream: u8,
    bytes: usize,
    samples: u32,
    /// The rate is half the table's.
    half_rate: bool,
}

fn parse_syncframe(frame: &[u8]) -> Result<Syncframe, Error> {
    const BLOCKS: [u32; 4] = [1, 2, 3, 6];
    const DEPENDENT: u8 = 1;
    const BSID: std::ops::RangeInclusive<u8> = 11..=16;
    let mut reader = BitReader::new(frame);
    if reader.bits(16)? != SYNC_WORD {
        return Err(Error::Malformed);
    }
    let (kind, substream) = (reader.small(2)?, reader.small(3)?);
    let bytes = (reader.bits(11)? as usize + 1) * 2;
    let (mut fscod, second) = (reader.small(2)?, reader.bits(2)?);
    let half_rate = fscod == 3;
    let mut blocks = BLOCKS[second as usize];
    if half_rate {
        fscod = second as u8;
        blocks = 6;
    }
    let (acmod, lfe, bsid) = (reader.small(3)?, reader.flag()?, reader.small(5)?);
    if !BSID.contains(&bsid) {
        return Err(Error::Malformed);
    }
    let samples = blocks * SAMPLES_OF_BLOCK;
    let rate = RATES.get(usize::from(fscod)).ok_or(Error::Malformed)?;
    let kbits = bytes as u64 * 8 * u64::from(*rate) / u64::from(samples) / 1000;
    Ok(Syncframe {
        config: Config {
            fscod,
            bsid,
            bsmod: 0,
            acmod,
            lfe,
            bit_rate: kbits.min(0x1fff) as u16,
        },
        dependent: kind == DEPENDENT,
        substream,
        bytes,
        samples,
        half_rate,
    })
}

/// Reads the first header of an E-AC-3 access unit. Half sampling rates are errors: no encoder in
/// use makes them and `dec3` cannot say them.
pub fn parse_eac3_frame(frame: &[u8]) -> Result<Config, Error> {
    let first = parse_syncframe(frame)?;
    if first.half_rate {
        return Err(Error::Malformed);
    }
    Ok(first.config)
}

/// Samples of an AC-3 sync frame.
pub const AC3_SAMPLES: u32 = 6 * SAMPLES_OF_BLOCK;

/// Samples of an E-AC-3 access unit: those of its frames of the first independent substream.
pub fn eac3_samples(frame: &[u8]) -> Result<u32, Error> {
    /// A sync frame has at least one block, an access unit six.
    const FRAMES_MAX: usize = 6 * 9;
    let mut rest = frame;
    let mut samples = 0;
    for _ in 0..FRAMES_MAX {
        let Ok(syncframe) = parse_syncframe(rest) else {
            break;
        };
        if !syncframe.dependent && syncframe.substream == 0 {
            samples += syncframe.samples;
        }
        match rest.get(syncframe.bytes..) {
            Some(after) if !after.is_empty() => rest = after,
            Some(_) | None => break,
        }
    }
    if samples == 0 {
        return Err(Error::Malformed);
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_read_back() {
        let config = Config {
            fscod: 0,
            bsid: 8,
            bsmod: 0,
            acmod: 7,
            lfe: true,
            bit_rate: 15,
        };
        assert_eq!(config.channels(), 6);
        assert_eq!(parse_dac3(&build_dac3(&config)), Ok(config));
        let config = Config {
            bsid: 16,
            bit_rate: 640,
            ..config
        };
        assert_eq!(parse_dec3(&build_dec3(&config)), Ok(config));
    }

    #[test]
    fn a_sync_frame_tells_the_configuration() {
        // 48 kHz, 192 kbit/s, stereo.
        let frame = [0x0b, 0x77, 0, 0, 0x14, 0x40, 0x43, 0xff];
        let config = parse_ac3_frame(&frame).unwrap();
        assert_eq!((config.rate(), config.channels()), (48_000, 2));
        assert_eq!(build_dac3(&config), [0x10, 0x11, 0x40]);
        assert!(parse_ac3_frame(&frame[..6]).is_err());
    }

    #[test]
    fn an_access_unit_sums_its_frames() {
        // Two frames of 8 bytes and three blocks each, then a dependent one.
        let independent = [0x0b, 0x77, 0x00, 0x03, 0x24, 0x80, 0, 0];
        let dependent = [0x0b, 0x77, 0x40, 0x03, 0x24, 0x80, 0, 0];
        let unit = [independent, dependent, independent].concat();
        assert_eq!(eac3_samples(&unit), Ok(1536));
        assert!(eac3_samples(&unit[1..]).is_err());
    }
}

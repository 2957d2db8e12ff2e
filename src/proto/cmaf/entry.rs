//! Sample entries: what `stsd` says of a codec.

use crate::media::codec::{ac3, av1, flac, h264, hevc, mp3, opus, vp9};
use crate::media::{AudioFormat, Codec, Track};

use super::boxes::{push_box, push_full_box, push_u16, push_u32, push_zeros};

/// Object type indications of MPEG-4 systems (ISO/IEC 14496-1 table 5).
const OBJECT_AAC: u8 = 0x40;
const OBJECT_MPEG2_AUDIO: u8 = 0x69;
const OBJECT_MPEG1_AUDIO: u8 = 0x6b;

/// The length size field that says 4 bytes, as canonical frames have.
const LENGTHS_OF_FOUR: u8 = 3;

/// The track's sample entry, or nothing if the codec has none here or its configuration is
/// missing or broken.
pub(super) fn sample_entry(track: &Track) -> Option<Vec<u8>> {
    let init = &track.init[..];
    match track.codec {
        Codec::H264 => {
            h264::parse_config(init).ok()?;
            let mut config = init.to_vec();
            config[4] |= LENGTHS_OF_FOUR;
            Some(visual(track, b"avc1", b"avcC", &config))
        }
        Codec::Hevc => {
            hevc::parse_config(init).ok()?;
            let mut config = init.to_vec();
            config[21] |= LENGTHS_OF_FOUR;
            Some(visual(track, b"hvc1", b"hvcC", &config))
        }
        Codec::Av1 => {
            av1::parse_config(init).ok()?;
            Some(visual(track, b"av01", b"av1C", init))
        }
        Codec::Vp9 => {
            let config = vp9::build_config(&vp9::parse_config(init).ok()?);
            Some(visual(track, b"vp09", b"vpcC", &config))
        }
        Codec::Vp8 | Codec::Ulaw | Codec::Alaw | Codec::G722 => None,
        Codec::Aac if init.is_empty() => None,
        Codec::Aac => Some(audible(track, b"mp4a", |out| {
            push_esds(out, OBJECT_AAC, init);
        })),
        Codec::Mp3 => {
            let object = if track.audio?.rate < mp3::MPEG1_RATE_MIN {
                OBJECT_MPEG2_AUDIO
            } else {
                OBJECT_MPEG1_AUDIO
            };
            Some(audible(track, b"mp4a", |out| push_esds(out, object, &[])))
        }
        Codec::Opus => {
            let built;
            let head = if init.is_empty() {
                built = opus::build_head(track.audio.map_or(2, |audio| audio.channels));
                opus::parse_head(&built)
            } else {
                opus::parse_head(init)
            };
            let head = head.ok()?;
            Some(audible(track, b"Opus", |out| push_dops(out, &head)))
        }
        Codec::Flac => {
            flac::parse_streaminfo(init).ok()?;
            Some(audible(track, b"fLaC", |out| push_dfla(out, init)))
        }
        Codec::Ac3 => {
            ac3::parse_dac3(init).ok()?;
            Some(audible(track, b"ac-3", |out| {
                push_box(out, b"dac3", |out| out.extend_from_slice(init));
            }))
        }
        Codec::Eac3 => {
            ac3::parse_dec3(init).ok()?;
            Some(audible(track, b"ec-3", |out| {
                push_box(out, b"dec3", |out| out.extend_from_slice(init));
            }))
        }
    }
}

/// VisualSampleEntry (ISO/IEC 14496-12 12.1.3).
fn visual(track: &Track, name: &[u8; 4], config_name: &[u8; 4], config: &[u8]) -> Vec<u8> {
    const DOTS_PER_INCH_72: u32 = 72 << 16;
    const FRAMES_PER_SAMPLE: u16 = 1;
    const DEPTH_24: u16 = 24;
    const COMPRESSOR_NAME_SIZE: usize = 32;
    const NO_COLOR_TABLE: u16 = 0xffff;
    let video = track.video.unwrap_or_default();
    let mut out = Vec::new();
    push_box(&mut out, name, |out| {
        push_opening(out);
        push_zeros(out, 16);
        push_u16(out, u16::try_from(video.width).unwrap_or(u16::MAX));
        push_u16(out, u16::try_from(video.height).unwrap_or(u16::MAX));
        push_u32(out, DOTS_PER_INCH_72);
        push_u32(out, DOTS_PER_INCH_72);
        push_zeros(out, 4);
        push_u16(out, FRAMES_PER_SAMPLE);
        push_zeros(out, COMPRESSOR_NAME_SIZE);
        push_u16(out, DEPTH_24);
        push_u16(out, NO_COLOR_TABLE);
        push_box(out, config_name, |out| out.extend_from_slice(config));
    });
    out
}

/// AudioSampleEntry (ISO/IEC 14496-12 12.2.3).
fn audible(track: &Track, name: &[u8; 4], config: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    const BITS_WHERE_NONE: u8 = 16;
    let audio = track.audio.unwrap_or_default();
    let bits = if audio.bits == 0 {
        BITS_WHERE_NONE
    } else {
        audio.bits
    };
    let mut out = Vec::new();
    push_box(&mut out, name, |out| {
        push_opening(out);
        push_zeros(out, 8);
        push_u16(out, audio.channels.into());
        push_u16(out, bits.into());
        push_zeros(out, 4);
        push_u32(out, entry_rate(audio) << 16);
        config(out);
    });
    out
}

/// The field has 16 bits: a higher rate is told as the largest even part of it that fits, and
/// the codec's own configuration tells the whole.
fn entry_rate(audio: AudioFormat) -> u32 {
    let mut rate = audio.rate;
    while rate > u32::from(u16::MAX) {
        rate /= 2;
    }
    rate
}

/// What opens every sample entry: six reserved bytes and the data reference, the only one.
fn push_opening(out: &mut Vec<u8>) {
    push_zeros(out, 6);
    push_u16(out, 1);
}

/// `esds` (ISO/IEC 14496-14 6.7.2): descriptors within each other.
fn push_esds(out: &mut Vec<u8>, object: u8, config: &[u8]) {
    const ES: u8 = 3;
    const DECODER_CONFIG: u8 = 4;
    const DECODER_SPECIFIC: u8 = 5;
    const SYNC_LAYER: u8 = 6;
    const AUDIO_STREAM: u8 = 0x15;
    const PREDEFINED_MP4: u8 = 2;
    let mut specific = Vec::new();
    if !config.is_empty() {
        push_descriptor(&mut specific, DECODER_SPECIFIC, config);
    }
    // No buffer size, and neither bit rate is known.
    let mut decoder = vec![object, AUDIO_STREAM];
    push_zeros(&mut decoder, 3 + 4 + 4);
    decoder.extend_from_slice(&specific);
    let mut stream = vec![0, 0, 0];
    push_descriptor(&mut stream, DECODER_CONFIG, &decoder);
    push_descriptor(&mut stream, SYNC_LAYER, &[PREDEFINED_MP4]);
    push_full_box(out, b"esds", 0, 0, |out| push_descriptor(out, ES, &stream));
}

/// Tag, size in four groups of seven bits, contents (ISO/IEC 14496-1 8.3.3).
fn push_descriptor(out: &mut Vec<u8>, tag: u8, contents: &[u8]) {
    let size = contents.len() as u32;
    out.push(tag);
    for shift in [21, 14, 7] {
        out.push((size >> shift) as u8 | 0x80);
    }
    out.push(size as u8 & 0x7f);
    out.extend_from_slice(contents);
}

/// `dOps` (Opus in ISOBMFF 4.3.2): an `OpusHead` in big-endian order.
fn push_dops(out: &mut Vec<u8>, head: &opus::Head<'_>) {
    push_box(out, b"dOps", |out| {
        out.extend_from_slice(&[0, head.channels]);
        push_u16(out, head.pre_skip);
        push_u32(out, head.input_rate);
        out.extend_from_slice(&head.gain.to_be_bytes());
        out.push(head.family);
        out.extend_from_slice(head.mapping);
    });
}

/// `dfLa` (FLAC in ISOBMFF 3.3.2): STREAMINFO as the only, and so last, metadata block.
fn push_dfla(out: &mut Vec<u8>, streaminfo: &[u8]) {
    const LAST_BLOCK: u8 = 0x80;
    const SIZE: usize = flac::STREAMINFO_SIZE;
    push_full_box(out, b"dfLa", 0, 0, |out| {
        out.extend_from_slice(&[LAST_BLOCK, 0, 0, SIZE as u8]);
        out.extend_from_slice(&streaminfo[..SIZE]);
    });
}

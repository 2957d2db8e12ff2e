//! The initialisation segment: `ftyp` and `moov`.

use crate::media::{Kind, Track};

use super::boxes::{push_box, push_full_box, push_u16, push_u32, push_zeros};

/// What the segment says of one track.
pub(super) struct InitTrack<'a> {
    pub(super) track: &'a Track,
    /// track_ID, from 1.
    pub(super) id: u32,
    pub(super) timescale: u32,
    pub(super) sample_entry: &'a [u8],
}

/// Ticks of the movie header, which has no duration here.
const MOVIE_TIMESCALE: u32 = 1000;

/// The identity transformation, in 16.16 and 2.30 fixed point.
const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// Writes `ftyp` and `moov`.
pub(super) fn push_init(out: &mut Vec<u8>, tracks: &[InitTrack<'_>]) {
    push_box(out, b"ftyp", |out| {
        out.extend_from_slice(b"iso6");
        push_u32(out, 0);
        out.extend_from_slice(b"iso6mp41");
        // A CMAF track file has one track.
        if tracks.len() == 1 {
            out.extend_from_slice(b"cmfc");
        }
    });
    push_box(out, b"moov", |out| {
        push_mvhd(out, tracks);
        for track in tracks {
            push_trak(out, track);
        }
        push_box(out, b"mvex", |out| {
            for track in tracks {
                push_trex(out, track.id);
            }
        });
    });
}

fn push_mvhd(out: &mut Vec<u8>, tracks: &[InitTrack<'_>]) {
    const RATE_1: u32 = 0x1_0000;
    const VOLUME_1: u16 = 0x100;
    let next_id = tracks.iter().map(|track| track.id).max().unwrap_or(0) + 1;
    push_full_box(out, b"mvhd", 0, 0, |out| {
        push_zeros(out, 8);
        push_u32(out, MOVIE_TIMESCALE);
        push_zeros(out, 4);
        push_u32(out, RATE_1);
        push_u16(out, VOLUME_1);
        push_zeros(out, 10);
        MATRIX.iter().for_each(|value| push_u32(out, *value));
        push_zeros(out, 24);
        push_u32(out, next_id);
    });
}

fn push_trak(out: &mut Vec<u8>, track: &InitTrack<'_>) {
    push_box(out, b"trak", |out| {
        push_tkhd(out, track);
        push_box(out, b"mdia", |out| {
            push_mdhd(out, track);
            push_hdlr(out, track.track.kind());
            push_minf(out, track);
        });
    });
}

fn push_tkhd(out: &mut Vec<u8>, track: &InitTrack<'_>) {
    const ENABLED_IN_MOVIE: u32 = 3;
    const VOLUME_1: u16 = 0x100;
    let video = track.track.video.unwrap_or_default();
    let volume = match track.track.kind() {
        Kind::Video => 0,
        Kind::Audio => VOLUME_1,
    };
    push_full_box(out, b"tkhd", 0, ENABLED_IN_MOVIE, |out| {
        push_zeros(out, 8);
        push_u32(out, track.id);
        push_zeros(out, 8 + 8 + 4);
        push_u16(out, volume);
        push_zeros(out, 2);
        MATRIX.iter().for_each(|value| push_u32(out, *value));
        push_u32(out, video.width.min(u16::MAX.into()) << 16);
        push_u32(out, video.height.min(u16::MAX.into()) << 16);
    });
}

fn push_mdhd(out: &mut Vec<u8>, track: &InitTrack<'_>) {
    push_full_box(out, b"mdhd", 0, 0, |out| {
        push_zeros(out, 8);
        push_u32(out, track.timescale);
        push_zeros(out, 4);
        push_u16(out, packed_language(&track.track.language));
        push_zeros(out, 2);
    });
}

/// Three letters of five bits; "und" where there is no language.
fn packed_language(language: &str) -> u16 {
    let letters = match language.as_bytes() {
        [a, b, c] if [a, b, c].iter().all(|letter| letter.is_ascii_lowercase()) => [*a, *b, *c],
        _ => *b"und",
    };
    letters
        .iter()
        .fold(0, |packed, letter| packed << 5 | u16::from(letter - 0x60))
}

fn push_hdlr(out: &mut Vec<u8>, kind: Kind) {
    let (handler, name) = match kind {
        Kind::Video => (b"vide", b"video\0"),
        Kind::Audio => (b"soun", b"sound\0"),
    };
    push_full_box(out, b"hdlr", 0, 0, |out| {
        push_zeros(out, 4);
        out.extend_from_slice(handler);
        push_zeros(out, 12);
        out.extend_from_slice(name);
    });
}

fn push_minf(out: &mut Vec<u8>, track: &InitTrack<'_>) {
    const SAME_FILE: u32 = 1;
    push_box(out, b"minf", |out| {
        match track.track.kind() {
            Kind::Video => push_full_box(out, b"vmhd", 0, 1, |out| push_zeros(out, 8)),
            Kind::Audio => push_full_box(out, b"smhd", 0, 0, |out| push_zeros(out, 4)),
        }
        push_box(out, b"dinf", |out| {
            push_full_box(out, b"dref", 0, 0, |out| {
                push_u32(out, 1);
                push_full_box(out, b"url ", 0, SAME_FILE, |_| {});
            });
        });
        push_box(out, b"stbl", |out| {
            push_full_box(out, b"stsd", 0, 0, |out| {
                push_u32(out, 1);
                out.extend_from_slice(track.sample_entry);
            });
            push_full_box(out, b"stts", 0, 0, |out| push_zeros(out, 4));
            push_full_box(out, b"stsc", 0, 0, |out| push_zeros(out, 4));
            push_full_box(out, b"stsz", 0, 0, |out| push_zeros(out, 8));
            push_full_box(out, b"stco", 0, 0, |out| push_zeros(out, 4));
        });
    });
}

/// Defaults of the track's fragments. Audio fragments tell no flags, so its default is a sample
/// that depends on no other.
fn push_trex(out: &mut Vec<u8>, id: u32) {
    const FIRST_ENTRY: u32 = 1;
    push_full_box(out, b"trex", 0, 0, |out| {
        push_u32(out, id);
        push_u32(out, FIRST_ENTRY);
        push_zeros(out, 8);
        push_u32(out, super::muxer::FLAGS_SYNC);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_packed() {
        assert_eq!(packed_language("und"), 0x55c4);
        assert_eq!(packed_language(""), 0x55c4);
        assert_eq!(packed_language("eng"), 0x15c7);
        assert_eq!(packed_language("EN\u{e9}"), 0x55c4);
    }
}

//! `onMetaData`: FLV 10.1 section E.5.

use super::Selection;
use crate::media::{AudioFormat, Codec, Track, VideoFormat};
use crate::proto::amf::{Decoder, Value};

/// The value of `onMetaData` in script data, also behind the `@setDataFrame` of RTMP publishers.
/// Everything else is not for a server: cue points, time codes, captions in text.
pub(super) fn read(script: &[u8]) -> Option<Value> {
    let mut decoder = Decoder::new(script);
    let mut next = || decoder.next_value().ok().flatten();
    let mut name = next()?;
    if name.as_str() == Some("@setDataFrame") {
        name = next()?;
    }
    if name.as_str() != Some("onMetaData") {
        return None;
    }
    next().filter(|value| !value.properties().is_empty())
}

/// Picture size and rate, if the size is there.
pub(super) fn video_format(metadata: &Value) -> Option<VideoFormat> {
    let (width, height) = (number(metadata, "width"), number(metadata, "height"));
    Some(VideoFormat {
        width: width? as u32,
        height: height? as u32,
        frames_per_1000_s: (number(metadata, "framerate").unwrap_or(0.0) * 1000.0).round() as u32,
    })
}

/// Rate and channels, if the rate is there.
pub(super) fn audio_format(metadata: &Value) -> Option<AudioFormat> {
    let channels = number(metadata, "audiochannels").unwrap_or_else(|| {
        let stereo = number(metadata, "stereo");
        if stereo == Some(0.0) { 1.0 } else { 2.0 }
    });
    Some(AudioFormat {
        rate: number(metadata, "audiosamplerate")? as u32,
        channels: channels as u8,
        bits: 0,
    })
}

/// A finite number that is not negative; encoders write 0 for what they do not know, except in
/// flags.
fn number(metadata: &Value, name: &str) -> Option<f64> {
    let value = metadata.property(name)?;
    let number = value.as_f64()?;
    let known = number > 0.0 || value.as_bool().is_some();
    (number.is_finite() && known).then_some(number)
}

/// Script data that describes the selected tracks to a viewer.
pub fn metadata(selection: &Selection) -> Vec<u8> {
    let mut properties = Vec::new();
    let mut put = |name: &str, value: f64| properties.push((name.to_owned(), Value::Number(value)));
    put("duration", 0.0);
    if let Some(track) = &selection.video {
        put("videocodecid", codec_id(track));
        if let Some(format) = track.video {
            put("width", f64::from(format.width));
            put("height", f64::from(format.height));
            if format.frames_per_1000_s > 0 {
                put("framerate", f64::from(format.frames_per_1000_s) / 1000.0);
            }
        }
    }
    let mut stereo = None;
    if let Some(track) = &selection.audio {
        put("audiocodecid", codec_id(track));
        if let Some(format) = track.audio {
            put("audiosamplerate", f64::from(format.rate));
            put("audiochannels", f64::from(format.channels));
            stereo = Some(format.channels > 1);
        }
    }
    properties.extend(stereo.map(|stereo| ("stereo".to_owned(), Value::Boolean(stereo))));
    properties.push(("encoder".to_owned(), Value::from("ringside")));
    let mut out = Vec::new();
    Value::from("onMetaData").write(&mut out);
    Value::EcmaArray(properties).write(&mut out);
    out
}

/// The number of a codec that has one, else its FourCC as a number (Enhanced RTMP, "Enhancing
/// onMetaData").
fn codec_id(track: &Track) -> f64 {
    match track.codec {
        Codec::H264 => 7.0,
        Codec::Aac => 10.0,
        Codec::Mp3 => 2.0,
        Codec::Alaw => 7.0,
        Codec::Ulaw => 8.0,
        Codec::G722 => 0.0,
        Codec::Hevc
        | Codec::Av1
        | Codec::Vp8
        | Codec::Vp9
        | Codec::Opus
        | Codec::Flac
        | Codec::Ac3
        | Codec::Eac3 => {
            super::fourcc::code(track.codec).map_or(0.0, |code| f64::from(u32::from_be_bytes(code)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Kind;
    use crate::proto::flv::samples::track;

    #[test]
    fn what_is_written_is_read_back() {
        let mut video = track(0, Codec::H264);
        video.video = Some(VideoFormat {
            width: 1280,
            height: 720,
            frames_per_1000_s: 29_970,
        });
        let mut audio = track(1, Codec::Opus);
        audio.audio = Some(AudioFormat {
            rate: 48_000,
            channels: 1,
            bits: 0,
        });
        let selection = Selection::new(&[video.clone(), audio.clone()]);
        let value = read(&metadata(&selection)).unwrap();
        assert_eq!(video_format(&value), video.video);
        assert_eq!(audio_format(&value), audio.audio);
        assert_eq!(video.kind(), Kind::Video);
    }

    #[test]
    fn nonsense_is_not_a_format() {
        let value = Value::Object(vec![
            ("width".to_owned(), Value::Number(f64::NAN)),
            ("height".to_owned(), Value::Number(-4.0)),
            ("audiosamplerate".to_owned(), Value::Number(0.0)),
        ]);
        assert_eq!(video_format(&value), None);
        assert_eq!(audio_format(&value), None);
    }
}

//! Multivariant playlists (RFC 8216bis section 4.4.6).

use super::attributes::{Attributes, push_uri};
use crate::base::text::push_number;

/// The playlist of a whole stream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MasterPlaylist {
    /// Every segment of every variant begins with a picture that needs none before it.
    pub is_independent: bool,
    /// Alternatives of audio and the like, which variants name by their group.
    pub renditions: Vec<Rendition>,
    /// In the order of preference: a player without a bandwidth estimate begins with the first.
    pub variants: Vec<Variant>,
}

/// EXT-X-MEDIA.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rendition {
    /// TYPE.
    pub kind: RenditionKind,
    /// The group that variants name. Not empty.
    pub group_id: String,
    /// For people; differs from that of every other rendition of the group.
    pub name: String,
    /// As BCP 47 has it.
    pub language: Option<String>,
    /// Played if the user says nothing. Makes it `autoselect` too, as section 4.4.6.1 wants.
    pub is_default: bool,
    /// Played if it fits the user's language.
    pub autoselect: bool,
    /// Audio channels.
    pub channels: Option<u32>,
    /// Its media playlist; without one the rendition is what the variant itself carries.
    pub uri: Option<String>,
}

/// TYPE of EXT-X-MEDIA.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenditionKind {
    /// AUDIO.
    Audio,
    /// VIDEO.
    Video,
    /// SUBTITLES.
    Subtitles,
}

/// EXT-X-STREAM-INF.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Variant {
    /// Its media playlist.
    pub uri: String,
    /// The largest bit rate of a segment, all that is played together included, in bit/s.
    pub bandwidth: u64,
    /// The average bit rate, in bit/s.
    pub average_bandwidth: Option<u64>,
    /// As RFC 6381 has them: those of the variant and of the renditions it is played with. None
    /// leaves the attribute out.
    pub codecs: Vec<String>,
    /// Width and height in pixels.
    pub resolution: Option<(u32, u32)>,
    /// Frames in 1000 seconds.
    pub frames_per_1000_s: Option<u32>,
    /// Transfer characteristics.
    pub video_range: Option<VideoRange>,
    /// `group_id` of its audio.
    pub audio_group: Option<String>,
}

/// VIDEO-RANGE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VideoRange {
    /// Standard dynamic range.
    Sdr,
    /// Hybrid log-gamma.
    Hlg,
    /// Perceptual quantizer.
    Pq,
}

impl MasterPlaylist {
    /// Appends the playlist.
    pub fn write(&self, out: &mut String) {
        out.push_str("#EXTM3U\n");
        // Groups need version 4, the rest less (RFC 8216bis section 7).
        let version = if self.renditions.is_empty() { 3 } else { 4 };
        out.push_str("#EXT-X-VERSION:");
        push_number(out, version);
        out.push('\n');
        if self.is_independent {
            out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
        self.renditions
            .iter()
            .for_each(|rendition| rendition.write(out));
        self.variants.iter().for_each(|variant| variant.write(out));
    }
}

impl Rendition {
    fn write(&self, out: &mut String) {
        let mut attributes = Attributes::of(out, "#EXT-X-MEDIA:");
        let kind = match self.kind {
            RenditionKind::Audio => "AUDIO",
            RenditionKind::Video => "VIDEO",
            RenditionKind::Subtitles => "SUBTITLES",
        };
        attributes.word("TYPE", kind);
        attributes.quoted("GROUP-ID", &self.group_id);
        attributes.quoted("NAME", &self.name);
        if let Some(language) = &self.language {
            attributes.quoted("LANGUAGE", language);
        }
        if self.is_default {
            attributes.word("DEFAULT", "YES");
        }
        if self.is_default || self.autoselect {
            attributes.word("AUTOSELECT", "YES");
        }
        if let Some(channels) = self.channels {
            attributes.quoted("CHANNELS", &channels.to_string());
        }
        if let Some(uri) = &self.uri {
            attributes.uri(uri);
        }
        attributes.end();
    }
}

impl Variant {
    fn write(&self, out: &mut String) {
        let mut attributes = Attributes::of(out, "#EXT-X-STREAM-INF:");
        attributes.number("BANDWIDTH", self.bandwidth);
        if let Some(average) = self.average_bandwidth {
            attributes.number("AVERAGE-BANDWIDTH", average);
        }
        if !self.codecs.is_empty() {
            attributes.quoted_list("CODECS", self.codecs.iter().map(String::as_str));
        }
        if let Some(resolution) = self.resolution {
            attributes.resolution("RESOLUTION", resolution);
        }
        if let Some(frames) = self.frames_per_1000_s {
            attributes.thousandths("FRAME-RATE", frames);
        }
        if let Some(range) = self.video_range {
            let range = match range {
                VideoRange::Sdr => "SDR",
                VideoRange::Hlg => "HLG",
                VideoRange::Pq => "PQ",
            };
            attributes.word("VIDEO-RANGE", range);
        }
        if let Some(group) = &self.audio_group {
            attributes.quoted("AUDIO", group);
        }
        attributes.end();
        push_uri(out, &self.uri);
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn video_with_two_audio_tracks() {
        let rendition = |name: &str, language: Option<&str>, is_default| Rendition {
            kind: RenditionKind::Audio,
            group_id: "audio".to_owned(),
            name: name.to_owned(),
            language: language.map(str::to_owned),
            is_default,
            autoselect: true,
            channels: Some(2),
            uri: Some(format!("{name}/index.m3u8")),
        };
        let playlist = MasterPlaylist {
            is_independent: true,
            renditions: vec![
                rendition("2", Some("en"), true),
                rendition("3", None, false),
            ],
            variants: vec![
                Variant {
                    uri: "1/index.m3u8".to_owned(),
                    bandwidth: 2_600_000,
                    average_bandwidth: Some(2_100_000),
                    codecs: vec!["avc1.64001f".to_owned(), "mp4a.40.2".to_owned()],
                    resolution: Some((1280, 720)),
                    frames_per_1000_s: Some(25_000),
                    video_range: Some(VideoRange::Sdr),
                    audio_group: Some("audio".to_owned()),
                },
                Variant {
                    uri: "4/index.m3u8".to_owned(),
                    bandwidth: 900_000,
                    ..Variant::default()
                },
            ],
        };
        let mut out = String::new();
        playlist.write(&mut out);
        assert_eq!(
            out,
            "#EXTM3U\n\
             #EXT-X-VERSION:4\n\
             #EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"2\",LANGUAGE=\"en\",DEFAULT=YES,\
             AUTOSELECT=YES,CHANNELS=\"2\",URI=\"2/index.m3u8\"\n\
             #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"3\",AUTOSELECT=YES,CHANNELS=\"2\",\
             URI=\"3/index.m3u8\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=2600000,AVERAGE-BANDWIDTH=2100000,\
             CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=25.000,\
             VIDEO-RANGE=SDR,AUDIO=\"audio\"\n\
             1/index.m3u8\n\
             #EXT-X-STREAM-INF:BANDWIDTH=900000\n\
             4/index.m3u8\n"
        );
    }

    #[test]
    fn muxed_audio_and_video() {
        let playlist = MasterPlaylist {
            variants: vec![Variant {
                uri: "1_2/index.m3u8?tkn=7".to_owned(),
                bandwidth: 1,
                ..Variant::default()
            }],
            ..MasterPlaylist::default()
        };
        let mut out = String::new();
        playlist.write(&mut out);
        assert_eq!(
            out,
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-STREAM-INF:BANDWIDTH=1\n1_2/index.m3u8?tkn=7\n"
        );
    }
}

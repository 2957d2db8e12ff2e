//! Media playlists (RFC 8216bis sections 4.4.3 to 4.4.5).

use std::time::Duration;

use super::attributes::{Attributes, push_uri};
use crate::base::text::{push_date, push_number, push_seconds};

/// The playlist of one rendition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MediaPlaylist {
    /// Seconds; no segment is longer when rounded to whole seconds, and it never changes while
    /// the stream lives.
    pub target_duration_s: u32,
    /// What a player may do with parts; without it there are none.
    pub low_latency: Option<LowLatency>,
    /// How far from the end players without parts keep: at least three target durations.
    pub hold_back: Option<Duration>,
    /// The number of the first segment.
    pub media_sequence: u64,
    /// How many discontinuities came before the first segment. The first segment's own tag, if it
    /// has one, is not counted.
    pub discontinuity_sequence: u64,
    /// Says that segments do not leave; absent for a sliding window.
    pub playlist_type: Option<PlaylistType>,
    /// Where to begin.
    pub start_offset: Option<StartOffset>,
    /// Oldest first.
    pub segments: Vec<Segment>,
    /// The URI of the next part. Not written when `is_ended`.
    pub preload_hint: Option<String>,
    /// How far the other renditions are.
    pub rendition_reports: Vec<RenditionReport>,
    /// No more segments will come.
    pub is_ended: bool,
}

/// EXT-X-SERVER-CONTROL and EXT-X-PART-INF of a playlist with parts. Reloads block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LowLatency {
    /// No part is longer.
    pub part_target: Duration,
    /// How far from the end players keep: at least two, better three, part targets.
    pub part_hold_back: Duration,
    /// Segments that end longer ago than this may be left out of a delta update: at least six
    /// target durations. `None` says that there are no delta updates.
    pub can_skip_until: Option<Duration>,
}

/// EXT-X-PLAYLIST-TYPE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlaylistType {
    /// Segments are added at the end only.
    Event,
    /// The playlist does not change.
    Vod,
}

/// EXT-X-START.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StartOffset {
    /// Milliseconds from the start, or from the end if negative.
    pub millis: i64,
    /// Not at the start of the segment but there.
    pub is_precise: bool,
}

/// A media segment, whole or as far as it has come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// Its resource. Not written while the segment is open.
    pub uri: String,
    /// The whole segment's. Not written while it is open.
    pub duration: Duration,
    /// Its timestamps, tracks or codecs do not continue those of the segment before.
    pub is_discontinuity: bool,
    /// The wall clock at its first picture, in milliseconds since 1970.
    pub unix_ms: Option<i64>,
    /// Its initialisation segment; written where it differs from that of the segment before.
    pub map: Option<String>,
    /// It is missing and not to be loaded.
    pub is_gap: bool,
    /// None for segments further from the end than three target durations (RFC 8216bis section
    /// 6.2.2).
    pub parts: Vec<Part>,
    /// False for the last segment while it has parts only. Without parts, an open segment is not
    /// written at all.
    pub is_complete: bool,
}

/// EXT-X-PART.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Its resource.
    pub uri: String,
    /// At most `part_target`.
    pub duration: Duration,
    /// It begins with a picture that needs none before it.
    pub is_independent: bool,
    /// It is missing and not to be loaded.
    pub is_gap: bool,
}

/// EXT-X-RENDITION-REPORT.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RenditionReport {
    /// The other playlist, relative to this one.
    pub uri: String,
    /// The number of its last segment, open or not.
    pub last_msn: u64,
    /// The number of the last part of that segment.
    pub last_part: Option<u32>,
}

impl MediaPlaylist {
    /// Appends the playlist; a delta update if `delta` and there is something to leave out.
    pub fn write(&self, delta: bool, out: &mut String) {
        let skipped = if delta { self.skippable() } else { 0 };
        out.reserve(self.size_estimate());
        out.push_str("#EXTM3U\n#EXT-X-VERSION:");
        push_number(out, self.version(skipped > 0));
        out.push_str("\n#EXT-X-TARGETDURATION:");
        push_number(out, self.target_duration_s.into());
        out.push('\n');
        self.write_server_control(out);
        if let Some(low_latency) = &self.low_latency {
            let mut attributes = Attributes::of(out, "#EXT-X-PART-INF:");
            attributes.seconds("PART-TARGET", low_latency.part_target);
            attributes.end();
        }
        out.push_str("#EXT-X-MEDIA-SEQUENCE:");
        push_number(out, self.media_sequence);
        out.push('\n');
        if self.discontinuity_sequence > 0 {
            out.push_str("#EXT-X-DISCONTINUITY-SEQUENCE:");
            push_number(out, self.discontinuity_sequence);
            out.push('\n');
        }
        if let Some(playlist_type) = self.playlist_type {
            out.push_str(match playlist_type {
                PlaylistType::Event => "#EXT-X-PLAYLIST-TYPE:EVENT\n",
                PlaylistType::Vod => "#EXT-X-PLAYLIST-TYPE:VOD\n",
            });
        }
        if let Some(start) = self.start_offset {
            let mut attributes = Attributes::of(out, "#EXT-X-START:");
            attributes.signed_millis("TIME-OFFSET", start.millis);
            if start.is_precise {
                attributes.word("PRECISE", "YES");
            }
            attributes.end();
        }
        if skipped > 0 {
            let mut attributes = Attributes::of(out, "#EXT-X-SKIP:");
            attributes.number("SKIPPED-SEGMENTS", skipped as u64);
            attributes.end();
        }
        self.write_segments(skipped, out);
        if self.is_ended {
            out.push_str("#EXT-X-ENDLIST\n");
        } else if let Some(uri) = &self.preload_hint {
            let mut attributes = Attributes::of(out, "#EXT-X-PRELOAD-HINT:");
            attributes.word("TYPE", "PART");
            attributes.uri(uri);
            attributes.end();
        }
        for report in &self.rendition_reports {
            let mut attributes = Attributes::of(out, "#EXT-X-RENDITION-REPORT:");
            attributes.uri(&report.uri);
            attributes.number("LAST-MSN", report.last_msn);
            if let Some(part) = report.last_part {
                attributes.number("LAST-PART", part.into());
            }
            attributes.end();
        }
    }

    /// RFC 8216bis section 7: EXT-X-SKIP needs version 9, EXT-X-MAP version 6, fractions of a
    /// second version 3.
    fn version(&self, is_delta: bool) -> u64 {
        if is_delta {
            9
        } else if self.segments.iter().any(|segment| segment.map.is_some()) {
            6
        } else {
            3
        }
    }

    /// How many segments lie before the skip boundary: those that end further from the end of the
    /// playlist than `can_skip_until`. The last segment never does, so that a delta update is not
    /// without any.
    fn skippable(&self) -> usize {
        let boundary = self
            .low_latency
            .and_then(|low_latency| low_latency.can_skip_until);
        let Some(boundary) = boundary else {
            return 0;
        };
        let mut after = Duration::ZERO;
        for (index, segment) in self.segments.iter().enumerate().rev() {
            if after > boundary {
                return index + 1;
            }
            after += segment.length();
        }
        0
    }

    fn write_server_control(&self, out: &mut String) {
        if self.low_latency.is_none() && self.hold_back.is_none() {
            return;
        }
        let mut attributes = Attributes::of(out, "#EXT-X-SERVER-CONTROL:");
        if let Some(low_latency) = &self.low_latency {
            attributes.word("CAN-BLOCK-RELOAD", "YES");
            attributes.seconds("PART-HOLD-BACK", low_latency.part_hold_back);
            if let Some(boundary) = low_latency.can_skip_until {
                attributes.seconds("CAN-SKIP-UNTIL", boundary);
            }
        }
        if let Some(hold_back) = self.hold_back {
            attributes.seconds("HOLD-BACK", hold_back);
        }
        attributes.end();
    }

    /// A player keeps the EXT-X-MAP of a skipped segment, so the first segment behind the skipped
    /// ones is compared with the last of them.
    fn write_segments(&self, skipped: usize, out: &mut String) {
        let (before, listed) = self.segments.split_at(skipped);
        let mut map = before
            .iter()
            .rev()
            .find_map(|segment| segment.map.as_deref());
        for segment in listed {
            if !segment.is_complete && segment.parts.is_empty() {
                continue;
            }
            segment.write(map, out);
            map = segment.map.as_deref().or(map);
        }
    }

    /// Enough for the names that the server gives its resources, so that `out` grows once.
    fn size_estimate(&self) -> usize {
        const HEAD: usize = 300;
        const SEGMENT: usize = 100;
        const PART: usize = 80;
        const REPORT: usize = 80;
        let parts: usize = self
            .segments
            .iter()
            .map(|segment| segment.parts.len())
            .sum();
        let reports = self.rendition_reports.len();
        HEAD + self.segments.len() * SEGMENT + parts * PART + reports * REPORT
    }
}

impl Segment {
    /// How much of it there is.
    fn length(&self) -> Duration {
        if self.is_complete {
            self.duration
        } else {
            self.parts.iter().map(|part| part.duration).sum()
        }
    }

    fn write(&self, map_before: Option<&str>, out: &mut String) {
        if self.is_discontinuity {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if let Some(map) = &self.map
            && map_before != Some(map.as_str())
        {
            let mut attributes = Attributes::of(out, "#EXT-X-MAP:");
            attributes.uri(map);
            attributes.end();
        }
        if let Some(unix_ms) = self.unix_ms {
            out.push_str("#EXT-X-PROGRAM-DATE-TIME:");
            push_date(out, unix_ms);
            out.push('\n');
        }
        for part in &self.parts {
            let mut attributes = Attributes::of(out, "#EXT-X-PART:");
            attributes.seconds("DURATION", part.duration);
            attributes.uri(&part.uri);
            if part.is_independent {
                attributes.word("INDEPENDENT", "YES");
            }
            if part.is_gap {
                attributes.word("GAP", "YES");
            }
            attributes.end();
        }
        if self.is_complete {
            if self.is_gap {
                out.push_str("#EXT-X-GAP\n");
            }
            out.push_str("#EXTINF:");
            push_seconds(out, self.duration);
            out.push_str(",\n");
            push_uri(out, &self.uri);
            out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(segment: u64, index: u32) -> Part {
        Part {
            uri: format!("chunk_{segment}.{index}.m4s"),
            duration: Duration::from_nanos(333_333_333),
            is_independent: index == 0,
            is_gap: false,
        }
    }

    fn segment(number: u64, parts: u32) -> Segment {
        Segment {
            uri: format!("chunk_{number}.m4s"),
            duration: Duration::from_secs(2),
            map: Some("init_1.m4s".to_owned()),
            parts: (0..parts).map(|index| part(number, index)).collect(),
            is_complete: true,
            ..Segment::default()
        }
    }

    /// 20 segments, the newest with parts, and one open.
    fn live() -> MediaPlaylist {
        let mut segments: Vec<Segment> = (100..119).map(|number| segment(number, 0)).collect();
        segments[0].unix_ms = Some(1_789_000_000_123);
        segments.push(segment(119, 2));
        segments.push(Segment {
            is_complete: false,
            ..segment(120, 1)
        });
        MediaPlaylist {
            target_duration_s: 2,
            low_latency: Some(LowLatency {
                part_target: Duration::from_nanos(333_333_333),
                part_hold_back: Duration::from_secs(1),
                can_skip_until: Some(Duration::from_secs(12)),
            }),
            media_sequence: 100,
            segments,
            preload_hint: Some("chunk_120.1.m4s".to_owned()),
            rendition_reports: vec![RenditionReport {
                uri: "../2/index.m3u8".to_owned(),
                last_msn: 120,
                last_part: Some(0),
            }],
            ..MediaPlaylist::default()
        }
    }

    fn text(playlist: &MediaPlaylist, delta: bool) -> String {
        let mut out = String::new();
        playlist.write(delta, &mut out);
        out
    }

    const TAIL: &str = "\
        #EXT-X-PART:DURATION=0.333333,URI=\"chunk_119.0.m4s\",INDEPENDENT=YES\n\
        #EXT-X-PART:DURATION=0.333333,URI=\"chunk_119.1.m4s\"\n\
        #EXTINF:2,\nchunk_119.m4s\n\
        #EXT-X-PART:DURATION=0.333333,URI=\"chunk_120.0.m4s\",INDEPENDENT=YES\n\
        #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"chunk_120.1.m4s\"\n\
        #EXT-X-RENDITION-REPORT:URI=\"../2/index.m3u8\",LAST-MSN=120,LAST-PART=0\n";

    #[test]
    fn low_latency_whole() {
        let mut expected = "#EXTM3U\n\
            #EXT-X-VERSION:6\n\
            #EXT-X-TARGETDURATION:2\n\
            #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1,CAN-SKIP-UNTIL=12\n\
            #EXT-X-PART-INF:PART-TARGET=0.333333\n\
            #EXT-X-MEDIA-SEQUENCE:100\n\
            #EXT-X-MAP:URI=\"init_1.m4s\"\n\
            #EXT-X-PROGRAM-DATE-TIME:2026-09-10T00:26:40.123Z\n"
            .to_owned();
        for number in 100..119 {
            expected += &format!("#EXTINF:2,\nchunk_{number}.m4s\n");
        }
        assert_eq!(text(&live(), false), expected + TAIL);
    }

    /// The last 12 s and a third end with segment 120: what ends before that is left out.
    #[test]
    fn low_latency_delta() {
        let mut expected = "#EXTM3U\n\
            #EXT-X-VERSION:9\n\
            #EXT-X-TARGETDURATION:2\n\
            #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1,CAN-SKIP-UNTIL=12\n\
            #EXT-X-PART-INF:PART-TARGET=0.333333\n\
            #EXT-X-MEDIA-SEQUENCE:100\n\
            #EXT-X-SKIP:SKIPPED-SEGMENTS=14\n"
            .to_owned();
        for number in 114..119 {
            expected += &format!("#EXTINF:2,\nchunk_{number}.m4s\n");
        }
        assert_eq!(text(&live(), true), expected + TAIL);
    }

    #[test]
    fn a_delta_without_anything_to_leave_out_is_whole() {
        let mut playlist = live();
        playlist.segments.drain(..14);
        assert_eq!(text(&playlist, true), text(&playlist, false));
        let mut playlist = live();
        playlist.low_latency = None;
        assert_eq!(text(&playlist, true), text(&playlist, false));
    }

    #[test]
    fn publisher_returned_with_other_codecs() {
        let mut playlist = live();
        playlist.media_sequence = 118;
        playlist.discontinuity_sequence = 3;
        playlist.segments.drain(..18);
        playlist.segments[1].parts.clear();
        let open = &mut playlist.segments[2];
        open.is_discontinuity = true;
        open.unix_ms = Some(1_789_000_010_000);
        open.map = Some("init_2.m4s".to_owned());
        assert_eq!(
            text(&playlist, false),
            "#EXTM3U\n\
             #EXT-X-VERSION:6\n\
             #EXT-X-TARGETDURATION:2\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1,CAN-SKIP-UNTIL=12\n\
             #EXT-X-PART-INF:PART-TARGET=0.333333\n\
             #EXT-X-MEDIA-SEQUENCE:118\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:3\n\
             #EXT-X-MAP:URI=\"init_1.m4s\"\n\
             #EXTINF:2,\nchunk_118.m4s\n\
             #EXTINF:2,\nchunk_119.m4s\n\
             #EXT-X-DISCONTINUITY\n\
             #EXT-X-MAP:URI=\"init_2.m4s\"\n\
             #EXT-X-PROGRAM-DATE-TIME:2026-09-10T00:26:50.000Z\n\
             #EXT-X-PART:DURATION=0.333333,URI=\"chunk_120.0.m4s\",INDEPENDENT=YES\n\
             #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"chunk_120.1.m4s\"\n\
             #EXT-X-RENDITION-REPORT:URI=\"../2/index.m3u8\",LAST-MSN=120,LAST-PART=0\n"
        );
        playlist.segments[2].parts.clear();
        assert!(
            !text(&playlist, false).contains("DISCONTINUITY\n"),
            "an open segment without parts is not there yet"
        );
    }

    #[test]
    fn clip_of_transport_stream_that_has_ended() {
        let whole = |uri: &str, millis, is_gap| Segment {
            uri: uri.to_owned(),
            duration: Duration::from_millis(millis),
            is_gap,
            is_complete: true,
            ..Segment::default()
        };
        let playlist = MediaPlaylist {
            target_duration_s: 4,
            hold_back: Some(Duration::from_secs(12)),
            media_sequence: 7,
            playlist_type: Some(PlaylistType::Vod),
            start_offset: Some(StartOffset {
                millis: 1500,
                is_precise: true,
            }),
            segments: vec![whole("7.ts", 4000, false), whole("8.ts?tkn=1", 3960, true)],
            preload_hint: Some("9.0.ts".to_owned()),
            is_ended: true,
            ..MediaPlaylist::default()
        };
        assert_eq!(
            text(&playlist, false),
            "#EXTM3U\n\
             #EXT-X-VERSION:3\n\
             #EXT-X-TARGETDURATION:4\n\
             #EXT-X-SERVER-CONTROL:HOLD-BACK=12\n\
             #EXT-X-MEDIA-SEQUENCE:7\n\
             #EXT-X-PLAYLIST-TYPE:VOD\n\
             #EXT-X-START:TIME-OFFSET=1.5,PRECISE=YES\n\
             #EXTINF:4,\n7.ts\n\
             #EXT-X-GAP\n#EXTINF:3.96,\n8.ts?tkn=1\n\
             #EXT-X-ENDLIST\n"
        );
    }
}

//! Reading playlists as a player does: what is to be loaded next, and nothing else.

/// A media playlist.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Playlist {
    pub(super) target_us: i64,
    pub(super) part_hold_back_us: i64,
    pub(super) can_block: bool,
    /// Number of the first segment that is listed here.
    pub(super) first: u64,
    pub(super) segments: Vec<Segment>,
    pub(super) hint: Option<String>,
    pub(super) map: Option<String>,
    pub(super) is_ended: bool,
}

/// A segment, or what is there of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Segment {
    /// `None` while it has parts only.
    pub(super) uri: Option<String>,
    /// Microseconds since 1970, where the playlist says it or it follows.
    pub(super) start_us: Option<i64>,
    pub(super) duration_us: i64,
    pub(super) parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Part {
    pub(super) uri: String,
    pub(super) duration_us: i64,
    pub(super) is_independent: bool,
}

impl Playlist {
    /// `None` if it is not a media playlist.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut playlist = Self::default();
        let mut open = Segment::default();
        let mut lines = text.lines();
        if lines.next()? != "#EXTM3U" {
            return None;
        }
        let (mut sequence, mut skipped) = (0, 0);
        for line in lines {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            match name {
                "#EXTINF" => open.duration_us = micros(value.split(',').next()?)?,
                "#EXT-X-PART" => open.parts.push(Part {
                    uri: attribute(value, "URI")?.to_owned(),
                    duration_us: micros(attribute(value, "DURATION")?)?,
                    is_independent: attribute(value, "INDEPENDENT") == Some("YES"),
                }),
                "#EXT-X-PROGRAM-DATE-TIME" => open.start_us = Some(date(value)?),
                "#EXT-X-TARGETDURATION" => playlist.target_us = micros(value)?,
                "#EXT-X-SERVER-CONTROL" => {
                    playlist.can_block = attribute(value, "CAN-BLOCK-RELOAD") == Some("YES");
                    let hold_back = attribute(value, "PART-HOLD-BACK").and_then(micros);
                    playlist.part_hold_back_us = hold_back.unwrap_or(0);
                }
                "#EXT-X-MEDIA-SEQUENCE" => sequence = value.parse().ok()?,
                "#EXT-X-SKIP" => skipped = attribute(value, "SKIPPED-SEGMENTS")?.parse().ok()?,
                "#EXT-X-MAP" => playlist.map = Some(attribute(value, "URI")?.to_owned()),
                "#EXT-X-PRELOAD-HINT" => {
                    playlist.hint = attribute(value, "URI").map(str::to_owned);
                }
                "#EXT-X-ENDLIST" => playlist.is_ended = true,
                "" => {}
                _ if name.starts_with('#') => {}
                _ => {
                    open.uri = Some(line.to_owned());
                    playlist.push(std::mem::take(&mut open));
                }
            }
        }
        if !open.parts.is_empty() {
            open.duration_us = open.parts.iter().map(|part| part.duration_us).sum();
            playlist.push(open);
        }
        playlist.first = sequence + skipped;
        Some(playlist)
    }

    fn push(&mut self, mut segment: Segment) {
        let before = self.segments.last();
        let end = before.and_then(|before| Some(before.start_us? + before.duration_us));
        segment.start_us = segment.start_us.or(end);
        self.segments.push(segment);
    }

    /// What a blocking reload asks for next.
    pub(super) fn next(&self) -> (u64, u64) {
        let after = self.first + self.segments.len() as u64;
        match self.segments.last() {
            Some(Segment {
                uri: None, parts, ..
            }) => (after - 1, parts.len() as u64),
            Some(_) | None => (after, 0),
        }
    }

    /// Where the media ends, in microseconds since 1970.
    pub(super) fn end_us(&self) -> Option<i64> {
        let last = self.segments.last()?;
        Some(last.start_us? + last.duration_us)
    }
}

/// The media playlists of the first variant of a multivariant playlist: its own, then that of
/// its audio. `None` if it is none.
pub(super) fn variant(text: &str) -> Option<Vec<String>> {
    let mut renditions: Vec<(&str, &str)> = Vec::new();
    let mut group = None;
    let mut is_next = false;
    for line in text.lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        match name {
            "#EXT-X-MEDIA" => {
                if let (Some(id), Some(uri)) =
                    (attribute(value, "GROUP-ID"), attribute(value, "URI"))
                {
                    renditions.push((id, uri));
                }
            }
            "#EXT-X-STREAM-INF" => {
                group = attribute(value, "AUDIO");
                is_next = true;
            }
            _ if is_next && !name.starts_with('#') => {
                let audio = renditions
                    .iter()
                    .find(|(id, uri)| Some(*id) == group && *uri != line);
                let audio = audio.map(|(_, uri)| (*uri).to_owned());
                return Some([line.to_owned()].into_iter().chain(audio).collect());
            }
            _ => {}
        }
    }
    None
}

/// A URI relative to the path of the playlist that names it.
pub(super) fn resolve(base: &str, uri: &str) -> String {
    if uri.starts_with('/') {
        return uri.to_owned();
    }
    let plain = base.split('?').next().unwrap_or(base);
    let mut folder: Vec<&str> = plain.split('/').collect();
    folder.pop();
    let mut rest = uri;
    while let Some(up) = rest.strip_prefix("../") {
        folder.pop();
        rest = up;
    }
    folder.push(rest);
    folder.join("/")
}

fn attribute<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = list;
    loop {
        let (found, after) = rest.split_once('=')?;
        let (value, after) = if let Some(quoted) = after.strip_prefix('"') {
            quoted.split_once('"')?
        } else {
            after.split_at(after.find(',').unwrap_or(after.len()))
        };
        if found == name {
            return Some(value);
        }
        rest = after.strip_prefix(',')?;
    }
}

fn micros(seconds: &str) -> Option<i64> {
    seconds
        .parse::<f64>()
        .ok()
        .map(|seconds| (seconds * 1e6) as i64)
}

/// `2026-11-20T21:43:40.123Z` in microseconds since 1970.
pub(super) fn date(text: &str) -> Option<i64> {
    let field = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    // Days from 0000-03-01: a year begins in March, so that a leap day is its last one.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 1
        - 719_468;
    let seconds = ((days * 24 + field(11, 13)?) * 60 + field(14, 16)?) * 60 + field(17, 19)?;
    let fraction = text.get(19..)?.strip_prefix('.').unwrap_or("0Z");
    let fraction: f64 = format!("0.{}", fraction.strip_suffix('Z')?).parse().ok()?;
    Some(seconds * 1_000_000 + (fraction * 1e6) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_playlist_says_what_comes_next() {
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n\
            #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5\n\
            #EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-MAP:URI=\"init_1.m4s\"\n\
            #EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:01:40.250Z\n#EXTINF:2,\na\n\
            #EXT-X-PART:DURATION=0.5,URI=\"b.0\",INDEPENDENT=YES\n\
            #EXT-X-PART:DURATION=0.25,URI=\"b.1\"\n\
            #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"b.2\"\n";
        let playlist = Playlist::parse(text).unwrap();
        assert_eq!(playlist.next(), (8, 2));
        assert_eq!(playlist.end_us(), Some(103_000_000));
        assert_eq!(playlist.hint.as_deref(), Some("b.2"));
        assert_eq!(playlist.map.as_deref(), Some("init_1.m4s"));
        assert_eq!(playlist.part_hold_back_us, 1_500_000);
        assert!(playlist.segments[1].parts[0].is_independent && playlist.can_block);
    }

    #[test]
    fn the_first_variant_and_its_audio() {
        let text = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",URI=\"2/i\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"a,b\",AUDIO=\"a\"\n1/i\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1\n3/i\n";
        assert_eq!(
            variant(text),
            Some(vec!["1/i".to_owned(), "2/i".to_owned()])
        );
        assert_eq!(variant("#EXTM3U\n"), None);
    }

    #[test]
    fn uris_are_relative_to_the_playlist() {
        assert_eq!(resolve("/cmaf/a/1/i.m3u8?x=/", "../2/i"), "/cmaf/a/2/i");
        assert_eq!(resolve("/cmaf/a/i", "1/i"), "/cmaf/a/1/i");
        assert_eq!(resolve("/cmaf/a/i", "/x"), "/x");
    }

    #[test]
    fn dates() {
        assert_eq!(date("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(
            date("2026-09-10T00:26:40.123Z"),
            Some(1_789_000_000_123_000)
        );
        assert_eq!(date("2000-02-29T00:00:00.000Z"), Some(951_782_400_000_000));
    }
}

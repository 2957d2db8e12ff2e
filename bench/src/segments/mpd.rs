//! Reading a media presentation description: the segment at the live edge of each track.

use std::time::Duration;

use super::m3u8::date;

/// What is there to be loaded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Mpd {
    /// Until it has to be read again.
    pub(super) update: Duration,
    /// The first representation of each adaptation set of the last period.
    pub(super) tracks: Vec<Track>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Track {
    /// Its initialisation segment.
    pub(super) initialization: String,
    media: String,
    first: u64,
    timescale: u64,
    /// The wall clock at media time 0, in microseconds since 1970.
    zero_us: i64,
    /// Start and duration of each segment in ticks.
    timeline: Vec<(u64, u64)>,
}

impl Track {
    /// Number of the newest segment.
    pub(super) fn last(&self) -> u64 {
        (self.first + self.timeline.len() as u64).saturating_sub(1)
    }

    /// URI, end in microseconds since 1970 and duration of a segment. `None` if it is not listed.
    pub(super) fn segment(&self, number: u64) -> Option<(String, i64, i64)> {
        let index = number.checked_sub(self.first)? as usize;
        let (start, duration) = *self.timeline.get(index)?;
        let micros =
            |ticks: u64| (i128::from(ticks) * 1_000_000 / i128::from(self.timescale.max(1))) as i64;
        let uri = self.media.replace("$Number$", &number.to_string());
        Some((
            uri,
            self.zero_us + micros(start + duration),
            micros(duration),
        ))
    }
}

impl Mpd {
    /// `None` if it is not a description with a timeline.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let head = element(text, "MPD")?;
        let start = attribute(head, "availabilityStartTime").and_then(date)?;
        let update = attribute(head, "minimumUpdatePeriod").map_or(2.0, duration);
        let (_, period) = text.rsplit_once("<Period")?;
        let period_start = attribute(period.split('>').next()?, "start").map_or(0.0, duration);
        let start = start + (period_start * 1e6) as i64;
        let sets = period.split("<AdaptationSet").skip(1);
        Some(Self {
            update: Duration::from_secs_f64(update.clamp(0.1, 60.0)),
            tracks: sets.filter_map(|set| track(set, start)).collect(),
        })
    }
}

fn track(set: &str, period_us: i64) -> Option<Track> {
    let id = attribute(element(set, "Representation")?, "id")?;
    let template = element(set, "SegmentTemplate")?;
    let named = |name| Some(attribute(template, name)?.replace("$RepresentationID$", id));
    let number = |name| attribute(template, name).and_then(|text| text.parse::<u64>().ok());
    let timescale = number("timescale").unwrap_or(1);
    let offset = number("presentationTimeOffset").unwrap_or(0);
    let offset_us = i128::from(offset) * 1_000_000 / i128::from(timescale.max(1));
    let (_, lines) = set.split_once("<SegmentTimeline>")?;
    let lines = lines.split("</SegmentTimeline>").next()?;
    let mut timeline: Vec<(u64, u64)> = Vec::new();
    for line in lines.split("<S").skip(1) {
        let number = |name| attribute(line, name).and_then(|text| text.parse::<u64>().ok());
        let length = number("d")?;
        let end = timeline.last().map_or(0, |(start, length)| start + length);
        let mut start = number("t").unwrap_or(end);
        for _ in 0..=number("r").unwrap_or(0) {
            timeline.push((start, length));
            start += length;
        }
    }
    Some(Track {
        initialization: named("initialization")?,
        media: named("media")?,
        first: number("startNumber").unwrap_or(1),
        timescale,
        zero_us: period_us - offset_us as i64,
        timeline,
    })
}

/// The inside of the first start tag of this name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let at = text.find(&format!("<{name} "))?;
    text[at..].split('>').next()
}

fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = element.split_once(&format!(" {name}=\""))?;
    value.split('"').next()
}

/// `PT1H2M3.5S` in seconds.
fn duration(text: &str) -> f64 {
    let (mut sum, mut number) = (0.0, String::new());
    for c in text.trim_start_matches("PT").chars() {
        let unit = match c {
            'H' => 3600.0,
            'M' => 60.0,
            'S' => 1.0,
            _ => {
                number.push(c);
                continue;
            }
        };
        sum += number.parse::<f64>().unwrap_or(0.0) * unit;
        number.clear();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_segment_of_each_track() {
        let text = r#"<?xml version="1.0"?><MPD type="dynamic" availabilityStartTime="1970-01-01T00:01:40.000Z" minimumUpdatePeriod="PT0M1.5S">
<Period id="0" start="PT0S"></Period><Period id="1" start="PT10S">
<AdaptationSet id="0"><Representation id="7" codecs="x">
<SegmentTemplate timescale="1000" presentationTimeOffset="10000" startNumber="5" initialization="$RepresentationID$/i" media="$RepresentationID$/c_$Number$.m4s">
<SegmentTimeline><S t="10000" d="2000" r="2"/><S d="1500"/></SegmentTimeline></SegmentTemplate></Representation></AdaptationSet></Period></MPD>"#;
        let mpd = Mpd::parse(text).unwrap();
        assert_eq!(mpd.update, Duration::from_millis(1500));
        let track = &mpd.tracks[0];
        assert_eq!((track.last(), track.initialization.as_str()), (8, "7/i"));
        let end = 100_000_000 + 10_000_000 + 7_500_000;
        assert_eq!(
            track.segment(8),
            Some(("7/c_8.m4s".to_owned(), end, 1_500_000))
        );
        assert_eq!(track.segment(9), None);
        assert_eq!(track.segment(4), None);
    }
}

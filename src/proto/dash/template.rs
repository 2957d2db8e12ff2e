//! Segments of a representation (ISO/IEC 23009-1 sections 5.3.9.4 and 5.3.9.6).

use std::time::Duration;

use super::xml;

/// SegmentTemplate with a SegmentTimeline.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SegmentTemplate {
    /// Ticks a second of the timeline.
    pub timescale: u32,
    /// The number of the first segment of `timeline`.
    pub start_number: u64,
    /// With `$RepresentationID$` and `$Number$`.
    pub media: String,
    /// With `$RepresentationID$`.
    pub initialization: String,
    /// The media time at the start of the period, in ticks.
    pub presentation_time_offset: u64,
    /// How long before its end a segment can be asked for and comes as it is made: its length
    /// less that of a chunk. `None` if only whole segments are served.
    pub availability_time_offset: Option<Duration>,
    /// Oldest first.
    pub timeline: Vec<TimelineEntry>,
}

/// One segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimelineEntry {
    /// Media time of its first sample, in ticks.
    pub start: u64,
    /// In ticks; for a segment that is not finished, what it is expected to become.
    pub duration: u64,
}

impl SegmentTemplate {
    pub(super) fn write(&self, out: &mut String) {
        xml::begin(out, "SegmentTemplate");
        xml::number(out, "timescale", self.timescale.into());
        if self.presentation_time_offset > 0 {
            xml::number(out, "presentationTimeOffset", self.presentation_time_offset);
        }
        if let Some(offset) = self.availability_time_offset {
            xml::seconds(out, "availabilityTimeOffset", offset);
            xml::text(out, "availabilityTimeComplete", "false");
        }
        xml::number(out, "startNumber", self.start_number);
        xml::text(out, "initialization", &self.initialization);
        xml::text(out, "media", &self.media);
        xml::open(out);
        xml::begin(out, "SegmentTimeline");
        xml::open(out);
        write_timeline(&self.timeline, out);
        xml::end(out, "SegmentTimeline");
        xml::end(out, "SegmentTemplate");
    }
}

/// Segments of one length that follow each other are one element; a start is written where it is
/// not the end of the segment before.
fn write_timeline(timeline: &[TimelineEntry], out: &mut String) {
    let mut end = None;
    let continues = |before: &TimelineEntry, after: &TimelineEntry| {
        before.duration == after.duration && before.end() == after.start
    };
    for run in timeline.chunk_by(continues) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            continue;
        };
        xml::begin(out, "S");
        if end != Some(first.start) {
            xml::number(out, "t", first.start);
        }
        xml::number(out, "d", first.duration);
        if run.len() > 1 {
            xml::number(out, "r", run.len() as u64 - 1);
        }
        xml::close(out);
        end = Some(last.end());
    }
}

impl TimelineEntry {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_compressed_and_gaps_are_kept() {
        let timeline = [
            (100, 10),
            (110, 10),
            (120, 10),
            (130, 11),
            (141, 10),
            (160, 10),
            (170, 10),
            (180, 9),
        ]
        .map(|(start, duration)| TimelineEntry { start, duration });
        let mut out = String::new();
        write_timeline(&timeline, &mut out);
        assert_eq!(
            out,
            "<S t=\"100\" d=\"10\" r=\"2\"/>\n<S d=\"11\"/>\n<S d=\"10\"/>\n\
             <S t=\"160\" d=\"10\" r=\"1\"/>\n<S d=\"9\"/>\n"
        );
    }
}

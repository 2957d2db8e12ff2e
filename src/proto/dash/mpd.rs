//! The description from MPD down to Representation (ISO/IEC 23009-1 section 5.3).

use std::time::Duration;

use super::template::SegmentTemplate;
use super::xml;

/// A presentation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mpd {
    /// The wall clock at time 0 of the presentation, in milliseconds since 1970. Never changes.
    pub availability_start_unix_ms: i64,
    /// When this description was made, in milliseconds since 1970. Later descriptions have a later
    /// one.
    pub publish_unix_ms: i64,
    /// How soon a player must look again. `None`: it does not change.
    pub minimum_update_period: Option<Duration>,
    /// How far back segments are kept.
    pub time_shift_buffer_depth: Option<Duration>,
    /// How far behind the clock a player without `target_latency` keeps.
    pub suggested_presentation_delay: Option<Duration>,
    /// What a player has to have at hand before it begins.
    pub min_buffer_time: Duration,
    /// No segment is longer.
    pub max_segment_duration: Option<Duration>,
    /// The whole length once the stream has ended; makes the presentation static.
    pub duration: Option<Duration>,
    /// What a player aims at.
    pub target_latency: Option<TargetLatency>,
    /// Where a player gets the time, the preferred way first.
    pub utc_timing: Vec<UtcTiming>,
    /// Oldest first.
    pub periods: Vec<Period>,
}

/// ServiceDescription (Annex K).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TargetLatency {
    /// Aimed at.
    pub target: Duration,
    /// Not closer than this.
    pub min: Duration,
    /// Beyond this a player jumps.
    pub max: Duration,
}

/// UTCTiming (section 5.8.4.11).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UtcTiming {
    /// A URL whose body is the time as ISO/IEC 8601 writes it.
    HttpIso(String),
    /// A URL whose answer has a Date field.
    HttpHead(String),
    /// The time itself, in milliseconds since 1970.
    Direct(i64),
}

/// A stretch without discontinuities.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Period {
    /// Differs from that of every other period and stays the same.
    pub id: String,
    /// From `availability_start_unix_ms`, in milliseconds.
    pub start_ms: u64,
    /// Tracks of which one each is played.
    pub adaptation_sets: Vec<AdaptationSet>,
}

/// Representations that a player may switch between.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AdaptationSet {
    /// Differs from that of every other set of the period.
    pub id: u32,
    /// As BCP 47 has it.
    pub language: Option<String>,
    /// All of one kind.
    pub representations: Vec<Representation>,
}

/// One track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Representation {
    /// What `$RepresentationID$` stands for.
    pub id: String,
    /// As RFC 6381 has it.
    pub codecs: String,
    /// bit/s.
    pub bandwidth: u64,
    /// Video or audio.
    pub kind: RepresentationKind,
    /// Its segments.
    pub template: SegmentTemplate,
}

/// What a track is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RepresentationKind {
    /// Pictures.
    Video {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Frames in so many seconds, such as 30000/1001.
        frame_rate: Option<(u32, u32)>,
    },
    /// Sound.
    Audio {
        /// Hz.
        rate: u32,
        /// 1 to 24.
        channels: u32,
    },
}

impl Mpd {
    /// Appends the document.
    pub fn write(&self, out: &mut String) {
        out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        xml::begin(out, "MPD");
        xml::text(out, "xmlns", "urn:mpeg:dash:schema:mpd:2011");
        let is_low_latency = self.target_latency.is_some();
        let profiles = if is_low_latency {
            "urn:mpeg:dash:profile:isoff-live:2011,\
             http://www.dashif.org/guidelines/low-latency-live-v5"
        } else {
            "urn:mpeg:dash:profile:isoff-live:2011"
        };
        xml::text(out, "profiles", profiles);
        self.write_times(out);
        xml::open(out);
        if let Some(latency) = &self.target_latency {
            latency.write(out);
        }
        for period in &self.periods {
            period.write(out);
        }
        for timing in &self.utc_timing {
            timing.write(out);
        }
        xml::end(out, "MPD");
    }

    fn write_times(&self, out: &mut String) {
        let optional = |key: &str, value: Option<Duration>, out: &mut String| {
            if let Some(value) = value {
                xml::duration(out, key, value);
            }
        };
        if self.duration.is_some() {
            xml::text(out, "type", "static");
            optional("mediaPresentationDuration", self.duration, out);
        } else {
            xml::text(out, "type", "dynamic");
            xml::date(
                out,
                "availabilityStartTime",
                self.availability_start_unix_ms,
            );
            xml::date(out, "publishTime", self.publish_unix_ms);
            optional("minimumUpdatePeriod", self.minimum_update_period, out);
            optional("timeShiftBufferDepth", self.time_shift_buffer_depth, out);
            let delay = self.suggested_presentation_delay;
            optional("suggestedPresentationDelay", delay, out);
        }
        xml::duration(out, "minBufferTime", self.min_buffer_time);
        optional("maxSegmentDuration", self.max_segment_duration, out);
    }
}

impl TargetLatency {
    /// The playback rates are those within which people do not hear a change.
    fn write(self, out: &mut String) {
        let millis = |duration: Duration| duration.as_millis() as u64;
        xml::begin(out, "ServiceDescription");
        xml::number(out, "id", 0);
        xml::open(out);
        xml::begin(out, "Latency");
        xml::number(out, "target", millis(self.target));
        xml::number(out, "min", millis(self.min));
        xml::number(out, "max", millis(self.max));
        xml::close(out);
        xml::begin(out, "PlaybackRate");
        xml::text(out, "min", "0.96");
        xml::text(out, "max", "1.04");
        xml::close(out);
        xml::end(out, "ServiceDescription");
    }
}

impl UtcTiming {
    fn write(&self, out: &mut String) {
        xml::begin(out, "UTCTiming");
        match self {
            Self::HttpIso(url) => {
                xml::text(out, "schemeIdUri", "urn:mpeg:dash:utc:http-iso:2014");
                xml::text(out, "value", url);
            }
            Self::HttpHead(url) => {
                xml::text(out, "schemeIdUri", "urn:mpeg:dash:utc:http-head:2014");
                xml::text(out, "value", url);
            }
            Self::Direct(unix_ms) => {
                xml::text(out, "schemeIdUri", "urn:mpeg:dash:utc:direct:2014");
                xml::date(out, "value", *unix_ms);
            }
        }
        xml::close(out);
    }
}

impl Period {
    fn write(&self, out: &mut String) {
        xml::begin(out, "Period");
        xml::text(out, "id", &self.id);
        xml::duration(out, "start", Duration::from_millis(self.start_ms));
        xml::open(out);
        for set in &self.adaptation_sets {
            set.write(out);
        }
        xml::end(out, "Period");
    }
}

impl AdaptationSet {
    /// A set without representations is not allowed and not written.
    fn write(&self, out: &mut String) {
        let Some(first) = self.representations.first() else {
            return;
        };
        let (kind, mime) = match first.kind {
            RepresentationKind::Video { .. } => ("video", "video/mp4"),
            RepresentationKind::Audio { .. } => ("audio", "audio/mp4"),
        };
        xml::begin(out, "AdaptationSet");
        xml::number(out, "id", self.id.into());
        xml::text(out, "contentType", kind);
        xml::text(out, "mimeType", mime);
        if let Some(language) = &self.language {
            xml::text(out, "lang", language);
        }
        xml::text(out, "segmentAlignment", "true");
        xml::number(out, "startWithSAP", 1);
        xml::open(out);
        for representation in &self.representations {
            representation.write(out);
        }
        xml::end(out, "AdaptationSet");
    }
}

impl Representation {
    fn write(&self, out: &mut String) {
        xml::begin(out, "Representation");
        xml::text(out, "id", &self.id);
        xml::text(out, "codecs", &self.codecs);
        xml::number(out, "bandwidth", self.bandwidth);
        match self.kind {
            RepresentationKind::Video {
                width,
                height,
                frame_rate,
            } => {
                xml::number(out, "width", width.into());
                xml::number(out, "height", height.into());
                match frame_rate {
                    Some((frames, 1)) => xml::number(out, "frameRate", frames.into()),
                    Some((frames, seconds)) => {
                        xml::text(out, "frameRate", &format!("{frames}/{seconds}"));
                    }
                    None => {}
                }
                xml::open(out);
            }
            RepresentationKind::Audio { rate, channels } => {
                xml::number(out, "audioSamplingRate", rate.into());
                xml::open(out);
                xml::begin(out, "AudioChannelConfiguration");
                let scheme = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011";
                xml::text(out, "schemeIdUri", scheme);
                xml::number(out, "value", channels.into());
                xml::close(out);
            }
        }
        self.template.write(out);
        xml::end(out, "Representation");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dash::TimelineEntry;

    fn template(timescale: u32, starts: &[u64], duration: u64) -> SegmentTemplate {
        SegmentTemplate {
            timescale,
            start_number: 1_789_000_003,
            media: "$RepresentationID$/chunk_$Number$.m4s".to_owned(),
            initialization: "$RepresentationID$/init_1.m4s".to_owned(),
            presentation_time_offset: 0,
            availability_time_offset: Some(Duration::from_millis(1667)),
            timeline: starts
                .iter()
                .map(|start| TimelineEntry {
                    start: *start,
                    duration,
                })
                .collect(),
        }
    }

    fn live() -> Mpd {
        Mpd {
            availability_start_unix_ms: 1_789_000_000_123,
            publish_unix_ms: 1_789_000_010_000,
            minimum_update_period: Some(Duration::from_secs(2)),
            time_shift_buffer_depth: Some(Duration::from_secs(60)),
            suggested_presentation_delay: Some(Duration::from_millis(3500)),
            min_buffer_time: Duration::from_secs(1),
            max_segment_duration: Some(Duration::from_secs(2)),
            duration: None,
            target_latency: Some(TargetLatency {
                target: Duration::from_millis(2500),
                min: Duration::from_millis(1000),
                max: Duration::from_millis(6000),
            }),
            utc_timing: vec![
                UtcTiming::HttpIso("/time?a=1&b".to_owned()),
                UtcTiming::HttpHead("/time".to_owned()),
                UtcTiming::Direct(1_789_000_010_001),
            ],
            periods: vec![Period {
                id: "1".to_owned(),
                start_ms: 1500,
                adaptation_sets: vec![
                    AdaptationSet {
                        id: 0,
                        language: None,
                        representations: vec![Representation {
                            id: "1".to_owned(),
                            codecs: "avc1.64001f".to_owned(),
                            bandwidth: 2_000_000,
                            kind: RepresentationKind::Video {
                                width: 1280,
                                height: 720,
                                frame_rate: Some((30_000, 1001)),
                            },
                            template: SegmentTemplate {
                                presentation_time_offset: 135_000,
                                ..template(90_000, &[135_000, 315_000, 495_000], 180_000)
                            },
                        }],
                    },
                    AdaptationSet {
                        id: 1,
                        language: Some("en".to_owned()),
                        representations: vec![Representation {
                            id: "2".to_owned(),
                            codecs: "mp4a.40.2".to_owned(),
                            bandwidth: 128_000,
                            kind: RepresentationKind::Audio {
                                rate: 48_000,
                                channels: 2,
                            },
                            template: SegmentTemplate {
                                availability_time_offset: None,
                                ..template(48_000, &[0], 96_256)
                            },
                        }],
                    },
                    AdaptationSet::default(),
                ],
            }],
        }
    }

    #[test]
    fn live_with_low_latency() {
        let mut out = String::new();
        live().write(&mut out);
        assert_eq!(
            out,
            r#"<?xml version="1.0" encoding="UTF-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011,http://www.dashif.org/guidelines/low-latency-live-v5" type="dynamic" availabilityStartTime="2026-09-10T00:26:40.123Z" publishTime="2026-09-10T00:26:50.000Z" minimumUpdatePeriod="PT2S" timeShiftBufferDepth="PT60S" suggestedPresentationDelay="PT3.5S" minBufferTime="PT1S" maxSegmentDuration="PT2S">
<ServiceDescription id="0">
<Latency target="2500" min="1000" max="6000"/>
<PlaybackRate min="0.96" max="1.04"/>
</ServiceDescription>
<Period id="1" start="PT1.5S">
<AdaptationSet id="0" contentType="video" mimeType="video/mp4" segmentAlignment="true" startWithSAP="1">
<Representation id="1" codecs="avc1.64001f" bandwidth="2000000" width="1280" height="720" frameRate="30000/1001">
<SegmentTemplate timescale="90000" presentationTimeOffset="135000" availabilityTimeOffset="1.667" availabilityTimeComplete="false" startNumber="1789000003" initialization="$RepresentationID$/init_1.m4s" media="$RepresentationID$/chunk_$Number$.m4s">
<SegmentTimeline>
<S t="135000" d="180000" r="2"/>
</SegmentTimeline>
</SegmentTemplate>
</Representation>
</AdaptationSet>
<AdaptationSet id="1" contentType="audio" mimeType="audio/mp4" lang="en" segmentAlignment="true" startWithSAP="1">
<Representation id="2" codecs="mp4a.40.2" bandwidth="128000" audioSamplingRate="48000">
<AudioChannelConfiguration schemeIdUri="urn:mpeg:dash:23003:3:audio_channel_configuration:2011" value="2"/>
<SegmentTemplate timescale="48000" startNumber="1789000003" initialization="$RepresentationID$/init_1.m4s" media="$RepresentationID$/chunk_$Number$.m4s">
<SegmentTimeline>
<S t="0" d="96256"/>
</SegmentTimeline>
</SegmentTemplate>
</Representation>
</AdaptationSet>
</Period>
<UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-iso:2014" value="/time?a=1&amp;b"/>
<UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-head:2014" value="/time"/>
<UTCTiming schemeIdUri="urn:mpeg:dash:utc:direct:2014" value="2026-09-10T00:26:50.001Z"/>
</MPD>
"#
        );
    }

    #[test]
    fn an_ended_presentation_is_static() {
        let mpd = Mpd {
            duration: Some(Duration::from_millis(61_500)),
            target_latency: None,
            periods: Vec::new(),
            utc_timing: Vec::new(),
            ..live()
        };
        let mut out = String::new();
        mpd.write(&mut out);
        assert_eq!(
            out,
            r#"<?xml version="1.0" encoding="UTF-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static" mediaPresentationDuration="PT61.5S" minBufferTime="PT1S" maxSegmentDuration="PT2S">
</MPD>
"#
        );
    }
}

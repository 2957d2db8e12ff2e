//! From listings to playlists and descriptions.

use std::time::Duration;

use crate::media::{Kind, MediaTime, Track, codec};
use crate::proto::dash;
use crate::proto::hls;
use crate::streams::segments::cutter::Epoch;
use crate::streams::segments::listing::{Listing, Segment};
use crate::streams::segments::{Form, Key};

/// Ticks a second of DASH timelines: those of most fragments' own clocks are parts of it.
const TIMESCALE: u32 = 90_000;

/// How far from the end low-latency players keep, in parts (RFC 8216bis 4.4.3.8 recommends three).
const PARTS_BACK: u32 = 3;

/// Segments further from the end than this may be left out of delta updates, in target durations
/// (RFC 8216bis 4.4.3.8: at least six).
const SKIP_TARGETS: u32 = 6;

/// Parts are listed for so many target durations from the end (RFC 8216bis 4.4.4.9: three).
const PARTS_TARGETS: u32 = 3;

/// What a track adds to a master playlist or a description.
#[derive(Clone, Debug)]
pub(in crate::streams) struct Facts {
    pub(in crate::streams) track: Track,
    /// Bits a second over the last seconds, and the most of these.
    pub(in crate::streams) rate: u64,
    pub(in crate::streams) rate_max: u64,
}

/// A span of the stream that a player wants, on the stream's timeline.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::streams) struct Clip {
    pub(in crate::streams) start: Option<MediaTime>,
    pub(in crate::streams) stop: Option<MediaTime>,
}

impl Clip {
    pub(in crate::streams) fn is_all(self) -> bool {
        self == Self::default()
    }

    fn has(self, segment: &Segment) -> bool {
        let start = segment.opening.start;
        let duration = segment.whole.as_ref().map_or(Duration::ZERO, |(d, _)| *d);
        let end = start + MediaTime::from_micros(duration.as_micros() as i64);
        self.start
            .is_none_or(|from| segment.whole.is_none() || end > from)
            && self.stop.is_none_or(|to| start < to)
    }

    /// Everything up to the end of the span is there.
    fn is_over(self, listing: &Listing) -> bool {
        self.stop.is_some_and(|to| {
            listing
                .segments()
                .next_back()
                .is_some_and(|newest| newest.opening.start >= to)
        })
    }
}

/// The name of a segment or a part.
fn file(form: Form, number: u64, part: Option<usize>) -> String {
    match (form, part) {
        (Form::Ts, None) => format!("{number}.ts"),
        (Form::Ts, Some(part)) => format!("{number}.{part}.ts"),
        (Form::Cmaf, None) => format!("chunk_{number}.m4s"),
        (Form::Cmaf, Some(part)) => format!("chunk_{number}.{part}.m4s"),
    }
}

/// The playlist of one rendition.
pub(in crate::streams) fn media(
    form: Form,
    listing: &Listing,
    has_parts: bool,
    clip: Clip,
    reports: Vec<hls::RenditionReport>,
) -> hls::MediaPlaylist {
    let target = listing.target_s();
    let target_duration = Duration::from_secs(target.into());
    let is_over = clip.is_over(listing);
    let has_parts = has_parts && !is_over;
    let mut left = Duration::ZERO;
    let mut first = None;
    let mut segments: Vec<hls::Segment> = Vec::new();
    for segment in listing.segments() {
        if !clip.has(segment) {
            continue;
        }
        first.get_or_insert(segment.opening);
        segments.push(hls::Segment {
            uri: file(form, segment.opening.number, None),
            duration: segment.whole.as_ref().map_or(Duration::ZERO, |(d, _)| *d),
            is_discontinuity: segment.opening.is_discontinuity,
            unix_ms: Some(segment.opening.unix_ms),
            map: (form == Form::Cmaf).then(|| format!("init_{}.m4s", segment.opening.init)),
            is_gap: segment.is_gap,
            parts: Vec::new(),
            is_complete: segment.whole.is_some(),
        });
    }
    if has_parts {
        for (listed, segment) in segments.iter_mut().rev().zip(listing.segments().rev()) {
            if left > PARTS_TARGETS * target_duration {
                break;
            }
            left += listed.duration;
            let number = segment.opening.number;
            listed.parts = segment
                .parts
                .iter()
                .enumerate()
                .map(|(index, part)| hls::Part {
                    uri: file(form, number, Some(index)),
                    duration: part.duration,
                    is_independent: part.is_independent,
                    is_gap: false,
                })
                .collect();
        }
    }
    let next = listing.next_part();
    hls::MediaPlaylist {
        target_duration_s: target,
        low_latency: has_parts.then(|| hls::LowLatency {
            part_target: listing.part_max(),
            part_hold_back: PARTS_BACK * listing.part_max(),
            can_skip_until: clip.is_all().then_some(SKIP_TARGETS * target_duration),
        }),
        hold_back: None,
        media_sequence: first
            .map(|first| first.number)
            .or_else(|| next.map(|(number, _)| number))
            .unwrap_or(0),
        discontinuity_sequence: first.map_or(0, |first| first.discontinuities_before()),
        playlist_type: is_over.then_some(hls::PlaylistType::Vod),
        start_offset: None,
        segments,
        preload_hint: listing
            .likely_next_part()
            .filter(|_| has_parts)
            .map(|(number, part)| file(form, number, Some(part))),
        rendition_reports: reports,
        is_ended: is_over,
    }
}

/// The playlist of a whole stream. `query` goes behind the names of all playlists, with its question
/// mark.
pub(in crate::streams) fn master(form: Form, facts: &[Facts], query: &str) -> hls::MasterPlaylist {
    let of_kind = |kind| facts.iter().filter(move |fact| fact.track.kind() == kind);
    let videos: Vec<&Facts> = of_kind(Kind::Video).collect();
    let audios: Vec<&Facts> = of_kind(Kind::Audio).collect();
    let uri = |tracks: &[&Facts]| {
        let key = Key::new(form, tracks.iter().map(|fact| fact.track.id));
        format!("{}/index.m3u8{query}", key.name())
    };
    let mut playlist = hls::MasterPlaylist {
        is_independent: true,
        ..hls::MasterPlaylist::default()
    };
    if videos.is_empty() {
        playlist.variants = audios
            .iter()
            .map(|audio| variant(uri(&[audio]), None, Some(audio)))
            .collect();
        return playlist;
    }
    // Sounds of one codec are alternatives in a group; one variant for each codec, since a player
    // takes the variants whose codecs it knows.
    let mut codecs: Vec<String> = Vec::new();
    for audio in &audios {
        let codec = codec::rfc6381(&audio.track);
        if !codecs.contains(&codec) {
            codecs.push(codec);
        }
    }
    for (index, codec) in codecs.iter().enumerate() {
        let group: Vec<&&Facts> = audios
            .iter()
            .filter(|audio| codec::rfc6381(&audio.track) == *codec)
            .collect();
        let is_muxed_alone = form == Form::Ts && group.len() == 1;
        let group_id = format!("aud{index}");
        for (place, audio) in group.iter().enumerate() {
            if is_muxed_alone {
                break;
            }
            let is_muxed = form == Form::Ts && place == 0;
            playlist.renditions.push(rendition(
                &group_id,
                audio,
                place == 0,
                (!is_muxed).then(|| uri(&[audio])),
            ));
        }
        for video in &videos {
            let first = group[0];
            let own = match form {
                Form::Ts => uri(&[video, first]),
                Form::Cmaf => uri(&[video]),
            };
            playlist.variants.push(hls::Variant {
                audio_group: (!is_muxed_alone).then(|| group_id.clone()),
                ..variant(own, Some(video), Some(first))
            });
        }
    }
    if codecs.is_empty() {
        let alone = videos
            .iter()
            .map(|video| variant(uri(&[video]), Some(video), None));
        playlist.variants.extend(alone);
    }
    playlist
}

fn rendition(
    group_id: &str,
    audio: &Facts,
    is_default: bool,
    uri: Option<String>,
) -> hls::Rendition {
    let track = &audio.track;
    hls::Rendition {
        kind: hls::RenditionKind::Audio,
        group_id: group_id.to_owned(),
        name: format!("{} {}", track.codec.name(), u32::from(track.id.0) + 1),
        language: Some(track.language.clone()).filter(|language| !language.is_empty()),
        is_default,
        autoselect: true,
        channels: track.audio.map(|audio| audio.channels.into()),
        uri,
    }
}

fn variant(uri: String, video: Option<&Facts>, audio: Option<&Facts>) -> hls::Variant {
    let both = || video.into_iter().chain(audio);
    let format = video.and_then(|video| video.track.video);
    hls::Variant {
        uri,
        bandwidth: both().map(|fact| fact.rate_max).sum::<u64>().max(1),
        average_bandwidth: Some(both().map(|fact| fact.rate).sum::<u64>().max(1)),
        codecs: both().map(|fact| codec::rfc6381(&fact.track)).collect(),
        resolution: format.map(|format| (format.width, format.height)),
        frames_per_1000_s: format
            .map(|format| format.frames_per_1000_s)
            .filter(|rate| *rate > 0),
        video_range: None,
        audio_group: None,
    }
}

/// What a description is made of.
pub(in crate::streams) struct Presentation<'a> {
    /// The wall clock at the stream's time zero, in milliseconds.
    pub(in crate::streams) zero_unix_ms: i64,
    /// The wall clock now, in milliseconds.
    pub(in crate::streams) unix_ms: i64,
    /// How far back the stream is kept.
    pub(in crate::streams) window: Duration,
    /// Where players get the time.
    pub(in crate::streams) time_url: String,
    /// The tracks, each with its rendition.
    pub(in crate::streams) tracks: Vec<(Facts, &'a Listing)>,
}

/// The description of a stream. Each discontinuity begins a period, whose place on the wall clock is
/// where its publisher's clock put it.
pub(in crate::streams) fn mpd(presentation: &Presentation<'_>) -> dash::Mpd {
    let listings = || presentation.tracks.iter().map(|(_, listing)| listing);
    let target = listings()
        .map(|listing| listing.target_s())
        .max()
        .unwrap_or(1);
    let target = Duration::from_secs(target.into());
    let part = listings()
        .map(|listing| listing.part_max())
        .max()
        .unwrap_or_default();
    let mut epochs: Vec<Epoch> = listings()
        .flat_map(|listing| listing.segments().map(|segment| segment.opening.epoch))
        .collect();
    epochs.sort_unstable_by_key(|epoch| epoch.number);
    epochs.dedup();
    let periods = epochs
        .iter()
        .map(|epoch| period(presentation, epoch, part))
        .collect();
    dash::Mpd {
        availability_start_unix_ms: presentation.zero_unix_ms,
        publish_unix_ms: presentation.unix_ms,
        minimum_update_period: Some(target.min(Duration::from_secs(2))),
        time_shift_buffer_depth: Some(presentation.window.max(3 * target)),
        suggested_presentation_delay: Some(3 * part + Duration::from_millis(500)),
        min_buffer_time: part.max(Duration::from_millis(500)),
        max_segment_duration: Some(target),
        duration: None,
        target_latency: Some(dash::TargetLatency {
            target: 3 * part + Duration::from_millis(500),
            min: 2 * part,
            max: 4 * target,
        }),
        // Not the time itself: a cache may keep the description.
        utc_timing: vec![dash::UtcTiming::HttpIso(presentation.time_url.clone())],
        periods,
    }
}

fn period(presentation: &Presentation<'_>, epoch: &Epoch, part: Duration) -> dash::Period {
    let of_period = |listing: &Listing| {
        listing
            .segments()
            .filter(|segment| segment.opening.epoch == *epoch)
            .cloned()
            .collect::<Vec<_>>()
    };
    let mut sets: Vec<dash::AdaptationSet> = Vec::new();
    let mut videos = None;
    for (facts, listing) in &presentation.tracks {
        let segments = of_period(listing);
        let Some(first) = segments.first() else {
            continue;
        };
        let representation = dash::Representation {
            id: (u32::from(facts.track.id.0) + 1).to_string(),
            codecs: codec::rfc6381(&facts.track),
            bandwidth: facts.rate_max.max(1),
            kind: kind(&facts.track),
            template: dash::SegmentTemplate {
                timescale: TIMESCALE,
                start_number: first.opening.number,
                media: "$RepresentationID$/chunk_$Number$.m4s".to_owned(),
                initialization: format!("$RepresentationID$/init_{}.m4s", first.opening.init),
                presentation_time_offset: ticks(epoch.start),
                availability_time_offset: Some(
                    Duration::from_secs(listing.target_s().into()).saturating_sub(part),
                ),
                timeline: timeline(&segments),
            },
        };
        // Pictures are alternatives of one another, sounds are not.
        match (facts.track.kind(), videos) {
            (Kind::Video, Some(index)) => {
                let set: &mut dash::AdaptationSet = &mut sets[index];
                set.representations.push(representation);
                continue;
            }
            (Kind::Video, None) => videos = Some(sets.len()),
            (Kind::Audio, _) => {}
        }
        let language = Some(facts.track.language.clone()).filter(|text| !text.is_empty());
        sets.push(dash::AdaptationSet {
            id: sets.len() as u32 + 1,
            language,
            representations: vec![representation],
        });
    }
    dash::Period {
        id: epoch.number.to_string(),
        start_ms: u64::try_from(epoch.unix_ms - presentation.zero_unix_ms).unwrap_or(0),
        adaptation_sets: sets,
    }
}

fn kind(track: &Track) -> dash::RepresentationKind {
    match track.kind() {
        Kind::Video => {
            let format = track.video.unwrap_or_default();
            dash::RepresentationKind::Video {
                width: format.width,
                height: format.height,
                frame_rate: (format.frames_per_1000_s > 0)
                    .then(|| frame_rate(format.frames_per_1000_s)),
            }
        }
        Kind::Audio => {
            let format = track.audio.unwrap_or_default();
            dash::RepresentationKind::Audio {
                rate: format.rate,
                channels: format.channels.into(),
            }
        }
    }
}

/// Frames in seconds, as a fraction that players know: 30, 30000/1001.
fn frame_rate(frames_per_1000_s: u32) -> (u32, u32) {
    let whole = frames_per_1000_s.div_ceil(1000);
    // 23.976, 29.97 and 59.94 are multiples of 1000/1001.
    if frames_per_1000_s.abs_diff(whole * 1_000_000 / 1001) <= 1 {
        (whole * 1000, 1001)
    } else if frames_per_1000_s.is_multiple_of(1000) {
        (whole, 1)
    } else {
        (frames_per_1000_s, 1000)
    }
}

/// One entry for each segment. The newest, which is being made, is taken to last as long as the one
/// before; and so is the one after it, which is listed so that a player can ask for it when it has
/// the newest whole, and not when it has read the next description.
fn timeline(segments: &[Segment]) -> Vec<dash::TimelineEntry> {
    let mut entries: Vec<dash::TimelineEntry> = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let start = ticks(segment.opening.start);
        let duration = match (&segment.whole, segments.get(index + 1), entries.last()) {
            // Without a hole to the next.
            (_, Some(next), _) => ticks(next.opening.start).saturating_sub(start),
            (Some((duration, _)), None, _) => {
                (duration.as_micros() * u128::from(TIMESCALE) / 1_000_000) as u64
            }
            (None, None, Some(before)) => before.duration,
            (None, None, None) => u64::from(TIMESCALE) * 2,
        };
        entries.push(dash::TimelineEntry { start, duration });
        if segment.whole.is_none() && index + 1 == segments.len() {
            let start = start + duration;
            entries.push(dash::TimelineEntry { start, duration });
        }
    }
    entries
}

fn ticks(time: MediaTime) -> u64 {
    u64::try_from(time.as_ticks(TIMESCALE)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::base::ids::TrackId;
    use crate::hub::Pieces;
    use crate::media::Codec;
    use crate::streams::segments::listing::{Opening, Update};

    const ZERO_UNIX_MS: i64 = 1_700_000_000_000;

    /// A publisher of 4 segments of 2 s, and one that came back 7 s later.
    fn epoch(number: u64) -> Epoch {
        if number < 104 {
            Epoch {
                number: 100,
                start: MediaTime::ZERO,
                unix_ms: ZERO_UNIX_MS,
            }
        } else {
            Epoch {
                number: 104,
                start: MediaTime::from_millis(8033),
                unix_ms: ZERO_UNIX_MS + 15_000,
            }
        }
    }

    /// Segments of a track whose frames are `later_ms` after those of the first; the last is open.
    fn listing(numbers: std::ops::Range<u64>, later_ms: i64) -> Listing {
        let mut listing = Listing::new(Duration::from_millis(1900), Duration::from_millis(336));
        for number in numbers.clone() {
            let epoch = epoch(number);
            let since_ms = (number - epoch.number) as i64 * 2000;
            listing.update(Update::Open(Opening {
                number,
                start: epoch.start + MediaTime::from_millis(since_ms + later_ms),
                unix_ms: epoch.unix_ms + since_ms + later_ms,
                epoch,
                is_discontinuity: number == 104,
                discontinuities: u64::from(number >= 104),
                init: 1 + u32::from(number >= 104),
            }));
            if number + 1 < numbers.end {
                listing.update(Update::Close {
                    duration: Duration::from_secs(2),
                    pieces: Pieces::new(),
                });
            }
        }
        listing
    }

    fn facts(id: u16, codec: Codec) -> Facts {
        let track = Track {
            id: TrackId(id),
            codec,
            init: Bytes::new(),
            video: None,
            audio: None,
            language: String::new(),
            rid: String::new(),
        };
        Facts {
            track,
            rate: 1,
            rate_max: 1,
        }
    }

    fn describe(video: &Listing, audio: &Listing) -> dash::Mpd {
        mpd(&Presentation {
            zero_unix_ms: ZERO_UNIX_MS,
            unix_ms: ZERO_UNIX_MS + 20_000,
            window: Duration::from_secs(50),
            time_url: String::new(),
            tracks: vec![
                (facts(0, Codec::H264), video),
                (facts(1, Codec::Aac), audio),
            ],
        })
    }

    /// Of each period its name, its start, and of each representation the first number, the
    /// initialisation segment, and start and length in ticks of its segments.
    type Seen = (String, u64, Vec<(u64, String, Vec<(u64, u64)>)>);

    fn periods(mpd: &dash::Mpd) -> Vec<Seen> {
        let of_period = |period: &dash::Period| {
            let sets = period.adaptation_sets.iter();
            let templates = sets
                .flat_map(|set| &set.representations)
                .map(|it| &it.template);
            let representations = templates.map(|template| {
                let entries = template.timeline.iter();
                (
                    template.start_number,
                    template.initialization.clone(),
                    entries.map(|entry| (entry.start, entry.duration)).collect(),
                )
            });
            (
                period.id.clone(),
                period.start_ms,
                representations.collect(),
            )
        };
        mpd.periods.iter().map(of_period).collect()
    }

    const SECOND: u64 = 90_000;

    #[test]
    fn each_discontinuity_begins_a_period_at_its_own_time() {
        // The rendition of the sound was made a little later.
        let mpd = describe(&listing(100..107, 0), &listing(102..107, 20));
        let periods = periods(&mpd);
        assert_eq!(periods.len(), 2);
        let (id, start_ms, tracks) = &periods[0];
        assert_eq!((id.as_str(), *start_ms), ("100", 0));
        let two = 2 * SECOND;
        assert_eq!(
            tracks[0].2,
            [(0, two), (two, two), (2 * two, two), (3 * two, two)],
            "it ends where its publisher did"
        );
        let late = SECOND / 50;
        assert_eq!(
            (tracks[1].0, tracks[1].1.as_str()),
            (102, "$RepresentationID$/init_1.m4s")
        );
        assert_eq!(tracks[1].2, [(2 * two + late, two), (3 * two + late, two)]);

        let (id, start_ms, tracks) = &periods[1];
        assert_eq!((id.as_str(), *start_ms), ("104", 15_000));
        assert_eq!((tracks[0].0, tracks[1].0), (104, 104));
        assert_eq!(tracks[0].1, "$RepresentationID$/init_2.m4s");
        let begin = 8033 * 90;
        assert_eq!(
            tracks[0].2[..3],
            [(begin, two), (begin + two, two), (begin + 2 * two, two)]
        );
        let offset = |period: usize| {
            let set = &mpd.periods[period].adaptation_sets[1];
            set.representations[0].template.presentation_time_offset
        };
        assert_eq!((offset(0), offset(1)), (0, begin), "also of the sound");
    }

    #[test]
    fn a_period_stays_what_it_is_when_its_beginning_leaves() {
        let mut video = listing(100..108, 0);
        let before = periods(&describe(&video, &video));
        video.trim(Duration::from_secs(8), usize::MAX);
        let after = periods(&describe(&video, &video));
        assert!(after[0].2[0].0 > 100, "something has left");
        assert_eq!(after[0].0, before[0].0);
        assert_eq!(after[0].1, before[0].1);
        assert_eq!(after[1], before[1]);
        video.trim(Duration::ZERO, usize::MAX);
        let mut last = listing(100..112, 0);
        last.trim(Duration::ZERO, usize::MAX);
        let last = periods(&describe(&last, &last));
        assert_eq!(last.len(), 1);
        assert_eq!((last[0].0.as_str(), last[0].1), ("104", 15_000));
    }

    #[test]
    fn renditions_that_were_made_at_different_times_count_discontinuities_alike() {
        let sequence = |listing: &Listing, clip| {
            let playlist = media(Form::Ts, listing, true, clip, Vec::new());
            (playlist.media_sequence, playlist.discontinuity_sequence)
        };
        let all = Clip::default();
        assert_eq!(sequence(&listing(100..107, 0), all), (100, 0));
        assert_eq!(
            sequence(&listing(104..107, 0), all),
            (104, 0),
            "its own is a tag"
        );
        assert_eq!(sequence(&listing(105..107, 0), all), (105, 1));
        let clip = Clip {
            start: Some(MediaTime::from_millis(10_100)),
            stop: None,
        };
        assert_eq!(sequence(&listing(100..107, 0), clip), (105, 1));
    }
}

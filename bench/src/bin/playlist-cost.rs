//! What it costs to write a playlist: CPU-time of the thread, the smallest of several rounds.
//!
//! `cargo run --release -p ringside-load --bin playlist-cost`

use std::time::Duration;

use ringside::proto::dash::{
    AdaptationSet, Mpd, Period, Representation, RepresentationKind, SegmentTemplate, TimelineEntry,
};
use ringside::proto::hls::{LowLatency, MediaPlaylist, Part, RenditionReport, Segment};
use ringside::shard::clock;

const FIRST: u64 = 1_789_000_000;
const SEGMENTS: u64 = 30;
const PARTS: u32 = 20;
const ROUNDS: u32 = 50;
const TIMES: u32 = 2000;

fn main() {
    let playlist = playlist();
    let mpd = mpd();
    report("media playlist", |out| playlist.write(false, out));
    report("delta update", |out| playlist.write(true, out));
    report("MPD", |out| mpd.write(out));
}

fn report(what: &str, write: impl Fn(&mut String)) {
    let mut least = Duration::MAX;
    let mut size = 0;
    for _ in 0..ROUNDS {
        let start = clock::now();
        for _ in 0..TIMES {
            let mut out = String::new();
            write(std::hint::black_box(&mut out));
            size = std::hint::black_box(out).len();
        }
        least = least.min((clock::now() - start) / TIMES);
    }
    #[expect(clippy::print_stdout, reason = "it is what this program is for")]
    {
        println!("{what}: {} ns, {size} bytes", least.as_nanos());
    }
}

/// 30 segments of 2 s, 20 parts in the newest ones.
fn playlist() -> MediaPlaylist {
    let part = |number: u64, index: u32| Part {
        uri: format!("chunk_{number}.{index}.m4s"),
        duration: Duration::from_nanos(333_333_333),
        is_independent: index == 0,
        is_gap: false,
    };
    let segments = (0..SEGMENTS).map(|index| {
        let number = FIRST + index;
        let parts = match SEGMENTS - index {
            1 => PARTS - 18,
            2..=4 => 6,
            _ => 0,
        };
        Segment {
            uri: format!("chunk_{number}.m4s"),
            duration: Duration::from_millis(2000 + index % 3),
            unix_ms: Some((number as i64) * 1000 + 123),
            map: Some("init_1.m4s".to_owned()),
            parts: (0..parts)
                .map(|part_index| part(number, part_index))
                .collect(),
            is_complete: index + 1 < SEGMENTS,
            ..Segment::default()
        }
    });
    MediaPlaylist {
        target_duration_s: 2,
        low_latency: Some(LowLatency {
            part_target: Duration::from_nanos(333_333_333),
            part_hold_back: Duration::from_secs(1),
            can_skip_until: Some(Duration::from_secs(12)),
        }),
        media_sequence: FIRST,
        segments: segments.collect(),
        preload_hint: Some(format!("chunk_{}.2.m4s", FIRST + SEGMENTS - 1)),
        rendition_reports: vec![RenditionReport {
            uri: "../2/index.m3u8".to_owned(),
            last_msn: FIRST + SEGMENTS - 1,
            last_part: Some(1),
        }],
        ..MediaPlaylist::default()
    }
}

/// Video and audio with 30 segments each, none as long as the one before.
fn mpd() -> Mpd {
    let representation = |id: &str, kind| Representation {
        id: id.to_owned(),
        codecs: "avc1.64001f".to_owned(),
        bandwidth: 2_000_000,
        kind,
        template: SegmentTemplate {
            timescale: 90_000,
            start_number: FIRST,
            media: "$RepresentationID$/chunk_$Number$.m4s".to_owned(),
            initialization: "$RepresentationID$/init_1.m4s".to_owned(),
            availability_time_offset: Some(Duration::from_millis(1667)),
            timeline: (0..SEGMENTS)
                .map(|index| TimelineEntry {
                    start: index * 180_000,
                    duration: 180_000 - index % 2,
                })
                .collect(),
            ..SegmentTemplate::default()
        },
    };
    let video = RepresentationKind::Video {
        width: 1280,
        height: 720,
        frame_rate: Some((30, 1)),
    };
    let audio = RepresentationKind::Audio {
        rate: 48_000,
        channels: 2,
    };
    let set = |id, representation| AdaptationSet {
        id,
        language: None,
        representations: vec![representation],
    };
    Mpd {
        periods: vec![Period {
            id: "1".to_owned(),
            start_ms: 0,
            adaptation_sets: vec![
                set(0, representation("1", video)),
                set(1, representation("2", audio)),
            ],
        }],
        ..Mpd::default()
    }
}

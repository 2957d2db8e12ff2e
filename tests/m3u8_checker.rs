//! Every state of a live playlist passes the checker of `support/m3u8.rs`, through a publisher's
//! restart and delta updates too; and the checker sees each mistake that it is there for.

mod support;

use std::time::Duration;

use ringside::proto::hls::{LowLatency, MediaPlaylist, Part, Segment};
use support::m3u8::Checker;

const FIRST: u64 = 1_789_000_000;
const PART: Duration = Duration::from_nanos(333_333_333);
const PARTS: u64 = 6;
const WINDOW: usize = 12;

/// A stream whose publisher returns with other codecs at segment 15.
struct Stream {
    playlist: MediaPlaylist,
    unix_us: i64,
}

impl Stream {
    fn new() -> Self {
        Self {
            playlist: MediaPlaylist {
                target_duration_s: 2,
                low_latency: Some(LowLatency {
                    part_target: PART,
                    part_hold_back: Duration::from_secs(1),
                    can_skip_until: Some(Duration::from_secs(12)),
                }),
                media_sequence: FIRST,
                ..MediaPlaylist::default()
            },
            unix_us: 1_789_000_000_000_000,
        }
    }

    fn number(&self) -> u64 {
        self.playlist.media_sequence + self.playlist.segments.len() as u64 - 1
    }

    /// One more part.
    fn advance(&mut self, step: u64) {
        let index = step % PARTS;
        if index == 0 {
            let returns = step / PARTS >= 15;
            let is_discontinuity = step / PARTS == 15;
            self.unix_us += if is_discontinuity { 7_000_000 } else { 0 };
            let map = if returns { "init_2.m4s" } else { "init_1.m4s" };
            self.playlist.segments.push(Segment {
                is_discontinuity,
                unix_ms: Some(self.unix_us / 1000),
                map: Some(map.to_owned()),
                ..Segment::default()
            });
        }
        let number = self.number();
        let open = self.playlist.segments.last_mut();
        let open = open.expect("one is open");
        open.parts.push(Part {
            uri: format!("chunk_{number}.{index}.m4s"),
            duration: PART,
            is_independent: index == 0,
            is_gap: false,
        });
        self.unix_us += 333_333;
        let mut next = format!("chunk_{number}.{}.m4s", index + 1);
        if index + 1 == PARTS {
            open.is_complete = true;
            open.uri = format!("chunk_{number}.m4s");
            open.duration = PART * PARTS as u32;
            self.unix_us += 2;
            next = format!("chunk_{}.0.m4s", number + 1);
        }
        self.playlist.preload_hint = Some(next);
        let playlist = &mut self.playlist;
        let count = playlist.segments.len();
        if count > WINDOW {
            let left = playlist.segments.remove(0);
            playlist.media_sequence += 1;
            playlist.discontinuity_sequence += u64::from(left.is_discontinuity);
        }
        let count = playlist.segments.len();
        if count >= 5 {
            playlist.segments[count - 5].parts.clear();
        }
    }

    fn text(&self, delta: bool) -> String {
        let mut out = String::new();
        self.playlist.write(delta, &mut out);
        out
    }
}

#[test]
fn every_state_of_a_live_playlist_is_right() {
    let (mut stream, mut checker) = (Stream::new(), Checker::default());
    let mut skipped = 0;
    for step in 0..PARTS * 40 {
        stream.advance(step);
        let whole = checker.check(&stream.text(false)).unwrap();
        let delta = stream.text(true);
        skipped += usize::from(delta.contains("#EXT-X-SKIP"));
        checker.check_delta(&whole, &delta);
    }
    stream.playlist.is_ended = true;
    checker.check(&stream.text(false)).unwrap();
    checker.assert_clean();
    assert!(skipped > 100, "{skipped} delta updates left something out");
    assert_eq!(checker.hints, (239, 0));
    assert_eq!(stream.playlist.discontinuity_sequence, 1);
}

/// The complaint about the last of two playlists, the second one changed.
fn complaint(change: impl Fn(&mut MediaPlaylist)) -> String {
    complaint_of_text(change, str::to_owned)
}

fn complaint_of_text(change: impl Fn(&mut MediaPlaylist), edit: impl Fn(&str) -> String) -> String {
    let (mut stream, mut checker) = (Stream::new(), Checker::default());
    // The window has moved, the discontinuity is the second segment, the last one is open.
    let end = PARTS * (15 + WINDOW as u64 - 2) + 3;
    for step in 0..end {
        stream.advance(step);
        checker.check(&stream.text(false));
    }
    checker.assert_clean();
    stream.advance(end);
    change(&mut stream.playlist);
    checker.check(&edit(&stream.text(false)));
    checker.complaints.join("\n")
}

#[test]
fn each_mistake_is_seen() {
    assert_eq!(complaint(|_| {}), "");
    type Mistake = Box<dyn Fn(&mut MediaPlaylist)>;
    let cases: Vec<(&str, Mistake)> = vec![
        ("4.4.3.1: the target", Box::new(|p| p.target_duration_s = 3)),
        ("4.4.3.1: segment", Box::new(|p| p.target_duration_s = 1)),
        ("4.4.3.2", Box::new(|p| p.media_sequence -= 1)),
        ("6.2.1: segment", Box::new(|p| p.media_sequence += 1)),
        ("4.4.3.3", Box::new(|p| p.discontinuity_sequence += 1)),
        (
            "4.4.3.3",
            Box::new(|p| {
                p.segments.drain(..2);
                p.media_sequence += 2;
            }),
        ),
        (
            "6.2.2: 3",
            Box::new(|p| {
                p.segments.drain(..10);
                p.media_sequence += 10;
                p.discontinuity_sequence += 1;
            }),
        ),
        ("6.2.1: segment", Box::new(|p| p.segments[3].uri.push('x'))),
        (
            "6.2.1: segment",
            Box::new(|p| p.segments[1].is_discontinuity = false),
        ),
        (
            "4.4.4.6",
            Box::new(|p| {
                let date = p.segments.last().unwrap().unix_ms;
                p.segments.last_mut().unwrap().unix_ms = date.map(|date| date + 100);
            }),
        ),
        (
            "4.4.4.9: part",
            Box::new(|p| p.segments.last_mut().unwrap().parts[3].duration *= 2),
        ),
        (
            "4.4.3.7: part",
            Box::new(|p| p.segments.last_mut().unwrap().parts[2].duration /= 2),
        ),
        (
            "6.2.1: the parts",
            Box::new(|p| {
                p.segments.last_mut().unwrap().parts.pop();
                p.segments.last_mut().unwrap().parts.pop();
            }),
        ),
        (
            "6.2.1: (",
            Box::new(|p| p.segments.last_mut().unwrap().parts.truncate(2)),
        ),
        (
            "4.4.4.9: the parts",
            Box::new(|p| p.segments[10].parts[5].duration /= 2),
        ),
        (
            "4.4.5.3: the hint",
            Box::new(|p| p.preload_hint = Some(p.segments[11].parts[3].uri.clone())),
        ),
        (
            "4.4.3.8: PART-HOLD",
            Box::new(|p| p.low_latency.as_mut().unwrap().part_hold_back = PART * 2),
        ),
        (
            "4.4.3.8: CAN-SKIP",
            Box::new(|p| {
                let low_latency = p.low_latency.as_mut().unwrap();
                low_latency.can_skip_until = Some(Duration::from_secs(11));
            }),
        ),
        ("4.4.3.7: parts", Box::new(|p| p.low_latency = None)),
        ("4.4.4.5", Box::new(|p| p.segments[0].map = None)),
        (
            "6.2.2: parts of",
            Box::new(|p| {
                p.segments[2].parts = (0..6)
                    .map(|index| Part {
                        uri: format!("chunk_{}.{index}.m4s", p.media_sequence + 2),
                        duration: PART,
                        is_independent: index == 0,
                        is_gap: false,
                    })
                    .collect();
            }),
        ),
    ];
    for (index, (wanted, change)) in cases.iter().enumerate() {
        let complaint = complaint(change);
        assert!(complaint.contains(wanted), "{index}: {wanted}: {complaint}");
    }
}

#[test]
fn malformed_text_is_seen() {
    let edits: Vec<(&str, &str, &str)> = vec![
        ("7: version", "VERSION:6", "VERSION:3"),
        ("4.1", "VERSION:6\n", "VERSION:6\r\n"),
        ("4.4: not one", "#EXT-X-TARGETDURATION:2\n", ""),
        (
            "4.4: the tag",
            "#EXT-X-VERSION:6\n",
            "#EXT-X-VERSION:6\n#EXT-X-FOO\n",
        ),
        (
            "4.2: \"a b\"",
            "CAN-BLOCK-RELOAD=YES",
            "CAN-BLOCK-RELOAD=a b",
        ),
        (
            "4.2: DURATION twice",
            "DURATION=0.333333,URI",
            "DURATION=1,DURATION=1,URI",
        ),
        ("4.4.4.6", ".000Z", ".000+01:00"),
        ("4.4.4.1", "#EXTINF:2,\n", ""),
        ("4.4.1.1", "#EXTM3U", "#EXTM3"),
        ("4.4.5.3: not a part", "TYPE=PART", "TYPE=MAP"),
    ];
    for (wanted, from, to) in edits {
        let complaint = complaint_of_text(
            |_| {},
            |text| {
                assert!(
                    text.contains(from) || from.starts_with('.'),
                    "{from} in {text}"
                );
                match from {
                    ".000Z" => {
                        let at = text.find('Z').unwrap();
                        format!("{}+01:00{}", &text[..at], &text[at + 1..])
                    }
                    _ => text.replacen(from, to, 1),
                }
            },
        );
        assert!(complaint.contains(wanted), "{wanted}: {complaint}");
    }
}

#[test]
fn a_wrong_delta_is_seen() {
    let mut stream = Stream::new();
    for step in 0..PARTS * 12 {
        stream.advance(step);
    }
    let mut checker = Checker::default();
    let whole = checker.check(&stream.text(false)).unwrap();
    let delta = stream.text(true);
    checker.check_delta(&whole, &delta);
    checker.assert_clean();
    let edits = [
        ("SKIPPED-SEGMENTS=5", "SKIPPED-SEGMENTS=4"),
        ("MEDIA-SEQUENCE:1789000000", "MEDIA-SEQUENCE:1789000001"),
        ("VERSION:9", "VERSION:6"),
        ("SKIPPED-SEGMENTS=5", "SKIPPED-SEGMENTS=500"),
    ];
    for (from, to) in edits {
        assert!(delta.contains(from), "{from} in {delta}");
        let mut checker = Checker::default();
        checker.check_delta(&whole, &delta.replacen(from, to, 1));
        assert!(!checker.complaints.is_empty(), "{from} -> {to}");
    }
}

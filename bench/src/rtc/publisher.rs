//! One that publishes: sends packets when they are due, and again when it is asked to.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringside::media::NtpTime;
use ringside::proto::rtcp::{self, SenderInfo, write_sender_report};
use ringside::proto::rtp::{
    Extension, ExtensionMap, Patch, Template, TemplateOptions, abs_send_time,
};
use ringside::shard::clock;

use super::crew::{Role, Turn};
use super::media::{self, FRAME_PACKETS};
use super::sdp::{self, Sources, Wanted};
use super::tally::{Phase, Tally};

/// Packets that can be sent again.
const KEPT_MAX: usize = 1024;

/// Between two keyframes that nobody has asked for.
const KEYFRAME_EVERY: Duration = Duration::from_secs(2);

const REPORT_EVERY: Duration = Duration::from_secs(1);

/// A frame that goes out later than this was late.
const LATE: Duration = Duration::from_millis(20);

const HEADER_BYTES_MAX: usize = 128;

/// A track that is sent.
struct Track {
    template: Template,
    ssrc: u32,
    /// Ticks of its clock in a second.
    rate: u32,
    interval: Duration,
    due: Option<Instant>,
    /// Extended by the count of wraps.
    sequence: u64,
    packets: u32,
    octets: u32,
    /// Of the next frame.
    number: u32,
}

impl Track {
    fn new(ssrc: u32, payload_type: u8, mid: &str, rate: u32, interval: Duration) -> Self {
        Self {
            template: template(ssrc, payload_type, mid),
            ssrc,
            rate,
            interval,
            due: None,
            sequence: u64::from(ssrc & 0x3fff),
            packets: 0,
            octets: 0,
            number: 0,
        }
    }

    fn timestamp(&self, began: Instant, at: Instant) -> u32 {
        let micros = at.saturating_duration_since(began).as_micros();
        (micros * u128::from(self.rate) / 1_000_000) as u32
    }
}

fn template(ssrc: u32, payload_type: u8, mid: &str) -> Template {
    let mut map = ExtensionMap::default();
    map.set(Extension::AbsSendTime, sdp::ABS_SEND_TIME);
    map.set(Extension::Mid, sdp::MID);
    Template::new(&TemplateOptions {
        ssrc,
        payload_type,
        mid,
        map,
        is_mixed: true,
    })
}

struct Kept {
    sequence: u64,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
}

/// A publisher.
pub(super) struct Publisher {
    wanted: Wanted,
    sources: Sources,
    video: Option<Track>,
    audio: Option<Track>,
    repair: Template,
    repair_sequence: u64,
    kept: VecDeque<Kept>,
    began: Instant,
    keyframe_at: Instant,
    report_at: Option<Instant>,
    number: u32,
}

impl Publisher {
    /// Frames come `rate` times as often as those of 1.6 Mbit/s.
    pub(super) fn new(wanted: Wanted, rate: f64, index: u32) -> Self {
        let sources = Sources {
            video: 0x1000_0000 + index * 0x10_0007,
            repair: 0x2000_0000 + index * 0x10_0007,
            audio: 0x3000_0000 + index * 0x10_0007,
        };
        let interval = |every: Duration| every.div_f64(rate);
        let video = Track::new(
            sources.video,
            sdp::VIDEO,
            sdp::VIDEO_MID,
            90_000,
            interval(media::FRAME_EVERY),
        );
        let audio = Track::new(
            sources.audio,
            sdp::AUDIO,
            sdp::AUDIO_MID,
            48_000,
            interval(media::SOUND_EVERY),
        );
        let now = clock::now();
        Self {
            wanted,
            sources,
            video: wanted.video.then_some(video),
            audio: wanted.audio.then_some(audio),
            repair: template(sources.repair, sdp::REPAIR, sdp::VIDEO_MID),
            repair_sequence: 1,
            kept: VecDeque::new(),
            began: now,
            keyframe_at: now,
            report_at: None,
            number: index,
        }
    }

    fn send_frame(&mut self, turn: &mut Turn<'_>, at: Instant) {
        let Some(track) = &mut self.video else {
            return;
        };
        let is_keyframe = at >= self.keyframe_at;
        if is_keyframe {
            self.keyframe_at = at + KEYFRAME_EVERY;
        }
        let timestamp = track.timestamp(self.began, at);
        let codec = self.wanted.codec;
        let sets = media::parameters(codec).filter(|_| is_keyframe);
        let mut payloads: Vec<Vec<u8>> = sets.iter().map(|sets| sets.to_vec()).collect();
        for index in 0..FRAME_PACKETS {
            let mut payload = Vec::new();
            self.number = self.number.wrapping_add(1);
            media::picture(codec, is_keyframe, index, self.number, &mut payload);
            payloads.push(payload);
        }
        let last = payloads.len() - 1;
        for (index, payload) in payloads.into_iter().enumerate() {
            let marker = index == last;
            send(turn, track, self.began, timestamp, marker, &payload);
            if self.kept.len() == KEPT_MAX {
                self.kept.pop_front();
            }
            self.kept.push_back(Kept {
                sequence: track.sequence,
                timestamp,
                marker,
                payload,
            });
        }
    }

    fn send_again(&mut self, turn: &mut Turn<'_>, number: u16) {
        turn.tally.asked += 1;
        let Some(kept) = self.kept.iter().find(|k| k.sequence as u16 == number) else {
            return;
        };
        self.repair_sequence += 1;
        let patch = Patch {
            marker: kept.marker,
            sequence: self.repair_sequence as u16,
            timestamp: kept.timestamp,
            abs_send_time: abs_send_time(turn.now.saturating_duration_since(self.began)),
            ..Patch::default()
        };
        let osn = number.to_be_bytes();
        let roc = (self.repair_sequence >> 16) as u32;
        seal(turn, &self.repair, &patch, roc, &[&osn, &kept.payload]);
        turn.tally.sent_again += 1;
    }

    fn report(&self, turn: &mut Turn<'_>) {
        let unix = Duration::from_millis(clock::unix_millis().unsigned_abs());
        for track in [&self.video, &self.audio].into_iter().flatten() {
            let mut packet = Vec::new();
            let info = SenderInfo {
                ntp: NtpTime::from_unix(unix),
                rtp_time: track.timestamp(self.began, turn.now),
                packets: track.packets,
                octets: track.octets,
            };
            write_sender_report(&mut packet, track.ssrc, &info, &[]);
            turn.send_control(packet);
        }
    }
}

impl Role for Publisher {
    fn offer(&self, peer: &super::peer::Peer, fingerprint: &str) -> String {
        sdp::offer(self.wanted, Some(self.sources), peer.local(), fingerprint)
    }

    fn connected(&mut self, now: Instant) {
        (self.began, self.keyframe_at) = (now, now);
        for track in [&mut self.video, &mut self.audio].into_iter().flatten() {
            track.due = Some(now);
        }
        self.report_at = Some(now);
    }

    fn media(&mut self, _turn: &mut Turn<'_>, _bytes: &mut [u8]) {}

    fn control(&mut self, turn: &mut Turn<'_>, bytes: &[u8]) {
        let Some(mut keys) = turn.take_keys() else {
            return;
        };
        let mut packet = bytes.to_vec();
        let opened = keys.inbound.unprotect_rtcp(&mut packet);
        turn.give_keys(keys);
        let Ok(length) = opened else {
            turn.tally.refused += 1;
            return;
        };
        for part in rtcp::packets(&packet[..length]) {
            match part {
                Ok(rtcp::Packet::Nack(nack)) => {
                    for number in nack.numbers() {
                        self.send_again(turn, number);
                    }
                }
                Ok(rtcp::Packet::Pli(_) | rtcp::Packet::Fir(_)) => {
                    turn.tally.keyframes_asked += 1;
                    self.keyframe_at = turn.now;
                }
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        while let Some(due) = self.video.as_ref().and_then(|track| track.due)
            && due <= now
        {
            turn.tally.late_frames += u64::from(now - due > LATE);
            self.send_frame(turn, due);
            if let Some(track) = &mut self.video {
                track.due = Some(due + track.interval);
            }
        }
        while let Some(track) = &mut self.audio
            && let Some(due) = track.due
            && due <= now
        {
            let timestamp = track.timestamp(self.began, due);
            let mut payload = Vec::new();
            track.number = track.number.wrapping_add(1);
            media::sound(track.number, &mut payload);
            send(turn, track, self.began, timestamp, false, &payload);
            track.due = Some(due + track.interval);
        }
        if self.report_at.is_some_and(|at| at <= now) {
            self.report(turn);
            self.report_at = Some(now + REPORT_EVERY);
        }
    }

    fn due(&self) -> Option<Instant> {
        let tracks = [&self.video, &self.audio].into_iter().flatten();
        tracks
            .filter_map(|track| track.due)
            .chain(self.report_at)
            .min()
    }

    fn has_media(&self) -> bool {
        true
    }

    fn enter(&mut self, _phase: Phase) {}

    fn sum(&mut self, _now: Instant, _tally: &mut Tally) {}
}

fn send(
    turn: &mut Turn<'_>,
    track: &mut Track,
    began: Instant,
    timestamp: u32,
    marker: bool,
    payload: &[u8],
) {
    track.sequence += 1;
    track.packets = track.packets.wrapping_add(1);
    track.octets = track.octets.wrapping_add(payload.len() as u32);
    let patch = Patch {
        marker,
        sequence: track.sequence as u16,
        timestamp,
        abs_send_time: abs_send_time(turn.now.saturating_duration_since(began)),
        ..Patch::default()
    };
    let roc = (track.sequence >> 16) as u32;
    seal(turn, &track.template, &patch, roc, &[payload]);
    turn.shared.sent.fetch_add(1, Ordering::Relaxed);
}

fn seal(turn: &mut Turn<'_>, template: &Template, patch: &Patch, roc: u32, parts: &[&[u8]]) {
    let Some(keys) = turn.keys() else {
        return;
    };
    let mut header = [0; HEADER_BYTES_MAX];
    let header_bytes = template.write(&mut header, patch);
    let mut packet = header[..header_bytes].to_vec();
    parts.iter().for_each(|part| packet.extend_from_slice(part));
    packet.resize(packet.len() + keys.outbound.rtp_tag_bytes(), 0);
    keys.outbound.protect_rtp(roc, header_bytes, &mut packet);
    turn.out.push(packet);
}

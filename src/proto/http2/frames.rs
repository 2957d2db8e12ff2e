//! Watches the frames that arrive, for what `h2` does not count: frames that cost a peer little
//! and this side something, and frames that do not end.

use std::time::Instant;

use super::error::Flood;
use super::options::Options;

/// `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`; that it is this is checked elsewhere.
const PREFACE_BYTES: u32 = 24;
const HEAD_BYTES: usize = 9;

/// Frame types (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Follows the boundaries of frames, however the input is cut up.
#[derive(Debug)]
pub(super) struct Frames {
    state: State,
    /// A header block is open: only its CONTINUATION may follow.
    in_block: bool,
    has_settings: bool,
    /// When the frame or block began that is not complete.
    began: Option<Instant>,
    control: Allowance,
    resets: Allowance,
    window_updates: Allowance,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Preface {
        left: u32,
    },
    /// `0 <= count < HEAD_BYTES`.
    Head {
        bytes: [u8; HEAD_BYTES],
        count: usize,
    },
    Payload {
        left: u32,
    },
}

impl State {
    const HEAD: Self = Self::Head {
        bytes: [0; HEAD_BYTES],
        count: 0,
    };
}

impl Frames {
    pub(super) fn new(now: Instant, options: &Options) -> Self {
        Self {
            state: State::Preface {
                left: PREFACE_BYTES,
            },
            in_block: false,
            has_settings: false,
            began: None,
            control: Allowance::new(now, options.control_frames_per_s, 10),
            resets: Allowance::new(now, options.resets_per_s, 10),
            window_updates: Allowance::new(now, options.window_updates_per_s, 1),
        }
    }

    /// True once the peer's first SETTINGS was seen.
    pub(super) fn has_settings(&self) -> bool {
        self.has_settings
    }

    /// When the frame or header block began that is still open.
    pub(super) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// Reads on in `input`. An error says what there is too much of.
    pub(super) fn advance(&mut self, now: Instant, input: &[u8]) -> Result<(), Flood> {
        let mut rest = input;
        while !rest.is_empty() {
            self.state = match self.state {
                State::Preface { left } => {
                    let skip = left.min(rest.len() as u32);
                    rest = &rest[skip as usize..];
                    match left - skip {
                        0 => State::HEAD,
                        left => State::Preface { left },
                    }
                }
                State::Head { mut bytes, count } => {
                    let take = (HEAD_BYTES - count).min(rest.len());
                    bytes[count..count + take].copy_from_slice(&rest[..take]);
                    rest = &rest[take..];
                    self.began.get_or_insert(now);
                    if count + take < HEAD_BYTES {
                        let count = count + take;
                        State::Head { bytes, count }
                    } else {
                        let left = self.frame(now, bytes)?;
                        self.after(left)
                    }
                }
                State::Payload { left } => {
                    let skip = left.min(rest.len() as u32);
                    rest = &rest[skip as usize..];
                    self.after(left - skip)
                }
            };
        }
        Ok(())
    }

    fn after(&mut self, left: u32) -> State {
        if left > 0 {
            return State::Payload { left };
        }
        if !self.in_block {
            self.began = None;
        }
        State::HEAD
    }

    /// A frame's head is complete; the length of its payload.
    fn frame(&mut self, now: Instant, head: [u8; HEAD_BYTES]) -> Result<u32, Flood> {
        let [a, b, c, kind, flags, ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]);
        match kind {
            HEADERS | CONTINUATION => self.in_block = flags & END_HEADERS == 0,
            DATA if length > 0 || flags & END_STREAM != 0 => {}
            RST_STREAM => self.resets.spend(now).ok_or(Flood::Resets)?,
            WINDOW_UPDATE => self.window_updates.spend(now).ok_or(Flood::WindowUpdates)?,
            SETTINGS => {
                self.has_settings = true;
                self.control.spend(now).ok_or(Flood::Control)?;
            }
            _ => self.control.spend(now).ok_or(Flood::Control)?,
        }
        Ok(length)
    }
}

/// So many a second, and some seconds' worth at once.
#[derive(Debug)]
struct Allowance {
    per_s: u32,
    left: u32,
    max: u32,
    /// What was earned up to here is in `left`.
    counted: Instant,
}

impl Allowance {
    fn new(now: Instant, per_s: u32, burst_s: u32) -> Self {
        let max = per_s.saturating_mul(burst_s);
        Self {
            per_s,
            left: max,
            max,
            counted: now,
        }
    }

    fn spend(&mut self, now: Instant) -> Option<()> {
        if self.left == 0 {
            let elapsed = now.saturating_duration_since(self.counted);
            let earned = elapsed.as_millis() * u128::from(self.per_s) / 1000;
            if earned > 0 {
                self.left = earned.min(u128::from(self.max)) as u32;
                self.counted = now;
            }
        } else if self.left == self.max {
            // A full purse earns nothing.
            self.counted = now;
        }
        self.left = self.left.checked_sub(1)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::http2::tests::start;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len() as u32;
        let mut out = length.to_be_bytes()[1..].to_vec();
        out.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn boundaries_are_found_however_the_input_is_cut() {
        let now = start();
        let mut input = vec![0; PREFACE_BYTES as usize];
        input.extend(frame(SETTINGS, 0, &[0; 6]));
        input.extend(frame(HEADERS, END_STREAM, &[1; 300]));
        let open = input.len();
        input.extend(frame(CONTINUATION, END_HEADERS, &[]));
        for piece in 1..40 {
            let mut frames = Frames::new(now, &Options::default());
            for bytes in input[..open].chunks(piece) {
                frames.advance(now, bytes).unwrap();
            }
            assert!(frames.has_settings());
            assert_eq!(frames.began(), Some(now), "the block is open");
            frames.advance(now, &input[open..]).unwrap();
            assert_eq!(frames.began(), None);
        }
    }

    #[test]
    fn each_kind_has_its_bound_and_earns_it_back() {
        let options = Options::default();
        for (kind, flood, count, per_s) in [
            (6, Flood::Control, 500, 50),
            (RST_STREAM, Flood::Resets, 200, 20),
            (WINDOW_UPDATE, Flood::WindowUpdates, 10_000, 10_000),
        ] {
            let now = start();
            let mut frames = Frames::new(now, &options);
            frames.advance(now, &[0; 24]).unwrap();
            let bytes = frame(kind, 0, &[0; 8]);
            for _ in 0..count {
                frames.advance(now, &bytes).unwrap();
            }
            assert_eq!(frames.advance(now, &bytes), Err(flood));
            let mut frames = Frames::new(now, &options);
            frames.advance(now, &[0; 24]).unwrap();
            for n in 0..count * 3 {
                let at = now + Duration::from_secs_f64(f64::from(n + 1) / f64::from(per_s));
                frames.advance(at, &bytes).unwrap();
            }
        }
    }
}

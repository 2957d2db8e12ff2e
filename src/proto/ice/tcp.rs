//! Datagrams in a TCP connection: each behind its length in two bytes (RFC 4571 section 2), as ICE
//! over TCP has it (RFC 6544).

/// The largest frame that is taken. Packets of media are made for a path of 1500 bytes or less;
/// over TCP some peers send records of DTLS as they are, with a certificate in one piece.
pub const FRAME_BYTES_MAX: usize = 8192;

const _: () = assert!(FRAME_BYTES_MAX <= u16::MAX as usize);

/// What goes before a frame of `bytes` bytes.
pub fn frame_header(bytes: u16) -> [u8; 2] {
    bytes.to_be_bytes()
}

/// The peer's stream cannot be followed. The connection is of no use any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// A frame is larger than [`FRAME_BYTES_MAX`].
    #[error("a frame over TCP is too large")]
    TooLarge,
}

/// Takes frames out of a stream. A frame that comes in one piece is not copied; of another at most
/// [`FRAME_BYTES_MAX`] bytes and its header are kept.
#[derive(Clone, Debug, Default)]
pub struct Deframer {
    /// The beginning of a frame, with its header; empty between frames.
    partial: Vec<u8>,
    /// `partial` is a whole frame that was given out.
    is_given: bool,
}

impl Deframer {
    /// A deframer at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next frame, and how many bytes of `input` were taken until its end. Without a frame all of
    /// `input` was. Frames without content are passed over.
    ///
    /// # Errors
    ///
    /// A frame is too large; what comes next is not known then.
    pub fn next<'a>(
        &'a mut self,
        input: &'a [u8],
    ) -> Result<(usize, Option<&'a [u8]>), FrameError> {
        if std::mem::take(&mut self.is_given) {
            self.partial.clear();
        }
        let mut rest = input;
        loop {
            if self.partial.is_empty()
                && let Some((header, behind)) = rest.split_first_chunk::<2>()
                && let Some((frame, behind)) = behind.split_at_checked(length_of(*header)?)
            {
                if !frame.is_empty() {
                    return Ok((input.len() - behind.len(), Some(frame)));
                }
                rest = behind;
                continue;
            }
            self.fill(2, &mut rest);
            let Some(header) = self.partial.first_chunk::<2>() else {
                return Ok((input.len(), None));
            };
            let whole = 2 + length_of(*header)?;
            self.fill(whole, &mut rest);
            if self.partial.len() < whole {
                return Ok((input.len(), None));
            }
            if whole > 2 {
                self.is_given = true;
                return Ok((input.len() - rest.len(), self.partial.get(2..)));
            }
            self.partial.clear();
        }
    }

    /// Moves input over until `partial` has `bytes` bytes.
    fn fill(&mut self, bytes: usize, input: &mut &[u8]) {
        let missing = bytes.saturating_sub(self.partial.len());
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.partial.extend_from_slice(taken);
        *input = rest;
    }
}

fn length_of(header: [u8; 2]) -> Result<usize, FrameError> {
    let length = usize::from(u16::from_be_bytes(header));
    match length <= FRAME_BYTES_MAX {
        true => Ok(length),
        false => Err(FrameError::TooLarge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(frames: &[&[u8]]) -> Vec<u8> {
        let mut stream = Vec::new();
        for frame in frames {
            stream.extend_from_slice(&frame_header(frame.len() as u16));
            stream.extend_from_slice(frame);
        }
        stream
    }

    fn read(deframer: &mut Deframer, mut input: &[u8]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            let (taken, frame) = deframer.next(input).unwrap();
            let Some(frame) = frame else {
                assert_eq!(taken, input.len());
                return frames;
            };
            frames.push(frame.to_vec());
            input = &input[taken..];
        }
    }

    #[test]
    fn frames_come_out_however_the_stream_is_cut() {
        let large = [3; FRAME_BYTES_MAX];
        let frames: [&[u8]; 6] = [b"one", b"", &large, b"", b"", b"four"];
        let stream = stream(&frames);
        for cut in [1, 2, 3, 5, 100, 1448, stream.len()] {
            let mut deframer = Deframer::new();
            let read: Vec<_> = stream
                .chunks(cut)
                .flat_map(|chunk| read(&mut deframer, chunk))
                .collect();
            let expected: Vec<_> = frames.iter().filter(|frame| !frame.is_empty()).collect();
            assert_eq!(read.len(), expected.len(), "cut {cut}");
            assert!(read.iter().zip(expected).all(|(a, b)| a == b), "cut {cut}");
        }
    }

    #[test]
    fn a_frame_that_is_too_large_ends_it() {
        let header = frame_header(FRAME_BYTES_MAX as u16 + 1);
        assert_eq!(Deframer::new().next(&header[..]), Err(FrameError::TooLarge));
        let mut deframer = Deframer::new();
        assert_eq!(deframer.next(&header[..1]), Ok((1, None)));
        assert_eq!(deframer.next(&header[1..]), Err(FrameError::TooLarge));
    }
}

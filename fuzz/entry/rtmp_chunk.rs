//! Chunks: the same messages, and the same error, in pieces of three bytes as at once.

use ringside::proto::rtmp::{ChunkReader, Error, Message};

pub(crate) fn run(data: &[u8]) {
    assert_eq!(read(data.chunks(3)), read(std::iter::once(data)));
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Message>, Option<Error>) {
    let mut reader = ChunkReader::new(1 << 16);
    let mut messages = Vec::new();
    for piece in pieces {
        let mut input = piece;
        loop {
            match reader.read(&mut input) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        assert!(input.is_empty(), "all input is taken");
    }
    (messages, None)
}

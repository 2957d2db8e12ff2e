//! The handshake of both sides.

use ringside::proto::rtmp::{Handshake, Progress};

pub(crate) fn run(data: &[u8]) {
    drive(Handshake::server(1), data);
    drive(Handshake::client(1).0, data);
}

fn drive(mut handshake: Handshake, data: &[u8]) {
    for piece in data.chunks(700) {
        let mut input = piece;
        loop {
            match handshake.read(&mut input) {
                Ok(Progress::Waiting) => break,
                Ok(Progress::Send(bytes)) => assert_eq!(bytes.len(), 1 + 2 * 1536),
                Ok(Progress::Done(_)) | Err(_) => return,
            }
        }
    }
}

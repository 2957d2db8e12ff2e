//! A response in pieces says the same as in one.

use ringside::proto::http::ClientSession;

pub(crate) fn run(data: &[u8]) {
    let Some((&piece, input)) = data.split_first() else {
        return;
    };
    let whole = read(input, input.len().max(1));
    let pieces = read(input, usize::from(piece).max(1));
    assert_eq!(whole.1, pieces.1);
    // An error loses the rest of its piece, so only bodies without one are the same.
    if whole.1.is_ok() {
        assert_eq!(whole, pieces);
    }
}

type Outcome = (
    Vec<u8>,
    Result<Option<u16>, ringside::proto::http::ClientError>,
);

fn read(input: &[u8], piece: usize) -> Outcome {
    let mut session = ClientSession::get("a", "/");
    let mut body = Vec::new();
    for bytes in input.chunks(piece) {
        if let Err(error) = session.handle_input(bytes, |data| body.extend_from_slice(data)) {
            return (body, Err(error));
        }
    }
    (body, Ok(session.status()))
}

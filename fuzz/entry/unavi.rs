//! Frames of UNAVI's clients, in each dialect and in the one that the first frame tells.

use ringside::proto::unavi::{Dialect, Request, Response};

pub(crate) fn run(data: &[u8]) {
    let Some((first, frame)) = data.split_first() else {
        return;
    };
    if let Ok(dialect) = Dialect::of(frame, first & 4 != 0) {
        let _ = dialect.read(frame);
    }
    let dialect = Dialect::ALL[usize::from(first & 3)];
    let Ok(request) = dialect.read(frame) else {
        return;
    };
    // What one player says is told to others in all dialects.
    let told = match request {
        Request::Chat(text) => Response::Chat {
            player: *first,
            text,
            unix_ms: 1,
        },
        Request::Event(data) => Response::Event {
            player: *first,
            data,
        },
        Request::SetData(data) => Response::PlayerJoined {
            player: *first,
            data: data
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?)))
                .collect(),
            before_you: true,
        },
        Request::Capabilities
        | Request::Join { .. }
        | Request::Leave(_)
        | Request::Relay(_)
        | Request::CreateTransport(_)
        | Request::ConnectTransport { .. }
        | Request::SetCapabilities(_)
        | Request::Produce(_)
        | Request::ProduceData(_)
        | Request::PauseAudio(_) => return,
    };
    for dialect in Dialect::ALL {
        let _ = dialect.write(&told);
    }
}

//! Session files: the input is the pickle inside, so that a fuzzer need not find the checksum. What
//! is read is written and read back the same.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use ringside::proto::session_file::{Limits, Session};

pub(crate) fn run(data: &[u8]) {
    let limits = Limits {
        inflated_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let _ = Session::read(data, limits);
    let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
    zip.write_all(data).expect("memory takes all of it");
    let file = zip.finish().expect("memory takes all of it");
    if let Ok(session) = Session::read(&file, limits) {
        let again = Session::read(&session.to_bytes(), Limits::default());
        // Text is compared, because a number may be NaN.
        assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, ()>(session)));
    }
}

//! Logs of sessions: records that are read are those that were written, up to the first that is none.

use ringside::proto::session_log::{HEAD_BYTES, Head, Reader};

pub(crate) fn run(data: &[u8]) {
    if let Some(head) = data.first_chunk::<HEAD_BYTES>()
        && let Some(read) = Head::read(head)
    {
        assert_eq!(Head::read(&read.to_bytes()), Some(read));
    }
    let records = data.get(HEAD_BYTES..).unwrap_or(data);
    let mut reader = Reader::new(records, records.len() as u64);
    let mut written = Vec::new();
    while let Some(record) = reader.record().expect("memory is always readable") {
        written.extend(record.head());
        for part in record.parts() {
            written.extend_from_slice(part);
        }
    }
    let whole = records.len() - reader.torn_bytes() as usize;
    assert_eq!(written, records[..whole]);
}

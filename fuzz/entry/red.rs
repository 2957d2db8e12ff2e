//! Redundant sound (RFC 2198).

use ringside::proto::rtp::red;

pub(crate) fn run(data: &[u8]) {
    let Ok(primary) = red::primary(data) else {
        return;
    };
    assert!(primary.payload_type < 128);
    assert_eq!(primary.range.end, data.len());
    assert!(primary.range.start > 0);
    let block = &data[primary.range];
    // Alone, it is the same.
    let mut alone = vec![primary.payload_type];
    alone.extend_from_slice(block);
    let again = red::primary(&alone).expect("it is well-formed");
    assert_eq!(again.payload_type, primary.payload_type);
    assert_eq!(&alone[again.range], block);
}

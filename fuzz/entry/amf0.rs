//! AMF 0 values: what is read is written and read back as the same values.

use ringside::proto::amf::read_all;

pub(crate) fn run(data: &[u8]) {
    let values = read_all(data);
    let mut written = Vec::new();
    values.iter().for_each(|value| value.write(&mut written));
    // Text is compared, because a number may be NaN.
    assert_eq!(format!("{values:?}"), format!("{:?}", read_all(&written)));
}

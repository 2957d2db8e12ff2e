//! The pickle decoder: what it reads is written and read back as the same value. The first byte
//! chooses whether classes may be named.

use bytes::Bytes;
use ringside::proto::pickle::{Error, Limits, Pieces, Rules, Scanner};
use ringside::proto::pickle::{decode, decode_delta, encode};

pub(crate) fn run(data: &[u8]) {
    let Some((rules, data)) = data.split_first() else {
        return;
    };
    let limits = Limits {
        expanded_max: 100_000,
        ..Limits::default()
    };
    let data = Bytes::copy_from_slice(data);
    let (rules, read) = if rules & 1 == 0 {
        (Rules::Plain, decode(&data, limits))
    } else {
        (Rules::Delta, decode_delta(&data, limits))
    };
    let scanned = Scanner::new(limits).scan(&data, rules).map(|_| ());
    let value = match read {
        Ok(value) => value,
        Err(Error::Surrogate) => return,
        Err(error) => return assert_eq!(scanned, Err(error)),
    };
    assert_eq!(scanned, Ok(()), "the scanner refuses what is decoded");
    assert!(rules == Rules::Delta || value.is_plain());
    let written = Bytes::from(encode(&value));
    assert_eq!(Pieces::of(&value).concat(), written);
    Scanner::default()
        .scan(&written, rules)
        .expect("what is written passes");
    let again = decode_delta(&written, Limits::default()).expect("what is written is read");
    // Text is compared, because a number may be NaN.
    assert_eq!(format!("{again:?}"), format!("{value:?}"));
}

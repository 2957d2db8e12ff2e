//! Folding: any base and delta. What is folded passes as plain data, and folds again with no delta
//! to itself. The first byte is the base's length.

use bytes::Bytes;
use ringside::proto::deepdiff::fold;
use ringside::proto::pickle::Limits;

pub(crate) fn run(data: &[u8]) {
    let Some((length, data)) = data.split_first() else {
        return;
    };
    let Some((base, delta)) = data.split_at_checked(usize::from(*length)) else {
        return;
    };
    let limits = Limits {
        expanded_max: 100_000,
        ..Limits::default()
    };
    let (base, delta) = (Bytes::copy_from_slice(base), Bytes::copy_from_slice(delta));
    if let Ok(folded) = fold(&base, [&delta], limits) {
        let folded = Bytes::from(folded);
        let again = fold(&folded, [], limits).expect("what is folded can be folded");
        assert_eq!(again, folded);
    }
}

//! The pickle scanner: what passes under small limits passes under large ones, and a pickle without
//! classes passes as a delta too. The first byte chooses the rules.

use ringside::proto::pickle::{Limits, Rules, Scanner};

pub(crate) fn run(data: &[u8]) {
    let Some((rules, data)) = data.split_first() else {
        return;
    };
    let rules = if rules & 1 == 0 {
        Rules::Plain
    } else {
        Rules::Delta
    };
    let small = Limits {
        depth_max: 8,
        memo_max: 64,
        stack_max: 64,
        expanded_max: 1000,
        integer_bytes_max: 16,
    };
    let wide = Scanner::default().scan(data, rules);
    if let Ok(summary) = Scanner::new(small).scan(data, rules) {
        assert_eq!(wide, Ok(summary));
        assert!(summary.depth <= 8 && summary.expanded <= 1000);
    }
    if rules == Rules::Plain
        && let Ok(summary) = wide
    {
        assert_eq!(Scanner::default().scan(data, Rules::Delta), Ok(summary));
    }
}

//! Delivery directives that are read can be written, and read as the same again.

use ringside::proto::hls::{BlockingReload, Skip};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(reload) = BlockingReload::parse(text) else {
        return;
    };
    assert!(reload.part.is_none() || reload.msn.is_some());
    let msn = reload.msn.map(|msn| format!("_HLS_msn={msn}"));
    let part = reload.part.map(|part| format!("_HLS_part={part}"));
    let skip = reload.skip.map(|skip| match skip {
        Skip::Segments => "_HLS_skip=YES".to_owned(),
        Skip::SegmentsAndDateRanges => "_HLS_skip=v2".to_owned(),
    });
    let query: Vec<String> = [skip, part, msn].into_iter().flatten().collect();
    assert_eq!(BlockingReload::parse(&query.join("&")), Ok(reload));
}

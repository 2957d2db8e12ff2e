//! RTP: a packet's header and extensions; and what is known of a stream, over a sequence of
//! packets of any order.

use std::time::{Duration, Instant};

use ringside::media::NtpTime;
use ringside::proto::rtp::{
    Arrival, Clock, Extension, ExtensionMap, Fields, Header, Incoming, Kind, Patch, Received,
    Template, TemplateOptions, Timeline, header_length, original, write_header,
};

pub(crate) fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    if first & 1 == 0 {
        packet(rest);
    } else {
        stream(rest);
    }
}

fn map() -> ExtensionMap {
    let mut map = ExtensionMap::default();
    for (extension, id) in Extension::ALL.into_iter().zip(1..) {
        map.set(extension, id);
    }
    map
}

fn packet(data: &[u8]) {
    let _ = Kind::of(data);
    let Ok(header) = Header::parse(data) else {
        return;
    };
    assert_eq!(header_length(data), Ok(header.length()));
    let range = header.payload_range();
    assert_eq!(range.len(), header.payload().len());
    assert_eq!(range.end + header.padding(), data.len());
    assert_eq!(header.csrcs().count(), header.csrc_count());
    if let Ok(Some(original)) = original(&header) {
        assert!(original.payload.end == range.end && !original.payload.is_empty());
    }
    let map = map();
    let values = header.extensions().values(&map);
    let level = header.extensions().find(&map, Extension::AudioLevel);
    assert_eq!(
        values.audio_level,
        level.and_then(|value| value.first().copied())
    );
    // What was read is written and read back.
    let elements: Vec<_> = header.extensions().collect();
    let fields = Fields {
        marker: header.marker,
        has_padding: false,
        payload_type: header.payload_type,
        sequence: header.sequence,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
    };
    let mut out = vec![0; 20 + data.len() * 2];
    let length = write_header(&mut out, &fields, &elements).expect("there is room");
    let again = Header::parse(&out[..length]).expect("it is well-formed");
    assert!(again.extensions().eq(elements.iter().copied()));
    // The same by a template, in any room.
    let template = Template::new(&TemplateOptions {
        ssrc: header.ssrc,
        payload_type: header.payload_type,
        mid: "0",
        map,
        is_mixed: header.marker,
    });
    let known: Vec<_> = elements
        .iter()
        .filter_map(|(id, value)| Some((map.extension(*id)?, *value)))
        .collect();
    let room = Template::BYTES + usize::from(header.sequence) % 512;
    let mut out = vec![0xff; room];
    let patch = Patch {
        sequence: header.sequence,
        ..Patch::default()
    };
    let length = template.write_with(&mut out, &patch, &known);
    let again = Header::parse(&out[..length]).expect("it is well-formed");
    let _ = again.extensions().values(&map);
}

fn stream(data: &[u8]) {
    #[allow(clippy::disallowed_methods, reason = "any moment will do")]
    let start = Instant::now();
    let mut now = start;
    let mut incoming = Incoming::new(90_000);
    let mut timeline = Timeline::new(start);
    let mut clock = Clock::new(90_000);
    let mut newest = 0;
    let mut sequence = 0u16;
    let (steps, _) = data.as_chunks::<6>();
    for &[kind, jump, low, high, t0, t1] in steps {
        now += Duration::from_millis(u64::from(low) * u64::from(kind >> 5));
        sequence = match kind & 3 {
            0 | 1 => sequence.wrapping_add(1 + u16::from(jump & 3)),
            2 => sequence.wrapping_sub(u16::from(jump)),
            _ => u16::from_be_bytes([jump, high]),
        };
        let timestamp = u32::from_be_bytes([t0, t1, high, 0]);
        let arrival = Arrival {
            sequence,
            timestamp,
            is_empty: kind & 4 != 0,
            is_retransmission: kind & 8 != 0,
        };
        if let Received::New {
            number, is_late, ..
        } = incoming.receive(now, arrival)
        {
            assert!(is_late || number > newest, "{number} after {newest}");
            newest = newest.max(number);
            clock.time(&timeline, now, timestamp);
        }
        if kind & 16 != 0 {
            let ntp = NtpTime(u64::from_be_bytes([t0, t1, low, high, jump, kind, 0, 0]));
            clock.sender_report(&mut timeline, now, ntp, timestamp);
            incoming.sender_report(now, ntp.middle());
            let rtt = Duration::from_millis(u64::from(jump));
            assert!(incoming.poll_nacks(now, rtt).count() <= 512);
            let _ = incoming.poll_timeout(rtt);
            let _ = incoming.report(now);
        }
    }
}

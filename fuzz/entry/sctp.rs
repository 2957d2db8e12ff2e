//! An association that gets the input's chunks from its peer, with the right tag, checksum and
//! numbers, before and after it is established.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::proto::sctp::{Association, ChannelId, Event, Options, Reliability};

pub(crate) fn run(data: &[u8]) {
    #[expect(
        clippy::disallowed_methods,
        reason = "there is no driver to take the time from"
    )]
    let mut now = Instant::now();
    let Some((mode, mut rest)) = data.split_first() else {
        return;
    };
    let options = Options {
        message_bytes_max: 4096,
        buffered_bytes_max: 8192,
        channels_max: 4,
        ..Options::default()
    };
    let mut peer = Association::new(now, true, options);
    let mut session = Association::new(now, false, options);
    // The peer's first packet tells its next number; later ones tell our tag.
    let mut number = 0;
    let mut header = [0; 12];
    while let Some(packet) = peer.poll_transmit() {
        if number == 0 {
            number = u32::from_be_bytes(packet[28..32].try_into().expect("four bytes"));
        }
        header.copy_from_slice(&packet[..12]);
        if mode & 1 == 0 {
            break;
        }
        session.handle_input(now, packet);
        while let Some(packet) = session.poll_transmit() {
            peer.handle_input(now, packet);
        }
    }
    if mode & 2 != 0 {
        let _ = session.open(now, "ours", "", Reliability::Reliable, true);
        let id = ChannelId(7);
        let _ = session.open_negotiated(now, id, "", "", Reliability::Retransmits(0), false);
    }

    let mut held = 0_usize;
    let mut is_gone = false;
    while let Some((size, behind)) = rest.split_first_chunk::<2>() {
        let size = usize::from(u16::from_be_bytes(*size)).min(behind.len());
        let (chunks, behind) = behind.split_at(size);
        rest = behind;
        let mut packet = header.to_vec();
        packet.extend(chunks);
        number_data(&mut packet, &mut number);
        packet[8..12].fill(0);
        let sum = crc32c(&packet).to_le_bytes();
        packet[8..12].copy_from_slice(&sum);
        session.handle_input(now, Bytes::from(packet));
        now += Duration::from_millis(100);
        if session.poll_timeout().is_some_and(|(at, _)| at <= now) {
            session.handle_timeout(now);
        }
        // Every third round nobody takes the events.
        if mode & 4 == 0 || size % 3 != 0 {
            while let Some(event) = session.poll_event() {
                assert!(!is_gone, "nothing follows the end");
                match event {
                    Event::Opened { channel, .. } => {
                        let _ = session.send(now, channel, true, b"hello");
                    }
                    Event::Message { channel, bytes, .. } => {
                        assert!(bytes.len() <= 4096);
                        held += bytes.len();
                        let _ = session.send(now, channel, false, &bytes);
                        if held % 5 == 1 {
                            session.close(now, channel);
                        }
                    }
                    Event::Writable(_) | Event::Closed(_) => {}
                    Event::Gone => is_gone = true,
                }
            }
        }
        while session.poll_transmit().is_some() {}
    }
}

/// Gives DATA chunks the numbers that come next, without which none would be taken.
fn number_data(packet: &mut [u8], number: &mut u32) {
    let mut at = 12;
    while let Some(chunk) = packet.get_mut(at..)
        && chunk.len() >= 8
    {
        let size = usize::from(u16::from_be_bytes([chunk[2], chunk[3]])).max(4);
        // The lowest of the flags that mean nothing: the input's own number is to stand.
        if chunk[0] == 0 && chunk[1] & 0x10 == 0 {
            chunk[4..8].copy_from_slice(&number.to_be_bytes());
            *number = number.wrapping_add(1);
        }
        at += size.next_multiple_of(4);
    }
}

/// The checksum of RFC 9260 appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg())
        })
    })
}

//! RTCP: each packet of a datagram is read to its end; what can be written is read back. What
//! begins with 0 is a sequence of arrivals for transport-wide feedback.

use std::time::{Duration, Instant};

use ringside::proto::rtcp::twcc::{History, Recorder};
use ringside::proto::rtcp::{
    Packet, packets, write_fir, write_nack, write_pli, write_receiver_report, write_remb,
    write_sender_report,
};

pub(crate) fn run(data: &[u8]) {
    match data.split_first() {
        Some((0, rest)) => arrivals(rest),
        Some(_) => datagram(data),
        None => {}
    }
}

fn datagram(data: &[u8]) {
    #[allow(clippy::disallowed_methods, reason = "any moment will do")]
    let now = Instant::now();
    let mut history = History::new(64);
    for _ in 0..100 {
        history.send(now, 1000);
    }
    for packet in packets(data).flatten() {
        let mut out = Vec::new();
        match packet {
            Packet::SenderReport(report) => {
                let blocks: Vec<_> = report.blocks.collect();
                write_sender_report(&mut out, report.ssrc, &report.info, &blocks);
                let Some(Ok(Packet::SenderReport(again))) = packets(&out).next() else {
                    panic!("{out:?}");
                };
                assert_eq!((again.ssrc, again.info), (report.ssrc, report.info));
                assert!(again.blocks.eq(blocks));
                let _ = report.blocks.map(|block| block.round_trip(report.info.ntp));
            }
            Packet::ReceiverReport(report) => {
                let blocks: Vec<_> = report.blocks.collect();
                write_receiver_report(&mut out, report.ssrc, &blocks);
                let Some(Ok(Packet::ReceiverReport(again))) = packets(&out).next() else {
                    panic!("{out:?}");
                };
                assert!(again.blocks.eq(blocks));
            }
            Packet::Descriptions(chunks) => assert!(chunks.count() <= 31),
            Packet::Goodbye(goodbye) => assert!(goodbye.ssrcs().count() <= 31),
            Packet::Application(application) => assert!(application.data.len() <= data.len()),
            Packet::Nack(nack) => {
                let numbers: Vec<_> = nack.numbers().collect();
                assert!(numbers.len() <= data.len() / 4 * 17);
                write_nack(&mut out, nack.sender, nack.media, numbers.iter().copied());
                if numbers.is_empty() {
                    return;
                }
                let Some(Ok(Packet::Nack(again))) = packets(&out).next() else {
                    panic!("{out:?}");
                };
                let again: Vec<_> = again.numbers().collect();
                assert!(numbers.iter().all(|number| again.contains(number)));
            }
            Packet::TransportCc(feedback) => {
                assert_eq!(feedback.statuses().count(), usize::from(feedback.len()));
                history.take(now, &feedback, |acked| assert!(acked.number < 100));
                assert!(history.rates(now).loss <= 1.0);
            }
            Packet::Pli(pli) => {
                write_pli(&mut out, pli.sender, pli.media);
                assert!(
                    matches!(packets(&out).next(), Some(Ok(Packet::Pli(again))) if again == pli)
                );
            }
            Packet::Fir(fir) => {
                for refresh in fir.refreshes() {
                    out.clear();
                    write_fir(&mut out, fir.sender, refresh);
                    let Some(Ok(Packet::Fir(again))) = packets(&out).next() else {
                        panic!("{out:?}");
                    };
                    assert!(again.refreshes().eq([refresh]));
                }
            }
            Packet::Remb(remb) => {
                let ssrcs: Vec<_> = remb.ssrcs().collect();
                write_remb(&mut out, remb.sender, remb.bitrate, &ssrcs);
                let Some(Ok(Packet::Remb(again))) = packets(&out).next() else {
                    panic!("{out:?}");
                };
                assert!(again.ssrcs().eq(ssrcs) && again.bitrate <= remb.bitrate);
            }
        }
    }
}

fn arrivals(data: &[u8]) {
    #[allow(clippy::disallowed_methods, reason = "any moment will do")]
    let mut now = Instant::now();
    let mut recorder = Recorder::default();
    let mut history = History::new(1024);
    let mut out = Vec::new();
    let (steps, _) = data.as_chunks::<3>();
    for &[high, low, wait] in steps {
        now += Duration::from_micros(u64::from(wait) * u64::from(wait) * 100);
        history.send(now, usize::from(low));
        recorder.record(now, u16::from_be_bytes([high, low]));
        for _ in 0..20 {
            out.clear();
            if !recorder.write(now, 1, 2, &mut out) {
                break;
            }
            assert!(out.len() < 1000);
            let Some(Ok(Packet::TransportCc(feedback))) = packets(&out).next() else {
                panic!("{out:?}");
            };
            assert!(!feedback.is_empty());
            history.take(now, &feedback, |_| {});
        }
    }
}

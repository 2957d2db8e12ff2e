//! Packets that are lost, late, sent twice, cut or changed.

use crate::proto::srtp::{Error, Profile, SOURCES_MAX};

use super::{inbound, outbound, rtcp, rtp, sealed, sealed_rtcp};

const SSRC: u32 = 0xdead_beef;

#[test]
fn ids_and_lengths_are_those_of_the_registry() {
    let ids = Profile::ALL.map(Profile::id);
    assert_eq!(ids, [7, 8, 1, 2]);
    for profile in Profile::ALL {
        assert_eq!(Profile::from_id(profile.id()), Some(profile));
    }
    assert_eq!(Profile::from_id(0), None);
    assert_eq!(Profile::ALL.map(Profile::rtp_tag_bytes), [16, 16, 10, 4]);
    assert_eq!(Profile::ALL.map(Profile::rtcp_tag_bytes), [16, 16, 10, 10]);
}

/// Sequence numbers wrap while packets around the wrap are lost, late and in disorder.
#[test]
fn the_rollover_counter_follows_a_wrap_under_loss() {
    for profile in Profile::ALL {
        let outbound = outbound(profile);
        let mut inbound = inbound(profile);
        let steps = [
            (0, 30_000),
            (0, 62_000),
            (0, 65_534),
            // The wrap's own packets are lost.
            (1, 3),
            // From before the wrap, but late.
            (0, 65_535),
            (1, 1),
            // Steps of just less than half a round.
            (1, 32_000),
            (1, 64_000),
            (2, 30_000),
            (2, 62_767),
            (3, 0),
            (2, 65_500),
        ];
        for (roc, sequence) in steps {
            let mut packet = sealed(&outbound, roc, rtp(SSRC, sequence, b"payload"));
            let opened = inbound.unprotect_rtp(&mut packet).unwrap();
            assert_eq!(opened.index, u64::from(roc) << 16 | u64::from(sequence));
        }
    }
}

/// A packet from before the first one that came cannot be from a round before the first.
#[test]
fn nothing_is_before_the_first_round() {
    let outbound = outbound(Profile::AeadAes128Gcm);
    let mut inbound = inbound(Profile::AeadAes128Gcm);
    for sequence in [5, 65_535] {
        let mut packet = sealed(&outbound, 0, rtp(SSRC, sequence, b"payload"));
        let opened = inbound.unprotect_rtp(&mut packet).unwrap();
        assert_eq!(opened.index, u64::from(sequence));
    }
}

/// Firefox probes for bandwidth by sending old packets again. They are told from forged ones, and
/// the session goes on. See row 22 of the quirks.
#[test]
fn a_packet_that_came_before_is_told_apart() {
    for profile in Profile::ALL {
        let mut outbound = outbound(profile);
        let mut inbound = inbound(profile);
        let first = sealed(&outbound, 0, rtp(SSRC, 100, b"first"));
        inbound.unprotect_rtp(&mut first.clone()).unwrap();
        let newer = sealed(&outbound, 0, rtp(SSRC, 611, b"newer"));
        inbound.unprotect_rtp(&mut newer.clone()).unwrap();
        assert_eq!(
            inbound.unprotect_rtp(&mut first.clone()),
            Err(Error::Replayed)
        );
        assert_eq!(
            inbound.unprotect_rtp(&mut newer.clone()),
            Err(Error::Replayed)
        );
        let mut late = sealed(&outbound, 0, rtp(SSRC, 101, b"late"));
        assert!(inbound.unprotect_rtp(&mut late).is_ok());
        let mut newest = sealed(&outbound, 0, rtp(SSRC, 612, b"newest"));
        assert!(inbound.unprotect_rtp(&mut newest).is_ok());
        assert_eq!(
            inbound.unprotect_rtp(&mut first.clone()),
            Err(Error::TooOld)
        );

        let report = sealed_rtcp(&mut outbound, rtcp(SSRC, b"report"));
        assert!(inbound.unprotect_rtcp(&mut report.clone()).is_ok());
        assert_eq!(
            inbound.unprotect_rtcp(&mut report.clone()),
            Err(Error::Replayed)
        );
        for _ in 0..128 {
            let mut next = sealed_rtcp(&mut outbound, rtcp(SSRC, b"report"));
            assert!(inbound.unprotect_rtcp(&mut next).is_ok());
        }
        assert_eq!(
            inbound.unprotect_rtcp(&mut report.clone()),
            Err(Error::TooOld)
        );
    }
}

/// A length is checked before anything is subtracted from it: packets shorter than a tag and an
/// index have brought down servers.
#[test]
fn packets_that_are_cut_are_refused() {
    for profile in Profile::ALL {
        let mut outbound = outbound(profile);
        let mut inbound = inbound(profile);
        let mut with_extension = rtp(SSRC, 1, &[0xbe, 0xde, 0, 1, 0x10, 1, 0, 0, 7, 7, 7]);
        with_extension[0] |= 0x10;
        for packet in [rtp(SSRC, 1, b"payload"), with_extension] {
            let packet = sealed(&outbound, 0, packet);
            for length in 0..packet.len() {
                let error = inbound.unprotect_rtp(&mut packet[..length].to_vec());
                assert!(error.is_err(), "{length}");
                if length < 12 + profile.rtp_tag_bytes() {
                    assert_eq!(error, Err(Error::Short));
                }
            }
        }
        let report = sealed_rtcp(&mut outbound, rtcp(SSRC, b"report"));
        for length in 0..report.len() {
            let error = inbound.unprotect_rtcp(&mut report[..length].to_vec());
            assert!(error.is_err(), "{length}");
            if length < 8 + 4 + profile.rtcp_tag_bytes() {
                assert_eq!(error, Err(Error::Short));
            }
        }
        assert!(inbound.unprotect_rtcp(&mut report.clone()).is_ok());
    }
}

/// What a header announces may be longer than the packet.
#[test]
fn a_header_longer_than_the_packet_is_refused() {
    let mut inbound = inbound(Profile::AeadAes128Gcm);
    let mut sources = rtp(SSRC, 1, &[0; 70]);
    sources[0] |= 0x0f;
    assert_eq!(inbound.unprotect_rtp(&mut sources), Err(Error::Short));
    let mut extension = rtp(SSRC, 1, &[0xbe, 0xde, 0xff, 0xff, 0, 0, 0, 0]);
    extension[0] |= 0x10;
    assert_eq!(inbound.unprotect_rtp(&mut extension), Err(Error::Short));
}

/// Every byte matters, and a packet that is not authentic changes nothing.
#[test]
fn packets_that_are_changed_are_refused() {
    for profile in Profile::ALL {
        let mut outbound = outbound(profile);
        let mut inbound = inbound(profile);
        let packet = sealed(&outbound, 0, rtp(SSRC, 1, b"payload"));
        let report = sealed_rtcp(&mut outbound, rtcp(SSRC, b"report"));
        for at in 0..packet.len() {
            let mut changed = packet.clone();
            changed[at] ^= 1;
            assert!(inbound.unprotect_rtp(&mut changed).is_err(), "{at}");
        }
        for at in 0..report.len() {
            let mut changed = report.clone();
            changed[at] ^= 1;
            assert!(inbound.unprotect_rtcp(&mut changed).is_err(), "{at}");
        }
        assert_eq!(inbound.table_bytes(), 0);
        assert!(inbound.unprotect_rtp(&mut packet.clone()).is_ok());
        assert!(inbound.unprotect_rtcp(&mut report.clone()).is_ok());
    }
}

#[test]
fn rtcp_has_to_be_encrypted() {
    for profile in Profile::ALL {
        let mut outbound = outbound(profile);
        let mut report = sealed_rtcp(&mut outbound, rtcp(SSRC, b"report"));
        let at = match profile {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => report.len() - 4,
            Profile::AesCm128HmacSha1_80 | Profile::AesCm128HmacSha1_32 => report.len() - 14,
        };
        report[at] &= 0x7f;
        let error = inbound(profile).unprotect_rtcp(&mut report);
        assert_eq!(error, Err(Error::Unencrypted));
    }
}

/// Forged packets of any number of streams make no room and take none; authentic ones take a
/// bounded amount.
#[test]
fn only_authentic_packets_change_the_table() {
    let outbound = outbound(Profile::AeadAes128Gcm);
    let mut inbound = inbound(Profile::AeadAes128Gcm);
    let mut first = sealed(&outbound, 0, rtp(0, 1, b"payload"));
    inbound.unprotect_rtp(&mut first.clone()).unwrap();
    let before = inbound.table_bytes();
    for ssrc in 1..1000 {
        let mut forged = rtp(ssrc, 1, &[7; 40]);
        assert_eq!(inbound.unprotect_rtp(&mut forged), Err(Error::NotAuthentic));
    }
    assert_eq!(inbound.table_bytes(), before);
    assert_eq!(inbound.unprotect_rtp(&mut first), Err(Error::Replayed));

    for ssrc in 0..10 * SOURCES_MAX as u32 {
        let mut packet = sealed(&outbound, 0, rtp(ssrc, 2, b"payload"));
        inbound.unprotect_rtp(&mut packet).unwrap();
    }
    assert_eq!(inbound.table_bytes(), SOURCES_MAX * 80);
}

/// The sums of `SOURCES_MAX` and of what one peer may take.
#[test]
fn a_peer_takes_little() {
    let outbound = outbound(Profile::AesCm128HmacSha1_80);
    let mut inbound = inbound(Profile::AesCm128HmacSha1_80);
    let fixed = size_of_val(&outbound) + size_of_val(&inbound);
    assert!(fixed < 512, "{fixed}");
    for ssrc in 0..8 {
        let mut packet = sealed(&outbound, 0, rtp(ssrc, 2, b"payload"));
        inbound.unprotect_rtp(&mut packet).unwrap();
    }
    assert_eq!(inbound.table_bytes(), 8 * 80);
}

//! SRTP and SRTCP from a peer: any bytes, and packets sealed with the peer's keys.
//!
//! The first byte chooses the suite in bits 0 and 1. The rest are packets, each behind a byte of
//! its length: bit 7 makes it RTCP, bit 6 seals it before it is opened.

use ringside::proto::srtp::{Error, Inbound, Outbound, Profile, SOURCES_MAX};

pub(crate) fn run(data: &[u8]) {
    let Some((first, mut rest)) = data.split_first() else {
        return;
    };
    let profile = Profile::ALL[usize::from(first & 3)];
    let (key, salt) = (
        &[7; 32][..profile.key_bytes()],
        &[9; 14][..profile.salt_bytes()],
    );
    let mut inbound = Inbound::new(profile, key, salt);
    let mut outbound = Outbound::new(profile, key, salt);
    while let Some((form, behind)) = rest.split_first() {
        let length = usize::from(form & 0x3f).min(behind.len());
        let (bytes, behind) = behind.split_at(length);
        rest = behind;
        let (is_rtcp, is_sealed) = (form & 0x80 != 0, form & 0x40 != 0);
        let mut packet = bytes.to_vec();
        if is_rtcp {
            rtcp(&mut inbound, &mut outbound, packet, is_sealed);
            continue;
        }
        if is_sealed && packet.len() >= 12 {
            packet.resize(packet.len() + outbound.rtp_tag_bytes(), 0);
            // Whether the header is in truth longer is for the receiver to find out.
            outbound.protect_rtp(0, 12, &mut packet);
        }
        let whole = packet.len();
        if let Ok(opened) = inbound.unprotect_rtp(&mut packet.clone()) {
            assert_eq!(opened.bytes + profile.rtp_tag_bytes(), whole);
            assert!((12..=opened.bytes).contains(&opened.header_bytes));
            assert_eq!(inbound.unprotect_rtp(&mut packet), Err(Error::Replayed));
        }
    }
    assert!(inbound.table_bytes() <= SOURCES_MAX * (80 + 32));
}

fn rtcp(inbound: &mut Inbound, outbound: &mut Outbound, mut packet: Vec<u8>, is_sealed: bool) {
    let plain = packet.clone();
    let is_sealed = is_sealed && packet.len() >= 8;
    if is_sealed {
        outbound.protect_rtcp(&mut packet).expect("few are sealed");
    }
    let is_good = is_sealed && plain[0] >> 6 == 2;
    match inbound.unprotect_rtcp(&mut packet.clone()) {
        Ok(bytes) => {
            assert!(is_good, "nobody guesses a tag");
            assert_eq!(bytes, plain.len());
            assert_eq!(inbound.unprotect_rtcp(&mut packet), Err(Error::Replayed));
        }
        Err(_) => assert!(!is_good, "what we seal opens"),
    }
}

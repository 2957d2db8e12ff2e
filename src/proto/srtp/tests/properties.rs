//! What is sealed opens as what it was.

use proptest::prelude::*;

use crate::proto::srtp::Profile;

use super::{inbound, outbound, rtcp, rtp};

fn profiles() -> impl Strategy<Value = Profile> {
    prop::sample::select(Profile::ALL.to_vec())
}

proptest! {
    #[test]
    fn rtp_round_trips(
        profile in profiles(),
        ssrc: u32,
        sequence: u16,
        sources in 0..16_usize,
        extension in prop::option::of(0..20_usize),
        payload in prop::collection::vec(any::<u8>(), 0..1500),
        padding in 0..40_usize,
    ) {
        let mut header = rtp(ssrc, sequence, &[]);
        header[0] |= sources as u8;
        header.resize(12 + 4 * sources, 0x5a);
        if let Some(words) = extension {
            header[0] |= 0x10;
            header.extend_from_slice(&[0xbe, 0xde, 0, words as u8]);
            header.resize(header.len() + 4 * words, 0xa5);
        }
        let trailer = vec![padding as u8; padding];
        let outbound = outbound(profile);
        let plain = [&header[..], &payload, &trailer].concat();
        let mut packet = plain.clone();
        packet.resize(plain.len() + outbound.rtp_tag_bytes(), 0);
        outbound.protect_rtp(0, header.len(), &mut packet);

        let mut separate = header.clone();
        separate.resize(packet.len(), 0);
        outbound.seal_rtp(0, header.len(), &payload, &trailer, &mut separate);
        prop_assert_eq!(&separate, &packet);
        prop_assert_eq!(&packet[..header.len()], &header[..]);

        let opened = inbound(profile).unprotect_rtp(&mut packet).unwrap();
        prop_assert_eq!(&packet[..opened.bytes], &plain[..]);
        prop_assert_eq!(opened.header_bytes, header.len());
        prop_assert_eq!(opened.ssrc, ssrc);
        prop_assert_eq!(opened.index, u64::from(sequence));
    }

    #[test]
    fn rtcp_round_trips(
        profile in profiles(),
        ssrc: u32,
        payload in prop::collection::vec(any::<u8>(), 0..1500),
    ) {
        let plain = rtcp(ssrc, &payload);
        let mut packet = plain.clone();
        outbound(profile).protect_rtcp(&mut packet).unwrap();
        prop_assert_eq!(
            packet.len(),
            plain.len() + profile.rtcp_tag_bytes() + 4
        );
        let bytes = inbound(profile).unprotect_rtcp(&mut packet).unwrap();
        prop_assert_eq!(&packet[..bytes], &plain[..]);
    }
}

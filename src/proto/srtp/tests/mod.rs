//! Tests of the whole folder: known packets, and packets that go wrong.

mod packets;
mod properties;
mod vectors;

use super::{Inbound, Outbound, Profile};

/// Any master key and salt.
fn keys(profile: Profile) -> (Vec<u8>, Vec<u8>) {
    let key = (0x10..).take(profile.key_bytes()).collect();
    let salt = (0xa0..).take(profile.salt_bytes()).collect();
    (key, salt)
}

fn outbound(profile: Profile) -> Outbound {
    let (key, salt) = keys(profile);
    Outbound::new(profile, &key, &salt)
}

fn inbound(profile: Profile) -> Inbound {
    let (key, salt) = keys(profile);
    Inbound::new(profile, &key, &salt)
}

/// An RTP packet in the clear.
fn rtp(ssrc: u32, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 0x60];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 1]);
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// A receiver report in the clear.
fn rtcp(ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// Seals a packet that has a header of twelve bytes.
fn sealed(outbound: &Outbound, roc: u32, mut packet: Vec<u8>) -> Vec<u8> {
    packet.resize(packet.len() + outbound.rtp_tag_bytes(), 0);
    outbound.protect_rtp(roc, 12, &mut packet);
    packet
}

fn sealed_rtcp(outbound: &mut Outbound, mut packet: Vec<u8>) -> Vec<u8> {
    outbound.protect_rtcp(&mut packet).unwrap();
    packet
}

/// Bytes of hexadecimal digits; `-` is none.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16).map(|value| value as u8))
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

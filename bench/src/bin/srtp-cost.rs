//! What sealing and opening a packet costs: wall time of one thread, the smallest of several
//! rounds. A hundred receivers with keys of their own get the same packets, as from one publisher,
//! and each packet goes to the next place of an arena.
//!
//! `cargo run --release -p ringside-load --bin srtp-cost`
#![allow(clippy::unwrap_used, reason = "it measures or it panics")]
#![allow(clippy::print_stdout, reason = "its numbers are what it is for")]

use std::hint::black_box;
use std::time::Duration;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ringside::proto::srtp::{Inbound, Outbound, Profile};
use ringside::shard::clock;

const ROUNDS: u32 = 15;
const RECEIVERS: usize = 100;
/// One frame of 1.6 Mbit/s.
const PACKETS: usize = 7;
const HEADER_BYTES: usize = 12;
/// More than the cache next to a core has.
const ARENA_BYTES: usize = 1 << 20;

fn main() {
    for profile in Profile::ALL {
        memory(profile);
    }
    for bytes in [1200, 100] {
        for (name, algorithm) in [("128", &AES_128_GCM), ("256", &AES_256_GCM)] {
            let key = &[7; 32][..algorithm.key_len()];
            let key = LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap());
            report(&format!("plain GCM-{name} seal, {bytes} bytes"), || {
                plain(&key, bytes)
            });
        }
        for profile in Profile::ALL {
            for (name, work) in [
                ("copy, then protect", copy_and_protect as fn(&mut Bench)),
                ("seal from the payload", seal),
                ("protect alone", protect),
            ] {
                let mut bench = Bench::new(profile, bytes);
                report(&format!("{profile:?}: {name}, {bytes} bytes"), || {
                    let began = clock::now();
                    work(&mut bench);
                    bench.roc += 1;
                    began.elapsed()
                });
            }
            let mut bench = Bench::new(profile, bytes);
            report(&format!("{profile:?}: unprotect, {bytes} bytes"), || {
                bench.roc += 1;
                bench.unprotect()
            });
        }
    }
}

/// Resident bytes of both directions of a peer that has sent four streams, the mean of many.
fn memory(profile: Profile) {
    const PEERS: usize = 4000;
    let (key, salt) = (vec![7; profile.key_bytes()], vec![9; profile.salt_bytes()]);
    let before = resident_bytes();
    let peers: Vec<(Outbound, Inbound)> = (0..PEERS)
        .map(|_| {
            let outbound = Outbound::new(profile, &key, &salt);
            let mut inbound = Inbound::new(profile, &key, &salt);
            for ssrc in 0..4 {
                let mut packet = vec![0x80, 0x60, 0, 1, 0, 0, 0, 0, 0, 0, 0, ssrc];
                packet.resize(100 + profile.rtp_tag_bytes(), 0);
                outbound.protect_rtp(0, HEADER_BYTES, &mut packet);
                inbound.unprotect_rtp(&mut packet).unwrap();
            }
            (outbound, inbound)
        })
        .collect();
    let bytes = (resident_bytes() - before) / PEERS;
    println!("{profile:?}: both directions of a peer, {bytes} bytes");
    // What is given back would be used again for the next suite, and not be seen there.
    std::mem::forget(black_box(peers));
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn report(what: &str, mut run: impl FnMut() -> Duration) {
    let least = (0..ROUNDS).map(|_| run()).min().unwrap_or_default();
    let count = (RECEIVERS * PACKETS) as u32;
    println!("{what}: {} ns", (least / count).as_nanos());
}

struct Bench {
    receivers: Vec<Outbound>,
    inbound: Inbound,
    payloads: Vec<Vec<u8>>,
    arena: Vec<u8>,
    at: usize,
    packet_bytes: usize,
    tag_bytes: usize,
    roc: u32,
}

impl Bench {
    fn new(profile: Profile, bytes: usize) -> Self {
        let salt = &[9; 14][..profile.salt_bytes()];
        let key = |number| vec![number; profile.key_bytes()];
        let receivers = (0..RECEIVERS as u8)
            .map(|number| Outbound::new(profile, &key(number), salt))
            .collect();
        Self {
            receivers,
            inbound: Inbound::new(profile, &key(0), salt),
            payloads: (0..PACKETS as u8)
                .map(|number| vec![number; bytes - HEADER_BYTES])
                .collect(),
            arena: vec![0; ARENA_BYTES],
            at: 0,
            packet_bytes: bytes,
            tag_bytes: profile.rtp_tag_bytes(),
            roc: 0,
        }
    }

    /// The next place of the arena, with a header in it.
    fn place(
        arena: &mut [u8],
        at: &mut usize,
        bytes: usize,
        number: usize,
    ) -> std::ops::Range<usize> {
        if *at + bytes > arena.len() {
            *at = 0;
        }
        let place = *at..*at + bytes;
        *at += bytes;
        let header = &mut arena[place.clone()][..HEADER_BYTES];
        header.copy_from_slice(&[0x80, 0x60, 0, number as u8, 0, 0, 0, 1, 0, 0, 0, 1]);
        place
    }

    fn unprotect(&mut self) -> Duration {
        let bytes = self.packet_bytes + self.tag_bytes;
        let packet = &self.receivers[0];
        let mut sealed: Vec<Vec<u8>> = (0..RECEIVERS * PACKETS)
            .map(|number| {
                let mut out = vec![0x80, 0x60];
                out.extend_from_slice(&(number as u16).to_be_bytes());
                // A stream for each round, so that none comes twice.
                out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, self.roc as u8]);
                out.resize(bytes, 0);
                packet.protect_rtp(0, HEADER_BYTES, &mut out);
                out
            })
            .collect();
        let began = clock::now();
        for packet in &mut sealed {
            black_box(self.inbound.unprotect_rtp(packet).unwrap());
        }
        began.elapsed()
    }
}

fn copy_and_protect(bench: &mut Bench) {
    let bytes = bench.packet_bytes + bench.tag_bytes;
    for receiver in &bench.receivers {
        for (number, payload) in bench.payloads.iter().enumerate() {
            let place = Bench::place(&mut bench.arena, &mut bench.at, bytes, number);
            let packet = &mut bench.arena[place];
            packet[HEADER_BYTES..][..payload.len()].copy_from_slice(payload);
            receiver.protect_rtp(bench.roc, HEADER_BYTES, packet);
            black_box(packet);
        }
    }
}

fn seal(bench: &mut Bench) {
    let bytes = bench.packet_bytes + bench.tag_bytes;
    for receiver in &bench.receivers {
        for (number, payload) in bench.payloads.iter().enumerate() {
            let place = Bench::place(&mut bench.arena, &mut bench.at, bytes, number);
            let packet = &mut bench.arena[place];
            receiver.seal_rtp(bench.roc, HEADER_BYTES, payload, &[], packet);
            black_box(packet);
        }
    }
}

/// One place, so that the cache has it: what the cipher alone costs.
fn protect(bench: &mut Bench) {
    let bytes = bench.packet_bytes + bench.tag_bytes;
    for receiver in &bench.receivers {
        for number in 0..PACKETS {
            let place = Bench::place(&mut bench.arena, &mut 0, bytes, number);
            let packet = &mut bench.arena[place];
            receiver.protect_rtp(bench.roc, HEADER_BYTES, packet);
            black_box(packet);
        }
    }
}

fn plain(key: &LessSafeKey, bytes: usize) -> Duration {
    let mut packet = vec![0; bytes + 16];
    let began = clock::now();
    for number in 0..(RECEIVERS * PACKETS) as u64 {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let (packet, tag) = packet.split_at_mut(bytes);
        let (header, text) = packet.split_at_mut(HEADER_BYTES);
        key.seal_in_place_scatter(nonce, Aad::from(&*header), text, &[], tag)
            .unwrap();
        black_box(tag);
    }
    began.elapsed()
}

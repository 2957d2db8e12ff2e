//! Vectors of the specifications, of Wycheproof, and packets of libsrtp.

use crate::proto::srtp::cipher::{Derived, Gcm, Number, Purpose, apply_keystream, counter_key};
use crate::proto::srtp::outbound::rtcp_aad;
use crate::proto::srtp::{Error, Profile};

use super::{hex, inbound, outbound};

/// RFC 3711 appendix B.2.
#[test]
fn aes_counter_mode() {
    let key = counter_key(&hex("2b7e151628aed2a6abf7158809cf4f3c"));
    let first = hex("f0f1f2f3f4f5f6f7f8f9fafbfcfd0000");
    let mut stream = vec![0; 0xff02 * 16];
    apply_keystream(&key, first.try_into().unwrap(), &mut stream);
    assert_eq!(
        stream[..48],
        hex(
            "e03ead0935c95e80e166b16dd92b4eb4d23513162b02d0f72a43a2fe4a5f97ab\
             41e95b3bb0a2e8dd477901e4fca894c0"
        )
    );
    assert_eq!(
        stream[0xfeff * 16..],
        hex(
            "ec8cdf7398607cb0f2d21675ea9ea1e4362b7c3c6773516318a077d7fc5073ae\
             6a2cc3787889374fbeb4c81b17ba6c44"
        )
    );
}

/// RFC 3711 appendix B.3.
#[test]
fn key_derivation() {
    let derived = Derived::new(
        Purpose::Rtp,
        &hex("e1f97a0d3e018be0d64fa32c06de4139"),
        &hex("0ec675ad498afeebb6960b3aabe6"),
    );
    assert_eq!(derived.key[..16], hex("c61e7a93744f39ee10734afe3ff7a087"));
    assert_eq!(
        derived.mac[..],
        hex("cebe321f6ff7716b6fd4ab49af256a156d38baa4")
    );
    assert_eq!(derived.salt[..], hex("30cbbc08863d8c85d49db34a9ae1"));
}

/// RFC 6188 section 7.2, whose function AEAD_AES_256_GCM uses.
#[test]
fn key_derivation_with_256_bits() {
    let derived = Derived::new(
        Purpose::Rtp,
        &hex("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6"),
        &hex("3b04803de51ee7c96423ab5b78d2"),
    );
    assert_eq!(
        derived.key[..],
        hex("5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4")
    );
    assert_eq!(
        derived.mac[..],
        hex("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05")
    );
    assert_eq!(derived.salt[..], hex("fa31791685ca444a9e07c6c64e93"));
}

/// The session keys of RFC 7714 sections 16 and 17; the salt is `Quid pro quo`.
fn gcm_of_rfc_7714(key_bytes: usize) -> Gcm {
    let key: Vec<u8> = (0..key_bytes as u8).collect();
    Gcm::new(&key, b"Quid pro quo\0\0")
}

/// RFC 7714 sections 16.1.1 and 16.2.1, and back (16.1.2 and 16.2.2).
#[test]
fn gcm_of_rtp() {
    let number = Number {
        ssrc: 0x5501_a0b2,
        index: 0xf17b,
    };
    let header = hex("8040f17b8041f8d35501a0b2");
    for (key_bytes, sealed) in [
        (
            16,
            "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833\
             899d7f27beb16a9152cf765ee4390cce",
        ),
        (
            32,
            "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b\
             7aa3db36dfffd6b0f9bb7878d7a76c13",
        ),
    ] {
        let gcm = gcm_of_rfc_7714(key_bytes);
        let mut text = b"Gallia est omnis divisa in partes tres".to_vec();
        let mut tag = [0; 16];
        gcm.seal(number, &header, &mut text, &mut tag);
        assert_eq!([&text[..], &tag].concat(), hex(sealed));
        gcm.open(number, &header, &mut text, &tag).unwrap();
        assert_eq!(text, b"Gallia est omnis divisa in partes tres");
    }
}

/// RFC 7714 sections 17.1 and 17.2.
#[test]
fn gcm_of_rtcp() {
    let number = Number {
        ssrc: u32::from_be_bytes(*b"Mars"),
        index: 0x5d4,
    };
    let aad = rtcp_aad(&hex("81c8000d4d617273"), [0x80, 0, 0x05, 0xd4]);
    let plain = hex(
        "4e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeef\
                     deadbeefdeadbeef",
    );
    for (key_bytes, sealed) in [
        (
            16,
            "63e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b468630\
             3ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade",
        ),
        (
            32,
            "d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be8415f658c61d\
             e0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be",
        ),
    ] {
        let gcm = gcm_of_rfc_7714(key_bytes);
        let mut text = plain.clone();
        let mut tag = [0; 16];
        gcm.seal(number, &aad, &mut text, &mut tag);
        assert_eq!([&text[..], &tag].concat(), hex(sealed));
        gcm.open(number, &aad, &mut text, &tag).unwrap();
        assert_eq!(text, plain);
    }
}

/// The number that gives this nonce under a salt whose last bytes are zero.
fn number_of(nonce: &[u8]) -> (Number, [u8; 14]) {
    let mut salt = [0; 14];
    salt[..2].copy_from_slice(&nonce[..2]);
    let value = nonce[2..]
        .iter()
        .fold(0_u128, |value, byte| value << 8 | u128::from(*byte));
    let number = Number {
        ssrc: (value >> 48) as u32,
        index: value as u64 & ((1 << 48) - 1),
    };
    (number, salt)
}

#[test]
fn gcm_of_wycheproof() {
    let mut counts = [0; 2];
    for line in include_str!("../../../../tests/data/srtp/aes_gcm.txt").lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let [key, nonce, aad, text, sealed, tag] = [2, 3, 4, 5, 6, 7].map(|at| hex(fields[at]));
        let (number, salt) = number_of(&nonce);
        let gcm = Gcm::new(&key, &salt);
        let is_valid = fields[1] == "valid";
        let mut opened = sealed.clone();
        let result = gcm.open(number, &aad, &mut opened, &tag);
        let mut again = text.clone();
        let mut code = [0; 16];
        gcm.seal(number, &aad, &mut again, &mut code);
        if is_valid {
            assert_eq!(result, Ok(()), "{line}");
            assert_eq!(opened, text, "{line}");
            assert_eq!((again, &code[..]), (sealed, &tag[..]), "{line}");
        } else {
            assert_eq!(result, Err(Error::NotAuthentic), "{line}");
        }
        counts[usize::from(is_valid)] += 1;
    }
    assert_eq!(counts, [54, 79]);
}

/// Both ways, in the order in which libsrtp has sealed them.
#[test]
fn packets_of_libsrtp() {
    let mut count = 0;
    for (name, profile) in [
        ("aead-128", Profile::AeadAes128Gcm),
        ("aead-256", Profile::AeadAes256Gcm),
        ("sha1-80", Profile::AesCm128HmacSha1_80),
        ("sha1-32", Profile::AesCm128HmacSha1_32),
    ] {
        let mut outbound = outbound(profile);
        let mut inbound = inbound(profile);
        for line in include_str!("../../../../tests/data/srtp/libsrtp.txt").lines() {
            let fields: Vec<_> = line.split(' ').collect();
            if fields[0] != name {
                continue;
            }
            count += 1;
            let (plain, sealed) = (hex(fields[3]), hex(fields[4]));
            let mut packet = plain.clone();
            let mut opened = sealed.clone();
            if fields[1] == "rtcp" {
                outbound.protect_rtcp(&mut packet).unwrap();
                assert_eq!(packet, sealed, "{line}");
                let bytes = inbound.unprotect_rtcp(&mut opened).unwrap();
                assert_eq!(opened[..bytes], plain, "{line}");
                continue;
            }
            // The second one has a source and an extension; the third is behind the wrap.
            let (roc, header_bytes) = [(0, 12), (0, 24), (1, 12)][count_of(fields[2])];
            packet.resize(sealed.len(), 0);
            outbound.protect_rtp(roc, header_bytes, &mut packet);
            assert_eq!(packet, sealed, "{line}");
            let found = inbound.unprotect_rtp(&mut opened).unwrap();
            assert_eq!(opened[..found.bytes], plain, "{line}");
            assert_eq!(found.header_bytes, header_bytes);
            assert_eq!((found.index >> 16) as u32, roc);
            assert_eq!(found.ssrc, 0xcafe_babe);
        }
    }
    assert_eq!(count, 20);
}

fn count_of(text: &str) -> usize {
    text.parse().unwrap()
}

//! The client's certificate as far as it is needed: the key in it, and what the key has signed.
//!
//! Who made the certificate, until when it holds and what it is for does not matter: it is known by
//! its hash. So only the path to the key is read, by a few steps of DER (X.690 section 8.1).
//!
//! ```text
//! Certificate ::= { { [0] version?, serial, algorithm, issuer, validity, subject,
//!                     { { key algorithm, parameters }, key }, .. }, .. }
//! ```

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use crate::base::bytes::{Reader, Short};

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// 1.2.840.113549.1.1.1
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.2.1
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 1.3.132.0.34
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

/// The kinds of keys that a client's certificate may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    P256,
    P384,
    Rsa,
}

/// How clients may sign, the preferred one first (RFC 8446 section 4.2.3).
pub(super) const SCHEMES: [u16; 9] = [
    0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601,
];

/// The key of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PeerKey<'a> {
    kind: Kind,
    bits: &'a [u8],
}

impl<'a> PeerKey<'a> {
    pub(super) fn of(certificate: &'a [u8]) -> Result<Self, Short> {
        let mut outer = element(&mut Reader::new(certificate), SEQUENCE)?;
        let mut body = element(&mut outer, SEQUENCE)?;
        if body.rest().first() == Some(&VERSION) {
            element(&mut body, VERSION)?;
        }
        element(&mut body, INTEGER)?;
        // Algorithm, issuer, validity, subject.
        for _ in 0..4 {
            element(&mut body, SEQUENCE)?;
        }
        let mut key = element(&mut body, SEQUENCE)?;
        let mut algorithm = element(&mut key, SEQUENCE)?;
        let name = element(&mut algorithm, OBJECT_IDENTIFIER)?.rest();
        let kind = if name == RSA_ENCRYPTION {
            Kind::Rsa
        } else if name == EC_PUBLIC_KEY {
            match element(&mut algorithm, OBJECT_IDENTIFIER)?.rest() {
                P256 => Kind::P256,
                P384 => Kind::P384,
                _ => return Err(Short),
            }
        } else {
            return Err(Short);
        };
        let mut bits = element(&mut key, BIT_STRING)?;
        // The bits that the last byte does not use.
        if bits.u8()? != 0 {
            return Err(Short);
        }
        Ok(Self {
            kind,
            bits: bits.rest(),
        })
    }

    /// Whether the key has signed `message`.
    pub(super) fn has_signed(&self, scheme: u16, message: &[u8], signed: &[u8]) -> bool {
        self.algorithm(scheme).is_some_and(|algorithm| {
            UnparsedPublicKey::new(algorithm, self.bits)
                .verify(message, signed)
                .is_ok()
        })
    }

    /// 1.2 does not bind the hash to the curve (RFC 5246 section 7.4.1.4.1). RSA keys have 2048 bits
    /// at least.
    fn algorithm(&self, scheme: u16) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match (self.kind, scheme) {
            (Kind::P256, 0x0403) => &signature::ECDSA_P256_SHA256_ASN1,
            (Kind::P256, 0x0503) => &signature::ECDSA_P256_SHA384_ASN1,
            (Kind::P256, 0x0603) => &signature::ECDSA_P256_SHA512_ASN1,
            (Kind::P384, 0x0403) => &signature::ECDSA_P384_SHA256_ASN1,
            (Kind::P384, 0x0503) => &signature::ECDSA_P384_SHA384_ASN1,
            (Kind::P384, 0x0603) => &signature::ECDSA_P384_SHA512_ASN1,
            (Kind::Rsa, 0x0401) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Kind::Rsa, 0x0501) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Kind::Rsa, 0x0601) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (Kind::Rsa, 0x0804) => &signature::RSA_PSS_2048_8192_SHA256,
            (Kind::Rsa, 0x0805) => &signature::RSA_PSS_2048_8192_SHA384,
            (Kind::Rsa, 0x0806) => &signature::RSA_PSS_2048_8192_SHA512,
            (Kind::P256 | Kind::P384 | Kind::Rsa, _) => return None,
        })
    }
}

/// The content of the next element, which has this tag.
fn element<'a>(reader: &mut Reader<'a>, tag: u8) -> Result<Reader<'a>, Short> {
    if reader.u8()? != tag {
        return Err(Short);
    }
    let size = match reader.u8()? {
        short @ ..0x80 => short.into(),
        0x81 => reader.u8()?.into(),
        0x82 => reader.u16()?.into(),
        0x83 => reader.u24()? as usize,
        // Indefinite, or longer than a message can be.
        0x80 | 0x84.. => return Err(Short),
    };
    reader.take(size).map(Reader::new)
}

//! The hash by which a certificate is known (RFC 8122 section 5).

use aws_lc_rs::digest;

/// Hash functions for certificates. MD5 and SHA-1 are not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashAlgorithm {
    /// `sha-256`
    Sha256,
    /// `sha-384`
    Sha384,
    /// `sha-512`
    Sha512,
}

impl HashAlgorithm {
    /// From its name in SDP, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha384, Self::Sha512]
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// Its name in SDP.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    /// Of `bytes`.
    pub(super) fn digest(self, bytes: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, bytes)
    }
}

/// A hash that a peer's certificate must have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fingerprint {
    /// The hash function.
    pub algorithm: HashAlgorithm,
    /// 32, 48 or 64 bytes.
    pub bytes: Box<[u8]>,
}

impl Fingerprint {
    /// From the parts of `a=fingerprint`; `None` if the hash function is not known here.
    #[must_use]
    pub fn new(algorithm: &str, bytes: &[u8]) -> Option<Self> {
        HashAlgorithm::from_name(algorithm).map(|algorithm| Self {
            algorithm,
            bytes: bytes.into(),
        })
    }

    /// Whether it is the hash of this certificate (DER).
    #[must_use]
    pub fn is_of(&self, certificate: &[u8]) -> bool {
        self.algorithm.digest(certificate).as_ref() == &*self.bytes
    }
}

/// Upper case hexadecimal with colons, as in SDP: `AB:CD:01`.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        if !out.is_empty() {
            out.push(':');
        }
        out.push(DIGITS[usize::from(byte >> 4)].into());
        out.push(DIGITS[usize::from(byte & 15)].into());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_as_in_sdp() {
        assert_eq!(text(&[0xab, 0x00, 0x1f]), "AB:00:1F");
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn hash_functions_are_told_apart() {
        let certificate = b"not really a certificate";
        for name in ["sha-256", "SHA-384", "sha-512"] {
            let algorithm = HashAlgorithm::from_name(name).unwrap();
            let bytes = algorithm.digest(certificate);
            let fingerprint = Fingerprint::new(name, bytes.as_ref()).unwrap();
            assert!(fingerprint.is_of(certificate));
            assert!(!fingerprint.is_of(b"another"));
            let cut = Fingerprint::new(name, &bytes.as_ref()[..16]).unwrap();
            assert!(!cut.is_of(certificate), "a cut hash proves less");
        }
        assert!(Fingerprint::new("sha-1", &[0; 20]).is_none());
        assert!(Fingerprint::new("md5", &[0; 16]).is_none());
    }
}

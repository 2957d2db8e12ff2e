//! The certificate that all sessions show.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
};
use dimpl::DtlsCertificate;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::fingerprint::{self, HashAlgorithm};
use super::{Error, context};

/// A certificate and its key. Nobody checks who signed it: a peer knows it by its hash, which it
/// has from signalling.
#[derive(Clone)]
pub struct Certificate {
    inner: DtlsCertificate,
    key: Arc<EcdsaKeyPair>,
    scheme: SignatureScheme,
    fingerprint: [u8; 32],
}

/// How the key signs (RFC 8446 section 4.2.3; the same numbers as in RFC 5246 section 7.4.1.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SignatureScheme {
    /// 0x0403
    EcdsaSha256,
    /// 0x0503
    EcdsaSha384,
}

impl Certificate {
    /// Makes a key (ECDSA over P-256) and a certificate that it signs.
    ///
    /// The dates are fixed, since nobody checks them, and the serial number is a hash of the key:
    /// Firefox takes two certificates with one number for a fault.
    ///
    /// # Errors
    ///
    /// If there is no randomness to be had.
    pub fn generate() -> Result<Self, Error> {
        let key =
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| Error::Cryptography)?;
        let mut parameters = CertificateParams::new(Vec::new()).map_err(|_| Error::Cryptography)?;
        parameters.distinguished_name = DistinguishedName::new();
        parameters
            .distinguished_name
            .push(DnType::CommonName, "ringside");
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        // The last year that every parser of two-digit years reads as in this century.
        parameters.not_after = rcgen::date_time_ymd(2049, 1, 1);
        let certificate = parameters
            .self_signed(&key)
            .map_err(|_| Error::Cryptography)?;
        Self::new(certificate.der().to_vec(), key.serialize_der())
    }

    /// From PEM texts. The first certificate counts.
    ///
    /// # Errors
    ///
    /// If one of them is not PEM, the key is not ECDSA over P-256 or P-384, or is another one's.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, Error> {
        let certificate = CertificateDer::from_pem_slice(certificate).map_err(|_| Error::Pem)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Error::Pem)?;
        Self::new(certificate.to_vec(), key.secret_der().to_vec())
    }

    fn new(certificate: Vec<u8>, private_key: Vec<u8>) -> Result<Self, Error> {
        context::check_key(&certificate, &private_key)?;
        let (key, scheme) = load_key(&private_key)?;
        let digest = HashAlgorithm::Sha256.digest(&certificate);
        let fingerprint = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
        Ok(Self {
            inner: DtlsCertificate {
                certificate,
                private_key,
            },
            key: Arc::new(key),
            scheme,
            fingerprint,
        })
    }

    /// Its SHA-256, for an answer's `a=fingerprint:sha-256`.
    #[must_use]
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// Its SHA-256 as in SDP: `AB:CD:..`, 95 characters.
    #[must_use]
    pub fn fingerprint_text(&self) -> String {
        fingerprint::text(&self.fingerprint)
    }

    /// The certificate alone.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.inner.certificate
    }

    pub(super) fn inner(&self) -> &DtlsCertificate {
        &self.inner
    }

    pub(super) fn scheme(&self) -> SignatureScheme {
        self.scheme
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.key.sign(&SystemRandom::new(), message);
        signature
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| Error::Cryptography)
    }
}

/// PKCS #8, or the older form of RFC 5915.
fn load_key(private_key: &[u8]) -> Result<(EcdsaKeyPair, SignatureScheme), Error> {
    let load = |algorithm| EcdsaKeyPair::from_private_key_der(algorithm, private_key);
    load(&ECDSA_P256_SHA256_ASN1_SIGNING)
        .map(|key| (key, SignatureScheme::EcdsaSha256))
        .or_else(|_| {
            load(&ECDSA_P384_SHA384_ASN1_SIGNING).map(|key| (key, SignatureScheme::EcdsaSha384))
        })
        .map_err(|_| Error::KeyType)
}

impl SignatureScheme {
    /// Its number on the wire.
    pub(super) fn number(self) -> u16 {
        match self {
            Self::EcdsaSha256 => 0x0403,
            Self::EcdsaSha384 => 0x0503,
        }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("fingerprint", &self.fingerprint_text())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_one_is_another() {
        let (one, two) = (
            Certificate::generate().unwrap(),
            Certificate::generate().unwrap(),
        );
        assert_ne!(one.fingerprint(), two.fingerprint());
        assert_eq!(one.fingerprint_text().len(), 95);
    }

    #[test]
    fn pem_of_an_ecdsa_key_is_taken() {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let read = Certificate::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(read.der(), &**made.cert.der());

        let stranger = other.signing_key.serialize_pem();
        assert_eq!(
            Certificate::from_pem(certificate.as_bytes(), stranger.as_bytes()).unwrap_err(),
            Error::KeyMismatch
        );
        assert_eq!(
            Certificate::from_pem(key.as_bytes(), key.as_bytes()).unwrap_err(),
            Error::Pem
        );
    }

    #[test]
    fn debug_shows_no_key() {
        let certificate = Certificate::generate().unwrap();
        let shown = format!("{certificate:?}");
        assert!(shown.contains(&certificate.fingerprint_text()));
        let key = format!("{:?}", certificate.inner().private_key);
        assert!(!shown.contains(key.trim_matches(['[', ']'])));
    }
}

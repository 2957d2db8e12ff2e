//! Certificates, and which of them a client gets by the name it asks for.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use webpki::EndEntityCert;

/// Why a certificate and its key cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CertificateError {
    /// The certificate file has no `BEGIN CERTIFICATE`.
    #[error("the certificate file has no certificate in PEM form (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// What is between the lines of PEM is not what it should be, or ends too early.
    #[error("the certificate file is damaged or not yet written to its end")]
    BadCertificate,
    /// The key file has no key of a kind that is known.
    #[error("the key file has no private key in PEM form (PKCS#8, PKCS#1 or SEC1, not encrypted)")]
    NoKey,
    /// The key cannot be used.
    #[error("the key is damaged or of a kind that TLS does not use")]
    BadKey,
    /// The key belongs to another certificate.
    #[error("the key does not belong to the certificate")]
    Mismatch,
}

/// A certificate chain with its key.
#[derive(Clone)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    /// DNS names of the first certificate, in lower case; a wildcard begins with `*.`.
    names: Vec<String>,
}

impl fmt::Debug for Identity {
    /// Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// From the text of two PEM files: the chain, server's certificate first, and the key.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .map_err(|_| CertificateError::BadCertificate)?;
        let first = chain.first().ok_or(CertificateError::NoCertificate)?;
        let names = EndEntityCert::try_from(first)
            .map_err(|_| CertificateError::BadCertificate)?
            .valid_dns_names()
            .map(str::to_ascii_lowercase)
            .collect();
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::NoKey)?;
        let mismatch = rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch);
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
            if error == mismatch {
                CertificateError::Mismatch
            } else {
                CertificateError::BadKey
            }
        })?;
        Ok(Self {
            key: Arc::new(key),
            names,
        })
    }

    /// The DNS names it is for.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// The certificates of one listener, which can be replaced while it runs.
///
/// A lock that all shards share: it is taken once a handshake, which costs a thousand times as much,
/// and written when files have changed.
#[derive(Debug)]
pub struct Certificates {
    table: RwLock<Table>,
}

#[derive(Debug)]
struct Table {
    first: Arc<CertifiedKey>,
    /// By name, or by what stands behind the `*` of a wildcard.
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

impl Table {
    /// An earlier one wins where two have a name.
    fn new(first: &Identity, others: &[Identity]) -> Self {
        let mut by_name = HashMap::new();
        for identity in [first].into_iter().chain(others) {
            for name in &identity.names {
                let name = name.strip_prefix('*').unwrap_or(name);
                by_name
                    .entry(name.to_owned())
                    .or_insert_with(|| Arc::clone(&identity.key));
            }
        }
        Self {
            first: Arc::clone(&first.key),
            by_name,
        }
    }

    fn find(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let Some(name) = name else {
            return &self.first;
        };
        let name = name.to_ascii_lowercase();
        // A wildcard stands for one label (RFC 6125 section 6.4.3).
        let wildcard = || self.by_name.get(name.get(name.find('.')?..)?);
        self.by_name
            .get(&name)
            .or_else(wildcard)
            .unwrap_or(&self.first)
    }
}

impl Certificates {
    /// `first` is what clients get that ask for no name, or for one that none of these has.
    pub fn new(first: &Identity, others: &[Identity]) -> Self {
        Self {
            table: RwLock::new(Table::new(first, others)),
        }
    }

    /// Handshakes from here on use these. Connections that are open go on.
    pub fn replace(&self, first: &Identity, others: &[Identity]) {
        let table = Table::new(first, others);
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(table.find(hello.server_name())))
    }
}

/// What a TLS listener of all shards offers. `alpn` in the order of preference.
pub fn server_config(
    certificates: Arc<Certificates>,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // Tickets need no memory here, and are good on every shard.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    // One is enough for a player; each costs a record at the start of every connection.
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

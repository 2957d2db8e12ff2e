//! The certificates of the TLS listeners: read at the start, and again when their files change.
//!
//! Only this thread of the server reads them. The shards hold [`Certificates`], which handshakes
//! look into; so a renewal reaches all shards at once and no connection notices.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use rustls::ServerConfig;

use crate::config::{Certificate, Config};
use crate::drive::{
    ALPN_COLLAB, ALPN_HTTP1, ALPN_HTTP1_0, ALPN_HTTP2, CertificateError, Certificates, Identity,
    server_config,
};
use crate::server::doctor::{Finding, Level};

/// How often the files are looked at. A look is two `stat` calls for each certificate.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A certificate with its chain and key is a few kB; more is another file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The protocols of a connection to HTTPS, in the order of preference (RFC 7301 section 6).
const ALPN_HTTPS: &[&[u8]] = &[ALPN_HTTP2, ALPN_HTTP1, ALPN_HTTP1_0];

/// A WebSocket begins with HTTP/1.1.
const ALPN_SPACES: &[&[u8]] = &[ALPN_HTTP1];

/// What the certificates are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    Https,
    Rtmps,
    Spaces,
    Collab,
}

/// The TLS listeners and what is known of their files.
#[derive(Debug)]
pub(super) struct Store {
    listeners: Vec<Listener>,
    files: BTreeMap<Certificate, Known>,
}

#[derive(Debug)]
struct Listener {
    address: SocketAddr,
    wanted: Vec<Certificate>,
    certificates: Arc<Certificates>,
    config: Arc<ServerConfig>,
}

#[derive(Debug)]
struct Known {
    identity: Identity,
    stamps: Vec<Option<Stamp>>,
    /// What was last said of files that cannot be used.
    said: Option<String>,
}

/// What changes when a file is written or replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{file} cannot be read: {reason}")]
    Unreadable { file: String, reason: io::Error },
    #[error("{file} has more than {FILE_BYTES_MAX} bytes, so it is not a certificate or key")]
    TooLong { file: String },
    #[error("certificate {cert}, key {key}: {reason}")]
    Content {
        cert: String,
        key: String,
        reason: CertificateError,
    },
}

impl Unusable {
    fn mend(&self, certificate: &Certificate) -> String {
        let cert = certificate.cert.first().map_or("cert.pem", String::as_str);
        let key = &certificate.key;
        let make = format!(
            "to try it out: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
             -days 90 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
             -keyout {key} -out {cert}"
        );
        match self {
            Self::Unreadable { file, reason }
                if reason.kind() == io::ErrorKind::PermissionDenied =>
            {
                format!("let the server's user read it: chgrp ringside {file} && chmod g+r {file}")
            }
            Self::Unreadable { .. } | Self::TooLong { .. } => make,
            Self::Content { reason, .. } => match reason {
                CertificateError::Mismatch => format!(
                    "these two have to print the same: openssl x509 -noout -pubkey -in {cert}; \
                     openssl pkey -pubout -in {key}"
                ),
                CertificateError::NoKey | CertificateError::BadKey => {
                    format!("see what it is: openssl pkey -noout -text -in {key} | head -1")
                }
                CertificateError::NoCertificate | CertificateError::BadCertificate => {
                    format!("see what it is: openssl x509 -noout -subject -in {cert}")
                }
            },
        }
    }
}

/// The TLS listeners of a configuration, and the certificates of each in their order.
fn wanted(config: &Config) -> Vec<(Purpose, SocketAddr, Vec<Certificate>)> {
    let all = |own: &Option<Certificate>| {
        let mut list: Vec<Certificate> = own.iter().cloned().collect();
        list.extend(
            config
                .certificates
                .iter()
                .filter(|certificate| own.as_ref() != Some(certificate))
                .cloned(),
        );
        list
    };
    let https = config
        .protocols
        .https
        .iter()
        .map(|https| (Purpose::Https, https.listen, all(&https.certificate)));
    let rtmps = config
        .protocols
        .rtmp
        .iter()
        .filter(|rtmp| rtmp.certificate.is_some())
        .map(|rtmp| (Purpose::Rtmps, rtmp.listen, all(&rtmp.certificate)));
    let spaces = &config.spaces;
    let spaces = spaces
        .certificate
        .iter()
        .filter(|_| spaces.is_served)
        .flat_map(|own| {
            let addresses = spaces.addresses();
            addresses.map(|address| (Purpose::Spaces, address, vec![own.clone()]))
        });
    let collab = config.collab.iter().flat_map(|collab| {
        collab.sessions.iter().filter_map(|session| {
            let address = SocketAddr::new(collab.interface, session.tls_port?);
            Some((Purpose::Collab, address, all(&session.certificate)))
        })
    });
    https.chain(rtmps).chain(spaces).chain(collab).collect()
}

/// What is wrong with the certificates of a configuration.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = Vec::new();
    for (purpose, address, certificates) in wanted(config) {
        if certificates.is_empty() {
            let (name, place) = match purpose {
                Purpose::Https | Purpose::Rtmps | Purpose::Spaces => ("HTTPS", "connector"),
                Purpose::Collab => ("the TLS port of a collaborative session", "session"),
            };
            findings.push(Finding {
                level: Level::Fail,
                what: format!("{name} at {address} has no certificate"),
                mend: Some(format!(
                    "add \"cert\" and \"key\" to the {place}, or {{\"tls\": {{\"certificates\": \
                     [{{\"cert\": \"cert.pem\", \"key\": \"key.pem\"}}]}}}}, or set SSL_CERT and \
                     SSL_KEY"
                )),
            });
        }
        for certificate in certificates {
            if seen.contains(&certificate) {
                continue;
            }
            findings.push(match read(&certificate) {
                Ok(identity) => Finding {
                    level: Level::Ok,
                    what: format!(
                        "certificate {} is for {}",
                        certificate.cert.join(", "),
                        identity.names().join(", ")
                    ),
                    mend: None,
                },
                Err(unusable) => Finding {
                    level: Level::Fail,
                    what: unusable.to_string(),
                    mend: Some(unusable.mend(&certificate)),
                },
            });
            seen.push(certificate);
        }
    }
    findings
}

impl Store {
    /// Reads everything. All of it has to be usable.
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let mut store = Self {
            listeners: Vec::new(),
            files: BTreeMap::new(),
        };
        for (purpose, address, wanted) in wanted(config) {
            for certificate in &wanted {
                store.add(certificate)?;
            }
            let (first, others) = store
                .identities(&wanted)
                .with_context(|| format!("the TLS port {address} has no certificate"))?;
            let certificates = Arc::new(Certificates::new(&first, &others));
            let alpn = match purpose {
                Purpose::Https => ALPN_HTTPS,
                Purpose::Spaces => ALPN_SPACES,
                Purpose::Rtmps => &[],
                Purpose::Collab => ALPN_COLLAB,
            };
            let config = server_config(Arc::clone(&certificates), alpn)?;
            store.listeners.push(Listener {
                address,
                wanted,
                certificates,
                config,
            });
        }
        Ok(store)
    }

    /// What the listener at `address` offers, if it speaks TLS.
    pub(super) fn tls(&self, address: SocketAddr) -> Option<Arc<ServerConfig>> {
        self.listeners
            .iter()
            .find(|listener| listener.address == address)
            .map(|listener| Arc::clone(&listener.config))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    fn add(&mut self, certificate: &Certificate) -> Result<(), Unusable> {
        if !self.files.contains_key(certificate) {
            let stamps = stamps(certificate);
            let known = Known {
                identity: read(certificate)?,
                stamps,
                said: None,
            };
            self.files.insert(certificate.clone(), known);
        }
        Ok(())
    }

    fn identities(&self, wanted: &[Certificate]) -> Option<(Identity, Vec<Identity>)> {
        let mut all = wanted
            .iter()
            .filter_map(|certificate| self.files.get(certificate))
            .map(|known| known.identity.clone());
        let first = all.next()?;
        Some((first, all.collect()))
    }

    fn publish(&self) {
        for listener in &self.listeners {
            if let Some((first, others)) = self.identities(&listener.wanted) {
                listener.certificates.replace(&first, &others);
            }
        }
    }

    /// Reads what has changed. What cannot be used stays as it was, and is said once.
    fn look(&mut self) {
        let mut has_changed = false;
        for (certificate, known) in &mut self.files {
            // Taken before the files are read: a change in between is seen by the next look.
            let stamps = stamps(certificate);
            // Files that could not be used are read each time: the rest of one may be written
            // within the resolution of its time.
            if stamps == known.stamps && known.said.is_none() {
                continue;
            }
            known.stamps = stamps;
            match read(certificate) {
                Ok(identity) => {
                    known.identity = identity;
                    known.said = None;
                    has_changed = true;
                    tracing::info!(
                        cert = certificate.cert.join(","),
                        "a certificate was read again"
                    );
                }
                Err(unusable) => warn_once(&mut known.said, &unusable),
            }
        }
        if has_changed {
            self.publish();
        }
    }

    /// Uses the certificates that `config` names, on the ports that are open.
    fn set_config(&mut self, config: &Config) {
        for (_, address, certificates) in wanted(config) {
            let Some(at) = self
                .listeners
                .iter()
                .position(|listener| listener.address == address)
            else {
                continue; // Ports change at a restart.
            };
            let mut usable = Vec::new();
            for certificate in certificates {
                match self.add(&certificate) {
                    Ok(()) => usable.push(certificate),
                    Err(unusable) => {
                        tracing::warn!("{unusable}; this certificate is not used");
                    }
                }
            }
            if !usable.is_empty() {
                self.listeners[at].wanted = usable;
            }
        }
        let listeners = &self.listeners;
        self.files.retain(|certificate, _| {
            listeners
                .iter()
                .any(|listener| listener.wanted.contains(certificate))
        });
        self.publish();
    }
}

fn warn_once(said: &mut Option<String>, unusable: &Unusable) {
    let text = unusable.to_string();
    if said.as_ref() != Some(&text) {
        tracing::warn!("{text}; the certificate in use stays");
        *said = Some(text);
    }
}

fn read(certificate: &Certificate) -> Result<Identity, Unusable> {
    let mut chain = Vec::new();
    for file in &certificate.cert {
        chain.extend(read_file(file)?);
        chain.push(b'\n');
    }
    let key = read_file(&certificate.key)?;
    Identity::from_pem(&chain, &key).map_err(|reason| Unusable::Content {
        cert: certificate.cert.join(", "),
        key: certificate.key.clone(),
        reason,
    })
}

fn read_file(file: &str) -> Result<Vec<u8>, Unusable> {
    let unreadable = |reason| Unusable::Unreadable {
        file: file.to_owned(),
        reason,
    };
    if fs::metadata(file).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(Unusable::TooLong {
            file: file.to_owned(),
        });
    }
    fs::read(file).map_err(unreadable)
}

fn stamps(certificate: &Certificate) -> Vec<Option<Stamp>> {
    certificate
        .cert
        .iter()
        .chain([&certificate.key])
        .map(|file| {
            let metadata = fs::metadata(file).ok()?;
            Some(Stamp {
                inode: metadata.ino(),
                bytes: metadata.len(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
            })
        })
        .collect()
}

/// What the watching thread is asked to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Look now, with this configuration.
    Config(Arc<Config>),
    /// Look now.
    Look,
}

/// Watches the files until the sender is dropped. None if there is nothing to watch.
pub(super) fn watch(store: Store) -> io::Result<Option<Sender<Order>>> {
    if store.is_empty() {
        return Ok(None);
    }
    let (orders, ordered) = channel();
    thread::Builder::new()
        .name("certificates".to_owned())
        .spawn(move || run(store, &ordered))?;
    Ok(Some(orders))
}

fn run(mut store: Store, orders: &Receiver<Order>) {
    loop {
        match orders.recv_timeout(LOOK_EVERY) {
            Ok(Order::Config(config)) => {
                store.set_config(&config);
                store.look();
            }
            Ok(Order::Look) | Err(RecvTimeoutError::Timeout) => store.look(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

//! The client's side of a collaborative session inside TLS: plain ports of this computer, each of
//! whose connections is carried to the server's TLS port.
//!
//! The add-on knows one port, or three or four, without TLS. Which of them a connection came to is said
//! in the handshake (`ALPN_COLLAB`), so that one port of the server is enough.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest, Sha256};

use crate::drive::ALPN_COLLAB;
use crate::proto::dtls::fingerprint_text;

/// Where systems keep the authorities that they trust.
const SYSTEM_AUTHORITIES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Bytes that are read at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Connections that are carried at once: an add-on has three, and some that ask what the server is.
const CONNECTIONS_MAX: usize = 64;

/// How long a server may say nothing in a handshake. The add-on has given up by then.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// What a tunnel is made with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// The server's name or address and TLS port.
    pub server: String,
    /// The first of four local ports. The fourth, for the oldest add-ons, may be taken.
    pub port: u16,
    /// The SHA-256 of the server's certificate, in hexadecimal digits with or without colons.
    pub fingerprint: Option<String>,
    /// Authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
}

/// Carries connections until it is stopped.
pub fn run(tunnel: &Tunnel) -> anyhow::Result<()> {
    let (host, _) = tunnel
        .server
        .rsplit_once(':')
        .context("the server is written HOST:PORT")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned())
        .with_context(|| format!("{host} is neither a name nor an address"))?;
    let verifier = verifier(tunnel)?;
    // Said now and not when Blender finds out.
    open(&tunnel.server, &name, &config(&verifier, ALPN_COLLAB[0])?)
        .with_context(|| format!("{} cannot be reached", tunnel.server))?;
    let count = Arc::new(());
    let mut accepting = Vec::new();
    for (port, alpn) in (tunnel.port..).zip(ALPN_COLLAB) {
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => listener,
            Err(error) if port == tunnel.port + 3 => {
                tracing::warn!(port, %error, "add-ons with replication 0.1 cannot be carried");
                continue;
            }
            Err(error) => {
                return Err(error).context(format!("the local port {port} cannot be opened"));
            }
        };
        let (server, name, count) = (tunnel.server.clone(), name.clone(), Arc::clone(&count));
        let config = config(&verifier, alpn)?;
        accepting.push(thread::spawn(move || {
            accept(&listener, &server, &name, &config, &count);
        }));
    }
    tracing::info!(
        server = tunnel.server,
        port = tunnel.port,
        "the tunnel is open: the add-on's address is 127.0.0.1"
    );
    for thread in accepting {
        if thread.join().is_err() {
            bail!("a port is served no more");
        }
    }
    Ok(())
}

fn accept(
    listener: &TcpListener,
    server: &str,
    name: &ServerName<'static>,
    config: &Arc<ClientConfig>,
    count: &Arc<()>,
) {
    for local in listener.incoming() {
        let Ok(local) = local else {
            continue;
        };
        // The ports themselves hold four.
        if Arc::strong_count(count) >= CONNECTIONS_MAX + 4 {
            tracing::warn!("too many connections at once");
            continue;
        }
        let place = Arc::clone(count);
        let (server, name, config) = (server.to_owned(), name.clone(), Arc::clone(config));
        thread::spawn(move || {
            let carried =
                open(&server, &name, &config).and_then(|(tls, remote)| carry(local, tls, remote));
            if let Err(error) = carried {
                tracing::warn!(server, %error, "a connection fails");
            }
            drop(place);
        });
    }
}

/// A connection to the server whose handshake is over.
fn open(
    server: &str,
    name: &ServerName<'static>,
    config: &Arc<ClientConfig>,
) -> io::Result<(ClientConnection, TcpStream)> {
    let mut remote = TcpStream::connect(server)?;
    remote.set_nodelay(true)?;
    // A server that says nothing would hold one of the places for ever.
    remote.set_read_timeout(Some(HANDSHAKE_MAX))?;
    let mut tls =
        ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
    // What is written is sent at once, and is never more than a piece.
    tls.set_buffer_limit(None);
    while tls.is_handshaking() {
        tls.complete_io(&mut remote)?;
    }
    remote.set_read_timeout(None)?;
    Ok((tls, remote))
}

/// The TLS state and the socket, for both directions. Whoever sends holds `sending` meanwhile, and
/// `tls` only while records are made: a slow line does not keep the other direction from reading.
struct Pipe {
    tls: Mutex<ClientConnection>,
    sending: Mutex<TcpStream>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipe {
    /// Sends what `make` makes the TLS state say.
    fn send(&self, make: impl FnOnce(&mut ClientConnection) -> io::Result<()>) -> io::Result<()> {
        let mut socket = lock(&self.sending);
        let mut records = Vec::new();
        {
            let mut tls = lock(&self.tls);
            make(&mut tls)?;
            while tls.wants_write() {
                tls.write_tls(&mut records)?;
            }
        }
        socket.write_all(&records)
    }
}

fn carry(local: TcpStream, tls: ClientConnection, remote: TcpStream) -> io::Result<()> {
    local.set_nodelay(true)?;
    let pipe = Arc::new(Pipe {
        tls: Mutex::new(tls),
        sending: Mutex::new(remote.try_clone()?),
    });
    let back = {
        let (pipe, local, remote) = (Arc::clone(&pipe), local.try_clone()?, remote.try_clone()?);
        thread::spawn(move || {
            // Errors of either end are the end of both.
            let _ = from_server(&pipe, &local, &remote);
            let _ = local.shutdown(Shutdown::Both);
            let _ = remote.shutdown(Shutdown::Both);
        })
    };
    let result = to_server(&pipe, &local);
    let _ = local.shutdown(Shutdown::Both);
    let _ = remote.shutdown(Shutdown::Both);
    let _ = back.join();
    match result {
        // The server or the add-on has closed its end, which is how connections end here.
        Err(error) if is_end(error.kind()) => Ok(()),
        other => other,
    }
}

fn is_end(kind: io::ErrorKind) -> bool {
    [
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::UnexpectedEof,
    ]
    .contains(&kind)
}

fn to_server(pipe: &Pipe, mut local: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let count = local.read(&mut buffer)?;
        if count == 0 {
            return pipe.send(|tls| {
                tls.send_close_notify();
                Ok(())
            });
        }
        pipe.send(|tls| tls.writer().write_all(&buffer[..count]))?;
    }
}

fn from_server(pipe: &Pipe, mut local: &TcpStream, mut remote: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut plain = Vec::new();
    // What came with the end of the handshake.
    loop {
        let has_answer;
        {
            let mut tls = lock(&pipe.tls);
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            plain.resize(state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut plain)?;
            has_answer = tls.wants_write();
        }
        local.write_all(&plain)?;
        if has_answer {
            pipe.send(|_| Ok(()))?;
        }
        let count = remote.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let mut tls = lock(&pipe.tls);
            tls.read_tls(&mut rest)?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            plain.resize(state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut plain)?;
            drop(tls);
            local.write_all(&plain)?;
            if state.peer_has_closed() {
                return Ok(());
            }
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn config(
    verifier: &Arc<dyn ServerCertVerifier>,
    alpn: &[u8],
) -> anyhow::Result<Arc<ClientConfig>> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}

fn verifier(tunnel: &Tunnel) -> anyhow::Result<Arc<dyn ServerCertVerifier>> {
    let provider = provider();
    if let Some(fingerprint) = &tunnel.fingerprint {
        let wanted = digits(fingerprint).context("a fingerprint has 64 hexadecimal digits")?;
        let trust = Trust::Pinned(wanted);
        return Ok(Arc::new(Verifier { trust, provider }));
    }
    let file = match &tunnel.ca {
        Some(file) => file.as_path(),
        None => SYSTEM_AUTHORITIES
            .iter()
            .map(Path::new)
            .find(|path| path.exists())
            .context("this system has no list of authorities: name one by --ca")?,
    };
    let read = || File::open(file).map(BufReader::new);
    let read = read().with_context(|| format!("{} cannot be read", file.display()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_reader_iter(read) {
        // A system's list has some that nothing here can use.
        let _ = roots.add(certificate.with_context(|| format!("{}", file.display()))?);
    }
    let roots = Arc::new(roots);
    let inner =
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
    let trust = Trust::Signed(inner);
    Ok(Arc::new(Verifier { trust, provider }))
}

/// The bytes of a fingerprint.
fn digits(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|char| *char != ':')
        .map(|char| char.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect();
    bytes.try_into().ok().filter(|_| digits.len() == 64)
}

fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// Which certificates are taken.
#[derive(Debug)]
enum Trust {
    /// One and no other.
    Pinned([u8; 32]),
    /// What an authority has signed.
    Signed(Arc<WebPkiServerVerifier>),
}

/// Takes certificates, and says which others there were.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = fingerprint(end_entity);
        match &self.trust {
            Trust::Pinned(wanted) if shown == *wanted => Ok(ServerCertVerified::assertion()),
            Trust::Pinned(wanted) => {
                tracing::error!(
                    shown = fingerprint_text(&shown),
                    wanted = fingerprint_text(wanted),
                    "the server's certificate is another one"
                );
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            Trust::Signed(inner) => {
                let verified = inner.verify_server_cert(end_entity, intermediates, name, ocsp, now);
                if let Err(error) = &verified {
                    tracing::error!(
                        %error,
                        fingerprint = fingerprint_text(&shown),
                        "no authority answers for the server's certificate; if the fingerprint is \
                         what the server's owner says it is, give it by --fingerprint"
                    );
                }
                verified
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_they_are_written() {
        let bytes: [u8; 32] = std::array::from_fn(|place| place as u8 * 7);
        let text = fingerprint_text(&bytes);
        assert_eq!(digits(&text), Some(bytes));
        assert_eq!(digits(&text.replace(':', "").to_lowercase()), Some(bytes));
        assert_eq!(digits(&text[3..]), None);
        assert_eq!(digits("no"), None);
    }
}

//! The server of DTLS 1.2 against OpenSSL's client, which is what GStreamer, FFmpeg, aiortc and many
//! others speak it with: certificates, profiles, cipher suites, groups, fragments and losses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::disallowed_methods,
    reason = "the client is a program and lives in real time"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringside::proto::dtls::{
    Certificate, CloseReason, Context, Event, Fingerprint, Options, Role, Session, SrtpKeys,
    SrtpOrder, SrtpProfile,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

const LIMIT: Duration = Duration::from_secs(20);

/// A key and its certificate in one file, made by OpenSSL.
fn pem(name: &str, kind: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (key, certificate) = (
        folder.join(format!("dtls-{name}.key")),
        folder.join(format!("dtls-{name}.pem")),
    );
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-nodes",
            "-subj",
            "/CN=client",
            "-days",
            "30",
            "-newkey",
        ])
        .args(kind)
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let both = [fs::read(&certificate).unwrap(), fs::read(&key).unwrap()].concat();
    fs::write(&certificate, both).unwrap();
    certificate
}

fn fingerprint(pem: &Path) -> Fingerprint {
    let der = CertificateDer::from_pem_file(pem).unwrap();
    Fingerprint::new("sha-256", &Sha256::digest(&der)).unwrap()
}

/// A server on a socket, and OpenSSL's client on the other end of it.
struct Meeting {
    socket: UdpSocket,
    peer: Option<SocketAddr>,
    session: Session,
    client: Child,
    events: Vec<Event>,
    /// Which of our datagrams are lost, counted from 0.
    lost: &'static [usize],
    sent: usize,
}

impl Meeting {
    fn new(
        pem: &Path,
        expected: Fingerprint,
        srtp: SrtpOrder,
        profiles: &str,
        more: &[&str],
    ) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(10)))
            .unwrap();
        let options = Options {
            srtp,
            ..Options::default()
        };
        let context = Context::new(Arc::new(Certificate::generate().unwrap()), options).unwrap();
        let client = Command::new("openssl")
            .args(["s_client", "-dtls1_2", "-connect"])
            .arg(socket.local_addr().unwrap().to_string())
            .args([
                "-use_srtp",
                profiles,
                "-keymatexport",
                "EXTRACTOR-dtls_srtp",
            ])
            .args(["-keymatexportlen", "56", "-cert"])
            .arg(pem)
            .arg("-key")
            .arg(pem)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            socket,
            peer: None,
            session: Session::new(Instant::now(), Role::Server, &context, [expected]).unwrap(),
            client,
            events: Vec::new(),
            lost: &[],
            sent: 0,
        }
    }

    /// Carries datagrams until it is so, or too late.
    fn run(&mut self, until: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        let mut buffer = [0; 65_536];
        while !until(self) {
            assert!(Instant::now() < end, "{:?}", self.events);
            if let Ok((size, from)) = self.socket.recv_from(&mut buffer) {
                self.peer = Some(from);
                self.session.handle_input(Instant::now(), &buffer[..size]);
            }
            if let Some((at, _)) = self.session.poll_timeout()
                && Instant::now() >= at
            {
                self.session.handle_timeout(Instant::now());
            }
            while let Some(datagram) = self.session.poll_transmit() {
                if !self.lost.contains(&self.sent) {
                    self.socket.send_to(&datagram, self.peer.unwrap()).unwrap();
                }
                self.sent += 1;
            }
            self.events
                .extend(std::iter::from_fn(|| self.session.poll_event()));
        }
    }

    fn keys(&self) -> Option<&SrtpKeys> {
        match &self.events[0] {
            Event::Connected { srtp } => srtp.as_ref(),
            other @ (Event::Data(_) | Event::Closed(_)) => panic!("{other:?}"),
        }
    }

    /// Connects, has a line carried each way, and takes leave. What the client has printed.
    fn converse(&mut self) -> String {
        self.run(|meeting| !meeting.events.is_empty());
        self.keys();
        let mut input = self.client.stdin.take().unwrap();
        input.write_all(b"from the client\n").unwrap();
        self.run(|meeting| meeting.events.len() == 2);
        assert_eq!(self.events[1], Event::Data("from the client\n".into()));
        self.session
            .write(Instant::now(), b"from the server\n")
            .unwrap();
        let quiet = Instant::now() + Duration::from_millis(100);
        self.run(|_| Instant::now() > quiet);
        input.write_all(b"Q\n").unwrap();
        drop(input);
        self.run(|meeting| meeting.events.len() == 3);
        assert_eq!(self.events[2], Event::Closed(CloseReason::Peer));
        let mut said = String::new();
        let output = self.client.stdout.as_mut().unwrap();
        output.read_to_string(&mut said).unwrap();
        assert!(said.contains("from the server"), "{said}");
        said
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

const ALL: &str =
    "SRTP_AES128_CM_SHA1_32:SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_256_GCM:SRTP_AEAD_AES_128_GCM";
const P256: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// Both sides have the same keys, by what the client prints of its own.
fn assert_connects(name: &str, kind: &[&str], profiles: &str, taken: SrtpProfile, more: &[&str]) {
    let pem = pem(name, kind);
    let expected = fingerprint(&pem);
    let mut meeting = Meeting::new(&pem, expected, SrtpOrder::GcmFirst, profiles, more);
    let said = meeting.converse();
    let keys = meeting.keys().unwrap();
    assert_eq!(keys.profile(), taken);
    let material = [
        keys.client_key(),
        keys.server_key(),
        keys.client_salt(),
        keys.server_salt(),
    ]
    .concat();
    let text: String = material.iter().map(|byte| format!("{byte:02X}")).collect();
    // As many bytes as the shortest has.
    assert!(said.contains(&text[..112]), "{said}");
}

#[test]
fn rsa_certificates_are_taken() {
    let gcm = SrtpProfile::AeadAes128Gcm;
    assert_connects("rsa", &["rsa:2048"], ALL, gcm, &[]);
    assert_connects(
        "rsa3",
        &["rsa:3072"],
        ALL,
        gcm,
        &["-sigalgs", "RSA+SHA384:ECDSA+SHA256"],
    );
    let pss = &["-sigalgs", "rsa_pss_rsae_sha512:ECDSA+SHA256"];
    assert_connects("pss", &["rsa:2048"], ALL, gcm, pss);
}

#[test]
fn ecdsa_certificates_are_taken() {
    let gcm = SrtpProfile::AeadAes128Gcm;
    assert_connects("p256", P256, ALL, gcm, &[]);
    let p384 = &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"];
    assert_connects("p384", p384, ALL, gcm, &[]);
}

#[test]
fn a_client_with_one_profile_gets_that() {
    for (name, profile) in [
        ("SRTP_AES128_CM_SHA1_80", SrtpProfile::Aes128CmSha1_80),
        ("SRTP_AES128_CM_SHA1_32", SrtpProfile::Aes128CmSha1_32),
        ("SRTP_AEAD_AES_128_GCM", SrtpProfile::AeadAes128Gcm),
        ("SRTP_AEAD_AES_256_GCM", SrtpProfile::AeadAes256Gcm),
    ] {
        assert_connects(name, P256, name, profile, &[]);
    }
    let both = "SRTP_AES128_CM_SHA1_32:SRTP_AES128_CM_SHA1_80";
    assert_connects("both", P256, both, SrtpProfile::Aes128CmSha1_80, &[]);
}

#[test]
fn other_suites_and_groups_are_taken() {
    let gcm = SrtpProfile::AeadAes128Gcm;
    let suite = &["-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"];
    assert_connects("suite", P256, ALL, gcm, suite);
    assert_connects("group", P256, ALL, gcm, &["-groups", "P-384:P-256"]);
}

/// 256 bytes are the least that OpenSSL takes.
#[test]
fn a_client_that_cuts_its_messages_is_understood() {
    let gcm = SrtpProfile::AeadAes128Gcm;
    assert_connects("cut", &["rsa:2048"], ALL, gcm, &["-mtu", "256"]);
}

#[test]
fn a_forced_profile_is_taken_or_none() {
    let pem = pem("forced", P256);
    let only = SrtpProfile::Aes128CmSha1_80;
    let forced = SrtpOrder::Only(only);
    let mut meeting = Meeting::new(&pem, fingerprint(&pem), forced, ALL, &[]);
    meeting.converse();
    assert_eq!(meeting.keys().unwrap().profile(), only);
    let gcm = "SRTP_AEAD_AES_128_GCM";
    let mut meeting = Meeting::new(&pem, fingerprint(&pem), forced, gcm, &[]);
    meeting.converse();
    assert_eq!(meeting.keys(), None);
}

/// Our first flight (and what is sent again), then our Finished.
#[test]
fn lost_flights_come_again() {
    for lost in [&[0][..], &[0, 1, 2], &[1], &[0, 2]] {
        let pem = pem("lost", &["rsa:2048"]);
        let mut meeting = Meeting::new(&pem, fingerprint(&pem), SrtpOrder::GcmFirst, ALL, &[]);
        meeting.lost = lost;
        meeting.converse();
        assert!(meeting.sent > lost.len());
    }
}

#[test]
fn another_certificate_is_refused() {
    let (shown, other) = (pem("shown", &["rsa:2048"]), pem("other", &["rsa:2048"]));
    let expected = fingerprint(&other);
    let mut meeting = Meeting::new(&shown, expected, SrtpOrder::GcmFirst, ALL, &[]);
    meeting.run(|meeting| !meeting.events.is_empty());
    assert_eq!(
        meeting.events,
        [Event::Closed(CloseReason::WrongFingerprint)]
    );
}

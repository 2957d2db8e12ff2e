//! Two sessions, or a session and a forger, in virtual time.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::base::prng::Prng;

use super::record::plain_alert;
use super::*;

static START: LazyLock<Instant> = LazyLock::new(crate::media::samples::now);

fn certificate() -> Arc<Certificate> {
    Arc::new(Certificate::generate().unwrap())
}

fn fingerprint(certificate: &Certificate) -> Fingerprint {
    Fingerprint::new("sha-256", certificate.fingerprint()).unwrap()
}

fn options(versions: Versions) -> Options {
    Options {
        versions,
        ..Options::default()
    }
}

/// A client and a server, with time and a link between them.
struct Pair {
    now: Instant,
    client: Session,
    server: Session,
    client_events: Vec<Event>,
    server_events: Vec<Event>,
    /// Percent of datagrams that are lost.
    loss: u64,
    prng: Prng,
}

impl Pair {
    fn new(client: Versions, server: Versions) -> Self {
        Self::with(options(client), options(server))
    }

    fn with(client: Options, server: Options) -> Self {
        let (one, two) = (certificate(), certificate());
        let now = *START;
        let (of_client, of_server) = (fingerprint(&one), fingerprint(&two));
        let one = Context::new(one, client).unwrap();
        let two = Context::new(two, server).unwrap();
        Self {
            now,
            client: Session::new(now, Role::Client, &one, [of_server]).unwrap(),
            server: Session::new(now, Role::Server, &two, [of_client]).unwrap(),
            client_events: Vec::new(),
            server_events: Vec::new(),
            loss: 0,
            prng: Prng::new(1),
        }
    }

    /// Carries everything that is there to the other side.
    fn exchange(&mut self) {
        loop {
            let to_server = drain(&mut self.client);
            let to_client = drain(&mut self.server);
            if to_server.is_empty() && to_client.is_empty() {
                break;
            }
            for datagram in to_server {
                assert!(is_dtls(&datagram));
                if !self.prng.chance(self.loss) {
                    self.server.handle_input(self.now, &datagram);
                }
            }
            for datagram in to_client {
                if !self.prng.chance(self.loss) {
                    self.client.handle_input(self.now, &datagram);
                }
            }
            self.collect();
        }
        self.collect();
    }

    fn collect(&mut self) {
        self.client_events
            .extend(std::iter::from_fn(|| self.client.poll_event()));
        self.server_events
            .extend(std::iter::from_fn(|| self.server.poll_event()));
    }

    /// Lets time go on until both are connected, or one has ended, or nothing is due.
    fn run(&mut self) {
        self.exchange();
        let done = |session: &Session| session.is_connected() || session.poll_timeout().is_none();
        for _ in 0..200 {
            if done(&self.client) && done(&self.server) {
                return;
            }
            let next = [self.client.poll_timeout(), self.server.poll_timeout()];
            let Some((at, _)) = next.into_iter().flatten().min() else {
                return;
            };
            self.now = self.now.max(at);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            self.exchange();
        }
    }
}

fn drain(session: &mut Session) -> Vec<Bytes> {
    std::iter::from_fn(|| session.poll_transmit()).collect()
}

fn keys(events: &[Event]) -> SrtpKeys {
    match events {
        [Event::Connected { srtp: Some(keys) }, ..] => keys.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn versions_are_negotiated_and_both_sides_have_the_same_keys() {
    use Versions::{Both, Dtls12, Dtls13};
    for (client, server) in [
        (Dtls12, Both),
        (Dtls13, Both),
        (Both, Both),
        (Both, Dtls12),
        (Both, Dtls13),
    ] {
        let mut pair = Pair::new(client, server);
        pair.exchange();
        let (of_client, of_server) = (keys(&pair.client_events), keys(&pair.server_events));
        assert!(of_client == of_server, "{client:?} {server:?}");
        assert_ne!(of_client.client_key(), of_client.server_key());
        assert_ne!(of_client.client_salt(), of_client.server_salt());
        assert_eq!(of_client.client_key().len(), of_client.profile().key_size());
    }
}

fn profile(client: Options, server: Options) -> SrtpProfile {
    let mut pair = Pair::with(client, server);
    pair.exchange();
    let (of_client, of_server) = (keys(&pair.client_events), keys(&pair.server_events));
    assert!(of_client == of_server);
    of_server.profile()
}

/// The crate's client has 256 bits first in its list.
#[test]
fn the_preferred_profile_is_taken() {
    use SrtpOrder::{ClientOrder, GcmFirst, Only};
    use SrtpProfile::{AeadAes128Gcm, AeadAes256Gcm, Aes128CmSha1_80};
    use Versions::{Both, Dtls12, Dtls13};
    for (version, srtp, expected) in [
        (Both, GcmFirst, AeadAes128Gcm),
        (Dtls12, GcmFirst, AeadAes128Gcm),
        // The crate takes the client's first.
        (Dtls13, GcmFirst, AeadAes256Gcm),
        (Both, ClientOrder, AeadAes256Gcm),
        (Dtls12, ClientOrder, AeadAes256Gcm),
        (Both, Only(AeadAes128Gcm), AeadAes128Gcm),
        (Both, Only(AeadAes256Gcm), AeadAes256Gcm),
        (Both, Only(Aes128CmSha1_80), Aes128CmSha1_80),
        (Dtls12, Only(Aes128CmSha1_80), Aes128CmSha1_80),
    ] {
        let server = Options {
            srtp,
            ..Options::default()
        };
        let taken = profile(options(version), server);
        assert_eq!(taken, expected, "{version:?} {srtp:?}");
    }
}

/// A profile that the operator has ruled out is not used, even if 1.3 has agreed on it.
#[test]
fn no_other_profile_than_the_only_one_is_used() {
    for (version, only) in [
        (Versions::Both, SrtpProfile::Aes128CmSha1_32),
        (Versions::Dtls13, SrtpProfile::Aes128CmSha1_80),
    ] {
        let server = Options {
            srtp: SrtpOrder::Only(only),
            ..Options::default()
        };
        let mut pair = Pair::with(options(version), server);
        pair.exchange();
        assert_eq!(pair.server_events, [Event::Connected { srtp: None }]);
    }
}

/// Who answers a client of both versions: only 1.3 protects its certificate.
#[test]
fn the_version_is_the_one_with_the_better_profile() {
    let offered = [0, 14, 0, 9, 0, 6, 0, 8, 0, 7, 0, 1, 0];
    let firefox = [0, 14, 0, 9, 0, 6, 0, 7, 0, 8, 0, 1, 0];
    let chromium = [0, 14, 0, 9, 0, 6, 0, 1, 0, 8, 0, 7, 0];
    let without = [0, 14, 0, 9, 0, 6, 0, 1, 0, 2, 0, 5, 0];
    let short = [0, 14, 0, 9, 0, 6, 0, 2, 0, 5, 0, 6, 0];
    for (list, client, order, taken) in [
        (offered, Versions::Both, SrtpOrder::GcmFirst, Some(7)),
        (chromium, Versions::Both, SrtpOrder::GcmFirst, Some(7)),
        (chromium, Versions::Both, SrtpOrder::ClientOrder, None),
        (chromium, Versions::Dtls13, SrtpOrder::GcmFirst, None),
        (without, Versions::Both, SrtpOrder::GcmFirst, None),
        (without, Versions::Dtls12, SrtpOrder::GcmFirst, Some(1)),
        (firefox, Versions::Both, SrtpOrder::GcmFirst, None),
        (short, Versions::Both, SrtpOrder::GcmFirst, Some(2)),
        (short, Versions::Dtls12, SrtpOrder::ClientOrder, Some(2)),
    ] {
        let server = Options {
            srtp: order,
            ..Options::default()
        };
        let mut pair = Pair::with(options(client), server);
        let mut hello = drain(&mut pair.client)[0].to_vec();
        let at = hello
            .windows(offered.len())
            .position(|window| window == offered);
        hello[at.unwrap()..][..list.len()].copy_from_slice(&list);
        for piece in fragments(&hello, 200) {
            pair.server.handle_input(pair.now, &piece);
        }
        let answer: Vec<u8> = drain(&mut pair.server).concat();
        assert!(!answer.is_empty());
        // Under 1.3 the extension and the certificate are protected.
        let extension = answer
            .windows(8)
            .find(|window| window.starts_with(&[0, 14, 0, 5, 0, 2]));
        let number = extension.map(|window| window[7]);
        assert_eq!(number, taken, "{list:?} {client:?} {order:?}");
        assert_eq!(pair.server.counters().restarts, 0);
    }
}

#[test]
fn data_goes_both_ways_and_a_close_is_noticed() {
    for version in [Versions::Dtls12, Versions::Dtls13] {
        let mut pair = Pair::new(version, Versions::Both);
        assert_eq!(
            pair.client.write(pair.now, b"early"),
            Err(Error::NotConnected)
        );
        pair.exchange();
        let large = vec![7; 9000];
        pair.client.write(pair.now, b"to server").unwrap();
        pair.server.write(pair.now, &large).unwrap();
        pair.exchange();
        assert_eq!(
            pair.server_events[1..],
            [Event::Data(Bytes::from_static(b"to server"))]
        );
        assert_eq!(pair.client_events[1..], [Event::Data(large.into())]);

        pair.client.close(pair.now);
        pair.exchange();
        assert_eq!(
            pair.client_events.last(),
            Some(&Event::Closed(CloseReason::Local))
        );
        assert_eq!(
            pair.server_events.last(),
            Some(&Event::Closed(CloseReason::Peer))
        );
        assert!(pair.server.poll_timeout().is_none());
        assert!(pair.server.write(pair.now, b"late").is_err());
    }
}

#[test]
fn more_than_the_bound_is_not_queued() {
    let mut pair = Pair::new(Versions::Both, Versions::Both);
    pair.exchange();
    let accepted = (0..1000)
        .take_while(|_| pair.server.write(pair.now, &[0; 100]).is_ok())
        .count();
    assert_eq!(accepted, session::SEND_RECORDS_MAX);
    assert_eq!(pair.server.write(pair.now, &[0; 1 << 15]), Err(Error::Full));
}

#[test]
fn a_handshake_survives_loss() {
    for seed in 0..20 {
        for version in [Versions::Dtls12, Versions::Dtls13, Versions::Both] {
            // Timers with seeds too: what is lost depends on when it is sent.
            let seeded = |version, seed| Options {
                seed: Some(seed),
                ..options(version)
            };
            let mut pair = Pair::with(seeded(version, seed), seeded(Versions::Both, !seed));
            pair.prng = Prng::new(seed);
            pair.loss = 20;
            pair.run();
            assert!(
                keys(&pair.client_events) == keys(&pair.server_events),
                "seed {seed} {version:?}"
            );
        }
    }
}

#[test]
fn another_certificate_ends_the_session() {
    for version in [Versions::Dtls12, Versions::Dtls13] {
        let (mine, peers, other) = (certificate(), certificate(), certificate());
        let mut pair = Pair::new(version, Versions::Both);
        let context = Context::new(mine, options(Versions::Both)).unwrap();
        let expected = [fingerprint(&peers), fingerprint(&other)];
        pair.server = Session::new(pair.now, Role::Server, &context, expected).unwrap();
        // The client does not mind who the server is.
        let shown = fingerprint(context.certificate());
        let context = Context::new(certificate(), options(version)).unwrap();
        pair.client = Session::new(pair.now, Role::Client, &context, [shown]).unwrap();
        pair.exchange();
        assert_eq!(
            pair.server_events,
            [Event::Closed(CloseReason::WrongFingerprint)]
        );
    }
}

#[test]
fn one_of_several_fingerprints_is_enough_and_none_is_not() {
    let mut pair = Pair::new(Versions::Both, Versions::Both);
    let (one, two) = (certificate(), certificate());
    let sha512 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, one.der());
    let expected = [
        fingerprint(&two),
        Fingerprint::new("sha-512", sha512.as_ref()).unwrap(),
    ];
    let of_two = fingerprint(&two);
    let one = Context::new(one, Options::default()).unwrap();
    let two = Context::new(two, Options::default()).unwrap();
    pair.client = Session::new(pair.now, Role::Client, &one, [of_two]).unwrap();
    pair.server = Session::new(pair.now, Role::Server, &two, expected).unwrap();
    pair.exchange();
    assert!(pair.server.is_connected());
    assert_eq!(
        Session::new(pair.now, Role::Server, &two, []).unwrap_err(),
        Error::NoFingerprint
    );
}

/// A known fault of WebRTC servers: anyone who can send a datagram could end a handshake.
#[test]
fn forged_alerts_and_hellos_do_not_end_a_handshake() {
    for version in [Versions::Dtls12, Versions::Dtls13] {
        let mut pair = Pair::new(version, Versions::Both);
        let stranger = Context::new(certificate(), options(version)).unwrap();
        let nobody = fingerprint(stranger.certificate());
        let mut rounds = 0;
        while !(pair.server.is_connected() && pair.client.is_connected()) {
            rounds += 1;
            assert!(rounds < 20);
            for datagram in drain(&mut pair.client) {
                pair.server.handle_input(pair.now, &datagram);
            }
            forge(&mut pair.server, pair.now, &stranger, &nobody);
            for datagram in drain(&mut pair.server) {
                pair.client.handle_input(pair.now, &datagram);
            }
            for alert in [plain_alert(2, 40), plain_alert(2, 80), plain_alert(1, 0)] {
                pair.client.handle_input(pair.now, &alert);
            }
        }
        forge(&mut pair.server, pair.now, &stranger, &nobody);
        pair.collect();
        assert!(keys(&pair.client_events) == keys(&pair.server_events));
        assert!(pair.server.is_connected());
        assert!(pair.server.counters().unauthenticated_records > 5);
        assert_eq!(pair.server.counters().restarts, 0);
    }
}

fn forge(server: &mut Session, now: Instant, stranger: &Context, nobody: &Fingerprint) {
    for alert in [plain_alert(2, 40), plain_alert(2, 80), plain_alert(1, 0)] {
        server.handle_input(now, &alert);
    }
    for _ in 0..10 {
        let mut other = Session::new(now, Role::Client, stranger, [nobody.clone()]).unwrap();
        for hello in drain(&mut other) {
            server.handle_input(now, &hello);
        }
    }
    let mut garbage = Prng::new(3);
    for size in 0..60 {
        let mut datagram = vec![0; size];
        garbage.fill(&mut datagram);
        server.handle_input(now, &datagram);
    }
}

#[test]
fn a_handshake_that_nobody_takes_part_in_ends() {
    for role in [Role::Server, Role::Client] {
        let context = Context::new(certificate(), Options::default()).unwrap();
        let nobody = fingerprint(context.certificate());
        let mut session = Session::new(*START, role, &context, [nobody]).unwrap();
        let mut sent = drain(&mut session).len();
        let mut now = *START;
        while let Some((at, _)) = session.poll_timeout() {
            assert!(at > now || sent == 0, "time goes on");
            now = now.max(at);
            session.handle_timeout(now);
            sent += drain(&mut session).len();
        }
        assert_eq!(
            session.poll_event(),
            Some(Event::Closed(CloseReason::HandshakeTimeout))
        );
        assert!(now <= *START + Duration::from_secs(15));
        assert!(sent <= 8, "{sent}");
    }
}

/// Chromium's and Firefox's hello with an ML-KEM share does not fit into one datagram.
#[test]
fn a_hello_in_many_pieces_is_put_together() {
    for version in [Versions::Dtls12, Versions::Dtls13, Versions::Both] {
        for backwards in [false, true] {
            let mut pair = Pair::new(version, Versions::Both);
            let hello = drain(&mut pair.client);
            let mut pieces = fragments(&hello[0], 40);
            assert!(pieces.len() > 2, "{version:?}");
            if backwards {
                pieces.reverse();
            }
            // One comes twice, and one only after a while.
            pieces.push(pieces[1].clone());
            let late = pieces.remove(0);
            for piece in pieces {
                pair.server.handle_input(pair.now, &piece);
                assert!(pair.server.poll_transmit().is_none());
            }
            pair.now += Duration::from_millis(100);
            pair.server.handle_input(pair.now, &late);
            pair.run();
            assert!(keys(&pair.client_events) == keys(&pair.server_events));
            assert_eq!(pair.server.counters().restarts, 0);
        }
    }
}

/// What would be an outage for as long as the client retries: one datagram from anybody.
#[test]
fn a_forged_piece_of_a_hello_does_not_wedge_the_session() {
    for version in [Versions::Dtls12, Versions::Dtls13, Versions::Both] {
        let mut pair = Pair::new(version, Versions::Both);
        let mut other = Pair::new(version, Versions::Both);
        let forged = drain(&mut other.client);
        for piece in &fragments(&forged[0], 40)[..2] {
            pair.server.handle_input(pair.now, piece);
        }
        pair.run();
        assert!(keys(&pair.client_events) == keys(&pair.server_events));
        assert_eq!(pair.server.counters().restarts, 0);
    }
}

/// The one handshake message of a datagram in records of their own, at most 8 of them.
fn fragments(datagram: &[u8], size_min: usize) -> Vec<Vec<u8>> {
    let (header, body) = (&datagram[13..19], &datagram[25..]);
    let size = size_min.max(body.len().div_ceil(8));
    let number = |value: usize| u32::try_from(value).unwrap().to_be_bytes();
    body.chunks(size)
        .enumerate()
        .map(|(index, piece)| {
            let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0];
            record.extend(number(index));
            record.extend(&number(12 + piece.len())[2..]);
            record.extend(header);
            record.extend(&number(index * size)[1..]);
            record.extend(&number(piece.len())[1..]);
            record.extend(piece);
            record
        })
        .collect()
}

#[test]
fn a_fault_at_first_is_forgiven() {
    let mut pair = Pair::new(Versions::Dtls12, Versions::Both);
    let hello = drain(&mut pair.client);
    // A hello of which the lists of ciphers and extensions are cut off, as a broken peer or a
    // forger may send it.
    let mut broken = hello[0].to_vec();
    broken.truncate(13 + 12 + 60);
    let size = |bytes: usize| u32::try_from(bytes).unwrap().to_be_bytes();
    broken[11..13].copy_from_slice(&size(12 + 60)[2..]);
    broken[14..17].copy_from_slice(&size(60)[1..]);
    broken[22..25].copy_from_slice(&size(60)[1..]);
    pair.server.handle_input(pair.now, &broken);
    for datagram in hello {
        pair.server.handle_input(pair.now, &datagram);
    }
    pair.run();
    assert!(pair.server.is_connected());
}

#[test]
fn options_have_ranges() {
    let bad = [
        Options {
            datagram_bytes_max: 100,
            ..Options::default()
        },
        Options {
            handshake_max: Duration::ZERO,
            ..Options::default()
        },
    ];
    for options in bad {
        assert_eq!(
            Context::new(certificate(), options).unwrap_err(),
            Error::Options
        );
    }
}

#[test]
fn debug_shows_no_keys() {
    let mut pair = Pair::new(Versions::Both, Versions::Both);
    pair.exchange();
    let key = format!("{:?}", keys(&pair.server_events).server_key());
    for shown in [
        format!("{:?}", pair.server),
        format!("{:?}", pair.server_events),
    ] {
        assert!(!shown.contains(key.trim_matches(['[', ']'])), "{shown}");
    }
}

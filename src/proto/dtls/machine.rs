//! The two state machines: the crate's, and [`Server12`].

use std::fmt;
use std::time::{Duration, Instant};

use dimpl::{Dtls, Output, SecurityError};

use super::server12::Server12;
use super::{Context, Role, SrtpKeys, SrtpProfile, Versions};

/// An instant that is further away than this means that nothing is due: the crate has no other way
/// to say so.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A state machine.
pub(super) enum Machine {
    /// A server's, before it knows who is to answer.
    Waiting,
    Crate(Box<Dtls>),
    Server12(Box<Server12>),
}

/// What a state machine tells.
pub(super) enum Signal<'a> {
    Datagram(&'a [u8]),
    PeerCertificate(&'a [u8]),
    Connected,
    Keys(SrtpKeys),
    Data(&'a [u8]),
    CloseNotify,
    /// What follows needs so many bytes.
    RoomNeeded(usize),
    /// Nothing that matters.
    Other,
    /// Nothing more until something comes, or until then.
    Idle(Option<Instant>),
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fault {
    /// The peer has said so, authenticated.
    Alert(u8),
    Timeout,
    Failed(&'static str),
    Crate(dimpl::Error),
}

impl Machine {
    /// Before a hello is there.
    pub(super) fn first(now: Instant, role: Role, context: &Context) -> Self {
        match role {
            Role::Server => Self::Waiting,
            Role::Client => {
                let mut dtls = dtls(now, context, context.options.versions);
                dtls.set_active(true);
                Self::Crate(Box::new(dtls))
            }
        }
    }

    pub(super) fn server13(now: Instant, context: &Context) -> Self {
        Self::Crate(Box::new(dtls(now, context, Versions::Dtls13)))
    }

    pub(super) fn server12(context: &Context, profile: Option<SrtpProfile>) -> Self {
        Self::Server12(Box::new(Server12::new(context, profile)))
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), Fault> {
        match self {
            Self::Waiting => Ok(()),
            Self::Crate(dtls) => dtls.handle_timeout(now).map_err(Fault::of),
            Self::Server12(server) => {
                server.handle_timeout(now);
                Ok(())
            }
        }
    }

    pub(super) fn handle_packet(&mut self, now: Instant, packet: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Waiting => Ok(()),
            Self::Crate(dtls) => dtls.handle_packet(packet).map_err(Fault::of),
            Self::Server12(server) => server.handle_packet(now, packet),
        }
    }

    pub(super) fn send(&mut self, data: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Waiting => Ok(()),
            Self::Crate(dtls) => dtls
                .send_application_data(data)
                .map(|_| ())
                .map_err(Fault::of),
            Self::Server12(server) => {
                server.send(data);
                Ok(())
            }
        }
    }

    pub(super) fn close(&mut self) -> Result<(), Fault> {
        match self {
            Self::Waiting => Ok(()),
            Self::Crate(dtls) => dtls.close().map_err(Fault::of),
            Self::Server12(server) => {
                server.close();
                Ok(())
            }
        }
    }

    pub(super) fn poll<'a>(&mut self, now: Instant, room: &'a mut [u8]) -> Signal<'a> {
        let dtls = match self {
            Self::Waiting => return Signal::Idle(None),
            Self::Crate(dtls) => dtls,
            Self::Server12(server) => return server.poll(room),
        };
        match dtls.poll_output(room) {
            Output::Packet(datagram) => Signal::Datagram(datagram),
            Output::BufferTooSmall { needed } => Signal::RoomNeeded(needed),
            Output::PeerCert(certificate) => Signal::PeerCertificate(certificate),
            Output::Connected => Signal::Connected,
            Output::KeyingMaterial(material, profile) => SrtpProfile::from_inner(profile)
                .and_then(|profile| SrtpKeys::new(profile, &material))
                .map_or(Signal::Other, Signal::Keys),
            Output::ApplicationData(data) => Signal::Data(data),
            Output::CloseNotify => Signal::CloseNotify,
            Output::Timeout(at) => Signal::Idle((at < now + NEVER).then_some(at)),
            // The enum of the crate may grow.
            _ => Signal::Other,
        }
    }
}

fn dtls(now: Instant, context: &Context, versions: Versions) -> Dtls {
    let (config, certificate) = (context.config.clone(), context.certificate.inner().clone());
    match versions {
        Versions::Both => Dtls::new_auto(config, certificate, now),
        Versions::Dtls12 => Dtls::new_12(config, certificate, now),
        Versions::Dtls13 => Dtls::new_13(config, certificate, now),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alert(description) => write!(f, "alert {description}"),
            Self::Timeout => f.write_str("timeout"),
            Self::Failed(why) => f.write_str(why),
            Self::Crate(error) => error.fmt(f),
        }
    }
}

impl Fault {
    fn of(error: dimpl::Error) -> Self {
        if let dimpl::Error::SecurityError(SecurityError::FatalAlert { description }) = error {
            Self::Alert(description)
        } else if matches!(error, dimpl::Error::Timeout(_)) {
            Self::Timeout
        } else {
            Self::Crate(error)
        }
    }
}

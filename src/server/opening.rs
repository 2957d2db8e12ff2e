//! How a connection of a shard begins: inside TLS or not, behind a proxy that is trusted or not.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustls::ServerConfig;

use crate::config::Config;
use crate::drive::{Inner, Prefaced, ServerSession, TlsCounters, TlsSession};

/// What the connections of one shard begin with.
pub(super) struct Opening {
    handshake_max: Duration,
    trusted_proxies: Vec<IpNet>,
    /// What is counted of those inside TLS.
    pub(super) tls: Rc<TlsCounters>,
}

impl Opening {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            handshake_max: config.limits.unauthenticated_ms,
            trusted_proxies: config.general.trusted_proxies.clone(),
            tls: Rc::new(TlsCounters::default()),
        }
    }

    /// Connections begin by another configuration from here on.
    pub(super) fn configure(&mut self, config: &Config) {
        self.handshake_max = config.limits.unauthenticated_ms;
        self.trusted_proxies
            .clone_from(&config.general.trusted_proxies);
    }

    /// A session, inside TLS if there is a configuration for it.
    pub(super) fn begin(
        &self,
        now: Instant,
        tls: Option<&Arc<ServerConfig>>,
        inner: Inner,
    ) -> Option<ServerSession> {
        let Some(tls) = tls else {
            return Some(inner.begin(now, None));
        };
        let (tls, counters) = (Arc::clone(tls), Rc::clone(&self.tls));
        match TlsSession::new(now, tls, self.handshake_max, inner, counters) {
            Ok(session) => Some(ServerSession::Tls(Box::new(session))),
            Err(error) => {
                tracing::error!(%error, "a TLS session could not be made");
                None
            }
        }
    }

    /// The same, where a trusted proxy may say first whom it speaks for.
    pub(super) fn begin_for(
        &self,
        now: Instant,
        peer: SocketAddr,
        tls: Option<&Arc<ServerConfig>>,
        inner: Inner,
    ) -> Option<ServerSession> {
        let session = self.begin(now, tls, inner)?;
        let from = peer.ip().to_canonical();
        let is_trusted = self.trusted_proxies.iter().any(|it| it.contains(&from));
        Some(match is_trusted {
            true => ServerSession::Prefaced(Box::new(Prefaced::new(session))),
            false => session,
        })
    }
}

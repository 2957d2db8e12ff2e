//! The sessions that listeners run.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::framed::Framed;
use super::prefaced::Prefaced;
use super::tls::TlsSession;
use super::{Notice, Session, Wire};
use crate::io::Piece;
use crate::media::buffer::Pool;
use crate::proto::{http, http2, replication, rtmp, websocket};

/// A session of any protocol that a listener speaks.
#[derive(Debug)]
pub enum ServerSession {
    /// HTTP/1.
    Http(Box<http::Session>),
    /// HTTP/2.
    Http2(Box<http2::Session>),
    /// RTMP.
    Rtmp(Box<rtmp::Session>),
    /// A WebSocket, which was HTTP/1 before.
    WebSocket(Box<websocket::Session>),
    /// Frames of a WebRTC peer.
    Framed(Framed),
    /// A connection of a collaborative session.
    Replication(Box<replication::Connection>),
    /// One of the others inside TLS.
    Tls(Box<TlsSession>),
    /// One of the others on a connection of a trusted proxy.
    Prefaced(Box<Prefaced>),
}

/// An event of any of them.
#[derive(Debug)]
pub enum ServerEvent {
    /// HTTP/1.
    Http(http::Event),
    /// HTTP/2.
    Http2(http2::Event),
    /// RTMP.
    Rtmp(Box<rtmp::Event>),
    /// A WebSocket.
    WebSocket(websocket::Event),
    /// A frame of a WebRTC peer.
    Frame(Bytes),
    /// A connection of a collaborative session.
    Replication(replication::Event),
}

impl ServerSession {
    /// The HTTP session, if it is one.
    pub fn http(&mut self) -> Option<&mut http::Session> {
        match self {
            Self::Http(session) => Some(session),
            Self::Tls(session) => session.inner()?.http(),
            Self::Prefaced(session) => session.inner().http(),
            Self::Rtmp(_)
            | Self::Http2(_)
            | Self::WebSocket(_)
            | Self::Framed(_)
            | Self::Replication(_) => None,
        }
    }

    /// The HTTP/2 session, if it is one.
    pub fn http2(&mut self) -> Option<&mut http2::Session> {
        match self {
            Self::Http2(session) => Some(session),
            Self::Tls(session) => session.inner()?.http2(),
            Self::Prefaced(session) => session.inner().http2(),
            Self::Http(_)
            | Self::Rtmp(_)
            | Self::WebSocket(_)
            | Self::Framed(_)
            | Self::Replication(_) => None,
        }
    }

    /// The same to look at.
    pub fn as_http2(&self) -> Option<&http2::Session> {
        match self {
            Self::Http2(session) => Some(session),
            Self::Tls(session) => session.as_inner()?.as_http2(),
            Self::Prefaced(session) => session.as_inner().as_http2(),
            Self::Http(_)
            | Self::Rtmp(_)
            | Self::WebSocket(_)
            | Self::Framed(_)
            | Self::Replication(_) => None,
        }
    }

    /// The WebSocket's session, if it is one.
    pub fn websocket(&mut self) -> Option<&mut websocket::Session> {
        match self {
            Self::WebSocket(session) => Some(session),
            Self::Tls(session) => session.inner()?.websocket(),
            Self::Prefaced(session) => session.inner().websocket(),
            Self::Http(_)
            | Self::Http2(_)
            | Self::Rtmp(_)
            | Self::Framed(_)
            | Self::Replication(_) => None,
        }
    }

    /// Goes on as a WebSocket after a request for one, in the place of its answer. Does nothing
    /// unless this is an HTTP/1 session.
    pub fn upgrade(
        &mut self,
        now: Instant,
        options: &Arc<websocket::Options>,
        accepted: websocket::Accepted,
    ) {
        match self {
            Self::Tls(session) => {
                if let Some(inner) = session.inner() {
                    inner.upgrade(now, options, accepted);
                }
            }
            Self::Prefaced(session) => session.inner().upgrade(now, options, accepted),
            Self::Http(_) => {
                let next = websocket::Session::server(now, Arc::clone(options), accepted);
                let before = mem::replace(self, Self::WebSocket(Box::new(next)));
                // A client may send before it has seen the answer.
                if let (Self::Http(http), Self::WebSocket(next)) = (before, self) {
                    next.handle_input(now, &http.into_unread());
                }
            }
            Self::Http2(_)
            | Self::Rtmp(_)
            | Self::WebSocket(_)
            | Self::Framed(_)
            | Self::Replication(_) => {}
        }
    }

    /// The connection of a collaborative session, if it is one.
    pub fn replication(&mut self) -> Option<&mut replication::Connection> {
        match self {
            Self::Replication(session) => Some(session),
            Self::Tls(session) => session.inner()?.replication(),
            Self::Prefaced(session) => session.inner().replication(),
            Self::Http(_)
            | Self::Http2(_)
            | Self::Rtmp(_)
            | Self::WebSocket(_)
            | Self::Framed(_) => None,
        }
    }

    /// The same to look at.
    pub fn as_replication(&self) -> Option<&replication::Connection> {
        match self {
            Self::Replication(session) => Some(session),
            Self::Tls(session) => session.as_inner()?.as_replication(),
            Self::Prefaced(session) => session.as_inner().as_replication(),
            Self::Http(_)
            | Self::Http2(_)
            | Self::Rtmp(_)
            | Self::WebSocket(_)
            | Self::Framed(_) => None,
        }
    }

    /// The RTMP session, if it is one.
    pub fn rtmp(&mut self) -> Option<&mut rtmp::Session> {
        match self {
            Self::Rtmp(session) => Some(session),
            Self::Tls(session) => session.inner()?.rtmp(),
            Self::Prefaced(session) => session.inner().rtmp(),
            Self::Http(_)
            | Self::Http2(_)
            | Self::WebSocket(_)
            | Self::Framed(_)
            | Self::Replication(_) => None,
        }
    }
}

impl Session for ServerSession {
    type Event = ServerEvent;

    fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        match self {
            Self::Http(session) => session.handle_input(now, bytes),
            Self::Http2(session) => session.handle_input(now, bytes),
            Self::Rtmp(session) => session.handle_input(now, bytes),
            Self::WebSocket(session) => session.handle_input(now, bytes),
            Self::Framed(session) => session.handle_input(bytes),
            Self::Replication(session) => session.handle_input(now, bytes),
            Self::Tls(session) => session.handle_input(now, bytes),
            Self::Prefaced(session) => session.handle_input(now, bytes),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Http(session) => session.handle_timeout(now),
            Self::Http2(session) => session.handle_timeout(now),
            Self::Rtmp(session) => session.handle_timeout(now),
            Self::WebSocket(session) => session.handle_timeout(now),
            Self::Framed(session) => session.handle_timeout(now),
            Self::Replication(session) => session.handle_timeout(now),
            Self::Tls(session) => session.handle_timeout(now),
            Self::Prefaced(session) => session.handle_timeout(now),
        }
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        match self {
            Self::Http(session) => session.poll_transmit(),
            Self::Http2(session) => session.poll_transmit(),
            Self::Rtmp(session) => session.poll_transmit(),
            Self::WebSocket(session) => session.poll_transmit(),
            // The door frames what is sent.
            Self::Framed(_) => None,
            Self::Replication(session) => session.poll_transmit(),
            Self::Tls(session) => session.poll_transmit(),
            Self::Prefaced(session) => session.poll_transmit(),
        }
    }

    fn poll_event(&mut self) -> Option<ServerEvent> {
        match self {
            Self::Http(session) => session.poll_event().map(ServerEvent::Http),
            Self::Http2(session) => session.poll_event().map(ServerEvent::Http2),
            Self::Rtmp(session) => session
                .poll_event()
                .map(|event| ServerEvent::Rtmp(Box::new(event))),
            Self::WebSocket(session) => session.poll_event().map(ServerEvent::WebSocket),
            Self::Framed(session) => session.poll_event().map(ServerEvent::Frame),
            Self::Replication(session) => session.poll_event().map(ServerEvent::Replication),
            Self::Tls(session) => session.poll_event(),
            Self::Prefaced(session) => session.poll_event(),
        }
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self {
            Self::Http(session) => session.poll_timeout(),
            Self::Http2(session) => session.poll_timeout(),
            Self::Rtmp(session) => session.poll_timeout(),
            Self::WebSocket(session) => session.poll_timeout(),
            Self::Framed(session) => session.poll_timeout(),
            Self::Replication(session) => session.poll_timeout(),
            Self::Tls(session) => session.poll_timeout(),
            Self::Prefaced(session) => session.poll_timeout(),
        }
    }

    fn seal(&mut self, queue: &mut VecDeque<Piece>, pool: &mut Pool) -> Wire {
        match self {
            Self::Tls(session) => session.seal(queue, pool),
            Self::Prefaced(session) => session.seal(queue, pool),
            Self::Http(_)
            | Self::Http2(_)
            | Self::Rtmp(_)
            | Self::WebSocket(_)
            | Self::Framed(_)
            | Self::Replication(_) => Wire::AsIs,
        }
    }

    fn finish(&mut self) {
        match self {
            Self::Tls(session) => session.finish(),
            Self::Prefaced(session) => session.finish(),
            Self::Http(_)
            | Self::Http2(_)
            | Self::Rtmp(_)
            | Self::WebSocket(_)
            | Self::Framed(_)
            | Self::Replication(_) => {}
        }
    }

    fn poll_notice(&mut self) -> Option<Notice> {
        match self {
            Self::Tls(session) => session.poll_notice(),
            Self::Prefaced(session) => session.poll_notice(),
            Self::Framed(session) => session.poll_notice(),
            Self::Http(_)
            | Self::Rtmp(_)
            | Self::Http2(_)
            | Self::WebSocket(_)
            | Self::Replication(_) => None,
        }
    }
}

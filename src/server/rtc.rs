//! What WebRTC is started with: certificate, addresses and sockets.

use std::fs;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;

use crate::config::{self, Config, WebRtc};
use crate::io::{addresses, bind_udp, listen};
use crate::proto::dtls;
use crate::proto::ice::{self, Candidate};
use crate::proto::sctp;
use crate::proto::sdp::Limits;
use crate::proto::webrtc::{Fingerprint, Pace, Shared};
use crate::server::media_shard::RtcPlan;
use crate::spaces;
use crate::streams::rtc::IceServer;
use crate::streams::rtc::door::Identity;

/// The largest message of a player's data channel, which clients are told.
const SPACES_MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Channels of a player's transport: one for each that it hears of.
const SPACES_CHANNELS_MAX: usize = 1024;

/// What each of `shards` shards is started with.
pub(super) fn plans(config: &Config, shards: usize) -> anyhow::Result<Vec<RtcPlan>> {
    let webrtc = &config.webrtc;
    let certificate = Arc::new(certificate(webrtc)?);
    let fingerprint = Fingerprint {
        algorithm: "sha-256".to_owned(),
        bytes: certificate.fingerprint().to_vec(),
    };
    let options = dtls::Options {
        srtp: webrtc.srtp,
        ..dtls::Options::default()
    };
    let shared = Arc::new(Shared {
        dtls: dtls::Context::new(certificate, options)?,
        ice: ice::Options::default(),
        pace: Pace::default(),
        sctp: Default::default(),
    });
    let spaces = Arc::new(Shared {
        sctp: sctp::Options {
            message_bytes_max: SPACES_MESSAGE_BYTES_MAX,
            peer_message_bytes_max: SPACES_MESSAGE_BYTES_MAX as u64,
            buffered_bytes_max: 2 * SPACES_MESSAGE_BYTES_MAX,
            channels_max: SPACES_CHANNELS_MAX,
            ..sctp::Options::default()
        },
        ..Shared::clone(&shared)
    });
    let local = addresses().unwrap_or_default();
    let announced: Vec<IpAddr> = webrtc.announce(&local);
    let limits = Limits {
        bytes_max: webrtc.offer_bytes_max as usize,
        ..Limits::default()
    };
    let ice_servers: Vec<IceServer> = webrtc.ice_servers.iter().flat_map(servers).collect();
    let is_shared = webrtc.ports.is_shared(shards);
    (0..shards)
        .map(|shard| {
            let address = webrtc.listen(shard);
            let datagrams = bind_udp(address, is_shared)
                .with_context(|| format!("the WebRTC port {address} (UDP)"))?;
            let connections = match webrtc.tcp {
                true => Some(
                    listen(address, true)
                        .with_context(|| format!("the WebRTC port {address} (TCP)"))?,
                ),
                false => None,
            };
            let tcp_port = webrtc.tcp.then_some(address.port());
            let hosts = Candidate::hosts(&announced, address.port(), tcp_port);
            let candidates = hosts
                .iter()
                .map(|candidate| {
                    let text = candidate.to_string();
                    text.trim_start_matches("candidate:").to_owned()
                })
                .collect();
            Ok(RtcPlan {
                datagrams,
                connections,
                spaces: spaces::door::Identity {
                    shared: Arc::clone(&spaces),
                    fingerprint: fingerprint.clone(),
                    candidates: hosts,
                    transports_max: (webrtc.sessions_max as usize).div_ceil(shards),
                },
                identity: Identity {
                    shared: Arc::clone(&shared),
                    fingerprint: fingerprint.clone(),
                    candidates,
                    shards: shards as u16,
                    half_open_max: webrtc.half_open_max as usize,
                    sessions_max: (webrtc.sessions_max as usize).div_ceil(shards),
                    limits,
                    ice_servers: ice_servers.clone(),
                },
            })
        })
        .collect()
}

fn certificate(webrtc: &WebRtc) -> anyhow::Result<dtls::Certificate> {
    let Some(files) = &webrtc.certificate else {
        return Ok(dtls::Certificate::generate()?);
    };
    let mut chain = Vec::new();
    for file in &files.cert {
        let bytes = fs::read(file).with_context(|| format!("webrtc.certificate: {file}"))?;
        chain.extend(bytes);
    }
    let key = fs::read(&files.key).with_context(|| format!("webrtc.key: {}", files.key))?;
    dtls::Certificate::from_pem(&chain, &key).context("webrtc.certificate")
}

/// Each address of an entry of `webrtc.ice_servers`.
fn servers(entry: &config::IceServer) -> impl Iterator<Item = IceServer> {
    let login = (!entry.username.is_empty()).then(|| {
        let credential = entry.credential.expose().to_owned();
        (entry.username.clone(), credential)
    });
    entry.urls.iter().map(move |url| IceServer {
        url: url.clone(),
        login: login.clone(),
    })
}

//! One folder per protocol, sans-IO: bytes, time and seeds come in; events and bytes go out.

pub mod amf;
pub mod cmaf;
pub mod dash;
pub mod deepdiff;
pub mod dtls;
pub mod flv;
pub mod hls;
pub mod http;
pub mod http2;
pub mod ice;
pub mod mpegts;
pub mod pickle;
pub mod proxy_protocol;
pub mod replication;
pub mod rtcp;
pub mod rtmp;
pub mod rtp;
pub mod sctp;
pub mod sdp;
pub mod session_file;
pub mod srtp;
pub mod stun;
pub mod unavi;
pub mod webrtc;
pub mod websocket;
pub mod zmtp;

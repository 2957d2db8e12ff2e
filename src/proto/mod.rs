//! One folder per protocol, sans-IO: bytes, time and seeds come in; events and bytes go out.

pub mod amf;
pub mod cmaf;
pub mod dash;
pub mod flv;
pub mod hls;
pub mod http;
pub mod http2;
pub mod mpegts;
pub mod proxy_protocol;
pub mod rtmp;
pub mod websocket;

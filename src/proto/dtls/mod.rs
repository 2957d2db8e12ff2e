//! DTLS 1.2 and 1.3 (RFC 6347, RFC 9147) for WebRTC: handshake, keys for SRTP, data of SCTP.

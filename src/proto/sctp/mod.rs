//! SCTP over DTLS and data channels (RFC 8261, RFC 8831, RFC 8832).

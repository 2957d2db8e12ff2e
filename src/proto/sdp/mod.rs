//! Session descriptions (RFC 8866) and the attributes that WebRTC uses.

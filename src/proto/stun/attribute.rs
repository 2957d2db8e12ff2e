//! Attributes' numbers, and what their values are made of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::base::bytes::Reader;

use super::{MAGIC_COOKIE, StunError, TransactionId};

/// Numbers of attributes (RFC 8489 section 18.3, RFC 8445 section 20.2).
pub(super) mod kind {
    pub(in crate::proto::stun) const USERNAME: u16 = 0x0006;
    pub(in crate::proto::stun) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(in crate::proto::stun) const ERROR_CODE: u16 = 0x0009;
    pub(in crate::proto::stun) const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
    pub(in crate::proto::stun) const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
    pub(in crate::proto::stun) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(in crate::proto::stun) const PRIORITY: u16 = 0x0024;
    pub(in crate::proto::stun) const USE_CANDIDATE: u16 = 0x0025;
    pub(in crate::proto::stun) const FINGERPRINT: u16 = 0x8028;
    pub(in crate::proto::stun) const ICE_CONTROLLED: u16 = 0x8029;
    pub(in crate::proto::stun) const ICE_CONTROLLING: u16 = 0x802A;
    /// From here on an attribute that is not known may be ignored.
    pub(in crate::proto::stun) const OPTIONAL: u16 = 0x8000;
}

/// Why a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorCode {
    /// 420: the request has attributes that must be understood and are not.
    UnknownAttribute,
    /// 487: both sides have the same role (RFC 8445 section 7.3.1.1).
    RoleConflict,
}

impl ErrorCode {
    /// As it is on the wire; 300 to 699.
    pub fn number(self) -> u16 {
        match self {
            Self::UnknownAttribute => 420,
            Self::RoleConflict => 487,
        }
    }

    /// For people who read captures. Short, because a response must not be larger than its request.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::UnknownAttribute => "Unknown",
            Self::RoleConflict => "Role Conflict",
        }
    }
}

/// ```text
///  0 0 | family (1: IPv4, 2: IPv6) | port, mixed with the cookie
///  address, mixed with the cookie and, of IPv6, the transaction id
/// ```
pub(super) fn read_xor_address(
    value: &[u8],
    transaction: &TransactionId,
) -> Result<SocketAddr, StunError> {
    let mut value = Reader::new(value);
    let family = value.u16()? & 0xFF;
    let port = value.u16()? ^ (MAGIC_COOKIE >> 16) as u16;
    let ip = match family {
        1 => IpAddr::V4(Ipv4Addr::from_bits(value.u32()? ^ MAGIC_COOKIE)),
        2 => {
            let bits = u128::from_be_bytes(value.array()?) ^ mask(transaction);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        _ => return Err(StunError::Value),
    };
    match value.is_empty() {
        true => Ok(SocketAddr::new(ip, port)),
        false => Err(StunError::Value),
    }
}

/// The value of XOR-MAPPED-ADDRESS, and how much of it counts.
pub(super) fn xor_address(address: SocketAddr, transaction: &TransactionId) -> ([u8; 20], usize) {
    let mut value = [0; 20];
    let port = address.port() ^ (MAGIC_COOKIE >> 16) as u16;
    value[2..4].copy_from_slice(&port.to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            value[1] = 1;
            value[4..8].copy_from_slice(&(ip.to_bits() ^ MAGIC_COOKIE).to_be_bytes());
            (value, 8)
        }
        IpAddr::V6(ip) => {
            value[1] = 2;
            let bits = ip.to_bits() ^ mask(transaction);
            value[4..20].copy_from_slice(&bits.to_be_bytes());
            (value, 20)
        }
    }
}

fn mask(transaction: &TransactionId) -> u128 {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(&transaction.0);
    u128::from_be_bytes(mask)
}

//! Action Message Format 0, as RTMP commands and FLV script data carry it.
//!
//! Specification: "Action Message Format -- AMF 0" (Adobe, 2006). Values of AMF 3 are not read: a
//! peer that is answered `objectEncoding` 0 does not send them. References, movie clips and record
//! sets are not read either; nobody sends them in commands.

mod decoder;
mod encoder;
mod error;
mod value;

pub use decoder::{DEPTH_MAX, Decoder, VALUES_MAX, read_all};
pub use encoder::{write_key, write_object_end, write_object_start};
pub use error::Error;
pub use value::Value;

/// Type markers, section 2.1.
mod marker {
    pub(super) const NUMBER: u8 = 0x00;
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const STRING: u8 = 0x02;
    pub(super) const OBJECT: u8 = 0x03;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const UNDEFINED: u8 = 0x06;
    pub(super) const ECMA_ARRAY: u8 = 0x08;
    pub(super) const OBJECT_END: u8 = 0x09;
    pub(super) const STRICT_ARRAY: u8 = 0x0a;
    pub(super) const DATE: u8 = 0x0b;
    pub(super) const LONG_STRING: u8 = 0x0c;
    pub(super) const UNSUPPORTED: u8 = 0x0d;
    pub(super) const XML_DOCUMENT: u8 = 0x0f;
    pub(super) const TYPED_OBJECT: u8 = 0x10;
}

//! What a stream is made of: codecs, tracks, frames, media time.

pub mod buffer;
pub mod codec;
mod frame;
mod ntp;
mod packet;
#[cfg(test)]
pub(crate) mod samples;
mod time;
mod track;

pub use codec::{Codec, Kind};
pub use frame::Frame;
pub use ntp::NtpTime;
pub use packet::{Extras, Packet, Start};
pub use time::MediaTime;
pub use track::{AudioFormat, Track, VideoFormat};

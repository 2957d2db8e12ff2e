//! Which of the languages a connection speaks.

use super::error::Error;
use super::message::{Request, Response};
use super::{four, json, three, two};

/// What a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Dialect {
    /// Generation 2: `{"subject": ..., "data": ...}`.
    Two,
    /// Generation 3a: `{"id": "xyz.unavi...", "data": ...}`.
    ThreeA,
    /// Generation 3b: `{"id": "com.wired-protocol...", "data": ...}`.
    ThreeB,
    /// Generation 4: protocol buffers.
    Four,
}

/// A message as it goes over the WebSocket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// Text.
    Text(String),
    /// Not text.
    Binary(Vec<u8>),
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Two, Self::ThreeA, Self::ThreeB, Self::Four];

    /// What a connection speaks whose first frame this is.
    pub fn of(bytes: &[u8], is_text: bool) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Err(Error::Empty);
        }
        if !is_text {
            return Ok(Self::Four);
        }
        let value = json::parse(bytes)?;
        let object = value.as_object().ok_or(Error::Syntax)?;
        if object.contains_key("subject") {
            return Ok(Self::Two);
        }
        Ok(match object.get("id").and_then(|id| id.as_str()) {
            Some(id) if id.starts_with(three::PREFIX_A) => Self::ThreeA,
            Some(id) if id.starts_with(three::PREFIX_B) => Self::ThreeB,
            Some(_) => return Err(Error::Unknown),
            None => Self::Four,
        })
    }

    /// What a client says by a frame.
    pub fn read(self, bytes: &[u8]) -> Result<Request, Error> {
        if bytes.is_empty() {
            return Err(Error::Empty);
        }
        match self {
            Self::Two => two::read(bytes),
            Self::ThreeA => three::read(bytes, three::Form::A),
            Self::ThreeB => three::read(bytes, three::Form::B),
            Self::Four => four::read(bytes),
        }
    }

    /// How a client is told something; `None` if its language has no word for it.
    pub fn write(self, response: &Response) -> Option<Frame> {
        match self {
            Self::Two => two::write(response).map(Frame::Text),
            Self::ThreeA => three::write(response, three::Form::A).map(Frame::Text),
            Self::ThreeB => three::write(response, three::Form::B).map(Frame::Text),
            Self::Four => four::write(response).map(Frame::Binary),
        }
    }

    /// The largest frame that the original took from such a client, in bytes.
    pub fn frame_bytes_max(self) -> usize {
        match self {
            Self::Two | Self::ThreeA => 16 * 1024,
            Self::ThreeB | Self::Four => 16 * 1024 * 1024,
        }
    }

    /// Its clients write the numbers of a location with the least significant byte first.
    pub fn is_little_endian(self) -> bool {
        match self {
            Self::Two | Self::ThreeA | Self::ThreeB => true,
            Self::Four => false,
        }
    }

    /// A word for it, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Two => "2",
            Self::ThreeA => "3a",
            Self::ThreeB => "3b",
            Self::Four => "4",
        }
    }
}

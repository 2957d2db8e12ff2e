//! The parts of the simulation of live streams.

pub(crate) mod audience;
pub(crate) mod media;
pub(crate) mod packets;
pub(crate) mod player;
pub(crate) mod playlist;
pub(crate) mod publisher;
pub(crate) mod reader;
pub(crate) mod segment;
pub(crate) mod shelf;
pub(crate) mod viewer;
pub(crate) mod world;

//! The parts of the simulation of live streams.

pub(crate) mod media;
pub(crate) mod publisher;
pub(crate) mod reader;
pub(crate) mod viewer;
pub(crate) mod world;

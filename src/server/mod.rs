//! server

pub mod doctor;

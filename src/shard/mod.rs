//! A shard's thread: where it runs, what time it is, and how it talks to the others.

pub mod clock;
pub mod mesh;
mod thread;

pub use thread::{online_cpus, pin_to_cpu, thread_cpu_time};

//! Pooled shared buffers.

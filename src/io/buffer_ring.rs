//! Receive buffers that the kernel picks from (provided buffer ring).

#![allow(
    unsafe_code,
    reason = "the ring and its buffers are shared with the kernel"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// The alignment that the kernel asks for the ring.
const PAGE: usize = 4096;

/// `count` buffers of `size` bytes, registered with one ring as one group.
pub(super) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    buffers: NonNull<u8>,
    count: u16,
    size: u32,
    /// Free-running; the kernel reads it from the ring's first entry.
    tail: u16,
}

impl BufferRing {
    /// Allocates and registers. `count` is a power of two of at most 32768.
    pub(super) fn new(ring: &IoUring, group: u16, count: u16, size: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two() && size > 0);
        let entries = allocate(Self::ring_layout(count)).cast::<BufRingEntry>();
        let buffers = allocate(Self::buffers_layout(count, size));
        // SAFETY: the entries are zeroed memory of the size the count asks for, and live until
        // the owner has closed the ring.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                entries.as_ptr() as u64,
                count,
                group,
                0,
            )?;
        }
        let mut this = Self {
            entries,
            buffers,
            count,
            size,
            tail: 0,
        };
        for buffer in 0..count {
            this.give(buffer);
        }
        Ok(this)
    }

    /// The first `len` bytes of a buffer that the kernel has filled.
    pub(super) fn filled(&self, buffer: u16, len: u32) -> &[u8] {
        assert!(buffer < self.count && len <= self.size);
        // SAFETY: the buffer was taken by the kernel and is not given back before the borrow
        // ends, so nobody writes to it.
        unsafe {
            let from = self.buffers.add(usize::from(buffer) * self.size as usize);
            std::slice::from_raw_parts(from.as_ptr(), len as usize)
        }
    }

    /// Gives a buffer (back) to the kernel.
    pub(super) fn give(&mut self, buffer: u16) {
        assert!(buffer < self.count);
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: the slot is below the count; the kernel does not read it before the tail moves.
        let entry = unsafe { self.entries.add(slot).as_mut() };
        // SAFETY: the offset lies in the buffers' allocation.
        let address = unsafe { self.buffers.add(usize::from(buffer) * self.size as usize) };
        entry.set_addr(address.as_ptr() as u64);
        entry.set_len(self.size);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the first entry is valid; its `resv` field is the ring's tail, read by the
        // kernel with acquire ordering.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
            (*tail.cast_mut()).store(self.tail, Ordering::Release);
        }
    }

    fn ring_layout(count: u16) -> Layout {
        Layout::from_size_align(usize::from(count) * size_of::<BufRingEntry>(), PAGE)
            .expect("at most 32768 entries of 16 bytes")
    }

    fn buffers_layout(count: u16, size: u32) -> Layout {
        Layout::from_size_align(usize::from(count) * size as usize, PAGE)
            .expect("configuration bounds the buffers to 1 GiB")
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: `Net` drops this after the ring, so the kernel no longer uses the memory; the
        // layouts are those of the allocation.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), Self::ring_layout(self.count));
            dealloc(
                self.buffers.as_ptr(),
                Self::buffers_layout(self.count, self.size),
            );
        }
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layouts used here have a size greater than 0.
    let raw = unsafe { alloc_zeroed(layout) };
    NonNull::new(raw).unwrap_or_else(|| handle_alloc_error(layout))
}

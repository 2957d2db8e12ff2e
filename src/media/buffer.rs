//! Pooled, reference-counted slabs: bytes are appended once and read by many.
//!
//! A [`Slab`] is the one writer of a block of memory. A [`Buffer`] is a view of bytes that the
//! slab has already written; it can be cloned, sliced and sent to other threads. When the last
//! of them is gone the block goes home to its [`Pool`] through a lock-free list, from whichever
//! thread that happens on.

#![allow(
    unsafe_code,
    reason = "views share a block with the writer that appends to it"
)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, Range};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, fence};

use bytes::Bytes;

/// Blocks that are given back beyond this count are freed: 64 blocks of 64 KiB are 4 MiB a shard,
/// enough to ride out a viewer burst without going to the allocator.
const IDLE_MAX: usize = 64;

/// Hands out slabs of one size and takes them back.
#[derive(Debug)]
pub struct Pool {
    slab_bytes: usize,
    idle: Vec<NonNull<Header>>,
    home: Arc<Home>,
}

// SAFETY: the idle blocks are reachable from this pool only; `Home` is made of atomics.
unsafe impl Send for Pool {}

#[derive(Debug)]
struct Home {
    /// Head of the list of blocks that came home.
    returned: AtomicPtr<Header>,
    /// Blocks that exist, idle ones included.
    blocks: AtomicUsize,
}

/// Stands before the bytes of a block.
#[repr(C, align(64))]
struct Header {
    references: AtomicUsize,
    /// Link of the list of returned blocks; used only while `references` is 0.
    next: UnsafeCell<*mut Self>,
    /// Set while `references > 0`; taken out by whoever drops the last reference.
    home: UnsafeCell<Option<Arc<Home>>>,
    capacity: usize,
}

impl Pool {
    /// A pool of slabs of `slab_bytes` bytes. Allocates nothing yet.
    pub fn new(slab_bytes: usize) -> Self {
        Self {
            slab_bytes,
            idle: Vec::new(),
            home: Arc::new(Home {
                returned: AtomicPtr::new(ptr::null_mut()),
                blocks: AtomicUsize::new(0),
            }),
        }
    }

    /// The size of a slab in bytes.
    pub fn slab_bytes(&self) -> usize {
        self.slab_bytes
    }

    /// How many blocks exist, in use and idle.
    pub fn blocks(&self) -> usize {
        self.home.blocks.load(Ordering::Relaxed)
    }

    /// How many blocks are in use.
    pub fn in_use(&mut self) -> usize {
        self.collect();
        self.blocks() - self.idle.len()
    }

    /// An empty slab.
    pub fn take(&mut self) -> Slab {
        if self.idle.is_empty() {
            self.collect();
        }
        let block = self
            .idle
            .pop()
            .unwrap_or_else(|| Header::allocate(self.slab_bytes, &self.home));
        // SAFETY: the block is idle, so nothing else reads or writes its header.
        unsafe {
            block.as_ref().references.store(1, Ordering::Relaxed);
            *block.as_ref().home.get() = Some(Arc::clone(&self.home));
        }
        Slab { block, len: 0 }
    }

    /// Takes back the blocks that came home, and frees what is beyond `IDLE_MAX`.
    fn collect(&mut self) {
        let mut head = self.home.returned.swap(ptr::null_mut(), Ordering::Acquire);
        while let Some(block) = NonNull::new(head) {
            // SAFETY: the swap made this thread the only owner of the whole list.
            head = unsafe { *block.as_ref().next.get() };
            if self.idle.len() < IDLE_MAX {
                self.idle.push(block);
            } else {
                Header::free(block, &self.home);
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for block in self.idle.drain(..) {
            Header::free(block, &self.home);
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let mut head = *self.returned.get_mut();
        while let Some(block) = NonNull::new(head) {
            // SAFETY: no reference to `Home` is left, so neither pool nor buffer reads the list.
            head = unsafe { *block.as_ref().next.get() };
            Header::free(block, self);
        }
    }
}

impl Header {
    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(size_of::<Self>() + capacity, align_of::<Self>())
            .expect("slab sizes are far below isize::MAX")
    }

    fn allocate(capacity: usize, home: &Home) -> NonNull<Self> {
        let layout = Self::layout(capacity);
        // SAFETY: the layout has a size greater than 0.
        let raw = unsafe { alloc(layout) }.cast::<Self>();
        let Some(block) = NonNull::new(raw) else {
            handle_alloc_error(layout)
        };
        // SAFETY: the block was just allocated with room for a header.
        unsafe {
            block.write(Self {
                references: AtomicUsize::new(0),
                next: UnsafeCell::new(ptr::null_mut()),
                home: UnsafeCell::new(None),
                capacity,
            });
        }
        home.blocks.fetch_add(1, Ordering::Relaxed);
        block
    }

    fn free(block: NonNull<Self>, home: &Home) {
        // SAFETY: callers own the block alone, and it was allocated with this layout.
        unsafe {
            let layout = Self::layout(block.as_ref().capacity);
            ptr::drop_in_place(block.as_ptr());
            dealloc(block.as_ptr().cast(), layout);
        }
        home.blocks.fetch_sub(1, Ordering::Relaxed);
    }

    /// The first byte after the header.
    fn data(block: NonNull<Self>) -> NonNull<u8> {
        // SAFETY: the allocation is a header followed by `capacity` bytes.
        unsafe { block.add(1).cast() }
    }

    fn release(block: NonNull<Self>) {
        // SAFETY: the caller holds a reference, so the block is alive.
        let header = unsafe { block.as_ref() };
        if header.references.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        // SAFETY: the last reference is gone, so this thread owns the header alone.
        let home = unsafe { (*header.home.get()).take() }.expect("a block in use has a home");
        let mut head = home.returned.load(Ordering::Relaxed);
        loop {
            // SAFETY: as above, until the exchange publishes the block.
            unsafe { *header.next.get() = head };
            match home.returned.compare_exchange_weak(
                head,
                block.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(newer) => head = newer,
            }
        }
    }
}

/// The writer of a block. Bytes are appended and never changed after.
pub struct Slab {
    block: NonNull<Header>,
    /// `0 <= len <= capacity`
    len: usize,
}

// SAFETY: a slab is the only writer, and what it shares with buffers is atomic or immutable.
unsafe impl Send for Slab {}

impl Slab {
    /// How many bytes have been written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True before the first byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes still fit.
    pub fn room(&self) -> usize {
        // SAFETY: the slab holds a reference, so the header is alive.
        unsafe { self.block.as_ref() }.capacity - self.len
    }

    /// Appends as much of `bytes` as fits and returns how much that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        // SAFETY: `len..len + count` lies in the block and is not covered by any buffer, since
        // buffers cover bytes below `len` only.
        unsafe {
            let to = Header::data(self.block).add(self.len);
            ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), count);
        }
        self.len += count;
        count
    }

    /// Appends `parts` one after the other, and then lets `finish` change them in place before
    /// anybody can have a view of them. False, and nothing is appended, if they do not fit.
    pub fn compose(&mut self, parts: &[&[u8]], finish: impl FnOnce(&mut [u8])) -> bool {
        let count: usize = parts.iter().map(|part| part.len()).sum();
        if count > self.room() {
            return false;
        }
        let begin = self.len;
        let mut at = begin;
        for part in parts {
            // SAFETY: `len..len + count` lies in the block and is not covered by any buffer, since
            // buffers cover bytes below `len` only.
            unsafe {
                let to = Header::data(self.block).add(at);
                ptr::copy_nonoverlapping(part.as_ptr(), to.as_ptr(), part.len());
            }
            at += part.len();
        }
        // SAFETY: the loop has written `begin..at`, which no buffer covers before `len` is moved.
        let written = unsafe {
            let start = Header::data(self.block).add(begin);
            std::slice::from_raw_parts_mut(start.as_ptr(), count)
        };
        finish(written);
        self.len = at;
        true
    }

    /// A view of bytes that have been written.
    ///
    /// # Panics
    ///
    /// When `range` reaches beyond [`Slab::len`].
    pub fn view(&self, range: Range<usize>) -> Buffer {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: the slab holds a reference, so the header is alive.
        let header = unsafe { self.block.as_ref() };
        header.references.fetch_add(1, Ordering::Relaxed);
        Buffer {
            block: self.block,
            start: range.start as u32,
            len: (range.end - range.start) as u32,
        }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        Header::release(self.block);
    }
}

impl fmt::Debug for Slab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slab({} of {})", self.len, self.len + self.room())
    }
}

/// A shared view of written bytes. Cloning it costs one atomic increment.
pub struct Buffer {
    block: NonNull<Header>,
    start: u32,
    len: u32,
}

// SAFETY: the bytes under a buffer never change, and the count is atomic.
unsafe impl Send for Buffer {}
// SAFETY: as for Send; there is no interior mutability reachable through a shared buffer.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Drops the first `count` bytes from the view.
    ///
    /// # Panics
    ///
    /// When the view is shorter.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len as usize);
        self.start += count as u32;
        self.len -= count as u32;
    }

    /// A view of a part of this one.
    ///
    /// # Panics
    ///
    /// When `range` reaches beyond it.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len as usize);
        let mut slice = self.clone();
        slice.start += range.start as u32;
        slice.len = (range.end - range.start) as u32;
        slice
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range was checked against the slab's written length when the view was made,
        // written bytes never change, and the reference keeps the block alive.
        unsafe {
            let from = Header::data(self.block).add(self.start as usize);
            std::slice::from_raw_parts(from.as_ptr(), self.len as usize)
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Not a copy: the bytes keep the block from going home.
impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Self {
        Self::from_owner(buffer)
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        // SAFETY: this buffer holds a reference, so the header is alive.
        let header = unsafe { self.block.as_ref() };
        header.references.fetch_add(1, Ordering::Relaxed);
        Self { ..*self }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        Header::release(self.block);
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_see_what_was_written_before_and_survive_later_appends() {
        let mut pool = Pool::new(16);
        let mut slab = pool.take();
        assert_eq!(slab.append(b"hello"), 5);
        let hello = slab.view(0..5);
        assert_eq!(slab.append(b" and much more"), 11, "only what fits");
        assert_eq!(&*hello, b"hello");
        assert_eq!(&*slab.view(5..16), b" and much m");
    }

    #[test]
    fn a_block_comes_home_when_slab_and_views_are_gone() {
        let mut pool = Pool::new(64);
        let slab = {
            let mut slab = pool.take();
            slab.append(b"x");
            slab
        };
        let view = slab.view(0..1);
        drop(slab);
        assert_eq!(pool.in_use(), 1);
        drop(view);
        assert_eq!(pool.in_use(), 0);
        let _again = pool.take();
        assert_eq!(pool.blocks(), 1, "the block is used again");
    }

    #[test]
    fn buffers_may_outlive_their_pool() {
        let mut pool = Pool::new(8);
        let mut slab = pool.take();
        slab.append(b"bye");
        let view = slab.view(0..3);
        drop((slab, pool));
        assert_eq!(&*view, b"bye");
    }

    #[test]
    #[should_panic(expected = "range.end <= self.len")]
    fn a_view_beyond_what_was_written_is_refused() {
        let mut pool = Pool::new(8);
        let _ = pool.take().view(0..1);
    }
}

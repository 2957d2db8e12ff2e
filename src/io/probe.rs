//! What this kernel and this account let the process do, asked by doing it.
//!
//! Every question is answered with values and leaves nothing behind: rings, sockets and mappings
//! are gone when the call returns. What an answer means to an operator is `server::doctor`'s.

#![allow(
    unsafe_code,
    reason = "limits, affinity and buffer rings are only reachable through raw calls"
)]

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::ptr;

use io_uring::{IoUring, Probe, opcode};
use socket2::{Domain, Socket, Type};

/// The size of the probe's ring; small, so that a tight memlock limit is not mistaken for a
/// missing feature.
const PROBE_ENTRIES: u32 = 8;
const PROBE_BUFFER_RING_ENTRIES: u16 = 8;
const PAGE_SIZE: usize = 4096;

const _: () = assert!(
    PROBE_BUFFER_RING_ENTRIES as usize * size_of::<io_uring::types::BufRingEntry>() <= PAGE_SIZE
);

/// Operations the shard's ring submits.
const OPERATIONS: &[(&str, u8)] = &[
    ("ACCEPT", opcode::AcceptMulti::CODE),
    ("RECV", opcode::RecvMulti::CODE),
    ("RECVMSG", opcode::RecvMsgMulti::CODE),
    ("SEND", opcode::Send::CODE),
    ("SENDMSG", opcode::SendMsg::CODE),
    ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
    ("CLOSE", opcode::Close::CODE),
    ("POLL_ADD", opcode::PollAdd::CODE),
    ("READ", opcode::Read::CODE),
    ("TIMEOUT", opcode::Timeout::CODE),
    ("MSG_RING", opcode::MsgRingData::CODE),
];

/// The step of making a working ring that the kernel refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// `io_uring_setup` with the flags every shard uses.
    Setup,
    /// `io_uring_register`: the list of operations.
    Register,
    /// The kernel does not know this operation.
    Operation(&'static str),
    /// `io_uring_register`: a ring of provided buffers.
    BufferRing,
    /// `io_uring_enter`: a no-op submitted and waited for.
    Enter,
}

/// Why there is no working ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub step: Step,
    pub errno: i32,
}

/// Makes a ring as a shard would, runs one operation on it and drops it.
pub fn ring() -> Result<(), Refusal> {
    let refused = |step| {
        move |error: io::Error| Refusal {
            step,
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        }
    };
    let mut ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(PROBE_ENTRIES * 4)
        .build(PROBE_ENTRIES)
        .map_err(refused(Step::Setup))?;
    let mut known = Probe::new();
    ring.submitter()
        .register_probe(&mut known)
        .map_err(refused(Step::Register))?;
    for &(name, code) in OPERATIONS {
        if !known.is_supported(code) {
            return Err(Refusal {
                step: Step::Operation(name),
                errno: libc::EINVAL,
            });
        }
    }
    buffer_ring(&ring).map_err(refused(Step::BufferRing))?;
    no_op(&mut ring).map_err(refused(Step::Enter))
}

fn buffer_ring(ring: &IoUring) -> io::Result<()> {
    let page = Page::new()?;
    // SAFETY: the page is mapped, page-aligned and large enough for the entries (asserted above),
    // and stays mapped until after the group is unregistered below.
    unsafe {
        ring.submitter().register_buf_ring_with_flags(
            page.address as u64,
            PROBE_BUFFER_RING_ENTRIES,
            0,
            0,
        )?;
    }
    ring.submitter().unregister_buf_ring(0)
}

fn no_op(ring: &mut IoUring) -> io::Result<()> {
    let entry = opcode::Nop::new().build();
    // SAFETY: a no-op refers to no memory and no descriptor.
    unsafe { ring.submission().push(&entry) }.expect("an empty queue has room for one entry");
    ring.submit_and_wait(1)?;
    match ring.completion().next() {
        Some(done) if done.result() == 0 => Ok(()),
        Some(done) => Err(io::Error::from_raw_os_error(-done.result())),
        None => Err(io::Error::from_raw_os_error(libc::EIO)),
    }
}

/// One anonymous page, unmapped on drop.
struct Page {
    address: *mut libc::c_void,
}

impl Page {
    fn new() -> io::Result<Self> {
        // SAFETY: a new private anonymous mapping aliases nothing.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                PAGE_SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { address })
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: `new` mapped exactly this page, and nothing refers to it any more.
        unsafe { libc::munmap(self.address, PAGE_SIZE) };
    }
}

/// A limit of this process, in the resource's own unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    pub soft: u64,
    pub hard: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// Open descriptors.
    Descriptors,
    /// Bytes that may be locked into memory.
    LockedMemory,
}

pub fn limit(resource: Resource) -> io::Result<Limit> {
    let mut raw = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `raw` is a valid place for the answer.
    if unsafe { libc::getrlimit(resource.number(), &raw mut raw) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Limit {
        soft: raw.rlim_cur,
        hard: raw.rlim_max,
    })
}

/// Raises the soft limits on descriptors and locked memory to the hard ones, as any process may.
pub fn raise_limits() -> io::Result<()> {
    for resource in [Resource::Descriptors, Resource::LockedMemory] {
        let hard = limit(resource)?.hard;
        let raw = libc::rlimit {
            rlim_cur: hard,
            rlim_max: hard,
        };
        // SAFETY: `raw` is a valid limit that the call only reads.
        if unsafe { libc::setrlimit(resource.number(), &raw const raw) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

impl Resource {
    fn number(self) -> libc::__rlimit_resource_t {
        match self {
            Self::Descriptors => libc::RLIMIT_NOFILE,
            Self::LockedMemory => libc::RLIMIT_MEMLOCK,
        }
    }
}

/// The CPUs this process may run on, ascending.
pub fn cpus() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero set is a valid, empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is as large as the size says.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let count_max = size_of_val(&set) * 8;
    // SAFETY: every index is below the number of bits in the set.
    Ok((0..count_max)
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// Binds the address for a moment: an error says why a listener could not.
///
/// SO_REUSEADDR, so that connections of a server that has just ended are not in the way; no
/// SO_REUSEPORT, so that one that is still listening is.
pub fn tcp_bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// Binds the address for a moment, by UDP: an error says why a socket could not.
pub fn udp_bind(address: SocketAddr) -> io::Result<()> {
    Socket::new(Domain::for_address(address), Type::DGRAM, None)?.bind(&address.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    fn open_descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn a_ring_works_here() {
        assert_eq!(ring(), Ok(()));
    }

    #[test]
    fn a_port_that_is_listened_on_is_in_use() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();

        let error = tcp_bind(taken.local_addr().unwrap()).unwrap_err();

        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    }

    #[test]
    fn a_port_that_datagrams_are_taken_on_is_in_use() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();

        let error = udp_bind(address).unwrap_err();

        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
        drop(taken);
        udp_bind(address).unwrap();
    }

    #[test]
    fn a_probed_port_can_be_bound_afterwards() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        drop(taken);

        tcp_bind(address).unwrap();

        TcpListener::bind(address).unwrap();
    }

    #[test]
    fn raised_limits_are_the_hard_ones() {
        raise_limits().unwrap();

        let descriptors = limit(Resource::Descriptors).unwrap();
        assert_eq!(descriptors.soft, descriptors.hard);
        assert!(open_descriptors() as u64 <= descriptors.soft);
    }

    #[test]
    fn there_is_a_cpu_to_run_on() {
        assert!(!cpus().unwrap().is_empty());
    }
}

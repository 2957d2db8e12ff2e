//! The machine's own addresses.
#![allow(unsafe_code, reason = "the kernel's list is one of C")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

/// The addresses of interfaces that are up, in the kernel's order (`getifaddrs(3)`), loopback among
/// them. Link-local ones are left out: without an interface's name they lead nowhere.
pub fn addresses() -> io::Result<Vec<IpAddr>> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: `list` is a valid place for the answer.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let list = List(list);
    let mut addresses = Vec::new();
    let mut next: *const libc::ifaddrs = list.0;
    // SAFETY: `next` is null or an entry of the list, which lives until the end of this function.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        if entry.ifa_flags & libc::IFF_UP as u32 == 0 {
            continue;
        }
        // SAFETY: the entry's address is null or as large as its family says, and lives as long.
        if let Some(address) = unsafe { read(entry.ifa_addr) }
            && !is_link_local(&address)
        {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// The list that `getifaddrs` has made.
struct List(*mut libc::ifaddrs);

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: `getifaddrs` gave the pointer, and nothing refers to the list any more.
        unsafe { libc::freeifaddrs(self.0) };
    }
}

/// # Safety
///
/// `address` is null, or valid for as many bytes as its family's structure has.
unsafe fn read(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: by this function's contract.
    let family = i32::from(unsafe { address.as_ref() }?.sa_family);
    match family {
        libc::AF_INET => {
            // SAFETY: by this function's contract; the structure may not be aligned.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: by this function's contract; the structure may not be aligned.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_addresses_are_of_this_machine() {
        let addresses = addresses().unwrap();
        assert!(addresses.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
        for address in addresses {
            UdpSocket::bind((address, 0)).unwrap();
        }
    }
}

//! Folders that are opened without leaving another one.
#![allow(unsafe_code, reason = "`openat2` has no wrapper")]

use std::ffi::CString;
use std::fs::{self, ReadDir};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// An open folder.
#[derive(Debug)]
pub struct Folder(OwnedFd);

impl Folder {
    /// What is in it.
    pub fn entries(&self) -> io::Result<ReadDir> {
        fs::read_dir(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

/// Opens the folder `relative` beneath `root`; `root` itself for an empty path. The kernel sees to
/// it that neither `..` nor a link nor a move under way leads out of `root` (`openat2(2)`,
/// `RESOLVE_BENEATH`, Linux 5.6).
pub fn open_beneath(root: &Path, relative: &Path) -> io::Result<Folder> {
    let root = fs::File::open(root)?;
    let relative = match relative.as_os_str().is_empty() {
        true => Path::new("."),
        false => relative,
    };
    let relative = CString::new(relative.as_os_str().as_bytes())?;
    // SAFETY: `open_how` is plain data for which all zero is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the path ends in a zero byte, `how` is as large as is said, and both outlive the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            relative.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(Folder(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

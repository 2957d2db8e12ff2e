//! Random bytes for secrets.
#![allow(unsafe_code, reason = "`getrandom` writes where it is pointed")]

use std::io;

/// Fills `bytes` from the kernel's generator (`getrandom(2)`). It needs no file, so it works in a root
/// without `/dev`.
pub fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: `rest` is writable for its whole length while the call runs.
        let count = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(count) {
            Ok(count) => filled += count,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_are_filled() {
        let (mut one, mut other) = ([0; 1000], [0; 1000]);
        fill_random(&mut one).unwrap();
        fill_random(&mut other).unwrap();
        assert_ne!(one, other);
        assert!(one[992..].iter().any(|byte| *byte != 0), "to the end");
    }
}

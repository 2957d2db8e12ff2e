//! Box headers (ISO/IEC 14496-12 4.2).

/// Writes a box; `body` writes what is in it.
pub(super) fn push_box(out: &mut Vec<u8>, name: &[u8; 4], body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(name);
    body(out);
    let size = u32::try_from(out.len() - start).expect("an init segment has bounded contents");
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// Writes a box with version and flags.
pub(super) fn push_full_box(
    out: &mut Vec<u8>,
    name: &[u8; 4],
    version: u8,
    flags: u32,
    body: impl FnOnce(&mut Vec<u8>),
) {
    push_box(out, name, |out| {
        push_u32(out, u32::from(version) << 24 | flags);
        body(out);
    });
}

pub(super) fn push_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn push_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn push_zeros(out: &mut Vec<u8>, count: usize) {
    out.resize(out.len() + count, 0);
}

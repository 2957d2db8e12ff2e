//! Program association and program map sections (ISO/IEC 13818-1 2.4.4).

/// The map's PID.
pub(super) const PID_MAP: u16 = 0x1000;
/// The association's PID.
pub(super) const PID_ASSOCIATION: u16 = 0;

const PROGRAM: u16 = 1;
const TRANSPORT_STREAM: u16 = 1;

/// One elementary stream in the map.
pub(super) struct Entry<'a> {
    pub(super) stream_type: u8,
    pub(super) pid: u16,
    pub(super) descriptors: &'a [u8],
}

/// The association section.
pub(super) fn association() -> Vec<u8> {
    const TABLE: u8 = 0;
    let mut body = PROGRAM.to_be_bytes().to_vec();
    body.extend_from_slice(&(0xe000 | PID_MAP).to_be_bytes());
    section(TABLE, TRANSPORT_STREAM, 0, &body)
}

/// The map section. Its entries must fit: the caller bounds them.
pub(super) fn map<'a>(
    version: u8,
    clock_pid: u16,
    entries: impl Iterator<Item = Entry<'a>>,
) -> Vec<u8> {
    const TABLE: u8 = 2;
    const NO_PROGRAM_DESCRIPTORS: [u8; 2] = [0xf0, 0];
    let mut body = (0xe000 | clock_pid).to_be_bytes().to_vec();
    body.extend_from_slice(&NO_PROGRAM_DESCRIPTORS);
    for entry in entries {
        body.push(entry.stream_type);
        body.extend_from_slice(&(0xe000 | entry.pid).to_be_bytes());
        let size = entry.descriptors.len() as u16;
        body.extend_from_slice(&(0xf000 | size).to_be_bytes());
        body.extend_from_slice(entry.descriptors);
    }
    section(TABLE, PROGRAM, version, &body)
}

/// ```text
/// table(8)  1 0 11 length(12)  id(16)  11 version(5) current(1)  number(8) last(8)  body  crc(32)
/// ```
fn section(table: u8, id: u16, version: u8, body: &[u8]) -> Vec<u8> {
    const AROUND: usize = 5 + 4;
    let length = (body.len() + AROUND) as u16;
    assert!(
        length <= SECTION_LENGTH_MAX,
        "the number of entries is bounded"
    );
    let mut out = vec![table];
    out.extend_from_slice(&(0xb000 | length).to_be_bytes());
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&[0xc1 | version << 1, 0, 0]);
    out.extend_from_slice(body);
    let sum = crc(&out);
    out.extend_from_slice(&sum.to_be_bytes());
    out
}

/// ISO/IEC 13818-1 2.4.4.9.
pub(super) const SECTION_LENGTH_MAX: u16 = 1021;

/// The CRC of annex A: 0x04c11db7, most significant bit first. Sections are written a few times
/// a second, so a table would only cost cache.
fn crc(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x04c1_1db7;
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte) << 24;
        for _ in 0..8 {
            let carry = sum >> 31;
            sum = (sum << 1) ^ (POLYNOMIAL * carry);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_and_its_sum_leave_nothing() {
        assert_eq!(crc(&association()), 0);
        assert_eq!(
            crc(b"123456789"),
            0x0376_e6e7,
            "CRC-32/MPEG-2's check value"
        );
    }

    #[test]
    fn the_map_lists_its_streams() {
        let entry = Entry {
            stream_type: 0x1b,
            pid: 0x100,
            descriptors: &[],
        };
        let section = map(3, 0x100, [entry].into_iter());
        assert_eq!(
            section[..17],
            [
                2, 0xb0, 18, 0, 1, 0xc7, 0, 0, 0xe1, 0, 0xf0, 0, 0x1b, 0xe1, 0, 0xf0, 0
            ]
        );
    }
}

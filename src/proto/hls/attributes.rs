//! Attribute lists and URIs (RFC 8216bis section 4.2).

use std::time::Duration;

use crate::base::text::{push_number, push_seconds};

/// Writes the attributes of one tag, with commas between them.
pub(super) struct Attributes<'a> {
    out: &'a mut String,
    is_first: bool,
}

impl<'a> Attributes<'a> {
    /// Behind `tag`, which ends with its colon.
    pub(super) fn of(out: &'a mut String, tag: &str) -> Self {
        out.push_str(tag);
        Self {
            out,
            is_first: true,
        }
    }

    fn name(&mut self, name: &str) -> &mut String {
        if !self.is_first {
            self.out.push(',');
        }
        self.is_first = false;
        self.out.push_str(name);
        self.out.push('=');
        self.out
    }

    /// An enumerated string or another value that needs no quotes.
    pub(super) fn word(&mut self, name: &str, value: &str) {
        self.name(name).push_str(value);
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        push_number(self.name(name), value);
    }

    pub(super) fn seconds(&mut self, name: &str, value: Duration) {
        push_seconds(self.name(name), value);
    }

    /// A quoted string. It cannot hold a quotation mark or the end of a line, and has no escapes:
    /// what it cannot hold becomes an apostrophe or a space.
    pub(super) fn quoted(&mut self, name: &str, value: &str) {
        let out = self.name(name);
        out.push('"');
        push_plain(out, value);
        out.push('"');
    }

    /// A quoted string of several values with commas between them.
    pub(super) fn quoted_list<'b>(&mut self, name: &str, values: impl Iterator<Item = &'b str>) {
        let out = self.name(name);
        out.push('"');
        for (index, value) in values.enumerate() {
            if index > 0 {
                out.push(',');
            }
            push_plain(out, value);
        }
        out.push('"');
    }

    pub(super) fn uri(&mut self, value: &str) {
        let out = self.name("URI");
        out.push('"');
        push_uri(out, value);
        out.push('"');
    }

    pub(super) fn resolution(&mut self, name: &str, (width, height): (u32, u32)) {
        let out = self.name(name);
        push_number(out, width.into());
        out.push('x');
        push_number(out, height.into());
    }

    /// Thousandths, with all three places: FRAME-RATE.
    pub(super) fn thousandths(&mut self, name: &str, value: u32) {
        let out = self.name(name);
        push_number(out, (value / 1000).into());
        out.push('.');
        for place in [100, 10, 1] {
            push_number(out, (value / place % 10).into());
        }
    }

    /// Milliseconds, negative or not, as seconds: TIME-OFFSET.
    pub(super) fn signed_millis(&mut self, name: &str, millis: i64) {
        let out = self.name(name);
        if millis < 0 {
            out.push('-');
        }
        push_seconds(out, Duration::from_millis(millis.unsigned_abs()));
    }

    /// The end of the line.
    pub(super) fn end(self) {
        self.out.push('\n');
    }
}

fn push_plain(out: &mut String, value: &str) {
    let is_plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != 0x7f;
    if value.bytes().all(is_plain) {
        out.push_str(value);
        return;
    }
    out.extend(value.chars().map(|c| match c {
        '"' => '\'',
        c if c.is_control() => ' ',
        c => c,
    }));
}

/// Appends a URI that is percent-encoded already. Bytes that have no place in a URI are encoded,
/// and `#` too: at the start of a line it would be a comment.
pub(super) fn push_uri(out: &mut String, uri: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'#' | b'<' | b'>');
    if uri.bytes().all(is_plain) {
        out.push_str(uri);
        return;
    }
    for byte in uri.bytes() {
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_neither_its_string_nor_its_line() {
        let mut out = String::new();
        let mut attributes = Attributes::of(&mut out, "#EXT-X-MEDIA:");
        attributes.quoted("NAME", "a\"\r\n#EXT-X-ENDLIST,é\u{85}");
        attributes.uri("a b\"\n#é,%20");
        attributes.end();
        assert_eq!(
            out,
            "#EXT-X-MEDIA:NAME=\"a'  #EXT-X-ENDLIST,é \",URI=\"a%20b%22%0A%23%C3%A9,%20\"\n"
        );
    }

    #[test]
    fn numbers_of_each_form() {
        let mut out = String::new();
        let mut attributes = Attributes::of(&mut out, "#T:");
        attributes.resolution("RESOLUTION", (1920, 1080));
        attributes.thousandths("FRAME-RATE", 29_970);
        attributes.thousandths("FRAME-RATE", 30_007);
        attributes.signed_millis("TIME-OFFSET", -1500);
        attributes.quoted_list("CODECS", ["avc1.64001f", "mp4a.40.2"].into_iter());
        attributes.end();
        assert_eq!(
            out,
            "#T:RESOLUTION=1920x1080,FRAME-RATE=29.970,FRAME-RATE=30.007,TIME-OFFSET=-1.5,\
             CODECS=\"avc1.64001f,mp4a.40.2\"\n"
        );
    }
}

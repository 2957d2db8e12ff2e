//! Elements and attributes.

use std::time::Duration;

use crate::base::text::{push_date, push_number, push_seconds};

/// Begins an element; attributes follow, then [`open`] or [`close`].
pub(super) fn begin(out: &mut String, name: &str) {
    out.push('<');
    out.push_str(name);
}

/// Ends the start tag of an element that has children.
pub(super) fn open(out: &mut String) {
    out.push_str(">\n");
}

/// Ends the tag of an element without children.
pub(super) fn close(out: &mut String) {
    out.push_str("/>\n");
}

/// Ends an element that has children.
pub(super) fn end(out: &mut String, name: &str) {
    out.push_str("</");
    out.push_str(name);
    out.push_str(">\n");
}

fn name(out: &mut String, name: &str) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
}

pub(super) fn text(out: &mut String, key: &str, value: &str) {
    name(out, key);
    push_escaped(out, value);
    out.push('"');
}

pub(super) fn number(out: &mut String, key: &str, value: u64) {
    name(out, key);
    push_number(out, value);
    out.push('"');
}

pub(super) fn seconds(out: &mut String, key: &str, value: Duration) {
    name(out, key);
    push_seconds(out, value);
    out.push('"');
}

/// xs:duration in seconds: `PT1.5S`.
pub(super) fn duration(out: &mut String, key: &str, value: Duration) {
    name(out, key);
    out.push_str("PT");
    push_seconds(out, value);
    out.push_str("S\"");
}

/// xs:dateTime.
pub(super) fn date(out: &mut String, key: &str, unix_ms: i64) {
    name(out, key);
    push_date(out, unix_ms);
    out.push('"');
}

/// XML 1.0 section 2.2 allows no other control characters, escaped or not; they become spaces.
fn push_escaped(out: &mut String, value: &str) {
    let is_plain = |byte: u8| byte >= 0x20 && !matches!(byte, b'&' | b'<' | b'>' | b'"' | b'\'');
    if value.is_ascii() && value.bytes().all(is_plain) {
        out.push_str(value);
        return;
    }
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => out.push(' '),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_neither_its_attribute_nor_its_element() {
        let mut out = String::new();
        begin(&mut out, "A");
        text(&mut out, "b", "\"/><x y='1'>&amp;\r\n\0\u{ffff}é");
        close(&mut out);
        assert_eq!(
            out,
            "<A b=\"&quot;/&gt;&lt;x y=&#39;1&#39;&gt;&amp;amp;    é\"/>\n"
        );
    }
}

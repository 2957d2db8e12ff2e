//! Finds where in a JSON text a value stands.

use std::fmt;

/// One step from a value to a value inside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// The way from the root to a value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Path(Vec<Step>);

impl Path {
    pub(super) fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the file");
        }
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if index == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(at) => write!(f, "[{at}]")?,
            }
        }
        Ok(())
    }
}

/// The line and column, both from 1, of the value that `path` leads to. In a text that the path
/// does not fit it is the place where the path leaves the text.
pub(super) fn locate(text: &str, path: &Path) -> (usize, usize) {
    let mut scan = Scan { text, at: 0 };
    for step in &path.0 {
        if scan.enter(step).is_none() {
            break;
        }
    }
    scan.skip_blank();
    line_and_column(text, scan.at)
}

/// The line and column of a byte offset, both from 1, the column in characters.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// A walk over text that has been parsed before, so it needs no errors of its own.
#[derive(Clone, Copy)]
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    /// Goes from the start of an object or array to a value in it.
    fn enter(&mut self, step: &Step) -> Option<()> {
        self.skip_blank();
        let mut scan = *self;
        let mut found = None;
        match step {
            Step::Key(wanted) => {
                scan.expect(b'{')?;
                while scan.peek()? == b'"' {
                    let key = scan.string()?;
                    scan.expect(b':')?;
                    scan.skip_blank();
                    // The parser keeps the last of several members of one name.
                    if serde_json::from_str::<String>(key).is_ok_and(|key| key == *wanted) {
                        found = Some(scan.at);
                    }
                    scan.skip_value()?;
                    if scan.expect(b',').is_none() {
                        break;
                    }
                    scan.skip_blank();
                }
            }
            Step::Index(wanted) => {
                scan.expect(b'[')?;
                for _ in 0..*wanted {
                    scan.skip_value()?;
                    scan.expect(b',')?;
                }
                found = Some(scan.at);
            }
        }
        self.at = found?;
        Some(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Steps over `byte` and the blanks around it.
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_blank();
        if self.peek()? != byte {
            return None;
        }
        self.at += 1;
        self.skip_blank();
        Some(())
    }

    /// Steps over a string, which is returned with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at)
    }

    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            self.skip_blank();
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                b',' | b':' => return None,
                _ => {
                    while !matches!(
                        self.peek(),
                        None | Some(b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b'}' | b']')
                    ) {
                        self.at += 1;
                    }
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(steps: &[&str]) -> Path {
        steps.iter().fold(Path::default(), |path, step| {
            path.with(match step.parse() {
                Ok(index) => Step::Index(index),
                Err(_) => Step::Key((*step).to_owned()),
            })
        })
    }

    const TEXT: &str = "{\"a\": [1, {\"ü\": \"é\", \"b\\\"\": {\"x\":[]} ,\n  \"c\" : -2.5e3}],\n\"d\":null, \"d\": {\"e\":\ttrue}}";

    #[test]
    fn values_are_found() {
        for (steps, position) in [
            (&[][..], (1, 1)),
            (&["a"], (1, 7)),
            (&["a", "0"], (1, 8)),
            (&["a", "1"], (1, 11)),
            (&["a", "1", "ü"], (1, 17)),
            (&["a", "1", "b\""], (1, 29)),
            (&["a", "1", "c"], (2, 9)),
            (&["d"], (3, 16)),
            (&["d", "e"], (3, 22)),
        ] {
            assert_eq!(locate(TEXT, &path(steps)), position, "{steps:?}");
        }
    }

    #[test]
    fn a_path_that_leads_nowhere_stops_on_the_way() {
        assert_eq!(locate(TEXT, &path(&["a", "7"])), (1, 7));
        assert_eq!(locate(TEXT, &path(&["d", "f"])), (3, 16));
        assert_eq!(locate("", &path(&["d"])), (1, 1));
    }

    #[test]
    fn paths_read_like_code() {
        assert_eq!(path(&["a", "1", "c"]).to_string(), "a[1].c");
        assert_eq!(path(&[]).to_string(), "the file");
    }
}

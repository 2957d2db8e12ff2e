//! Paths such as `root['loc'][0]`.

use super::{Step, Unfolded};

/// The steps behind `root`. Keys with backslashes, or with both kinds of quotes, are escaped in
/// ways that depend on the version: those are not read.
pub(super) fn parse(path: &str) -> Result<Vec<Step>, Unfolded> {
    let mut rest = path.strip_prefix("root").ok_or(Unfolded::Path)?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let inside = rest.strip_prefix('[').ok_or(Unfolded::Path)?;
        let (step, behind) = match inside.chars().next() {
            Some(quote @ ('\'' | '"')) => key(&inside[1..], quote)?,
            Some('0'..='9') => index(inside)?,
            Some(_) | None => return Err(Unfolded::Path),
        };
        steps.push(step);
        rest = behind.strip_prefix(']').ok_or(Unfolded::Path)?;
    }
    Ok(steps)
}

fn key(inside: &str, quote: char) -> Result<(Step, &str), Unfolded> {
    let (key, behind) = inside.split_once(quote).ok_or(Unfolded::Path)?;
    let is_plain = |c: char| !c.is_control() && c != '\\' && c != '\u{1d16f}' && c != '\u{1d17c}';
    if key.is_empty() || key.contains(['\'', '"']) || !key.chars().all(is_plain) {
        return Err(Unfolded::Path);
    }
    Ok((Step::Key(key.to_owned()), behind))
}

fn index(inside: &str) -> Result<(Step, &str), Unfolded> {
    let end = inside.find(']').ok_or(Unfolded::Path)?;
    let (digits, behind) = inside.split_at(end);
    let has_leading_zero = digits.len() > 1 && digits.starts_with('0');
    if has_leading_zero || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Unfolded::Path);
    }
    let index = digits.parse().map_err(|_| Unfolded::Path)?;
    Ok((Step::Index(index), behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_indexes_and_nothing_else() {
        assert_eq!(parse("root"), Ok(vec![]));
        assert_eq!(
            parse("root['loc'][0][\"x\"]"),
            Ok(vec![
                Step::Key("loc".into()),
                Step::Index(0),
                Step::Key("x".into())
            ])
        );
        for path in [
            "",
            "x['a']",
            "root.a",
            "root[",
            "root['a'",
            "root['a]",
            "root['']",
            "root['a\\n']",
            "root[-1]",
            "root[1.5]",
            "root[01]",
            "root[None]",
            "root['a'] ",
            "root[\"it's\"]",
            "root['a\n']",
            "root[99999999999999999999999]",
        ] {
            assert_eq!(parse(path), Err(Unfolded::Path), "{path}");
        }
    }
}

//! A configuration of any text is read or refused with its place, and saving it loses nothing.

use ringside::config::{Error, Pinning, parse};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match parse(text, "config.json") {
        Ok(loaded) => {
            for notice in &loaded.notices {
                assert!(!notice.to_string().is_empty());
            }
            let saved = loaded.config.to_text();
            let again = parse(&saved, "config.json").expect("what is saved can be read");
            assert_eq!(
                again.config,
                parse(&again.config.to_text(), "c").expect("twice").config
            );
        }
        Err(error) => assert_place(&error, text),
    }
    if let Err(error) = Pinning::parse(text, "core-pinning.toml") {
        assert_place(&error, text);
    }
}

fn assert_place(error: &Error, text: &str) {
    match error {
        Error::Unreadable { .. } => panic!("no file was read"),
        Error::Syntax { line, .. } | Error::Value { line, .. } => {
            assert!(*line <= text.matches('\n').count() + 1, "{error}");
        }
    }
}

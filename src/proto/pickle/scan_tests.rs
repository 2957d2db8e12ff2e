//! What must not pass, as an attacker would write it.

use super::*;

fn scan(bytes: &[u8]) -> Result<Summary, Error> {
    Scanner::default().scan(bytes, Rules::Plain)
}

fn scan_delta(bytes: &[u8]) -> Result<Summary, Error> {
    Scanner::default().scan(bytes, Rules::Delta)
}

/// `8004`, the body, and `STOP`.
fn pickle(body: &[&[u8]]) -> Vec<u8> {
    [&b"\x80\x04"[..], &body.concat(), b"."].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&[0x8c, text.len() as u8][..], text.as_bytes()].concat()
}

/// Lists in lists.
fn nested(depth: usize) -> Vec<u8> {
    pickle(&[&b"]".repeat(depth), &b"a".repeat(depth - 1)])
}

#[test]
fn functions_by_any_way_are_refused() {
    let system = [text("os"), text("system")].concat();
    let call = [&text("id")[..], b"\x85R"].concat();
    for (name, body) in [
        ("GLOBAL", pickle(&[b"cos\nsystem\n", &call])),
        ("STACK_GLOBAL", pickle(&[&system, b"\x93", &call])),
        ("INST", pickle(&[b"(", &text("id"), b"ios\nsystem\n"])),
        ("OBJ", pickle(&[b"(", &system, b"\x93", &text("id"), b"o"])),
        (
            "NEWOBJ",
            pickle(&[&system, b"\x93", &text("id"), b"\x85\x81"]),
        ),
        ("NEWOBJ_EX", pickle(&[&system, b"\x93)}\x92"])),
        ("BUILD", pickle(&[b"}}b"])),
        ("EXT1", pickle(&[b"\x82\x01"])),
        ("EXT2", pickle(&[b"\x83\x01\x00"])),
        ("EXT4", pickle(&[b"\x84\x01\x00\x00\x00"])),
        ("PERSID", pickle(&[b"Pid\n"])),
        ("BINPERSID", pickle(&[&text("id"), b"Q"])),
        ("BYTEARRAY8", pickle(&[b"\x96\x01\0\0\0\0\0\0\0a"])),
        ("NEXT_BUFFER", pickle(&[b"\x97"])),
        ("READONLY_BUFFER", pickle(&[b"N\x98"])),
        // The name is put together from the memo, with an innocent value between.
        (
            "memo",
            pickle(&[
                &text("os"),
                b"\x94",
                &text("system"),
                b"\x94N\x94h\0h\x01\x93",
            ]),
        ),
    ] {
        assert!(
            matches!(scan(&body), Err(Error::Executes(_))),
            "{name}: {:?}",
            scan(&body)
        );
        if name != "BINPERSID" {
            assert!(scan_delta(&body).is_err(), "{name} in a delta");
        }
    }
    // None, and one more opcode: only a tuple of it and remembering it make a whole pickle.
    let passing = (0..=255).filter(|opcode| scan(&pickle(&[b"N", &[*opcode]])).is_ok());
    assert_eq!(passing.collect::<Vec<u8>>(), [0x85, 0x94]);
}

#[test]
fn a_delta_names_only_what_deepdiff_names() {
    let class = |module: &str, name: &str| [&text(module)[..], &text(name), b"\x93"].concat();
    let passes = |body: &[&[u8]]| scan_delta(&pickle(body));
    for name in ["int", "str", "bool", "dict", "list", "bytes"] {
        assert_eq!(
            passes(&[&class("builtins", name)]).unwrap().kind,
            Kind::Class
        );
    }
    for (module, name) in [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("builtins", "NoneType"),
        ("builtins.str", "join"),
        ("deepdiff.helper", "os"),
    ] {
        assert_eq!(passes(&[&class(module, name)]), Err(Error::Class));
    }
    // Sizes that the sender chooses, and classes that keep what they are given.
    for made in ["bytes", "range", "list", "str", "int", "bin"] {
        let class = class("builtins", made);
        for make in [b"\x85R", b"\x85\x81"] {
            assert_eq!(
                passes(&[&class, b"K\x0a", make]),
                Err(Error::Class),
                "{made}"
            );
        }
    }
    let opcode = class("deepdiff.helper", "Opcode");
    let arguments = [&b"("[..], &text("equal"), b"K\0K\x01K\0K\x01NNt"].concat();
    assert_eq!(
        passes(&[&opcode, &arguments, b"\x81"]).unwrap().kind,
        Kind::Object
    );
    assert_eq!(
        passes(&[&opcode, &arguments, b"\x81}b"]),
        Err(Error::Executes(b'b'))
    );
    assert_eq!(
        passes(&[&text("<<NoneType>>"), b"Q"]).unwrap().kind,
        Kind::Class
    );
    assert_eq!(passes(&[&text("other"), b"Q"]), Err(Error::Class));
    // Names that are no text pushes: numbers, bytes, a class.
    assert_eq!(passes(&[b"NN\x93"]), Err(Error::Class));
    assert_eq!(
        passes(&[b"C\x02os", &text("system"), b"\x93"]),
        Err(Error::Class)
    );
    assert_eq!(passes(&[&text("os"), b"\x93"]), Err(Error::Stack));
    // A class is no function of a key, a module or an argument.
    assert_eq!(passes(&[&opcode, b"NR"]), Err(Error::Stack));
    assert_eq!(passes(&[&text("x"), b")R"]), Err(Error::Stack));
}

#[test]
fn what_python_would_refuse_is_refused() {
    let p = |body: &[u8]| scan(&pickle(&[body]));
    for (body, error) in [
        (&b""[..], Error::Stack),
        (b"NN", Error::Stack),
        (b"(N", Error::Stack),
        (b"a", Error::Stack),
        (b"Na", Error::Stack),
        (b"NNa", Error::Stack),
        (b"}Na", Error::Stack),
        (b"]NNs", Error::Stack),
        (b"}(Nu", Error::Stack),
        (b"](N(e", Error::Stack),
        (b"(]Ne", Error::Stack),
        (b"\x94", Error::Stack),
        (b"e", Error::Stack),
        (b"\x87", Error::Stack),
        (b"h\0", Error::Memo),
        (b"q\x01", Error::Memo),
        (b"Nr\xff\xff\xff\xff", Error::Memo),
        (b"]\x94h\0a", Error::Memo),
        (b"}]Ns", Error::Key),
        (b"}]\x85Ns", Error::Key),
        (b"\x8f(}\x90", Error::Key),
        (b"(]\x91", Error::Key),
        (b"\x80\x04N", Error::Opcode(0x80)),
        (b"I1\n", Error::Opcode(b'I')),
        (b"N2", Error::Opcode(b'2')),
        (b"\x8c\x02\xff\xff", Error::Text),
        (b"\x8c\x03\xed\xa0", Error::Text),
    ] {
        assert_eq!(p(body), Err(error), "{}", body.escape_ascii());
    }
    assert_eq!(
        p(b"\x8c\x03\xed\xb2\x80").unwrap().kind,
        Kind::Text,
        "a lone surrogate"
    );
    let surrogate = pickle(&[b"\x8c\x03\xed\xb2\x80"]);
    let decoded = decode_bytes(&surrogate, Limits::default());
    assert_eq!(decoded, Err(Error::Surrogate));
    assert_eq!(scan(b"\x80\x01N."), Err(Error::Protocol));
    assert_eq!(scan(b"\x80\x06N."), Err(Error::Protocol));
    assert_eq!(scan(b"N."), Err(Error::Protocol));
    assert_eq!(scan(b"\x80\x04N.N"), Err(Error::Trailing));
}

#[test]
fn what_was_referred_to_does_not_grow() {
    let p = |body: &[u8]| scan(&pickle(&[body]));
    assert_eq!(p(b"]\x94(h\0e"), Err(Error::Memo), "a list in itself");
    assert_eq!(
        p(b"(]\x94h\0Nat"),
        Err(Error::Stack),
        "a list from the memo"
    );
    assert_eq!(p(b"](]\x94h\0\x85Nae"), Err(Error::Stack), "a tuple");
    assert_eq!(p(b"N\x94\x94"), Err(Error::Memo), "remembered twice");
    assert_eq!(p(b"(]\x94Nah\0t").unwrap().depth, 2);
    // Depth and size are those at the time of the reference.
    assert_eq!(p(b"]\x94(]aeh\0\x86"), Err(Error::Stack));
    assert_eq!(p(b"(]\x94](NNeah\0t").unwrap().expanded, 1 + 2 * 4);
    assert_eq!(p(b"(]\x94](NNeah\0t").unwrap().depth, 3);
}

#[test]
fn cuts_and_wrong_frames() {
    let framed =
        |count: u64, body: &[u8]| [b"\x80\x04\x95", &count.to_le_bytes()[..], body].concat();
    let body = b"]\x94(K\x01K\x02e.";
    assert!(scan(&framed(body.len() as u64, body)).is_ok());
    // A frame that ends between two opcodes is valid, and the rest stands outside.
    for count in [0, 1, 2, 3, 5, 7, 8] {
        assert!(scan(&framed(count, body)).is_ok(), "{count}");
    }
    for count in [4, 6, body.len() as u64 + 1, 1 << 40, u64::MAX] {
        assert_eq!(scan(&framed(count, body)), Err(Error::Frame), "{count}");
    }
    let twice = [&framed(11, b"")[..], b"\x95\x02\0\0\0\0\0\0\0N."].concat();
    assert_eq!(scan(&twice), Err(Error::Frame), "a frame in a frame");
}

/// A megabyte that a pickle refers to ten thousand times is written out ten thousand times when the
/// value is: folding a node like that took more memory than the machine had.
#[test]
fn what_is_referred_to_counts_with_its_bytes() {
    let head = |opcode: u8, count: u32| [&[opcode], &count.to_le_bytes()[..]].concat();
    let blob = |count: usize| [head(b'B', count as u32), vec![7; count], vec![0x94]].concat();
    let references = |count| b"h\0".repeat(count);
    let scanned = |begin: &[u8], count| scan(&pickle(&[b"(", begin, &references(count), b"t"]));
    let big = blob(1 << 20);
    // By itself it counts once, and each reference with its bytes.
    assert_eq!(scanned(&big, 0).unwrap().expanded, 2);
    assert_eq!(scanned(&big, 3).unwrap().expanded, 2 + 3 * ((1 << 15) + 1));
    assert!(scanned(&big, 500).is_ok());
    assert_eq!(scanned(&big, 1000), Err(Error::Expanded));
    // Inside of a tuple too, which is not a container that changes.
    let tuple = [head(b'B', 1 << 20), vec![7; 1 << 20], b"\x85\x94".to_vec()].concat();
    assert!(scanned(&tuple, 500).is_ok());
    assert_eq!(scanned(&tuple, 1000), Err(Error::Expanded));
    let number = [&b"\x8b\0\x04\0\0"[..], &[7; 1024], &[0x94]].concat();
    assert_eq!(scanned(&number, 2).unwrap().expanded, 2 + 2 * 33);
}

#[test]
fn bombs_are_refused_before_they_expand() {
    assert!(scan(&nested(128)).is_ok());
    assert_eq!(scan(&nested(129)), Err(Error::Depth));
    assert_eq!(scan(&pickle(&[&b"(".repeat(200)])), Err(Error::Depth));
    // Pairs of the pair before: a billion laughs.
    let mut tuples = b"N\x94".to_vec();
    for level in 0..40u8 {
        tuples.extend_from_slice(&[b'h', level, b'\x86', 0x94]);
    }
    assert_eq!(scan(&pickle(&[&tuples])), Err(Error::Expanded));
    assert_eq!(
        decode_bytes(&pickle(&[&tuples]), Limits::default()),
        Err(Error::Expanded)
    );
    let small = Limits {
        memo_max: 10,
        stack_max: 20,
        ..Limits::default()
    };
    let mut scanner = Scanner::new(small);
    let memo = pickle(&[b"](", &b"N\x94".repeat(11), b"e"]);
    assert_eq!(scanner.scan(&memo, Rules::Plain), Err(Error::MemoFull));
    let stack = pickle(&[b"](", &b"N".repeat(21), b"e"]);
    assert_eq!(scanner.scan(&stack, Rules::Plain), Err(Error::StackFull));
    let number = pickle(&[b"\x8b", &2000u32.to_le_bytes(), &[1; 2000]]);
    assert_eq!(scanner.scan(&number, Rules::Plain), Err(Error::Integer));
    for head in [
        &b"X\xff\xff\xff\xff"[..],
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert_eq!(scan(&pickle(&[head])), Err(Error::Short));
    }
}

#[test]
fn a_shared_value_is_the_same_at_each_place() {
    let value = decode_bytes(
        &pickle(&[
            b"](",
            &text("ab"),
            b"\x94]\x94(K\x01K\x02eh\x01\x85h\0h\x01e",
        ]),
        Limits::default(),
    )
    .unwrap();
    let list = Value::List(vec![Value::Int(1), Value::Int(2)]);
    assert_eq!(
        value.as_items().unwrap(),
        [
            Value::from("ab"),
            list.clone(),
            Value::Tuple(vec![list.clone()]),
            Value::from("ab"),
            list
        ]
    );
}

"""CPython's pickle, for tests/pickle_cpython.rs.

One command a line on stdin, one answer a line on stdout:
  dump SEED PROTOCOL   a random value: its pickle in hexadecimal, and its text
  load HEX             the text of what the pickle holds, or "error ..."
  session HEX          a session file, unpacked, loaded, and written again as the add-on does
"""

import gzip
import pickle
import random
import struct
import sys


def text(value):
    """A form of a value in which types, bits of numbers and orders of dicts show."""
    if value is None:
        return "N"
    if value is True:
        return "T"
    if value is False:
        return "F"
    kind = type(value)
    if kind is int:
        return f"i{value:x}"
    if kind is float:
        return "f" + struct.pack(">d", value).hex()
    if kind is str:
        return "s" + value.encode("utf-8", "surrogatepass").hex()
    if kind is bytes:
        return "b" + value.hex()
    if kind is list:
        return "[" + ",".join(map(text, value)) + "]"
    if kind is tuple:
        return "(" + ",".join(map(text, value)) + ")"
    if kind is dict:
        return "{" + ",".join(text(k) + ":" + text(v) for k, v in value.items()) + "}"
    if kind is set:
        return "S" + ",".join(sorted(map(text, value))) + ";"
    if kind is frozenset:
        return "Z" + ",".join(sorted(map(text, value))) + ";"
    raise TypeError(kind)


def scalar(rng):
    return rng.choice(
        [
            lambda: None,
            lambda: rng.random() < 0.5,
            lambda: rng.randrange(-300, 300),
            lambda: rng.randrange(-(2**40), 2**40),
            lambda: rng.randrange(-(2**63) - 5, 2**63 + 5),
            lambda: rng.choice([-1, 1]) << rng.randrange(0, 500),
            lambda: rng.gauss(0, 1e10),
            lambda: struct.unpack(">d", rng.randbytes(8))[0],
            lambda: "".join(rng.choice("abä€😀\0'\"") for _ in range(rng.randrange(20))),
            lambda: "x" * rng.choice([255, 256, 300, 1000]),
            lambda: rng.randbytes(rng.randrange(20)),
            lambda: bytes(rng.choice([255, 256, 70000] if rng.random() < 0.1 else [3])),
        ]
    )()


def key(rng, depth):
    if depth > 0 and rng.random() < 0.2:
        return tuple(key(rng, depth - 1) for _ in range(rng.randrange(4)))
    if depth > 0 and rng.random() < 0.1:
        return frozenset(key(rng, depth - 1) for _ in range(rng.randrange(3)))
    return scalar(rng)


def value(rng, depth, made):
    if made and rng.random() < 0.1:
        return rng.choice(made)  # a second reference to what is there
    if depth == 0 or rng.random() < 0.3:
        out = scalar(rng)
    else:
        count = rng.choice([0, 1, 2, 3, 4, 5, 8] + [1001] * (depth == 1 and rng.random() < 0.1))
        items = lambda: [value(rng, depth - 1, made) for _ in range(count)]
        out = rng.choice(
            [
                items,
                lambda: tuple(items()),
                lambda: {key(rng, 2): item for item in items()},
                lambda: {key(rng, 2) for _ in range(count)},
                lambda: frozenset(key(rng, 2) for _ in range(count)),
            ]
        )()
    made.append(out)
    return out


for line in sys.stdin:
    command, *arguments = line.split()
    if command == "dump":
        rng = random.Random(int(arguments[0]))
        made = value(rng, 4, [])
        print(pickle.dumps(made, int(arguments[1])).hex(), text(made), flush=True)
    elif command == "load":
        try:
            print(text(pickle.loads(bytes.fromhex(arguments[0]))), flush=True)
        except Exception as error:
            print("error", repr(error), flush=True)
    elif command == "session":
        session = pickle.loads(gzip.decompress(bytes.fromhex(arguments[0])))
        assert sorted(session) == ["nodes", "users"], session
        assert all([type(part) for part in node] == [bytes] * 5 for node in session["nodes"])
        print(gzip.compress(pickle.dumps(session, 4)).hex(), flush=True)

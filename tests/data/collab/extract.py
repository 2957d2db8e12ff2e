#!/usr/bin/env python3
"""Packs captured sessions into one file each.

    extract.py CAPTURES

CAPTURES has a folder for each session, with `index.json` and the wire bytes of each message. A record of the
packed file is: microseconds since the capture began (8 bytes), number of the connection, offset of its port from
the session's first, 0 for what a client sent and 1 for what the server sent (1 byte each), count of bytes
(4 bytes), bytes. Numbers are big-endian.
"""
import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).parent
NAMES = {
    "0.9.11": "0.9.11",
    "0.10.3": "0.10.3",
    "blender-4.5.4-addon-0.7.4-rep0.9.11": "blender",
    "0.1.26-driver": "0.1.26",
}

for folder, name in NAMES.items():
    source = pathlib.Path(sys.argv[1]) / folder
    with open(HERE / f"{name}.capture", "wb") as out:
        for message in json.loads((source / "index.json").read_text()):
            wire = (source / (message["file"] + ".wire")).read_bytes()
            sender = ["c2s", "s2c"].index(message["dir"])
            head = (round(message["t"] * 1e6), message["conn"], message["port_offset"], sender, len(wire))
            out.write(struct.pack(">QBBBI", *head) + wire)

#!/usr/bin/env python3
"""Writes the fixture NAME.frames for a media file of one track; see README.md.

Usage: extract.py INPUT CODEC OUTPUT
"""

import json
import struct
import subprocess
import sys

# Pictures before the first one shown have negative decode times; a publisher's do not.
SHIFT_MICROS = 200_000


def hex_dump(text):
    data = bytearray()
    for line in text.strip().splitlines():
        columns = line.split(": ", 1)[1][:40]
        data += bytes.fromhex(columns.replace(" ", ""))
    return bytes(data)


def micros(seconds):
    return round(float(seconds) * 1_000_000) + SHIFT_MICROS


def main(source, codec, target):
    probe = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_packets", "-show_data"]
    found = json.loads(subprocess.check_output([*probe, source]))
    init = hex_dump(found["streams"][0].get("extradata", ""))
    with open(target, "wb") as out:
        out.write(struct.pack(">B", len(codec)) + codec.encode())
        out.write(struct.pack(">I", len(init)) + init)
        for packet in found["packets"]:
            data = hex_dump(packet["data"])
            pts = packet["pts_time"]
            dts = packet.get("dts_time", pts)
            key = "K" in packet["flags"]
            out.write(struct.pack(">qqBI", micros(pts), micros(dts), key, len(data)) + data)


main(*sys.argv[1:])

#!/usr/bin/env python3
"""Records what a command sends by RTP: ./record.py PORT OUT COMMAND..."""

import socket
import struct
import subprocess
import sys

port, out, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
receiver.bind(("127.0.0.1", port))
receiver.settimeout(2)
process = subprocess.Popen(command)
with open(out, "wb") as file:
    try:
        while True:
            packet = receiver.recv(65536)
            file.write(struct.pack(">H", len(packet)) + packet)
    except TimeoutError:
        process.wait()

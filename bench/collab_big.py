"""One client sends a very big node; what two others send each other meanwhile, and how long it takes.

Prints one JSON line: the 99th percentile of what takes place while the server receives the node, where a
change goes from one client to the other, and of what takes place while the server sends it to both, where
what a user says of itself does: that has a connection of its own, while data wait their turn.
"""
import argparse
import json
import os
import pickle
import select
import selectors
import socket
import struct
import subprocess
import sys
import time
import uuid

options = argparse.ArgumentParser()
options.add_argument("--gen", default="tcp1")
options.add_argument("--version", default="0.10.2")
options.add_argument("--port", type=int, default=5555)
options.add_argument("--pid", type=int)
options.add_argument("--mib", type=int, default=500)
options.add_argument("--send", help="the part of the one who sends")
options = options.parse_args()
COMMIT, NODE, SNAPSHOT, SERVER_SNAPSHOT, AUTH, METADATA = 1, 2, 7, 8, 9, 13
dump = lambda value: pickle.dumps(value, protocol=4)
CUBE = "aaaaaaaa-0000-4000-8000-000000000001"


def frame(parts):
    if options.gen == "tcp1":
        return struct.pack(">I", len(parts)) + b"".join(struct.pack(">I", len(p)) + p for p in parts)
    out = b""
    for place, part in enumerate(parts):
        out += struct.pack(">BQ", 2 | (place + 1 < len(parts)), len(part)) + part
    return out


class Link:
    """A connection; parts beyond a megabyte are counted and not kept."""

    def __init__(self, identity, place):
        offset = place if options.gen == "zmq3" else 0
        self.socket = socket.create_connection(("127.0.0.1", options.port + offset))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.skip = 0
        self.skipped = 0
        self.left = None
        self.parts = []
        if options.gen == "tcp1":
            self.socket.sendall(struct.pack(">I", 16) + identity + b"CDT"[place:place + 1])
            self.greeting = 0
        else:
            ready = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x10" + identity
            hello = b"\xff\0\0\0\0\0\0\0\x11\x7f\x03\x00NULL".ljust(64, b"\0")
            self.socket.sendall(hello + bytes([4, len(ready)]) + ready)
            self.greeting = 64
            while not self.greeted():
                self.buffer += self.socket.recv(1)

    def greeted(self):
        return len(self.buffer) > 66 and len(self.buffer) == 66 + self.buffer[65]

    def send(self, parts):
        self.socket.setblocking(True)
        self.socket.sendall(frame(parts))

    def read(self):
        """Messages that have come; a part that is too big is empty."""
        self.socket.setblocking(False)
        try:
            got = self.socket.recv(1 << 20)
        except BlockingIOError:
            return
        if not got:
            raise SystemExit("the server has closed a connection")
        if self.skip:
            cut = min(self.skip, len(got))
            self.skip -= cut
            self.skipped += cut
            got = got[cut:]
        self.buffer += got
        if self.greeting:
            head = 66 + self.buffer[65]
            del self.buffer[:head]
            self.greeting = 0
        while not self.skip:
            message = self.step()
            if message is None:
                return
            if message:
                yield message

    def step(self):
        buffer = self.buffer
        if options.gen == "tcp1":
            if self.left is None:
                if len(buffer) < 4:
                    return None
                self.left = int.from_bytes(buffer[:4], "big")
                del buffer[:4]
                return []
            if len(buffer) < 4:
                return None
            size, head, more = int.from_bytes(buffer[:4], "big"), 4, self.left > 1
        else:
            if len(buffer) < 2:
                return None
            is_long = buffer[0] & 2
            head = 9 if is_long else 2
            if len(buffer) < head:
                return None
            size, more = int.from_bytes(buffer[1:head], "big"), buffer[0] & 1
        if size > 1 << 20:
            del buffer[:head]
            cut = min(size, len(buffer))
            del buffer[:cut]
            self.skip, self.skipped = size - cut, self.skipped + cut
            part = b""
        else:
            if len(buffer) < head + size:
                return None
            part = bytes(buffer[head:head + size])
            del buffer[:head + size]
        self.parts.append(part)
        if options.gen == "tcp1":
            self.left = self.left - 1 if more else None
        if more:
            return []
        parts, self.parts = self.parts, []
        return parts


class Client:
    def __init__(self, name, is_admin=False):
        self.name, identity = name, uuid.uuid4().bytes
        self.command, self.data, self.ttl = (Link(identity, place) for place in range(3))
        self.state, self.catalogue = "auth", []
        self.ttl.send([b"INIT"])
        self.say(AUTH, {
            "AUTH_TYPE": "ADMIN" if is_admin else "CLIENT", "AUTH_ID": name, "S_PWD": "pw",
            "A_PWD": "adm" if is_admin else None, "VERSION": options.version,
        })

    def say(self, kind, value, owner=None):
        self.command.send([dump(kind), (owner or self.name).encode(), dump(value)])

    def commands(self):
        for parts in self.command.read():
            kind, raw = pickle.loads(parts[0]), parts[2]
            value = pickle.loads(raw)
            if kind == METADATA:
                yield value
            elif kind == AUTH:
                self.state = value
                if value == "RUNNING":
                    self.say(SNAPSHOT, {"STATE": "REQUEST_INIT"})
            elif kind == SERVER_SNAPSHOT and value["STATE"] == "ACCEPTED":
                data = [dump(NODE), CUBE.encode(), b"COMMON", dump([]), dump({"ts": 0.0})]
                self.say(SERVER_SNAPSHOT, {"STATE": "SET", "DATA": data}, "server")
                self.say(SERVER_SNAPSHOT, {"STATE": "END"}, "server")
            elif kind == SERVER_SNAPSHOT:
                self.state = "active"
            elif kind == SNAPSHOT:
                if value["STATE"] == "INIT":
                    self.catalogue = value["CATALOG"]
                if self.catalogue:
                    self.say(SNAPSHOT, {"STATE": "GET", "ID": self.catalogue.pop()})
                else:
                    self.say(SNAPSHOT, {"STATE": "DONE"})
                    self.state = "active"

    def live(self):
        for _ in self.ttl.read():
            self.ttl.send([b"PONG"])


def until(clients, condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"timeout, {[client.state for client in clients]}")
        for client in clients:
            list(client.commands())
            client.live()
        time.sleep(0.002)


if options.send:
    # Made before it comes: while it is made, nobody answers the server.
    node = [dump(NODE), str(uuid.uuid4()).encode(), b"COMMON", dump([]), dump({"file": bytes(options.mib << 20)})]
    node = frame(node)
    sender = Client("sender")
    until([sender], lambda: sender.state == "active")
    os.set_blocking(sys.stdin.fileno(), False)
    print("ready", flush=True)
    until([sender], lambda: os.read(0, 3) if select.select([0], [], [], 0)[0] else b"", 60)
    sender.data.socket.setblocking(True)
    sender.data.socket.sendall(node)
    print("sent", flush=True)
    # It stays until it is not needed any more, since something has to answer the server.
    parent = os.getppid()
    while os.getppid() == parent:
        list(sender.commands())
        list(sender.data.read())
        sender.live()
        time.sleep(0.01)
    raise SystemExit


def percentile(values, share):
    values = sorted(values)
    return round(1000 * values[min(len(values) - 1, int(share * len(values)))], 3) if values else None


alice = Client("alice", True)
until([alice], lambda: alice.state == "LOBBY")
alice.say(SERVER_SNAPSHOT, {"STATE": "INIT", "SIZE": 1, "NODES": [CUBE]}, "server")
until([alice], lambda: alice.state == "active")
bob = Client("bob")
both = [alice, bob]
until(both, lambda: bob.state == "active")
arguments = [sys.executable, __file__, "--send", "yes", "--gen", options.gen, "--version", options.version]
arguments += ["--port", str(options.port), "--mib", str(options.mib)]
sender = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
os.set_blocking(sender.stdout.fileno(), False)
said = b""


def listen_to_sender():
    global said
    said += sender.stdout.read() or b""
    return said


until(both, lambda: b"ready" in listen_to_sender(), 60)
# A second before, so that what is measured has begun.
receiving, sending = [], []
begin = next_send = time.monotonic()
is_told, arrived, whole = False, 0, options.mib << 20
selector = selectors.DefaultSelector()
for client in both:
    for link in (client.command, client.data, client.ttl):
        selector.register(link.socket, selectors.EVENT_READ)
number = 0
while time.monotonic() - begin < 60:
    now = time.monotonic()
    if not is_told and now - begin > 1:
        sender.stdin.write(b"go\n")
        sender.stdin.flush()
        is_told = True
    if now >= next_send:
        next_send += 0.02
        number += 1
        stamp = {"values_changed": {"root['ts']": {"new_value": now}}}
        alice.data.send([dump(COMMIT), CUBE.encode(), dump([]), dump(stamp)])
        alice.say(METADATA, {"ts": now})
    selector.select(max(0, min(0.005, next_send - time.monotonic())))
    for client in both:
        for value in client.commands():
            if client is bob:
                sending.append(time.monotonic() - value["ts"])
        for parts in client.data.read():
            if client is bob and pickle.loads(parts[0]) == COMMIT and not bob.data.skipped:
                stamp = pickle.loads(parts[3])["values_changed"]["root['ts']"]["new_value"]
                receiving.append(time.monotonic() - stamp)
        client.live()
    if min(client.data.skipped for client in both) >= whole:
        break
print(json.dumps({
    "mib": options.mib, "arrived": sum(client.data.skipped >= whole for client in both),
    "p50_ms_receiving": percentile(receiving, 0.5), "p99_ms_receiving": percentile(receiving, 0.99),
    "max_ms_receiving": percentile(receiving, 1), "p99_ms_sending": percentile(sending, 0.99),
    "max_ms_sending": percentile(sending, 1), "seconds": round(time.monotonic() - begin - 1, 2),
}))
sender.kill()

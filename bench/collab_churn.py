"""The users of bench/collab_churn.sh: PORT CONTROL PID SECONDS SEED."""
import json
import os
import pickle
import random
import re
import socket
import struct
import sys
import threading
import time
import urllib.request
import uuid

PORT, CONTROL, PID, SECONDS, SEED = (int(argument) for argument in sys.argv[1:6])
USERS = 12
COMMIT, NODE, DELETE, RIGHT, SNAPSHOT, SERVER_SNAPSHOT, AUTH, KICK, METADATA, INFO = 1, 2, 4, 5, 7, 8, 9, 11, 13, 14
END = time.monotonic() + SECONDS
counts, nodes, guard = {}, [], threading.Lock()


def dump(value):
    return pickle.dumps(value, protocol=4)


def count(what):
    with guard:
        counts[what] = counts.get(what, 0) + 1


class Gone(Exception):
    """The server has closed the connection, or the user has had enough."""


class Link:
    def __init__(self, user, place):
        self.user, self.buffer, self.at = user, bytearray(), 0
        port = PORT + (place if user.is_zmtp else 0)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(user.address, 0))
        user.links.append(self)
        if user.is_zmtp:
            ready = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x10" + user.identity
            hello = b"\xff\0\0\0\0\0\0\0\x11\x7f\x03\x00NULL".ljust(64, b"\0") + bytes([4, len(ready)]) + ready
        else:
            hello = struct.pack(">I", 16) + user.identity + b"CDT"[place:place + 1]
        if user.dice.random() < 0.05:
            self.write(hello[:user.dice.randrange(len(hello))])
            raise Gone("half a greeting")
        self.write(hello)
        if user.is_zmtp:
            self.take(64)
            self.frame()
            del self.buffer[:self.at]

    def write(self, data):
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Gone(str(error)) from error

    def take(self, size):
        """The next bytes. They stay in the buffer until the message is whole."""
        while len(self.buffer) < self.at + size:
            try:
                got = self.socket.recv(1 << 16)
            except OSError as error:
                raise Gone(str(error)) from error
            if not got:
                raise Gone("closed")
            self.buffer += got
        self.at += size
        return bytes(self.buffer[self.at - size:self.at])

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def frame(self):
        flags = self.number(1)
        return flags, self.take(self.number(8 if flags & 2 else 1))

    def receive(self):
        self.at, parts = 0, []
        if self.user.is_zmtp:
            flags = 1
            while flags & 1:
                flags, body = self.frame()
                if flags & 4:
                    flags = 1
                else:
                    parts.append(body)
        else:
            parts = [self.take(self.number(4)) for _ in range(self.number(4))]
        del self.buffer[:self.at]
        return parts

    def send(self, parts):
        if self.user.is_zmtp:
            data = b"".join(
                struct.pack(">BQ", 2 | (place + 1 < len(parts)), len(part)) + part for place, part in enumerate(parts))
        else:
            data = struct.pack(">I", len(parts)) + b"".join(struct.pack(">I", len(p)) + p for p in parts)
        if self.user.dice.random() < 0.003:
            self.write(data[:self.user.dice.randrange(len(data) + 1)])
            raise Gone("half a message")
        self.write(data)


class User:
    """One user from its coming to its going."""

    def __init__(self, name, dice, is_admin=False):
        self.name, self.dice, self.is_admin = name, dice, is_admin
        # Whoever says wrong passwords makes others of the same address wait.
        self.address = f"127.0.{dice.randrange(1, 250)}.{dice.randrange(1, 250)}"
        self.is_zmtp, self.identity, self.links = dice.random() < 0.5, uuid.UUID(int=dice.getrandbits(128)).bytes, []

    def say(self, kind, value, owner=None):
        self.command.send([dump(kind), (owner or self.name).encode(), dump(value)])

    def hear(self, *kinds):
        while True:
            parts = self.command.receive()
            kind = pickle.loads(parts[0])
            if kind == 10:
                raise Gone("told to go")
            if kind in kinds:
                return pickle.loads(parts[2])

    def come(self):
        self.command = Link(self, 0)
        if self.dice.random() < 0.1:
            self.say(INFO, "RQ_INFO", "guest")
            self.hear(INFO)
        self.data = Link(self, 1)
        self.ttl = Link(self, 2)
        self.ttl.send([b"INIT"])
        password = "adm" if self.is_admin else None
        if self.dice.random() < 0.005:
            password = "wrong"
        self.say(AUTH, {
            "AUTH_TYPE": "ADMIN" if password else "CLIENT", "AUTH_ID": self.name, "S_PWD": "pw",
            "A_PWD": password, "VERSION": "0.9.11" if self.is_zmtp else "0.10.2",
        })
        if self.dice.random() < 0.05:
            raise Gone("before the answer")
        answer = self.hear(AUTH)
        count(answer.split(" (")[0])
        if "FAILED" in answer:
            raise Gone(answer)
        return answer

    def fetch(self):
        self.say(SNAPSHOT, {"STATE": "REQUEST_INIT"})
        catalogue = self.hear(SNAPSHOT)["CATALOG"]
        for node in reversed(catalogue):
            if self.dice.random() < 0.3 / len(catalogue):
                raise Gone("in the middle of the scene")
            self.say(SNAPSHOT, {"STATE": "GET", "ID": node})
            data = self.hear(SNAPSHOT)["DATA"]
            assert data == b"removed" or data[1].decode() == node, (node, data)
        self.say(SNAPSHOT, {"STATE": "DONE"})

    def node(self):
        node = str(uuid.UUID(int=self.dice.getrandbits(128)))
        blob = self.dice.randbytes(self.dice.choice([10, 2000, 100_000]))
        return [dump(NODE), node.encode(), b"COMMON", dump([]), dump({"n": 0, "blob": blob})]

    def act(self):
        dice, what = self.dice, self.dice.randrange(100)
        with guard:
            node = dice.choice(nodes) if nodes else "none"
        if what < 15:
            parts = self.node()
            with guard:
                if len(nodes) < 200:
                    nodes.append(parts[1].decode())
                else:
                    # In the place of an older one: the scene stays as big as it is.
                    parts[1] = node.encode()
            self.data.send(parts)
            count("node")
        elif what < 60:
            delta = {"values_changed": {"root['n']": {"new_value": dice.randrange(1000)}}}
            self.data.send([dump(COMMIT), node.encode(), dump([]), dump(delta)])
            count("change")
        elif what < 75:
            self.say(RIGHT, {"uuid": [node], "owner": dice.choice([self.name, "COMMON"])})
            count("lock")
        elif what < 80:
            with guard:
                if len(nodes) > 20:
                    nodes.remove(node)
            self.say(DELETE, node, "client")
            count("delete")
        elif what < 93:
            self.say(METADATA, {"frame_current": dice.randrange(100), "color": (1.0, 0.5, 0.25, 1)})
            count("metadata")
        elif what < 94:
            self.say(KICK, {"user": f"user{dice.randrange(USERS)}"})
            count("kick")
        elif what < 97:
            self.data.send([dice.randbytes(dice.randrange(200)) for _ in range(dice.randrange(6))])
            count("nonsense")
        elif what < 98:
            evil = b"\x80\x04cos\nsystem\n(X\x04\0\0\0truetR."
            self.data.send([dump(NODE), node.encode(), b"COMMON", dump([]), evil])
            count("evil")
        else:
            time.sleep(dice.random())
            count("pause")
        self.drain()

    def drain(self):
        """Reads what is there, now and then not."""
        if self.dice.random() < 0.2:
            return
        for link in (self.command, self.data, self.ttl):
            link.socket.settimeout(0.001)
            try:
                while True:
                    parts = link.receive()
                    if link is self.ttl:
                        link.send([b"PONG"])
                    elif link is self.command and pickle.loads(parts[0]) == 10:
                        raise Gone("told to go")
            except Gone as gone:
                if "timed out" not in str(gone):
                    raise
            finally:
                link.socket.settimeout(5)

    def go(self):
        for link in self.links:
            if self.dice.random() < 0.3:
                link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            link.socket.close()


def give_scene(user):
    parts = [user.node() for _ in range(20)]
    nodes.extend(part[1].decode() for part in parts)
    user.say(SERVER_SNAPSHOT, {"STATE": "INIT", "SIZE": len(nodes), "NODES": list(nodes)}, "server")
    assert user.hear(SERVER_SNAPSHOT)["STATE"] == "ACCEPTED"
    for part in parts:
        user.say(SERVER_SNAPSHOT, {"STATE": "SET", "DATA": part}, "server")
    user.say(SERVER_SNAPSHOT, {"STATE": "END"}, "server")
    assert user.hear(SERVER_SNAPSHOT)["STATE"] == "DONE"


def live(number):
    dice = random.Random(SEED * 1000 + number)
    while time.monotonic() < END:
        # A name is free again a moment after its last user has left.
        user = User(f"user{number}" if dice.random() < 0.3 else f"user{number}-{dice.getrandbits(30)}", dice,
                    dice.random() < 0.3)
        try:
            if user.come() == "RUNNING":
                user.fetch()
                count("scene")
                for _ in range(dice.randrange(300)):
                    user.act()
                    if time.monotonic() > END:
                        break
        except Gone as gone:
            count("gone: " + re.sub(r"\(.*|\[.*", "", str(gone)).strip()[:30])
        except OSError:
            count("refused")
        finally:
            user.go()
        time.sleep(dice.random() * 0.2)


def metrics():
    text = urllib.request.urlopen(f"http://127.0.0.1:{CONTROL}/metrics").read().decode()
    return {name: int(float(value)) for name, value in re.findall(r"^ringside_collab_(\w+)\{.*\} (\S+)$", text, re.M)}


def left():
    now = metrics()
    kept = {name: now[name] for name in ("users", "connections", "locks", "queued_bytes")}
    return {**kept, "descriptors": len(os.listdir(f"/proc/{PID}/fd"))}


metrics()
time.sleep(1.5)
before = left()
first = User("first", random.Random(SEED), True)
first.dice.random = lambda: 0.9
assert first.come() == "LOBBY"
give_scene(first)
first.go()
threads = [threading.Thread(target=live, args=(number,), daemon=True) for number in range(USERS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(SECONDS + 60)
    assert not thread.is_alive(), "a user is stuck"
end = time.monotonic() + 15
while (after := left()) != before and time.monotonic() < end:
    time.sleep(0.2)
print(json.dumps({"before": before, "after": after, "did": counts, "counters": metrics()}))
missing = {"RUNNING", "scene", "node", "change", "lock", "delete", "metadata", "kick", "evil"} - counts.keys()
if after != before:
    sys.exit("the server is not left as it was")
if missing and SECONDS >= 20:
    sys.exit(f"nothing of {missing} has happened")

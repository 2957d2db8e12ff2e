"""Three users of a collaborative session with the original client 0.1.26 go through all that it can.

    replication_walk_four.py PORT CLIENT IPC_PORT...

CLIENT is the Python of the environment that `replication` is in; each of six users takes an IPC_PORT. The
session's server password is `pw`, its admin password `adm`. Prints the names of what was seen; exits 1 where
something was not.
"""
import json
import os
import subprocess
import sys
import time

PEER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "replication_peer_four.py")
LOBBY, ACTIVE = 10, 2


class User:
    ipc_ports = sys.argv[3:]

    def __init__(self, name, password):
        port, python = sys.argv[1:3]
        self.name = name
        # A client has a helper process, which goes with the group.
        self.process = subprocess.Popen(
            [python, PEER, port, name, password, User.ipc_ports.pop()], start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        users.append(self)

    def __call__(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        while True:
            line = self.process.stdout.readline()
            if line.startswith("{"):
                return json.loads(line)
            if not line:
                raise SystemExit(f"{self.name} has ended")

    def until(self, what, holds, seconds=15):
        """The state of the user's session, once something holds of it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            state = self("state")
            if "error" not in state and holds(state):
                print(what, flush=True)
                return state
            time.sleep(0.02)
        raise SystemExit(f"{self.name}: not {what}: {state}")

    def kill(self):
        try:
            os.killpg(self.process.pid, 9)
        except ProcessLookupError:
            pass
        self.process.wait()


users = []
try:
    for name, password in [("eve", "wrong"), ("eve", "")]:
        eve = User(name, password)
        eve.until("eve is refused", lambda state: state["ended"] == [" wrong password"])
        eve.kill()
    alice = User("alice", "adm")
    alice.until("alice waits in the lobby", lambda state: state["state"] == LOBBY)
    cube = alice("add", "cube")["uuid"]
    lamp = alice("add", "lamp")["uuid"]
    bob = User("bob", "pw")
    bob.until("bob waits in the lobby", lambda state: state["state"] == LOBBY)
    alice.until("alice alone is an administrator",
                lambda state: set(state["users"]) == {"alice", "bob"} and state["admins"] == ["alice"])

    alice("init")
    alice.until("alice has given the scene", lambda state: state["state"] == ACTIVE)
    bob.until("bob has the scene", lambda state: state["state"] == ACTIVE and len(state["scene"]) == 2)

    alice("move", cube, 7)
    bob.until("bob sees the move", lambda state: state["scene"][cube][1] == [7, 0, 0])
    bob("move", cube, 9)
    alice.until("alice sees bob's move", lambda state: state["scene"][cube][1] == [9, 0, 0])
    bob("lock", lamp)
    alice.until("alice sees the lock", lambda state: state["scene"][lamp][2] == "bob")
    mesh = bob("add", "mesh")["uuid"]
    alice.until("alice has what bob made", lambda state: mesh in state["scene"])
    bob("meta", "color", "red")
    alice.until("alice sees bob's colour", lambda state: state["users"].get("bob", {}).get("color") == "red")

    carol = User("carol", "pw")
    late = carol.until("carol has the scene", lambda state: state["state"] == ACTIVE and len(state["scene"]) == 3)
    if late["scene"] != alice("state")["scene"]:
        raise SystemExit(f"carol has another scene: {late}, {alice('state')}")
    print("carol's scene is alice's")
    carol("lock", mesh)
    alice.until("alice sees carol's lock", lambda state: state["scene"][mesh][2] == "carol")
    carol("unlock", mesh)
    alice.until("alice sees it end", lambda state: state["scene"][mesh][2] == "COMMON")

    bob.kill()
    began = time.monotonic()
    alice.until(
        "bob and his lock are gone",
        lambda state: state["scene"][lamp][2] == "COMMON" and "bob" not in state["users"],
    )
    if time.monotonic() - began > 2:
        raise SystemExit("it took too long to notice that bob is gone")

    alice("rm", mesh)
    carol.until("carol sees the removal", lambda state: mesh not in state["scene"])
    # Nobody has said anything for longer than a client's patience but the servers' signs of life.
    time.sleep(7)
    carol.until("carol is still there", lambda state: state["state"] == ACTIVE and not state["ended"])
    dora = User("dora", "pw")
    late = dora.until("dora has the scene", lambda state: state["state"] == ACTIVE and len(state["scene"]) == 2)
    if late["scene"] != alice("state")["scene"]:
        raise SystemExit(f"dora has another scene: {late}, {alice('state')}")
    dora("leave")
    alice.until("dora has left", lambda state: "dora" not in state["users"])
    alice("kick", "carol")
    carol.until("carol is out", lambda state: state["ended"] == ["kicked by admin"])
finally:
    for user in users:
        user.kill()

"""Three users of a collaborative session, each with the original client, go through all that it can.

    replication_walk.py PORT CLIENT CLIENT CLIENT

A CLIENT is the Python of the environment that the user's `replication` is in. The session's server password
is `pw`, its admin password `adm`. Prints the names of what was seen; exits 1 where something was not.
"""
import json
import os
import subprocess
import sys
import time

PEER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "replication_peer.py")
LOBBY, ACTIVE = 10, 2


class User:
    def __init__(self, python, name, admin_password=""):
        self.name = name
        self.process = subprocess.Popen(
            [python, PEER, sys.argv[1], name, "pw", admin_password],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )

    def __call__(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def until(self, what, holds, seconds=15):
        """The state of the user's session, once something holds of it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            state = self("state")
            if holds(state):
                print(what)
                return state
            time.sleep(0.02)
        raise SystemExit(f"{self.name}: not {what}: {state}")


users = []
try:
    first, second, third = sys.argv[2:5]
    alice = User(first, "alice", "adm")
    users.append(alice)
    alice.until("alice waits in the lobby", lambda state: state["state"] == LOBBY)
    cube = alice("add", "cube")["uuid"]
    lamp = alice("add", "lamp")["uuid"]
    bob = User(second, "bob")
    users.append(bob)
    bob.until("bob waits in the lobby", lambda state: state["state"] == LOBBY)

    alice("init")
    alice.until("alice has given the scene", lambda state: state["state"] == ACTIVE)
    bob.until("bob has the scene", lambda state: state["state"] == ACTIVE and len(state["scene"]) == 2)

    alice("move", cube, 7)
    bob.until("bob sees the move", lambda state: state["scene"][cube][1] == [7, 0, 0])
    bob("lock", lamp)
    alice.until("alice sees the lock", lambda state: state["scene"][lamp][2] == "bob")
    mesh = bob("add", "mesh")["uuid"]
    alice.until("alice has what bob made", lambda state: mesh in state["scene"])
    bob("meta", "color", "red")
    alice.until("alice sees bob's colour", lambda state: state["users"].get("bob", {}).get("color") == "red")

    carol = User(third, "carol")
    users.append(carol)
    late = carol.until("carol has the scene", lambda state: state["state"] == ACTIVE and len(state["scene"]) == 3)
    if late["scene"] != alice("state")["scene"]:
        raise SystemExit(f"carol has another scene: {late}, {alice('state')}")
    print("carol's scene is alice's")

    bob.process.kill()
    began = time.monotonic()
    alice.until(
        "bob and his lock are gone",
        lambda state: state["scene"][lamp][2] == "COMMON" and "bob" not in state["users"],
    )
    if time.monotonic() - began > 2:
        raise SystemExit("it took too long to notice that bob is gone")

    alice("rm", mesh)
    carol.until("carol sees the removal", lambda state: mesh not in state["scene"])
    alice("kick", "carol")
    carol.until("carol is out", lambda state: state["ended"])
finally:
    for user in users:
        user.process.kill()

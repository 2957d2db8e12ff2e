"""Users of a collaborative session, each with an original client in a process of its own, and what they go
through whatever generation the client is of. The session's server password is `pw`, its admin password `adm`.
Prints the names of what was seen; exits 1 where something was not.
"""
import json
import os
import subprocess
import time

LOBBY, ACTIVE = 10, 2

users = []


class User:
    def __init__(self, name, command):
        self.name = name
        # A client may have a helper process, which goes with the group.
        self.process = subprocess.Popen(
            command, start_new_session=True,
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


def beside(name):
    """The path of another program of this folder."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), name)


def bring(alice):
    """alice has a cube and a lamp, and nobody else has yet."""
    alice.until("alice waits in the lobby", lambda state: state["state"] == LOBBY)
    return alice("add", "cube")["uuid"], alice("add", "lamp")["uuid"]


def share(alice, bob, cube, lamp):
    """alice gives her scene, and both change it. Gives what bob has made."""
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
    return mesh


def join(alice, late, count):
    """Somebody comes late and gets all that alice has."""
    state = late.until(
        f"{late.name} has the scene",
        lambda state: state["state"] == ACTIVE and len(state["scene"]) == count,
    )
    if state["scene"] != alice("state")["scene"]:
        raise SystemExit(f"{late.name} has another scene: {state}, {alice('state')}")
    print(f"{late.name}'s scene is alice's")


def lose(alice, bob, lamp):
    """bob's machine dies, and his lock with it."""
    bob.kill()
    began = time.monotonic()
    alice.until(
        "bob and his lock are gone",
        lambda state: state["scene"][lamp][2] == "COMMON" and "bob" not in state["users"],
    )
    if time.monotonic() - began > 2:
        raise SystemExit("it took too long to notice that bob is gone")

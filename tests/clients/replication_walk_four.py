"""Users of a collaborative session with the original client 0.1.26 go through all that it can.

    replication_walk_four.py PORT CLIENT IPC_PORT...

CLIENT is the Python of the environment that `replication` is in; each of six users takes an IPC_PORT.
"""
import sys
import time

from walking import ACTIVE, LOBBY, User, beside, bring, join, lose, share, users

port, python = sys.argv[1:3]
ipc_ports = sys.argv[3:]


def come(name, password):
    return User(name, [python, beside("replication_peer_four.py"), port, name, password, ipc_ports.pop()])


try:
    for name, password in [("eve", "wrong"), ("eve", "")]:
        eve = come(name, password)
        eve.until("eve is refused", lambda state: state["ended"] == [" wrong password"])
        eve.kill()
    alice = come("alice", "adm")
    cube, lamp = bring(alice)
    bob = come("bob", "pw")
    bob.until("bob waits in the lobby", lambda state: state["state"] == LOBBY)
    alice.until("alice alone is an administrator",
                lambda state: set(state["users"]) == {"alice", "bob"} and state["admins"] == ["alice"])
    mesh = share(alice, bob, cube, lamp)
    bob("move", cube, 9)
    alice.until("alice sees bob's move", lambda state: state["scene"][cube][1] == [9, 0, 0])
    carol = come("carol", "pw")
    join(alice, carol, 3)
    carol("lock", mesh)
    alice.until("alice sees carol's lock", lambda state: state["scene"][mesh][2] == "carol")
    carol("unlock", mesh)
    alice.until("alice sees it end", lambda state: state["scene"][mesh][2] == "COMMON")
    lose(alice, bob, lamp)
    alice("rm", mesh)
    carol.until("carol sees the removal", lambda state: mesh not in state["scene"])
    # Nobody has said anything for longer than a client's patience but the servers' signs of life.
    time.sleep(7)
    carol.until("carol is still there", lambda state: state["state"] == ACTIVE and not state["ended"])
    dora = come("dora", "pw")
    join(alice, dora, 2)
    dora("leave")
    alice.until("dora has left", lambda state: "dora" not in state["users"])
    alice("kick", "carol")
    carol.until("carol is out", lambda state: state["ended"] == ["kicked by admin"])
finally:
    for user in users:
        user.kill()

"""Three users of a collaborative session, each with the original client, go through all that it can.

    replication_walk.py PORT CLIENT CLIENT CLIENT

A CLIENT is the Python of the environment that the user's `replication` is in.
"""
import sys

from walking import LOBBY, User, beside, bring, join, lose, share, users

port, first, second, third = sys.argv[1:5]


def come(python, name, admin_password=""):
    return User(name, [python, beside("replication_peer.py"), port, name, "pw", admin_password])


try:
    alice = come(first, "alice", "adm")
    cube, lamp = bring(alice)
    bob = come(second, "bob")
    bob.until("bob waits in the lobby", lambda state: state["state"] == LOBBY)
    mesh = share(alice, bob, cube, lamp)
    carol = come(third, "carol")
    join(alice, carol, 3)
    lose(alice, bob, lamp)
    alice("rm", mesh)
    carol.until("carol sees the removal", lambda state: mesh not in state["scene"])
    alice("kick", "carol")
    carol.until("carol is out", lambda state: state["ended"])
finally:
    for user in users:
        user.kill()

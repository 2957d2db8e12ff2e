"""Users of a collaborative session, with the `replication` package 0.1.26 of the environment it runs in.

    replication_peer_four.py PORT NAME PASSWORD IPC_PORT

The package needs a port of this computer for itself. Obeys lines on its standard input and answers each with
one line of JSON, as replication_peer.py does:
    init | add NAME | move UUID X | lock UUID | unlock UUID | rm UUID | kick USER | meta KEY VALUE | state | leave
"""
import json, sys, threading, time

from replication.data import ReplicatedDataFactory, ReplicatedDatablock
from replication.interface import session


class Thing:
    def __init__(self, name):
        self.name = name
        self.place = [0.0, 0.0, 0.0]


class ThingLink(ReplicatedDatablock):
    def _construct(self, data=None):
        return Thing(data["name"])

    def _dump(self, instance=None):
        return {"name": instance.name, "place": list(instance.place)}

    def _load(self, data=None, target=None):
        target.name = data["name"]
        target.place = list(data["place"])

    def resolve(self):
        self.instance = self._construct(self.data)


port, name, password, ipc_port = sys.argv[1:5]
factory = ReplicatedDataFactory()
factory.register_type(Thing, ThingLink)
session.configure(factory=factory)


def answer(**what):
    print(json.dumps(what), flush=True)


ended = []


@session.register("on_exit")
def on_exit(reason="none"):
    ended.append(str(reason))


session.connect(id=name, address="127.0.0.1", port=int(port), ipc_port=int(ipc_port), timeout=5000,
                password=password or None)


def scene():
    things = {}
    for uuid in session.list():
        node = session.get(uuid=uuid)
        if node.data is None:
            continue
        things[uuid] = [node.data["name"], node.data["place"], node.owner, node.dependencies or []]
    return things


def obey(order):
    if order[0] == "init":
        session.init()
    elif order[0] == "add":
        uuid = session.add(Thing(order[1]))
        # What is there before the scene is given must not be committed: the library does that itself.
        if session.state["STATE"] == 2:
            session.commit(uuid)
            session.push(uuid)
        return {"uuid": uuid}
    elif order[0] == "move":
        node = session.get(uuid=order[1])
        if node.instance is None:
            node.apply()
        node.instance.place = [float(order[2]), 0.0, 0.0]
        node.has_changed()
        session.commit(order[1])
        session.push(order[1])
    elif order[0] in ("lock", "unlock"):
        session.change_owner(order[1], name if order[0] == "lock" else "COMMON")
    elif order[0] == "rm":
        session.remove(order[1])
    elif order[0] == "kick":
        session.kick(order[1])
    elif order[0] == "meta":
        session.update_user_metadata({order[1]: order[2]})
    elif order[0] == "state":
        users = {user: entry.get("metadata") for user, entry in dict(session.online_users).items()}
        admins = [user for user, entry in dict(session.online_users).items() if entry.get("admin")]
        return {"state": session.state["STATE"], "scene": scene(), "users": users, "admins": admins,
                "ended": ended}
    elif order[0] == "leave":
        session.disconnect()
        answer(left=True)
        sys.exit(0)
    return {}


for line in sys.stdin:
    try:
        answer(**obey(line.split()))
    except SystemExit:
        raise
    except Exception as error:
        answer(error=repr(error))

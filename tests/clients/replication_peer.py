"""Users of a collaborative session, with the `replication` package of the environment it runs in.

    replication_peer.py PORT NAME SERVER_PASSWORD ADMIN_PASSWORD

Obeys lines on its standard input and answers each with one line of JSON:
    init | add NAME | move UUID X | rename UUID NAME | lock UUID | unlock UUID | rm UUID |
    kick USER | meta KEY VALUE | state | leave
"""
import json, sys, threading, time, queue

from replication.protocol import DataTranslationProtocol, ReplicatedDatablock
from replication.repository import Repository
from replication.interface import session
from replication import porcelain

class Thing:
    def __init__(self, name):
        self.uuid = None
        self.name = name
        self.place = [0.0, 0.0, 0.0]

WORLD = {}

class ThingLink(ReplicatedDatablock):
    use_delta = True

    @staticmethod
    def construct(data):
        thing = Thing(data["name"])
        WORLD[data.get("uuid")] = thing
        return thing

    @staticmethod
    def dump(thing):
        return {"name": thing.name, "place": list(thing.place)}

    @staticmethod
    def load(data, thing):
        thing.name = data["name"]
        thing.place = list(data["place"])

    @staticmethod
    def resolve(data):
        return WORLD.get(data.get("uuid"))

    @staticmethod
    def resolve_deps(thing):
        return []

    @staticmethod
    def needs_update(thing, data):
        return True

port, name, server_password, admin_password = sys.argv[1:5]
protocol = DataTranslationProtocol()
protocol.register_implementation(Thing, ThingLink)
repository = Repository(rdp=protocol, username=name)
porcelain.remote_add(repository, "origin", "127.0.0.1", int(port),
                     server_password=server_password, admin_password=admin_password or None)

def answer(**what):
    print(json.dumps(what), flush=True)

ended = []
@session.register("on_exit")
def on_exit(reason="none"):
    ended.append(str(reason))

session.connect(repository, "origin", timeout=5000, server_password=server_password,
                admin_password=admin_password or None)

def scene():
    things = {}
    for uuid in list(repository.graph.keys()):
        node = repository.graph.get(uuid)
        data = dict(node.data)
        things[uuid] = [data.get("name"), data.get("place"), node.owner]
    return things

lines = queue.Queue()
def read():
    for line in sys.stdin:
        lines.put(line.split())
    lines.put(["leave"])
threading.Thread(target=read, daemon=True).start()

def obey(order):
    if order[0] == "init":
        session.init()
    elif order[0] == "add":
        thing = Thing(order[1])
        uuid = porcelain.add(repository, thing)
        porcelain.commit(repository, uuid)
        if session.state == 2:
            porcelain.push(repository, "origin", uuid)
        WORLD[uuid] = thing
        return {"uuid": uuid}
    elif order[0] in ("move", "rename"):
        node = repository.graph.get(order[1])
        if node.instance is None:
            node.instance = Thing("")
            ThingLink.load(node.data, node.instance)
        if order[0] == "move":
            node.instance.place = [float(order[2]), 0.0, 0.0]
        else:
            node.instance.name = order[2]
        porcelain.commit(repository, order[1])
        porcelain.push(repository, "origin", order[1])
    elif order[0] == "lock":
        porcelain.lock(repository, [order[1]])
    elif order[0] == "unlock":
        porcelain.unlock(repository, [order[1]])
    elif order[0] == "rm":
        porcelain.rm(repository, order[1])
    elif order[0] == "kick":
        porcelain.kick(repository, order[1])
    elif order[0] == "meta":
        porcelain.update_user_metadata(repository, {order[1]: order[2]})
    elif order[0] == "state":
        users = {user: entry.get("metadata") for user, entry in session.online_users.items()}
        return {"state": int(session.state), "scene": scene(), "users": users, "ended": ended}
    elif order[0] == "leave":
        session.disconnect()
        answer(left=True)
        sys.exit(0)
    return {}

while True:
    try:
        session.listen()
    except Exception as error:
        if not ended:
            ended.append(repr(error))
    try:
        order = lines.get(timeout=0.005)
    except queue.Empty:
        continue
    try:
        answer(**obey(order))
    except SystemExit:
        raise
    except Exception as error:
        answer(error=repr(error))

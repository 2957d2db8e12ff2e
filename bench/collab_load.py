#!/usr/bin/env python3
"""Load driver for a multi-user (replication) session server. Stdlib only.
Speaks all three wire generations itself (own ZMTP 3.x client, no libzmq), so the same program can be
pointed at the original server or at ringside.

  --gen zmq3   replication 0.1.33..0.9.11  : 3 ports P,P+1,P+2  (set --version to the server's, e.g. 0.9.11)
  --gen tcp1   replication 0.9.12..0.10.3  : 1 port             (0.10.2 and 0.10.3 both say version 0.10.2)
  --gen zmq4   replication 0.0.x..0.1.31   : 4 ports P..P+3     (0.1.26 is what add-on 0.3.0 pins)

Examples
  driver.py --gen zmq3 --version 0.9.11 --port 5555 --clients 10 --mode max  --kind node   --seconds 5 --pid 1234
  driver.py --gen zmq3 --version 0.9.11 --port 5555 --clients 10 --mode rate --rate 100 --kind commit --seconds 5
Prints one JSON line."""
import argparse, json, os, pickle, random, selectors, socket, struct, sys, time, uuid
ap = argparse.ArgumentParser()
ap.add_argument('--gen', default='zmq3', choices=['zmq3', 'tcp1', 'zmq4']); ap.add_argument('--version', default='0.9.11')
ap.add_argument('--host', default='127.0.0.1'); ap.add_argument('--port', type=int, default=5555)
ap.add_argument('--clients', type=int, default=2); ap.add_argument('--mode', default='max', choices=['max', 'rate', 'snapshot', 'stall'])
ap.add_argument('--rate', type=float, default=100); ap.add_argument('--window', type=int, default=32)
ap.add_argument('--kind', default='node', choices=['node', 'commit', 'metadata']); ap.add_argument('--blob', type=int, default=1024)
ap.add_argument('--seconds', type=float, default=5); ap.add_argument('--nodes', type=int, default=4)
ap.add_argument('--count', type=int, default=5000, help='stall mode: messages sent while receivers do not read their data socket')
ap.add_argument('--spwd', default='pw'); ap.add_argument('--apwd', default='adm'); ap.add_argument('--pid', type=int)
a = ap.parse_args()
D4 = lambda o: pickle.dumps(o, protocol=4)
COMMIT, NODE, SNAPSHOT, SRVSNAP, AUTH, META = 1, 2, 7, 8, 9, 13
N4 = {SNAPSHOT: 'RepSnapshotCommand', SRVSNAP: 'RepServerSnapshotCommand', AUTH: 'RepAuthCommand', META: 'RepUpdateUserMetadata'}
R4 = {v: k for k, v in N4.items()}
sel = selectors.EpollSelector()

class Conn:
    def __init__(s, port, on, first):
        s.sock = socket.create_connection((a.host, port), timeout=5); s.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.sock.sendall(first); s.sock.setblocking(False); s.buf = bytearray(); s.out = bytearray(); s.on = on
        sel.register(s.sock, selectors.EVENT_READ, s); s.w = False
    def write(s, b):
        if not s.out:
            try: n = s.sock.send(b)
            except BlockingIOError: n = 0
            if n == len(b): return
            s.out += b[n:]
        else: s.out += b
        s.flags()
    def flags(s):
        w = bool(s.out)
        if w != s.w: s.w = w; sel.modify(s.sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if w else 0), s)
    def ready(s, ev):
        if ev & selectors.EVENT_WRITE and s.out:
            try: n = s.sock.send(s.out)
            except BlockingIOError: n = 0
            del s.out[:n]; s.flags()
        if ev & selectors.EVENT_READ:
            try: b = s.sock.recv(1 << 18)
            except BlockingIOError: return
            if not b: sel.unregister(s.sock); s.sock.close(); s.on(None); return
            s.buf += b; s.parse()
class Zmtp(Conn):
    def __init__(s, port, on, ident, typ):
        g = b'\xff' + struct.pack('>Q', 1) + b'\x7f\x03\x00' + b'NULL'.ljust(20, b'\0') + b'\0' * 32
        body = b'\x05READY\x0bSocket-Type' + struct.pack('>I', len(typ)) + typ + b'\x08Identity' + struct.pack('>I', len(ident)) + ident
        s.greet = True; s.parts = []; s.rdy = False; s.held = bytearray()   # traffic must wait for the peer's READY: libzmq drops a peer that sends a message before
        super().__init__(port, on, g + b'\x04' + bytes([len(body)]) + body)
    def send(s, parts):
        o = bytearray()
        for i, p in enumerate(parts):
            f = 1 if i < len(parts) - 1 else 0
            o += (bytes([f | 2]) + struct.pack('>Q', len(p))) if len(p) > 255 else bytes([f, len(p)])
            o += p
        if s.rdy: s.write(o)
        else: s.held += o
    def parse(s):
        b = s.buf; p = 0; n = len(b)
        if s.greet:
            if n < 64: return
            p = 64; s.greet = False
        while p + 2 <= n:
            f = b[p]
            if f & 2:
                if p + 9 > n: break
                l = int.from_bytes(b[p+1:p+9], 'big'); h = 9
            else: l = b[p+1]; h = 2
            if p + h + l > n: break
            body = bytes(b[p+h:p+h+l]); p += h + l
            if f & 4:
                if body[:6] == b'\x05READY' and not s.rdy:
                    s.rdy = True; h, s.held = s.held, bytearray()
                    if h: s.write(h)
                if body[:5] == b'\x04PING': s.write(b'\x04' + bytes([5 + len(body) - 7]) + b'\x04PONG' + body[7:])
                continue
            s.parts.append(body)
            if not f & 1: m = s.parts; s.parts = []; s.on(m)
        del b[:p]
class Tcp1(Conn):
    def __init__(s, port, on, ident, role):
        super().__init__(port, on, struct.pack('>I', len(ident)) + ident + role)
    def send(s, parts): s.write(struct.pack('>I', len(parts)) + b''.join(struct.pack('>I', len(p)) + p for p in parts))
    def parse(s):
        b = s.buf; p = 0; n = len(b)
        while p + 4 <= n:
            c = int.from_bytes(b[p:p+4], 'big'); q = p + 4; m = []
            for _ in range(c):
                if q + 4 > n: break
                l = int.from_bytes(b[q:q+4], 'big')
                if q + 4 + l > n: break
                m.append(bytes(b[q+4:q+4+l])); q += 4 + l
            if len(m) < c: break
            p = q; s.on(m)
        del b[:p]

lat = []; now = time.monotonic
class Client:
    def __init__(s, i):
        s.i = i; s.name = f'user{i:03d}'; s.id = uuid.uuid4().bytes; s.state = 'auth'; s.got = 0; s.bytes = 0; s.nodes = {}; s.snap = None; s.hdr = None; s.metas = 0; s.dead = None
        P = a.port
        if a.gen == 'tcp1':
            s.cmd = Tcp1(P, s.on_cmd, s.id, b'C'); s.data = s.pub = Tcp1(P, s.on_data, s.id, b'D'); s.ttl = Tcp1(P, s.on_ttl, s.id, b'T')
        elif a.gen == 'zmq3':
            s.cmd = Zmtp(P, s.on_cmd, s.id, b'DEALER'); s.data = s.pub = Zmtp(P+1, s.on_data, s.id, b'DEALER'); s.ttl = Zmtp(P+2, s.on_ttl, s.id, b'DEALER')
        else:
            s.cmd = Zmtp(P, s.on_cmd, s.id, b'DEALER'); s.data = Zmtp(P+1, s.on_data, s.id, b'DEALER'); s.pub = Zmtp(P+2, lambda m: None, s.id, b'PUSH'); s.ttl = Zmtp(P+3, s.on_ttl, s.id, b'DEALER')
        s.ttl.send([b'INIT'])
        ad = i == 0
        if a.gen == 'zmq4': s.send(AUTH, {'AUTH_TYPE': 'ADMIN' if ad else 'CLIENT', 'AUTH_ID': s.name, 'PWD': a.apwd if ad else None, 'VERSION': a.version})
        else: s.send(AUTH, {'AUTH_TYPE': 'ADMIN' if ad else 'CLIENT', 'AUTH_ID': s.name, 'S_PWD': a.spwd, 'A_PWD': a.apwd if ad else None, 'VERSION': a.version})
    def send(s, t, data, owner=None):
        o = (owner or s.name).encode()
        s.cmd.send([o, N4[t].encode(), D4(data)] if a.gen == 'zmq4' else [D4(t), o, D4(data)])
    def on_ttl(s, m):
        if m is None: return
        s.ttl.send([b'PONG'])
    def on_cmd(s, m):
        if m is None: s.dead = 'cmd closed'; return
        if a.gen == 'zmq4': t = R4.get(m[1].decode()); raw = m[2]
        else: t = pickle.loads(m[0]); raw = m[2]
        if t == META:
            k = raw.find(b'TS64')
            if k >= 0 and s.i: lat.append(now() - struct.unpack('>d', raw[k+4:k+12])[0]); s.got += 1; s.bytes += len(raw)
            return
        if t not in (AUTH, SNAPSHOT, SRVSNAP): 
            s.metas += 1
            if a.gen == 'zmq4' and b'TS64' in raw and s.i: k = raw.find(b'TS64'); lat.append(now() - struct.unpack('>d', raw[k+4:k+12])[0]); s.got += 1
            return
        d = pickle.loads(raw)
        if t == AUTH:
            if 'FAILED' in d: s.dead = d
            elif 'RUNNING' in d: s.state = 'lobby'; s.t0 = now(); s.send(SNAPSHOT, {'STATE': 'REQUEST_INIT'})
            else: s.state = 'lobby'; s.t0 = now()
        elif t == SNAPSHOT:
            if d['STATE'] == 'INIT': s.cat = d['CATALOG']; s.state = 'sync'; s.next()
            elif d['STATE'] == 'SET':
                if d['DATA'] != b'removed': s.nodes[d['DATA'][1]] = d['DATA']; s.bytes += sum(map(len, d['DATA']))
                s.next()
        elif t == SRVSNAP:
            if d['STATE'] == 'ACCEPTED':
                for u in nodes:
                    dat = {'owner': b'COMMON', 'uuid': u.encode(), 'dependencies': D4([]), 'type': b'Thing', 'data': D4(body(u, 0.0))} if a.gen == 'zmq4' else [D4(NODE), u.encode(), b'COMMON', D4([]), D4(body(u, 0.0))]
                    s.send(SRVSNAP, {'STATE': 'SET', 'DATA': dat}, 'server')
                s.send(SRVSNAP, {'STATE': 'END'}, 'server')
            elif d['STATE'] == 'DONE': s.state = 'active'
            else: s.dead = d
    def next(s):
        if s.cat: s.cur = s.cat.pop(); s.send(SNAPSHOT, {'STATE': 'GET', 'ID': s.cur})
        else: s.send(SNAPSHOT, {'STATE': 'DONE'}); s.state = 'active'; s.t1 = now()
    def on_data(s, m):
        if m is None: s.dead = 'data closed'; return
        if a.gen == 'zmq4':
            if s.hdr is None: s.hdr = m; return
            h, s.hdr = s.hdr, None; blob = m[0]
            if s.state == 'sync': s.nodes[h[1]] = m; s.bytes += len(blob); s.next(); return
        else: blob = m[-1]
        if not blob: return
        k = blob.find(b'TS64')
        if k >= 0:
            ts = struct.unpack('>d', blob[k+4:k+12])[0]
            if ts: lat.append(now() - ts); s.got += 1; s.bytes += sum(map(len, m))
BLOB = random.Random(1).randbytes(a.blob)
def body(u, ts):
    return {'type_id': 'Object', 'uuid': u, 'name': 'Cube.001', 'ts': b'TS64' + struct.pack('>d', ts), 'location': [1.0, 2.0, 3.0], 'scale': [1.0, 1.0, 1.0],
            'rotation_euler': [0.0, 0.1, 0.2], 'matrix': [[float(i*4+j) for j in range(4)] for i in range(4)], 'modifiers': {}, 'constraints': [], 'props': {f'p{i}': i/3 for i in range(24)}, 'mesh': BLOB}
def msg(u, ts, n):
    if a.kind == 'metadata': return None
    if a.kind == 'commit': return [D4(COMMIT), u.encode(), D4([]), D4({'values_changed': {"root['ts']": {'new_value': b'TS64' + struct.pack('>d', ts)}, "root['location'][0]": {'new_value': float(n)}, "root['location'][1]": {'new_value': n/2}, "root['location'][2]": {'new_value': n/3}}})]
    return [D4(NODE), u.encode(), b'COMMON', D4([]), D4(body(u, ts))]
def fire(n):
    u = nodes[n % len(nodes)]; ts = now()
    if a.kind == 'metadata': cl[0].send(META, {'ts': b'TS64' + struct.pack('>d', ts), 'frame_current': n, 'view_matrix': [[1.0]*4]*4, 'view_corners': [[0.5]*3]*7, 'color': (1.0, .5, .2, 1), 'scene_current': 'Scene', 'mode_current': 'OBJECT'}); return
    if a.gen == 'zmq4': cl[0].pub.send([cl[0].id, u.encode(), b'COMMON', b'Thing', D4(1), D4([])]); cl[0].pub.send([D4(body(u, ts))])
    else: cl[0].pub.send(msg(u, ts, n))
def spin(t):
    for k, ev in sel.select(t): k.data.ready(ev)
def wait(cond, t=20):
    e = now() + t
    while not cond():
        d = [c.dead for c in cl if c.dead]
        if d: sys.exit(f'client died: {d[0]}')
        if now() > e: sys.exit(f'timeout waiting; states {[c.state for c in cl]}')
        spin(.01)
def proc():
    if not a.pid: return None
    ran = sum(int(open(f'/proc/{a.pid}/task/{t}/schedstat').read().split()[0]) for t in os.listdir(f'/proc/{a.pid}/task'))
    return ran / 1e9, int(open(f'/proc/{a.pid}/statm').read().split()[1]) * 4096
nodes = [str(uuid.uuid4()) for _ in range(a.nodes)]
cl = [Client(0)]; wait(lambda: cl[0].state != 'auth')
if cl[0].state == 'lobby':
    t = now(); cl[0].send(SRVSNAP, {'STATE': 'INIT', 'SIZE': len(nodes), 'NODES': list(nodes)}, 'server'); wait(lambda: cl[0].state == 'active', 120); t_init = now() - t
joins = []; pj = proc()
for i in range(1, a.clients):
    c = Client(i); cl.append(c); wait(lambda: c.state == 'active', 120); joins.append(c.t1 - c.t0)
if pj: join_cpu_s = proc()[0] - pj[0]
for c in cl: c.got = 0; c.bytes = 0
spin(.2); lat.clear(); p0 = proc(); t0 = now(); n = 0; rx = cl[1:]
low = lambda: min((c.got for c in rx), default=0)
if a.mode == 'stall':   # slow-consumer loss test
    for c in rx: sel.unregister(c.data.sock)
    while n < a.count:
        fire(n); n += 1; spin(.002)
    spin(1); e = now() + 5
    while cl[0].pub.out and now() < e: spin(.05)
    e = now() + 3
    while now() < e: spin(.05)
    for c in rx: sel.register(c.data.sock, selectors.EVENT_READ, c.data)
    e = now() + 8
    while low() < n and now() < e: spin(.05)
elif a.mode != 'snapshot':
    while now() - t0 < a.seconds:
        if a.mode == 'max':
            while n - low() < a.window and now() - t0 < a.seconds: fire(n); n += 1
            spin(.05)
        else:
            due = t0 + n / a.rate
            if now() >= due: fire(n); n += 1
            spin(max(0, min(.005, t0 + n / a.rate - now())))
    tend = now(); e = tend + 10
    while low() < n and now() < e and not any(c.dead for c in rx): spin(.05)
t1 = now(); p1 = proc(); got = sum(c.got for c in rx); L = sorted(lat); q = lambda f: round(1e3*L[min(len(L)-1, int(f*len(L)))], 3) if L else None
out = dict(gen=a.gen, version=a.version, mode=a.mode, kind=a.kind, clients=a.clients, blob=a.blob, sent=n, delivered=got, expected=n*len(rx), wall_s=round(t1-t0, 2),
           commits_per_s=round(n/(t1-t0), 1), delivered_per_s=round(got/(t1-t0), 1), lat_ms_p50=q(.5), lat_ms_p99=q(.99), lat_ms_max=q(1), lost=n*len(rx)-got,
           join_ms_max=round(1e3*max(joins), 1) if joins else None, init_ms=round(1e3*t_init, 1) if 't_init' in globals() else None, dead=[c.dead for c in cl if c.dead][:2], load1=round(os.getloadavg()[0], 2))
if p0: out.update(join_cpu_s=round(join_cpu_s, 4), server_cpu_s=round(p1[0]-p0[0], 3), cpu_s_per_1000_delivered=round(1000*(p1[0]-p0[0])/got, 4) if got else None, server_rss_mib=round(p1[1]/2**20, 1))
print(json.dumps(out))

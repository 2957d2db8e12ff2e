"""The rows of bench/collab.sh."""
import argparse
import glob
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).parent
ROWS = (
    "nodes10 nodes50 deltas50 latency50 join2k join1m stall idle big "
    "load-nodes10 load-nodes50 load-deltas50 load-latency50 load-join2k floor-join2k load-join1m "
    "load-both50 load-four10 load-four50 load-four-join2k log-off log-written log-synced"
).split()
options = argparse.ArgumentParser()
options.add_argument("--quick", action="store_true")
options.add_argument("--raw", default="bench/collab.jsonl")
options.add_argument("--server")
options.add_argument("--load")
options.add_argument("--rows", default=" ".join(ROWS))
options = options.parse_args()
rounds, seconds = (1, 3) if options.quick else (3, 5)
wanted = options.rows.split()
cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "ringside-tests"
target = os.environ.get("CARGO_TARGET_DIR", "target")
if options.server is None or options.load is None:
    subprocess.run(["cargo", "build", "--quiet", "--release", "--workspace"], check=True)
options.server = options.server or f"{target}/release/ringside"
options.load = options.load or f"{target}/release/ringside-load"
server_cpu, client_cpu = "0", str(min(1, os.cpu_count() - 1))
PORT, CONTROL = 25600, 25610
raw = open(options.raw, "w")

# The wire of the load, and the version that it says it is.
GENERATIONS = {"0.1.26": ("zmq4", "0.1.26"), "0.9.11": ("zmq3", "0.9.11"), "0.10.3": ("tcp1", "0.10.2")}


def wait_for_ports():
    """The kernel takes the ring of a process that was killed down after the process, listeners and all."""
    for _ in range(200):
        try:
            for port in (PORT, PORT + 1, PORT + 2, PORT + 3, CONTROL):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("the ports of a server before are not free")


class Server:
    """The original in a version, or ringside for clients of that version or of later ones."""

    def __init__(self, name, version, log="off"):
        self.version = version
        wait_for_ports()
        self.dir = tempfile.TemporaryDirectory()
        if name == "original":
            command = [
                cache / f"replication-{version}/bin/python", "-m", "replication.server", "-p", str(PORT),
                "-t", "60000", "-lf", f"{self.dir.name}/log",
            ]
            # The oldest has the administrator's password only.
            command += ["-pwd", "adm"] if GENERATIONS[version][0] == "zmq4" else ["-apwd", "adm", "-spwd", "pw"]
        else:
            # The load makes its nodes on one CPU, and is silent meanwhile.
            session = {"port": PORT, "timeout_ms": 60000, "admin_password": "adm"}
            session["server_password"] = self.password()
            session["versions"] = [said for _, said in GENERATIONS.values()]
            if log != "off":
                # Beside the programs: a folder for temporary files may be memory.
                self.dir.cleanup()
                self.dir = tempfile.TemporaryDirectory(dir=pathlib.Path(options.server).parent)
                session.update(autosave=f"{self.dir.name}/scene.db", log=log)
            config = {
                "config": {"controller": {"interface": "127.0.0.1", "port": CONTROL}},
                "collab": {"interface": "127.0.0.1", "sessions": [session]},
            }
            path = pathlib.Path(self.dir.name) / "config.json"
            path.write_text(json.dumps(config))
            command = [options.server, "serve", "-c", path]
        self.process = subprocess.Popen(
            ["taskset", "-c", server_cpu, *command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=open(f"{self.dir.name}/stderr", "w"), env={**os.environ, "RUST_LOG": "warn"},
        )
        self.pid = self.process.pid
        if name == "original":
            time.sleep(1.5)
        else:
            for _ in range(100):
                try:
                    if urllib.request.urlopen(f"http://127.0.0.1:{CONTROL}/readyz").status == 200:
                        break
                except OSError:
                    time.sleep(0.05)
        if self.process.poll() is not None:
            sys.exit(pathlib.Path(f"{self.dir.name}/stderr").read_text())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def cpu(self):
        """Seconds that it has run."""
        total = 0
        for path in glob.glob(f"/proc/{self.pid}/task/*/schedstat"):
            total += int(pathlib.Path(path).read_text().split()[0])
        return total / 1e9

    def memory(self, name="VmRSS"):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) / 1024
        return 0

    def password(self):
        return "" if GENERATIONS[self.version][0] == "zmq4" else "pw"

    def load(self, *arguments, program="collab_load.py"):
        """Runs the load, and gives what it measured and what it cost here."""
        generation, version = GENERATIONS[self.version]
        command = [
            "taskset", "-c", client_cpu, sys.executable, HERE / program, "--gen", generation,
            "--version", version, "--port", str(PORT), "--pid", str(self.pid), *map(str, arguments),
        ]
        before = self.cpu()
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        if done.returncode:
            return {"failed": (done.stdout + done.stderr).strip()[-200:]}
        result = json.loads(done.stdout)
        result.update(total_cpu_s=self.cpu() - before, peak_mib=self.memory("VmHWM"))
        return result

    def measure(self, *arguments, clients=2, both=False):
        """Runs ringside-load with so many clients, of this version or half of each."""
        shares = {generation: 0 for generation in ("zmq4", "zmq3", "tcp1")}
        shares[GENERATIONS[self.version][0]] = clients
        if both:
            shares.update(zmq3=clients // 2, tcp1=clients - clients // 2)
        command = [
            options.load, "--cpu", client_cpu, "collab", "--session", f"127.0.0.1:{PORT}", "--pid", self.pid,
            "--server-password", self.password(), "--admin-password", "adm", "--generation-a", shares["zmq4"],
            "--generation-b", shares["zmq3"], "--generation-c", shares["tcp1"], *arguments,
        ]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=400)
        if not done.stdout:
            return {"failed": done.stderr.strip()[-200:]}
        result = json.loads(done.stdout)
        # What a server counted, which none is asked for here; the raw row says whose it is.
        del result["server"]
        for name in ("latency_ms", "join_ms", "get_ms"):
            result.update({f"{name}_{key}": value for key, value in result[name].items()})
        result.update(peak_mib=self.memory("VmHWM"))
        return result


def idle(server):
    time.sleep(1)
    before = server.cpu()
    time.sleep(8)
    return {"idle_percent": 100 * (server.cpu() - before) / 8}


def join(server, nodes, size):
    """Three join one after the other; the first one has given the scene."""
    result = server.load("--mode", "snapshot", "--clients", 4, "--nodes", nodes, "--blob", size)
    if "join_cpu_s" in result:
        result["us_per_get"] = 1e6 * result["join_cpu_s"] / (3 * nodes)
    return result


def window(what, server, **clients):
    return server.measure("--what", what, "--window", 32, "--seconds", seconds, **clients)


def steady(per_second, server, **clients):
    return server.measure("--rate", per_second, "--seconds", 2 * seconds, **clients)


def join_late(nodes, size, server):
    """Three join one after the other, and nobody sends anything."""
    arguments = ["--rate", 0, "--seconds", 0, "--warmup", 1, "--joins", 3, "--nodes", nodes, "--node-bytes", size]
    return server.measure(*arguments)


def bare(_):
    """What the machine asks for a request of one who waits for each answer, whoever answers."""
    command = ["taskset", "-c", server_cpu, options.load, "floor-ask", "--client-cpu", client_cpu]
    result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {"cpu_us_per_get": result["cpu_us_per_request"]}


def rate(kind, clients, server):
    return server.load("--mode", "max", "--kind", kind, "--clients", clients, "--seconds", seconds)


RUNS = {
    "nodes10": lambda server: rate("node", 10, server),
    "nodes50": lambda server: rate("node", 50, server),
    "deltas50": lambda server: rate("commit", 50, server),
    "latency50": lambda server: server.load(
        "--mode", "rate", "--rate", 50, "--kind", "commit", "--clients", 50, "--seconds", 2 * seconds),
    "join2k": lambda server: join(server, 1000, 2048),
    "join1m": lambda server: join(server, 200, 1 << 20),
    "stall": lambda server: server.load(
        "--mode", "stall", "--clients", 2, "--count", 5000, "--blob", 8192, "--kind", "node"),
    "idle": idle,
    "big": lambda server: server.load("--mib", 500, program="collab_big.py"),
    "load-nodes10": lambda server: window("node", server, clients=10),
    "load-nodes50": lambda server: window("node", server, clients=50),
    "load-deltas50": lambda server: window("change", server, clients=50),
    "load-latency50": lambda server: steady(50, server, clients=50),
    "load-join2k": lambda server: join_late(1000, 2048, server),
    "floor-join2k": bare,
    "load-join1m": lambda server: join_late(200, 1 << 20, server),
    "load-both50": lambda server: window("change", server, clients=50, both=True),
    "load-four10": lambda server: window("node", server, clients=10),
    "load-four50": lambda server: window("node", server, clients=50),
    "load-four-join2k": lambda server: join_late(1000, 2048, server),
    # What a log costs: the same changes at the same rate, without one and with either.
    "log-off": lambda server: steady(2000, server, clients=10, both=True),
    "log-written": lambda server: steady(2000, server, clients=10, both=True),
    "log-synced": lambda server: steady(2000, server, clients=10, both=True),
}
# Of these the original has none.
OURS = {"floor-join2k": "off", "load-both50": "off", "log-off": "off", "log-written": "written", "log-synced": "synced"}
LOAD = ["cpu_s_per_1000_delivered", "delivered_s", "latency_ms_p50", "latency_ms_p99", "latency_ms_p999", "lost"]
LATE = ["join_ms_max", "cpu_us_per_get", "get_ms_p50", "peak_mib"]
COLUMNS = {
    "nodes10": ["cpu_s_per_1000_delivered", "delivered_per_s", "lost"],
    "nodes50": ["cpu_s_per_1000_delivered", "delivered_per_s", "lost"],
    "deltas50": ["delivered_per_s", "cpu_s_per_1000_delivered", "lost"],
    "latency50": ["lat_ms_p50", "lat_ms_p99", "lost"],
    "join2k": ["join_ms_max", "us_per_get", "peak_mib"],
    "join1m": ["join_ms_max", "us_per_get", "peak_mib"],
    "stall": ["delivered", "lost", "peak_mib"],
    "idle": ["idle_percent"],
    "big": ["p99_ms_receiving", "p99_ms_sending", "arrived", "peak_mib"],
    "floor-join2k": ["cpu_us_per_get"],
    **{row: LATE if "join" in row else LOAD for row in ROWS if row.startswith(("load-", "log-"))},
}
unknown = set(wanted) - set(ROWS)
if unknown:
    sys.exit(f"no such rows: {sorted(unknown)}; there are {ROWS}")



def versions(row):
    """Whose clients a row has."""
    if row.startswith("load-four"):
        return ["0.1.26"]
    return ["0.9.11"] if row in OURS else ["0.9.11", "0.10.3"]


shown = [version for version in GENERATIONS if any(version in versions(row) for row in wanted)]
print("| row | quantity | " + " | ".join(
    f"{name} {version}" for version in shown for name in ("original", "ringside")) + " |")
print("|---|---|" + "---|" * 2 * len(shown))
for row in wanted:
    results = {}
    for number in range(1 if row in ("idle", "big", "stall") else rounds):
        for version in versions(row):
            for name in ("original", "ringside") if row not in OURS else ["ringside"]:
                with Server(name, version, OURS.get(row, "off")) as server:
                    result = RUNS[row](server)
                raw.write(json.dumps({"row": row, "server": name, "client": version, **result}) + "\n")
                raw.flush()
                results.setdefault((version, name), []).append(result)
    for column in COLUMNS[row]:
        cells = []
        for version in shown:
            for name in ("original", "ringside"):
                found = results.get((version, name))
                values = [r[column] for r in found or [] if r.get(column) is not None]
                missing = "failed" if found else ""
                cells.append(f"{statistics.median(values):.5g}" if values else missing)
        print(f"| {row} | {column} | " + " | ".join(cells) + " |", flush=True)

#!/usr/bin/env python3
"""Replaces two Larders behind HAProxy again and again while 50 clients with real pools (sqlx, psycopg_pool) work.

Four parts, each with its own clients:
  renew  pools whose connections live shorter than the pause before SIGTERM: nothing may fail
  keep   pools that keep their connections, and try them before use: what fails must not have begun
  kill   kill -9: only what was under way may fail, and every client must be served again within a second
  age    Larders with drain.client_max_age, pools that keep: connections move to a Larder that has come later

    deploy/tests/rolling.py [--rounds 20] [--larder FILE] [--pools FILE] [PART ...]

The balancer is deploy/haproxy/haproxy.cfg with other addresses. `make rolling` builds and fetches what is needed.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(__file__))
from servers import Origin, cache_folder, find, free_ports, missing  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 60  # seconds for any one thing; a loaded machine is slow
LIFETIME = 5  # of a pooled connection, in seconds, where it is limited
PAUSE = 15  # between the removal from the balancer and SIGTERM: longer, by what work on a connection can take (as in the chart)
CLIENTS = 25  # of each pool
AGE = 10  # drain.client_max_age


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    arguments.add_argument("--rounds", type=int, default=20, help="how often both Larders are replaced")
    arguments.add_argument("--larder", default=str(target / "debug/larder"))
    arguments.add_argument("--pools", default=str(target / "debug/larder-example-pools"))
    arguments.add_argument("--within", type=float, default=1, help="seconds in which every client is served again after a kill (on a machine that is busy otherwise: more)")
    arguments.add_argument("parts", nargs="*", metavar="PART", help=" ".join(PARTS))
    arguments = arguments.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        sys.exit(f"no such part: {' '.join(unknown)} (there are {' '.join(PARTS)})")
    if lacks := missing("haproxy"):
        sys.exit(f"missing: {lacks} (Debian, Ubuntu: apt-get install haproxy)")
    # So that it stops what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with tempfile.TemporaryDirectory(prefix="larder-rolling-") as folder:
        os.chmod(folder, 0o755)
        with Origin(pathlib.Path(folder)) as origin:
            origin.sql("CREATE TABLE log (id int)")
            origin.sql("CREATE TABLE t AS SELECT i AS id, i * 10 AS v FROM generate_series(0, 99) i")
            origin.sql("ALTER TABLE t ADD PRIMARY KEY (id)")
            wrong = [fault for part in arguments.parts or PARTS for fault in PARTS[part](Stage(folder, origin, arguments))]
    print(f"load average at the end: {os.getloadavg()[0]:.1f}, on {os.cpu_count()} processors")
    if wrong:
        sys.exit("\n".join(["FAILED", *wrong]))
    print("ok")


# ---- the parts: each returns what is wrong -------------------------------------------------------------------------------


def renew(stage):
    with stage.fleet(), stage.pools(lifetime=LIFETIME) as pools:
        left = [stage.replace(name, PAUSE) for _ in range(stage.rounds) for name in ("larder-1", "larder-2")]
        done = pools.stop()
    report(f"renew: both replaced {stage.rounds} times", done)
    print(f"    connections left at SIGTERM: {sum(clients for clients, _ in left)}; "
          f"from SIGTERM to the end: {milliseconds([ended for _, ended in left])}")
    return [f"renew: {what}" for what in done.failures]


def keep(stage):
    with stage.fleet(), stage.pools(lifetime=0) as pools:
        left = [stage.replace(name, 0.5) for _ in range(stage.rounds) for name in ("larder-1", "larder-2")]
        done = pools.stop()
    report(f"keep: both replaced {stage.rounds} times", done)
    print(f"    connections closed at SIGTERM: {sum(clients for clients, _ in left)}; "
          f"from SIGTERM to the end: {milliseconds([ended for _, ended in left])}")
    return [f"keep: a transaction was cut: {what}" for what in done.failures if what["begun"]]


def kill(stage):
    wrong = []
    with stage.fleet(), stage.pools(lifetime=0) as pools:
        kills = []
        for turn in range(max(2, stage.rounds // 2)):
            name = f"larder-{turn % 2 + 1}"
            time.sleep(1)
            at = time.time()
            stage.larders[name].kill()
            stage.larders[name].wait()
            kills.append((at, time.time()))
            time.sleep(2)
            stage.start(name)
            stage.until_up(name)
        done = pools.stop()
    report(f"kill: kill -9, {len(kills)} times", done)
    for failure in done.failures:
        # Under way when it happened: asked before, or in the moment in which the connection was still open.
        if not any(failure["from"] <= gone + 0.05 and failure["to"] >= at for at, gone in kills):
            wrong.append(f"kill: not under way at a kill: {failure}")
    after = [gap["gap_ms"] for gap in done.gaps if any(at <= gap["to"] <= gone + 2 for at, gone in kills)]
    print(f"    clients that were not served for longer than 250 ms after a kill: {len(after)}, at most {max(after, default=0)} ms")
    late = [gap for gap in after if gap > stage.within * 1000]
    return wrong + ([f"kill: {len(late)} clients were not served for longer than {stage.within} s"] if late else [])


def age(stage):
    with stage.fleet(only="larder-1", client_max_age=AGE), stage.pools(lifetime=0) as pools:
        time.sleep(AGE * 1.5)
        before = stage.clients("larder-1")
        stage.start("larder-2", client_max_age=AGE)
        time.sleep(AGE * 2.5)
        after = stage.clients("larder-1"), stage.clients("larder-2")
        done = pools.stop()
    report(f"age: client_max_age {AGE} s, one Larder, then two", done)
    print(f"    connections: {before}, then {after[0]} and {after[1]}; {done.closed} were closed for their age")
    wrong = [f"age: a transaction was cut: {what}" for what in done.failures if what["begun"]]
    if min(after) < 2 * CLIENTS // 4:
        wrong.append(f"age: clients did not move: {after}")
    return wrong


PARTS = {"renew": renew, "keep": keep, "kill": kill, "age": age}


def report(title, done):
    print(f"{title}\n    {done.reads} reads, {done.transactions} transactions; {len(done.failures)} failed; "
          f"longest without service: {done.longest_gap} ms", flush=True)
    for failure in done.failures[:5]:
        print(f"        {failure}")


def milliseconds(times):
    return f"median {statistics.median(times) * 1000:.0f} ms, at most {max(times) * 1000:.0f} ms"


# ---- the programs --------------------------------------------------------------------------------------------------------


class Stage:
    """The balancer, and the Larders behind it."""

    def __init__(self, folder, origin, arguments):
        self.folder, self.origin, self.rounds = pathlib.Path(folder), origin, arguments.rounds
        self.within = arguments.within
        self.programs = {"larder": arguments.larder, "pools": arguments.pools}
        self.larders, self.balancer = {}, None
        names = ["front", *(f"larder-{at} {what}" for at in (1, 2) for what in ("clients", "admin"))]
        self.ports = dict(zip(names, free_ports(len(names))))
        self.socket = self.folder / "haproxy.sock"
        self.only, self.client_max_age = None, 0

    def fleet(self, only=None, client_max_age=0):
        self.only, self.client_max_age = only, client_max_age
        return self

    def __enter__(self):
        for name in [self.only] if self.only else ["larder-1", "larder-2"]:
            self.start(name, self.client_max_age)
        self.balance()
        return self

    def __exit__(self, *_):
        for process in [*self.larders.values(), *filter(None, [self.balancer])]:
            process.terminate()
            process.wait(LIMIT)

    def balance(self):
        text = (ROOT / "deploy/haproxy/haproxy.cfg").read_text()
        text = text.replace("/run/haproxy/admin.sock", str(self.socket)).replace("127.0.0.1:6432", f"127.0.0.1:{self.ports['front']}")
        for name in ("larder-1", "larder-2"):
            clients, admin = self.ports[f"{name} clients"], self.ports[f"{name} admin"]
            text = text.replace(f"{name}.example:6433 check port 6434", f"127.0.0.1:{clients} check port {admin}")
        assert ".example" not in text
        file = self.folder / "haproxy.cfg"
        file.write_text(text)
        with open(self.folder / "haproxy.log", "ab") as log:
            self.balancer = subprocess.Popen([find("haproxy"), "-db", "-f", file], stdout=log, stderr=log)
        until("the balancer knows a Larder", lambda: "UP" in self.command("show stat"))

    def command(self, text):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(LIMIT)
            connection.connect(str(self.socket))
            connection.sendall(text.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def start(self, name, client_max_age=0):
        command = [
            self.programs["larder"], "serve", "--origin", self.origin.url, "--listen", f"127.0.0.1:{self.ports[name + ' clients']}",
            "--admin", f"127.0.0.1:{self.ports[name + ' admin']}", "--set", f"drain.client_max_age={client_max_age}s",
            "--log-level", "info,larder_proxy=debug"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("LARDER_", "PG"))}
        with open(self.folder / f"{name}.log", "ab") as log:
            self.larders[name] = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(f"{name} is ready", lambda: self.get(name, "/readyz"))

    def get(self, name, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name + ' admin']}{path}", timeout=5) as answer:
            return answer.read().decode()

    def clients(self, name):
        return json.loads(self.get(name, "/api/v1/status"))["clients"]

    def replace(self, name, pause):
        """As the guide says. Returns the clients that were left at SIGTERM, and the seconds from there to the end."""
        self.command(f"set server postgresql/{name} state drain")
        time.sleep(pause)
        left, since = self.clients(name), time.monotonic()
        self.larders[name].send_signal(signal.SIGTERM)
        if status := self.larders[name].wait(LIMIT):
            sys.exit(f"error: {name} ended with {status}: see {self.folder}")
        ended = time.monotonic() - since
        self.start(name)
        self.command(f"set server postgresql/{name} state ready")
        self.until_up(name)
        return left, ended

    def until_up(self, name):
        """New connections are given to it."""
        up = re.compile(rf"^postgresql,{name},.*,UP,", re.M)
        until(f"{name} is back", lambda: up.search(self.command("show stat")))

    def pools(self, lifetime):
        url = f"postgres://postgres@127.0.0.1:{self.ports['front']}/postgres"
        options = ["--url", url, "--clients", str(CLIENTS), "--max-lifetime", str(lifetime)]
        logs = [self.folder / f"{name}.log" for name in ("larder-1", "larder-2")]
        return Pools([[self.programs["pools"], *options], [sys.executable, ROOT / "examples/pools/pool.py", *options]], logs)


class Pools:
    """The programs with the pools, and what they say."""

    def __init__(self, commands, logs):
        self.commands, self.logs = commands, logs
        self.failures, self.gaps = [], []
        self.reads = self.transactions = self.longest_gap = self.ready = self.closed = 0

    def __enter__(self):
        self.marks = [log.stat().st_size if log.exists() else 0 for log in self.logs]
        environment = os.environ | {"PYTHONPATH": str(cache_folder() / "drivers/python")}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.programs = [subprocess.Popen(command, env=environment, **pipes) for command in self.commands]
        self.readers = [threading.Thread(target=self.listen, args=[program]) for program in self.programs]
        for reader in self.readers:
            reader.start()
        until("every client has been served", lambda: self.ready == len(self.programs) * CLIENTS)
        return self

    def listen(self, program):
        for line in program.stdout:
            said = json.loads(line)
            if "failed" in said and "from" in said:
                self.failures.append(said)
            elif "gap_ms" in said:
                self.gaps.append(said)
            elif "ready" in said:
                self.ready += said["ready"]
            else:
                self.reads += said["reads"]
                self.transactions += said["transactions"]
                self.longest_gap = max(self.longest_gap, said["longest_gap_ms"])

    def stop(self):
        if any(program.poll() is not None for program in self.programs):
            sys.exit("error: a program with a pool has ended by itself")
        for program in self.programs:
            program.stdin.close()
        for program, reader in zip(self.programs, self.readers):
            program.wait(LIMIT)
            reader.join()
        for log, mark in zip(self.logs, self.marks):
            self.closed += log.read_bytes()[mark:].count(b"session has grown old") if log.exists() else 0
        return self

    def __exit__(self, *_):
        for program in self.programs:
            if program.poll() is None:
                program.kill()
                program.wait()


def until(what, ask):
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            if answer := ask():
                return answer
            why = "no"
        except (OSError, urllib.error.URLError) as error:
            why = error
        if time.monotonic() > deadline:
            sys.exit(f"error: not within {LIMIT} s: {what} ({why})")
        time.sleep(0.05)


if __name__ == "__main__":
    main()

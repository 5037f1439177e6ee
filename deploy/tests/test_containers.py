"""The Dockerfile and compose.yaml, as far as they can be judged without a registry."""

import json
import pathlib
import re
import tomllib
import unittest

import yaml
from tools import DEPLOY, ROOT, run

MONITORING = {"prometheus", "grafana", "postgres-exporter", "redis-exporter"}


def compose(*profiles):
    arguments = [text for profile in profiles for text in ("--profile", profile)]
    return json.loads(run("docker-compose", *arguments, "config", "--format", "json").stdout)["services"]


class Image(unittest.TestCase):
    def test_hadolint(self):
        run("hadolint", "--failure-threshold", "style", "Dockerfile")

    def test_the_toolchain_is_the_projects(self):
        channel = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
        used = re.search(r"^FROM rust:([\d.]+)-", (ROOT / "Dockerfile").read_text(), re.M)[1]
        self.assertTrue(channel.startswith(used), f"{channel}, but the image is built with {used}")

    def test_the_build_sees_every_member_of_the_workspace(self):
        copied = set(re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(), re.M))
        members = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]
        self.assertEqual(copied, {member.split("/")[0] for member in members})
        ignored = (ROOT / ".dockerignore").read_text().splitlines()
        for folder in copied:
            self.assertIn(f"!{folder}", ignored)


class Compose(unittest.TestCase):
    def test_profiles(self):
        core = {"postgres", "valkey", "larder"}
        self.assertEqual(set(compose()), core)
        self.assertEqual(set(compose("monitoring")), core | MONITORING)
        self.assertEqual(set(compose("*")), core | MONITORING | {"load"})

    def test_every_server_is_asked_how_it_is(self):
        # Larder's check is in its image; the exporters' images have nothing to ask with; the load serves nobody.
        for name, service in compose("*").items():
            if name not in ("larder", "load", "postgres-exporter", "redis-exporter"):
                self.assertIn("healthcheck", service, name)
        self.assertIn('HEALTHCHECK', (ROOT / "Dockerfile").read_text())

    def test_nothing_is_published_beyond_this_machine(self):
        for name, service in compose("*").items():
            for port in service.get("ports", []):
                self.assertEqual(port.get("host_ip"), "127.0.0.1", name)

    def test_everything_but_postgres_is_confined(self):
        for name, service in compose("*").items():
            if name != "postgres":
                self.assertEqual(service["cap_drop"], ["ALL"], name)
                self.assertEqual(service["security_opt"], ["no-new-privileges:true"], name)

    def test_larder_is_given_its_grace(self):
        grace = re.search(r'grace: Span = "(\d+)s"', (ROOT / "crates/larder/src/config/mod.rs").read_text())[1]
        seconds = re.fullmatch(r"(\d+)s", compose()["larder"]["stop_grace_period"])[1]
        self.assertGreater(int(seconds), int(grace))

    def test_mounted_files_are_there(self):
        for name, service in compose("*").items():
            for volume in service.get("volumes", []):
                if volume["type"] == "bind":
                    self.assertTrue(pathlib.Path(volume["source"]).exists(), f"{name}: {volume['source']}")

    def test_prometheus_asks_services_that_are_there(self):
        services = compose("*")
        config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        for job in config["scrape_configs"]:
            for target in job["static_configs"][0]["targets"]:
                self.assertIn(target.split(":")[0], {*services, "localhost"})

    def test_grafana_asks_prometheus(self):
        sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
        self.assertEqual([source["url"] for source in sources], ["http://prometheus:9090"])
        providers = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/larder.yaml").read_text())["providers"]
        mounted = {volume["target"] for volume in compose("*")["grafana"]["volumes"]}
        self.assertIn(providers[0]["options"]["path"], mounted)


if __name__ == "__main__":
    unittest.main()

"""The Helm chart: what it makes of values, what it refuses, and the rules that rehearsals taught."""

import re
import tempfile
import tomllib
import unittest

import kubernetes_validate
import yaml
from tools import CHART, CUSTOM, KUBERNETES, MINIMAL, ROOT, helm, merged, rendered, run, template

# Every switch at least once; together they reach every template.
MATRIX = {
    "minimal": {},
    "account in the values": {"origin": {"existingSecret": "", "controlUrl": "postgres://larder:x@db.example:5432/shop"}},
    "plain proxy": {"origin": {"existingSecret": ""}, "cache": {"mode": "bypass"}},
    "tls on both sides": {"origin": {"tls": "verify-full", "tlsCaSecret": "ca"}, "clientTls": {"existingSecret": "tls", "mode": "require"}, "config": {"listen": {"auth": "verify"}}},
    "autoscaled": {"autoscaling": {"enabled": True, "targetClientsPerPod": 500}},
    "by clients only": {"autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": 0, "targetClientsPerPod": 500}},
    "own valkey": {"valkey": {"enabled": True}, "networkPolicy": {"enabled": True}},
    "valkey elsewhere": {"valkey": {"url": "redis://valkey.example:6380"}, "networkPolicy": {"enabled": True}},
    "valkey's url in a secret": {"valkey": {"existingSecret": "valkey", "sealingSecret": "sealing"}, "networkPolicy": {"enabled": True, "clients": [{"namespaceSelector": {}}], "monitoring": [{"podSelector": {}}], "origin": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "extraEgress": [{"ports": [{"port": 6380}]}]}},
    "pod monitor": {"metrics": {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}, "prometheusRule": {"enabled": True, "extraGroups": [{"name": "g", "rules": [{"record": "a:b", "expr": "1"}]}]}, "dashboards": {"enabled": True}}},
    "service monitor": {"metrics": {"serviceMonitor": {"enabled": True}}},
    "load balancer": {"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8"], "annotations": {"a": "b"}}},
    "verified, ruled, operated": {
        "verify": {"sample": 0.001}, "admin": {"existingSecret": "larder-admin", "user": "operator"},
        "rules": [{"match": {"table": "public.sessions"}, "cache": False}, {"match": {"query": "5f0c3a9be0d1774e"}, "ttl": "10s"}],
    },
    "no pause": {"drain": {"preStopSeconds": 0, "graceSeconds": 5}},
    "everything extra": {
        "commonLabels": {"team": "shop"}, "podLabels": {"a": "b"}, "podAnnotations": {"c": "d"}, "imagePullSecrets": [{"name": "registry"}],
        "image": {"digest": "sha256:" + "a" * 64}, "priorityClassName": "high", "nodeSelector": {"disk": "ssd"}, "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}}, "extraEnv": [{"name": "A", "value": "b"}], "extraEnvFrom": [{"secretRef": {"name": "more"}}],
        "extraArgs": ["--log-level", "debug"], "extraVolumes": [{"name": "x", "emptyDir": {}}], "extraVolumeMounts": [{"name": "x", "mountPath": "/x"}],
        "extraContainers": [{"name": "side", "image": "side:1"}], "initContainers": [{"name": "first", "image": "first:1"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
        "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-extra"}}],
        "serviceAccount": {"create": False, "name": "mine"}, "podDisruptionBudget": {"maxUnavailable": "25%"},
    },
}

# Values -> what the refusal must name.
REFUSED = [
    ({"origin": {"url": ""}}, "/origin/url"),
    ({"origin": {"url": "db.example:5432"}}, "/origin/url"),
    ({"origin": {"url": "postgres://user:secret@db.example:5432"}}, "/origin/url"),
    ({"origin": {"existingSecret": ""}}, "origin.existingSecret"),
    ({"origin": {"controlUrl": "postgres://larder:x@db/shop"}}, "one of them"),
    ({"origin": {"existingSecret": "Not_A_Name"}}, "/origin/existingSecret"),
    ({"origin": {"tls": "on"}}, "/origin/tls"),
    ({"replicas": 3}, "replicas"),
    ({"replicaCount": "three"}, "/replicaCount"),
    ({"cache": {"memory": "lots"}}, "/cache/memory"),
    ({"freshness": {"maxLag": "1"}}, "/freshness/maxLag"),
    ({"freshness": {"level": "eventual"}}, "/freshness/level"),
    ({"config": {"cahce": {"ttl": "1m"}}}, "cahce"),
    ({"config": {"drain": {"grace": "1h"}}}, "/config/drain/grace"),
    ({"config": {"rule": {}}}, "rule"),
    ({"verify": {"sample": 1.5}}, "/verify/sample"),
    ({"rules": [{"cache": False}]}, "/rules/0"),
    ({"rules": [{"match": {"table": "t", "role": "r"}}]}, "/rules/0/match"),
    ({"rules": [{"match": {"query": "select 1"}}]}, "/rules/0/match/query"),
    ({"rules": [{"match": {"table": "t"}, "ttl": "soon"}]}, "/rules/0/ttl"),
    ({"admin": {"user": "operator"}}, "admin.existingSecret"),
    ({"admin": {"token": "hush"}}, "token"),
    ({"probes": {"liveness": {"timeoutSeconds": 1}}}, "/probes/liveness/timeoutSeconds"),
    ({"drain": {"preStopSeconds": -1}}, "/drain/preStopSeconds"),
    ({"podDisruptionBudget": {"maxUnavailable": 0}}, "/podDisruptionBudget/maxUnavailable"),
    ({"podDisruptionBudget": {"minAvailable": 2}}, "minAvailable"),
    ({"autoscaling": {"enabled": True, "minReplicas": 4, "maxReplicas": 3}}, "maxReplicas is less"),
    ({"autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": 0}}, "nothing to scale by"),
    ({"valkey": {"enabled": True, "url": "redis://v:6379"}}, "one of url, existingSecret and enabled"),
    ({"valkey": {"url": "redis://:secret@v:6379"}}, "/valkey/url"),
    ({"metrics": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}}, "counted twice"),
    ({"service": {"type": "Ingress"}}, "/service/type"),
    ({"image": {"digest": "latest"}}, "/image/digest"),
]


def deployment(values=None):
    return rendered(values)[("Deployment", "larder")]


def pod(values=None):
    return deployment(values)["spec"]["template"]["spec"]


def container(values=None):
    return pod(values)["containers"][0]


class Chart(unittest.TestCase):
    def test_lint(self):
        for name, values in MATRIX.items():
            with self.subTest(name):
                run("helm", "lint", "--strict", "--quiet", CHART, "--values", "-", input=yaml.safe_dump(merged(MINIMAL, values)))

    def test_every_object_is_valid_in_every_version_of_kubernetes(self):
        for name, values in MATRIX.items():
            made = rendered(values)
            for version in KUBERNETES:
                for (kind, _), found in made.items():
                    if found["apiVersion"].split("/")[0] in CUSTOM:
                        continue  # test_custom_resources.py
                    with self.subTest(values=name, version=version, kind=kind):
                        kubernetes_validate.validate(found, version, strict=True)

    def test_bad_values_are_refused_by_name(self):
        for values, named in REFUSED:
            with self.subTest(values):
                done = template(values)
                self.assertNotEqual(done.returncode, 0, "accepted")
                self.assertIn(named, done.stderr)

    def test_an_old_kubernetes_is_refused(self):
        self.assertIn("incompatible", template({}, "--kube-version", "1.29.0").stderr)
        self.assertEqual(template({}, "--kube-version", "1.30.0").returncode, 0)

    def test_it_can_be_packaged(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertIn("larder-0.1.0.tgz", helm("package", CHART, "--destination", folder))

    def test_version_of_the_program(self):
        cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
        self.assertEqual(yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"], cargo)


class Pods(unittest.TestCase):
    def test_an_update_takes_nobody_away_before_somebody_is_there(self):
        self.assertEqual(deployment()["spec"]["strategy"]["rollingUpdate"], {"maxUnavailable": 0, "maxSurge": 1})

    def test_the_grace_period_fits_the_pause_and_the_transactions(self):
        for pause, grace in ((0, 1), (15, 30), (300, 600)):
            values = {"drain": {"preStopSeconds": pause, "graceSeconds": grace}}
            spec = pod(values)
            self.assertGreater(spec["terminationGracePeriodSeconds"], pause + grace)
            sleep = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            self.assertEqual(sleep, pause)
            self.assertEqual(toml(values)["drain"]["grace"], f"{grace}s")

    def test_probes_are_patient_and_liveness_depends_on_nobody_else(self):
        larder = container()
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            self.assertGreaterEqual(larder[probe]["timeoutSeconds"], 3)
        self.assertEqual(larder["livenessProbe"]["httpGet"]["path"], "/livez")
        self.assertEqual(larder["startupProbe"]["httpGet"]["path"], "/livez")
        self.assertEqual(larder["readinessProbe"]["httpGet"]["path"], "/readyz")

    def test_every_pod_is_restricted_and_has_no_token(self):
        for (kind, name), found in rendered({"valkey": {"enabled": True}}).items():
            if kind in ("Deployment", "StatefulSet", "Pod"):
                spec = found["spec"] if kind == "Pod" else found["spec"]["template"]["spec"]
                with self.subTest(kind=kind, name=name):
                    self.assert_restricted(spec)

    def assert_restricted(self, spec):
        self.assertIs(spec["automountServiceAccountToken"], False)
        self.assertTrue(spec["securityContext"]["runAsNonRoot"])
        self.assertGreater(spec["securityContext"]["runAsUser"], 0)
        self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
        for one in spec["containers"]:
            context = one["securityContext"]
            self.assertIs(context["allowPrivilegeEscalation"], False)
            self.assertIs(context["readOnlyRootFilesystem"], True)
            self.assertEqual(context["capabilities"], {"drop": ["ALL"]})

    def test_another_configuration_means_new_pods(self):
        checksum = lambda values: deployment(values)["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        self.assertNotEqual(checksum({}), checksum({"config": {"cache": {"ttl": "1m"}}}))
        self.assertEqual(checksum({}), checksum({"replicaCount": 5}))

    def test_nothing_but_the_account_is_secret_and_it_is_a_file(self):
        values = {"origin": {"existingSecret": "", "controlUrl": "postgres://larder:hush@db/shop"}}
        for (kind, name), found in rendered(values).items():
            self.assertEqual("hush" in str(found), kind == "Secret", (kind, name))
        self.assertIn({"name": "LARDER_ORIGIN_CONTROL_URL_FILE", "value": "/etc/larder/origin/control-url"}, container(values)["env"])


class Scaling(unittest.TestCase):
    def test_the_autoscaler_alone_says_how_many(self):
        self.assertEqual(deployment({"replicaCount": 3})["spec"]["replicas"], 3)
        self.assertNotIn("replicas", deployment({"autoscaling": {"enabled": True}})["spec"])

    def test_by_cpu_and_by_clients(self):
        metrics = lambda **values: [m["type"] for m in rendered({"autoscaling": {"enabled": True, **values}})[("HorizontalPodAutoscaler", "larder")]["spec"]["metrics"]]
        self.assertEqual(metrics(), ["Resource"])
        self.assertEqual(metrics(targetClientsPerPod=500), ["Resource", "Pods"])

    def test_any_number_of_replicas_can_be_drained(self):
        budget = rendered()[("PodDisruptionBudget", "larder")]["spec"]
        self.assertEqual(budget["maxUnavailable"], 1)
        self.assertNotIn("minAvailable", budget)


def toml(values=None):
    return tomllib.loads(rendered(values)[("ConfigMap", "larder")]["data"]["larder.toml"])


class Configuration(unittest.TestCase):
    def test_types_survive(self):
        made = toml({"config": {"listen": {"max_clients": 10000, "proxy_protocol_from": ["10.0.0.0/8"]}, "cache": {"ttl_jitter": 0.25, "ttl": '1m"\\'}}})
        self.assertEqual(made["listen"], {"max_clients": 10000, "proxy_protocol_from": ["10.0.0.0/8"]})
        self.assertIsInstance(made["listen"]["max_clients"], int)
        self.assertEqual((made["cache"]["ttl_jitter"], made["cache"]["ttl"]), (0.25, '1m"\\'))

    def test_config_wins_over_the_named_values(self):
        self.assertEqual(toml({"config": {"cache": {"memory": "1GiB"}}})["cache"], {"memory": "1GiB", "mode": "serve"})

    def test_rules_come_in_their_order_after_everything_else(self):
        rules = [
            {"match": {"table": 'a "b"'}, "cache": False},
            {"match": {"query": "5f0c3a9be0d1774e"}, "cache": True, "ttl": "10s"},
            {"match": {"role": "report"}, "ttl": "1m"},
        ]
        made = toml({"rules": rules, "verify": {"sample": 0.001}, "config": {"verify": {}}})
        self.assertEqual(made["rule"], rules)
        self.assertEqual(made["verify"], {"sample": 0.001})
        self.assertNotIn("rule", toml())

    def test_operators_have_their_secrets_as_files(self):
        env = lambda values: {e["name"]: e["value"] for e in container(values)["env"]}
        self.assertFalse(any(name.startswith("LARDER_ADMIN") for name in env({})))
        token = env({"admin": {"existingSecret": "s"}})
        self.assertEqual(token["LARDER_ADMIN_TOKEN_FILE"], "/etc/larder/admin/token")
        self.assertNotIn("LARDER_ADMIN_PASSWORD_FILE", token)
        both = env({"admin": {"existingSecret": "s", "user": "operator"}})
        self.assertEqual((both["LARDER_ADMIN_USER"], both["LARDER_ADMIN_PASSWORD_FILE"]), ("operator", "/etc/larder/admin/password"))
        volumes = {volume["name"]: volume for volume in pod({"admin": {"existingSecret": "s"}})["volumes"]}
        self.assertEqual(volumes["admin"]["secret"]["secretName"], "s")

    def test_valkey(self):
        env = lambda values: {e["name"]: e["value"] for e in container({"valkey": values})["env"]}
        self.assertNotIn("LARDER_VALKEY_URL", env({}))
        self.assertEqual(env({"enabled": True})["LARDER_VALKEY_URL"], "redis://larder-valkey:6379")
        self.assertEqual(env({"url": "redis://v:6380"})["LARDER_VALKEY_URL"], "redis://v:6380")
        self.assertEqual(env({"url": "redis://v", "sealingSecret": "s"})["LARDER_VALKEY_SECRET_FILE"], "/etc/larder/sealing/secret")
        self.assertEqual(env({"existingSecret": "s"})["LARDER_VALKEY_URL_FILE"], "/etc/larder/valkey/valkey-url")

    def test_the_policy_lets_larder_reach_what_it_needs(self):
        ports = lambda origin, **valkey: {port["port"] for rule in rendered({"networkPolicy": {"enabled": True}, "origin": {"url": origin}, "valkey": valkey})[("NetworkPolicy", "larder")]["spec"]["egress"] for port in rule["ports"]}
        self.assertEqual(ports("postgres://db.example"), {53, 5432})
        self.assertEqual(ports("postgres://db.example:6000/shop?sslmode=require"), {53, 6000})
        self.assertEqual(ports("postgres://db.example", url="redis://v:6380"), {53, 5432, 6380})
        self.assertEqual(ports("postgres://db.example", url="rediss://v"), {53, 5432, 6379})
        self.assertEqual(ports("postgres://db.example", url="redis-cluster://v:7000,w:7000"), {53, 5432, 7000})
        self.assertEqual(ports("postgres://db.example", enabled=True), {53, 5432, 6379})

    def test_admin_http_is_not_published(self):
        for kind, there in (("ClusterIP", True), ("LoadBalancer", False), ("NodePort", False)):
            ports = rendered({"service": {"type": kind}})[("Service", "larder")]["spec"]["ports"]
            self.assertEqual("admin" in {port["name"] for port in ports}, there)


class Notes(unittest.TestCase):
    def test_they_say_how_many_slots_the_origin_needs(self):
        for values, slots in (({"replicaCount": 2}, "3 walsenders"), ({"autoscaling": {"enabled": True, "maxReplicas": 9}}, "9 walsenders")):
            done = run("helm", "install", "larder", CHART, "--dry-run=client", "--namespace", "shop", "--values", "-", input=yaml.safe_dump(merged(MINIMAL, values)))
            self.assertIn(slots, re.sub(r"\s+", " ", done.stdout))


if __name__ == "__main__":
    unittest.main()

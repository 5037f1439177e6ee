"""Objects of operators (Prometheus, Flux, Argo CD, k3s) against the types of those operators.

Kubernetes drops a field that it does not know, silently; the TypeScript compiler does not.
"""

import unittest

import yaml
from tools import CUSTOM, DEPLOY, MINIMAL, compiled, rendered, template

EXAMPLES = ("flux/larder.yaml", "argocd/larder.yaml", "k3s/larder.yaml")
RULES = [{"name": "larder", "interval": "30s", "rules": [{"alert": "A", "expr": "up == 0", "for": "5m", "labels": {"severity": "page"}, "annotations": {"summary": "s"}}]}]


def custom_resources():
    monitors = [
        rendered({"metrics": {"podMonitor": {"enabled": True, "labels": {"a": "b"}}, "prometheusRule": {"enabled": True, "extraGroups": RULES}}}),
        rendered({"metrics": {"serviceMonitor": {"enabled": True}}}),
    ]
    for made in monitors:
        yield from (found for found in made.values() if found["apiVersion"].split("/")[0] in CUSTOM)
    for example in EXAMPLES:
        yield from yaml.safe_load_all((DEPLOY / example).read_text())


def complaints(resources):
    """What the compiler says about them."""
    typed = []
    for found in resources:
        group, version = found["apiVersion"].split("/")
        package = CUSTOM[group]
        typed.append((package if package.startswith("./") else f"{package}/{group}/{version}", f"I{found['kind']}", found))
    return compiled(typed)


class CustomResources(unittest.TestCase):
    def test_they_are_what_their_operators_know(self):
        resources = list(custom_resources())
        kinds = {found["kind"] for found in resources}
        self.assertEqual(kinds, {"PodMonitor", "ServiceMonitor", "PrometheusRule", "OCIRepository", "HelmRelease", "Application", "HelmChart"})
        self.assertEqual(complaints(resources), "")

    def test_a_misspelt_field_is_found(self):
        resources = list(custom_resources())
        for found in resources:
            found["spec"]["intervall"] = "10s"
        text = complaints(resources)
        self.assertEqual(text.count('\'"intervall"\' does not exist'), len(resources), text)

    def test_a_wrong_type_is_found(self):
        resources = list(custom_resources())
        for found in resources:
            found["metadata"]["name"] = 7
        self.assertEqual(complaints(resources).count("TS2322"), len(resources))

    def test_the_values_in_the_examples_are_the_charts(self):
        values = []
        for example in EXAMPLES:
            for found in yaml.safe_load_all((DEPLOY / example).read_text()):
                spec = found["spec"]
                if found["kind"] == "HelmChart":
                    values.append(yaml.safe_load(spec["valuesContent"]))
                elif found["kind"] == "HelmRelease":
                    values.append(spec["values"])
                elif found["kind"] == "Application":
                    values.append(spec["source"]["helm"]["valuesObject"])
        self.assertEqual(len(values), len(EXAMPLES))
        for given in values:
            done = template(given, minimal=False)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotEqual(template({**MINIMAL, "oops": 1}, minimal=False).returncode, 0)


if __name__ == "__main__":
    unittest.main()

"""`kubectl apply -k deploy/environments/...`: what would be applied."""

import subprocess
import sys
import unittest

import kubernetes_validate
import yaml
from tools import DEPLOY, ENVIRONMENTS, KUBERNETES, ROOT, objects, run


def applied(environment):
    return objects(run("kubectl", "kustomize", DEPLOY / "environments" / environment).stdout)


class Environments(unittest.TestCase):
    def test_what_is_made_from_other_files_is_up_to_date(self):
        done = subprocess.run([sys.executable, ROOT / "deploy/tests/render.py", "--check"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_every_object_is_valid_and_in_its_namespace(self):
        for environment in ENVIRONMENTS:
            for (kind, name), found in applied(environment).items():
                for version in KUBERNETES:
                    with self.subTest(environment=environment, version=version, kind=kind, name=name):
                        kubernetes_validate.validate(found, version, strict=True)
                namespace = name if kind == "Namespace" else found["metadata"]["namespace"]
                self.assertEqual(namespace, f"larder-{environment}", (kind, name))

    def test_every_pod_is_admitted_by_the_namespace(self):
        for environment in ENVIRONMENTS:
            made = applied(environment)
            labels = made[("Namespace", f"larder-{environment}")]["metadata"]["labels"]
            self.assertEqual(labels["pod-security.kubernetes.io/enforce"], "restricted")
            for (kind, name), found in made.items():
                if kind in ("Deployment", "StatefulSet"):
                    spec = found["spec"]["template"]["spec"]
                    with self.subTest(environment=environment, kind=kind, name=name):
                        self.assertTrue(spec["securityContext"]["runAsNonRoot"])
                        self.assertEqual(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault")
                        for one in spec["containers"]:
                            self.assertIs(one["securityContext"]["allowPrivilegeEscalation"], False)
                            self.assertEqual(one["securityContext"]["capabilities"]["drop"], ["ALL"])

    def test_what_pods_refer_to_is_there_or_documented(self):
        elsewhere = {"dev": set(), "staging": {"larder-origin"}, "prod": {"larder-origin", "larder-valkey"}}
        for environment in ENVIRONMENTS:
            made = applied(environment)
            missing = set()
            for (kind, _), found in made.items():
                if kind in ("Deployment", "StatefulSet"):
                    for volume in found["spec"]["template"]["spec"].get("volumes", []):
                        for source, key, wanted in (("secret", "secretName", "Secret"), ("configMap", "name", "ConfigMap")):
                            if source in volume and (wanted, volume[source][key]) not in made:
                                missing.add(volume[source][key])
            self.assertEqual(missing, elsewhere[environment], environment)
            for name in missing:
                self.assertIn(name, (ROOT / "docs/guides/kubernetes.md").read_text())

    def test_the_image_is_the_one_that_the_overlay_names(self):
        for environment in ENVIRONMENTS:
            overlay = yaml.safe_load((DEPLOY / "environments" / environment / "kustomization.yaml").read_text())
            image = next(iter(overlay.get("images", [])), {"newName": "larder", "newTag": "0.1.0"})
            used = applied(environment)[("Deployment", "larder")]["spec"]["template"]["spec"]["containers"][0]["image"]
            self.assertEqual(used, f"{image['newName']}:{image['newTag']}")

    def test_production_survives_the_loss_of_a_node(self):
        made = applied("prod")
        scaler = made[("HorizontalPodAutoscaler", "larder")]["spec"]
        self.assertGreaterEqual(scaler["minReplicas"], 3)
        self.assertNotIn("replicas", made[("Deployment", "larder")]["spec"])
        self.assertIn(("PodDisruptionBudget", "larder"), made)
        self.assertIn(("NetworkPolicy", "larder"), made)


if __name__ == "__main__":
    unittest.main()

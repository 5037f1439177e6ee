"""GitHub's workflows: what the linters say, and what they do not look at."""

import re
import subprocess
import unittest

import yaml
from tools import CHART, ROOT, run

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


class Workflows(unittest.TestCase):
    def test_actionlint(self):
        run("actionlint", "-color=false", *WORKFLOWS)

    def test_zizmor(self):
        run("zizmor", "--offline", "--no-progress", "--quiet", ".github")

    def test_every_job_ends_and_asks_for_its_own_permissions(self):
        for path in WORKFLOWS:
            workflow = yaml.safe_load(path.read_text())
            self.assertEqual(workflow["permissions"], {}, path.name)
            self.assertIn("concurrency", workflow, path.name)
            for name, job in workflow["jobs"].items():
                self.assertIn("timeout-minutes", job, f"{path.name}: {name}")
                self.assertIn("permissions", job, f"{path.name}: {name}")

    def test_what_they_run_is_there(self):
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
        for path in WORKFLOWS:
            text = path.read_text()
            for target in re.findall(r"\bmake ([a-z][a-z-]+)", text):
                self.assertIn(target, targets, path.name)
            for script in re.findall(r"(?:^|\s)((?:scripts|deploy|\.ci)/[\w./-]+)", text, re.M):
                self.assertTrue((ROOT / script).exists(), f"{path.name}: {script}")

    def test_the_release_puts_its_image_into_the_chart(self):
        # The line that release.yml looks for.
        self.assertIn("\n  repository: larder\n", (CHART / "values.yaml").read_text())

    def test_release_notes_are_the_changelogs_section(self):
        done = subprocess.run([ROOT / "scripts/changelog", "Unreleased"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0)
        self.assertTrue(done.stdout.startswith("### "), done.stdout[:80])
        self.assertEqual(subprocess.run([ROOT / "scripts/changelog", "0.0.0"], capture_output=True).returncode, 1)


class Owners(unittest.TestCase):
    def test_what_has_an_owner_is_there(self):
        lines = (ROOT / ".github/CODEOWNERS").read_text().splitlines()
        paths = [line.split()[0] for line in lines if line and not line.startswith("#")]
        self.assertGreater(len(paths), 5)
        for path in paths:
            self.assertTrue(path == "*" or (ROOT / path.strip("/")).exists(), path)


class Dependabot(unittest.TestCase):
    def test_every_folder_it_looks_into_is_there(self):
        updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
        self.assertEqual({update["package-ecosystem"] for update in updates}, {"cargo", "github-actions", "docker", "docker-compose", "pip", "npm"})
        for update in updates:
            for folder in update.get("directories", [update.get("directory")]):
                self.assertTrue((ROOT / folder.strip("/")).is_dir(), folder)


if __name__ == "__main__":
    unittest.main()

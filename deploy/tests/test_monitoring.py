"""Rules, alerts and dashboards: what promtool says, and what it does not look at.

That every panel has data is shown by native.py, against a real Prometheus.
"""

import json
import re
import shutil
import subprocess
import sys
import unittest

import yaml
from tools import DEPLOY, ROOT, compiled, rendered

sys.path.insert(0, str(DEPLOY / "grafana"))
import generate  # noqa: E402

PROMETHEUS = DEPLOY / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yaml"))
RUNBOOKS = ROOT / "docs/runbooks"
DASHBOARDS = [json.loads(text) for text in generate.files().values()]
# What the exporters beside Larder are known for; metrics.md does not list them.
FOREIGN = re.compile(r"(pg|redis)_[a-z_]+|up|ALERTS")
PROMTOOL = shutil.which("promtool")


def alerts():
    rules = [rule for file in RULES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]
    return [rule for rule in rules if "alert" in rule]


def recorded():
    return {rule["record"] for file in RULES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"] if "record" in rule}


def documented():
    """Names as they are in queries: histograms have three each."""
    names = set()
    for name, kind in re.findall(r"^\| `([a-z_]+)` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.M):
        names |= {name + suffix for suffix in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return names


def panels():
    return [(f"{board['title']}: {panel['title']}", panel) for board in DASHBOARDS for panel in board["panels"]]


def queries():
    return [(name, target["expr"]) for name, panel in panels() for target in panel.get("targets", [])]


@unittest.skipUnless(PROMTOOL, "there is no promtool: apt-get install prometheus")
class Promtool(unittest.TestCase):
    def promtool(self, *arguments, folder=PROMETHEUS):
        done = subprocess.run([PROMTOOL, *arguments], cwd=folder, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_rules_and_configuration(self):
        self.promtool("check", "rules", *map(str, RULES))
        self.promtool("check", "config", "prometheus.yml")

    def test_every_alert_fires_when_it_should_and_only_then(self):
        for file in sorted((PROMETHEUS / "tests").glob("*.yaml")):
            self.promtool("test", "rules", file.name, folder=file.parent)


class Alerts(unittest.TestCase):
    def test_each_says_how_bad_what_and_where_to_read_on(self):
        for alert in alerts():
            with self.subTest(alert["alert"]):
                self.assertIn(alert["labels"]["severity"], ("critical", "warning", "info"))
                self.assertEqual(set(alert["annotations"]), {"summary", "description", "runbook_url"})
                self.assertEqual(alert["annotations"]["runbook_url"], f"https://larder.example/docs/runbooks/{alert['alert']}.md")

    def test_each_has_a_runbook_and_each_runbook_an_alert(self):
        names = {alert["alert"] for alert in alerts()}
        self.assertEqual(len(names), len(alerts()))
        self.assertEqual({page.stem for page in RUNBOOKS.glob("*.md")} - {"README"}, names)
        index = (RUNBOOKS / "README.md").read_text()
        for alert in alerts():
            name = alert["alert"]
            headings = re.findall(r"^#+ (.*)", (RUNBOOKS / f"{name}.md").read_text(), re.M)
            self.assertEqual(headings, [name, "Meaning", "Impact", "Diagnosis", "Mitigation"])
            self.assertIn(f"| [{name}]({name}.md) | {alert['labels']['severity']} |", index)

    def test_each_is_tested_both_ways(self):
        found = {}
        for file in (PROMETHEUS / "tests").glob("*.yaml"):
            for test in yaml.safe_load(file.read_text())["tests"]:
                for case in test.get("alert_rule_test", []):
                    found.setdefault(case["alertname"], set()).add(bool(case["exp_alerts"]))
        self.assertEqual(found, {alert["alert"]: {True, False} for alert in alerts()})

    def test_links_within_the_runbooks_lead_somewhere(self):
        for page in RUNBOOKS.glob("*.md"):
            for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
                self.assertTrue((page.parent / target).exists(), f"{page.name}: {target}")

    def test_the_chart_has_them_with_its_own_runbooks(self):
        made = rendered({"metrics": {"prometheusRule": {"enabled": True, "runbooks": "https://wiki.example/larder/"}}})
        groups = made[("PrometheusRule", "larder")]["spec"]["groups"]
        urls = {rule["alert"]: rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"] if "alert" in rule}
        self.assertEqual(urls, {alert["alert"]: f"https://wiki.example/larder/{alert['alert']}.md" for alert in alerts()})


class Names(unittest.TestCase):
    def test_every_metric_that_is_asked_for_is_there(self):
        known = documented() | recorded()
        asked = [(alert["alert"], alert["expr"]) for alert in alerts()] + queries()
        for name, expression in asked:
            # Labels and their values are no metrics; nor is what stands after `by` and the like.
            bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"|\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", expression)
            for metric in re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", bare):
                if metric not in ("and", "or", "unless", "bool", "offset", "on", "time"):
                    with self.subTest(name, metric=metric):
                        self.assertTrue(metric in known or FOREIGN.fullmatch(metric), f"{metric} is not in docs/metrics.md")


class Dashboards(unittest.TestCase):
    def test_the_files_are_those_that_the_generator_makes(self):
        self.assertEqual({board["uid"] for board in DASHBOARDS}, {"larder-overview", "larder-queries", "larder-freshness", "larder-fleet"})
        for path, text in generate.files().items():
            self.assertEqual(path.read_text(), text, f"{path.name} is out of date: make deploy-render")

    def test_every_panel_says_what_it_shows_and_in_which_unit(self):
        for name, panel in panels():
            with self.subTest(name):
                if panel["type"] not in ("row", "text"):
                    self.assertTrue(panel["title"] and panel["description"].endswith("."))
                    self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])
                    self.assertTrue(panel["targets"])

    def test_every_query_is_chosen_by_the_variables(self):
        for name, expression in queries():
            with self.subTest(name):
                if "ALERTS{" not in expression:
                    selectors = re.findall(r"\b(?:larder|process|pg|redis)_\w+(\{[^}]*\})?", expression)
                    self.assertTrue(all('namespace=~"$namespace"' in selector for selector in selectors), expression)
                # A fixed window is empty or blurred at the wrong scrape interval.
                self.assertEqual(set(re.findall(r"\[([^\]]+)\]", expression)) - {"$__rate_interval", "$__range"}, set())

    def test_panels_fill_lines_and_do_not_overlap(self):
        for board in DASHBOARDS:
            taken = set()
            for panel in board["panels"]:
                place = panel["gridPos"]
                cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
                self.assertFalse(taken & cells, f"{board['title']}: {panel['title']}")
                self.assertLessEqual(place["x"] + place["w"], 24)
                taken |= cells

    def test_they_are_what_grafana_knows(self):
        self.assertEqual(compiled([("./dashboard", "Dashboard", board) for board in DASHBOARDS]), "")

    def test_a_misspelt_option_is_found(self):
        board = json.loads(json.dumps(DASHBOARDS[0]))
        board["panels"][0]["options"]["graphmode"] = "area"
        self.assertIn('\'"graphmode"\' does not exist', compiled([("./dashboard", "Dashboard", board)]))

    def test_they_link_to_each_other_and_keep_time_and_variables(self):
        for board in DASHBOARDS:
            self.assertEqual([link["tags"] for link in board["links"]], [board["tags"]])
            self.assertTrue(board["links"][0]["includeVars"] and board["links"][0]["keepTime"])
            self.assertEqual([variable["name"] for variable in board["templating"]["list"]], ["datasource", "namespace", "pod"])

    def test_the_chart_brings_them_for_the_sidecar(self):
        made = rendered({"metrics": {"dashboards": {"enabled": True}}})
        found = [json.loads(text) for (kind, _), config in made.items() if kind == "ConfigMap" for file, text in config["data"].items() if file.endswith(".json")]
        self.assertEqual(sorted(board["uid"] for board in found), sorted(board["uid"] for board in DASHBOARDS))


if __name__ == "__main__":
    unittest.main()

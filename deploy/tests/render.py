"""Writes what is made from other files: the dashboards, the chart's README and copies of rules and dashboards, and the
manifests of deploy/environments for `kubectl apply -k`. `make deploy-render`; with --check it only says what is out of date.
"""

import json
import re
import subprocess
import sys

import yaml
from tools import CHART, DEPLOY, ENVIRONMENTS, helm

sys.path.insert(0, str(DEPLOY / "grafana"))
import generate  # noqa: E402

BEGIN, END = "<!-- values: made by `make deploy-render` -->\n", "<!-- /values -->\n"
KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z]\w*):(?P<value>.*)$")


def main(check):
    stale = []
    for path, text in files().items():
        if not path.exists() or path.read_text() != text:
            stale.append(str(path.relative_to(DEPLOY.parent)))
            if not check:
                path.write_text(text)
    for copy in set(copied_files()) - set(files()):
        stale.append(f"{copy.relative_to(DEPLOY.parent)} (no longer there)")
        if not check:
            copy.unlink()
    if check and stale:
        sys.exit("out of date: " + ", ".join(stale) + "\n  -> make deploy-render")
    print("\n".join(stale) or "nothing to do")


def files():
    """Path -> what must be in it."""
    readme = CHART / "README.md"
    head, _, rest = readme.read_text().partition(BEGIN)
    made = {readme: head + BEGIN + values_table() + END + rest.partition(END)[2]}
    # The chart cannot reach beyond its own folder.
    for file in (DEPLOY / "prometheus/rules").glob("*.yaml"):
        made[CHART / "files/rules" / file.name] = file.read_text()
    for file, text in generate.files().items():
        made[file] = made[CHART / "files/dashboards" / file.name] = text
    for name in ENVIRONMENTS:
        made[DEPLOY / "environments" / name / "larder.yaml"] = manifests(name)
    return made


def copied_files():
    return [*(CHART / "files/rules").glob("*.yaml"), *(CHART / "files/dashboards").glob("*.json"), *generate.FOLDER.glob("*.json")]


def manifests(environment):
    """The chart with the environment's values, without what only helm itself can use."""
    values = DEPLOY / "environments" / environment / "values.yaml"
    text = helm("template", "larder", CHART, "--namespace", f"larder-{environment}", "--values", values, "--no-hooks")
    text = text.replace("app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kustomize")
    return f"# Made from values.yaml by `make deploy-render`: do not edit.\n{text}"


def values_table():
    """One row for each value that can be set; a map that is described as a whole is one row."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows, path, comment, skip = [], [], "", None
    for line in (CHART / "values.yaml").read_text().splitlines():
        if line.strip().startswith("# -- "):
            comment = line.strip()[5:]
        if not (match := KEY.match(line)):
            continue
        depth = len(match["indent"]) // 2
        if skip is not None and depth > skip:
            continue
        skip = None
        path = [*path[:depth], match["key"]]
        value = values
        for key in path:
            value = value[key]
        has_children = not match["value"].split("#")[0].strip()
        if has_children and not comment:
            continue
        if has_children:
            skip = depth
        default = json.dumps(value).replace("|", "\\|")
        rows.append(f"| `{'.'.join(path)}` | `{default}` | {comment} |\n")
        comment = ""
    return "| Value | Default | |\n|---|---|---|\n" + "".join(rows)


if __name__ == "__main__":
    try:
        main("--check" in sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(error.stderr)

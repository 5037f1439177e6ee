"""Where things are, and the programs that scripts/fetch-tools brings ($DEPLOY_TOOLS)."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/larder"
TOOLS = pathlib.Path(os.environ["DEPLOY_TOOLS"])
ENVIRONMENTS = ("dev", "staging", "prod")
# What is supported, from the oldest that has the kubelet's `sleep`.
KUBERNETES = ("1.30", "1.31", "1.32", "1.33", "1.34")
# Kinds that Kubernetes itself does not know: group -> the package with their types.
CUSTOM = {
    "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
    "helm.toolkit.fluxcd.io": "@kubernetes-models/flux-cd",
    "source.toolkit.fluxcd.io": "@kubernetes-models/flux-cd",
    "argoproj.io": "@kubernetes-models/argo-cd",
    "helm.cattle.io": "./k3s",
}


def run(program, *arguments, check=True, **options):
    """A tool, from the project's folder; its complaint is in the exception."""
    done = subprocess.run([TOOLS / "bin" / program, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, **options)
    if check and done.returncode:
        raise AssertionError(f"{program} {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")
    return done


def helm(*arguments):
    return run("helm", *arguments).stdout


# The least that the chart wants to know.
MINIMAL = {"origin": {"url": "postgres://db.example:5432", "existingSecret": "larder-origin"}}


def merged(base, over):
    """Maps within maps; everything else is replaced."""
    both = dict(base)
    for key, value in over.items():
        both[key] = merged(both[key], value) if isinstance(value, dict) and isinstance(both.get(key), dict) else value
    return both


def template(values=None, *arguments, minimal=True):
    """What the chart makes of these values: the run itself."""
    values = merged(MINIMAL, values or {}) if minimal else values or {}
    return run("helm", "template", "larder", CHART, "--namespace", "shop", "--values", "-", *arguments, input=yaml.safe_dump(values), check=False)


def rendered(values=None, *arguments):
    """The objects, by kind and name."""
    done = template(values, *arguments)
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


def objects(text):
    found = {}
    for document in yaml.safe_load_all(text):
        if document:
            key = (document["kind"], document["metadata"]["name"])
            assert key not in found, f"twice: {key}"
            found[key] = document
    return found


def compiled(typed):
    """What the TypeScript compiler says of (module, type, value), values that are to be of these types."""
    with tempfile.TemporaryDirectory(dir=TOOLS / "types", prefix="check-") as folder:
        folder = pathlib.Path(folder)
        for own in (DEPLOY / "tests/types").glob("*.ts"):
            shutil.copy(own, folder)
        for number, (module, kind, value) in enumerate(typed):
            (folder / f"value{number}.ts").write_text(f'import type {{ {kind} }} from "{module}";\nexport const value: {kind} = {json.dumps(value, indent=1)};\n')
        options = {"strict": True, "noEmit": True, "skipLibCheck": True, "module": "esnext", "moduleResolution": "bundler", "target": "es2022", "types": []}
        (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["*.ts"]}))
        compiler = TOOLS / "types/node_modules/typescript/bin/tsc"
        done = subprocess.run(["node", compiler, "--project", folder], capture_output=True, text=True, cwd=folder)
        return done.stdout + done.stderr

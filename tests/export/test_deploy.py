"""The files under deploy/: well formed, and what they speak of is there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.kernel.capabilities import keep_capabilities

yaml = pytest.importorskip("yaml")
pytest.importorskip("prometheus_client")

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROGRAM = DEPLOY / "container" / "programs" / "syscalls.bpf.c"


def documents(path: str) -> list[Any]:
    return [each for each in yaml.safe_load_all((DEPLOY / path).read_text()) if each]


def container(kustomization: str = "base") -> dict[str, Any]:
    """The exporter's container, as the DaemonSet of a kustomization has it."""
    (daemonset,) = documents("kubernetes/base/daemonset.yaml")
    if kustomization != "base":
        (patches,) = documents(f"kubernetes/{kustomization}/kustomization.yaml")
        for change in yaml.safe_load(patches["patches"][0]["patch"]):
            *way, last = [int(w) if w.isdecimal() else w for w in change["path"].strip("/").split("/")]
            place: Any = daemonset
            for step in way:
                place = place[step]
            place[last] = change["value"]
    (found,) = daemonset["spec"]["template"]["spec"]["containers"]
    return dict(found)


def service() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd" / "bpf2py-export.service").read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """(where it stands, PromQL) of all alerts and panels."""
    (rules,) = documents("prometheus/rules.yml")
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["alert"]
            assert rule["annotations"]["summary"]
            yield rule["alert"], rule["expr"]
    dashboard = json.loads((DEPLOY / "grafana" / "bpf2py.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


def arguments_of(words: list[str], tmp_path: Path) -> list[str]:
    """A command line of the files, with the program compiled here, told once."""
    compiled = tmp_path / "syscalls.bpf.o"
    compiled.write_bytes(bpf2py.compile(PROGRAM))
    assert "/etc/bpf2py/syscalls.bpf.o" in words
    kept = [str(compiled) if word == "/etc/bpf2py/syscalls.bpf.o" else word for word in words]
    return [sys.executable, "-m", "bpf2py", "export", "--once", *kept]


@cache
def told() -> str:
    """What the exporter tells of its program and of the machine."""
    command = [sys.executable, "-m", "bpf2py", "export", "--once", "--machine", str(PROGRAM)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.kernel
def test_metrics_of_alerts_and_panels_are_told() -> None:
    there = set(re.findall(r"^# TYPE (\S+)", told(), re.MULTILINE))
    seen = 0
    for where, expression in expressions():
        for name in re.findall(r"\b(?:bpf2py|bpf|ebpf_exporter)_[a-z0-9_]+", expression):
            assert name in there, f"{where}: {name} is not a metric of the exporter"
            seen += 1
    assert seen > 25


@pytest.mark.kernel
def test_labels_of_alerts_and_panels_are_told() -> None:
    texts = (DEPLOY / "prometheus" / "rules.yml").read_text() + (DEPLOY / "grafana" / "bpf2py.json").read_text()
    wanted = set(re.findall(r"\$labels\.(\w+)", texts)) | set(re.findall(r"\{\{(\w+)\}\}", texts))
    there = set(re.findall(r'(\w+)="', told())) | {
        "instance",
        "config",
        "metric",
    }  # the scrape's, and those of what is left out
    assert wanted <= there


@pytest.mark.kernel
@pytest.mark.parametrize("kustomization", ["base", "machine"])
def test_the_daemonset_has_the_capabilities_it_needs(kustomization: str, tmp_path: Path) -> None:
    found = container(kustomization)
    security = found["securityContext"]
    assert security["capabilities"]["drop"] == ["ALL"]
    assert security["allowPrivilegeEscalation"] is False
    runs_with(security["capabilities"]["add"], arguments_of(found["args"], tmp_path))


@pytest.mark.kernel
def test_the_service_has_the_capabilities_it_needs(tmp_path: Path) -> None:
    unit = service()
    assert unit["AmbientCapabilities"] == unit["CapabilityBoundingSet"]
    start = shlex.split(unit["ExecStart"][0])
    assert start[:3] == ["/usr/bin/env", "bpf2py", "export"]
    runs_with(unit["AmbientCapabilities"][0].split(), arguments_of(start[3:], tmp_path))


def runs_with(capabilities: list[str], command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=lambda: keep_capabilities(capabilities))
    assert done.returncode == 0, done.stderr
    assert "is not attached" not in done.stderr
    assert re.search(r'^syscalls_calls_total\{command="[^"]+",pid="\d+"\} \d', done.stdout, re.MULTILINE)
    assert ("bpf_map_max_entries{" in done.stdout) == ("--machine" in command)


def test_the_probe_and_the_port_are_the_servers() -> None:
    found = container()
    assert found["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert found["ports"] == [{"name": "metrics", "containerPort": 9435}]


def test_the_image_has_no_compiler_and_what_it_copies_is_there() -> None:
    text = (DEPLOY / "container" / "Containerfile").read_text()
    stages = text.split("\nFROM ")
    assert len(stages) == 3
    assert "[cc]" in stages[1]
    assert not re.search(r"\[cc\]|ziglang|clang", stages[2])
    for line in text.splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
    assert '"bpf2py", "export"' in stages[2]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit() -> None:
    unit = str(DEPLOY / "systemd" / "bpf2py-export.service")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    mine = [line for line in done.stderr.splitlines() if "bpf2py-export" in line]
    assert (done.returncode, mine) == (0, [])


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
@pytest.mark.parametrize("kustomization", ["base", "machine"])
def test_kustomize_takes_the_kustomizations(kustomization: str) -> None:
    command = ["kubectl", "kustomize", str(DEPLOY / "kubernetes" / kustomization)]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (daemonset,) = [each for each in yaml.safe_load_all(made) if each["kind"] == "DaemonSet"]
    labels = daemonset["spec"]["template"]["metadata"]["labels"]
    assert daemonset["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (found,) = daemonset["spec"]["template"]["spec"]["containers"]
    assert found["args"] == container(kustomization)["args"]
    assert found["securityContext"] == container(kustomization)["securityContext"]

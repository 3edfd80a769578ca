"""Metrics of the machine: what the objects themselves say, through a real server and a real client."""

from __future__ import annotations

import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py import Map

prometheus = pytest.importorskip("prometheus_client")
pytestmark = pytest.mark.kernel
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1000); __type(key, __u32); __type(value, __u64); }
    exported SEC(".maps");
SEC("raw_tp/sys_enter") int exporting(void *ctx)
{
    __u32 key = 1;
    __u64 *value = bpf_map_lookup_elem(&exported, &key);

    if (value)
        __sync_fetch_and_add(value, 1);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


def samples(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Values by metric and labels."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def of(found: dict[str, Any], metric: str, **labels: object) -> float:
    """The one value with some labels."""
    wanted = {(name, str(value)) for name, value in labels.items()}
    (value,) = [value for known, value in found[metric].items() if wanted <= set(known)]
    return float(value)


def once(*arguments: str) -> str:
    command = [sys.executable, "-m", "bpf2py", "export", "--once", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_what_the_objects_say(compile_bpf: Callable[[str], bytes]) -> None:
    with bpf2py.load(compile_bpf(SOURCE), "kernel") as obj, bpf2py.enable_stats():
        exported: Any = obj.maps["exported"]
        program = obj.programs["exporting"]
        (link,) = obj.attach()
        exported.update(dict.fromkeys(range(250), 0))
        found = samples(once("--name", "export*"))
        assert of(found, "bpf_map_elements", id=exported.info.id, name="exported", type="HASH") == 250
        assert of(found, "bpf_map_pressure_ratio", id=exported.info.id) == 0.25
        assert of(found, "bpf_map_max_entries", id=exported.info.id) == 1000
        assert of(found, "bpf_map_memory_bytes", id=exported.info.id) > 1000
        runs = of(found, "bpf_program_runs_total", id=program.info.id, name="exporting")
        assert 0 < runs <= program.info.run_count
        assert 0 < of(found, "bpf_program_run_seconds_total", tag=program.info.tag.hex()) < 60
        assert of(found, "bpf_link_info", program_id=program.info.id, id=link.info["id"]) == 1
        assert of(found, "bpf2py_scrape_errors_total") == 0
        assert {dict(labels)["name"] for labels in found["bpf_map_max_entries"]} == {"exported"}
        left = samples(once("--name", "export*", "--max-series", "4"))
        assert of(left, "bpf2py_left_out") == 2  # the program and its link
        assert "bpf_program_runs_total" not in left


def test_names_that_would_be_something_else() -> None:
    with Map.create("HASH", 4, 4, 4, name="odd.name", backend="kernel") as odd:
        assert of(samples(once()), "bpf_map_max_entries", id=odd.info.id, name="odd.name") == 4


def get(url: str, token: str | None = None, context: ssl.SSLContext | None = None) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token is not None else {})
    try:
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_served(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    command = [sys.executable, "-m", "bpf2py", "export", "--listen", "127.0.0.1:0", "--token-file", str(secret)]
    with (
        Map.create("HASH", 4, 4, 8, name="served", backend="kernel") as served,
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stderr is not None
        served[b"abcd"] = b"efgh"
        base = process.stderr.readline().split()[-1].removesuffix("/metrics")
        assert get(f"{base}/healthz") == (200, "ok\n")
        assert get(f"{base}/metrics")[0] == get(f"{base}/metrics", "wrong")[0] == 401
        assert get(f"{base}/other", "s3cret")[0] == 404
        for expected in (1, 2):
            status, text = get(f"{base}/metrics", "s3cret")
            assert status == 200
            assert of(samples(text), "bpf_map_elements", id=served.info.id) == expected
            served[b"wxyz"] = b"efgh"
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()
        assert process.wait(30) == 130, err
        assert err == ""


def test_what_cannot_be_served(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for arguments, said in (
        (["--listen", "nowhere"], "--listen is HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "--listen is HOST:PORT"),
        (["--listen", "192.0.2.1:80"], "cannot serve on"),
        (["--token-file", str(tmp_path / "missing")], "No such file"),
        (["--token-file", str(tmp_path / "empty")], "a token is one line"),
        (
            ["--listen", "127.0.0.1:0", "--tls-cert", str(tmp_path / "empty"), "--tls-key", str(tmp_path / "empty")],
            "cannot serve",
        ),
    ):
        command = [sys.executable, "-m", "bpf2py", "export", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1, arguments
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    from bpf2py.export.machine import MachineCollector

    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(bpf2py.errors.NotSupported, match="prometheus_client is not installed"):
        MachineCollector()

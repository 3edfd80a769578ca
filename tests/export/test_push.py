"""Metrics sent by OTLP: what another database made of them, and of collectors that are not there or refuse."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.export.test_export_kernel import Running, the_map
from tests.export.test_real_prometheus import NATIVE

from bpf2py.testing.guest_debian import kernel_directory

pytest.importorskip("prometheus_client")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
pytestmark = pytest.mark.kernel
# What is told of each of ours.
OWN = {"service_name": "bpf2py", "host_name": socket.gethostname(), "scope_name": "bpf2py"}


class VictoriaMetrics:
    """A database with a receiver of OTLP on this machine."""

    def __init__(self, directory: Path) -> None:
        kept = sorted(kernel_directory().glob("victoria-metrics-debian-*/bin/victoria-metrics"))
        found = str(kept[0]) if kept else shutil.which("victoria-metrics")
        if found is None:
            pytest.skip("there is no victoria-metrics: tools/fetch.py fetches it on Debian")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        command = [found, f"-storageDataPath={directory}/data", f"-httpListenAddr={self.url.removeprefix('http://')}"]
        self._log = (directory / "log").open("w")
        self.process = subprocess.Popen([*command, "-opentelemetry.usePrometheusNaming"], stderr=self._log)
        end = time.monotonic() + 60
        while not self._is_ready():
            assert self.process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < end

    def _is_ready(self) -> bool:
        try:
            return self.get("/health") == "OK"
        except urllib.error.URLError:
            return False

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path) as answer:
            return str(answer.read().decode())

    def series(self) -> dict[tuple[str, str], tuple[dict[str, str], float]]:
        """The newest value of each series, by name and what tells its buckets and elements apart."""
        self.get("/internal/force_flush")
        found = {}
        later = time.time() + 3600  # by itself it ends with the last whole second
        for line in self.get(f"/api/v1/export?match[]=%7B__name__!=%22%22%7D&end={later}").splitlines():
            row: Any = json.loads(line)
            labels: dict[str, str] = row["metric"]
            name = labels.pop("__name__")
            which = next((labels[each] for each in ("vmrange", "le", "which", "name") if each in labels), "")
            found[name, which] = labels, row["values"][-1]
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[VictoriaMetrics]:
    made = VictoriaMetrics(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_a_database_has_what_is_pushed(database: VictoriaMetrics, tmp_path: Path) -> None:
    program = tmp_path / "pushed.bpf.c"
    program.write_text(NATIVE)
    arguments = ["--machine", "--name", "asked_*", "--otlp", f"{database.url}/opentelemetry", "--otlp-interval", "0.1"]
    with (
        Running(str(program), *arguments) as running,
        the_map("asked_sizes") as sizes,
        the_map("asked_times") as times,
        the_map("asked_calls") as calls,
    ):
        sizes.update({0: 5, 4: 90, 10: 10})
        times.update({4: 7})
        calls.update({7: 3})
        while ("pushed_asked_calls_total", "7") not in database.series():
            assert running.process.poll() is None
        calls[7] = 1000  # what was counted since the last push is sent at the end
        running.process.terminate()
        running.process.wait()
    found = database.series()
    labels, value = found["pushed_asked_calls_total", "7"]
    assert value == 1000
    assert labels | OWN == labels
    assert found["bpf_map_max_entries", "asked_calls"][1] == 8
    # Whole numbers count by powers of two: an exponential histogram, which this database tells as ranges.
    ranges = {which: value for (name, which), (_, value) in found.items() if name == "pushed_asked_sizes_bucket"}
    assert ranges == {"5.000e-01...1.000e+00": 5, "1.600e+01...3.200e+01": 90, "1.024e+03...2.048e+03": 10}
    assert found["pushed_asked_sizes_count", ""][1] == 105
    # Microseconds told as seconds keep their own bounds.
    buckets = {
        which: value for (name, which), (_, value) in found.items() if name == "pushed_asked_times_seconds_bucket"
    }
    assert (buckets["0.000016"], buckets["0.000032"], buckets["+Inf"]) == (0, 7, 7)
    # Sums are not known, and nothing is told of them.
    assert not [name for name, _ in found if name.endswith("_sum")]


def test_pushed_alone_and_once(database: VictoriaMetrics, tmp_path: Path) -> None:
    (tmp_path / "once.bpf.c").write_text(NATIVE)
    command = [sys.executable, "-m", "bpf2py", "export", str(tmp_path / "once.bpf.c"), "--once", "--listen", "none"]
    done = subprocess.run(
        [*command, "--otlp", f"{database.url}/opentelemetry"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "once_asked_sizes_count 0" in done.stdout
    assert database.series()["once_asked_sizes_count", ""][1] == 0


def test_a_collector_that_is_not_there_is_counted(tmp_path: Path) -> None:
    (tmp_path / "alone.bpf.c").write_text(NATIVE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    with Running(str(tmp_path / "alone.bpf.c"), "--otlp", nobody, "--otlp-interval", "0.1") as running:
        while "bpf2py_export_push_failures_total 0.0" in running.get():
            assert running.process.poll() is None
        assert "bpf2py_export_push_failures_total" in running.get()
        assert running.get("/healthz") == "ok\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--listen", "none"], "give --otlp URL"),
        (["--listen", "none", "--otlp", "http://localhost:4318", "--otlp-interval", "0"], "give --otlp URL"),
        (["--otlp", "localhost:4318"], "a collector is a URL such as http://localhost:4318"),
    ],
)
def test_wrong_options(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "bpf2py", "export", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr

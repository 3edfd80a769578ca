"""A real Prometheus scrapes the exporter, and promtool reads what it says."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.export.test_export_kernel import HEAD, Running, the_map

from bpf2py.testing.guest_debian import kernel_directory

pytest.importorskip("prometheus_client")
pytestmark = pytest.mark.kernel
RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules.yml"
PROGRAM = f"""{HEAD}
struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, __u64); }}
    scraped_calls SEC(".maps") METRIC_COUNTER METRIC_LABEL("which") METRIC_HELP("Calls by what they are");
struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 27); __type(key, __u32); __type(value, __u64); }}
    scraped_latency SEC(".maps") METRIC_HISTOGRAM METRIC_UNIT("microseconds") METRIC_HELP("How long they take");
SEC("raw_tp/sys_enter") int count(struct bpf_raw_tracepoint_args *ctx) {{ return 0; }}
"""


def tool(name: str, release: str = "bookworm") -> str:
    """A program of Debian's package: the one tools/fetch.py has unpacked, or an installed one."""
    kept = sorted(str(path) for path in kernel_directory().glob(f"prometheus-debian-{release}-*/usr/bin/{name}"))
    found = next(iter(kept), None) or (shutil.which(name) if release == "bookworm" else None)
    if found is None:
        pytest.skip(f"there is no {name}: tools/fetch.py fetches it on Debian")
    return found


class Prometheus:
    """A Prometheus with one target, and its answers."""

    def __init__(self, target: str | None, directory: Path, *flags: str, release: str = "bookworm") -> None:
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "bpf", "static_configs": [{"targets": [target]}]}] if target else [],
        }
        (directory / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        command = [
            tool("prometheus", release),
            f"--config.file={directory}/prometheus.yml",
            "--web.listen-address=127.0.0.1:0",
        ]
        command += [f"--storage.tsdb.path={directory}/data", "--log.format=json", *flags]
        self._log = (directory / "log").open("w+")
        self.process = subprocess.Popen(command, stderr=self._log, stdout=subprocess.DEVNULL)
        self.url = ""

    def start(self) -> None:
        end = time.monotonic() + 60
        while not self.url:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            lines = [json.loads(line) for line in self.log.splitlines(keepends=True) if line.endswith("\n")]
            found = [line["address"] for line in lines if line.get("msg") == "Listening on"]
            self.url = f"http://{found[0]}" if found else ""
        while not self._is_ready():
            assert time.monotonic() < end, self.log

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready") as answer:
                return bool(answer.status == 200)
        except urllib.error.URLError:  # 503 as long as it starts
            return False

    @property
    def log(self) -> str:
        return Path(self._log.name).read_text()

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}") as answer:
            return json.load(answer)["data"]

    def value(self, query: str, wanted: float | None = None) -> float:
        """What PromQL gives, once there is a value and it is what is wanted, or a minute has passed."""
        end, found = time.monotonic() + 60, math.nan
        while (math.isnan(found) or wanted not in (None, found)) and time.monotonic() < end:
            result = self.get("query", query=query)["result"]
            found = float(result[0]["value"][1]) if result else math.nan
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()


@contextlib.contextmanager
def prometheus_of(target: str | None, directory: Path, *flags: str, release: str = "bookworm") -> Iterator[Prometheus]:
    made = Prometheus(target, directory, *flags, release=release)
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "scraped.bpf.c").write_text(PROGRAM)
    with Running(str(tmp_path / "scraped.bpf.c"), "--machine") as running:
        yield running


def test_prometheus_has_the_counts(exporter: Running, tmp_path: Path) -> None:
    with the_map("scraped_calls") as calls, the_map("scraped_latency") as latency:
        calls.update({3: 7, 4: 9})
        latency.update({4: 90, 10: 10})  # 90 of 16 to 31 us, 10 of 1,024 to 2,047 us
        with prometheus_of(exporter.url.removeprefix("http://"), tmp_path) as prometheus:
            assert prometheus.value('{__name__=~".*scraped_calls_total",which="3"}', 7) == 7
            assert prometheus.value('sum({__name__=~".*scraped_calls_total"})', 16) == 16
            calls[3] = 8
            assert prometheus.value('{__name__=~".*scraped_calls_total",which="3"}', 8) == 8
            (bucket,) = [name for name in names(exporter.get()) if name.endswith("latency_seconds_bucket")]
            median = prometheus.value(f"histogram_quantile(0.5, {bucket})")
            assert 16e-6 <= median <= 32e-6
            assert 1024e-6 <= prometheus.value(f"histogram_quantile(0.99, {bucket})") <= 2048e-6
            (target,) = prometheus.get("targets")["activeTargets"]
            assert (target["health"], target["lastError"]) == ("up", "")
            rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
            assert len(rules) >= 6
            assert {rule.get("lastError", "") for rule in rules} == {""}
            assert prometheus.value("count(bpf_map_pressure_ratio)") >= 1


NATIVE = f"""{HEAD}
struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 27); __type(key, __u32); __type(value, __u64); }}
    asked_sizes SEC(".maps") METRIC_HISTOGRAM METRIC_HELP("How much is asked for");
struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 27); __type(key, __u32); __type(value, __u64); }}
    asked_times SEC(".maps") METRIC_HISTOGRAM METRIC_UNIT("microseconds") METRIC_HELP("How long it takes");
struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, __u64); }}
    asked_calls SEC(".maps") METRIC_COUNTER METRIC_LABEL("which") METRIC_HELP("Calls by what they are");
SEC("raw_tp/sys_enter") int count(struct bpf_raw_tracepoint_args *ctx) {{ return 0; }}
"""


@pytest.mark.parametrize("release", ["bookworm", "testing"])
def test_prometheus_has_native_histograms(release: str, tmp_path: Path) -> None:
    (tmp_path / "native.bpf.c").write_text(NATIVE)
    with (
        Running(str(tmp_path / "native.bpf.c")) as running,
        the_map("asked_sizes") as sizes,
        the_map("asked_times") as times,
        the_map("asked_calls") as calls,
    ):
        sizes.update({0: 5, 4: 90, 10: 10})  # 5 of 0 and 1, 90 of 16 to 31, 10 of 1,024 to 2,047
        calls.update({7: 3})
        target = running.url.removeprefix("http://")
        flag = "--enable-feature=native-histograms"
        with prometheus_of(target, tmp_path, flag, release=release) as prometheus:
            metric = '{__name__=~".*asked_sizes"}'
            assert prometheus.value(f"histogram_count({metric})", 105) == 105
            assert 16 < prometheus.value(f"histogram_quantile(0.5, {metric})") <= 32
            assert prometheus.value(f"histogram_fraction(0, 1, {metric}) * 105") == pytest.approx(5)
            assert prometheus.value(f"histogram_fraction(16, 32, {metric}) * 105") == pytest.approx(90)
            assert prometheus.value(f"histogram_fraction(1024, 2048, {metric}) * 105") == pytest.approx(10)
            # The sum is not known: that of the buckets' middles, for 0 would be taken for it.
            assert prometheus.value(f"histogram_sum({metric})") == 5 * 0.5 + 90 * 23.5 + 10 * 1535.5
            times.update({4: 1})
            assert prometheus.value('histogram_count({__name__=~".*asked_times_seconds"})', 1) == 1
            assert prometheus.value('{__name__=~".*asked_calls_total",which="7"}', 3) == 3
            (now,) = prometheus.get("targets")["activeTargets"]
            assert (now["health"], now["lastError"]) == ("up", "")


def names(text: str) -> set[str]:
    return {line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if line and line[0] != "#"}


def test_promtool_finds_nothing_to_say(exporter: Running) -> None:
    done = subprocess.run([tool("promtool"), "check", "metrics"], input=exporter.get(), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_promtool_takes_the_rules() -> None:
    subprocess.run([tool("promtool"), "check", "rules", str(RULES)], check=True, stdout=subprocess.DEVNULL)

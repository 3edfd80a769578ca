"""`bpf2py export` with programs on the kernel: every count arrives, also over restarts and reloads."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.export.test_export_programs import config_of, samples, scraped

import bpf2py
from bpf2py.errors import EncodeError
from bpf2py.export.collector import ConfigCollector
from bpf2py.export.exported import Exported
from bpf2py.export.service import Exporter
from bpf2py.kernel.cgroups import mount_point
from bpf2py.spec.object_spec import ObjectSpec

prometheus = pytest.importorskip("prometheus_client")
pytest.importorskip("yaml")
pytestmark = pytest.mark.kernel
Compile = Callable[[str], bytes]

HEAD = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf2py/metrics.h>
char LICENSE[] SEC("license") = "GPL";
"""
# A program that others run: each run counts once by its argument, in a map, per CPU and as a record.
COUNTING = f"""{HEAD}
struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64); __type(key, __u64); __type(value, __u64); }}
    runs_total SEC(".maps");
struct {{ __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 64); __type(key, __u64); __type(value, __u64); }}
    cpu_runs_total SEC(".maps");
struct {{ __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); }} records_total SEC(".maps");

SEC("raw_tp/sys_enter") int count(struct bpf_raw_tracepoint_args *ctx)
{{
    __u64 zero = 0, key = ctx->args[0], *value;

    if (ctx->args[1] != 424242)
        return 0;
    bpf_map_update_elem(&runs_total, &key, &zero, BPF_NOEXIST);
    value = bpf_map_lookup_elem(&runs_total, &key);
    if (value)
        __sync_fetch_and_add(value, 1);
    bpf_map_update_elem(&cpu_runs_total, &key, &zero, BPF_NOEXIST);
    value = bpf_map_lookup_elem(&cpu_runs_total, &key);
    if (value)
        *value += 1;
    bpf_perf_event_output(ctx, &records_total, BPF_F_CURRENT_CPU, &key, sizeof(key));
    return 0;
}}
"""
LABELS = "labels: [{name: key, size: 8, decoders: [{name: uint}]}]"
CONFIG = f"""
metrics:
  counters:
    - {{name: runs_total, help: Runs, {LABELS}}}
    - {{name: cpu_runs_total, help: Runs, {LABELS}}}
    - {{name: records_total, help: Runs, perf_event_array: true, {LABELS}}}
"""


def run(program: Any, key: int, times: int) -> None:
    context = key.to_bytes(8, "little") + (424242).to_bytes(8, "little")
    for _ in range(times):
        program.test_run(context=context)


def test_scraping_meanwhile_loses_no_count(compile_bpf: Compile) -> None:
    with Exported(config_of(CONFIG), ObjectSpec.from_bytes(compile_bpf(COUNTING)), "kernel") as exported:
        exported.run()
        program = exported.obj.programs["count"]
        threads = [threading.Thread(target=run, args=(program, key, 500)) for key in (1, 2)]
        for thread in threads:
            thread.start()
        before: dict[str, float] = {}
        while any(thread.is_alive() for thread in threads):
            found = {name: n for name, n in scraped(exported).items() if "_total{" in name and "key=" in name}
            assert all(found[name] >= before[name] for name in before)
            before = found
        for thread in threads:
            thread.join()
        found = scraped(exported)
        for key in (1, 2):
            assert found[f'ebpf_exporter_runs_total{{key="{key}"}}'] == 500
            assert found[f'ebpf_exporter_cpu_runs_total{{key="{key}"}}'] == 500
        records = sum(n for name, n in found.items() if name.startswith("ebpf_exporter_records_total{"))
        assert records + found["dropped_perf_event_map_events_records_total"] == 1_000


HOOKS = f"""{HEAD}
__u64 events METRIC_COUNTER;
__u64 packets METRIC_COUNTER;
__u64 started METRIC_COUNTER;
SEC("perf_event/type=1,config=0,frequency=997") int on_clock(void *ctx) {{ __sync_fetch_and_add(&events, 1); return 0; }}
SEC("xdp/lo") int on_packet(struct xdp_md *ctx) {{ __sync_fetch_and_add(&packets, 1); return XDP_PASS; }}
SEC("uprobe//proc/self/exe:post_attach_mark") int at_start(void *ctx) {{ __sync_fetch_and_add(&started, 1); return 0; }}
SEC("tracepoint/no_such/tracepoint") int nowhere(void *ctx) {{ return 0; }}
"""


def test_hooks_of_sections(tmp_path: Path) -> None:
    """What ebpf_exporter attaches by its sections; one that cannot be attached does not stop the others."""
    import socket

    (tmp_path / "hooks.bpf.c").write_text(HOOKS)
    with Exporter([tmp_path / "hooks.bpf.c"], "kernel") as exporter:
        (exported,) = exporter.exported
        attached = {name: reason is None for name, reason in exported.attached.items()}
        assert attached == {"on_clock": True, "on_packet": True, "at_start": True, "nowhere": False}
        (line,) = exporter.unattached()
        assert line.startswith("config hooks: program nowhere is not attached: ")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", ("127.0.0.1", 9))
        found = scraped(exported)
        assert found["hooks_started_total"] == 1
        assert found["hooks_packets_total"] >= 1
        while not scraped(exported)["hooks_events_total"]:
            sum(range(100_000))  # the clock ticks while somebody works
        states = [n for name, n in found.items() if name.startswith("ebpf_exporter_ebpf_program_attached")]
        assert sorted(states) == [0, 1, 1, 1]


def test_two_configs_with_one_metric(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.bpf.c").write_text(COUNTING)
        (tmp_path / f"{name}.yaml").write_text(CONFIG)
    with pytest.raises(EncodeError, match="config one has a metric ebpf_exporter_runs_total already"):
        Exporter([tmp_path / "one.yaml", tmp_path / "two.yaml"], "kernel")
    (tmp_path / "sub").mkdir()
    for file in ("one.yaml", "one.bpf.c"):
        (tmp_path / "sub" / file).write_bytes((tmp_path / file).read_bytes())
    with pytest.raises(EncodeError, match="there is a config one already"):
        Exporter([tmp_path / "one.yaml", tmp_path / "sub" / "one.yaml"], "kernel")


def test_addresses_of_kernel_symbols(tmp_path: Path) -> None:
    (tmp_path / "addresses.yaml").write_text("metrics: {gauges: [{name: address}]}\nkaddrs: [schedule]")
    (tmp_path / "addresses.bpf.c").write_text(
        f"""{HEAD}
const volatile __u64 kaddr_schedule = 0;
struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); }}
    address SEC(".maps");
SEC("uprobe//proc/self/exe:post_attach_mark") int at_start(void *ctx)
{{
    __u64 *value, zero = 0;
    __u32 key = 0;

    value = bpf_map_lookup_elem(&address, &key);
    if (value)
        *value = kaddr_schedule;
    return 0;
}}
"""
    )
    with Exporter([tmp_path / "addresses.yaml"], "kernel") as exporter:
        (exported,) = exporter.exported
        address = exported.obj.variables["kaddr_schedule"].value
        assert address >> 63
        assert exported.read(exported.config.sources[0]) == {(): [address]}


@contextlib.contextmanager
def cgroup(name: str) -> Iterator[str]:
    root = mount_point()
    assert root is not None
    path = os.path.join(root, name)
    os.mkdir(path)
    try:
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(path)


@pytest.mark.parametrize("kind", ["hash", pytest.param("cgrp_storage", marks=pytest.mark.since("6.2"))])
def test_a_map_of_cgroups(compile_bpf: Compile, kind: str) -> None:
    if kind == "hash":
        declared = "__uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 100); __type(key, __u64);"
    else:
        declared = "__uint(type, BPF_MAP_TYPE_CGRP_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, int);"
    source = f'{COUNTING}\nstruct {{ {declared} __type(value, __u64); }} ids SEC(".maps");'
    text = f"{CONFIG}\ncgroup_id_map: {{name: ids, type: {kind}, regexps: ['/export-test-one$']}}"
    with (
        cgroup("export-test-one") as one,
        cgroup("export-test-two") as two,
        Exported(config_of(text), ObjectSpec.from_bytes(compile_bpf(source)), "kernel") as exported,
    ):
        ids: Any = exported.obj.maps["ids"]
        assert exported._cgroups is not None
        if kind == "hash":
            assert dict(ids.items()) == {os.stat(one).st_ino: 1}
            os.rmdir(one)
            exported._cgroups.update()
            assert dict(ids.items()) == {}
        else:
            with contextlib.ExitStack() as stack:
                first, second = (os.open(path, os.O_RDONLY) for path in (one, two))
                stack.callback(os.close, first)
                stack.callback(os.close, second)
                assert ids.get(first) == 1
                assert ids.get(second) is None
        assert exported._cgroups.errors == 0


# -- the command -----------------------------------------------------------------------------------------------------

ANNOTATED = f"""{HEAD}
struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, __u64); }}
    calls SEC(".maps") METRIC_COUNTER METRIC_LABEL("which");
SEC("raw_tp/sys_enter") int count(struct bpf_raw_tracepoint_args *ctx) {{ return 0; }}
"""


class Running:
    """`bpf2py export` as a process, and its answers."""

    def __init__(self, *arguments: str, token: str | None = None) -> None:
        command = [sys.executable, "-m", "bpf2py", "export", "--listen", "127.0.0.1:0", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        line = self.line("metrics at")
        self.url = line.split(" at ")[1].strip().removesuffix("/metrics")

    def line(self, wanted: str) -> str:
        assert self.process.stderr is not None
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if wanted in line:
                return line
        raise AssertionError("".join(lines))

    def get(self, path: str = "/metrics") -> str:
        with urllib.request.urlopen(self.url + path) as answer:
            return str(answer.read().decode())

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


def calls(running: Running) -> dict[str, float]:
    return {name: n for name, n in samples(running.get()).items() if name.startswith("calls_calls_total")}


def the_map(name: str) -> Any:
    from bpf2py.kernel import inspect

    (info,) = [info for info in inspect.maps() if info.name == name]
    return bpf2py.Map.from_id(info.id)


def test_reload_keeps_counts(tmp_path: Path) -> None:
    """SIGHUP: another config of the same program, then another program with the same map, then one that is wrong."""
    (tmp_path / "kept.bpf.c").write_text(ANNOTATED.replace("calls SEC", "kept_calls SEC"))
    config = "metrics: {counters: [{name: kept_calls, labels: [{name: %s, size: 4, decoders: [{name: uint}]}]}]}"
    (tmp_path / "kept.yaml").write_text(config % "one")

    def told() -> dict[str, float]:
        return {name: n for name, n in samples(running.get()).items() if "kept_calls" in name}

    with Running("--config", str(tmp_path / "kept.yaml"), "--no-stats") as running:
        with the_map("kept_calls") as counted:
            counted[3] = 7
        assert told() == {'ebpf_exporter_kept_calls{one="3"}': 7}
        (tmp_path / "kept.yaml").write_text(config % "two")
        running.process.send_signal(signal.SIGHUP)
        running.line("1 file read again")
        assert told() == {'ebpf_exporter_kept_calls{two="3"}': 7}
        (tmp_path / "kept.bpf.c").write_text(
            ANNOTATED.replace("calls SEC", "kept_calls SEC").replace("return 0", "return ctx->args[1] & 1")
        )
        running.process.send_signal(signal.SIGHUP)
        running.line("1 file read again")
        assert told() == {'ebpf_exporter_kept_calls{two="3"}': 7}
        (tmp_path / "kept.yaml").write_text(config % "a b")
        running.process.send_signal(signal.SIGHUP)
        assert "'a b' cannot be a name" in running.line("kept.yaml")
        assert told() == {'ebpf_exporter_kept_calls{two="3"}': 7}


def test_another_program_goes_on_with_all_counts(tmp_path: Path) -> None:
    """Maps are taken over, and so is what was counted of a perf buffer, its last records included."""
    (tmp_path / "some.yaml").write_text(CONFIG)
    (tmp_path / "some.bpf.c").write_text(COUNTING)
    names = ("runs", "cpu_runs", "records")
    with Exporter([tmp_path / "some.yaml"], "kernel") as exporter:
        exporter.run()
        (first,) = exporter.exported
        run(first.obj.programs["count"], 1, 5)
        (tmp_path / "some.bpf.c").write_text(
            COUNTING.replace("!= 424242)\n        return 0", "!= 424242)\n        return 1")
        )
        assert exporter.reload() == []
        (second,) = exporter.exported
        assert second is not first
        assert first.obj.closed
        run(second.obj.programs["count"], 1, 3)
        found = scraped(second)
        assert [found[f'ebpf_exporter_{name}_total{{key="1"}}'] for name in names] == [8, 8, 8]
        # What is wrong changes nothing, and the exporter goes on.
        (tmp_path / "some.bpf.c").write_text(COUNTING.replace("runs_total SEC", "others SEC"))
        (line,) = exporter.reload()
        assert "runs_total" in line
        assert exporter.exported == [second]
        run(second.obj.programs["count"], 1, 1)
        assert scraped(second)['ebpf_exporter_records_total{key="1"}'] == 9


def test_killed_and_started_again_it_goes_on(tmp_path: Path, bpffs: Path) -> None:
    source = tmp_path / "calls.bpf.c"
    source.write_text(ANNOTATED)
    directory = bpffs / "export"
    with Running(str(source), "--pin", str(directory), "--no-stats") as running:
        with bpf2py.Map.from_pin(directory / "calls" / "calls") as counted:
            counted[1] = 5
        assert calls(running) == {'calls_calls_total{which="1"}': 5}
        running.process.kill()
        running.process.wait()
    with bpf2py.Map.from_pin(directory / "calls" / "calls") as counted:
        counted[2] = 6
    with Running(str(source), "--pin", str(directory), "--no-stats") as running:
        assert calls(running) == {'calls_calls_total{which="1"}': 5, 'calls_calls_total{which="2"}': 6}


def test_without_capabilities_it_goes_on_reading(tmp_path: Path) -> None:
    source = tmp_path / "calls.bpf.c"
    source.write_text(
        ANNOTATED
        + 'struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } e SEC(".maps");'
    )
    with Running(str(source), "--keep-capabilities", "syslog,CAP_KILL") as running:
        with the_map("calls") as counted:
            counted[1] = 5
        assert calls(running) == {'calls_calls_total{which="1"}': 5}
        tasks = list(Path(f"/proc/{running.process.pid}/task").iterdir())
        assert len(tasks) > 1
        for task in tasks:
            status = (task / "status").read_text()
            assert "CapEff:\t0000000400000020" in status
            assert "CapPrm:\t0000000400000020" in status
            assert "NoNewPrivs:\t1" in status


def test_it_ends_when_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "calls.bpf.c").write_text(ANNOTATED)
    for number, status in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        with Running(str(tmp_path / "calls.bpf.c"), "--no-stats") as running:
            running.process.send_signal(number)
            assert running.process.wait() == status
            assert running.process.stderr is not None
            assert "Traceback" not in running.process.stderr.read()


def test_health_is_that_of_the_threads_that_count(compile_bpf: Compile) -> None:
    from bpf2py.export.server import serve

    with Exported(config_of(CONFIG), ObjectSpec.from_bytes(compile_bpf(COUNTING)), "kernel") as exported:
        exported.run()
        registry = prometheus.CollectorRegistry(auto_describe=False)
        registry.register(ConfigCollector(lambda: [exported]))
        server, thread = serve(registry, "127.0.0.1", 0, problems=lambda: exported.failures)
        try:
            url = f"http://127.0.0.1:{server.server_port}/healthz"
            with urllib.request.urlopen(url) as answer:
                assert answer.read() == b"ok\n"
            exported._perf["records_total"].failed = "it broke"
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(url)
            assert caught.value.code == 503
            assert caught.value.read() == b"records_total: it broke\n"
            caught.value.close()
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "bpf2py", "export", *arguments], capture_output=True, text=True)


def test_check_says_what_is_wrong_and_its_status(tmp_path: Path) -> None:
    (tmp_path / "some.bpf.c").write_text(COUNTING)
    (tmp_path / "some.yaml").write_text(CONFIG)
    done = command("--check", "--config", str(tmp_path / "some.yaml"))
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'some.yaml'}: fits\n")
    (tmp_path / "some.yaml").write_text(CONFIG.replace("size: 8", "size: 4"))
    done = command("--check", "--config", str(tmp_path / "some.yaml"))
    assert done.returncode == 1
    assert "runs_total: label key (offset 0, size 4) ends within member key (offset 0, size 8)" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--check"], "--check is about configs and programs"),
        (["--pin", "/sys/fs/bpf/x"], "--pin and --expire-after apply to programs"),
        (["--keep-capabilities", "none"], "metrics of the machine need CAP_SYS_ADMIN"),
        (["--config", "/nowhere/x.yaml"], "/nowhere/x.yaml"),
    ],
)
def test_what_the_command_refuses(arguments: list[str], message: str) -> None:
    done = command(*arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("missing", "arguments", "name"),
    [
        ("prometheus_client", ["--config", "some.yaml", "--once"], "prometheus_client is not installed"),
        ("prometheus_client", ["--once"], "prometheus_client is not installed"),
        ("google.protobuf", ["--listen", "127.0.0.1:0"], "protobuf is not installed"),
        ("yaml", ["--config", "some.yaml", "--check"], "PyYAML is not installed"),
        (
            "opentelemetry",
            ["--config", "some.yaml", "--once", "--otlp", "http://localhost:1"],
            "OpenTelemetry is not installed",
        ),
    ],
)
def test_an_extra_that_is_not_installed(tmp_path: Path, missing: str, arguments: list[str], name: str) -> None:
    (tmp_path / "some.bpf.c").write_text(COUNTING)
    (tmp_path / "some.yaml").write_text(CONFIG)
    without = (
        f"import sys; sys.modules[{missing!r}] = None; from bpf2py.cli import main; sys.argv[0] = 'bpf2py'; main()"
    )
    command = [sys.executable, "-c", without, "export", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert name in done.stderr
    assert "pip install 'bpf2py[" in done.stderr
    assert "Traceback" not in done.stderr


def test_with_the_metrics_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "calls.bpf.c").write_text(ANNOTATED)
    done = command(str(tmp_path / "calls.bpf.c"), "--machine", "--once", "--name", "calls")
    assert done.returncode == 0, done.stderr
    found = samples(done.stdout)
    assert any(name.startswith("bpf_map_max_entries{") for name in found)
    assert found['ebpf_exporter_enabled_configs{name="calls"}'] == 1


KPROBES = f"""{HEAD}
#include <bpf/bpf_tracing.h>
struct stack_key {{ __u64 function; __u64 stack[8]; }};
struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64); __type(key, struct stack_key); __type(value, __u64); }}
    writes_total SEC(".maps");
const volatile __u32 mine = 0;

static int counted(void *ctx, __u64 function, int skip)
{{
    struct stack_key key = {{ .function = function }};
    __u64 one = 1, *count;

    if (bpf_get_current_pid_tgid() >> 32 != mine)
        return 0;
    bpf_get_stack(ctx, key.stack, sizeof(key.stack), skip);
    count = bpf_map_lookup_elem(&writes_total, &key);
    if (count)
        __sync_fetch_and_add(count, 1);
    else
        bpf_map_update_elem(&writes_total, &key, &one, BPF_NOEXIST);
    return 0;
}}
SEC("kprobe/vfs_write") int on_probe(struct pt_regs *ctx) {{ return counted(ctx, PT_REGS_IP_CORE(ctx), 0); }}
SEC("fentry/vfs_write") int on_entry(void *ctx) {{ return counted(ctx, bpf_get_func_ip(ctx), 0); }}
"""


@pytest.mark.kprobe
def test_functions_and_stacks_of_probes(compile_bpf: Compile, tmp_path: Path) -> None:
    text = """
metrics:
  counters:
    - name: writes_total
      labels:
        - {name: function, size: 8, decoders: [{name: ksym}]}
        - {name: stack, size: 64, decoders: [{name: kstack}]}
"""
    spec = ObjectSpec.from_bytes(compile_bpf(KPROBES))
    spec.variables["mine"].value = os.getpid()
    with Exported(config_of(text), spec, "kernel") as exported:
        assert all(reason is None for reason in exported.attached.values()), exported.attached
        (tmp_path / "written").write_bytes(b"x")
        told = exported.read(exported.config.sources[0])
        assert sum(count for (count,) in told.values()) >= 2  # each program once
        assert {function for function, _ in told} == {"vfs_write"}
        assert any("ksys_write" in stack.split("\n") for _, stack in told)

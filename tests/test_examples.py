from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.toolchain.compiler import compile_with_log
from bpf2py.toolchain.find import Compiler, candidates, examine

EXAMPLES = Path(__file__).parent.parent / "examples"
MAPS = {
    "map_basics": {"my_hash_map": ("HASH", 1003), "my_array_map": ("ARRAY", 16)},
    "exec_counts": {"exec_counts": ("HASH", 4096)},
    "exec_events": {"events": ("RINGBUF", 1 << 18)},
    "opens": {"opens": ("RINGBUF", 1 << 18)},
    "latency": {"begun": ("HASH", 10240), "hist_ns": ("PERCPU_ARRAY", 40)},
    "packets": {"protocols": ("PERCPU_HASH", 256)},
    "map_limits": {"full_hash": ("HASH", 1003), "full_lru": ("LRU_HASH", 1003), "results": ("ARRAY", 6)},
}


def compilers() -> list[Compiler]:
    """The best compiler of each kind on this machine."""
    found: dict[str, Compiler] = {}
    for candidate in candidates():
        if candidate.kind not in found:
            compiler, _ = examine(candidate)
            if compiler is not None:
                found[candidate.kind] = compiler
    return list(found.values())


def load(name: str) -> Any:
    return bpf2py.load(EXAMPLES / f"{name}.bpf.c")


def test_every_example_is_tested() -> None:
    assert {path.name.removesuffix(".bpf.c") for path in EXAMPLES.glob("*.c")} == set(MAPS)


@pytest.mark.parametrize("compiler", compilers(), ids=lambda compiler: compiler.kind)
@pytest.mark.parametrize("name", MAPS)
def test_example_compiles_without_a_warning(name: str, compiler: Compiler) -> None:
    compiled = compile_with_log(EXAMPLES / f"{name}.bpf.c", compiler=compiler)
    assert compiled.warnings == ""
    spec = bpf2py.ObjectSpec.from_bytes(compiled.data)
    maps = {each.name: (each.type_name, each.max_entries) for each in spec.maps.values() if each.name in MAPS[name]}
    assert maps == MAPS[name]
    assert all(program.section.startswith(("tracepoint/", "xdp")) for program in spec.programs.values())


@pytest.mark.kernel
def test_map_basics_counts_executions(tracefs: Path) -> None:
    with load("map_basics") as obj:
        obj.attach()
        with subprocess.Popen(["/bin/true"]) as process:
            pass
        assert obj.maps["my_hash_map"][process.pid] == 1
        total, found_no_room, *by_cpu = (value for _, value in obj.maps["my_array_map"].items())
        assert total >= 1
        assert found_no_room == 0
        assert sum(by_cpu) >= 1  # other programs run meanwhile, so it need not be the total yet


@pytest.mark.kernel
def test_exec_counts_knows_each_command(tracefs: Path, tmp_path: Path) -> None:
    name = f"once{os.getpid()}"
    program = tmp_path / name
    shutil.copy(shutil.which("true") or "/bin/true", program)
    with load("exec_counts") as obj:
        obj.attach()
        for _ in range(3):
            with subprocess.Popen([program]) as process:
                pass
        found = obj.maps["exec_counts"][{"comm": name}]
        assert (found["count"], found["last_pid"], found["last_uid"]) == (3, process.pid, os.getuid())
        assert found["last_ns"] > 0


@pytest.mark.kernel
def test_map_limits_shows_what_a_full_map_does(tracefs: Path) -> None:
    with load("map_limits") as obj:
        obj.attach()
        subprocess.run(["/bin/true"], check=True)
        assert [value for _, value in obj.maps["results"].items()] == [1003, 1, 0, 1004, 0, 0]
        assert dict(obj.maps["full_hash"].items()) == {key: key * key for key in range(1003)}
        remembered = dict(obj.maps["full_lru"].items())
        assert 0 < len(remembered) <= 1003
        assert all(value == key * key for key, value in remembered.items())
        assert 1003 in remembered


@pytest.mark.kernel
def test_exec_events_reports_each_execution(tracefs: Path) -> None:
    with load("exec_events") as obj, bpf2py.RingReader(obj.maps["events"]) as reader:
        obj.attach()
        with subprocess.Popen(["/bin/true"]) as process:
            pass
        event = next(event for event in reader if event.pid == process.pid)
        assert (event.comm, event.uid) == ("true", os.getuid())
        assert event.time_ns > 0
        assert obj.variables["lost"].value == 0

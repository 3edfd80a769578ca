"""bpf2py gen: modules that check, format, import, load, and come out the same twice."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import bpf2py
from bpf2py.codegen.build import Request, produce
from bpf2py.errors import BpfError

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.bpf.c"))

SOURCES = Path(__file__).parent
NASTY = (SOURCES / "nasty.bpf.c").read_text()


def gen(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "bpf2py", "gen", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Modules of all examples, of odd types and of nasty layouts, in one directory."""
    directory = tmp_path_factory.mktemp("generated")
    for source in (*EXAMPLES, *(SOURCES / f"{name}.bpf.c" for name in ("nasty", "odd", "streams"))):
        gen(source.name.removesuffix(".bpf.c"), str(source), "--output-dir", str(directory))
    gen("embedded", str(SOURCES / "nasty.bpf.c"), "--output-dir", str(directory), "--embed", "--type", "extra")
    layouts = SOURCES / "layouts.bpf.c"
    types = [word for name in re.findall(r"(\w+) \*keep_", layouts.read_text()) for word in ("--type", name)]
    gen("layouts", str(layouts), "--output-dir", str(directory), *types)
    return directory


# What type checkers must find; everything else must pass.
USER = """
from typing import Any, assert_type

import bpf2py
from bpf2py import Map, MapType, PerfReader, RingReader
from bpf2py import maps as m
from bpf2py.maps import ArrayMap, HashMap, Histogram, LruHashMap, PerCpuHashMap
from nasty_bpfel import MAP_COLORS, Color, Nasty, Objects
from odd_bpfel import Big, Config, EventT, StateT
from odd_bpfel import Objects as Odd
from streams_bpfel import Event
from streams_bpfel import Objects as Streams

with Odd.load(max_entries={"class": 4}, variables={"target": 3, "config": Config(c1=4)}, autoload={"run": False}) as odd:
    odd.maps.states[1] = StateT.ON
    odd.maps.states[1] = 3  # wrong
    odd.variables.target.value = StateT.ON  # an integer, too
    odd.variables.mode.value = StateT.ON  # wrong
    odd.maps.fuond  # wrong
    for key, value in odd.maps.found.items():
        print(key.ids[0].bit_length(), value.comm.upper(), value.inner[0][0].deep.y.bit_length())
        print(value.comm.bit_length())  # wrong
        match value.event:
            case EventT(a, pid):
                print(a.bit_length(), pid.bit_length())
                a.upper()  # wrong
        if value.state is StateT.ON:
            print(value.state.name.upper())
Odd.load(autoload={"rum": False})  # wrong
Odd.load(variables={"target": "x"})  # wrong
Odd.load("engine", chars="bytes")  # wrong
Objects.load(max_entries={MAP_COLORS: 3}, pin_path="/sys/fs/bpf/here", change=lambda spec: print(spec.maps))
Objects.load(max_entries={MAP_COLORS: "3"})  # wrong
print(Nasty(low=1, color=Color.GREEN, addr=Nasty().addr), Big(EventT(1, 2)))
Nasty(colour=Color.GREEN)  # wrong
EventT(a="x")  # wrong


async def later(streams: Streams) -> None:
    async for event in RingReader(streams.maps.ring):
        assert_type(event, Event)


def events(streams: Streams) -> None:
    with RingReader(streams.maps.ring) as reader, PerfReader(streams.maps.perf, pages=8) as perf:
        assert_type(reader, RingReader[Event])
        for event in reader:
            print(event.pid.bit_length(), event.comm.upper())
            event.pidd  # wrong
        for batch in perf.batches(timeout=1):
            assert_type(batch.events(), list[Event])
            batch.events()[0].pidd  # wrong
    RingReader(streams.maps.ring, mots=3)  # wrong
    assert_type(RingReader(streams.object.maps["ring"], type=Event), RingReader[Event])
    assert_type(RingReader(streams.object.maps["ring"], type="u64"), RingReader[Any])


def maps() -> None:
    with Map.create(MapType.HASH, key="u32", value="u64", max_entries=3) as counts:
        assert_type(counts, HashMap[int, int])
        counts[1] += 1
        counts["x"] = 1  # wrong
        counts.push(1)  # wrong
        assert_type(counts.log2_hist(), Histogram)
    assert_type(Map.create("ARRAY", value=Event, max_entries=3), ArrayMap[Event])
    assert_type(Map.create(MapType.PERCPU_HASH, key="u32", value="u64", max_entries=3), PerCpuHashMap[int, int])
    assert_type(Map.create(MapType.LRU_HASH, 4, 8, 100), LruHashMap[Any, Any])
    assert_type(Map.create("QUEUE", value="u32", max_entries=3, backend="engine").peek(), int)
    Map.create(MapType.HASH, key="u32", value="u64", max_entires=3)  # wrong
    with Map.from_pin("/sys/fs/bpf/counts", key="u32", value="u32") as pinned:
        pinned[3] = 4
        print(pinned.max_entries.bit_length(), pinned.info.key_size)
        pinned.max_entries.upper()  # wrong
        total(pinned)


def total(counts: Map[int, int]) -> int:
    with RingReader(counts), counts:
        return counts.max_entries


def names(*maps: Map[Any, Any]) -> list[str]:
    return [each.name for each in maps]


def families(
    hashed: HashMap[int, int], lru: LruHashMap[str, int], array: ArrayMap[int], cpus: PerCpuHashMap[int, int],
    trie: m.LpmTrieMap[int], queue: m.QueueMap[int], stack: m.StackMap[int], bloom: m.BloomFilterMap[int], ring: m.RingbufMap[int],
    user_ring: m.UserRingbufMap[int], perf: m.PerfEventArrayMap[int], programs: m.ProgArrayMap, groups: m.CgroupArrayMap,
    inner: m.MapOfMaps[int], devices: m.DevMap[int], processors: m.CpuMap, packets: m.XskMap, sockets: m.SockMap[int],
    stacks: m.StackTraceMap, storage: m.StorageMap[int], cgroups: m.CgroupStorageMap[int, int], arena: m.ArenaMap,
    per_cpu_cgroups: m.PerCpuCgroupStorageMap[int, int], cpu_array: m.PerCpuArrayMap[int], ops: m.StructOpsMap,
    raw: m.RawMap[int, int], unknown: m.AnyMap, thing: object,
) -> None:
    names(hashed, lru, array, cpus, trie, queue, stack, bloom, ring, user_ring, perf, programs, groups, inner, devices, processors)
    names(packets, sockets, stacks, storage, cgroups, arena, per_cpu_cgroups, cpu_array, ops, raw, unknown)
    names(thing)  # wrong
    assert_type(hashed.get(1), int | None)
    assert_type(cpus.on_cpu(3).get(1), int | None)
    assert_type(cpus.on_cpu(3).get(1, 0), int)
    assert_type(cpu_array.on_cpu(3).get(1, "none"), int | str)
    cpus.on_cpu(3).get("x")  # wrong
    total(hashed)
    total(lru)  # wrong
    if isinstance(thing, Map):
        print(thing.name.upper())


def objects(path: str) -> None:
    with bpf2py.load(path) as obj:
        assert_type(obj, bpf2py.Object)
        program = obj.programs["p"]
        assert_type(program.attach(pid=3, cookie=4), bpf2py.Link)
        program.attach(pid="three")  # wrong
        program.attach(pdi=3)  # wrong
        assert_type(program.test_run(b"x").return_value, int)
        obj.maps["m"].max_entries.upper()  # wrong
        for key, value in obj.maps["m"].items():
            print(key, value)
    bpf2py.load(path, backnd="engine")  # wrong
    bpf2py.load(3)  # wrong
"""


@pytest.fixture(scope="module")
def wrong_lines(generated: Path) -> set[str]:
    """Lines of a program that uses modules wrongly, as NAME:LINE."""
    (generated / "user.py").write_text(USER)
    return {f"user.py:{number}" for number, line in enumerate(USER.splitlines(), 1) if line.endswith("# wrong")}


def test_modules_pass_strict_type_checks(generated: Path, wrong_lines: set[str]) -> None:
    modules = sorted(str(path) for path in generated.glob("*_bpfel.py"))
    assert len(modules) == len(EXAMPLES) + 5
    mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(generated / "cache")]
    done = subprocess.run([*mypy, *modules, "user.py"], cwd=generated, capture_output=True, text=True, check=False)
    assert set(re.findall(r"^(\S+:\d+): error", done.stdout, re.M)) == wrong_lines, done.stdout


def test_modules_pass_pyright(generated: Path, wrong_lines: set[str]) -> None:
    (generated / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict", "pythonVersion": "3.11"}')
    pyright = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(pyright, cwd=generated, capture_output=True, text=True, check=False)
    said = json.loads(done.stdout)
    assert said["summary"]["filesAnalyzed"] == len(EXAMPLES) + 6
    found = {
        f"{Path(row['file']).name}:{row['range']['start']['line'] + 1}": row["message"]
        for row in said["generalDiagnostics"]
        if row["severity"] in ("error", "warning")
    }
    assert set(found) == wrong_lines, found


def test_modules_are_formatted_and_clean(generated: Path) -> None:
    modules = sorted(str(path) for path in generated.glob("*_bpfel.py"))
    for command in (["format", "--check", "--diff"], ["check", "--select", "E,F,I,UP,B", "--ignore", "E501"]):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "ruff",
                *command,
                "--isolated",
                "--target-version",
                "py311",
                "--line-length",
                "120",
                *modules,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_types_are_exact(generated: Path) -> None:
    module: Any = load_module(generated / "nasty_bpfel.py")
    value = module.Nasty(low=5, high=17, name="abc", x=0x00020001, addr={"v4": 0x0A000001})
    assert (value.low, value.high, value.name, value.lo, value.hi) == (5, 17, "abc", 1, 2)
    assert bytes(value)[0] == 5 | 17 << 3
    assert value.from_ == 0
    assert module.Color.GREEN == 5
    assert module.Color(99) == 99
    assert "double ratio;" not in (module.__doc__ or "")
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = module.Nothing


def test_the_same_twice_and_no_path_inside(generated: Path, tmp_path: Path) -> None:
    for directory in (tmp_path / "a", tmp_path / "b" / "deeper"):
        directory.mkdir(parents=True)
        (directory / "nasty.bpf.c").write_text(NASTY)
        gen("nasty", str(directory / "nasty.bpf.c"), "--output-dir", str(directory))
        for name in ("nasty_bpfel.py", "nasty_bpfel.o"):
            content = (directory / name).read_bytes()
            assert str(directory).encode() not in content
            assert content == (generated / name).read_bytes()


def test_check_fails_when_stale(tmp_path: Path) -> None:
    source = tmp_path / "nasty.bpf.c"
    source.write_text(NASTY)
    arguments = ("nasty", str(source), "--output-dir", str(tmp_path))
    assert "not up to date" in gen(*arguments, "--check", status=1).stderr
    gen(*arguments)
    gen(*arguments, "--check")
    source.write_text(NASTY.replace("char name[7]", "char name[8]"))
    assert "run bpf2py gen again" in gen(*arguments, "--check", status=1).stderr


def test_wrong_input_is_one_line(tmp_path: Path) -> None:
    assert "is not a Python identifier" in gen("no-name", str(EXAMPLES[0]), status=1).stderr
    assert "No such file" in gen("x", str(tmp_path / "none.o"), status=1).stderr
    assert "no type named 'missing'" in gen("x", str(EXAMPLES[0]), "--type", "missing", "--check", status=1).stderr


def test_targets_stems_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "nasty.bpf.c"
    source.write_text(NASTY)
    gen("nasty", str(source), "--output-dir", str(tmp_path / "a"), "--target", "bpf", "--output-stem", "other")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["other_bpf.o", "other_bpf.py"]
    gen("nasty", str(source), "--output-dir", str(tmp_path / "b"), "--target", "native")
    assert (tmp_path / "b" / "nasty_bpfel.py").exists()
    assert "little-endian" in gen("nasty", str(source), "--target", "bpfeb", status=1).stderr
    monkeypatch.setenv("BPF2PY_OUTPUT_DIR", str(tmp_path / "c"))
    monkeypatch.setenv("BPF2PY_TARGET", "bpf")
    monkeypatch.setenv("BPF2PY_CFLAGS", "-DUNUSED='1 + 1' -Wno-all")
    gen("nasty", str(source))
    assert (tmp_path / "c" / "nasty_bpf.py").exists()
    monkeypatch.setenv("BPF2PY_CC", "/no/such/compiler")
    assert "no such program" in gen("nasty", str(source), status=1).stderr
    monkeypatch.delenv("BPF2PY_CC")
    assert "no such program" in gen("nasty", str(source), "--cc", "/no/such/compiler", status=1).stderr
    gen("nasty", str(source), "--cc", "ziglang", "--cflags", "-DUNUSED", "--", "-DALSO_UNUSED")


@pytest.mark.parametrize("before", [None, "ziglang"])
def test_the_compiler_of_one_module_is_not_that_of_the_next(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BPF2PY_CC", raising=False)
    if before is not None:
        monkeypatch.setenv("BPF2PY_CC", before)
    with pytest.raises(BpfError, match="no such program"):
        produce(Request("nasty", SOURCES / "nasty.bpf.c", cc="/no/such/compiler"))
    assert os.environ.get("BPF2PY_CC") == before


def test_stripping_keeps_what_is_loaded(tmp_path: Path) -> None:
    source = tmp_path / "nasty.bpf.c"
    source.write_text(NASTY)
    for option in ("--strip", "--no-strip"):
        gen(f"nasty{len(option)}", str(source), option, "--output-dir", str(tmp_path))
    small, large = (tmp_path / f"nasty{len(option)}_bpfel.o" for option in ("--strip", "--no-strip"))
    assert small.stat().st_size < large.stat().st_size * 0.7
    assert b"clang version" not in small.read_bytes()
    one, two = bpf2py.ObjectSpec.from_file(small), bpf2py.ObjectSpec.from_file(large)
    assert {name: bytes(f.code) for name, f in one.functions.items()} == {
        n: bytes(f.code) for n, f in two.functions.items()
    }
    assert one.types is not None
    assert two.types is not None
    assert one.types.data == two.types.data
    assert list(one.maps) == list(two.maps)
    if shutil.which("bpftool") is not None:  # what is left is complete for libbpf, too
        linked = ["bpftool", "gen", "object", str(tmp_path / "linked.o"), str(small)]
        done = subprocess.run(linked, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_dependencies_for_make(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "own.h").write_text('#include "further.h"\n')
    (tmp_path / "deep" / "further.h").write_text("")
    source = tmp_path / "deep" / "nasty.bpf.c"
    source.write_text('#include "own.h"\n' + NASTY)
    gen("nasty", str(source), "--output-dir", str(tmp_path / "out"), "--makebase", str(tmp_path))
    rule = (tmp_path / "out" / "nasty_bpfel.d").read_text().replace("\\\n", " ").split()
    assert rule == ["out/nasty_bpfel.py:", "deep/nasty.bpf.c", "deep/further.h", "deep/own.h"]


def test_without_global_types(tmp_path: Path) -> None:
    source = tmp_path / "nasty.bpf.c"
    source.write_text(NASTY)
    gen("nasty", str(source), "--no-global-types", "--type", "extra", "--output-dir", str(tmp_path))
    text = (tmp_path / "nasty_bpfel.py").read_text()
    assert "class Extra" in text
    assert "class Nasty" not in text
    assert "QueueMap[Any]" in text
    mypy = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        str(tmp_path / "cache"),
        str(tmp_path / "nasty_bpfel.py"),
    ]
    done = subprocess.run(mypy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["nasty", "embedded"])
def test_loads_and_is_typed(generated: Path, name: str) -> None:
    module: Any = load_module(generated / f"{name}_bpfel.py")

    def change(spec: bpf2py.ObjectSpec) -> None:
        spec.variables["sampling"].value = 11

    with module.Objects.load(change=change) as obj:
        obj.maps.queue.push(module.Nasty(name="first"))
        assert obj.maps.queue.pop().name == "first"
        obj.maps.colors[1] = module.Color.GREEN
        assert obj.maps.colors[1] == 5
        assert obj.programs.run.test_run().return_value == 11
        assert obj.variables.sampling.value == 11
    assert json.dumps(module.Objects.spec().variables["sampling"].value) == "7"

"""bpf2py gen: modules that check, format, import, load, and come out the same twice."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import bpf2py

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.bpf.c"))

NASTY = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
enum color { RED = -1, GREEN = 5, class_ = 7 };
struct inner { __u8 a; __u64 b; } __attribute__((packed));
union addr { __u32 v4; __u8 v6[16]; };
struct nasty {
    __u32 low : 3, high : 5;
    enum color color;
    union addr addr;
    struct inner list[3];
    union { __u32 x; struct { __u16 lo, hi; }; };
    _Bool yes;
    double ratio;
    char name[7];
    __u32 from;
};
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 8); __type(key, struct inner); __type(value, struct nasty); }
    per_cpu SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, enum color); }
    colors SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 4); __type(value, struct nasty); } queue SEC(".maps");
const volatile int sampling = 7;
struct extra { int only_by_name; };
struct extra *use;
SEC("syscall") int run(void *ctx) { return sampling; }
char LICENSE[] SEC("license") = "GPL";
"""


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
    """Modules of all examples and of the nasty layouts, in one directory."""
    directory = tmp_path_factory.mktemp("generated")
    (directory / "nasty.bpf.c").write_text(NASTY)
    for source in (*EXAMPLES, directory / "nasty.bpf.c"):
        gen(source.name.removesuffix(".bpf.c"), str(source), "--output-dir", str(directory))
    gen("embedded", str(directory / "nasty.bpf.c"), "--output-dir", str(directory), "--embed", "--type", "extra")
    return directory


def test_modules_pass_strict_type_checks(generated: Path) -> None:
    modules = sorted(str(path) for path in generated.glob("*_bpfel.py"))
    assert len(modules) == len(EXAMPLES) + 2
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(generated / "cache"), *modules],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


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
    assert "is no Python identifier" in gen("no-name", str(EXAMPLES[0]), status=1).stderr
    assert "No such file" in gen("x", str(tmp_path / "none.o"), status=1).stderr
    assert "no type named 'missing'" in gen("x", str(EXAMPLES[0]), "--type", "missing", "--check", status=1).stderr


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

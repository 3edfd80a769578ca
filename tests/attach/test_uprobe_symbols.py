"""Which function a user-space probe lands on: versions, static namesakes, indirect functions, patterns."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.errors import AttachError
from bpf2py.kernel.elf_symbols import find_binary, matching_offsets, symbol_offset

MAIN = """
int foo_v1(void) { return 1; }
int foo_v2(void) { return 2; }
int foo_v3(void) { return 3; }
__asm__(".symver foo_v1,foo@V1"); __asm__(".symver foo_v2,foo@V2"); __asm__(".symver foo_v3,foo@@V3");
int old_v1(void) { return 4; }
int old_v2(void) { return 5; }
__asm__(".symver old_v1,old@V1"); __asm__(".symver old_v2,old@V2");
int only_v1(void) { return 6; }
__asm__(".symver only_v1,only@V1");
static __attribute__((noinline, used)) int helper(void) { return 7; }
static __attribute__((noinline, used)) int twice(void) { return 8; }
__attribute__((weak)) int weakling(void) { return 9; }
static int one(void) { return 10; }
static int (*choose(void))(void) { return one; }
int chosen(void) __attribute__((ifunc("choose")));
int fn_a(void) { return 11; } int fn_bb(void) { return 12; } int other(void) { return 13; }
"""
SECOND = """
static __attribute__((noinline, used)) int foo(void) { return 20; }
__attribute__((noinline)) int helper(void) { return 21; }
static __attribute__((noinline, used)) int twice(void) { return 22; }
"""
VERSIONS = "V1 { global: foo; old; only; chosen; fn_*; other; weakling; helper; local: *; };\nV2 { } V1;\nV3 { } V2;\n"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    (folder / "main.c").write_text(MAIN)
    (folder / "second.c").write_text(SECOND)
    (folder / "versions").write_text(VERSIONS)
    cc = shutil.which("cc")
    command = [cc] if cc is not None else [sys.executable, "-m", "ziglang", "cc"]
    out = folder / "libversions.so.1"
    flags = ["-O1", "-fPIC", "-shared", f"-Wl,--version-script={folder / 'versions'}", "-o", str(out)]
    done = subprocess.run(
        [*command, str(folder / "main.c"), str(folder / "second.c"), *flags], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out


def returned(library: Path, offset: int) -> int:
    """What the function at an offset of the file returns, by running it."""
    loaded = ctypes.CDLL(str(library))
    known = ctypes.cast(loaded.other, ctypes.c_void_p).value
    assert known is not None
    address = known - symbol_offset("test", str(library), "other") + offset
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(address)())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("foo", 3), ("foo@V1", 1), ("foo@V2", 2), ("foo@V3", 3), ("foo@@V3", 3), ("old@V1", 4), ("old@V2", 5),
        ("only", 6), ("only@V1", 6), ("helper", 21), ("weakling", 9), ("weakling@V1", 9), ("fn_a", 11), ("foo_v1", 1),
    ],
)  # fmt: skip
def test_the_function_that_is_meant(library: Path, name: str, value: int) -> None:
    assert returned(library, symbol_offset("test", str(library), name)) == value


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("foo@V9", "has no function 'foo@V9', but .*foo@@V3 at .*foo@V1 at .*foo@V2 at"),
        ("foo@@V1", "has no function 'foo@@V1', but"),
        ("old", "several functions 'old': old@V1 at .*, old@V2 at .*version"),
        ("twice", r"several functions 'twice': twice at .* \(static\), twice at .* \(static\); say which"),
        ("fo", "has no function 'fo'"),
        ("oo", "has no function 'oo'"),
    ],
)
def test_what_does_not_choose_one_is_refused(library: Path, name: str, words: str) -> None:
    with pytest.raises(AttachError, match=words):
        symbol_offset("test", str(library), name)


def test_an_indirect_function_is_its_implementation_or_refused(library: Path, tmp_path: Path) -> None:
    copy = tmp_path / "libcopied.so"
    shutil.copy(library, copy)
    with pytest.raises(
        AttachError, match=r"chosen of .* is an indirect function \(IFUNC\).*not loaded in this process"
    ):
        symbol_offset("test", str(copy), "chosen")
    ctypes.CDLL(str(copy))
    for name in ("chosen", "chosen@V1", "chosen@@V1"):
        assert returned(copy, symbol_offset("test", str(copy), name)) == 10


def test_patterns(library: Path) -> None:
    path = str(library)
    assert {returned(library, at) for at in matching_offsets("test", path, "fn_*")} == {11, 12}
    assert {returned(library, at) for at in matching_offsets("test", path, "fn_?")} == {11}
    assert {returned(library, at) for at in matching_offsets("test", path, "foo*")} == {1, 2, 3, 20}
    with pytest.raises(AttachError, match=r"no function of .* matches 'fn_\[a\]\*'"):
        matching_offsets("test", path, "fn_[a]*")


def test_damaged_files_are_typed_errors(library: Path, tmp_path: Path) -> None:
    data, rng = library.read_bytes(), random.Random(5)
    headers = int.from_bytes(data[0x28:0x30], "little")
    damaged = tmp_path / "damaged.so"
    ends = set()
    for _ in range(3000):
        mutant = bytearray(data)
        for _ in range(rng.choice((1, 2, 8))):
            start, size = rng.choice(((0, 64), (headers, len(data) - headers), (0, 4096)))
            at = start + rng.randrange(size - 8)
            mutant[at : at + 8] = rng.choice((rng.randbytes(8), b"\xff" * 8, bytes(8), (1 << 40).to_bytes(8, "little")))
        damaged.write_bytes(mutant[: rng.choice((len(data), len(data), rng.randrange(len(data))))])
        for function, name in ((symbol_offset, "foo@V2"), (matching_offsets, "fn_*")):
            try:
                function("test", str(damaged), name)
                ends.add("found")
            except AttachError:
                ends.add("refused")
    assert ends == {"found", "refused"}


def test_a_script_for_linkers_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(find_binary("test", "libc"), "rb") as file:
        assert file.read(4) == b"\x7fELF"


SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
int hits;
SEC("%s") int probe(void *ctx) { __sync_fetch_and_add(&hits, 1); return 0; }
char LICENSE[] SEC("license") = "GPL";
"""


def test_a_script_in_path_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the shims of version managers are: another program of that name, later in PATH, is not what runs."""
    first, later = tmp_path / "shims", tmp_path / "bin"
    first.mkdir()
    later.mkdir()
    (first / "runner").write_text("#!/bin/sh\nexec another\n")
    for program in (first / "tool", later / "runner"):
        shutil.copy(sys.executable, program)
    (first / "runner").chmod(0o755)
    monkeypatch.setenv("PATH", f"{first}:{later}")
    assert find_binary("test", "tool") == str(first / "tool")
    with pytest.raises(
        AttachError, match=rf"'runner' in PATH is a script, {first}/runner: give the path of the program"
    ):
        find_binary("test", "runner")


@pytest.fixture
def loaded(compile_bpf: Callable[[str], bytes]) -> Iterator[Callable[[str], Any]]:
    objects = []

    def load(section: str) -> Any:
        objects.append(bpf2py.load(compile_bpf(SOURCE % section)))
        return objects[-1]

    yield load
    for obj in objects:
        obj.close()


@pytest.mark.kernel
@pytest.mark.since("6.6")
def test_a_pattern_attaches_to_every_function(library: Path, loaded: Callable[[str], Any]) -> None:
    obj = loaded(f"uprobe.multi/{library}:fn_*")
    functions = ctypes.CDLL(str(library))
    with obj.programs["probe"].attach() as link:
        assert str(library) in link.hook
        for function in (functions.fn_a, functions.fn_bb, functions.other):
            function()
        assert obj.variables["hits"].value == 2
    with obj.programs["probe"].attach(target=f"{library}:*", pid=os.getpid()):
        functions.other()
    assert obj.variables["hits"].value >= 3
    with pytest.raises(AttachError, match="matches 'nothing\\*'"):
        obj.programs["probe"].attach(target=f"{library}:nothing*")


@pytest.mark.kernel
def test_a_probe_of_a_version(library: Path, loaded: Callable[[str], Any]) -> None:
    obj = loaded(f"uprobe/{library}:foo@V2")
    with obj.programs["probe"].attach():
        functions = ctypes.CDLL(str(library))
        assert functions.foo() == 3  # the default version
        assert obj.variables["hits"].value == 0
    with obj.programs["probe"].attach(binary=library, symbol="foo"):
        functions.foo()
    assert obj.variables["hits"].value == 1


@pytest.mark.kernel
def test_a_probe_of_an_indirect_function_of_libc(loaded: Callable[[str], Any]) -> None:
    obj = loaded("uprobe/libc:strlen")
    libc = ctypes.CDLL(None)
    try:
        link = obj.programs["probe"].attach(pid=os.getpid())
    except (
        bpf2py.AttachError
    ) as error:  # where this process has its libc from another mount, as in the emulated kernels
        if "is an indirect function (IFUNC)" not in str(error):
            raise
        return
    with link:
        before = obj.variables["hits"].value
        assert libc.strlen(b"four") == 4
        assert obj.variables["hits"].value > before


def test_a_file_that_was_cut_short_is_not_one_without_the_function(library: Path, tmp_path: Path) -> None:
    data, cut = library.read_bytes(), tmp_path / "cut.so"
    for size in (len(data) - 1, len(data) // 2):
        cut.write_bytes(data[:size])
        with pytest.raises(AttachError, match="truncated"):
            symbol_offset("test", str(cut), "foo@V2")

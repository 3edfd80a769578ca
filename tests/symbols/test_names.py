"""Addresses to names: agreement with nm, running and gone processes, debug files, JIT compilers, damaged files."""

from __future__ import annotations

import ctypes
import lzma
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bpf2py.symbols import Frame, Symbolizer, demangle
from bpf2py.symbols.image import Image, open_file, read_image
from bpf2py.symbols.kernel import KernelSymbols

NM = shutil.which("nm") or shutil.which("llvm-nm-19")
OBJCOPY = shutil.which("objcopy") or shutil.which("llvm-objcopy-19")
SOURCE = """
#include <stdio.h>
#include <unistd.h>
static __attribute__((noinline, used)) int inner(int x) { __asm__ volatile("nop; nop; nop; nop"); return x + 1; }
__attribute__((noinline)) int outer(int x) { return inner(x) * 2; }
int main(void)
{
    printf("%lx %lx %lx\\n", (long)inner, (long)outer, (long)main);
    fflush(stdout);
    getchar();
    return outer(1) == 0;
}
"""


@contextmanager
def running(program: Path) -> Iterator[tuple[int, list[int]]]:
    """(its number, the addresses of inner, outer and main)."""
    with subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.pid, [int(word, 16) for word in process.stdout.readline().split()]
        finally:
            process.kill()


def image_of(path: Path | str) -> Image:
    data = open_file(str(path))
    assert data is not None
    with data:
        return read_image(data, os.path.dirname(path))


def functions_by_nm(path: str) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    assert NM is not None
    for flags in (["-D"], []):
        done = subprocess.run([NM, *flags, "--defined-only", path], capture_output=True, text=True)
        for line in done.stdout.splitlines():
            parts = line.split()
            if len(parts) == 3 and parts[1] in "tTwWi":
                found.setdefault(int(parts[0], 16), set()).add(parts[2].partition("@")[0])
    return found


def libraries() -> list[str]:
    paths = set()
    ctypes.CDLL("libc.so.6")
    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line.rstrip().partition("/")[2]
            if path and (".so" in path or "python" in os.path.basename(path)):
                paths.add(f"/{path}")
    folder = Path("/usr/lib/x86_64-linux-gnu")
    return sorted(path for path in paths | {str(p) for p in folder.glob("libLLVM.so.*")} if os.path.isfile(path))


@pytest.mark.skipif(NM is None, reason="there is no nm to compare with")
def test_every_function_has_the_name_nm_gives() -> None:
    compared = 0
    for path in libraries():
        image, expected = image_of(path), functions_by_nm(path)
        for address in expected.keys() & set(image._starts):
            found = image.at(address)
            assert found is not None, (path, hex(address))
            assert found[0] in expected[address], (path, hex(address))
            assert found[1] == 0
            compared += 1
        if image.source in ("debug file", "gnu_debugdata"):
            continue  # more than nm sees
        missing = set(image._starts) - expected.keys()
        assert not missing, (path, [hex(address) for address in missing][:5])
    assert compared > 3000


@pytest.mark.parametrize("flags", [("-no-pie", "-O1"), ("-pie", "-fPIE", "-O1")])
def test_a_running_program(compile_native: Callable[..., Path], flags: tuple[str, ...]) -> None:
    program = compile_native(f"named{flags[0]}", SOURCE, *flags)
    names = Symbolizer()
    with running(program) as (pid, addresses):
        frames = names.user(pid, addresses)
        assert [(frame.name, frame.offset, frame.file) for frame in frames] == [
            (name, 0, program.name) for name in ("inner", "outer", "main")
        ]
        assert str(frames[0]) == f"inner+0x0 [{program.name}]"
        # A return address at the very end of a function belongs to the call before it.
        assert names.user(pid, [addresses[0], addresses[1]], callers=True)[1].name in ("inner", "_start", "")
        assert names.user(pid, [addresses[2] + 1, addresses[1] + 3], callers=True)[1].name == "outer"
        assert names.user(pid, [8]) == [Frame(8)]
    # It has gone: its mappings are known, and its files remembered.
    assert [frame.name for frame in names.user(pid, addresses)] == ["inner", "outer", "main"]
    assert names.user(pid, [8])[0].kind == "unknown"
    assert Symbolizer().user(pid, addresses)[0].kind == "unknown"


def test_a_deleted_program(compile_native: Callable[..., Path], tmp_path: Path) -> None:
    program = tmp_path / "deleted"
    shutil.copy(compile_native("deleted", SOURCE, "-O1"), program)
    with running(program) as (pid, addresses):
        program.unlink()
        program.write_bytes(b"\x7fELF another file with its name")
        assert [frame.name for frame in Symbolizer().user(pid, addresses)] == ["inner", "outer", "main"]


def test_a_process_that_ends_while_its_file_is_opened(
    compile_native: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = compile_native("ends", SOURCE, "-O1")
    stat = os.stat

    def gone(path: str, *arguments: object, follow_symlinks: bool = True) -> os.stat_result:
        if "/map_files/" in str(path):
            raise ProcessLookupError(3, "No such process", path)
        return stat(path, *arguments, follow_symlinks=follow_symlinks)

    with running(program) as (pid, (inner, *_)):
        monkeypatch.setattr(os, "stat", gone)
        names = Symbolizer()
        assert [frame.name for frame in names.user(pid, [inner])] == ["inner"]
        assert names.problems == {}


@pytest.mark.skipif(OBJCOPY is None, reason="there is no objcopy to strip with")
@pytest.mark.parametrize("kind", ["debug link", "debug directory", "gnu_debugdata"])
def test_a_stripped_program(compile_native: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    assert OBJCOPY is not None
    whole = compile_native("stripped", SOURCE, "-O1")
    program, debug = tmp_path / "stripped", tmp_path / "stripped.debug"
    subprocess.run([OBJCOPY, "--only-keep-debug", str(whole), str(debug)], check=True)
    subprocess.run([OBJCOPY, "--strip-all", str(whole), str(program)], check=True)
    assert not any(name == "inner" for name in image_of(program)._names)
    if kind == "gnu_debugdata":
        (tmp_path / "packed").write_bytes(lzma.compress(debug.read_bytes()))
        added = ["--add-section", f".gnu_debugdata={tmp_path / 'packed'}"]
        subprocess.run([OBJCOPY, *added, str(program)], check=True)
        debug.unlink()
    else:
        subprocess.run([OBJCOPY, f"--add-gnu-debuglink={debug}", str(program)], check=True)
        if kind == "debug directory":
            (tmp_path / ".debug").mkdir()
            debug.rename(tmp_path / ".debug" / debug.name)
    with running(program) as (pid, addresses):
        assert [frame.name for frame in Symbolizer().user(pid, addresses)] == ["inner", "outer", "main"]
    if kind == "debug link":
        debug.write_bytes(debug.read_bytes() + b"changed")
        assert not any(name == "inner" for name in image_of(program)._names)


def test_a_jit_compilers_functions() -> None:
    script = """
import ctypes, mmap, os, sys
memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
path = f"/tmp/perf-{os.getpid()}.map"
with open(path, "w") as file:
    file.write(f"{at:x} 20 first one\\n{at + 0x20:x} 10 second\\nhalf a li")
print(hex(at), flush=True)
sys.stdin.readline()
os.unlink(path)
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        at = int(process.stdout.readline(), 16)
        names = Symbolizer()
        frames = names.user(process.pid, [at + 0x1F, at + 0x20, at + 0x30])
        process.communicate("\n")
    assert [(frame.name, frame.offset, frame.kind) for frame in frames[:2]] == [
        ("first one", 0x1F, "jit"),
        ("second", 0, "jit"),
    ]
    assert frames[2].name == ""


def test_the_vdso() -> None:
    with open("/proc/self/maps") as maps:
        start = int(next(line for line in maps if line.endswith("[vdso]\n")).partition("-")[0], 16)
    frames = Symbolizer().user(os.getpid(), range(start, start + 8192, 16))
    assert any("clock_gettime" in frame.name for frame in frames)
    assert {frame.file for frame in frames if frame.name} == {"vdso"}


@pytest.mark.kernel
def test_the_kernel() -> None:
    names = Symbolizer()
    rows = []
    with open("/proc/kallsyms") as file:
        for line in file:
            address, kind, name = line.rstrip("\n").split(" ", 2)
            if kind in "tT" and "\t" not in name:
                rows.append((int(address, 16), name))
    by_address: dict[int, set[str]] = {}
    for at, name in rows:
        by_address.setdefault(at, set()).add(name)
    chosen = random.Random(1).sample(sorted(by_address), 2000)
    for at, frame in zip(chosen, names.kernel(chosen), strict=True):
        assert frame.name in by_address[at]
        assert (frame.offset, frame.kind, frame.module) == (0, "kernel", "")
    assert names.kernel([5])[0] == Frame(5)


def test_addresses_that_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    real = open
    hidden = b"0000000000000000 T one\n0000000000000000 t two\n"

    def fake(path: str, *arguments: object) -> object:
        import io

        return io.BytesIO(hidden) if path == "/proc/kallsyms" else real(path, *arguments)  # type: ignore[call-overload]

    monkeypatch.setattr("builtins.open", fake)
    table = KernelSymbols()
    assert table.at(0xFFFFFFFF81000000) is None
    assert table.hidden


def test_many_addresses_of_this_process() -> None:
    names = Symbolizer()
    library = ctypes.CDLL("libc.so.6")  # by CDLL(None) it may be the stub of an executable at a fixed address
    start = ctypes.cast(library.malloc, ctypes.c_void_p).value or 0
    frames = names.user(os.getpid(), [start + i % 64 for i in range(100_000)])
    assert len(frames) == 100_000
    assert {frame.name for frame in frames} <= {"malloc", "__libc_malloc"}


def test_damaged_files(compile_native: Callable[..., Path]) -> None:
    """Any damage means fewer symbols, or ValueError: never another error, never a wild amount of memory."""
    whole = compile_native("damaged", SOURCE, "-O1").read_bytes()
    rng = random.Random(7)
    for _ in range(400):
        data = bytearray(whole)
        if rng.random() < 0.3:
            data = data[: rng.randrange(len(data))]
        for _ in range(rng.randrange(1, 8)):
            # Headers and tables of sections are where it hurts.
            at = rng.choice(
                (rng.randrange(64), rng.randrange(max(len(data), 1)), max(len(data) - rng.randrange(1, 2200), 0))
            )
            if at < len(data):
                data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        try:
            image = read_image(bytes(data), "/")
        except ValueError:
            continue
        for address in (0, 0x1000, 0x401136, 1 << 63):
            image.at(address)
            image.address_of(address)


@pytest.mark.parametrize(
    ("mangled", "plain"),
    [
        ("_ZN3foo3barEi", "foo::bar(int)"),
        ("_RNvC6_123foo3bar", "123foo::bar"),
        ("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "core::fmt::Write::write_fmt"),
        ("main", "main"),
        ("_Zbroken", "_Zbroken"),
    ],
)
def test_names_of_other_languages(mangled: str, plain: str) -> None:
    pytest.importorskip("cxxfilt")
    pytest.importorskip("rust_demangler")
    assert demangle(mangled).startswith(plain)

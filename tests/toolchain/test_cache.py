from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.toolchain.conftest import clang_path

from bpf2py.toolchain.cache import Cache, Entry, cache_directory
from bpf2py.toolchain.compiler import Compiler, _dependencies, compile, compile_with_log

SOURCE = '#include <linux/types.h>\n#include "size.h"\n__u64 x[SIZE];\n'


class Counted:
    """A compiler that writes a line for each time it is run."""

    def __init__(self, compiler: Compiler, log: Path) -> None:
        self.compiler = compiler
        self._log = log

    @property
    def compiles(self) -> int:
        return sum(" -c " in line for line in self._log.read_text().splitlines()) if self._log.exists() else 0

    @property
    def starts(self) -> int:
        return len(self._log.read_text().splitlines()) if self._log.exists() else 0


@pytest.fixture
def counted(tmp_path: Path, compilers: dict[str, Compiler]) -> Callable[[str], Counted]:
    """Put a wrapper around the compiler of that kind into tmp_path/bin."""

    def make(kind: str) -> Counted:
        real = compilers[kind]
        log = tmp_path / f"{kind}.log"
        script = tmp_path / "bin" / kind
        script.parent.mkdir(exist_ok=True)
        script.write_text(
            f"#!{sys.executable}\nimport os, sys\n"
            f"open({str(log)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
            f"os.execv({real.argv[0]!r}, [{real.argv[0]!r}, *sys.argv[1:]])\n"
        )
        script.chmod(0o755)
        return Counted(Compiler(kind, (str(script), *real.argv[1:])), log)

    return make


@pytest.fixture
def project(tmp_path: Path, cache_dir: Path) -> Path:
    folder = tmp_path / "project with blank"
    folder.mkdir()
    (folder / "a.bpf.c").write_text(SOURCE)
    (folder / "size.h").write_text("#define SIZE 3\n")
    return folder


NEEDS_CLANG = pytest.mark.skipif(clang_path() is None, reason="clang is not installed")


@pytest.fixture(params=[pytest.param("clang", marks=NEEDS_CLANG), "zig"])
def wrapped(request: pytest.FixtureRequest, counted: Callable[[str], Counted]) -> Counted:
    return counted(request.param)


def test_a_hit_starts_no_process(project: Path, wrapped: Counted) -> None:
    first = compile_with_log(project / "a.bpf.c", compiler=wrapped.compiler)
    started = wrapped.starts
    assert wrapped.compiles == 1
    assert compile_with_log(project / "a.bpf.c", compiler=wrapped.compiler) == first
    assert wrapped.starts == started


def test_every_input_counts(project: Path, wrapped: Counted) -> None:
    def compiles(**options: object) -> int:
        before = wrapped.compiles
        compile(project / "a.bpf.c", compiler=wrapped.compiler, **options)  # type: ignore[arg-type]
        return wrapped.compiles - before

    assert (compiles(), compiles()) == (1, 0)
    (project / "size.h").write_text("#define SIZE 4\n")
    assert (compiles(), compiles()) == (1, 0)
    (project / "a.bpf.c").write_text(SOURCE + "int y;\n")
    assert (compiles(), compiles()) == (1, 0)
    assert (compiles(cflags=["-DX"]), compiles(cflags=["-DX"])) == (1, 0)
    assert (compiles(arch="arm64"), compiles(arch="x86"), compiles(arch="arm64")) == (1, 0, 0)
    assert compiles(cache=False) == 1
    # A replaced compiler makes other objects.
    script = Path(wrapped.compiler.argv[0])
    script.write_text(script.read_text() + "# newer\n")
    assert (compiles(), compiles()) == (1, 0)
    # The mtime alone of a header says nothing of its content.
    os.utime(project / "size.h", (0, 0))
    assert compiles() == 0


def test_a_header_that_appears_earlier_on_the_path_counts(project: Path, wrapped: Counted) -> None:
    cflags = [f"-I{project / 'first'}", "-I", str(project / "second")]
    for name in ("first", "second"):
        (project / name).mkdir()
    (project / "size.h").rename(project / "second" / "size.h")
    three = compile(project / "a.bpf.c", cflags=cflags, compiler=wrapped.compiler)
    (project / "first" / "size.h").write_text("#define SIZE 500\n")
    assert compile(project / "a.bpf.c", cflags=cflags, compiler=wrapped.compiler) != three
    (project / "first" / "size.h").unlink()
    assert compile(project / "a.bpf.c", cflags=cflags, compiler=wrapped.compiler) == three


def test_an_unchanged_source_hits_again_after_a_failure(project: Path, wrapped: Counted) -> None:
    compile(project / "a.bpf.c", compiler=wrapped.compiler)
    (project / "size.h").write_text("#error no\n")
    with pytest.raises(ValueError, match="no"):
        compile(project / "a.bpf.c", compiler=wrapped.compiler)
    (project / "size.h").write_text("#define SIZE 3\n")
    before = wrapped.compiles
    compile(project / "a.bpf.c", compiler=wrapped.compiler)
    assert wrapped.compiles == before


@NEEDS_CLANG
def test_the_compiler_found_is_not_asked_for_its_version_again(
    project: Path, counted: Callable[[str], Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    clang = counted("clang")
    monkeypatch.setenv("PATH", str(project.parent / "bin"))
    compile(project / "a.bpf.c")
    started = clang.starts
    assert started > 1
    compile(project / "a.bpf.c")
    assert clang.starts == started


def test_an_unwritable_cache_is_no_error(project: Path, wrapped: Counted, cache_dir: Path) -> None:
    cache_dir.write_text("a file where the directory should be")
    for count in (1, 2):
        assert compile(project / "a.bpf.c", compiler=wrapped.compiler)
        assert compile("int x;\nint y;\n", compiler=wrapped.compiler)
        assert wrapped.compiles == 2 * count


def test_no_cache_leaves_no_trace(project: Path, wrapped: Counted, cache_dir: Path) -> None:
    compile(project / "a.bpf.c", cache=False, compiler=wrapped.compiler)
    compile("int x;\nint y;\n", cache=False, compiler=wrapped.compiler)
    assert not cache_dir.exists()


@pytest.mark.parametrize("damage", [b"", b"bpf2py object cache 1\n{}\nx", b"\xff\xfe\n[1]\n", None])
def test_a_damaged_entry_is_a_miss(tmp_path: Path, damage: bytes | None) -> None:
    cache = Cache(tmp_path)
    cache.put("aabb", Entry(b"object\nbytes", "warned"), files=[])
    assert cache.get("aabb") == Entry(b"object\nbytes", "warned")
    (path,) = (tmp_path / "objects" / "aa").iterdir()
    path.write_bytes(path.read_bytes()[:-1] if damage is None else damage)
    assert cache.get("aabb") is None


def test_an_entry_for_another_kernel_is_a_miss(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("aabb", Entry(b"object", ""), files=[], kernel="6.18")
    assert cache.get("aabb", kernel=lambda: "6.19") is None
    assert cache.get("aabb", kernel=lambda: None) is None
    assert cache.get("aabb", kernel=lambda: "6.18") == Entry(b"object", "")


def test_the_least_recently_used_entries_go(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=10_000)
    for number in range(4):
        cache.put(f"{number:04}", Entry(b"x" * 2000, ""), files=[])
        os.utime(tmp_path / "objects" / "00" / f"{number:04}", (number, number))
    assert cache.get("0000") is not None  # now the most recently used
    cache.put("0004", Entry(b"x" * 2000, ""), files=[])
    left = [number for number in range(5) if cache.get(f"{number:04}") is not None]
    assert left == [0, 3, 4]


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("BPF2PY_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_directory() == tmp_path / ".cache" / "bpf2py"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_directory() == Path("/xdg/bpf2py")
    monkeypatch.setenv("BPF2PY_CACHE_DIR", "/own")
    assert cache_directory() == Path("/own")


def test_names_in_a_depfile() -> None:
    text = b"out.o: /a/b.c \\\n  /with\\ blank/x.h \\\n /dollar$$/y\\#.h /back\\slash.h\n"
    assert _dependencies(text) == ["/a/b.c", "/with blank/x.h", "/dollar$/y#.h", "/back\\slash.h"]

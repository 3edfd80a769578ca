from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.toolchain.conftest import clang_path

from bpf2py.toolchain.cache import Cache, Entry, file_digest
from bpf2py.toolchain.compiler import Compiler, _dependencies, compile, compile_with_log
from bpf2py.toolchain.vmlinux import write_header
from bpf2py.user_cache import cache_directory, trusted_directory

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


@pytest.mark.parametrize("damage", [b"", b"bpf2py object cache 2\n{}\nx", b"\xff\xfe\n[1]\n", None])
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


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_a_directory_others_may_write_to_is_not_used(
    project: Path, wrapped: Counted, cache_dir: Path, mode: int
) -> None:
    cache_dir.mkdir()
    cache_dir.chmod(mode)
    for count in (1, 2):
        with pytest.warns(RuntimeWarning, match="are not cached: .*cache may be written to by others"):
            assert compile(project / "a.bpf.c", compiler=wrapped.compiler)
        assert wrapped.compiles == count
    assert list(cache_dir.iterdir()) == []


def test_a_directory_below_one_others_may_write_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BPF2PY_CACHE_DIR", str(tmp_path / "shared" / "cache"))
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    with pytest.warns(RuntimeWarning, match="shared may be written to by others"):
        assert trusted_directory() is None
    (tmp_path / "shared").chmod(0o1777)  # as /tmp is: nobody else can move what is in it
    assert trusted_directory() == tmp_path / "shared" / "cache"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_another_user_is_not_used(cache_dir: Path) -> None:
    cache = Cache()
    cache.put("aabb", Entry(b"object", ""), files=[])
    (path,) = (cache_dir / "objects" / "aa").iterdir()
    os.chown(path, 12345, 12345)
    assert cache.get("aabb") is None
    os.chown(path, 0, 0)
    path.chmod(0o666)
    assert cache.get("aabb") is None
    path.chmod(0o600)
    assert cache.get("aabb") is not None
    os.chown(cache_dir, 12345, 12345)
    with pytest.warns(RuntimeWarning, match="belongs to user 12345"):
        assert Cache().get("aabb") is None


def test_an_entry_under_another_name_is_a_miss(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("aabb", Entry(b"object", ""), files=[])
    (tmp_path / "objects" / "aa" / "aabb").rename(tmp_path / "objects" / "aa" / "aacc")
    assert cache.get("aacc") is None


def test_fifos_are_not_waited_for(project: Path, wrapped: Counted, cache_dir: Path) -> None:
    compile(project / "a.bpf.c", compiler=wrapped.compiler)
    text = "int x;\nint y;\n"
    compile(text, compiler=wrapped.compiler)
    for path in [*cache_dir.glob("objects/*/*"), *cache_dir.glob("sources/*")]:
        path.unlink()
        os.mkfifo(path)
    (project / "size.h").unlink()
    (project / "size.h").write_text("#define SIZE 3\n")
    assert compile(project / "a.bpf.c", compiler=wrapped.compiler)
    assert compile(text, compiler=wrapped.compiler)
    assert wrapped.compiles == 4
    assert file_digest(project) is None
    assert file_digest("/dev/zero") is None


@pytest.mark.parametrize("text", [b"", b"int x;\n", b"int other;\nint y;\n"])
def test_a_changed_source_of_a_text_is_written_anew(wrapped: Counted, cache_dir: Path, text: bytes) -> None:
    source = "int x;\nint y;\n"
    first = compile(source, compiler=wrapped.compiler)
    (path,) = cache_dir.glob("sources/*")
    path.write_bytes(text)
    for entry in cache_dir.glob("objects/*/*"):
        entry.unlink()
    assert compile(source, compiler=wrapped.compiler) == first
    assert path.read_text() == source


@pytest.mark.kernel
def test_a_header_that_was_cut_short_is_written_anew(tmp_path: Path) -> None:
    path = write_header(tmp_path, frozenset({"task_struct"})) / "vmlinux.h"
    whole = path.read_bytes()
    for damaged in (b"", whole[:1000], whole.replace(b"task_struct", b"task_strukt", 1)):
        path.write_bytes(damaged)
        assert write_header(tmp_path, frozenset({"task_struct"})) / "vmlinux.h" == path
        assert path.read_bytes() == whole
    facts = path.stat()
    write_header(tmp_path, frozenset({"task_struct"}))
    assert path.stat().st_mtime_ns == facts.st_mtime_ns


def test_directories_are_made_for_the_user_alone(cache_dir: Path) -> None:
    before = os.umask(0)
    try:
        Cache().put("aabb", Entry(b"object", ""), files=[])
    finally:
        os.umask(before)
    assert [
        path.stat().st_mode & 0o777 for path in (cache_dir, cache_dir / "objects", cache_dir / "objects" / "aa")
    ] == [0o700] * 3

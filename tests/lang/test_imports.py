"""Programs of several files: what an import means, whose names they are, and where errors are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bpf2py
from bpf2py.engine import Engine, Task
from bpf2py.errors import SourceError, VerifierError
from bpf2py.lang.translate import to_c, translated

WHOM = """from bpf2py.lang import *
from bpf2py.lang.kernel import task_struct

LIMIT = 7

class Seen(Struct):
    pid: u32
    count: u32

class Kind(IntEnum):
    FIRST = 1
    AGAIN = 2

only_pid: Const[u32] = 0
seen = Hash[u32, Seen](max_entries=1024)
missed: u64 = 0
hits: PerCpu[u64] = 0

def _helper(n: u32) -> bool:
    return n == only_pid

def is_wanted(pid: u32) -> bool:
    return only_pid == 0 or _helper(pid)

def note(pid: u32) -> u32:
    known = seen.get(pid)
    if known is not None:
        known.count += 1
        return Kind.AGAIN
    seen[pid] = Seen(pid=pid, count=1)
    return Kind.FIRST
"""
PROGRAM = """from bpf2py.lang import *
from .whom import LIMIT, Kind, is_wanted, note as remember
from . import whom

calls: u64 = 0

def _helper(n: u32) -> u32:
    return n + LIMIT

def missed_one():
    whom.missed += 1
    whom.hits += 2

@tracepoint("syscalls/sys_enter_getpgid")
def prog(ctx: TracepointContext) -> int:
    global calls
    pid = u32(current_tgid())
    if not is_wanted(pid):
        missed_one()
        return 0
    calls += _helper(0)
    if remember(pid) == whom.Kind.FIRST:
        one: "whom.Seen" = whom.Seen(pid=3, count=whom.LIMIT)
        whom.seen[3] = one
    return 0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "whom.py").write_text(WHOM)
    (tmp_path / "prog.py").write_text(PROGRAM)
    return tmp_path


def refused(path: Path) -> SourceError:
    with pytest.raises(SourceError) as caught:
        to_c(path.read_bytes(), path)
    return caught.value


@pytest.mark.kernel
@pytest.mark.parametrize("who", ["everybody", "nobody", "this process"])
def test_a_program_of_two_files_on_the_kernel(folder: Path, who: str) -> None:
    wanted = {"everybody": 0, "nobody": 1, "this process": os.getpid()}[who]
    with bpf2py.load(folder / "prog.py", variables={"only_pid": wanted}) as obj:
        obj.attach()
        for _ in range(3):
            os.getpgid(0)
        obj.links[0].close()
        mine = 0 if wanted == 1 else 3
        # With no process chosen, others may be counted, too.
        assert (obj.variables["calls"].value >= 7 * mine) == (wanted != 1 or mine == 0)
        assert obj.variables["missed"].value >= 3 * (wanted == 1)
        seen = {key: (value.pid, value.count) for key, value in obj.maps["seen"].items()}
        if wanted == 1:
            assert not seen
            assert sum(obj.maps["hits"][0]) >= 6
        else:
            assert seen[3] == (3, 7)
            assert seen[os.getpid()] == (os.getpid(), 3)
        assert {"only_pid", "missed", "calls"} <= set(obj.variables)


def test_a_program_of_two_files_on_the_engine(folder: Path) -> None:
    for pid, calls, missed in ((12, 14, 0), (13, 0, 2)):
        engine = Engine(task=Task(pid))
        with bpf2py.load(folder / "prog.py", engine, variables={"only_pid": 12}) as obj:
            for _ in range(2):
                obj.programs["prog"].run(bytes(64))
            assert (obj.variables["calls"].value, obj.variables["missed"].value) == (calls, missed)
            assert sorted(obj.maps["seen"].keys()) == ([3, 12] if pid == 12 else [])


def test_both_files_have_names_of_their_own_where_nobody_sees_them(folder: Path) -> None:
    text = to_c(PROGRAM, folder / "prog.py", directives=False)
    assert "bool _helper(u32 n)" in text
    assert "u32 prog_py___helper(u32 n)" in text


def test_types_of_two_files_may_have_one_name(folder: Path) -> None:
    (folder / "prog.py").write_text(
        """from bpf2py.lang import *
from . import whom
class Seen(Struct):
    x: u64
class Kind(IntEnum):
    OTHER = 9
mine = Hash[u32, Seen](max_entries=1)
@syscall
def f(ctx: Context) -> int:
    mine[1] = Seen(x=Kind.OTHER)
    whom.seen[1] = whom.Seen(pid=whom.Kind.AGAIN, count=5)
    return 0
"""
    )
    with bpf2py.load(folder / "prog.py", "engine") as obj:
        obj.programs["f"].test_run()
        assert dict(obj.maps["mine"].items())[1].x == 9
        assert dict(obj.maps["seen"].items())[1].pid == 2
        assert type(obj.maps["mine"][1]).__name__ == type(obj.maps["seen"][1]).__name__ == "Seen"


def test_star_gives_public_names_those_of_the_kernel_included(folder: Path) -> None:
    program = folder / "star.py"
    head = "from .whom import *\n@syscall\ndef f(ctx: Context) -> int:\n"
    program.write_text(head + "    t: Ptr[task_struct] = get_current_task_btf()\n    return LIMIT + t.pid\n")
    text = to_c(program.read_bytes(), program, directives=False)
    assert "return 7 + BPF_CORE_READ(t, pid);" in text
    program.write_text(head + "    return _helper(1)\n")
    assert "there is no function '_helper'" in str(refused(program))
    (folder / "whom.py").write_text(WHOM + '__all__ = ["LIMIT"]\n')
    program.write_text(head + "    return is_wanted(1)\n")
    assert "there is no function 'is_wanted'" in str(refused(program))


def test_absolute_imports_find_the_programs_folder_packages_and_what_is_installed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path_factory.mktemp("site")
    (site / "vendor" / "deep").mkdir(parents=True)
    (site / "vendor" / "__init__.py").write_text("raise SystemExit('nothing is executed')")
    (site / "vendor" / "deep" / "__init__.py").write_text(
        "from bpf2py.lang import *\nfrom ..base import SIZE\nTWICE = SIZE * 2\n"
    )
    (site / "vendor" / "base.py").write_text("from bpf2py.lang import *\nSIZE = 21\n")
    monkeypatch.syspath_prepend(str(site))
    program = folder / "absolute.py"
    program.write_text(
        """from bpf2py.lang import *
import vendor.deep
import vendor.base as base
from whom import LIMIT
from vendor.deep import TWICE as twice
import os, json
from json import dumps
@syscall
def f(ctx: Context) -> int:
    return vendor.deep.TWICE + base.SIZE + LIMIT + twice
"""
    )
    found = translated(program.read_bytes(), program)
    assert f"return {42 + 21 + 7 + 42};" in found.text
    assert found.searched
    assert str(folder / "whom.py") in found.files


def test_errors_are_where_the_mistake_is(folder: Path) -> None:
    (folder / "whom.py").write_text(WHOM + "\ndef wrong() -> u32:\n    return nobody\n")
    error = refused(folder / "prog.py")
    assert error.filename == str(folder / "whom.py")
    assert error.lineno == WHOM.count("\n") + 3
    assert error.offset == 12
    assert error.text == "    return nobody"
    (folder / "whom.py").write_text("from bpf2py.lang import *\ndef f(:\n")
    error = refused(folder / "prog.py")
    assert (error.filename, error.lineno, error.text) == (str(folder / "whom.py"), 2, "def f(:")
    (folder / "whom.py").write_bytes(b"from bpf2py.lang import *\nX = '\xff'\n")
    assert refused(folder / "prog.py").filename == str(folder / "whom.py")


@pytest.mark.kernel
def test_the_verifier_speaks_of_the_imported_line(folder: Path) -> None:
    (folder / "table.py").write_text(
        "from bpf2py.lang import *\ntable: array[u64, 4] = [1, 2]\ndef entry(i: u32) -> s32:\n    return s32(table[i])\n"
    )
    program = folder / "x.py"
    program.write_text(
        "from .table import *\n@xdp\ndef f(ctx: XdpContext) -> int:\n    return entry(ctx.rx_queue_index)\n"
    )
    with pytest.raises(VerifierError) as caught:
        bpf2py.load(program)
    assert (caught.value.source_line or "").startswith(f"{folder / 'table.py'}:4")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("from .whom import is_wantd", "whom.py has no 'is_wantd'; did you mean 'is_wanted'?"),
        ("from .whmo import is_wanted", "whmo.py; did you mean 'whom'?"),
        ("from ..nothing.there import x", "there is no "),
        ("from . import whom\nX = whom.LIMITS", "whom.py has no 'LIMITS'; did you mean 'LIMIT'?"),
        ("from .whom import LIMIT\nLIMIT = 3", "the module has a 'LIMIT' already"),
        ("LIMIT = 3\nfrom .whom import *", "'LIMIT' has a meaning already"),
        ("from .whom import LIMIT\nseen = Hash[u32, u32](max_entries=1)", "whom.py defines 'seen', too"),
        ("from .whom import LIMIT\nmissed: u64 = 0", "whom.py defines 'missed', too"),
        ("from .me import LIMIT", "files that import each other: x.py imports me.py imports x.py"),
        ("from .x import LIMIT", "files that import each other: x.py imports x.py"),
    ],
)
def test_imports_that_are_refused(folder: Path, line: str, said: str) -> None:
    (folder / "me.py").write_text("from bpf2py.lang import *\nfrom .x import LIMIT\n")
    program = folder / "x.py"
    program.write_text(f"from bpf2py.lang import *\n{line}\n@syscall\ndef f(ctx: Context) -> int:\n    return 0\n")
    assert said in str(refused(program))


@pytest.mark.parametrize(
    ("head", "body", "said"),
    [
        ("from .whom import missed", "return missed", "write whom.missed"),
        ("from .whom import missed", "global missed\n    missed = 1\n    return 0", "write whom.missed"),
        ("from .whom import *", "global hits\n    hits += 1\n    return 0", "write whom.hits"),
        ("from . import whom", "whom.seen = 3\n    return 0", "whom.seen is not a variable"),
        ("from . import whom", "whom.LIMIT = 3\n    return 0", "whom.LIMIT is not a variable"),
        (
            "from .plain import helper",
            "return helper()",
            "plain, from which it is imported, is not a program in Python",
        ),
        ("from .plain import VALUE", "return VALUE", "plain, from which it is imported, is not a program in Python"),
        ("from os import getpid", "return getpid()", "os, from which it is imported, is not a program in Python"),
    ],
)
def test_uses_that_are_refused(folder: Path, head: str, body: str, said: str) -> None:
    (folder / "plain.py").write_text("VALUE = 3\ndef helper(): ...\n")
    program = folder / "x.py"
    program.write_text(f"from bpf2py.lang import *\n{head}\n@syscall\ndef f(ctx: Context) -> int:\n    {body}\n")
    assert said in str(refused(program))


def test_pointers_are_vouched_for_across_files(folder: Path) -> None:
    """A pointer to a map's value stays one in a function of another file: it is read without a helper."""
    (folder / "add.py").write_text(
        "from bpf2py.lang import *\nfrom .whom import Seen\ndef add(s: Ptr[Seen], n: u32):\n    s.count += n\n"
    )
    program = folder / "x.py"
    program.write_text(
        """from bpf2py.lang import *
from .whom import seen
from .add import add as plus
@syscall
def f(ctx: Context) -> int:
    seen[1] = seen_of(4)
    known = seen.get(1)
    if known is not None:
        plus(known, 3)
    return 0
def seen_of(n: u32) -> u32:
    return n
"""
    )
    assert "Seen" in str(refused(program))  # a u32 is not stored as one
    program.write_text(
        program.read_text()
        .replace("seen_of(4)", "Seen(pid=1, count=4)")
        .replace("import seen\n", "import seen, Seen\n")
    )
    with bpf2py.load(program, "engine") as obj:
        obj.programs["f"].test_run()
        assert obj.maps["seen"][1].count == 7


def test_the_cache_knows_what_was_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BPF2PY_CACHE_DIR", str(folder / "cache"))
    program = folder / "x.py"
    program.write_text(
        "from bpf2py.lang import *\nfrom lib import N\n@syscall\ndef f(ctx: Context) -> int:\n    return N\n"
    )
    first, second = folder / "first", folder / "second"
    for place, value in ((first, 1), (second, 2)):
        place.mkdir()
        (place / "lib.py").write_text(f"from bpf2py.lang import *\nN = {value}\n")

    def answer() -> int:
        with bpf2py.load(program, "engine") as obj:
            return obj.programs["f"].test_run().return_value

    monkeypatch.setattr(sys, "path", [str(first), *sys.path])
    assert answer() == 1
    monkeypatch.setattr(sys, "path", [str(second), *sys.path])
    assert answer() == 2, "another search path"
    (second / "lib.py").write_text("from bpf2py.lang import *\nN = 3\n")
    assert answer() == 3, "another text"
    (second / "lib").mkdir()
    (second / "lib" / "__init__.py").write_text("from bpf2py.lang import *\nN = 4\n")
    assert answer() == 4, "a package goes before a file"
    (folder / "lib.py").write_text("from bpf2py.lang import *\nN = 5\n")
    assert answer() == 5, "the program's own folder goes first"


def test_programs_of_several_files_are_valid_python(folder: Path) -> None:
    package = folder / "package"
    package.mkdir()
    for name in ("whom", "prog"):
        (folder / f"{name}.py").rename(package / f"{name}.py")
    (package / "__init__.py").touch()
    code = "import package.prog as p; print(p.LIMIT, p.whom.seen is not None)"
    out = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert out == "7 True\n"

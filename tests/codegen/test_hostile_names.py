"""Names in an object are anybody's: none of them becomes code, a terminal's commands or a path."""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.codegen.test_gen import load_module

import bpf2py
from bpf2py.btf.cdump import dump_c
from bpf2py.cli import main
from bpf2py.cli.render import MapView, cell, lines
from bpf2py.cli.table import echo_rows
from bpf2py.codegen.build import Request, produce, write
from bpf2py.errors import BpfError
from bpf2py.printable import printable
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.toolchain.compiler import compile

WIDTH = 100
PLACES = [
    "tag", "member", "nested", "enumeration", "enumerator", "typedefed", "aliased", "mapped", "progr", "variable", "sect",
    "datasect", "license",
]  # fmt: skip


def place(name: str) -> str:
    """An identifier to be overwritten."""
    return f"{name}_".ljust(WIDTH, "q")


SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct tag { int plain; long member; struct { int nested; } inner; char text[4]; };
enum enumeration { enumerator = 5, other };
typedef struct { int a; enum enumeration e; } typedefed;
typedef int aliased;
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, typedefed); __type(value, struct tag); }
    mapped SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, aliased); __type(value, enum enumeration); }
    known SEC(".maps");
int variable = 3, second;
int placed SEC(".data.datasect") = 4;
SEC("sect") int progr(void *ctx) { return variable + second + placed; }
char LICENSE[] SEC("license") = "license";
"""
for name in PLACES:
    SOURCE = SOURCE.replace(f'"{name}"', f'"{place(name)}"')
    SOURCE = SOURCE.replace(f'".data.{name}"', f'".data.{place(name)}"')
    for end in (" ", ";", ",", ")", "(", "="):
        SOURCE = SOURCE.replace(f" {name}{end}", f" {place(name)}{end}")

RUNS = "import builtins;builtins.PWNED=1"
NAMES: dict[str, str | bytes] = {
    "docstring": f'"""\n{RUNS}\n"""',
    "docstring-escaped": f'\\"""\n{RUNS}\n"""',
    "string": f'"+str({RUNS!r})+"',
    "call": f'")\n{RUNS}\n("',
    "lines": f"x\n{RUNS}\n\n    {RUNS}",
    "carriage-return": f"x\r{RUNS}\r",
    "single-quotes": f"'''\n{RUNS}\n'''",
    "commas": "a, b, c, d",
    "backslash": "a\\",
    "backslash-n": "a\\n\\x22",
    "keyword": "class",
    "constant": "None",
    "dunder": "__init__",
    "dunder-class": "__class__",
    "dunder-open": "__private",
    "dunder-end": "private__",
    "sunder": "_missing_",
    "self": "self",
    "builtin": "int",
    "format": "{0.__class__} %s %n $x",
    "terminal": "\x1b[2J\x1b]0;owned\x07",
    "markup": "[red][link=http://x]y[/]",
    "c-comment": "*/ int main(void){ /*",
    "path": "../../../tmp/x/",
    "absolute": "/etc/passwd",
    "digit": "²3",
    "ligature": "ﬁ",
    "right-to-left": "\u202eabc",
    "astral": "\U0001f600",
    "not-utf-8": b"\xff\xfe\x80",
    "nul": "ab\0cd",
    "long": "w" * WIDTH,
    "space": " ",
    "slash": "struct x/y",
}


@pytest.fixture(scope="module")
def innocent(compile_bpf: Callable[[str], bytes]) -> bytes:
    found = compile_bpf(SOURCE)
    assert all(place(name).encode() in found for name in PLACES)
    return found


def with_name(data: bytes, name: str | bytes, places: list[str]) -> bytes:
    text = name if isinstance(name, bytes) else name.encode()
    for where in places:
        # Distinct, as an object cannot have two maps of one name.
        suffix = b"" if len(places) == 1 else str(places.index(where)).encode()
        data = data.replace(place(where).encode(), (text[: WIDTH - len(suffix)] + suffix).ljust(WIDTH, b"\0"))
    return data


@pytest.fixture
def not_run() -> Any:
    yield
    assert not hasattr(builtins, "PWNED"), "a name was run"


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_generated_modules_import_and_run_no_name(innocent: bytes, name: str, tmp_path: Path, not_run: None) -> None:
    for places in (PLACES, *([where] for where in PLACES)):
        data = with_name(innocent, NAMES[name], places)
        (tmp_path / "hostile.o").write_bytes(data)
        files = produce(Request("hostile", tmp_path / "hostile.o", tmp_path, embed=len(places) > 1))
        write(files)
        text = files[tmp_path / "hostile_bpfel.py"].decode()
        tree = ast.parse(text)
        allowed = (ast.Import, ast.ImportFrom, ast.If, ast.Assign, ast.AnnAssign, ast.ClassDef, ast.Expr)
        assert all(isinstance(node, allowed) for node in tree.body)
        assert all(isinstance(node.value, ast.Constant) for node in tree.body if isinstance(node, ast.Expr))
        module: Any = load_module(tmp_path / "hostile_bpfel.py")
        spec = module.Objects.spec()  # finds every class's type
        assert len(spec.maps) == 5
        assert len({value for key, value in vars(module).items() if key.startswith("MAP_")}) == 2


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_what_is_printed_is_no_command_for_a_terminal(
    innocent: bytes, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    path = tmp_path / "hostile.o"
    path.write_bytes(with_name(innocent, NAMES[name], PLACES))
    for options in ((), ("--code",), ("--types",), ("--json",)):
        with contextlib.suppress(SystemExit):
            main(["inspect", str(path), *options])
        shown = capsys.readouterr()
        assert shown.err == ""
        assert all(c.isprintable() or c in "\n\t" for c in shown.out)
        if name == "markup":
            assert "[red][link=http://x]y[/]" in shown.out  # as it is, not as rich would have it


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_errors_are_no_command_for_a_terminal(
    innocent: bytes, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hostile.o"
    path.write_bytes(with_name(innocent, NAMES[name], ["progr", "sect"]))
    with pytest.raises(SystemExit):
        main(["run", "--backend", "engine", str(path), "--", "true"])
    shown = capsys.readouterr()
    assert shown.err.startswith("bpf2py: ")
    assert "Traceback" not in shown.err
    assert all(c.isprintable() or c in "\n\t" for c in shown.err)


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_c_text_compiles(innocent: bytes, name: str) -> None:
    types = ObjectSpec.from_bytes(with_name(innocent, NAMES[name], PLACES)).types
    assert types is not None
    compile(dump_c(types))


def test_printing_needs_no_utf_8(innocent: bytes, tmp_path: Path) -> None:
    path = tmp_path / "hostile.o"
    path.write_bytes(with_name(innocent, "größe", PLACES))
    command = [sys.executable, "-m", "bpf2py", "inspect", str(path)]
    done = subprocess.run(command, capture_output=True, env={"PYTHONIOENCODING": "ascii", "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert io.BytesIO(done.stdout).read().isascii()


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["../../sched/sched_switch", "sched/../sched/sched_switch", "sched/.", "/sched"])
def test_section_names_do_not_lead_out_of_tracefs(compile_bpf: Callable[[str], bytes], name: str) -> None:
    source = SOURCE.replace(f'"{place("sect")}"', f'"tracepoint/{name}"')
    with bpf2py.load(compile_bpf(source)) as obj, pytest.raises(BpfError, match=r"not a name of a tracepoint|category"):
        obj.attach()


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_lists_and_views_are_no_command_for_a_terminal(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = NAMES[name]
    shown = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    echo_rows([{"id": 1, "name": shown, "details": f"path={shown}"}], ["id", "name", "details"], False)
    print("\n".join(lines(MapView(printable(shown), [shown], 1, [[cell(shown)]], 3))))
    with pytest.raises(SystemExit):
        main(["map", "show", f"{shown}/{shown}".replace("\0", "")])
    printed = capsys.readouterr()
    assert all(c.isprintable() or c in "\n\t" for c in printed.out + printed.err)
    assert len(printed.out.splitlines()) == 6

"""Functions of C headers in programs in Python, and the Python stack, which is one."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

import bpf2py
from bpf2py.errors import CompileError, SourceError
from bpf2py.lang.translate import to_c
from bpf2py.readers import RingReader
from bpf2py.symbols import PythonStacks

HEADER = """static __always_inline __u64 scaled(__u64 value, struct scale *by) { return value * by->factor; }
"""
PROGRAM = """from bpf2py.lang import *

class scale(Struct):
    factor: u64

@c_function("{header}")
def scaled(value: u64, by: Ptr[scale]) -> u64:
    raise NotImplementedError

result: u64 = 0

@syscall
def f(ctx: Context) -> int:
    global result
    by = scale(factor=3)
    result = scaled(14, by)
    return 0
"""


def test_a_function_of_a_header_beside_the_program(tmp_path: Path) -> None:
    program = tmp_path / "f.py"
    program.write_text(PROGRAM.format(header="own.h"))
    (tmp_path / "own.h").write_text("struct scale;\n" + HEADER.replace("by->factor", "*(__u64 *)by"))
    for backend in ("engine", None) if os.geteuid() == 0 else ("engine",):
        with bpf2py.load(program, backend) as obj:
            obj.programs["f"].test_run()
            assert obj.variables["result"].value == 42
    (tmp_path / "own.h").write_text("struct scale;\nstatic __u64 scaled(__u64 value, struct scale *by) { return 5; }\n")
    with bpf2py.load(program, "engine") as obj:  # the header has changed, and is read again
        obj.programs["f"].test_run()
        assert obj.variables["result"].value == 5


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("@c_function", "names the header"),
        ("@c_function()", "names the header"),
        ('@c_function("a.h", autoload=False)', "names the header"),
        ('@c_function("a\\".h")', "not a name"),
    ],
)
def test_headers_that_are_no_names(tmp_path: Path, line: str, said: str) -> None:
    text = PROGRAM.replace('@c_function("{header}")', line)
    with pytest.raises(SourceError) as caught:
        to_c(text, tmp_path / "f.py")
    assert said in str(caught.value)


def test_a_header_that_is_not_there_is_named(tmp_path: Path) -> None:
    program = tmp_path / "f.py"
    program.write_text(PROGRAM.format(header="nowhere.h"))
    with pytest.raises(CompileError, match=r"nowhere\.h"):
        bpf2py.compile(program)


@pytest.mark.kernel
def test_the_python_stack_of_an_event(tmp_path: Path) -> None:
    program = tmp_path / "calls.py"
    program.write_text(
        """from bpf2py.lang import *
from bpf2py.lang.python import PythonStack, python_stack


class Call(Struct):
    frames: s32
    stack: PythonStack


calls = RingBuf[Call](size=1 << 20)
only: Const[u32] = 0


@tracepoint("syscalls/sys_enter_getpgid")
def on_call(ctx: TracepointContext) -> int:
    if current_tgid() != only:
        return 0
    call = calls.reserve()
    if call is None:
        return 0
    call.frames = python_stack(ctx, call.stack)
    calls.submit(call)
    return 0
"""
    )

    def inner() -> list[traceback.FrameSummary]:
        stack, _ = traceback.extract_stack(), os.getpgid(0)  # both in one line
        return list(stack)

    def outer() -> list[traceback.FrameSummary]:
        return inner()

    with bpf2py.load(program, variables={"only": os.getpid()}) as obj, RingReader(obj.maps["calls"]) as reader:
        python = PythonStacks(obj)
        python.watch(os.getpid())
        obj.attach()
        expected = outer()
        call = next(iter(reader.events(timeout=20)))
        found = python.frames(call.stack)
    assert call.frames == len(found)
    assert [(f.file, f.line, f.function.rpartition(".")[2]) for f in found] == [
        (f.filename, f.lineno, f.name) for f in reversed(expected[-len(found) :])
    ]
    assert len(found) > 10

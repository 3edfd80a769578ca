"""Python frames taken in the kernel: the same files, functions and lines as the interpreter itself tells."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.pythons import interpreters

import bpf2py
from bpf2py.errors import NotSupported
from bpf2py.readers import RingReader
from bpf2py.symbols import PythonStacks
from bpf2py.symbols.python import find_interpreter
from bpf2py.symbols.python_code import line_of, text_of
from bpf2py.symbols.python_offsets import _LAYOUTS, debug_offsets, known_offsets

SOURCE = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf2py/python.h>
struct event { __u32 tid; struct bpf2py_python_stack stack; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 20); __type(value, struct event); } events SEC(".maps");
__u32 watched;
SEC("tracepoint/syscalls/sys_enter_getpgid") int asked(void *ctx)
{
    struct event *event;

    if (bpf_get_current_pid_tgid() >> 32 != watched) /* others may ask all the time */
        return 0;
    event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 0;
    event->tid = bpf_get_current_pid_tgid();
    bpf2py_python_stack(ctx, &event->stack);
    bpf_ringbuf_submit(event, 0);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""
TARGET = '''
import json, os, sys, threading

def told():
    """This thread's stack, innermost first, then the same asked of by the kernel: in one line."""
    frame, found = sys._getframe(), []
    while frame is not None:
        found.append([frame.f_code.co_filename, frame.f_code.co_qualname, frame.f_lineno])
        frame = frame.f_back
    lines.append(found); os.getpgid(0)

lines = []

class Größe:
    def method(self, depth):
        if depth:
            return self.method(depth - 1)
        return sorted([1], key=lambda value: (value,
                                              told()))

    @staticmethod
    def generator(depth):
        for each in range(1):
            yield Größe().method(depth)

class Attribute:
    def __get__(self, instance, owner):
        return [
            told()
            for _ in range(1)
        ]

class Holder:
    attribute = Attribute()

def deep(depth):
    return told() if not depth else deep(depth - 1)

async def coroutine():
    await other()

async def other():
    told()

def work(number):
    list(Größe.generator(number))
    Holder().attribute
    eval("told()")
    try:
        coroutine().send(None)
    except StopIteration:
        pass

sys.stdin.readline()
sys.setrecursionlimit(10000)
work(2)
deep(30)
deep(200)
for number in range(4):
    thread = threading.Thread(target=work, args=(number,))
    thread.start()
    thread.join()
print(json.dumps(lines), flush=True)
sys.stdin.readline()
'''


@pytest.mark.kernel
@pytest.mark.parametrize("python", interpreters())
def test_the_kernel_sees_what_python_sees(
    compile_bpf: Callable[[str], bytes], tmp_path: Path, tracefs: Path, python: str
) -> None:
    script = tmp_path / "größe.py"
    script.write_text(TARGET)
    with (
        bpf2py.load(compile_bpf(SOURCE)) as obj,
        subprocess.Popen([python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        obj.variables["watched"].value = process.pid
        obj.attach()
        stacks = PythonStacks(obj)
        while not stacks.watch(process.pid):  # it starts
            assert process.poll() is None
        with RingReader(obj.maps["events"]) as reader:
            process.stdin.write("\n")
            process.stdin.flush()
            told = json.loads(process.stdout.readline())
            taken: list[Any] = [event for event in reader.events(timeout=0) if event.stack.pid == process.pid]
        process.stdin.write("\n")
        process.stdin.flush()
        process.wait()
        # The process has gone: what its frames are called is known.
        assert len(taken) == len(told) == 4 + 2 + 4 * 4
        for event, expected in zip(taken, told, strict=True):
            assert stacks.error_of(event.stack) is None
            frames = stacks.frames(event.stack)
            seen = [[frame.file, frame.function, frame.line] for frame in frames]
            assert bool(event.stack.truncated) == (len(expected) > 64)
            expected = expected[:64]
            assert seen[0][:2] == expected[0][:2]
            assert seen[0][2] == expected[0][2] + 2  # it looked at its own frame two lines before
            assert seen[1:] == expected[1:]
            assert frames[-1].entry or event.stack.truncated
        # C code called: sorted() the lambda, and so on; the outermost frame of each thread.
        by_c = [frame.function for frame in stacks.frames(taken[0].stack) if frame.entry]
        assert by_c[-1] == "<module>"
        assert "Größe.method.<locals>.<lambda>" in by_c
        assert stacks.watch_all() >= 1  # this one
        assert process.pid not in stacks.interpreters


@pytest.mark.kernel
def test_processes_that_are_not_known(compile_bpf: Callable[[str], bytes], tracefs: Path) -> None:
    with bpf2py.load(compile_bpf(SOURCE)) as obj, RingReader(obj.maps["events"]) as reader:
        obj.variables["watched"].value = os.getpid()
        obj.attach()
        os.getpgid(0)
        events: list[Any] = [event for event in reader.events(timeout=0) if event.stack.pid == os.getpid()]
        stacks = PythonStacks(obj)
        assert [stacks.error_of(event.stack) for event in events] == ["not a Python process that is known"]
        assert stacks.frames(events[0].stack) == []
    assert find_interpreter(1 << 22) is None
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            assert find_interpreter(process.pid) is None
        finally:
            process.kill()
    with (
        bpf2py.load(
            compile_bpf('#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nchar L[] SEC("license") = "GPL";')
        ) as obj,
        pytest.raises(NotSupported, match="takes no Python stacks"),
    ):
        PythonStacks(obj)


def test_lines_of_code_objects() -> None:
    source = "def f(a,\n      b=(1,\n  2)):\n  x = [\n    a\n    for a in b]\n\n  return (x,\n   a)"
    code = compile(source, "f", "exec")
    pending = [code]
    compared = 0
    while pending:
        code = pending.pop()
        pending += [constant for constant in code.co_consts if hasattr(constant, "co_code")]
        for unit, (line, *_) in enumerate(code.co_positions()):
            assert line_of(code.co_linetable, code.co_firstlineno, unit) == line
            compared += 1
    assert compared > 30
    table = code.co_linetable
    assert line_of(table, 1, 100_000) is None
    assert line_of(table[:1], 1, 50) is None
    assert line_of(b"\x00\x01", 1, 0) is None
    assert line_of(b"", 1, 0) is None


def test_offsets_an_interpreter_publishes() -> None:
    for version, layout in _LAYOUTS.items():
        count = len(layout.replace("|", " ").split())
        data = struct.pack(
            f"<8sQQ{count}Q", b"xdebugpy", version[0] << 24 | version[1] << 16, 0, *range(1000, 1000 + count)
        )
        found, offsets = debug_offsets(data + b"more")
        assert found == version
        assert offsets.interpreters_head == 1002
        assert offsets.previous - offsets.thread_next == (16 if version >= (3, 15) else 8)
        with pytest.raises(ValueError, match="not plausible"):
            debug_offsets(data[:-9])
    with pytest.raises(ValueError, match="no debug offsets"):
        debug_offsets(b"nothing")
    with pytest.raises(NotSupported, match=r"Python 3\.16: where it keeps"):
        debug_offsets(struct.pack("<8sQQ", b"xdebugpy", 0x03100000, 0) + bytes(2000))
    with pytest.raises(NotSupported, match="without the GIL"):
        debug_offsets(struct.pack("<8sQQ", b"xdebugpy", 0x030D0000, 1) + bytes(2000))
    with pytest.raises(NotSupported, match=r"Python 3\.10"):
        known_offsets((3, 10))


def test_text_objects() -> None:
    offsets = known_offsets((3, 12))

    def made(text: str, width: int, plain: bool, shift: int = 2) -> bytes:
        state = (width | 8 | plain << 4) << shift
        raw = text.encode({1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[width])
        head = bytearray(offsets.unicode_data if plain else offsets.unicode_wide)
        struct.pack_into("<Q", head, offsets.unicode_length, len(text))
        struct.pack_into("<I", head, offsets.unicode_state, state)
        return bytes(head) + raw

    for text, width, plain in (
        ("abc", 1, True),
        ("größe", 1, False),
        ("ж.py", 2, False),
        ("𝄞", 4, False),
        ("", 1, True),
    ):
        assert text_of(made(text, width, plain), offsets) == text
        assert text_of(made(text, width, plain, 16), offsets) == text
    assert text_of(made("x" * 50, 1, True)[:70], offsets) == "x" * 30 + "..."
    assert text_of(bytes(64), offsets) == ""
    assert text_of(b"", offsets) == ""

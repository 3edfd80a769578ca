"""Python stacks taken in the kernel, against those py-spy reads from outside, where that is installed (``pip install py-spy``)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.pythons import interpreters
from tests.symbols.test_python_stacks import SOURCE

import bpf2py
from bpf2py.readers import RingReader
from bpf2py.symbols import PythonStacks

THREADS = 4
# Threads that are deep in functions, methods, generators, comprehensions, lambdas, functions that C calls, and decorated ones.
TARGET = """
import functools, os, sys, threading, time

def ask():
    while True:
        os.getpgid(0); time.sleep(0.002)

class Base:
    def enter(self, depth):
        return self.enter(depth - 1) if depth else self.leaf()
    def leaf(self): return ask()

class Other(Base):
    @classmethod
    def made(cls): return cls()
    @property
    def leaf(self): return lambda: max([1], key=lambda _: ask())

def generator(depth):
    if depth: yield from generator(depth - 1)
    else: yield [ask() for _ in range(1)]

def decorated(function):
    @functools.wraps(function)
    def wrapper(*args): return function(*args)
    return wrapper

@decorated
@functools.lru_cache
def cached(number): return sorted([number], key=lambda n: Base().enter(n))

WORK = [lambda: Base().enter(3), lambda: Other.made().enter(2), lambda: list(generator(4)), lambda: cached(1)]
for work in WORK: threading.Thread(target=work, daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
os._exit(0)
"""


@pytest.mark.kernel
@pytest.mark.parametrize("python", interpreters(unpacked=False))  # py-spy finds no version in the others
def test_every_function_of_every_frame_of_four_threads(
    compile_bpf: Callable[[str], bytes], tmp_path: Path, python: str
) -> None:
    py_spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if py_spy is None:
        pytest.skip("py-spy is not installed")
    script = tmp_path / "target.py"
    script.write_text(TARGET)
    with subprocess.Popen([python, "-I", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        ours: dict[int, list[list[Any]]] = {}
        with bpf2py.load(compile_bpf(SOURCE), "kernel") as obj, RingReader(obj.maps["events"]) as reader:
            names = PythonStacks(obj)
            assert names.watch(process.pid)
            obj.variables["watched"].value = process.pid
            obj.attach()
            deadline = time.monotonic() + 30
            while len(ours) < THREADS:
                assert time.monotonic() < deadline
                for batch in reader.poll(0.1):
                    for event in batch:
                        ours.setdefault(event.tid, [[f.file, f.function, f.line] for f in names.frames(event.stack)])
        done = subprocess.run([py_spy, "dump", "--json", "--pid", str(process.pid)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        process.kill()
    theirs = {
        thread["os_thread_id"]: [[f["filename"], f["name"], f["line"]] for f in thread["frames"]]
        for thread in json.loads(done.stdout)
    }
    for tid, frames in ours.items():
        # py-spy knows the name, the kernel's stacks have the qualified one. The innermost function goes on between the two looks.
        assert [[file, name.rpartition(".")[2]] for file, name, _ in frames] == [
            [file, name.rpartition(".")[2]] for file, name, _ in theirs[tid]
        ]
        assert [line for _, _, line in frames[1:]] == [line for _, _, line in theirs[tid][1:]]
        assert len(frames) >= 6

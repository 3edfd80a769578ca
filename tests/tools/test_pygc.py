"""pygc: against gc.callbacks of the program that is watched, on every interpreter of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tests.pythons import interpreters

from bpf2py.symbols.python import find_interpreter
from bpf2py.tools.framework import Filter
from bpf2py.tools.pygc import Pygc

pytestmark = pytest.mark.kernel
Watch = Callable[..., Any]

COLLECTS = """
import gc, os, threading, time
time.sleep(0.1)  # it is known to run Python by then
gc.disable()
seen = []
def callback(phase, info):
    if phase == "stop": seen.append([info["generation"], info["collected"] + info["uncollectable"], threading.get_native_id()])
class Node: pass
def garbage(count):
    for _ in range(count):
        a, b = Node(), Node()
        a.other, b.other = b, a
class Again:
    def __del__(self): gc.collect(0)  # asks while a collection is on: nothing happens
def collects(count):
    garbage(count)
    gc.collect(count % 3)
gc.callbacks.append(callback)
for count in range(30): collects(count)
again = Again(); again.me = again; del again; gc.collect()
threads = [threading.Thread(target=collects, args=(100 + n,)) for n in range(3)]
for t in threads: t.start(); t.join()
gc.enable()
garbage(20_000)
gc.disable()
gc.callbacks.clear()
tell([os.getpid(), seen])
os._exit(0)
"""


@pytest.mark.parametrize("python", interpreters(builds=True))
def test_every_collection_of_every_generation(watch: Watch, python: str) -> None:
    """Those the program asked for, and those that came by themselves; of threads, and one asked for within another."""
    seen = watch("pygc", COLLECTS, python=python)
    pid, told = seen.told
    found = [[r["generation"], r["collected"], r["tid"]] for r in seen.records]
    begin = len(found) - len(told)
    assert found[begin:] == told
    assert len({generation for generation, _, _ in told}) == 3
    assert {r["pid"] for r in seen.records} == {pid}
    assert all(r["ms"] > 0 for r in seen.records)
    asked = [r for r in seen.records[begin:] if r["stack"] and r["stack"][0]["function"] == "collects"]
    assert len(asked) == 33
    assert {r["where"] for r in asked} == {"collects (watched.py:19)"}
    assert "lost" not in seen.said


def test_a_process_that_runs_already_and_short_collections() -> None:
    """Whatever else collects meanwhile is not shown."""
    source = "import gc, sys\nprint('ready', flush=True)\nfor line in sys.stdin: gc.collect(int(line)); print('done', flush=True)"
    argv = [sys.executable, "-I", "-c", source]
    watched, other = (
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    )
    try:
        for process in (watched, other):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for least, expected in ((0.0, [1, 0, 2]), (1e6, [])):
            with Pygc(Filter(pid=watched.pid), least_ms=least) as tool:
                tool.start()
                for number in (1, 0, 2):
                    for process in (watched, other):
                        assert process.stdin is not None
                        assert process.stdout is not None
                        process.stdin.write(f"{number}\n")
                        process.stdin.flush()
                        assert process.stdout.readline() == "done\n"
                assert [record["generation"] for record in tool.records()] == expected
                assert tool.problems == []
    finally:
        for process in (watched, other):
            process.communicate(timeout=30)


def test_an_interpreter_that_maps_its_own_library() -> None:
    """As a file, to read it: that is another mapping of it, and not where its code is."""
    import mmap

    mine = find_interpreter(os.getpid())
    assert mine is not None
    with open(mine.path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
        assert find_interpreter(os.getpid()) == mine

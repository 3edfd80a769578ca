"""asyncio-block: against a program that times itself what blocks its loops."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.pythons import interpreters
from tests.tools.conftest import EMULATED

from bpf2py.tools.asyncio_block import AsyncioBlock, callback_of
from bpf2py.tools.framework import Filter

Watch = Callable[..., Any]

BLOCKS = """
import asyncio, os, selectors, sys, threading, time
told = []
class Timed:
    def __init__(self, callback): self.callback = callback
    def __enter__(self): self.begin = time.monotonic(); self.line = sys._getframe(1).f_lineno + 1
    def __exit__(self, *_):
        told.append([threading.get_native_id(), (time.monotonic() - self.begin) * 1000, self.line, self.callback])
def burn():
    end = time.thread_time() + 0.1
    with Timed("call"):
        while time.thread_time() < end: pass
def call(): burn()
async def short():
    for _ in range(10):
        await asyncio.sleep(0.001)
        with Timed("main"):
            time.sleep(0.002)
async def sleeps(callback):
    with Timed(callback):
        time.sleep(0.12)
async def main():
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0.02)
    await sleeps("main")
    await short()
    await asyncio.create_task(sleeps("sleeps"))
    loop.call_soon(call)
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    lock = threading.Lock(); lock.acquire()
    threading.Timer(0.12, lock.release).start()
    with Timed("main"):
        lock.acquire()
    await asyncio.sleep(0.01)
def other():  # not of asyncio: as long as it likes
    selector = selectors.EpollSelector()
    for _ in range(3): selector.select(0.01); time.sleep(0.1)
threads = [threading.Thread(target=asyncio.run, args=[main()]), threading.Thread(target=other)]
for t in threads: t.start()
asyncio.run(main())
time.sleep(0.1)
for t in threads: t.join()
tell(told)
"""


@pytest.mark.kernel
@pytest.mark.parametrize("python", interpreters())
def test_what_blocks_loops_of_several_threads(watch: Watch, python: str) -> None:
    seen = watch("asyncio-block --threshold 50", BLOCKS, python=python)
    by_thread: dict[int, list[dict[str, Any]]] = {}
    for record in seen.records:
        if "problems" not in record:
            by_thread.setdefault(record["tid"], []).append(record)
    threads = {tid for tid, *_ in seen.told}
    assert set(by_thread) == threads
    for tid in threads:
        blocks = [[ms, line, callback] for each, ms, line, callback in seen.told if each == tid]
        assert len([ms for ms, *_ in blocks if ms > 50]) >= 4
        records = iter(by_thread[tid])
        on_cpu: dict[str, list[float]] = {}
        for ms, line, callback in blocks:
            if ms < 50:
                continue
            # Between them may be others, where the thread waited for the CPU or the GIL.
            place = f"(watched.py:{line})"
            record = next(each for each in records if each["ms"] >= ms and (each["where"] or place).endswith(place))
            if record["where"] is None:  # nothing could be read of it, which is said
                assert any("no stack was taken" in problem for problem in seen.problems), seen.problems
                continue
            assert (record["callback"], record["ended"]) == (callback, True)
            on_cpu.setdefault(callback, []).append(record["cpu_ms"])
        # What burns has the CPU for a tenth of a second; the waits have it for a moment, where Python is not as slow as that.
        assert (
            EMULATED
            or "call" not in on_cpu
            or min(on_cpu["call"]) > max(cpu for callback, cpus in on_cpu.items() if callback != "call" for cpu in cpus)
        )
    assert "lost" not in seen.said


WAITED_FOR = """
import asyncio, sys, time
async def burns():
    await asyncio.sleep(0.02)
    end = time.thread_time() + 0.5
    while time.thread_time() < end: pass
    await asyncio.sleep(0.01)
async def wants(task):
    return await task
async def main():
    task = asyncio.create_task(burns())
    await asyncio.gather(wants(task), wants(task))
asyncio.run(main())
tell(sys.version_info[:2])
"""


@pytest.mark.kernel
@pytest.mark.parametrize("python", interpreters())
def test_who_waits_for_the_task_that_blocks(watch: Watch, python: str) -> None:
    seen = watch("asyncio-block --threshold 200", WAITED_FOR, python=python)
    (record,) = [record for record in seen.records if record.get("callback") == "burns"]
    waiting = [[task["task"], [frame["function"] for frame in task["stack"]]] for task in record["waiting"]]
    if seen.told >= [3, 14]:
        assert sorted(waiting) == [["Task-1", ["main"]], ["Task-3", ["wants"]], ["Task-4", ["wants"]]]
        assert record["awaited"] == "wants (watched.py:11)"
    else:
        assert (record["awaited"], waiting) == (None, [])


@pytest.mark.kernel
@pytest.mark.parametrize("selector", ["EpollSelector", "PollSelector", "SelectSelector"])
def test_loops_over_every_selector(watch: Watch, selector: str) -> None:
    source = f"""
import asyncio, selectors, sys, time
told = []
async def main():
    await asyncio.sleep(0.02)
    told.append(sys._getframe().f_lineno + 1)
    time.sleep(0.12)
    await asyncio.sleep(0.01)
loop = asyncio.SelectorEventLoop(selectors.{selector}())
loop.run_until_complete(main())
loop.close()
tell(told)
"""
    seen = watch("asyncio-block --threshold 50", source)
    (line,) = seen.told
    (record,) = [record for record in seen.records if record.get("where", "") == f"main (watched.py:{line})"]
    assert record["ms"] >= 120
    assert (record["callback"], record["ended"]) == ("main", True)


@pytest.mark.kernel
def test_what_lasts_when_the_tool_ends() -> None:
    source = """
import asyncio, time
async def hangs():
    await asyncio.sleep(0.01)
    time.sleep(1000)
input()
asyncio.run(hangs())
"""
    process = subprocess.Popen([sys.executable, "-I", "-c", source], stdin=subprocess.PIPE)
    try:
        with AsyncioBlock(Filter(pid=process.pid), threshold_ms=5) as tool:
            tool.start()
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
            records: list[dict[str, Any]] = []
            deadline = time.monotonic() + 60
            while (
                not any(loop.begin_ns for loop in tool.obj.maps["loops"].values()) or not tool.obj.maps["off"].count()
            ):
                records += tool.records()
                assert time.monotonic() < deadline
            threading.Event().wait(0.01)
            tool.stop()
            records += tool.records()
    finally:
        process.kill()
        process.communicate()
    (record,) = [record for record in records if not record["ended"]]
    assert (record["pid"], record["where"], record["ended"]) == (process.pid, "hangs (<string>:5)", False)
    assert record["ms"] > 5


def test_callbacks_are_what_the_loop_called() -> None:
    from bpf2py.symbols import PythonFrame

    own = [PythonFrame("/a.py", name) for name in ("inner", "outer")]
    loop = [PythonFrame("/usr/lib/python3.12/asyncio/events.py", "Handle._run"), PythonFrame("/a.py", "<module>")]
    assert callback_of([*own, *loop]) == "outer"
    assert callback_of(loop) == "Handle._run"

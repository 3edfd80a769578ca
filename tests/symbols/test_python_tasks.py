"""Tasks that wait for the one that runs, as the interpreter itself tells them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.pythons import interpreters

from bpf2py.symbols.python import find_interpreter
from bpf2py.symbols.python_tasks import PythonTasks

TARGET = """
import asyncio, json, sys, threading

def told():
    '''The tasks that wait for this one, each with its coroutines, and then time to look.'''
    found, seen = [], set()
    def walk(graph):
        for each in graph.awaited_by:
            if each.future in seen:
                continue
            seen.add(each.future)
            if isinstance(each.future, asyncio.Task):
                frames = [entry.frame for entry in each.call_stack]
                stack = [[f.f_code.co_filename, f.f_code.co_qualname, f.f_lineno] for f in frames]
                found.append([each.future.get_name(), stack])
            walk(each)
    walk(asyncio.capture_call_graph())
    print(json.dumps([threading.get_native_id(), sorted(found)]), flush=True)
    sys.stdin.readline()

async def leaf():
    await asyncio.sleep(0)
    told()

async def middle(task):
    await inner(task)

async def inner(task):
    return await task

async def grouped():
    async with asyncio.TaskGroup() as group:
        group.create_task(deep(40), name="größe")

async def deep(depth):
    if depth:
        await deep(depth - 1)
    else:
        await leaf()

async def several():
    task = asyncio.create_task(leaf())
    await asyncio.gather(middle(task), middle(task), inner(task))

async def main():
    await leaf()
    await asyncio.create_task(leaf())
    await several()
    await asyncio.wait_for(leaf(), 100)
    await grouped()

asyncio.run(main())
thread = threading.Thread(target=asyncio.run, args=(several(),))
thread.start()
thread.join()
told_all = True
"""


def version_of(python: str) -> tuple[int, ...]:
    shown = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True)
    return tuple(int(part) for part in shown.stdout.split())


@pytest.mark.parametrize("python", [each for each in interpreters() if version_of(each) < (3, 14)])
def test_older_ones_do_not_tell(python: str) -> None:
    with subprocess.Popen(
        [python, "-c", "import asyncio, sys; sys.stdin.readline()"], stdin=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        found = None
        while found is None:  # it starts
            found = find_interpreter(process.pid)
        with pytest.raises(ValueError, match="does not tell where its tasks are"):
            PythonTasks(found)
        process.stdin.close()


@pytest.mark.parametrize("python", [each for each in interpreters() if version_of(each) >= (3, 14)])
def test_tasks_are_those_the_interpreter_tells(tmp_path: Path, python: str) -> None:
    script = tmp_path / "tasks.py"
    script.write_text(TARGET)
    steps: list[Any] = []
    with subprocess.Popen([python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            tid, told = json.loads(line)
            interpreter = find_interpreter(process.pid)
            assert interpreter is not None
            seen = PythonTasks(interpreter).waiting(tid)
            steps.append([[task.name, [[f.file, f.function, f.line] for f in task.frames]] for task in seen])
            assert sorted(steps[-1]) == told
            process.stdin.write("\n")
            process.stdin.flush()
    assert process.returncode == 0
    assert [len(step) for step in steps] == [0, 1, 4, 0, 1, 4]

"""pygc: garbage collections of Python programs."""

from __future__ import annotations

import glob
import os
import shutil

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.errors import AttachError
from bpf2py.kernel.elf_symbols import symbol_offset
from bpf2py.kernel.usdt_notes import read_notes
from bpf2py.symbols.image import address_of_symbol, bytes_of_symbol, open_file
from bpf2py.symbols.python_offsets import DEBUG_OFFSETS_SIZE, generation_counters
from bpf2py.tools.framework import RETURN_ADDRESS, Column, Filter, Record
from bpf2py.tools.pycalls import Located

if TYPE_CHECKING:
    from bpf2py.symbols.python import Interpreter

__all__ = ["Pygc"]

# Functions of the interpreter that collect, as (thread state, generation, ...), and return how many objects they found.
COLLECTORS = ("gc_collect_main", "_PyGC_Collect")  # to 3.13; from 3.14 on


class Pygc(Located):
    """A record for each garbage collection of a Python program, when it is done, with the Python stack that was interrupted.

    By the probes ``python:gc__start`` and ``python:gc__done`` of interpreters that have them, else by the function that collects.

    Args:
        wanted: whom to watch.
        least_ms: only those that take at least so many milliseconds.
        program: what is going to be started: where that is an interpreter, nothing it does is missed. Otherwise interpreters that
            no process ran before are found as they open files.
    """

    program = "pygc"
    columns = (
        Column("pid", "PID", 7, True),
        Column("comm", "COMM", 15),
        Column("generation", "GEN", 3, True),
        Column("collected", "COLLECTED", 9, True),
        Column("ms", "MS", 9, True),
        Column("where", "WHERE", 0),
    )

    def __init__(self, wanted: Filter, *, least_ms: float = 0.0, program: str = "") -> None:
        self._probed: set[tuple[int, int]] = set()
        self._unseen: list[str] = []
        self._program = program
        super().__init__(wanted, {"least_ns": int(least_ms * 1e6), "return_address": RETURN_ADDRESS})

    def attach(self) -> None:
        self.obj.programs["on_exec"].attach()
        self.obj.programs["enter_openat"].attach()
        for path in _interpreters_of(self._program) if self._program else ():
            self._probe(path)
        for interpreter in list(self.python.interpreters.values()):
            self._found(interpreter)

    def _found(self, interpreter: Interpreter) -> None:
        self._probe(interpreter.path)

    def _probe(self, path: str) -> None:
        """Probe an interpreter's file, for all who run it, unless that is done."""
        try:
            status = os.stat(path)
            file = status.st_dev, status.st_ino
            if file not in self._probed:
                self._attach_to(path)
            self._probed.add(file)
        except FileNotFoundError:
            return  # the process has gone
        except AttachError as error:
            if os.path.exists(path):
                self._unseen.append(str(error))

    def _attach_to(self, path: str) -> None:
        programs = self.obj.programs
        if any((each.provider, each.name) == ("python", "gc__start") for each in read_notes("pygc", path).probes):
            programs["on_done"].attach(binary=path, provider="python", name="gc__done")
            programs["on_start"].attach(binary=path, provider="python", name="gc__start")
            return
        offset = None
        for name in COLLECTORS:
            try:
                offset = symbol_offset("pygc", path, name)
                break
            except AttachError:
                continue
        if offset is None:
            raise AttachError(
                f"garbage collections of those who run {path} cannot be seen: it has neither probes (--with-dtrace) nor symbols"
            )
        opened = open_file(path)
        if opened is None:
            return
        with opened:
            cookie = generation_counters(bytes_of_symbol(opened, "_PyRuntime", DEBUG_OFFSETS_SIZE))
        programs["on_collected"].attach(binary=path, offset=offset)
        programs["on_collect"].attach(binary=path, offset=offset, cookie=cookie)

    def _frames(self, event: Any) -> list[Any]:
        return list(self.python.frames(event.python))  # none at a program's beginning and end, which is no error here

    def _details(self, event: Any) -> Record:
        return {
            "generation": event.generation if event.generation >= 0 else None,
            "collected": event.collected,
            "ms": round(event.at.value / 1e6, 3),
        }

    @property
    def problems(self) -> list[str]:
        return [*super().problems, *self._unseen]


def _interpreters_of(program: str) -> list[str]:
    """The interpreter a program is, or its library."""
    path = os.path.realpath(shutil.which(program) or program)
    found = []
    libraries = glob.glob(
        os.path.join(glob.escape(os.path.dirname(os.path.dirname(path))), "lib*", "libpython3.*.so.*")
    )
    for each in (path, *libraries):
        opened = open_file(each)
        if opened is not None:
            with opened:
                if address_of_symbol(opened, "_PyRuntime") is not None:
                    found.append(each)
    return found

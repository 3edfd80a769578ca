"""`Run`: one run of a program, from its start to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from bpf2py.engine.programs.loaded import LoadedProgram
    from bpf2py.engine.task import Task

__all__ = ["Run", "Sysctl"]


class Sysctl(NamedTuple):
    """What a sysctl program is asked about: what is read or written.

    Attributes:
        name: as below /proc/sys.
        current: the value it has, as reading the file gives it.
        new: what is being written.
    """

    name: str = ""
    current: bytes = b""
    new: bytes = b""


class Run:
    """What is running: the program, and what its helpers need to know."""

    __slots__ = (
        "arguments",
        "cgroup",
        "context",
        "cookie",
        "error",
        "output",
        "owned",
        "packet",
        "program",
        "retval",
        "storage",
        "sysctl",
        "task",
        "task_address",
    )

    def __init__(self, program: LoadedProgram, context: int, task: Task) -> None:
        self.program = program
        self.context = context
        self.task = task
        self.packet: Any = None
        self.error: BaseException | None = None
        self.cookie = 0
        self.cgroup = 0  # the program is attached to
        self.storage: dict[int, int] = {}  # of a run without a cgroup: the values of maps, by their headers
        self.arguments = 0  # of the traced function
        self.retval = 0  # of the operation a cgroup program watches
        self.output = bytearray()  # of an iterator program; the value a sysctl program set
        self.sysctl = Sysctl()  # what a sysctl program is asked about
        self.owned: list[int] = []  # memory that goes when the run ends
        self.task_address = 0

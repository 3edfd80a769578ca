"""What all tools have: whom they watch, the columns of their records, what they say at the end, and losses that are counted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bpf2py._typing import TYPE_CHECKING, Any, NamedTuple
from bpf2py.errors import AttachError, BpfError
from bpf2py.loading import load
from bpf2py.owned import Owned, close_all
from bpf2py.readers.ring import RingReader

if TYPE_CHECKING:
    from typing import ClassVar, Self

    from bpf2py.maps.histogram import Histogram
    from bpf2py.object import Object
    from bpf2py.programs import Link
    from bpf2py.seam.protocol import EventSource
    from bpf2py.symbols.stacks import Stacks
    from bpf2py.tools.containers import Containers

__all__ = ["Chart", "Column", "Filter", "Flames", "Result", "Table", "Tool", "program_path"]

COMM_SIZE = 16  # include/linux/sched.h: TASK_COMM_LEN, with its NUL
RETURN_ADDRESS = (
    8 if os.uname().machine == "x86_64" else 0
)  # bytes of the stack that returning from a function takes off
FOLLOWED = 65_536  # processes of a command that can live at once
Record = dict[str, Any]


class Column(NamedTuple):
    """A column of what a tool prints.

    Attributes:
        name: of the record's field.
        heading: above it.
        width: characters; longer text moves what follows.
        right: whether it stands at the right, as numbers do.
        counter: whether it only grows, so that differences make sense.
    """

    name: str
    heading: str
    width: int
    right: bool = False
    counter: bool = False


CONTAINER = Column("container", "CONTAINER", 16)


class Table(NamedTuple):
    """Rows that were counted."""

    columns: Sequence[Column]
    rows: list[Record]


class Chart(NamedTuple):
    """A histogram, and whose it is: an empty title for all."""

    title: str
    fields: Record
    histogram: Histogram


class Flames(NamedTuple):
    """Stacks that were counted; with rows where these say more than the tree."""

    stacks: Stacks
    columns: Sequence[Column] = ()
    rows: Sequence[Record] = ()


Result = Table | Chart | Flames


class Filter(NamedTuple):
    """Whom a tool watches: those to whom all of it applies.

    Attributes:
        pid: a process, with all its threads; 0 for all.
        comm: threads of this name, of which the kernel knows 15 bytes; empty for all.
        cgroup: the directory of a control group (version 2), with those below it; empty for all.
        command: whether only what `Tool.start(command=True)` lets follow: a child of this process that is started after it, and
            all it starts.
    """

    pid: int = 0
    comm: str = ""
    cgroup: str = ""
    command: bool = False

    def variables(self) -> dict[str, Any]:
        """First values of the variables every program has. Raises BpfError for a group that does not exist."""
        comm = os.fsencode(self.comm)[: COMM_SIZE - 1].decode("utf-8", "ignore")
        return {
            "only_pid": self.pid,
            "only_comm": comm,
            "only_cgroup": cgroup_id(self.cgroup) if self.cgroup else 0,
            "only_followed": int(self.command),
        }


def cgroup_id(path: str) -> int:
    """The kernel's number of a control group: its directory's inode. Raises BpfError."""
    try:
        if os.path.exists(os.path.join(path, "cgroup.controllers")):
            return os.stat(path).st_ino
    except OSError as error:
        raise BpfError(f"control group {path}: {error.strerror}") from None
    raise BpfError(f"{path!r} is not the directory of a control group of version 2")


def program_path(name: str) -> str:
    """Where the program of a tool is: a file in Python or C."""
    folder = os.path.join(os.path.dirname(__file__), "programs")
    found = [path for end in (".py", ".bpf.c") if os.path.exists(path := os.path.join(folder, name + end))]
    return found[0]


class Tool(Owned):
    """A tool that is loaded; `start()` attaches it, `close()` ends it. A context manager.

    Attributes:
        obj: its program.
        followed: the program that follows a command's processes, where the filter asks for it.
        containers: set before it starts where records are to name the container; None for records without.
    """

    program: ClassVar[str]  # its file's name, without the ending
    columns: ClassVar[Sequence[Column]] = ()  # of its records; none: it says everything at the end
    of_processes: ClassVar[bool] = True  # else nobody does what it watches: it knows control groups alone
    optional: ClassVar[Sequence[str]] = ()  # programs whose hooks some kernels or machines lack

    def __init__(
        self,
        wanted: Filter,
        variables: Mapping[str, Any] | None = None,
        *,
        autoload: Mapping[str, bool] | None = None,
        max_entries: Mapping[str, int] | None = None,
    ) -> None:
        if not self.of_processes:
            wanted = self._of_sockets(wanted)
        given = self._variables(wanted) | dict(variables or {})
        self.followed: Object | None = None
        self.containers: Containers | None = None
        self._reader: RingReader[Any] | None = None
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        shared = {}
        if wanted.command:
            self.followed = load(program_path("tree"), "kernel", variables={"tool": os.getpid()})
            shared = {"followed": self.followed.maps["followed"]}
        try:
            self.obj = load(
                self._source(),
                "kernel",
                variables=given,
                maps=shared,
                autoload=autoload,
                max_entries=dict(max_entries or {}) | ({"followed": FOLLOWED} if shared else {}),
            )
            if "events" in self.obj.maps:
                self._reader = RingReader(self.obj.maps["events"])
        except BaseException:
            self.close()
            raise

    def _variables(self, wanted: Filter) -> dict[str, Any]:
        found = wanted.variables()
        return found if self.of_processes else {"only_cgroup": found["only_cgroup"]}

    def _of_sockets(self, wanted: Filter) -> Filter:
        if wanted.pid or wanted.comm:
            raise BpfError(
                f"{self.program}: this is done by no process: --pid and --comm choose nothing; --port, --cgroup and --container do"
            )
        return wanted._replace(command=False)

    def _source(self) -> str | bytes:
        """The file of its program, or the object."""
        return program_path(self.program)

    # -- from begin to end ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Attach its programs. Raises AttachError."""
        # Who executes is followed before the tool looks, and who exits until it has looked: programs run as they were attached.
        if self.followed is not None:
            self.followed.programs["on_exec"].attach()
            self.followed.programs["on_fork"].attach()
        self.attach()
        if self.followed is not None:
            self.followed.programs["on_exit"].attach()

    def attach(self) -> None:
        """Attach every program to what its section says."""
        self._attach_in_turn(self.obj.programs)

    def _attach_in_turn(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                self.obj.programs[name].attach(**self._options(name))
            except AttachError:
                if name not in self.optional:
                    raise

    def _options(self, name: str) -> dict[str, Any]:
        """How one of its programs is attached."""
        return {}

    def stop(self) -> None:
        """Detach; what was seen is still there."""
        links: list[Link] = [*self.obj.links, *(self.followed.links if self.followed is not None else ())]
        close_all(links)

    def close(self) -> None:
        """Detach and close everything; closing twice is harmless."""
        owned = (self.followed, getattr(self, "obj", None), self._reader)
        close_all([each for each in owned if each is not None])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what it saw ---------------------------------------------------------------------------------------------

    @property
    def sources(self) -> list[EventSource]:
        """What is readable when there are records."""
        return list(self._reader._sources) if self._reader is not None else []

    ticks: ClassVar[bool] = False  # whether `tick()` wants to be called now and then

    def tick(self) -> None:
        """What is to be looked at while it runs."""

    def records(self) -> Iterator[Record]:
        """What came since the last call, in the order in which it happened on each CPU."""
        if self._reader is None:
            return
        for source in self._reader._sources:
            source.acknowledge()
        for batch in self._reader.flush():
            for event in batch:
                record = self._record(event)
                if record is not None:
                    yield record | self.container(self._cgroup(event))

    def _record(self, event: Any) -> Record | None:
        """What a program reported, as it is shown; None for what is only counted."""
        raise NotImplementedError

    @staticmethod
    def _cgroup(event: Any) -> int:
        """The control group of an event."""
        return int(event.cgroup)

    def container(self, cgroup: int) -> Record:
        """The field of a record that names the container of a control group; nothing where records are to have none."""
        return {} if self.containers is None else {"container": self.containers.shown(cgroup)}

    def root(self, comm: str, cgroup: int) -> str:
        """The outermost frame of a stack: the thread's name, and its container where that is to be named."""
        container = self.container(cgroup).get("container")
        return f"{comm} in {container}" if container else comm

    def results(self) -> Iterable[Result]:
        """What is said at the end."""
        return ()

    @property
    def problems(self) -> list[str]:
        """What is missing in what was seen, and why."""
        found = []
        if "lost" in self.obj.variables and (lost := int(self.obj.variables["lost"].value)):
            found.append(f"{lost} events were lost: they came faster than they were read")
        if "missed" in self.obj.variables and (missed := int(self.obj.variables["missed"].value)):
            found.append(f"{missed} waits are missing: the kernel did not report their end")
        if missed_runs := sum(program.info.recursion_misses for program in self.obj.programs.values()):
            found.append(
                f"{missed_runs} runs of its programs were missed: an interrupt came while they ran on that CPU"
            )
        if self.followed is not None and (unseen := int(self.followed.variables["unseen"].value)):
            found.append(f"{unseen} processes of the command were not followed: more than {FOLLOWED} lived at once")
        return found

    def seconds(self, time_ns: int) -> float:
        """A moment of the programs' clock in seconds since 1970."""
        return round((time_ns + self._offset_ns) / 1e9, 6)


def text_of(data: Iterable[int], size: int) -> str:
    """A path or name the kernel copied: `size` bytes, of which the NUL at the end is not part.

    Of an empty one bpf_probe_read_user_str() says 1 on Linux 6.18, and 0 on 6.12.
    """
    return bytes(data)[:size].rstrip(b"\0").decode("utf-8", "surrogateescape")

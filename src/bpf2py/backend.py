"""The seam: what every backend provides, in terms of specs and plain bytes.

Results are the kernel's: 0 or a positive number, or -errno. The front end turns errnos into exceptions, once for all
backends, so that the same operation fails alike everywhere. For type checkers alone: nothing imports this module to run.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

from bpf2py.btf.reader import Btf
from bpf2py.info import MapInfo, ProgramInfo
from bpf2py.linker.link import LinkedProgram
from bpf2py.spec.map_spec import MapSpec
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.spec.program_spec import ProgramSpec


class MapSlot(Protocol):
    """Buffers for one operation on a map: fill `key` and `value`, call, read `value` or `next_key`.

    `value` has as many bytes as the command transfers: for per-CPU maps all possible CPUs' slots.

    Attributes:
        fast_lookup, fast_update: `lookup()` and `update()` without flags and without a Python frame: 0, or anything else;
            calling `lookup()` or `update()` then gives the errno.
        key_view, value_view: the first number of `key` and `value`, set by the front end where these are plain integers.
    """

    key: bytearray
    value: bytearray
    next_key: bytearray
    fast_lookup: Callable[[], int]
    fast_update: Callable[[], int]
    key_view: Any
    value_view: Any

    def lookup(self, flags: int = 0) -> int:
        """BPF_MAP_LOOKUP_ELEM: `value` of `key`."""

    def update(self, flags: int = 0) -> int:
        """BPF_MAP_UPDATE_ELEM."""

    def delete(self) -> int:
        """BPF_MAP_DELETE_ELEM."""

    def lookup_and_delete(self, flags: int = 0) -> int:
        """BPF_MAP_LOOKUP_AND_DELETE_ELEM."""

    def get_next_key(self, first: bool) -> int:
        """BPF_MAP_GET_NEXT_KEY: `next_key` behind `key`, or the first key."""


class EventSource(Protocol):
    """What a reader waits for: a descriptor that is readable while (or since) there is something to read."""

    def fileno(self) -> int:
        """The descriptor, negative once closed."""

    def acknowledge(self) -> None:
        """Make it unreadable where that does not follow from reading; called before the buffers are looked at."""

    def close(self) -> None:
        """Close it; closing twice is harmless."""


class HasNumber(Protocol):
    """What an entry of a PERF_EVENT_ARRAY is set by."""

    @property
    def number(self) -> int:
        """The descriptor or number."""


class PerfBuffer(EventSource, Protocol):
    """The buffer of one CPU: programs write, a reader takes."""

    @property
    def fd(self) -> HasNumber:
        """What is stored in the map."""

    @property
    def cpu(self) -> int:
        """The CPU whose programs write to it."""

    def take(self) -> bytes | memoryview:
        """Everything written since the last time, in order, as perf records; the space is free again."""

    def snapshot(self) -> bytes:
        """The newest records of an overwritable buffer, newest first."""

    def control(self, request: int, argument: int) -> None:
        """One of PERF_EVENT_IOC_ENABLE, _DISABLE and _PAUSE_OUTPUT. Raises BpfOSError."""


class MapHandle(Protocol):
    """A map of a backend."""

    info: MapInfo

    @property
    def fd(self) -> int:
        """The descriptor (kernel) or number (engine) programs and other commands refer to."""

    @property
    def value_bytes(self) -> int:
        """Bytes of a value as the commands transfer it."""

    @property
    def possible_cpus(self) -> int:
        """Slots of a per-CPU value."""

    @property
    def cpu_numbers(self) -> Sequence[int]:
        """The CPU each of these slots belongs to: possible CPUs may have gaps between their numbers."""

    @property
    def page_size(self) -> int:
        """Bytes of a page of the map's memory, in which mappings and rings are measured."""

    @property
    def online_cpus(self) -> list[int]:
        """CPUs that run programs now."""

    @property
    def identity(self) -> Hashable:
        """What is equal for all handles of the same map."""

    def event_source(self) -> EventSource:
        """What a reader of this RINGBUF waits for; the caller closes it."""

    def open_perf_buffer(self, pages: int, cpu: int, overwritable: bool, wakeup: tuple[int, bool]) -> PerfBuffer:
        """A buffer for a CPU's entry of this PERF_EVENT_ARRAY; the caller stores its `fd` in the map, and closes it.

        `wakeup` is (number, whether of bytes rather than records). Raises BpfOSError or PermissionDenied.
        """

    def slot(self) -> MapSlot:
        """New buffers for single operations; not shared between threads at the same time."""

    def lookup_batch(
        self,
        token_in: bytearray | None,
        token_out: bytearray,
        keys: Any,
        values: Any,
        count: int,
        flags: int,
        delete: bool,
    ) -> tuple[int, int]:
        """BPF_MAP_LOOKUP_BATCH or, with `delete`, BPF_MAP_LOOKUP_AND_DELETE_BATCH: (result, elements)."""

    def update_batch(self, keys: Any, values: Any, count: int, flags: int) -> tuple[int, int]:
        """BPF_MAP_UPDATE_BATCH: (result, elements done)."""

    def delete_batch(self, keys: Any, count: int, flags: int) -> tuple[int, int]:
        """BPF_MAP_DELETE_BATCH: (result, elements done)."""

    def count(self) -> int | None:
        """Number of elements where the backend keeps count, else None."""

    def freeze(self) -> int:
        """BPF_MAP_FREEZE."""

    def pin(self, path: str) -> int:
        """BPF_OBJ_PIN."""

    def mmap(self, length: int, writable: bool, offset: int = 0) -> Any:
        """A shared mapping of the map's memory. Raises OSError."""

    def duplicate(self) -> MapHandle:
        """Another handle of the same map, closed on its own."""

    def close(self) -> None:
        """Give the handle up; the map lives as long as programs, pins or other handles use it."""


class ProgramHandle(Protocol):
    """A loaded program of a backend."""

    @property
    def fd(self) -> int:
        """The descriptor or number of the program."""

    def info(self) -> ProgramInfo:
        """Facts of the program, read now."""

    def close(self) -> None:
        """Give the handle up; the program lives as long as links or other handles use it."""


class LinkHandle(Protocol):
    """An attachment of a program to a hook; `hook` says which, for messages."""

    hook: str

    def close(self) -> None:
        """Detach (unless the link is pinned)."""


class Backend(Protocol):
    """Makes maps, programs and links."""

    name: str

    @property
    def arch(self) -> str | None:
        """Whose registers probes give programs (``"x86"``, ``"arm64"``), None for those the program was compiled for."""

    @property
    def possible_cpus(self) -> int:
        """CPUs a per-CPU value has slots for."""

    @property
    def cpu_limit(self) -> int:
        """One more than the highest CPU number there may be."""

    def prepare(self, spec: ObjectSpec) -> Any:
        """Whatever the maps and programs of one object share (its BTF in the kernel); has `close()`."""

    def create_map(self, spec: MapSpec, prepared: Any = None, inner: MapHandle | None = None) -> MapHandle:
        """Create a map. Raises a typed error that names the map."""

    def kconfig(self) -> tuple[Any, Any]:
        """(lookup, special) for `bpf2py.linker.kconfig.build`."""

    def core_target(self, spec: ObjectSpec | None = None) -> Any:
        """The `CoreTarget` the CO-RE relocations of an object are resolved against."""

    def load_programs(
        self,
        programs: Sequence[tuple[ProgramSpec, LinkedProgram]],
        spec: ObjectSpec,
        maps: dict[str, MapHandle],
        prepared: Any,
    ) -> Sequence[ProgramHandle]:
        """Load linked programs, all or none. Raises VerifierError, PermissionDenied or another typed error."""

    def attach(self, program: ProgramHandle, spec: ProgramSpec, options: dict[str, Any]) -> Sequence[LinkHandle]:
        """Attach by the spec's section name and options. Raises AttachError or another typed error."""

    def map_btf(self, info: MapInfo) -> Btf | None:
        """The BTF of a map opened by id, pin or descriptor."""

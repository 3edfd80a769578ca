"""The seam: what every backend provides, in terms of specs and plain bytes.

The public API asks for nothing else, and does not know which backend it has; what a backend lacks raises NotSupported. Results
of the commands on maps, programs and links are the kernel's: 0 or a positive number, or -errno. The front end turns errnos into
exceptions, once for all backends, so that the same operation fails alike everywhere. For type checkers alone: nothing imports
this module to run, and each backend's module ends with the proof that it fits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

from bpf2py._typing import Any, Protocol, TypeAlias
from bpf2py.btf.reader import Btf
from bpf2py.linker.core import CoreTarget
from bpf2py.linker.link import LinkedProgram
from bpf2py.seam.element_calls import ElementCalls
from bpf2py.seam.info import MapInfo, ProgramInfo, TestRunResult
from bpf2py.seam.signing import Signing
from bpf2py.spec.map_spec import MapSpec
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.spec.program_spec import ProgramSpec

# Memory a backend reads or writes: bytes, a bytearray, a view, a numpy array, a mapping. No type of Python 3.11 names them.
Buffer: TypeAlias = Any


class Closable(Protocol):
    """What is in use until it is closed."""

    def close(self) -> None:
        """Close it; closing twice is harmless."""


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
    key_view: Any  # memoryview or None: to try is quicker than to ask, and None refuses what is not a plain integer
    value_view: Any

    @property
    def fast_lookup(self) -> Callable[[], int]: ...

    @property
    def fast_update(self) -> Callable[[], int]: ...

    def hasten(self) -> None:
        """Make `fast_lookup` and `fast_update` as quick as they can be, where many calls of them are to come."""

    def lookup(self, flags: int = 0) -> int:
        """BPF_MAP_LOOKUP_ELEM: `value` of `key`."""

    def update(self, flags: int = 0) -> int:
        """BPF_MAP_UPDATE_ELEM."""

    def delete(self) -> int:
        """BPF_MAP_DELETE_ELEM."""

    def lookup_and_delete(self, flags: int = 0) -> int:
        """BPF_MAP_LOOKUP_AND_DELETE_ELEM."""

    def get_next_key(self, first: bool) -> int:
        """BPF_MAP_GET_NEXT_KEY: `next_key` after `key`, or the first key."""


class EventSource(Closable, Protocol):
    """What a reader waits for: a descriptor that is readable while (or since) there is something to read."""

    def fileno(self) -> int:
        """The descriptor, negative once closed."""

    def acknowledge(self) -> None:
        """Make it unreadable where that does not follow from reading; called before the buffers are looked at."""


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


class MapHandle(Closable, Protocol):
    """A map of a backend; the map lives as long as programs, pins or other handles use it.

    Attributes:
        info: facts of the map; the front end adds the flags the kernel keeps with the descriptor.
    """

    info: MapInfo

    @property
    def fd(self) -> int:
        """The descriptor (kernel) or number (engine) programs and other commands refer to, negative once closed."""

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
    def zeroes_other_cpus(self) -> bool:
        """Whether an element that BPF_F_CPU makes has zeros for the other CPUs (Linux 7.2), not what was there before."""

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

    def element_calls(self, key: str, value: str) -> ElementCalls | None:
        """Functions for single elements of a map whose keys and values are integers of these letters of `struct`.

        None where there are none: `slot()` does what they do.
        """

    def lookup_batch(
        self,
        token_in: bytearray | None,
        token_out: bytearray,
        keys: Buffer,
        values: Buffer,
        count: int,
        flags: int,
        delete: bool,
    ) -> tuple[int, int]:
        """BPF_MAP_LOOKUP_BATCH or, with `delete`, BPF_MAP_LOOKUP_AND_DELETE_BATCH: (result, elements)."""

    def update_batch(self, keys: Buffer, values: Buffer, count: int, flags: int) -> tuple[int, int]:
        """BPF_MAP_UPDATE_BATCH: (result, elements done)."""

    def delete_batch(self, keys: Buffer, count: int, flags: int) -> tuple[int, int]:
        """BPF_MAP_DELETE_BATCH: (result, elements done)."""

    def count(self) -> int | None:
        """Number of elements where the backend keeps count, else None."""

    def freeze(self) -> int:
        """BPF_MAP_FREEZE."""

    def pin(self, path: str) -> int:
        """BPF_OBJ_PIN. Raises NotSupported where there is no BPF file system."""

    def opened_at(self, path: str) -> MapHandle:
        """The map that is pinned at a path. Raises PermissionDenied, NotSupported or BpfOSError."""

    def mmap(self, length: int, writable: bool, offset: int = 0) -> Buffer:
        """A shared mapping of the map's memory. Raises OSError."""

    def open_held(self, ident: int) -> tuple[MapHandle, MapSpec]:
        """The inner map with this id, of those a map of maps holds, and its definition as far as it is known.

        Raises BpfOSError (ENOENT) or PermissionDenied.
        """

    def duplicate(self) -> MapHandle:
        """Another handle of the same map, closed on its own. Raises OSError (EBADF)."""


class StructOpsHandle(MapHandle, Protocol):
    """A STRUCT_OPS map, bound to the kernel's struct."""

    def registration(self, program_fds: Mapping[str, int]) -> bytes:
        """The value that registers it: the object's struct in the kernel's layout, with the programs by name."""

    def attach(self) -> LinkHandle:
        """A link for a filled map made with BPF_F_LINK. Raises BpfOSError."""


class ProgramHandle(Closable, Protocol):
    """A loaded program of a backend; it lives as long as links or other handles use it."""

    @property
    def fd(self) -> int:
        """The descriptor or number of the program, negative once closed."""

    @property
    def loaded_code(self) -> bytes:
        """The instructions it was loaded from, empty where somebody else did."""

    @property
    def verifier_log(self) -> str:
        """What the verifier wrote when it was loaded; empty unless asked for, and where there is none."""

    def info(self) -> ProgramInfo:
        """Facts of the program, read now."""

    def pin(self, path: str) -> int:
        """BPF_OBJ_PIN. Raises NotSupported where there is no BPF file system."""

    def opened_at(self, path: str) -> ProgramHandle:
        """The program that is pinned at a path. Raises PermissionDenied, NotSupported or BpfOSError."""

    def attach(self, spec: ProgramSpec, options: dict[str, Any]) -> Sequence[LinkHandle]:
        """Attach by the spec's section name and options. Raises AttachError or another typed error."""

    def test_run(
        self,
        name: str,
        data: bytes,
        context: bytes,
        repeat: int = 1,
        cpu: int | None = None,
        flags: int = 0,
        batch_size: int = 0,
    ) -> TestRunResult:
        """BPF_PROG_TEST_RUN. Raises NotSupported for program types that have none."""

    def run(
        self,
        name: str,
        context: object,
        data: bytes,
        arguments: Sequence[object],
        fields: Mapping[str, object],
        cpu: int | None,
    ) -> TestRunResult:
        """A run on a context made from Python values; see `Program.run`."""

    def read_stream(self, name: str, stream: int) -> bytes:
        """What is in an output stream of the program, taken out of it. Raises NotSupported or BpfOSError."""

    def code(self, jited: bool) -> bytes:
        """The instructions, or the machine code, as they run; empty where the backend does not show them."""

    def source_lines(self) -> list[tuple[int, str]]:
        """(number of the instruction, ``file:line: text``) where another source line begins."""

    def helper_names(self, code: bytes) -> dict[int, str]:
        """Names of the helpers that code as `code` gives it calls, by instruction, where it has other numbers than helpers have."""


class LinkHandle(Closable, Protocol):
    """An attachment of a program to a hook; closing it detaches, unless it is pinned.

    Attributes:
        hook: says which, for messages.
    """

    hook: str

    @property
    def fd(self) -> int:
        """The descriptor or number of the link, negative once closed."""

    def info(self) -> dict[str, Any]:  # the kernel's members of struct bpf_link_info, numbers and text by type
        """What is known of the link; empty for attachments without a link object."""

    def pin(self, path: str) -> int:
        """BPF_OBJ_PIN. Raises NotSupported where there is no BPF file system."""

    def opened_at(self, path: str) -> LinkHandle:
        """The link that is pinned at a path. Raises PermissionDenied, NotSupported or BpfOSError."""

    def update(self, program_fd: int, old_fd: int | None) -> int:
        """BPF_LINK_UPDATE: put another program in place, only if `old_fd` is there where it is given."""

    def detach(self) -> int:
        """BPF_LINK_DETACH."""

    def iterate(self) -> int:
        """BPF_ITER_CREATE: a descriptor to read from. Raises NotSupported where there are no iterator files."""


class Loading(Closable, Protocol):
    """What the maps and programs of one object share while they are made: in the kernel its BTF, and a token.

    Attributes:
        warning: what went less than well, or None.
    """

    @property
    def warning(self) -> str | None: ...

    def create_map(self, spec: MapSpec, inner: MapHandle | None = None) -> MapHandle:
        """Create a map; `inner` is the template of a map of maps. Raises a typed error that names the map."""

    def create_struct_ops(self, spec: MapSpec, programs: Mapping[str, ProgramSpec]) -> StructOpsHandle:
        """Create a STRUCT_OPS map and bind its programs, before they are loaded. Raises NotSupported or ObjectError."""

    def digest(self, program: ProgramSpec, linked: LinkedProgram) -> bytes:
        """SHA-256 of the program's instructions as they will be loaded, with zeros for maps: what an exclusive map knows it by."""

    def load_programs(
        self, programs: Iterable[tuple[ProgramSpec, LinkedProgram]], count: int, maps: Mapping[str, MapHandle]
    ) -> Sequence[ProgramHandle]:
        """Load `count` linked programs, all or none. Raises VerifierError, PermissionDenied or another typed error."""


class Backend(Protocol):
    """Makes maps, programs and links.

    Attributes:
        name: ``"kernel"`` or ``"engine"``, for messages.
    """

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

    def prepare(
        self,
        spec: ObjectSpec,
        token_path: str | os.PathLike[str] | None = None,
        log_level: int = 0,
        signing: Signing | None = None,
    ) -> Loading:
        """Begin to load an object, with a BPF token where one is asked for. Raises what `load` says of tokens.

        `log_level` is what the verifier is to write to the log of each program; `signing`, how each is signed.
        """

    def create_map(self, spec: MapSpec, inner: MapHandle | None = None) -> MapHandle:
        """Create a map that belongs to no object; `inner` as in `Loading.create_map`. Raises a typed error that names the map."""

    def kconfig(self) -> tuple[Callable[[str], str | None], Callable[[str], int | None]]:
        """(lookup of CONFIG_ values, lookup of LINUX_ values) for `bpf2py.linker.kconfig.build`."""

    def core_target(self, spec: ObjectSpec | None = None) -> CoreTarget:
        """What the CO-RE relocations of an object are resolved against."""

    def can_attach(self, spec: ProgramSpec) -> bool:
        """Whether the section name alone says where such programs belong."""

    def map_btf(self, info: MapInfo) -> Btf | None:
        """The BTF of a map opened by id, pin or descriptor."""

    def open_map_fd(self, fd: int) -> MapHandle:
        """The map of somebody else's descriptor or number. Raises BpfOSError."""

    def open_map_id(self, ident: int, read_only: bool = False) -> MapHandle:
        """The map with this id. Raises PermissionDenied, NotSupported or BpfOSError."""

    def open_map_pin(self, path: str, read_only: bool = False) -> MapHandle:
        """A pinned map. Raises PermissionDenied, NotSupported or BpfOSError."""

    def open_program_id(self, ident: int) -> ProgramHandle:
        """The program with this id. Raises PermissionDenied or BpfOSError."""

    def open_program_pin(self, path: str) -> ProgramHandle:
        """A pinned program. Raises PermissionDenied, NotSupported or BpfOSError."""

    def open_link_id(self, ident: int) -> LinkHandle:
        """The link with this id. Raises PermissionDenied, NotSupported or BpfOSError."""

    def open_link_pin(self, path: str) -> LinkHandle:
        """A pinned link. Raises PermissionDenied, NotSupported or BpfOSError."""

    def enable_stats(self) -> Closable:
        """Count runs and run time of programs until it is closed. Raises PermissionDenied or BpfOSError."""

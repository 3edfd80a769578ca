"""`Engine`: a simulated machine as a backend: maps, programs, hooks and test runs."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Kind
from bpf2py.engine.machine import Machine
from bpf2py.engine.maps import create
from bpf2py.engine.maps.handle import EngineMap
from bpf2py.engine.memory import ENGINE
from bpf2py.engine.programs.hooks import EngineLink, can_attach, fire
from bpf2py.engine.programs.program import EngineProgram, digest_of, load
from bpf2py.engine.refusals import no_pins
from bpf2py.engine.version import NEWEST_PATCH
from bpf2py.errors import BpfOSError, EncodeError, NotSupported
from bpf2py.linker.core import CoreTarget
from bpf2py.owned import Owned
from bpf2py.seam.info import MapInfo
from bpf2py.spec.map_spec import MapSpec
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.spec.program_spec import ProgramSpec

if TYPE_CHECKING:
    from bpf2py.engine.maps.core import MapCore
    from bpf2py.engine.programs.hooks import OpenedLink
    from bpf2py.linker.link import LinkedProgram
    from bpf2py.seam.protocol import Backend, Loading, MapHandle, StructOpsHandle
    from bpf2py.seam.signing import Signing

__all__ = ["Engine"]


class Engine(Machine):
    """A simulated machine for eBPF, in this process and without privileges; pass it as ``backend=``.

    Args:
        kernel: whose behaviour is shown where kernels differ: ``"6.18"``, ``"6.12.20"``; without a patch level the newest
            of its series.
        possible_cpus: slots of per-CPU values, and the CPUs programs may run on.
        seed: of hash seeds and bpf_get_prandom_u32: the same seed gives the same iteration order and numbers.
        clock: nanoseconds bpf_ktime_get_ns gives: None for the machine's monotonic clock, a number for time that stands still (see
            `advance`), or a function. By the machine's clock a thread runs timers' callbacks; by a function's they follow
            the next run.
        task: who programs run as: this process without.
        translator: ``"native"`` (machine code), ``"python"``, or None: machine code where that is possible, unless the environment
            variable BPF2PY_ENGINE says ``python``.
        fuel: instructions a run may spend in loops before it is stopped; helpers that are Python count as many. None for about ten
            seconds' worth.
        helpers: see the attribute.

    Attributes:
        helpers: functions of your own in place of helpers and kernel functions, by name, for programs that are loaded from then on:
            called with the engine and the program's arguments (numbers; `read` and `write` follow pointers), they return a number.
        trace: lines of bpf_trace_printk, the newest 65,536.
        cloned: (interface, packet) of each bpf_clone_redirect, the newest 4,096.
        signals: (pid, number) of each bpf_send_signal, the newest 65,536.
        socket_options: values by (level, option): what bpf_setsockopt set and bpf_getsockopt gets.
        symbols: addresses of ``extern ... __ksym`` variables, by name.

    Example:
        >>> from bpf2py.engine import Engine
        >>> engine = Engine(kernel="6.1", possible_cpus=6)
        >>> with bpf2py.load("counter.bpf.c", backend=engine) as obj:     # doctest: +SKIP
        ...     with engine.cpu(3):
        ...         obj.programs["count"].run()
    """

    name = "engine"

    def prepare(
        self,
        spec: ObjectSpec,
        token_path: str | os.PathLike[str] | None = None,
        log_level: int = 0,
        signing: Signing | None = None,
    ) -> EngineLoading:
        """Begin to load an object; no log is written.

        Raises NotSupported for a token and a signature: the engine asks nobody for rights, and has no keys.
        """
        if token_path:
            raise NotSupported(
                f"object {spec.name}: the engine has no BPF tokens, and needs none: leave token_path out",
                feature="BPF token",
            )
        if signing is not None:
            raise NotSupported(
                f"object {spec.name}: the engine has no keyrings, and runs what is not signed: leave signing out",
                feature="signed programs",
            )
        return EngineLoading(self, spec)

    def create_map(self, spec: MapSpec, inner: MapHandle | None = None) -> EngineMap:
        """Create a map. Raises MapCreateError or NotSupported."""
        self.settle()
        try:
            with self.lock:
                return create(self, spec, own_map(inner, f"map {spec.name}: create") if inner is not None else None)
        finally:
            self.settle()

    def kconfig(self) -> tuple[Callable[[str], str | None], Callable[[str], int | None]]:
        """(lookup of CONFIG_ values, lookup of LINUX_ values)."""
        return (lambda _name: None), self._linux

    def _linux(self, name: str) -> int | None:
        if name == "LINUX_KERNEL_VERSION":
            major, minor, patch = self.version
            return major << 16 | minor << 8 | (0 if patch == NEWEST_PATCH else patch)
        return 1 if name.startswith("LINUX_HAS_") else None

    def core_target(self, spec: ObjectSpec | None = None) -> CoreTarget:
        """The types of the object itself: the simulated kernel has exactly those its programs were written for."""
        return OwnTypes(spec.types if spec is not None else None)

    def can_attach(self, spec: ProgramSpec) -> bool:
        """Whether the section name alone says where such programs belong."""
        return can_attach(spec)

    def fire(self, hook: str, *arguments: object, **fields: object) -> list[int]:
        """Let an event happen: run every program attached to a hook; their results.

        Args:
            hook: as a SEC() name says it: ``"tracepoint/syscalls/sys_enter_openat"``, ``"raw_tp/sched_switch"``,
                ``"kprobe/do_unlinkat"``.
            arguments: of a raw tracepoint or probed function, in order.
            fields: of the tracepoint's or context's struct, by name.
        """
        return fire(self, hook, arguments, fields)

    def replay(self, bpf_map: MapHandle, keys: bytes, cpus: bytes = b"") -> bytes:
        """Use keys of a map one after another, as a program uses a cache: look each up, insert it where it is not there.

        Args:
            bpf_map: of this engine, with values of any kind.
            keys: of `key_size` bytes each.
            cpus: the CPU each use happens on, two bytes each, little-endian; all on the current one where it is empty.

        Returns:
            A byte for each use: 1 where the key was not there.

        Raises EncodeError for keys or CPUs that do not fit.
        """
        core = own_map(bpf_map, "replay").core
        count, rest = divmod(len(keys), core.info.key_size or 1)
        if rest or (cpus and len(cpus) != 2 * count):
            raise EncodeError(
                f"engine: replay: {len(keys)} bytes of keys, {len(cpus)} of CPUs: those are not as many of each"
            )
        if cpus and max(memoryview(cpus).cast("H")) >= self.possible_cpus:
            raise EncodeError(f"engine: replay: there are {self.possible_cpus} CPUs")
        memory = self.memory
        blocks: list[int] = []
        with self.lock:
            before = memory.u32[ENGINE >> 2]
            try:
                for size in (len(keys), len(cpus), core.value_bytes, count, 40):
                    blocks.append(memory.allocate(max(size, 8)))
                keys_at, cpus_at, value_at, missed_at, call = blocks
                memory.write(keys_at, keys)
                memory.write(cpus_at, cpus)
                struct.pack_into("<5Q", memory.view, call, keys_at, cpus_at if cpus else 0, count, value_at, missed_at)
                self.operation("map_replay")(core.header, call, 0, 0, 0)
                return memory.read(missed_at, count)
            finally:
                memory.u32[ENGINE >> 2] = before
                for block in blocks:
                    memory.free(block)

    def map_btf(self, info: MapInfo) -> Btf | None:
        """The types of a map opened by its number."""
        core = self._core_with(info.id)
        return core.spec.btf if core is not None else None

    def _core_with(self, ident: int) -> MapCore | None:
        return next((core for core in list(self.cores.values()) if core.info.id == ident), None)

    def open_map_id(self, ident: int, read_only: bool = False) -> EngineMap:
        """The map with this id. Raises BpfOSError (ENOENT)."""
        if read_only:
            raise NotSupported(f"map id {ident}: open: the engine has no read-only handles", feature="read_only")
        core = self._core_with(ident)
        if core is not None:
            return EngineMap(core)
        raise BpfOSError(f"map id {ident}: open: the engine has no such map", errno=2, command="BPF_MAP_GET_FD_BY_ID")

    def open_map_fd(self, fd: int) -> EngineMap:
        """The map with this number. Raises BpfOSError (EBADF)."""
        handle = self.maps.get(fd)
        if not isinstance(handle, EngineMap):
            raise BpfOSError(
                f"map fd {fd}: open: the engine has no such map", errno=9, command="BPF_OBJ_GET_INFO_BY_FD"
            )
        return handle.duplicate()

    def open_program_id(self, ident: int) -> EngineProgram:
        """The program with this id. Raises BpfOSError (ENOENT)."""
        for handle in self.programs.values():
            if handle.ident == ident and isinstance(handle, EngineProgram):
                return handle.duplicate()
        raise BpfOSError(
            f"program id {ident}: open: the engine has no such program", errno=2, command="BPF_PROG_GET_FD_BY_ID"
        )

    def open_map_pin(self, path: str, read_only: bool = False) -> EngineMap:
        """Raises NotSupported: there is no file system for pins."""
        raise no_pins(path)

    def open_program_pin(self, path: str) -> EngineProgram:
        """Raises NotSupported: there is no file system for pins."""
        raise no_pins(path)

    def open_link_pin(self, path: str) -> EngineLink:
        """Raises NotSupported: there is no file system for pins."""
        raise no_pins(path)

    def open_link_id(self, ident: int) -> OpenedLink:
        """Another handle of the link with this id: closing it detaches nothing. Raises BpfOSError (ENOENT)."""
        for link in list(self.hooks):
            if link.ident == ident and isinstance(link, EngineLink):
                return link.duplicate()
        raise BpfOSError(
            f"link id {ident}: open: the engine has no such link", errno=2, command="BPF_LINK_GET_FD_BY_ID"
        )

    def enable_stats(self) -> Counting:
        """Count runs and run time of all programs until it is closed."""
        return Counting(self)

    def __repr__(self) -> str:
        held = f"maps={len(self.maps)} programs={len(self.programs)}"
        return f"<Engine kernel={self.kernel} possible_cpus={self.possible_cpus} {held}>"


class Counting(Owned):
    """While it is open, the engine counts its programs' runs, and how long they take."""

    def __init__(self, engine: Engine) -> None:
        self._engine: Engine | None = engine
        engine.counting += 1

    def close(self) -> None:
        """Stop counting; closing twice is harmless."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.counting -= 1


class EngineLoading:
    """An object on its way into the engine, whose maps and programs share nothing.

    Attributes:
        warning: None.
    """

    __slots__ = ("engine", "spec", "warning")

    def __init__(self, engine: Engine, spec: ObjectSpec) -> None:
        self.engine = engine
        self.spec = spec
        self.warning: str | None = None

    def create_map(self, spec: MapSpec, inner: MapHandle | None = None) -> EngineMap:
        """Create a map. Raises MapCreateError or NotSupported."""
        return self.engine.create_map(spec, inner)

    def create_struct_ops(self, spec: MapSpec, programs: Mapping[str, ProgramSpec]) -> StructOpsHandle:
        """Raises NotSupported: the engine has no kernel whose structs of functions could be filled."""
        raise NotSupported(
            f"map {spec.name}: create: the engine has no STRUCT_OPS maps; use the kernel", feature="STRUCT_OPS"
        )

    def digest(self, program: ProgramSpec, linked: LinkedProgram) -> bytes:
        """The hash the program is known by."""
        return digest_of(linked)

    def load_programs(
        self, programs: Iterable[tuple[ProgramSpec, LinkedProgram]], count: int, maps: Mapping[str, MapHandle]
    ) -> list[EngineProgram]:
        """Check and translate programs, all or none. Raises VerifierError or NotSupported."""
        engine = self.engine
        own = {name: own_map(handle, f"map {name}") for name, handle in maps.items()}
        loaded: list[EngineProgram] = []
        try:
            with engine.lock:
                for program, linked in programs:
                    loaded.append(load(engine, program, linked, self.spec, own))
        except BaseException:
            for made in loaded:
                made.close()
            raise
        finally:
            engine.settle()
        return loaded

    def close(self) -> None:
        """Nothing to close."""


def own_map(handle: MapHandle, what: str) -> EngineMap:
    """A map as an engine's own. Raises NotSupported for one of the kernel."""
    if not isinstance(handle, EngineMap):
        raise NotSupported(f"{what}: an engine cannot use a map of the kernel", feature="maps of another backend")
    return handle


if TYPE_CHECKING:
    _proof: Backend = Engine()

    def _proof_of_loading(loading: EngineLoading) -> Loading:
        return loading


class OwnTypes(CoreTarget):
    """An object's types as the kernel's: ``task_struct___old`` describes other kernels, where there is a ``task_struct``."""

    def candidates(self, name: str, kind: Kind) -> list[tuple[Btf, int]]:
        """The types of exactly this name; without one, the first of its flavours."""
        found = super().candidates(name, kind)
        plain = [(btf, type_id) for btf, type_id in found if btf.type(type_id).name == name]
        return plain or found[:1]

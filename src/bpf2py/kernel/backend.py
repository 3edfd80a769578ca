"""The kernel as a backend."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bpf2py.errors import BpfOSError, MapCreateError
from bpf2py.info import MapInfo, TestRunResult
from bpf2py.kernel import btf as btf_module
from bpf2py.kernel.map import KernelMap, create_map, open_id, open_pinned, possible_cpu_numbers, possible_cpus
from bpf2py.kernel.syscall import EBADF, EINVAL, Fd, check_open
from bpf2py.kernel.token import open_token
from bpf2py.toolchain.target_arch import host_arch
from bpf2py.uapi.commands import Command
from bpf2py.uapi.map_types import MapFlags

if TYPE_CHECKING:  # programs and links: imported by what uses them, as many callers only look at maps
    from bpf2py.backend import MapHandle
    from bpf2py.btf.reader import Btf
    from bpf2py.kernel.link import KernelLink
    from bpf2py.kernel.program import KernelProgram
    from bpf2py.kernel.struct_ops import Binding
    from bpf2py.linker.core import CoreTarget
    from bpf2py.linker.link import LinkedProgram
    from bpf2py.spec.map_spec import MapSpec
    from bpf2py.spec.object_spec import ObjectSpec
    from bpf2py.spec.program_spec import ProgramSpec


class KernelBackend:
    """Maps, programs and links of the running Linux kernel, through bpf()."""

    name = "kernel"

    @property
    def arch(self) -> str:
        """Whose registers probes give programs."""
        return host_arch()

    @property
    def possible_cpus(self) -> int:
        """CPUs a per-CPU value has slots for."""
        return possible_cpus()

    @property
    def cpu_limit(self) -> int:
        """One more than the highest CPU number there may be."""
        return max(possible_cpu_numbers()) + 1

    def prepare(self, spec: ObjectSpec, token_path: str | os.PathLike[str] | None = None) -> btf_module.LoadedBtf:
        """Load the object's BTF; with a BPF token where one is asked for. Raises what `open_token` raises."""
        return btf_module.load_object_btf(spec, open_token(token_path))

    def create_map(
        self, spec: MapSpec, prepared: btf_module.LoadedBtf | None = None, inner: MapHandle | None = None
    ) -> KernelMap:
        """BPF_MAP_CREATE."""
        inner_fd = inner.fd if inner is not None else 0
        if prepared is None:
            return create_map(spec, 0, inner_fd)
        try:
            return create_map(spec, prepared.fd, inner_fd, prepared.token_fd)
        except MapCreateError as error:
            if not prepared.warning:
                raise
            raise MapCreateError(
                f"{error.message}; it is created without types, for {prepared.warning}",
                errno=error.errno,
                command=error.command,
            ) from None

    def create_struct_ops(
        self, spec: MapSpec, programs: Mapping[str, ProgramSpec], prepared: btf_module.LoadedBtf
    ) -> tuple[KernelMap, Binding]:
        """Create a STRUCT_OPS map and bind its programs to the kernel's struct, before they are loaded."""
        from bpf2py.kernel.struct_ops import bind

        binding = bind(spec)
        for name, member in binding.programs:
            programs[name].btf_target = (binding.type_id, binding.btf_fd, member)
        sized = spec.copy()
        sized.value_size = binding.value_size
        return create_map(
            sized, prepared.fd, token_fd=prepared.token_fd, kernel_value=(binding.value_type_id, binding.btf_fd)
        ), binding

    def struct_ops_value(self, spec: MapSpec, binding: Binding, program_fds: Mapping[str, int]) -> bytes:
        """The value that registers a STRUCT_OPS map."""
        from bpf2py.kernel.struct_ops import value

        return value(spec, binding, program_fds)

    def attach_struct_ops(self, name: str, handle: KernelMap) -> KernelLink:
        """A link for a filled STRUCT_OPS map with BPF_F_LINK (Linux 6.4)."""
        from bpf2py.kernel.link import KernelLink, link_create
        from bpf2py.uapi.program_types import AttachType

        result = link_create(handle.fd, 0, AttachType.STRUCT_OPS)
        return KernelLink(check_open(result, Command.LINK_CREATE, f"map {name}: attach"), f"struct_ops/{name}")

    def kconfig(self) -> tuple[Any, Any]:
        """(lookup of CONFIG_ values, lookup of LINUX_ values)."""
        from bpf2py.kernel import kconfig

        return kconfig.lookup, kconfig.special

    def core_target(self, _spec: ObjectSpec | None = None) -> CoreTarget:
        """The running kernel's types."""
        return btf_module.core_target()

    def load_programs(
        self,
        programs: Sequence[tuple[ProgramSpec, LinkedProgram]],
        spec: ObjectSpec,
        maps: Mapping[str, MapHandle],
        prepared: btf_module.LoadedBtf,
    ) -> list[KernelProgram]:
        """BPF_PROG_LOAD for each, in this order."""
        from bpf2py.kernel.program import ProgramLoader
        from bpf2py.kernel.program_queue import load_all

        return load_all((ProgramLoader(*each, spec, maps, prepared) for each in programs), len(programs))

    def attach(self, program: KernelProgram, spec: ProgramSpec, options: dict[str, Any]) -> Sequence[KernelLink]:
        """Attach to the hook the section name or the options say."""
        from bpf2py.kernel.attach import attach

        held = program.hold()
        try:
            return attach(program, spec, options)
        finally:
            del held  # another thread may have closed the program: its number was not given to another one before here

    def can_attach(self, spec: ProgramSpec) -> bool:
        """Whether the section name alone says where such programs belong."""
        from bpf2py.kernel.attach import can_attach_by_name

        return can_attach_by_name(spec)

    def test_run(
        self,
        program: KernelProgram,
        name: str,
        data: bytes,
        context: bytes,
        repeat: int,
        cpu: int | None,
        flags: int,
        batch_size: int = 0,
    ) -> TestRunResult:
        """BPF_PROG_TEST_RUN."""
        from bpf2py.kernel.prog_test_run import run

        held = program.hold()
        return run(f"program {name}: test_run", held.value, data, context, repeat, cpu, flags, batch_size)

    def read_stream(self, program: KernelProgram, name: str, stream: int) -> bytes:
        """What is in a stream of a program, taken out of it."""
        from bpf2py.kernel.stream import read_stream

        held = program.hold()
        return read_stream(f"program {name}: stream {stream}", held.value, stream)

    def program_code(self, program: KernelProgram, jited: bool) -> bytes:
        """The code as the kernel runs it."""
        from bpf2py.kernel.inspect import code

        held = program.hold()
        return code(held.value, jited)

    def source_lines(self, program: KernelProgram) -> list[tuple[int, str]]:
        """(instruction, source line) of the code as the kernel runs it."""
        from bpf2py.kernel.inspect import source_lines

        held = program.hold()
        return source_lines(held.value)

    def helper_names(self, code: bytes) -> dict[int, str]:
        """Names of the helpers that code as the kernel runs it calls, by instruction."""
        from bpf2py.kernel.inspect import helper_names

        return helper_names(code)

    def open_program_pin(self, path: str) -> KernelProgram:
        """A pinned program."""
        from bpf2py.kernel.program import KernelProgram

        what = f"pinned program {path}: open"
        return KernelProgram(must_be("program", open_pinned(path, what), what), path)

    def open_program_id(self, ident: int) -> KernelProgram:
        """The program with this id."""
        from bpf2py.kernel.program import KernelProgram

        found = open_id(Command.PROG_GET_FD_BY_ID, ident)
        return KernelProgram(check_open(found, Command.PROG_GET_FD_BY_ID, f"program id {ident}: open"), str(ident))

    def open_link_pin(self, path: str) -> KernelLink:
        """A pinned link."""
        from bpf2py.kernel.link import KernelLink

        what = f"pinned link {path}: open"
        return KernelLink(must_be("link", open_pinned(path, what), what), path)

    def open_link_id(self, ident: int) -> KernelLink:
        """The link with this id."""
        from bpf2py.kernel.link import KernelLink

        found = open_id(Command.LINK_GET_FD_BY_ID, ident)
        return KernelLink(check_open(found, Command.LINK_GET_FD_BY_ID, f"link id {ident}: open"), f"link id {ident}")

    def enable_stats(self) -> Fd:
        """BPF_ENABLE_STATS: counted while the descriptor is open."""
        from bpf2py.kernel.inspect import enable_stats

        return enable_stats()

    def open_map_fd(self, fd: int) -> KernelMap:
        """The map of somebody else's descriptor, which is duplicated. Raises BpfOSError when it is no map's."""
        try:
            owner = Fd(os.dup(fd))
        except OverflowError:
            raise BpfOSError(f"map fd {fd}: open", errno=EBADF, command="dup") from None
        except OSError as error:
            raise BpfOSError(f"map fd {fd}: open", errno=error.errno, command="dup") from None
        return KernelMap(must_be("map", owner, f"map fd {fd}: open"))

    def open_map_pin(self, path: str, read_only: bool = False) -> KernelMap:
        """A pinned map. Raises PermissionDenied or BpfOSError."""
        what = f"pinned map {path}: open"
        return KernelMap(must_be("map", open_pinned(path, what, MapFlags.RDONLY if read_only else 0), what))

    def open_map_id(self, ident: int, read_only: bool = False) -> KernelMap:
        """The map with this id (needs CAP_SYS_ADMIN). Raises PermissionDenied or BpfOSError."""
        fd = open_id(Command.MAP_GET_FD_BY_ID, ident, MapFlags.RDONLY if read_only else 0)
        return KernelMap(check_open(fd, Command.MAP_GET_FD_BY_ID, f"map id {ident}: open"))

    def map_btf(self, info: MapInfo) -> Btf | None:
        """The BTF a map was created with."""
        return btf_module.btf_by_id(info.btf_id) if info.btf_id else None


# By the names of their anonymous inodes; links have had both.
_KINDS = {"bpf-map": "map", "bpf-prog": "program", "bpf_link": "link", "bpf-link": "link", "btf": "BTF object"}


def must_be(kind: str, fd: Fd, what: str) -> Fd:
    """Raise BpfOSError when a descriptor is that of something else, whose facts would pass for those of a `kind`."""
    try:
        inode = os.readlink(f"/proc/self/fd/{fd.number}")
    except OSError:
        return fd  # no /proc here
    found = _KINDS.get(inode.removeprefix("anon_inode:"))
    if found != kind:
        fd.close()
        raise BpfOSError(
            f"{what}: this is not a BPF {kind} but {f'a {found}' if found else inode}",
            errno=EINVAL,
            command="BPF_OBJ_GET",
        )
    return fd

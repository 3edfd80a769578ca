"""The kernel as a backend."""

from __future__ import annotations

import os
from collections.abc import Callable

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING
from bpf2py.errors import BpfOSError
from bpf2py.kernel import btf as btf_module
from bpf2py.kernel.loading import KernelLoading
from bpf2py.kernel.map import KernelMap, create_map, open_map_pin, possible_cpu_numbers, possible_cpus
from bpf2py.kernel.objects import must_be, open_id
from bpf2py.kernel.syscall import TOKEN_PATH, Fd, check_open
from bpf2py.uapi.commands import Command
from bpf2py.uapi.cpus import host_arch
from bpf2py.uapi.errno import EBADF
from bpf2py.uapi.map_types import MapFlags

if TYPE_CHECKING:  # programs and links: imported by what uses them, as many callers only look at maps
    from bpf2py.btf.reader import Btf
    from bpf2py.kernel import token
    from bpf2py.kernel.link import KernelLink
    from bpf2py.kernel.program import KernelProgram
    from bpf2py.linker.core import CoreTarget
    from bpf2py.seam.protocol import Backend, MapHandle
    from bpf2py.seam.signing import Signing
    from bpf2py.spec.map_spec import MapSpec
    from bpf2py.spec.object_spec import ObjectSpec
    from bpf2py.spec.program_spec import ProgramSpec
else:
    token = module("bpf2py.kernel.token")


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

    def prepare(
        self,
        spec: ObjectSpec,
        token_path: str | os.PathLike[str] | None = None,
        log_level: int = 0,
        signing: Signing | None = None,
    ) -> KernelLoading:
        """Load the object's BTF; with a BPF token where one is asked for. Raises what `open_token` raises."""
        wanted = token_path is not None or TOKEN_PATH in os.environ
        owner = token.open_token(token_path) if wanted else None
        return KernelLoading(spec, btf_module.load_object_btf(spec, owner), log_level, signing)

    def create_map(self, spec: MapSpec, inner: MapHandle | None = None) -> KernelMap:
        """BPF_MAP_CREATE. Raises MapCreateError, PermissionDenied or NotSupported."""
        return create_map(spec, 0, inner.fd if inner is not None else 0)

    def kconfig(self) -> tuple[Callable[[str], str | None], Callable[[str], int | None]]:
        """(lookup of CONFIG_ values, lookup of LINUX_ values)."""
        from bpf2py.kernel import kconfig

        return kconfig.lookup, kconfig.special

    def core_target(self, spec: ObjectSpec | None = None) -> CoreTarget:
        """The running kernel's types."""
        return btf_module.core_target()

    def can_attach(self, spec: ProgramSpec) -> bool:
        """Whether the section name alone says where such programs belong."""
        from bpf2py.kernel.attach import can_attach_by_name

        return can_attach_by_name(spec)

    def open_program_pin(self, path: str) -> KernelProgram:
        """A pinned program."""
        from bpf2py.kernel.program import open_program_pin

        return open_program_pin(path)

    def open_program_id(self, ident: int) -> KernelProgram:
        """The program with this id."""
        from bpf2py.kernel.program import KernelProgram

        found = open_id(Command.PROG_GET_FD_BY_ID, ident)
        return KernelProgram(check_open(found, Command.PROG_GET_FD_BY_ID, f"program id {ident}: open"), str(ident))

    def open_link_pin(self, path: str) -> KernelLink:
        """A pinned link."""
        from bpf2py.kernel.link import open_link_pin

        return open_link_pin(path)

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
        """The map of somebody else's descriptor, which is duplicated. Raises BpfOSError when it is not a map's."""
        try:
            owner = Fd(os.dup(fd))
        except OverflowError:
            raise BpfOSError(f"map fd {fd}: open", errno=EBADF, command="dup") from None
        except OSError as error:
            raise BpfOSError(f"map fd {fd}: open", errno=error.errno, command="dup") from None
        return KernelMap(must_be("map", owner, f"map fd {fd}: open"))

    def open_map_pin(self, path: str, read_only: bool = False) -> KernelMap:
        """A pinned map. Raises PermissionDenied or BpfOSError."""
        return open_map_pin(path, read_only)

    def open_map_id(self, ident: int, read_only: bool = False) -> KernelMap:
        """The map with this id (needs CAP_SYS_ADMIN). Raises PermissionDenied or BpfOSError."""
        fd = open_id(Command.MAP_GET_FD_BY_ID, ident, MapFlags.RDONLY if read_only else 0)
        return KernelMap(check_open(fd, Command.MAP_GET_FD_BY_ID, f"map id {ident}: open"))

    def map_btf(self, info: MapInfo) -> Btf | None:
        """The BTF a map was created with."""
        return btf_module.btf_by_id(info.btf_id) if info.btf_id else None


if TYPE_CHECKING:
    from bpf2py.seam.info import MapInfo

    _proof: Backend = KernelBackend()

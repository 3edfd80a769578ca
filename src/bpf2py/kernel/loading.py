"""`KernelLoading`: what the maps and programs of one object share while they are made: its BTF, a token, struct_ops targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any, NamedTuple
from bpf2py.errors import MapCreateError
from bpf2py.kernel.btf import LoadedBtf
from bpf2py.kernel.map import KernelMap, create_map

if TYPE_CHECKING:
    from bpf2py.kernel import program_queue
    from bpf2py.kernel.program import KernelProgram
    from bpf2py.kernel.struct_ops import KernelStructOps
    from bpf2py.linker.link import LinkedProgram
    from bpf2py.seam.protocol import Loading, MapHandle
    from bpf2py.seam.signing import Signing
    from bpf2py.spec.map_spec import MapSpec
    from bpf2py.spec.object_spec import ObjectSpec
    from bpf2py.spec.program_spec import ProgramSpec
else:
    program_queue = module("bpf2py.kernel.program_queue")

__all__ = ["KernelLoading"]

MANY = 16  # programs; fewer are loaded before a thread is worth its start


class _Placeholder(NamedTuple):
    """Stands for a map that is yet to be made, with a number of its own."""

    fd: int


class _Placeholders(dict[str, Any]):
    """One for each map that is asked for."""

    def __missing__(self, name: str) -> _Placeholder:
        made = self[name] = _Placeholder(len(self) + (1 << 30))
        return made

    def get(self, name: str, default: object = None) -> _Placeholder:
        found: _Placeholder = self[name]
        return found


def _unsigned(name: str, code: bytes) -> bytes:
    return b""


class KernelLoading:
    """An object on its way into the kernel.

    Attributes:
        spec: the object.
        btf: its types in the kernel, and the token it is loaded with.
        log_level: what the verifier is to write to the log of each program.
        signing: how programs are signed, or None.
        targets: (BTF type id, BTF descriptor or 0, member number) of the programs of its STRUCT_OPS maps, by name.
    """

    __slots__ = ("btf", "log_level", "signing", "spec", "targets")

    def __init__(self, spec: ObjectSpec, btf: LoadedBtf, log_level: int = 0, signing: Signing | None = None) -> None:
        self.spec = spec
        self.btf = btf
        self.log_level = log_level
        self.signing = signing
        self.targets: dict[str, tuple[int, int, int]] = {}

    @property
    def warning(self) -> str | None:
        """Why the object's types are not in the kernel, or None."""
        return self.btf.warning or None

    def create_map(self, spec: MapSpec, inner: MapHandle | None = None) -> KernelMap:
        """BPF_MAP_CREATE. Raises MapCreateError, PermissionDenied or NotSupported."""
        try:
            return create_map(spec, self.btf.fd, inner.fd if inner is not None else 0, self.btf.token_fd)
        except MapCreateError as error:
            if not self.btf.warning:
                raise
            raise MapCreateError(
                f"{error.message}; it is created without types, for {self.btf.warning}",
                errno=error.errno,
                command=error.command,
            ) from None

    def create_struct_ops(self, spec: MapSpec, programs: Mapping[str, ProgramSpec]) -> KernelStructOps:
        """Create a STRUCT_OPS map and bind its programs to the kernel's struct. Raises NotSupported or ObjectError."""
        from bpf2py.kernel.struct_ops import bind, create

        binding = bind(spec)
        for name, member in binding.programs:
            self.targets[programs[name].name] = (binding.type_id, binding.btf_fd, member)
        return create(spec, binding, self.btf)

    def digest(self, program: ProgramSpec, linked: LinkedProgram) -> bytes:
        """The hash the kernel will know the program by, before there are maps. Raises RelocationError and the like."""
        from bpf2py.kernel.program_load import ProgramLoader
        from bpf2py.linker.digest import program_digest

        signing = self.signing._replace(sign=_unsigned) if self.signing is not None else None
        loader = ProgramLoader(program, linked, self.spec, self.btf, self.targets, _Placeholders(), 0, signing)
        return program_digest(loader.code)

    def load_programs(
        self, programs: Iterable[tuple[ProgramSpec, LinkedProgram]], count: int, maps: Mapping[str, MapHandle]
    ) -> list[KernelProgram]:
        """BPF_PROG_LOAD for each, in this order. Raises VerifierError, PermissionDenied, NotSupported or BpfOSError."""
        from bpf2py.kernel.program_load import ProgramLoader

        loaders = (
            ProgramLoader(*each, self.spec, self.btf, self.targets, maps, self.log_level, self.signing)
            for each in programs
        )
        loaded: list[KernelProgram] = []
        try:
            if count < MANY or self.log_level:
                for loader in loaders:
                    loaded.append(loader.load())
            else:
                program_queue.load_many(loaders, count, loaded)
        except BaseException:
            for program in loaded:
                program.close()
            raise
        return loaded

    def close(self) -> None:
        """Close the descriptors; maps and programs keep the BTF alive."""
        self.btf.close()


if TYPE_CHECKING:

    def _proof(loading: KernelLoading) -> Loading:
        return loading

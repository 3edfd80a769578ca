"""STRUCT_OPS maps (Linux 5.6): an object's struct brought into the kernel's layout, its programs bound to its members."""

from __future__ import annotations

from collections.abc import Mapping

from bpf2py._typing import TYPE_CHECKING, NamedTuple
from bpf2py.btf.names import essential_name
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Kind, Member, Ref, Struct
from bpf2py.btf.vmlinux import vmlinux
from bpf2py.errors import BtfError, NotSupported, ObjectError
from bpf2py.kernel.btf import LoadedBtf, btf_fd_of_module, modules
from bpf2py.kernel.link import KernelLink, link_create
from bpf2py.kernel.map import KernelMap, create_map
from bpf2py.kernel.syscall import Fd, check_open
from bpf2py.spec.map_spec import MapSpec
from bpf2py.spec.struct_ops import StructOps
from bpf2py.uapi.commands import Command
from bpf2py.uapi.program_types import AttachType

if TYPE_CHECKING:
    from bpf2py.seam.protocol import StructOpsHandle

VALUE_PREFIX = "bpf_struct_ops_"


class Binding(NamedTuple):
    """How an object's struct fits the kernel's.

    Attributes:
        btf, btf_fd: where the kernel's types are: vmlinux (0), or a module.
        type_id: the kernel's struct, which programs are bound to by member number.
        value_type_id, value_size: the map's value: the struct behind a header.
        data_offset: of the struct in the value, in bytes.
        programs: (program, member number) pairs.
    """

    btf: Btf
    btf_fd: int
    type_id: int
    value_type_id: int
    value_size: int
    data_offset: int
    programs: list[tuple[str, int]]


def bind(spec: MapSpec) -> Binding:
    """Find the kernel's counterpart of a STRUCT_OPS map's struct.

    Raises:
        NotSupported: the kernel has no such interface.
        ObjectError: a member the object sets is not in the kernel's struct.
    """
    ops = spec.struct_ops
    assert ops is not None
    assert spec.btf is not None
    local = spec.btf.type(ops.type_id)
    name = essential_name(local.name)
    for btf in (vmlinux(), *modules()):
        found = _in(btf, name)
        if found is not None:
            break
    else:
        raise NotSupported(
            f"map {spec.name}: this kernel has no struct_ops interface {name!r}", feature=f"struct_ops {name}"
        )
    type_id, value_type_id, data_offset = found
    target = btf.type(type_id)
    assert isinstance(target, Struct)
    assert isinstance(local, Struct)
    programs = []
    for member in local.members:
        program = ops.functions.get(member.bit_offset // 8)
        if program is None:
            continue
        number = next((i for i, m in enumerate(target.members) if m.name == member.name), None)
        if number is None:
            raise ObjectError(f"map {spec.name}: the kernel's struct {name} has no member {member.name!r}")
        programs.append((program, number))
    fd = 0 if btf.base is None else btf_fd_of_module(btf.name)
    return Binding(btf, fd, type_id, value_type_id, btf.size_of(value_type_id), data_offset, programs)


def _in(btf: Btf, name: str) -> tuple[int, int, int] | None:
    """(struct, value struct, offset of the one in the other) in one BTF."""
    try:
        value_id = btf.find(VALUE_PREFIX + name, Kind.STRUCT)
    except BtfError:
        return None
    if value_id < btf.start_id:
        return None
    value = btf.type(value_id)
    assert isinstance(value, Struct)
    data = next((m for m in value.members if m.name == "data"), None)
    return (btf.resolve(data.type_id), value_id, data.bit_offset // 8) if data is not None else None


def value(spec: MapSpec, binding: Binding, program_fds: Mapping[str, int]) -> bytes:
    """The map's value in the kernel's layout: plain members copied by name, function pointers as program descriptors."""
    ops, btf = spec.struct_ops, spec.btf
    assert ops is not None
    assert btf is not None
    local, target = btf.type(ops.type_id), binding.btf.type(binding.type_id)
    assert isinstance(local, Struct)
    assert isinstance(target, Struct)
    result = bytearray(binding.value_size)
    for member in local.members:
        _copy(spec, ops, btf, member, binding, target, program_fds, result)
    return bytes(result)


def _copy(
    spec: MapSpec,
    ops: StructOps,
    btf: Btf,
    member: Member,
    binding: Binding,
    target: Struct,
    program_fds: Mapping[str, int],
    result: bytearray,
) -> None:
    at, size = member.bit_offset // 8, btf.size_of(member.type_id)
    raw = bytes(ops.data[at : at + size])
    program = ops.functions.get(at)
    counterpart = next((m for m in target.members if m.name == member.name), None)
    if counterpart is None or member.bits or counterpart.bits:
        if any(raw) or program is not None:
            raise ObjectError(f"map {spec.name}: member {member.name!r} is set, but the kernel's struct cannot take it")
        return
    start = binding.data_offset + counterpart.bit_offset // 8
    if program is not None:
        result[start : start + 8] = program_fds[program].to_bytes(8, "little")
        return
    wanted = binding.btf.size_of(counterpart.type_id)
    if wanted != size:
        if any(raw):
            raise ObjectError(f"map {spec.name}: member {member.name!r} has {size} bytes, the kernel's has {wanted}")
        return
    pointee = btf.resolved(member.type_id)
    if isinstance(pointee, Ref) and pointee.kind == Kind.PTR and not any(raw):
        return
    result[start : start + size] = raw


class KernelStructOps(KernelMap):
    """A STRUCT_OPS map, bound to the kernel's struct.

    Attributes:
        spec: its definition, with the object's struct.
        binding: how that fits the kernel's.
    """

    __slots__ = ("binding", "spec")

    def __init__(self, fd: Fd, spec: MapSpec, binding: Binding) -> None:
        super().__init__(fd)
        self.spec = spec
        self.binding = binding

    def registration(self, program_fds: Mapping[str, int]) -> bytes:
        """The value that registers it. Raises ObjectError."""
        return value(self.spec, self.binding, program_fds)

    def attach(self) -> KernelLink:
        """A link for a filled map made with BPF_F_LINK (Linux 6.4). Raises BpfOSError."""
        held = self.hold()
        result = link_create(held.value, 0, AttachType.STRUCT_OPS)
        what = f"map {self.spec.name}: attach"
        return KernelLink(check_open(result, Command.LINK_CREATE, what), f"struct_ops/{self.spec.name}")


def create(spec: MapSpec, binding: Binding, btf: LoadedBtf) -> KernelStructOps:
    """BPF_MAP_CREATE of a map whose value is the kernel's struct. Raises what `create_map` raises."""
    sized = spec.copy()
    sized.value_size = binding.value_size
    made = create_map(sized, btf.fd, token_fd=btf.token_fd, kernel_value=(binding.value_type_id, binding.btf_fd))
    return KernelStructOps(made.release(), spec, binding)


if TYPE_CHECKING:

    def _proof(handle: KernelStructOps) -> StructOpsHandle:
        return handle

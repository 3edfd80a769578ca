"""CO-RE relocations: what a record says about the local type, found again in the running kernel's types.

All 13 kinds of ``enum bpf_core_relo_kind`` (include/uapi/linux/bpf.h). A relocation yields a number (an offset, a size,
an id, ...); `apply` puts it into the instruction. What cannot be resolved poisons the instruction, as the
verifier only refuses it where it can be reached.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from bpf2py._typing import IntEnum, NamedTuple
from bpf2py.btf.names import essential_name
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Array, BtfType, Enum, Enumerator, Int, Kind, Member, Struct
from bpf2py.errors import BtfError, RelocationError
from bpf2py.linker.core_types import (
    fields_compatible,
    kinds_compatible,
    types_compatible,
    types_match,
)
from bpf2py.spec.btf_ext import CoreReloc

MAX_ACCESSORS = 64
POISON_IMM = 0xBAD2310  # a helper number no kernel has: the verifier's message shows it
POISON_KFUNC = 2002000000  # the same, for calls of weak kfuncs the kernel lacks


class RelocKind(IntEnum):
    """enum bpf_core_relo_kind, without the BPF_CORE_ prefix."""

    FIELD_BYTE_OFFSET = 0
    FIELD_BYTE_SIZE = 1
    FIELD_EXISTS = 2
    FIELD_SIGNED = 3
    FIELD_LSHIFT_U64 = 4
    FIELD_RSHIFT_U64 = 5
    TYPE_ID_LOCAL = 6
    TYPE_ID_TARGET = 7
    TYPE_EXISTS = 8
    TYPE_SIZE = 9
    ENUMVAL_EXISTS = 10
    ENUMVAL_VALUE = 11
    TYPE_MATCHES = 12

    @property
    def of_field(self) -> bool:
        """Whether it asks about a member."""
        return self <= RelocKind.FIELD_RSHIFT_U64

    @property
    def of_enumerator(self) -> bool:
        """Whether it asks about an enumerator."""
        return self in (RelocKind.ENUMVAL_EXISTS, RelocKind.ENUMVAL_VALUE)


class Step(NamedTuple):
    """One step of an access path: member `name`, or element `position` where there is no name.

    `owner` is the type the step starts from; of the last step `type_id` and `bits` are those of the field.
    """

    owner: int
    position: int
    name: str | None


class Path(NamedTuple):
    """An access path in one BTF: where it leads, in bits, and to what."""

    btf: Btf
    root_id: int
    steps: tuple[Step, ...]
    bit_offset: int
    type_id: int
    bits: int


class Resolution(NamedTuple):
    """What to do with the instruction: `value` None poisons it."""

    value: int | None
    local_size: int = 0
    target_size: int = 0
    unsafe_size_change: bool = False


class CoreTarget:
    """The types relocations are resolved against.

    Args:
        vmlinux: the kernel's BTF, or None where there is none: every relocation then fails or says "does not exist".
        modules: called when a type is not in vmlinux, gives the BTF of the loaded modules (split on vmlinux).
    """

    def __init__(self, vmlinux: Btf | None, modules: Callable[[], Iterable[Btf]] = tuple) -> None:
        self.vmlinux = vmlinux
        self._modules = modules
        self._candidates: dict[tuple[str, Kind], list[tuple[Btf, int]]] = {}

    def candidates(self, name: str, kind: Kind) -> list[tuple[Btf, int]]:
        """All types of the target with this essential name and a compatible kind."""
        key = (name, kind)
        found = self._candidates.get(key)
        if found is None:
            found = self._search(self.vmlinux, name, kind) if self.vmlinux is not None else []
            if not found:
                found = [hit for module in self._modules() for hit in self._search(module, name, kind)]
            self._candidates[key] = found
        return found

    @staticmethod
    def _search(btf: Btf, name: str, kind: Kind) -> list[tuple[Btf, int]]:
        ids = btf.ids_by_essential_name(name)
        return [(btf, i) for i in ids if i >= btf.start_id and kinds_compatible(btf.kind(i), kind)]


def describe(local: Btf, reloc: CoreReloc) -> str:
    """A relocation in words: ``task_struct.mm.pgd (FIELD_BYTE_OFFSET)``."""
    try:
        kind = RelocKind(reloc.kind)
        btf_type = local.type(reloc.type_id)
        text = f"{btf_type.kind.name.lower()} {btf_type.name or '(anonymous)'}"
        if kind.of_field:
            path = local_path(local, reloc)
            text += "".join(f".{s.name}" if s.name else f"[{s.position}]" for s in path.steps[1:])
        elif kind.of_enumerator:
            text += f"::{_enumerator(local, reloc).name}"
    except (BtfError, RelocationError, ValueError):
        return f"type {reloc.type_id} access {reloc.access!r} kind {reloc.kind}"
    return f"{text} ({kind.name})"


def local_path(btf: Btf, reloc: CoreReloc) -> Path:
    """Follow an access string such as ``0:1:2`` through the local types."""
    try:
        indices = [int(part) for part in reloc.access.split(":")]
    except ValueError:
        raise RelocationError(f"the CO-RE access string {reloc.access!r} is not valid") from None
    if not 0 < len(indices) <= MAX_ACCESSORS or min(indices) < 0:
        raise RelocationError(f"the CO-RE access string {reloc.access!r} is not valid")
    type_id = btf.resolve(reloc.type_id)
    steps = [Step(type_id, indices[0], None)]
    bit_offset = indices[0] * btf.size_of(type_id) * 8 if indices[0] else 0
    bits = 0
    for index in indices[1:]:
        type_id = btf.resolve(type_id)
        btf_type = btf.type(type_id)
        bits = 0
        if isinstance(btf_type, Struct) and index < len(btf_type.members):
            member = btf_type.members[index]
            bit_offset += member.bit_offset
            bits = member.bits
            if member.name:
                steps.append(Step(type_id, index, member.name))
            type_id = member.type_id
        elif isinstance(btf_type, Array):
            steps.append(Step(type_id, index, None))
            bit_offset += index * btf.size_of(btf_type.type_id) * 8
            type_id = btf_type.type_id
        else:
            raise RelocationError(f"the CO-RE access string {reloc.access!r} does not fit its type")
    return Path(btf, btf.resolve(reloc.type_id), tuple(steps), bit_offset, type_id, bits)


Chosen = dict[int, list[tuple[Btf, int]]]  # by local type: the target's types that fit all relocations so far


def resolve(local: Btf, reloc: CoreReloc, target: CoreTarget, chosen: Chosen | None = None) -> Resolution:
    """What a relocation comes to in the target.

    `chosen` is kept from one relocation of an object to the next: a local type stands for one type of the target, so that a member
    of one and a member of another are not both found.

    Raises:
        RelocationError: the record is damaged, or two target types disagree about the answer.
    """
    try:
        kind = RelocKind(reloc.kind)
    except ValueError:
        raise RelocationError(f"CO-RE relocation kind {reloc.kind} is not known") from None
    if kind == RelocKind.TYPE_ID_LOCAL:
        return Resolution(reloc.type_id)
    local_type = local.type(reloc.type_id)
    name = essential_name(local_type.name)
    if not name:
        raise RelocationError(f"CO-RE relocation of {describe(local, reloc)}: the type has no name")
    path = local_path(local, reloc) if kind.of_field else None
    enumerator = essential_name(_enumerator(local, reloc).name) if kind.of_enumerator else ""
    agreed: tuple[int, Resolution] | None = None
    fit: list[tuple[Btf, int]] = []
    candidates = chosen.get(reloc.type_id) if chosen is not None else None
    for btf, type_id in candidates or target.candidates(name, local_type.kind):
        found = _in_candidate(kind, local, reloc, path, enumerator, btf, type_id)
        if found is None:
            continue
        if agreed is not None and (agreed[0] != found[0] or agreed[1].value != found[1].value):
            raise RelocationError(
                f"CO-RE relocation of {describe(local, reloc)} is ambiguous: two kernel types named {name!r} "
                f"give {agreed[1].value} and {found[1].value}"
            )
        agreed = found
        fit.append((btf, type_id))
    if agreed is not None:
        if chosen is not None:
            chosen[reloc.type_id] = fit
        return agreed[1]
    missing_is_poison = kind == RelocKind.ENUMVAL_VALUE or (kind.of_field and kind != RelocKind.FIELD_EXISTS)
    return Resolution(None if missing_is_poison else 0)


def _in_candidate(
    kind: RelocKind, local: Btf, reloc: CoreReloc, path: Path | None, enumerator: str, btf: Btf, type_id: int
) -> tuple[int, Resolution] | None:
    """(bit offset, answer) by one candidate, or None when it does not match."""
    if path is not None:
        found = _follow(path, btf, type_id)
        return (found.bit_offset, _field_answer(kind, path, found)) if found is not None else None
    if kind.of_enumerator:
        enum = btf.resolved(type_id)  # the name may be that of a typedef
        if not isinstance(enum, Enum):
            return None
        value = next((e.value for e in enum.values if essential_name(e.name) == enumerator), None)
        if value is None:
            return None
        return 0, Resolution(value if kind == RelocKind.ENUMVAL_VALUE else 1)
    matches = types_match if kind == RelocKind.TYPE_MATCHES else types_compatible
    if not matches(local, reloc.type_id, btf, type_id):
        return None
    if kind == RelocKind.TYPE_ID_TARGET:
        return 0, Resolution(type_id)
    return 0, Resolution(btf.size_of(type_id) if kind == RelocKind.TYPE_SIZE else 1)


def _enumerator(btf: Btf, reloc: CoreReloc) -> Enumerator:
    btf_type = btf.resolved(reloc.type_id)
    access = reloc.access
    if isinstance(btf_type, Enum) and access.isdecimal() and len(access) < 10 and int(access) < len(btf_type.values):
        return btf_type.values[int(access)]
    raise RelocationError(f"the CO-RE access string {reloc.access!r} does not fit its type")


def _follow(path: Path, btf: Btf, root_id: int) -> Path | None:
    """The same access path, by names, from a candidate type."""
    type_id = btf.resolve(root_id)
    bit_offset = bits = 0
    steps: list[Step] = []
    for position, step in enumerate(path.steps):
        type_id = btf.resolve(type_id)
        if step.name is not None:
            found = _find_member(path, position, step.name, btf, type_id, set())
            if found is None:
                return None
            bit_offset += found.bit_offset
            bits = found.bits
            steps.append(Step(type_id, step.position, step.name))
            type_id = found.type_id
            continue
        bits = 0
        if position:
            array = btf.type(type_id)
            if not isinstance(array, Array):
                return None
            if step.position >= array.count and not _flexible(btf, steps, array):
                return None
            steps.append(Step(type_id, step.position, None))
            type_id = array.type_id
        else:
            steps.append(Step(type_id, step.position, None))
        if step.position:
            bit_offset += step.position * btf.size_of(type_id) * 8
    return Path(btf, btf.resolve(root_id), tuple(steps), bit_offset, type_id, bits)


def _flexible(btf: Btf, steps: list[Step], array: Array) -> bool:
    """Whether an array is the flexible last member of the struct it stands in (also written as [0] or [1])."""
    if array.count > 1 or not steps or steps[-1].name is None:
        return False
    owner = btf.type(steps[-1].owner)
    return isinstance(owner, Struct) and bool(owner.members) and owner.members[-1].name == steps[-1].name


def _find_member(path: Path, position: int, name: str, btf: Btf, type_id: int, seen: set[int]) -> Member | None:
    """The member of this name, also of an anonymous member; `seen` are the types that were searched already."""
    if type_id in seen:
        return None
    seen.add(type_id)
    if len(seen) > 1000:
        raise BtfError(f"{btf.name}: type {type_id} is nested too deeply")
    owner = btf.resolved(type_id)
    if not isinstance(owner, Struct):
        return None
    for member in owner.members:
        if not member.name:
            inner = _find_member(path, position, name, btf, member.type_id, seen)
            if inner is not None:
                return inner._replace(bit_offset=inner.bit_offset + member.bit_offset)
        elif member.name == name:
            local_owner = path.btf.type(path.steps[position].owner)
            assert isinstance(local_owner, Struct)
            local_member = local_owner.members[path.steps[position].position]
            return member if fields_compatible(path.btf, local_member.type_id, btf, member.type_id) else None
    return None


def _field_answer(kind: RelocKind, local: Path, target: Path) -> Resolution:
    if kind == RelocKind.FIELD_EXISTS:
        return Resolution(1)
    byte_offset, byte_size, bit_size = _placement(target)
    if kind == RelocKind.FIELD_BYTE_OFFSET:
        if target.bits or local.bits:
            return Resolution(byte_offset)
        local_size = local.btf.size_of(local.type_id)
        a, b = local.btf.resolved(local.type_id), target.btf.resolved(target.type_id)
        return Resolution(byte_offset, local_size, byte_size, local_size != byte_size and not _resizable(a, b))
    if kind == RelocKind.FIELD_BYTE_SIZE:
        return Resolution(byte_size)
    if kind == RelocKind.FIELD_SIGNED:
        btf_type = target.btf.resolved(target.type_id)
        return Resolution(int(isinstance(btf_type, Int | Enum) and btf_type.signed))
    if kind == RelocKind.FIELD_LSHIFT_U64:
        return Resolution(64 - (target.bit_offset + bit_size - byte_offset * 8))
    return Resolution(64 - bit_size)


def _resizable(a: BtfType, b: BtfType) -> bool:
    """Whether a load may change its width: pointers, and integers without encoding, where zero-extension is right."""
    if isinstance(a, Int) and isinstance(b, Int):
        return not a.encoding and not b.encoding
    return a.kind == b.kind == Kind.PTR


def _placement(path: Path) -> tuple[int, int, int]:
    """(byte offset, byte size, bit size) of the load that reads a field."""
    if not path.bits:
        try:
            size = path.btf.size_of(path.type_id)
        except BtfError:
            size = 0  # a function or void at the end of the path has an offset only
        return path.bit_offset // 8, size, size * 8
    size = path.btf.size_of(path.type_id)
    if size not in (1, 2, 4, 8):
        raise RelocationError("a CO-RE bitfield's type has a size no load has")
    offset = path.bit_offset // 8 // size * size
    while path.bit_offset + path.bits - offset * 8 > size * 8:
        size *= 2
        if size > 8:
            raise RelocationError("a CO-RE bitfield is spread over more than 8 bytes")
        offset = path.bit_offset // 8 // size * size
    return offset, size, path.bits


_SIZE_BITS = {8: 0x18, 4: 0x00, 2: 0x08, 1: 0x10}  # BPF_DW, W, H, B


def apply(code: bytearray, at: int, resolution: Resolution) -> bool:
    """Patch the instruction at byte `at`; False when it had to be poisoned.

    Raises:
        RelocationError: the instruction is of a kind CO-RE does not patch, or the value does not fit it.
    """
    opcode, registers = code[at], code[at + 1]
    wide = opcode == 0x18
    value = resolution.value
    if wide and at + 16 > len(code):
        raise RelocationError("a CO-RE relocation hits the last half of a function", offset=at)
    memory = opcode & 7 in (1, 2, 3)  # LDX, ST, STX
    if value is None or (memory and resolution.unsafe_size_change):
        for start in (at, at + 8) if wide else (at,):
            struct.pack_into("<BBhI", code, start, 0x85, 0, 0, POISON_IMM)
        return False
    if wide:
        value &= 0xFFFFFFFFFFFFFFFF
        struct.pack_into("<I", code, at + 4, value & 0xFFFFFFFF)
        struct.pack_into("<I", code, at + 12, value >> 32)
        if registers >> 4:
            raise RelocationError("a CO-RE relocation hits a load of a map", offset=at)
    elif memory:
        if not 0 <= value <= 0x7FFF:
            raise RelocationError(f"CO-RE offset {value} is too large for a load or store", offset=at)
        struct.pack_into("<h", code, at + 2, value)
        if resolution.local_size != resolution.target_size:
            _resize(code, at, resolution)
    elif opcode & 7 in (4, 7) and not opcode & 8:  # ALU, ALU64 with an immediate
        if not -(1 << 31) <= value < 1 << 32:
            raise RelocationError(f"CO-RE value {value} does not fit 32 bits", offset=at)
        struct.pack_into("<I", code, at + 4, value & 0xFFFFFFFF)
    else:
        raise RelocationError(f"a CO-RE relocation hits an instruction with opcode {opcode:#04x}", offset=at)
    return True


def _resize(code: bytearray, at: int, resolution: Resolution) -> None:
    bits = _SIZE_BITS.get(resolution.target_size)
    if _SIZE_BITS.get(resolution.local_size) != code[at] & 0x18 or bits is None:
        raise RelocationError(
            f"a CO-RE field changed its size from {resolution.local_size} to {resolution.target_size} bytes, "
            "which this instruction cannot follow",
            offset=at,
        )
    code[at] = code[at] & ~0x18 | bits

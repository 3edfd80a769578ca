"""Contexts of programs from Python values: structs by member, arguments in order, registers of probed functions."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsBytes

from bpf2py.btf.codec_for import codec_for
from bpf2py.btf.reader import Btf
from bpf2py.btf.registers import registers_of
from bpf2py.btf.types import Array, FuncProto, Kind, Ref, Struct
from bpf2py.engine.programs.kernel_objects import member, pointer, whole
from bpf2py.engine.run import Run, Sysctl
from bpf2py.errors import BtfError, EncodeError
from bpf2py.toolchain.target_arch import host_arch
from bpf2py.uapi import usdt
from bpf2py.uapi.program_types import AttachType
from bpf2py.uapi.program_types import ProgramType as P

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine
    from bpf2py.engine.programs.loaded import LoadedProgram

__all__ = ["context_type", "encode_context"]

_RETURNS = ("kretprobe", "uretprobe", "kretsyscall", "kretprobe.multi", "uretprobe.multi", "uretprobe.s")


class Registers(NamedTuple):
    """struct pt_regs of a processor, as include/bpf/bpf_tracing.h has its members.

    Attributes:
        size: bytes.
        arguments, result: offsets of the registers of a function's arguments and of its result.
        syscall: offsets of those of a system call.
        names: offsets by name.
    """

    size: int
    arguments: tuple[int, ...]
    result: int
    syscall: tuple[int, ...]
    names: dict[str, int]


_X86_NAMES = {
    "r15": 0, "r14": 8, "r13": 16, "r12": 24, "bp": 32, "bx": 40, "r11": 48, "r10": 56, "r9": 64, "r8": 72, "ax": 80, "cx": 88,
    "dx": 96, "si": 104, "di": 112, "orig_ax": 120, "ip": 128, "cs": 136, "flags": 144, "sp": 152, "ss": 160,
}  # fmt: skip
X86_64 = Registers(168, (112, 104, 96, 88, 72, 64), 80, (112, 104, 96, 56, 72, 64), _X86_NAMES)
AARCH64 = Registers(
    336, tuple(range(0, 64, 8)), 0, tuple(range(0, 48, 8)),
    {**{f"x{n}": 8 * n for n in range(31)}, "sp": 248, "pc": 256, "pstate": 264, "orig_x0": 272, "syscallno": 280},
)  # fmt: skip
_ARGUMENT_TYPES = (P.RAW_TRACEPOINT, P.RAW_TRACEPOINT_WRITABLE)


def context_type(program: LoadedProgram) -> tuple[Btf, int] | None:
    """(types, id of the struct) the program's C function takes a pointer to, or None."""
    btf = program.object_spec.types
    type_id = program.spec.function.type_id
    if btf is None or not type_id:
        return None
    function = btf.type(type_id)
    if not isinstance(function, Ref):
        return None
    prototype = btf.resolved(function.type_id)
    if not isinstance(prototype, FuncProto) or not prototype.params:
        return None
    first = btf.resolved(prototype.params[0].type_id)
    if isinstance(first, Ref) and first.kind == Kind.PTR and isinstance(btf.resolved(first.type_id), Struct):
        return btf, btf.resolve(first.type_id)
    return None


def takes_arguments(program: LoadedProgram) -> bool:
    """Whether the context is an array of 64-bit arguments."""
    return program.type in _ARGUMENT_TYPES or (
        program.type in (P.TRACING, P.LSM, P.EXT) and program.spec.attach_type != AttachType.TRACE_ITER
    )


def encode_context(
    engine: Machine,
    program: LoadedProgram,
    run: Run,
    value: object,
    arguments: Sequence[Any],
    fields: Mapping[str, Any],
) -> bytes:
    """The bytes of a context.

    Args:
        value: the bytes themselves, a mapping of members, or a sequence of arguments; None where the others say all.
        arguments: of a raw tracepoint, a traced or a probed function.
        fields: members of the context's struct.

    Raises:
        EncodeError: there is no such member, or a value does not fit.
    """
    what = f"program {program.name}: run"
    if isinstance(value, Mapping) and takes_arguments(program):
        arguments, value = [value, *arguments], None  # a struct its first argument points to
    if isinstance(value, bytes | bytearray | memoryview):
        if arguments or fields:
            raise EncodeError(f"{what}: a context given as bytes takes no members or arguments")
        return bytes(value)
    if isinstance(value, Mapping):
        fields = {**value, **fields}
    elif isinstance(value, Sequence) and not isinstance(value, str):
        arguments = [*value, *arguments]
    elif value is not None:
        if not isinstance(value, bytes | bytearray | memoryview | SupportsBytes):
            raise EncodeError(
                f"{what}: a context is bytes, a mapping of members or a sequence of arguments, not {value!r}"
            )
        return bytes(value)
    try:
        if takes_arguments(program):
            run.arguments = len(arguments)
            return _arguments(engine, program, run, arguments, fields)
        if program.spec.section.split("/", 1)[0] in usdt.SECTIONS:
            _usdt_arguments(engine, program, run, arguments)
            return _registers(engine, program, run, (), fields)
        if program.type == P.KPROBE:
            return _registers(engine, program, run, arguments, fields)
        if arguments:
            raise EncodeError("the context is a struct: give its members by name")
        if program.type == P.CGROUP_SYSCTL:
            fields = _sysctl(run, fields)
        return _members(engine, program, run, fields)
    except (EncodeError, BtfError, struct.error) as error:
        raise EncodeError(f"{what}: context: {getattr(error, 'message', error)}") from None


def _arguments(
    engine: Machine, program: LoadedProgram, run: Run, arguments: Sequence[Any], fields: Mapping[str, Any]
) -> bytes:
    if fields:
        raise EncodeError(f"the context is an array of arguments, which have no names: {', '.join(fields)}")
    numbers = [_argument(engine, program, run, position, item) for position, item in enumerate(arguments)]
    return b"".join((number & (1 << 64) - 1).to_bytes(8, "little") for number in numbers)


def _argument(engine: Machine, program: LoadedProgram, run: Run, position: int | str, item: Any) -> int:
    """An argument of a function, by its position, or a register by its name: a number, or the address of what is made for it."""
    if isinstance(item, int):
        return item
    btf = program.object_spec.types
    target = _argument_target(btf, program, position) if isinstance(position, int) else 0
    what = f"argument {position}" if isinstance(position, int) else f"register {position}"
    if btf is None:
        raise EncodeError(f"{what}: without types it is a number")
    if isinstance(item, Mapping) and not target and "__type__" not in item:
        raise EncodeError(f'{what}: say which struct it is: {{"__type__": "task_struct", ...}}')
    return pointer(engine, btf, target, item, run.owned)


def _argument_target(btf: Btf | None, program: LoadedProgram, position: int) -> int:
    """What the argument is a pointer to, by the function that BPF_PROG() makes: ____NAME(ctx, arguments...)."""
    if btf is None:
        return 0
    try:
        function = btf.type(btf.find(f"____{program.name}", Kind.FUNC))
    except BtfError:
        return 0
    prototype = btf.resolved(function.type_id) if isinstance(function, Ref) else None
    if not isinstance(prototype, FuncProto) or position + 1 >= len(prototype.params):
        return 0
    kind = btf.resolved(prototype.params[position + 1].type_id)
    return kind.type_id if isinstance(kind, Ref) and kind.kind == Kind.PTR else 0


def _registers(
    engine: Machine, program: LoadedProgram, run: Run, arguments: Sequence[Any], fields: Mapping[str, Any]
) -> bytes:
    """struct pt_regs: arguments in their registers, the result in its own; members by name."""
    btf = program.object_spec.types
    found, layout = context_type(program), _layout(btf)
    size = max(found[0].size_of(found[1]) if found is not None else 0, layout.size)
    kind = program.spec.section.split("/", 1)[0]
    places = (layout.result,) if kind in _RETURNS else layout.syscall if kind == "ksyscall" else layout.arguments
    if len(arguments) > len(places):
        raise EncodeError(f"at most {len(places)} arguments are in registers")
    numbers = [_argument(engine, program, run, position, item) for position, item in enumerate(arguments)]
    values = list(zip(places, numbers, strict=False))
    if kind == "ksyscall" and layout is AARCH64:
        values += [(layout.names["orig_x0"], number) for number in numbers[:1]]
    for name, item in fields.items():
        values.append((_register_offset(found, layout, name), _argument(engine, program, run, name, item)))
    raw = bytearray(size)
    for at, number in values:
        raw[at : at + 8] = (number & (1 << 64) - 1).to_bytes(8, "little")
    if kind != "ksyscall":
        return bytes(raw)
    # Kernels enter system calls by a wrapper, whose only argument is where the caller's registers are.
    callers = engine.memory.allocate(size)
    run.owned.append(callers)
    engine.memory.write(callers, raw)
    outer = bytearray(size)
    outer[layout.arguments[0] : layout.arguments[0] + 8] = callers.to_bytes(8, "little")
    return bytes(outer)


def _usdt_arguments(engine: Machine, program: LoadedProgram, run: Run, arguments: Sequence[Any]) -> None:
    """Arguments of a USDT probe as constants in the map programs look them up in, where the cookie says."""
    if len(arguments) > usdt.MAX_ARGS:
        raise EncodeError(f"at most {usdt.MAX_ARGS} arguments are possible")
    specs = next((core for core in program.maps if core.info.name == usdt.SPECS_MAP[:15]), None)
    if specs is None:
        if arguments:
            raise EncodeError("the program looks at no arguments: it does not use <bpf/usdt.bpf.h>")
        return
    btf = program.object_spec.types
    if specs.value_bytes != usdt.SPEC_SIZE or btf is None:
        raise EncodeError(f"map {specs.info.name} is not the one of <bpf/usdt.bpf.h>")
    numbers = [_argument(engine, program, run, position, item) for position, item in enumerate(arguments)]
    slot = specs.slot_type(specs, True, True)
    slot.value[:] = usdt.encode_spec([(number, 0, 0, 1, 0) for number in numbers], run.cookie)
    slot.update()
    run.cookie = 0  # the first place of the map


def _layout(btf: Btf | None) -> Registers:
    """The registers the object's programs read; where its types do not tell, this machine's."""
    arch = registers_of(btf) if btf is not None else None
    if arch is None:
        arch = host_arch()
    return AARCH64 if arch == "arm64" else X86_64


def _register_offset(found: tuple[Btf, int] | None, layout: Registers, name: str) -> int:
    if found is not None:
        for spelled in (name, f"r{name}", name.removeprefix("r")):
            place = member(found[0], found[1], spelled)
            if place is not None:
                return place[1] // 8
    for spelled in (name, name.removeprefix("r")):
        if spelled in layout.names:
            return layout.names[spelled]
    raise EncodeError(f"struct pt_regs has no register {name!r}; it has {', '.join(layout.names)}")


def _sysctl(run: Run, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the helpers of sysctl programs tell; the members that are left."""
    given = {key: fields[key] for key in Sysctl._fields if key in fields}
    name = given.pop("name", "")
    values = {key: value.encode() if isinstance(value, str) else bytes(value) for key, value in given.items()}
    run.sysctl = Sysctl(str(name), **values)
    return {key: value for key, value in fields.items() if key not in Sysctl._fields}


def _members(engine: Machine, program: LoadedProgram, run: Run, fields: Mapping[str, Any]) -> bytes:
    found = context_type(program)
    if found is None:
        if fields:
            raise EncodeError(
                f"the program's context has no type that would say where {next(iter(fields))!r} is; give bytes"
            )
        return b""
    btf, type_id = found
    raw = bytearray(btf.size_of(type_id))
    tail = bytearray()
    for name, item in fields.items():
        place = member(btf, type_id, name)
        if place is None:
            place = member(btf, type_id, f"__data_loc_{name}")
            if place is None:
                known = ", ".join(m.name for m in _all_members(btf, type_id) if m.name)
                raise EncodeError(f"{btf.resolved(type_id).name} has no member {name!r}; it has {known}")
            # The text follows the struct; the member says where and how long it is.
            text = (item.encode() if isinstance(item, str) else bytes(item)) + b"\0"
            item = len(text) << 16 | len(raw) + len(tail)
            tail += text
        _set(engine, btf, run, raw, place, item)
    return bytes(raw + tail)


def _all_members(btf: Btf, type_id: int) -> Any:
    kind = btf.resolved(type_id)
    return kind.members if isinstance(kind, Struct) else ()


def _set(engine: Machine, btf: Btf, run: Run, raw: bytearray, place: tuple[int, int, int], item: Any) -> None:
    type_id, bit_offset, bits = place
    at = bit_offset // 8
    if bits:
        shift = bit_offset % 8
        size = (shift + bits + 7) // 8
        mask = (1 << bits) - 1 << shift
        old = int.from_bytes(raw[at : at + size], "little")
        raw[at : at + size] = (old & ~mask | whole(item) << shift & mask).to_bytes(size, "little")
        return
    kind = btf.resolved(type_id)
    if isinstance(kind, Ref) and kind.kind == Kind.PTR:
        raw[at : at + 8] = pointer(engine, btf, kind.type_id, item, run.owned).to_bytes(8, "little")
    elif isinstance(kind, Array) and isinstance(item, Sequence) and not isinstance(item, str | bytes):
        # Fewer elements than there are: the rest is 0. Text stands for the address of text.
        size = btf.size_of(kind.type_id)
        for position, element in enumerate(item):
            number = element if isinstance(element, int) else pointer(engine, btf, 0, element, run.owned)
            start = at + position * size
            raw[start : start + size] = (number & (1 << 8 * size) - 1).to_bytes(size, "little")
    else:
        codec = codec_for(btf, type_id)
        raw[at : at + codec.size] = codec.encode(item)

"""`needs()`: the kernel release an object needs, and because of what, from tables alone: nothing is loaded or booted."""

from __future__ import annotations

from collections.abc import Iterator

from bpf2py._typing import NamedTuple
from bpf2py.btf.types import FuncProto, Kind
from bpf2py.btf.types import Ref as TypeRef
from bpf2py.isa import opcodes as op
from bpf2py.isa.helpers import HELPERS
from bpf2py.isa.instruction import Instruction, decode
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.spec.program_spec import Function, ProgramSpec, RefKind
from bpf2py.uapi.kfuncs import KFUNC_SINCE
from bpf2py.uapi.map_types import MAP_FLAG_SINCE, MAP_TYPE_INFO, MapFlags, MapType

__all__ = ["Need", "functions_of", "needs", "release_key"]

# What programs get as their context, by the names of these structs (include/linux/bpf_types.h): global functions always took it.
_CONTEXTS = frozenset(
    """
    __sk_buff bpf_cgroup_dev_ctx bpf_nf_ctx bpf_perf_event_data bpf_raw_tracepoint_args bpf_sk_lookup bpf_sock bpf_sock_addr
    bpf_sock_ops bpf_sockopt bpf_sysctl bpf_user_pt_regs_t pt_regs sk_msg_md sk_reuseport_md user_pt_regs user_regs_struct xdp_md
    """.split()
)
_CALLS = (RefKind.CALL, RefKind.FUNC_ADDRESS)


class Need(NamedTuple):
    """Something of an object that older kernels lack.

    Attributes:
        since: the first kernel release that has it, such as ``"6.9"``.
        what: what it is, such as ``"bpf_arena_alloc_pages()"``.
        user: the map or program that needs it, such as ``"map arena"``.
    """

    since: str
    what: str
    user: str


def release_key(release: str) -> tuple[int, int]:
    """A kernel release as numbers to compare: ``"6.12.117+deb12"`` is (6, 12). Raises ValueError."""
    major, minor, *_ = release.split("-", 1)[0].split(".")
    return int(major), int("".join(c for c in minor if c.isdigit()))


def needs(spec: ObjectSpec) -> list[Need]:
    """What the object's maps, sections, helpers, kfuncs and instructions need, the newest first.

    A program may leave out what a kernel lacks, by a check of CO-RE or of a constant: such code counts here all the same; functions
    declared ``__weak`` do not. What a kernel's configuration leaves out is not in any table.
    """
    found = [need for each in spec.maps.values() for need in _of_map(each.name, each.type, each.flags)]
    for program in spec.programs.values():
        found += _of_program(spec, program)
    # Stable: of equal releases what stands first in the object comes first.
    return sorted(dict.fromkeys(found), key=lambda need: release_key(need.since), reverse=True)


def _of_map(name: str, kind: MapType | int, flags: int) -> Iterator[Need]:
    info = MAP_TYPE_INFO.get(kind) if isinstance(kind, MapType) else None
    if info is not None:
        yield Need(info.since, f"BPF_MAP_TYPE_{MapType(kind).name}", f"map {name}")
    for flag, since in MAP_FLAG_SINCE.items():
        if flags & flag:
            yield Need(since, f"BPF_F_{MapFlags(flag).name}", f"map {name}")


def _of_program(spec: ObjectSpec, program: ProgramSpec) -> Iterator[Need]:
    user = f"program {program.name}"
    if program.definition is not None:
        yield Need(program.definition.since, f"SEC({program.definition.name!r})", user)
    for function in functions_of(spec, program.function):
        if function is not program.function and not function.is_static:
            yield from [Need(*need, user) for need in _of_global_function(spec, function)]
        for ref in function.refs:
            if ref.kind == RefKind.EXTERN_CALL:
                extern = spec.externs.get(ref.name)
                name = ref.name.partition("___")[0]
                if name in KFUNC_SINCE and not (extern is not None and extern.weak):
                    yield Need(KFUNC_SINCE[name], f"{name}()", user)
            elif ref.kind == RefKind.FUNC_ADDRESS:
                yield Need("5.13", "a function as an argument", user)
        called = {ref.offset for ref in function.refs if ref.kind in (*_CALLS, RefKind.EXTERN_CALL)}
        at = 0
        for each in decode(function.code):
            if at not in called:
                need = _of_instruction(each)
                if need is not None:
                    yield Need(*need, user)
            at += each.size


def _of_global_function(spec: ObjectSpec, function: Function) -> Iterator[tuple[str, str]]:
    """What a function needs that the verifier looks at by its types (btf_check_func_arg_match() in kernel/bpf/btf.c)."""
    yield "5.6", "a global function"
    types = spec.types
    signature = types.type(function.type_id) if types is not None and function.type_id else None
    prototype = types.type(signature.type_id) if types is not None and isinstance(signature, TypeRef) else None
    if types is None or not isinstance(prototype, FuncProto):
        return
    for parameter in prototype.params:
        pointer = types.resolved(parameter.type_id)
        if pointer.kind != Kind.PTR or not isinstance(pointer, TypeRef):
            continue
        target = types.type(pointer.type_id)
        while isinstance(target, TypeRef) and target.kind in (Kind.CONST, Kind.VOLATILE):
            target = types.type(target.type_id)
        if target.name not in _CONTEXTS:
            yield "5.12", "a pointer as an argument of a global function"


def functions_of(spec: ObjectSpec, entry: Function) -> list[Function]:
    """The functions a program consists of, its own first."""
    found, waiting = {entry: None}, [entry]
    while waiting:
        for ref in waiting.pop().refs:
            callee = spec.functions.get((ref.section, ref.value)) if ref.kind in _CALLS else None
            if callee is not None and callee not in found:
                found[callee] = None
                waiting.append(callee)
    return list(found)


def _of_instruction(each: Instruction) -> tuple[str, str] | None:
    """(release, what) of an instruction that not every kernel has."""
    kind, operation, mode = each.opcode & 0x07, each.opcode & 0xF0, each.opcode & 0xE0
    if each.opcode == op.BPF_JMP | op.BPF_CALL:
        helper = HELPERS.get(each.imm) if each.src == 0 else None
        return (helper.since, f"bpf_{helper.name}()") if helper is not None else None
    if kind == op.BPF_JMP and operation == op.BPF_JCOND:
        return "6.9", "may_goto"
    if kind == op.BPF_JMP32:
        return ("6.6", "ISA v4") if operation == op.BPF_JA else ("5.1", "ISA v3")
    if kind == op.BPF_LDX and mode == op.BPF_MEMSX:
        return "6.6", "ISA v4"
    if kind == op.BPF_STX and mode == op.BPF_ATOMIC:
        if each.imm in (op.BPF_LOAD_ACQ, op.BPF_STORE_REL):
            return "6.15", "a load-acquire or store-release"
        return ("5.12", "an atomic operation that is not an addition") if each.imm != op.BPF_ADD else None
    if kind in (op.BPF_ALU, op.BPF_ALU64):
        if kind == op.BPF_ALU64 and operation == op.BPF_MOV and each.offset == op.ADDR_SPACE_CAST and each.imm:
            return "6.9", "arena pointers"
        wide = operation == op.BPF_END and kind == op.BPF_ALU64
        signed = operation in (op.BPF_MOV, op.BPF_DIV, op.BPF_MOD) and each.offset
        return ("6.6", "ISA v4") if wide or signed else None
    return None

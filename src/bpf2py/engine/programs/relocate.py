"""Putting a linked program into the engine: addresses for what it names, and what its calls lead to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bpf2py.engine.code.check import CheckError
from bpf2py.engine.code.check_values import Calls, MapFacts
from bpf2py.engine.code.code import Code, Op, Target, function_address, is_function_address
from bpf2py.engine.helpers import KFUNCS, MISSING, native_name, target_of
from bpf2py.errors import NotSupported, RelocationError
from bpf2py.isa import opcodes as isa
from bpf2py.isa.helpers import HELPERS, Helper
from bpf2py.linker.core import POISON_IMM
from bpf2py.linker.kconfig import SECTION as KCONFIG
from bpf2py.linker.link import LinkedProgram
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.spec.program_spec import ProgramSpec, Ref, RefKind
from bpf2py.uapi.map_types import MapFlags, MapType

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine
    from bpf2py.engine.maps.handle import EngineMap

__all__ = ["Placer"]

_MOVE = isa.BPF_ALU64 | isa.BPF_MOV | isa.BPF_X


class Placer:
    """Places one program; `facts` and `code` are its results."""

    def __init__(
        self, engine: Machine, program: ProgramSpec, linked: LinkedProgram, spec: ObjectSpec, maps: Mapping[str, Any]
    ) -> None:
        self.engine = engine
        self.program = program
        self.spec = spec
        self.maps = maps
        starts = [(offset, function.name) for offset, function in linked.starts]
        self.code = Code.decode(program.name, linked.code, starts)
        self._note_results(linked)
        self.facts: dict[int, MapFacts] = {}
        self._frozen: dict[int, int] = {}  # where data is that can no longer change: address, bytes
        self._arenas: dict[EngineMap, int] = {}  # and where they are first used
        for ref in linked.refs:
            self._place(ref)

    def _note_results(self, linked: LinkedProgram) -> None:
        """Callers of a static function are checked with it, so that it needs no result; a callback does."""
        callbacks = {
            function_address(op, slot)
            for slot, op in enumerate(self.code.ops)
            if op is not None and is_function_address(op)
        }
        for function, (_, spec) in list(zip(self.code.functions, linked.starts, strict=True))[1:]:
            function.may_lack_result = spec.is_static and function.start not in callbacks

    def _set(self, ref: Ref, **fields: int) -> None:
        slot, opcode = ref.offset // 8, isa.CALL if ref.kind == RefKind.EXTERN_CALL else isa.LD_IMM64
        op = self.code.ops[slot] if slot < len(self.code.ops) else None
        if op is None or op.opcode != opcode or ref.offset % 8:
            raise RelocationError(
                f"program {self.program.name}: a relocation for {ref.name!r} hits an instruction that cannot hold it",
                offset=ref.offset,
            )
        self.code.ops[slot] = op._replace(**fields)

    def _place(self, ref: Ref) -> None:
        slot = ref.offset // 8
        if ref.kind in (RefKind.MAP, RefKind.DATA):
            handle = self.maps.get(ref.name)
            if handle is None:
                raise RelocationError(f"program {self.program.name}: map {ref.name} was not created", offset=ref.offset)
            if handle.info.type == MapType.ARENA:
                self._arenas.setdefault(handle, slot)
            if ref.kind == RefKind.MAP:
                self.facts[handle.header] = MapFacts(ref.name, handle.info.key_size, handle.info.value_size)
                self._set(ref, src=0, imm=handle.header)
            else:
                # Of an arena programs know addresses in the process.
                base = self.engine.memory.base if handle.info.type == MapType.ARENA else 0
                self._set(ref, src=0, imm=base + handle.data_address + ref.value)
                self._note_frozen(handle)
            return
        extern = self.spec.externs.get(ref.name)
        if extern is None:
            raise RelocationError(f"program {self.program.name}: {ref.name!r} is defined nowhere", offset=ref.offset)
        if ref.kind == RefKind.EXTERN_CALL:
            self._kfunc(slot, ref, extern.weak)
        elif extern.section == KCONFIG:
            offset = self.spec.variables[extern.name].offset
            self._set(ref, src=0, imm=self.maps[KCONFIG].data_address + offset)
            self._note_frozen(self.maps[KCONFIG])
        else:
            address = self.engine.symbol(ref.name)
            if address is None and not extern.weak:
                raise RelocationError(
                    f"program {self.program.name}: extern {ref.name}: the engine has no such symbol; declare it __weak and test "
                    f"bpf_ksym_exists({ref.name}), or give it an address: engine.symbols[{ref.name!r}] = ..."
                )
            self._set(ref, src=0, imm=address or 0)

    def check_arena(self) -> None:
        """Look at casts between address spaces, which need one arena; its flags may say that pointers are not for user space.

        Raises CheckError.
        """
        if len(self._arenas) > 1:
            raise CheckError(max(self._arenas.values()), "Only one arena per program")
        keep = not any(arena.info.flags & MapFlags.NO_USER_CONV for arena in self._arenas)
        for slot, op in enumerate(self.code.ops):
            if op is None or op.opcode != _MOVE or op.offset != isa.ADDR_SPACE_CAST:
                continue
            if not self._arenas:
                raise CheckError(
                    slot, "addr_space_cast insn can only be used in a program that has an associated arena"
                )
            if op.imm == isa.CAST_USER and not keep:
                self.code.ops[slot] = op._replace(imm=isa.CAST_KERN)

    def _note_frozen(self, handle: EngineMap) -> None:
        if handle.core.frozen and handle.info.flags & MapFlags.RDONLY_PROG:
            self._frozen[handle.data_address] = handle.info.value_size

    def constant(self, address: int, size: int) -> int | None:
        """The number at an address of read-only data, None for any other address."""
        for start, length in self._frozen.items():
            if start <= address and address + size <= start + length:
                return int.from_bytes(self.engine.read(address, size), "little")
        return None

    def _kfunc(self, slot: int, ref: Ref, weak: bool) -> None:
        name = ref.name.split("___")[0]
        target = self.engine.helpers.target(name) or KFUNCS.get(name)
        if target is None:
            if not weak:
                raise NotSupported(
                    f"program {self.program.name}: load: the engine does not have the kfunc {name}; declare it __weak and "
                    f"test bpf_ksym_exists({name}), provide it by engine.helpers[{name!r}], or use the kernel",
                    feature=name,
                )
            target = Target("python", "missing", MISSING)
        self._set(ref, src=isa.BPF_PSEUDO_KFUNC_CALL, imm=0)
        self.code.helpers[slot] = target

    def bind_helpers(self, calls: Calls) -> set[str]:
        """Say what each call of a helper leads to; the names of the library's functions that takes.

        Raises:
            CheckError: a call that leads nowhere.
            NotSupported: a helper the engine does not have.
        """
        names: set[str] = set()
        for slot, op in enumerate(self.code.ops):
            if op is None or op.opcode != isa.CALL or op.src == isa.BPF_PSEUDO_CALL:
                continue
            if op.src == 0 and calls.reached is not None and slot not in calls.reached:
                self.code.helpers[slot] = Target("python", "poisoned", POISON_IMM)  # a constant rules it out
            elif op.src == 0:
                self.code.helpers[slot] = self._helper(slot, op, calls.maps.get(slot), calls.keys.get(slot, 0))
            target = self.code.helpers.get(slot)
            if target is None:
                raise CheckError(slot, f"kernel function btf_id {op.imm}: only a relocation says which that is")
            if target.kind in ("native", "quick"):
                names.add(target.name)
            elif target.name == "tail_call":
                names.add("prog_array_function")
        return names

    def _helper(self, slot: int, op: Op, header: int | None, key: int) -> Target:
        if op.imm == POISON_IMM:
            return Target("python", "poisoned", POISON_IMM)
        helper = HELPERS.get(op.imm)
        if helper is not None:
            own = self.engine.helpers.target(helper.name, _count(helper))
            if own is not None:
                return own
        target = target_of(helper.name, self.engine.code.is_native) if helper is not None else None
        if target is None or helper is None:
            name = f"bpf_{helper.name}" if helper is not None else f"number {op.imm}"
            raise NotSupported(
                f"program {self.program.name}: load: the engine does not have the helper {name} "
                f"(instruction {slot}); provide it by engine.helpers[{name!r}], or run the program on the kernel",
                feature=name,
            )
        if header is None or not target.map:
            return target
        core = self.engine.core_at(header)
        info = core.info
        if info.type in (MapType.ARRAY, MapType.PERCPU_ARRAY) and helper.name == "map_lookup_elem":
            array = (core.data_address, core.stride, info.max_entries)
            slot = core.slot_size if info.type == MapType.PERCPU_ARRAY else 0
            return Target("inline", "array_lookup", array=array, key=key, slot=slot, pointers=() if key else (2,))
        special = native_name(info.type, helper.name)
        return target._replace(name=special or target.name, map=0)


def _count(helper: Helper) -> int:
    """How many arguments a helper takes."""
    return 5 if any(parameter.type == "..." for parameter in helper.parameters) else len(helper.parameters)

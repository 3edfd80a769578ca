"""The static check before a program runs: what registers hold, as far as that is known.

Follows values through a function and refuses what is wrong on every path: reads of registers nothing was written to,
pointers that may be null, offsets outside the stack or a map's value, helper arguments of the wrong kind. Where it does not
know it lets the program pass: accesses are tested again while it runs. It is not a verifier: loops, ranges of numbers and
stack contents are not followed. Numbers that are known are: what is only reached if a constant had another value, such as
a CO-RE relocation's answer or a read-only variable, is not looked at, as the verifier does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from bpf2py.engine.code.check import MAX_STACK, CheckError
from bpf2py.engine.code.code import Code, Function, Op, is_jump, jump_target
from bpf2py.engine.code.constants import calculate, compare
from bpf2py.isa import opcodes as isa
from bpf2py.isa.helpers import HELPERS, Helper

__all__ = ["Calls", "check_values"]

_SIZES = {isa.BPF_B: 1, isa.BPF_H: 2, isa.BPF_W: 4, isa.BPF_DW: 8}


class Value(NamedTuple):
    """What a register holds.

    Attributes:
        kind: ``"any"``, ``"number"`` (known: `offset`), ``"context"``, ``"stack"`` (at `offset` from R10),
            ``"map"``, ``"value"`` (of a map's element, at `offset`) or ``"maybe"`` (the same or null).
        offset: see there.
        map: address of the map's header.
        origin: the call a "maybe" came from; all its copies are known to be null or not at once.
    """

    kind: str
    offset: int = 0
    map: int = 0
    origin: int = -1


ANY = Value("any")
State = list[Value | None]
# Helpers that give a pointer to a map's value, or null.
_LOOKUPS = {
    "map_lookup_elem",
    "map_lookup_percpu_elem",
    "sk_storage_get",
    "task_storage_get",
    "inode_storage_get",
    "cgrp_storage_get",
}
# Parameters that may be null although they are pointers.
_NULLABLE = {
    ("sk_storage_get", 3), ("task_storage_get", 3), ("inode_storage_get", 3), ("cgrp_storage_get", 3), ("csum_diff", 1),
    ("csum_diff", 3), ("trace_vprintk", 3), ("snprintf", 4), ("snprintf", 1), ("seq_printf", 4), ("loop", 3),
    ("for_each_map_elem", 3), ("skb_set_tunnel_opt", 2), ("find_vma", 4), ("user_ringbuf_drain", 3), ("kptr_xchg", 2),
    ("get_task_stack", 2), ("check_mtu", 3), ("sk_assign", 2), ("redirect_neigh", 2), ("read_branch_records", 2),
}  # fmt: skip


_USER = ("unsafe_ptr", "user_ptr")  # addresses of another address space


class Calls:
    """What is known of calls, by their slot: the map in R1, and where on the stack R2 points; of functions: their use of stack.

    Attributes:
        context_size: where the furthest access to the context ends, as far as that is known.
        reached: slots of the calls that some path leads to, or None where that is not known.
    """

    __slots__ = ("context_size", "depths", "keys", "maps", "reached")

    def __init__(self) -> None:
        self.context_size = 0
        self.reached: set[int] | None = set()
        self.maps: dict[int, int] = {}
        self.depths: dict[int, int] = {}
        self.keys: dict[int, int] = {}


class MapFacts(NamedTuple):
    """What the check knows of a map."""

    name: str
    key_size: int
    value_size: int


def check_values(
    code: Code,
    maps: Mapping[int, MapFacts],
    helpers: Mapping[int, Helper] = HELPERS,
    constant: Callable[[int, int], int | None] = lambda _address, _size: None,
) -> Calls:
    """Raise CheckError where a function does what it must not on any path.

    Args:
        code: well formed (see `check_form`).
        maps: facts of the maps the program uses, by the address of their header.
        helpers: by number.
        constant: the unsigned number of some bytes at an address, where it can no longer change.
    """
    calls = Calls()
    for function in code.functions:
        _Walk(code, function, maps, helpers, calls, constant).run()
    return calls


class _Walk:
    """Follows one function until nothing new is learned."""

    def __init__(
        self,
        code: Code,
        function: Function,
        maps: Mapping[int, MapFacts],
        helpers: Mapping[int, Helper],
        calls: Calls,
        constant: Callable[[int, int], int | None],
    ) -> None:
        self.constant = constant
        self.code = code
        self.function = function
        self.maps = maps
        self.helpers = helpers
        self.calls = calls
        self.deepest = 0
        self.unknown_map: set[int] = set()

    def run(self) -> None:
        function = self.function
        first = function.start == self.code.functions[0].start
        state: State = [None] * 11
        state[10] = Value("stack", 0)
        state[1] = Value("context") if first else ANY
        if not first:
            state[2:6] = [ANY] * 4
        targets, _ = self.code.targets(function)
        known: dict[int, State] = {}
        pending: list[tuple[int, State]] = [(function.start, state)]
        budget = 64 * (function.end - function.start) + 1024
        while pending:
            slot, state = pending.pop()
            state = list(state)
            while True:
                if slot in targets or slot == function.start:
                    old = known.get(slot)
                    if old is not None:
                        merged = [_join(a, b) for a, b in zip(old, state, strict=True)]
                        if merged == old:
                            break
                        state = merged
                    known[slot] = list(state)
                budget -= 1
                if budget < 0:
                    self.calls.reached = None
                    return  # a very tangled program: left to the tests at run time
                op = self.code.ops[slot]
                assert op is not None
                if op.opcode == isa.EXIT:
                    if function.may_lack_result:
                        break
                    self.read(state, 0, slot, "R0 !read_ok: the program returns without a result in R0")
                    break
                if is_jump(op):
                    before = list(state)
                    taken = self.jump(op, slot, state)
                    target = jump_target(op, slot)
                    if op.opcode & 0xF0 == isa.BPF_JA:
                        slot = target
                        continue
                    decided = self.decided(op, before)
                    if decided is not False:
                        pending.append((target, taken))
                    if decided is True:
                        break
                    slot += 1
                    continue
                self.step(op, slot, state)
                slot += 2 if op.opcode == isa.LD_IMM64 else 1
        self.calls.depths[function.start] = self.deepest
        for slot in self.unknown_map:
            self.calls.maps.pop(slot, None)

    # -- values --------------------------------------------------------------------------------------------------

    def read(self, state: State, register: int, slot: int, text: str = "") -> Value:
        value = state[register]
        if value is None:
            raise CheckError(slot, text or f"R{register} !read_ok: nothing was written to it on some path to here")
        return value

    def step(self, op: Op, slot: int, state: State) -> None:
        kind = op.opcode & 7
        if kind in (isa.BPF_ALU, isa.BPF_ALU64):
            self.alu(op, slot, state)
        elif kind == isa.BPF_LDX:
            pointer, size = self.read(state, op.src, slot), _SIZES[op.opcode & 0x18]
            self.access(pointer, op.offset, size, slot, op.src)
            number = self.constant(pointer.offset + op.offset, size) if pointer.kind == "number" else None
            if number is not None and op.opcode & 0xE0 == isa.BPF_MEMSX and number >> (8 * size - 1):
                number -= 1 << 8 * size
            state[op.dst] = ANY if number is None else Value("number", number)
        elif kind in (isa.BPF_ST, isa.BPF_STX):
            size = _SIZES[op.opcode & 0x18]
            atomic = kind == isa.BPF_STX and op.opcode & 0xE0 == isa.BPF_ATOMIC
            if kind == isa.BPF_STX and not (atomic and op.imm == isa.BPF_LOAD_ACQ):
                self.read(state, op.src, slot)
            base = op.src if atomic and op.imm == isa.BPF_LOAD_ACQ else op.dst
            self.access(self.read(state, base, slot), op.offset, size, slot, base)
            if atomic:
                if op.imm == isa.BPF_CMPXCHG:
                    self.read(state, 0, slot)
                    state[0] = ANY
                elif op.imm == isa.BPF_LOAD_ACQ:
                    state[op.dst] = ANY
                elif op.imm & isa.BPF_FETCH and op.imm != isa.BPF_STORE_REL:
                    state[op.src] = ANY
        elif op.opcode == isa.LD_IMM64:
            if op.src:
                state[op.dst] = ANY
            else:  # a map, or a number, which may be the address of global data
                state[op.dst] = Value("map", 0, op.imm) if op.imm in self.maps else Value("number", op.imm)
        elif op.opcode in (isa.CALL, isa.CALLX):
            self.call(op, slot, state)
        else:  # BPF_ABS, BPF_IND
            self.read(state, 6, slot)
            state[0:6] = [ANY, None, None, None, None, None]

    def alu(self, op: Op, slot: int, state: State) -> None:
        operation = op.opcode & 0xF0
        wide = op.opcode & 7 == isa.BPF_ALU64
        source = self.read(state, op.src, slot) if op.opcode & isa.BPF_X and operation != isa.BPF_END else None
        if operation == isa.BPF_MOV:
            if source is None:
                state[op.dst] = Value("number", op.imm if wide else op.imm & 0xFFFFFFFF)
            elif wide and op.offset == 0:
                state[op.dst] = source
            else:
                state[op.dst] = _number(calculate(op, 0, source.offset)) if source.kind == "number" else ANY
            return
        value = self.read(state, op.dst, slot)
        if value.kind == "maybe" and operation not in (isa.BPF_MOV,):
            raise CheckError(
                slot, f"R{op.dst} pointer arithmetic on a map value that may be null: compare it with 0 first"
            )
        if value.kind == "number":
            known = op.imm if source is None else source.offset if source.kind == "number" else None
            state[op.dst] = _number(calculate(op, value.offset, known)) if known is not None else ANY
            return
        if operation in (isa.BPF_ADD, isa.BPF_SUB) and wide and value.kind in ("stack", "value", "context"):
            change: int | None = op.imm if source is None else source.offset if source.kind == "number" else None
            if change is not None and abs(change) < 1 << 29:
                state[op.dst] = value._replace(offset=value.offset + (change if operation == isa.BPF_ADD else -change))
                return
            if value.kind == "stack":
                self.deepest = MAX_STACK
        state[op.dst] = ANY

    def access(self, value: Value, offset: int, size: int, slot: int, register: int) -> None:
        if value.kind == "maybe":
            raise CheckError(
                slot,
                f"R{register} invalid mem access 'map_value_or_null': the lookup may give null, compare it with 0 first",
            )
        if value.kind == "number" and 0 <= value.offset < 1 << 16:
            raise CheckError(
                slot, f"R{register} invalid mem access 'scalar': it holds the number {value.offset}, no pointer"
            )
        if value.kind == "context":
            self.calls.context_size = max(self.calls.context_size, value.offset + offset + size)
        if value.kind == "stack":
            self.stack(value.offset + offset, size, slot)
        elif value.kind == "value":
            facts = self.maps[value.map]
            start = value.offset + offset
            if start < 0 or start + size > facts.value_size:
                raise CheckError(
                    slot,
                    f"invalid access to map value, value_size={facts.value_size} off={start} size={size} (map {facts.name})",
                )

    def stack(self, offset: int, size: int, slot: int) -> None:
        if offset < -MAX_STACK or offset + size > 0:
            raise CheckError(
                slot, f"invalid access to the stack: off={offset} size={size}; R10-{MAX_STACK} to R10-1 may be used"
            )
        self.deepest = max(self.deepest, -offset)

    def jump(self, op: Op, slot: int, state: State) -> State:
        """What holds where the jump is taken; `state` becomes what holds where it is not."""
        operation = op.opcode & 0xF0
        taken = list(state)
        if operation in (isa.BPF_JA, isa.BPF_JCOND):
            return taken
        value = self.read(state, op.dst, slot)
        if op.opcode & isa.BPF_X:
            self.read(state, op.src, slot)
        zero = not op.opcode & isa.BPF_X and op.imm == 0
        if value.kind == "maybe" and zero and op.opcode & 7 == isa.BPF_JMP:
            if operation == isa.BPF_JEQ:
                _settle(taken, value, True)
                _settle(state, value, False)
            elif operation in (isa.BPF_JNE, isa.BPF_JGT):
                _settle(taken, value, False)
                _settle(state, value, True)
        elif value.kind == "maybe":
            _forget(taken, value)
            _forget(state, value)
        return taken

    def decided(self, op: Op, state: State) -> bool | None:
        """Whether a jump is taken, None where that depends on what is not known."""
        if op.opcode & 0xF0 in (isa.BPF_JA, isa.BPF_JCOND):
            return None
        value, other = state[op.dst], state[op.src] if op.opcode & isa.BPF_X else Value("number", op.imm)
        if value is None or other is None or other.kind != "number":
            return None
        if value.kind == "number":
            return compare(op, value.offset, other.offset)
        wide = op.opcode & 7 == isa.BPF_JMP
        if wide and other.offset == 0 and value.kind in ("context", "stack", "map", "value"):  # these are not null
            return {isa.BPF_JEQ: False, isa.BPF_JNE: True}.get(op.opcode & 0xF0)
        return None

    # -- calls ---------------------------------------------------------------------------------------------------

    def call(self, op: Op, slot: int, state: State) -> None:
        if self.calls.reached is not None:
            self.calls.reached.add(slot)
        result = ANY
        if op.opcode == isa.CALL and op.src == 0:
            helper = self.helpers.get(op.imm)
            if helper is not None:
                result = self.arguments(helper, slot, state)
        for register, value in enumerate(state):
            if value is not None and value.kind == "maybe" and value.origin == slot:
                state[register] = ANY  # from an earlier turn of a loop
        state[1:6] = [None] * 5
        state[0] = result

    def arguments(self, helper: Helper, slot: int, state: State) -> Value:
        parameters = helper.parameters
        known: MapFacts | None = None
        address = 0
        for position, parameter in enumerate(parameters[:5], 1):
            if parameter.type == "...":
                break
            value = self.read(
                state,
                position,
                slot,
                f"R{position} !read_ok: argument {parameter.name} of bpf_{helper.name} is not set",
            )
            if parameter.name in ("map", "ringbuf", "prog_array_map") or parameter.name.endswith("_map"):
                self.map_argument(helper, position, value, slot)
                if value.kind == "map":
                    known, address = self.maps[value.map], value.map
                continue
            if "*" not in parameter.type:
                continue
            self.pointer(helper, position, parameter.name, value, slot)
            if value.kind in ("stack", "value", "context"):
                size = self.size(parameters, position, parameter.name, state, known)
                if size:
                    self.access(value, 0, size, slot, position)
                elif value.kind == "stack":
                    self.deepest = max(self.deepest, -value.offset)
        if address and state[1] is not None and state[1].kind == "map":
            if self.calls.maps.setdefault(slot, address) != address:
                self.unknown_map.add(slot)
        else:
            self.unknown_map.add(slot)
        key = state[2]
        place = key.offset if key is not None and key.kind == "stack" else 0
        if self.calls.keys.setdefault(slot, place) != place:
            self.calls.keys[slot] = 0
        if helper.name in _LOOKUPS:
            return Value("maybe", 0, address, slot) if address else ANY
        return ANY

    def map_argument(self, helper: Helper, position: int, value: Value, slot: int) -> None:
        if value.kind not in ("map", "any", "value"):
            held = {
                "number": "a number",
                "context": "the context",
                "stack": "a stack pointer",
                "maybe": "a map value or null",
            }[value.kind]
            raise CheckError(slot, f"R{position} of bpf_{helper.name} must be a map, it holds {held}")

    def pointer(self, helper: Helper, position: int, name: str, value: Value, slot: int) -> None:
        if value.kind == "maybe":
            raise CheckError(
                slot,
                f"R{position} type=map_value_or_null: argument {name} of bpf_{helper.name} may be null, compare it with 0 first",
            )
        if value.kind == "map":
            raise CheckError(slot, f"R{position} type=map_ptr: argument {name} of bpf_{helper.name} cannot be a map")
        if (
            value.kind == "number"
            and 0 <= value.offset < 1 << 16
            and (helper.name, position) not in _NULLABLE
            and name not in _USER
        ):
            raise CheckError(
                slot,
                f"R{position} type=scalar: argument {name} of bpf_{helper.name} is the number {value.offset}, no pointer",
            )

    @staticmethod
    def size(parameters: tuple[object, ...], position: int, name: str, state: State, known: MapFacts | None) -> int:
        """Bytes the helper reads or writes behind a pointer, 0 where that is not known."""
        if known is not None and name == "key":
            return known.key_size
        if known is not None and name == "value":
            return known.value_size
        if position < len(parameters):
            following = getattr(parameters[position], "name", "")
            value = state[position + 1]
            if ("size" in following or following == "len") and value is not None and value.kind == "number":
                return value.offset if 0 <= value.offset < 1 << 29 else 0
        return 0


def _number(value: int | None) -> Value:
    return ANY if value is None else Value("number", value)


def _join(a: Value | None, b: Value | None) -> Value | None:
    if a is None or b is None:
        return None
    return a if a == b else ANY


def _settle(state: State, value: Value, null: bool) -> None:
    """Every copy of what a lookup gave is now known to be null, or not to be."""
    for register, other in enumerate(state):
        if other is not None and other.kind == "maybe" and other.origin == value.origin:
            # Of null no more is made: which paths are taken may depend on it in ways that are not followed.
            state[register] = ANY if null else Value("value", 0, value.map)


def _forget(state: State, value: Value) -> None:
    for register, other in enumerate(state):
        if other is not None and other.kind == "maybe" and other.origin == value.origin:
            state[register] = ANY

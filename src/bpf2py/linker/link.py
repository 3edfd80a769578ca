"""Linking a program: its subprograms after it, calls resolved, CO-RE applied; maps and externs stay named."""

from __future__ import annotations

import struct
from itertools import chain

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, NamedTuple
from bpf2py.btf.reader import Btf
from bpf2py.errors import BtfError, RelocationError
from bpf2py.spec.btf_ext import CoreReloc, FuncInfo, LineInfo
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.spec.program_spec import Function, ProgramSpec, Ref, RefKind

if TYPE_CHECKING:
    from bpf2py.linker import core
else:
    core = module("bpf2py.linker.core")

BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC = 1, 4
_CALLS = (RefKind.CALL, RefKind.FUNC_ADDRESS)
_IMM = struct.Struct("<i")
MAX_INSTRUCTIONS = 1_000_000  # BPF_COMPLEXITY_LIMIT_INSNS; more cannot be verified


class LinkedProgram(NamedTuple):
    """Instructions ready but for what only the backend knows.

    Attributes:
        code: all functions, the program's own first, in the order they are first called.
        refs: instructions that still name a map, data section or extern; offsets in `code`.
        funcs: func_info with offsets in `code`.
        starts: (byte offset, function) of each function in `code`.
        poisoned: what each poisoned instruction wanted, by byte offset.
    """

    code: bytearray
    refs: list[Ref]
    funcs: list[FuncInfo]
    starts: list[tuple[int, Function]]
    poisoned: dict[int, str]

    @property
    def lines(self) -> list[LineInfo]:
        """Source lines with offsets in `code`; made anew each time."""
        return [LineInfo(o + base, *place) for base, function in self.starts for o, *place in function.lines]

    def line_info(self) -> bytes:
        """The records of struct bpf_line_info."""
        words: list[int] = []
        for base, function in self.starts:
            own = list(chain.from_iterable(function.lines))
            own[::4] = [(offset + base) >> 3 for offset in own[::4]]
            words += own
        return struct.pack(f"<{len(words)}I", *words)


class Linker:
    """Links programs of one object against one target; functions are relocated once and shared."""

    def __init__(self, spec: ObjectSpec, target: core.CoreTarget | None) -> None:
        self.spec = spec
        self.target = target
        self._chosen: core.Chosen = {}
        self._answers: dict[tuple[int, str, int], core.Resolution] = {}
        self._relocated: dict[Function, tuple[bytes, dict[int, str]]] = {}

    def link(self, program: ProgramSpec) -> LinkedProgram:
        """Link one program. Raises RelocationError naming the program and what could not be resolved."""
        linked = LinkedProgram(bytearray(), [], [], [], {})
        places: dict[Function, int] = {}
        # Depth first, as calls are met: an explicit stack, for a damaged object must not exhaust Python's.
        stack = [(program.function, iter(self._append(linked, places, program.function)))]
        while stack:
            function, calls = stack[-1]
            for ref in calls:
                callee = self.spec.functions.get((ref.section, ref.value))
                if callee is None:
                    raise RelocationError(f"program {program.name}: a call leads to no function", offset=ref.offset)
                known = callee in places
                pending = self._append(linked, places, callee) if not known else []
                self._patch_call(linked.code, places[function] + ref.offset, places[callee], ref.kind)
                if not known:
                    stack.append((callee, iter(pending)))
                    break
            else:
                stack.pop()
        linked.refs.sort()
        return linked

    def _append(self, linked: LinkedProgram, places: dict[Function, int], function: Function) -> list[Ref]:
        """Add a function's code; its calls to other functions are returned."""
        base = places[function] = len(linked.code)
        code, poisoned = self._relocate(function)
        linked.code.extend(code)
        if len(linked.code) // 8 > MAX_INSTRUCTIONS:
            raise RelocationError(f"program {function.name}: more than {MAX_INSTRUCTIONS} instructions")
        linked.starts.append((base, function))
        if function.type_id:
            linked.funcs.append(FuncInfo(base, function.type_id))
        if poisoned:
            linked.poisoned.update({base + at: text for at, text in poisoned.items()})
        calls: list[Ref] = []
        others: list[Ref] = []
        for ref in function.refs:
            (calls if ref[1] in _CALLS else others).append(ref)
        if base:
            others = [Ref(ref[0] + base, *ref[1:]) for ref in others]
        linked.refs.extend(others)
        return calls

    @staticmethod
    def _patch_call(code: bytearray, at: int, target: int, kind: RefKind) -> None:
        pseudo = BPF_PSEUDO_CALL if kind == RefKind.CALL else BPF_PSEUDO_FUNC
        code[at + 1] = code[at + 1] & 0x0F | pseudo << 4
        _IMM.pack_into(code, at + 4, (target - at) // 8 - 1)
        if kind == RefKind.FUNC_ADDRESS:
            struct.pack_into("<i", code, at + 12, 0)

    def _relocate(self, function: Function) -> tuple[bytes, dict[int, str]]:
        done = self._relocated.get(function)
        if done is None:
            done = (function.code, {})
            if function.core_relocs and self.spec.types is not None:
                done = self._apply_core(function, self.spec.types)
            self._relocated[function] = done
        return done

    def _apply_core(self, function: Function, local: Btf) -> tuple[bytes, dict[int, str]]:
        code = bytearray(function.code)
        poisoned: dict[int, str] = {}
        target = self.target if self.target is not None else core.CoreTarget(None)
        for reloc in function.core_relocs:
            try:
                question = reloc[1:]
                resolution = self._answers.get(question)
                if resolution is None:
                    resolution = self._answers[question] = core.resolve(local, reloc, target, self._chosen)
                if not core.apply(code, reloc.offset, resolution):
                    poisoned[reloc.offset] = core.describe(local, reloc)
            except (RelocationError, BtfError) as error:
                where = self._source(function, reloc, local)
                raise RelocationError(f"program {function.name}: {error.message}{where}") from None
        return bytes(code), poisoned

    @staticmethod
    def _source(function: Function, reloc: CoreReloc, local: Btf) -> str:
        line = line_at(function.lines, reloc.offset)
        return f" at {source_text(line, local)}" if line is not None else ""


def line_at(lines: list[LineInfo], offset: int) -> LineInfo | None:
    """The line an instruction (byte offset) comes from."""
    found = None
    for line in lines:
        if line.offset > offset:
            break
        found = line
    return found


def source_text(line: LineInfo, btf: Btf) -> str:
    """``file.c:12: text of the line``."""
    try:
        return f"{btf.string(line.file_off)}:{line.line}: {btf.string(line.line_off).strip()}"
    except BtfError:
        return f"line {line.line}"

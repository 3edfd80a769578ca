"""What is loaded and attached, as far as those that run programs must know: their code, and the hooks they are at."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from bpf2py.engine.code.code import SourceLine
from bpf2py.errors import BtfError, VerifierError
from bpf2py.isa.disasm import disassemble
from bpf2py.linker.link import LinkedProgram, line_at, source_text
from bpf2py.owned import Owned
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.program_types import TRACING_MULTI, AttachType

if TYPE_CHECKING:
    from bpf2py.engine.code.check import CheckError
    from bpf2py.engine.code.code import Code
    from bpf2py.engine.maps.core import MapCore

__all__ = ["MANY", "Attachment", "LoadedProgram"]

# Programs that one link attaches to many functions.
MANY = (
    *TRACING_MULTI, AttachType.TRACE_KPROBE_MULTI, AttachType.TRACE_KPROBE_SESSION, AttachType.TRACE_UPROBE_MULTI,
    AttachType.TRACE_UPROBE_SESSION,
)  # fmt: skip


class LoadedProgram(Owned):
    """A loaded program, without what loads and attaches it: see `EngineProgram`.

    Attributes:
        name, type: of its spec.
        spec: its spec.
        object_spec: the object it came from.
        entry: what the translator runs.
        context_size: bytes of the context it looks at, as far as that is known before it runs.
        maps: those it uses.
        run_count, run_time_ns: of all runs so far while somebody counts them (`Engine.enable_stats`).
    """

    def __init__(self, program: ProgramSpec, code: Code, linked: LinkedProgram, spec: ObjectSpec) -> None:
        self.spec = program
        self.object_spec = spec
        self.name = program.name
        self.type = program.type
        self.entry: Any = None
        self.context_size = 0
        self.run_count = self.run_time_ns = 0
        self.ident = 0
        self.map_ids: tuple[int, ...] = ()
        self.maps: list[MapCore] = []
        self.bytecode = bytes(linked.code)
        self._loaded_at = time.monotonic_ns()
        self._code = code
        self._linked = linked
        self._fd = -1
        self._users = 1

    @property
    def number(self) -> int:
        """Of its main function."""
        return self._code.functions[0].number

    @property
    def fd(self) -> int:
        """The number that stands for a descriptor, negative once closed."""
        return self._fd

    def ran(self, nanoseconds: int) -> None:
        """Count a run."""
        self.run_count += 1
        self.run_time_ns += nanoseconds

    def source_line(self, slot: int) -> str | None:
        """``file:line: text`` of an instruction."""
        types = self.object_spec.types
        line = line_at(self._linked.lines, slot * 8)
        return source_text(line, types) if line is not None and types is not None else None

    def places(self) -> list[SourceLine]:
        """Where its instructions come from; none where its types do not say."""
        types = self.object_spec.types
        try:
            return [
                SourceLine(line.offset // 8, types.string(line.file_off), line.line)
                for line in (self._linked.lines if types is not None else [])
                if types is not None
            ]
        except BtfError:
            return []

    def source_lines(self) -> list[tuple[int, str]]:
        """(instruction, ``file:line: text``), in order."""
        types = self.object_spec.types
        return (
            [(line.offset // 8, source_text(line, types)) for line in self._linked.lines] if types is not None else []
        )

    def disassembled(self, slot: int) -> str:
        """An instruction in words."""
        for line in disassemble(self.bytecode):
            if line.slot == slot:
                return str(line).split(": ", 1)[-1]
        return ""

    def poisoned(self, slot: int) -> str:
        """What the CO-RE relocation at an instruction wanted."""
        return self._linked.poisoned.get(slot * 8, "something the simulated kernel does not have")

    def called(self, slot: int) -> str:
        """The kernel function an instruction calls."""
        return next((ref.name for ref in self._linked.refs if ref.offset == slot * 8), "there is none of")

    def refused(self, error: CheckError) -> VerifierError:
        """The exception for what the static check found."""
        source = self.source_line(error.slot)
        message = f"program {self.name}: load: the engine's check rejected it: {error.text}"
        if source is not None:
            message += f"\n  at {source}"
        message += f"\n  instruction {error.slot}: {self.disassembled(error.slot)}"
        return VerifierError(message, log=message, summary=error.text, source_line=source, errno=22)

    def duplicate(self) -> Self:
        """Another user of the same program."""
        self._users += 1
        return self

    def close(self) -> None:
        """Close one user's hold on it; it goes with the last."""
        raise NotImplementedError


class Attachment(Owned):
    """A program at a hook: see `EngineLink`.

    Attributes:
        hook: the hook's name.
        program: the attached program.
        cookie: what bpf_get_attach_cookie gives.
        cgroup: the id of the cgroup it is attached to, 0 where it is not attached to one.
        options: the others that `attach` was given.
        ident: the link's id.
    """

    __slots__ = ("cgroup", "cookie", "hook", "ident", "options", "program")

    def __init__(
        self, program: LoadedProgram, hook: str, cookie: int, cgroup: int, options: Mapping[str, Any], ident: int
    ) -> None:
        self.program = program.duplicate()
        self.hook = hook
        self.cookie = cookie
        self.cgroup = cgroup
        self.options = options
        self.ident = ident

    def matches(self, hook: str) -> bool:
        """Whether it is one of many functions, named by a pattern."""
        return self.program.spec.attach_type in MANY and fnmatch.fnmatchcase(hook, self.hook)

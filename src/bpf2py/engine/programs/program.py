"""A program of the engine: checked, translated, runnable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bpf2py._lazy import module
from bpf2py.engine.code.check import MAX_STACK, CheckError, check_form
from bpf2py.engine.code.check_values import MapFacts, check_values
from bpf2py.engine.programs.hooks import attach
from bpf2py.engine.programs.loaded import LoadedProgram
from bpf2py.engine.programs.prog_test_run import run_program, test_run
from bpf2py.engine.programs.relocate import Placer
from bpf2py.engine.refusals import no_pins
from bpf2py.errors import NotSupported, ObjectError, VerifierError
from bpf2py.isa.helpers import HELPERS, Parameter
from bpf2py.linker.core import POISON_IMM
from bpf2py.linker.link import LinkedProgram
from bpf2py.seam.info import ProgramInfo, TestRunResult
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.spec.program_spec import ProgramSpec, RefKind
from bpf2py.uapi.errno import EACCES
from bpf2py.uapi.program_types import ProgramType as P
from bpf2py.uapi.sections import unknown

if TYPE_CHECKING:
    from bpf2py.engine.code.code import Code
    from bpf2py.engine.machine import Machine
    from bpf2py.engine.maps.handle import EngineMap
    from bpf2py.engine.programs.hooks import EngineLink
    from bpf2py.linker import digest
    from bpf2py.seam.protocol import ProgramHandle
else:
    digest = module("bpf2py.linker.digest")

__all__ = ["EngineProgram", "load"]

# Programs whose loads through typed pointers give 0 where the address is bad (BPF_PROBE_MEM in the kernel).
_PROBE_READS = (P.TRACING, P.LSM, P.EXT, P.STRUCT_OPS, P.RAW_TRACEPOINT, P.RAW_TRACEPOINT_WRITABLE)
_SKB_TYPES = (
    P.SOCKET_FILTER, P.SCHED_CLS, P.SCHED_ACT, P.CGROUP_SKB, P.LWT_IN, P.LWT_OUT, P.LWT_XMIT, P.LWT_SEG6LOCAL, P.SK_SKB,
    P.FLOW_DISSECTOR,
)  # fmt: skip


_MAP_REFS = (RefKind.MAP, RefKind.DATA)


def load(
    engine: Machine, program: ProgramSpec, linked: LinkedProgram, spec: ObjectSpec, maps: Mapping[str, EngineMap]
) -> EngineProgram:
    """Check and translate a linked program.

    Raises:
        VerifierError: the static check refused it; says where in the source.
        NotSupported: it uses a helper or kfunc the engine does not have.
    """
    if program.type == P.UNSPEC:
        raise ObjectError(
            f"program {program.name}: its section name is not known; {unknown(program.section)}",
            section=program.section,
        )
    check_exclusive(program, linked, maps)
    placer = Placer(engine, program, linked, spec, maps)
    made = EngineProgram(engine, program, placer.code, linked, spec)
    try:
        check_form(placer.code)
        placer.check_arena()
        calls = check_values(placer.code, placer.facts, constant=placer.constant)
        check_helpers(placer.code, program, spec, engine.version, calls.reached)
        deepest = max(calls.depths.values(), default=0)
        if deepest > MAX_STACK:
            raise CheckError(0, f"stack depth {deepest} exceeds {MAX_STACK} bytes")
        names = placer.bind_helpers(calls)
    except CheckError as error:
        raise made.refused(error) from None
    made.context_size = calls.context_size
    made.use(placer.facts, maps, names)
    return made


def check_exclusive(program: ProgramSpec, linked: LinkedProgram, maps: Mapping[str, EngineMap]) -> None:
    """Raise VerifierError for a map that belongs to another program alone."""
    for name in {ref.name for ref in linked.refs} & maps.keys():
        owner = maps[name].core.spec.exclusive
        if owner is not None and owner != digest_of(linked):
            text = "program's hash doesn't match map's excl_prog_hash"
            raise VerifierError(
                f"program {program.name}: load: the engine's check rejected it: {text}\n  hint: map {name} is exclusive to another "
                "program",
                log=text,
                summary=text,
                errno=EACCES,
            )


def check_helpers(
    code: Code, program: ProgramSpec, spec: ObjectSpec, version: tuple[int, int, int], reached: set[int] | None = None
) -> None:
    """Raise CheckError for helpers that programs of this type, licence or kernel may not call.

    Calls that are not among those `reached` are left out, as the verifier leaves out what a constant rules out.
    """
    gpl = is_gpl_compatible(spec.license)
    for slot, op in enumerate(code.ops):
        if op is None or op.opcode != 0x85 or op.src != 0 or op.imm == POISON_IMM:
            continue
        if reached is not None and slot not in reached:
            continue
        helper = HELPERS.get(op.imm)
        if helper is None:
            raise CheckError(slot, f"invalid func unknown#{op.imm}: there is no such helper")
        since = tuple(int(part) for part in helper.since.split("."))
        if version[:2] < since:
            raise CheckError(slot, f"unknown func bpf_{helper.name}#{op.imm}: it needs Linux {helper.since}, the engine simulates "
                             f"{version[0]}.{version[1]}")  # fmt: skip
        if helper.gpl_only and not gpl:
            raise CheckError(
                slot,
                f"cannot call GPL-restricted function bpf_{helper.name} from non-GPL compatible program (license {spec.license!r})",
            )
        first = helper.parameters[0] if helper.parameters else Parameter("", "")
        packet = first.type.startswith("struct __sk_buff") or first.name == "skb"
        wrong = (packet and program.type not in _SKB_TYPES) or ("struct xdp_md" in first.type and program.type != P.XDP)
        if wrong:
            raise CheckError(
                slot, f"program of this type cannot use helper bpf_{helper.name}#{op.imm}: its context is not a packet"
            )


def is_gpl_compatible(text: str) -> bool:
    """Whether the kernel lets a program with this licence call what is GPL-only (include/linux/license.h)."""
    return text in ("GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL")


def code_of(linked: LinkedProgram) -> bytes:
    """A program's instructions as a kernel would be given them, with zeros for descriptors."""
    code = bytearray(linked.code)
    for ref in linked.refs:
        if ref.kind in _MAP_REFS:
            code[ref.offset + 1] = code[ref.offset + 1] & 0x0F | (2 if ref.kind == RefKind.DATA else 1) << 4
            code[ref.offset + 4 : ref.offset + 8] = code[ref.offset + 12 : ref.offset + 16] = bytes(4)
    return bytes(code)


def digest_of(linked: LinkedProgram) -> bytes:
    """The hash a program is known by."""
    return digest.program_digest(code_of(linked))


class EngineProgram(LoadedProgram):
    """A loaded program: what `ProgramHandle` asks for, and how to run it.

    Attributes:
        verifier_log: empty: the engine's check writes none.
    """

    verifier_log = ""

    def __init__(
        self, engine: Machine, program: ProgramSpec, code: Code, linked: LinkedProgram, spec: ObjectSpec
    ) -> None:
        super().__init__(program, code, linked, spec)
        self.engine = engine
        self._unit = 0

    def use(self, facts: Mapping[int, MapFacts], maps: Mapping[str, EngineMap], names: set[str]) -> None:
        """Make it runnable."""
        engine = self.engine
        for name in sorted(names):
            engine.expect(name)
        code = self._code
        code.probe_reads = self.type in _PROBE_READS
        for function in code.functions:
            function.number = engine.new_number()
        self._unit = engine.next_unit()
        engine.units[self._unit] = self
        if getattr(engine.code, "wants_lines", False):
            code.lines = self.places()
        self.entry = engine.code.add(code, self._unit)[code.functions[0].start]
        self.ident = engine.next_id()
        self._fd = engine.next_fd()
        engine.programs[self._fd] = self
        used = {ref.name for ref in self._linked.refs}
        self.maps = [handle.core for name, handle in maps.items() if name in used]
        self.map_ids = tuple(core.info.id for core in self.maps)

    @property
    def loaded_code(self) -> bytes:
        """The instructions as a kernel would be given them, with zeros for descriptors."""
        return code_of(self._linked)

    def machine_code(self) -> bytes:
        """The machine code, empty where the program is Python."""
        code: bytes = self.engine.code.machine_code(self._unit)
        return code

    def python_source(self) -> str:
        """The program as Python source, as the Python translation runs it."""
        from bpf2py.engine.code.python import source

        return source(self._code)[0]

    def info(self) -> ProgramInfo:
        """Facts of the program."""
        return ProgramInfo(
            int(self.type), self.ident, self.name[:15], digest.program_digest(self.loaded_code)[:8], len(self.bytecode),
            len(self.machine_code()), self.map_ids, 0, self._loaded_at, self.run_time_ns, self.run_count, 0,
            is_gpl_compatible(self.object_spec.license),
        )  # fmt: skip

    def pin(self, path: str) -> int:
        """Raises NotSupported: there is no file system for it."""
        raise no_pins(f"program {self.name}: pin")

    def opened_at(self, path: str) -> EngineProgram:
        """Raises NotSupported: there is no file system for pins."""
        raise no_pins(path)

    def helper_names(self, code: bytes) -> dict[int, str]:
        """Names of helpers whose numbers were changed: none."""
        return {}

    def attach(self, spec: ProgramSpec, options: dict[str, Any]) -> Sequence[EngineLink]:
        """Attach to a hook of the simulated machine: see `bpf2py.engine.programs.hooks`."""
        return attach(self.engine, self, spec, options)

    def test_run(
        self,
        name: str,
        data: bytes,
        context: bytes,
        repeat: int = 1,
        cpu: int | None = None,
        flags: int = 0,
        batch_size: int = 0,
    ) -> TestRunResult:
        """What BPF_PROG_TEST_RUN does. Raises NotSupported or BpfOSError."""
        return test_run(self.engine, self, name, data, context, repeat, cpu, flags, batch_size)

    def run(
        self,
        name: str,
        context: object,
        data: bytes,
        arguments: Sequence[object],
        fields: Mapping[str, object],
        cpu: int | None,
    ) -> TestRunResult:
        """A run on a context made from Python values: see `Program.run`."""
        if cpu is None:
            return run_program(self.engine, self, context, data, arguments, fields)
        with self.engine.cpu(cpu):
            return run_program(self.engine, self, context, data, arguments, fields)

    def read_stream(self, name: str, stream: int) -> bytes:
        """Raises NotSupported: the engine's programs write to `Engine.trace`."""
        raise NotSupported(
            f"program {name}: stream {stream}: the engine has no program streams; bpf_printk() writes to Engine.trace",
            feature="program streams",
        )

    def code(self, jited: bool) -> bytes:
        """The code as the engine runs it: the bytecode, or the machine code it was translated to."""
        return self.machine_code() if jited else self.bytecode

    def close(self) -> None:
        """Close one user's hold on it; it goes with the last, and once no run is left that may be in its code."""
        self._users -= 1
        if self._users or self._fd < 0:
            return
        self.engine.programs.pop(self._fd, None)
        self._fd = -1
        self.engine.when_idle(self._release)

    def _release(self) -> None:
        engine = self.engine
        engine.units.pop(self._unit, None)
        engine.code.remove(self._unit, self._code, engine.gone())
        for function in self._code.functions:
            engine.free_number(function.number)
        self.maps.clear()


if TYPE_CHECKING:

    def _proof(handle: EngineProgram) -> ProgramHandle:
        return handle

"""BPF_PROG_LOAD: a linked program into the kernel, and a typed error with the reason when it refuses."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Kind
from bpf2py.errors import (
    BpfOSError,
    BtfError,
    NotSupported,
    ObjectError,
    PermissionDenied,
    RelocationError,
    VerifierError,
)
from bpf2py.kernel.btf import VMLINUX, LoadedBtf, attach_btf_id, btf_by_id, btf_fd_of_module
from bpf2py.kernel.program import KernelProgram
from bpf2py.kernel.syscall import (
    BPF_F_TOKEN_FD,
    Fd,
    address_of_bytes,
    bpf,
    bpf_open,
    environment_error,
    error_for,
    object_name,
    older_than,
)
from bpf2py.linker.link import LinkedProgram, line_at, source_text
from bpf2py.spec.program_spec import ProgramSpec, RefKind
from bpf2py.spec.variable_spec import KCONFIG
from bpf2py.uapi.commands import Command
from bpf2py.uapi.errno import E2BIG, EACCES, EAGAIN, EINVAL, ENOSPC, EPERM
from bpf2py.uapi.program_types import TRACING_MULTI, AttachType, ProgramType
from bpf2py.uapi.sections import unknown

if TYPE_CHECKING:
    from bpf2py.isa import opcodes
    from bpf2py.kernel import features, signatures, suggest, verifier_log
    from bpf2py.linker import core
    from bpf2py.seam.protocol import MapHandle
    from bpf2py.seam.signing import Signing
    from bpf2py.spec.object_spec import ObjectSpec
    from bpf2py.uapi import usdt
else:
    features = module("bpf2py.kernel.features")
    signatures = module("bpf2py.kernel.signatures")
    suggest = module("bpf2py.kernel.suggest")
    verifier_log = module("bpf2py.kernel.verifier_log")
    core = module("bpf2py.linker.core")
    usdt = module("bpf2py.uapi.usdt")
    opcodes = module("bpf2py.isa.opcodes")

BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE, BPF_PSEUDO_MAP_IDX = 1, 2, 5
_DATA = RefKind.DATA  # members of an enum take long to look up in a loop
_MAPS, _EXTERNS = (RefKind.MAP, _DATA), (RefKind.EXTERN_VAR, RefKind.EXTERN_CALL)
_IMM, _FUNC_INFO = struct.Struct("<I"), struct.Struct("<II")
_LOAD = struct.Struct("<IIQQIIQII16sIIIIQIIQIIIIQQIIiI")
_SIGNED = struct.Struct("<QIi")  # Linux 6.18
LOG_INSTRUCTIONS, LOG_STEPS = 1, 3  # include/linux/bpf_verifier.h: BPF_LOG_LEVEL1, BPF_LOG_LEVEL
FIRST_LOG, LAST_LOG = 1 << 20, 1 << 26
LOG_KEEPS_ITS_END = "6.4"  # a log that does not fit loses its beginning; before, its end, with the reason in it

# Programs that run from a BPF trampoline (kernel/bpf/trampoline.c).
_TRAMPOLINE_TYPES = (ProgramType.TRACING, ProgramType.LSM, ProgramType.EXT)


def place_maps(linked: LinkedProgram, maps: Mapping[str, MapHandle], program: str) -> bytes:
    """The code with descriptors in place of map and data section names."""
    code, put = bytearray(linked.code), _IMM.pack_into
    for offset, kind, name, value, _ in linked.refs:
        if kind not in _MAPS:
            continue
        handle = maps.get(name)
        if handle is None:
            raise RelocationError(f"program {program}: map {name} was not created", offset=offset)
        is_data = kind is _DATA
        code[offset + 1] = code[offset + 1] & 0x0F | (BPF_PSEUDO_MAP_VALUE if is_data else BPF_PSEUDO_MAP_FD) << 4
        put(code, offset + 4, handle.fd)
        put(code, offset + 12, value & 0xFFFFFFFF if is_data else 0)
    return bytes(code)


def index_maps(code: bytes, fd_array: list[int]) -> tuple[bytes, list[int]]:
    """The code with maps by their place in the array of descriptors, and that array (Linux 5.14)."""
    placed, fds = bytearray(code), list(fd_array)
    at = 0
    while at + 16 <= len(placed):
        wide = placed[at] == opcodes.LD_IMM64
        pseudo = placed[at + 1] >> 4
        if wide and pseudo in (BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE):
            (fd,) = _IMM.unpack_from(placed, at + 4)
            if fd not in fds[1:]:
                fds.append(fd)
            placed[at + 1] = placed[at + 1] & 0x0F | (pseudo + BPF_PSEUDO_MAP_IDX - BPF_PSEUDO_MAP_FD) << 4
            _IMM.pack_into(placed, at + 4, fds.index(fd, 1))
        at += 16 if wide else 8
    return bytes(placed), fds


def _text(log: ctypes.Array[ctypes.c_char]) -> str:
    return log.value.decode("utf-8", "replace")


class ProgramLoader:
    """One BPF_PROG_LOAD with its buffers; `load()` makes the call, again with a log after a failure. Raises ObjectError."""

    def __init__(
        self,
        program: ProgramSpec,
        linked: LinkedProgram,
        spec: ObjectSpec,
        btf: LoadedBtf,
        targets: Mapping[str, tuple[int, int, int]],
        maps: Mapping[str, MapHandle],
        log_level: int = 0,
        signing: Signing | None = None,
    ) -> None:
        if program.type == ProgramType.UNSPEC:
            raise ObjectError(
                f"program {program.name}: its section name is not known; {unknown(program.section)}",
                section=program.section,
            )
        self.program = program
        self.linked = linked
        self.spec = spec
        self.btf = btf
        self.log_level = log_level
        self.code = place_maps(linked, maps, program.name)
        self.missing: dict[int, str] = {}  # weak kfuncs the kernel lacks, by the offset of their call
        self.fd_array: ctypes.Array[ctypes.c_int] | None = None
        if any(ref[1] in _EXTERNS for ref in linked.refs):
            self._place_externs(maps)
        self.signature = b""
        self.keyring = 0
        if signing is not None:
            self._sign(signing)
        self.license = spec.license.encode() + b"\0"
        self.attach_btf_id = self.attach_btf_fd = 0
        definition = program.definition
        self.expected_attach_type = int(program.attach_type) if program.attach_type is not None else 0
        if program.name in targets:
            self.attach_btf_id, self.attach_btf_fd, self.expected_attach_type = targets[program.name]
        elif program.target_program is not None:
            self.attach_btf_id, self.attach_btf_fd = self._function_of_program()
        elif definition is not None and definition.attach_btf and not program.target:
            raise ObjectError(
                f"program {program.name}: load: SEC({program.section!r}) names no target; write "
                f"SEC({f'{program.section}/TARGET'!r}), or set the program's `target` before loading",
                section=program.section,
            )
        elif definition is not None and definition.attach_btf:
            attach_type = program.attach_type.name if program.attach_type is not None else ""
            try:
                self.attach_btf_id, self.attach_btf_fd = attach_btf_id(attach_type, program.target)
            except BtfError as error:
                near = suggest.did_you_mean(attach_type, program.target) if ":" not in program.target else ""
                raise BtfError(f"program {program.name}: load: {error.message}{near}") from None
        elif program.attach_type in TRACING_MULTI and ":" in program.target:
            # Its functions are named when it is attached; the module they are in must be known now.
            module = program.target.rpartition(":")[0]
            self.attach_btf_fd = btf_fd_of_module(module) if module != VMLINUX else 0
        self.usdt_map: MapHandle | None = None
        if program.section.startswith("usdt") and program.section.partition("/")[0] in usdt.SECTIONS:
            from bpf2py.kernel import usdt_specs

            self.usdt_map = maps.get(usdt.SPECS_MAP)
            if program.attach_type is None and usdt_specs.uses_multi():
                self.expected_attach_type = AttachType.TRACE_UPROBE_MULTI
        self.func_info = self.line_info = b""
        if btf.fd and len(linked.funcs) == len(linked.starts):
            self.func_info = b"".join([_FUNC_INFO.pack(offset >> 3, type_id) for offset, type_id in linked.funcs])
            self.line_info = linked.line_info()

    def _function_of_program(self) -> tuple[int, int]:
        """(BTF id of the function to replace or trace in another program, that program's descriptor)."""
        target = self.program.target_program
        btf = btf_by_id(target.info.btf_id) if target.info.btf_id else None
        if btf is None:
            raise ObjectError(
                f"program {self.program.name}: load: program {target.name} has no BTF to find its functions by"
            )
        name = self.program.target or target.name
        return btf.find(name, Kind.FUNC), target.fileno()

    def _place_externs(self, maps: Mapping[str, MapHandle]) -> None:
        from bpf2py.kernel.externs import ExternPlacer

        kconfig = maps.get(KCONFIG)
        offsets = {
            name: variable.offset for name, variable in self.spec.variables.items() if variable.map.name == KCONFIG
        }
        placer = ExternPlacer(self.spec, kconfig.fd if kconfig is not None else 0, offsets)
        code = bytearray(self.code)
        placer.place(code, self.linked, self.program.name)
        self.code = bytes(code)
        self.missing = placer.missing
        if len(placer.fd_array) > 1:
            self.fd_array = (ctypes.c_int * len(placer.fd_array))(*placer.fd_array)

    def _sign(self, signing: Signing) -> None:
        """Sign the instructions as the kernel will see them, with maps by their index: descriptors differ from run to run."""
        self.code, array = index_maps(self.code, list(self.fd_array or (0,)))
        self.fd_array = (ctypes.c_int * len(array))(*array)
        self.signature = signing.sign(self.program.name, self.code)
        self.keyring = signing.keyring

    def attr(self, log: ctypes.Array[ctypes.c_char] | None) -> bytes:
        """The bpf_attr."""
        program = self.program
        attr = _LOAD.pack(
            program.type,
            len(self.code) // 8,
            address_of_bytes(self.code),
            address_of_bytes(self.license),
            (self.log_level or LOG_INSTRUCTIONS) if log is not None else 0,
            len(log) if log is not None else 0,
            ctypes.addressof(log) if log is not None else 0,
            self.spec.kernel_version,
            program.flags | (BPF_F_TOKEN_FD if self.btf.token_fd else 0),
            object_name(program.name),
            0,
            self.expected_attach_type,
            self.btf.fd if self.func_info else 0,
            8 if self.func_info else 0,
            address_of_bytes(self.func_info) if self.func_info else 0,
            len(self.func_info) // 8,
            16 if self.line_info else 0,
            address_of_bytes(self.line_info) if self.line_info else 0,
            len(self.line_info) // 16,
            self.attach_btf_id,
            self.attach_btf_fd,
            0,
            ctypes.addressof(self.fd_array) if self.fd_array is not None else 0,
            0,
            0,
            0,
            self.btf.token_fd,
            0,
        )
        if self.signature:
            attr += _SIGNED.pack(address_of_bytes(self.signature), len(self.signature), self.keyring)
        return attr

    def load(self) -> KernelProgram:
        """Load. Raises VerifierError, PermissionDenied, NotSupported or BpfOSError."""
        return self.finish(self.call() if not self.log_level else -ENOSPC)

    def finish(self, result: Fd | int) -> KernelProgram:
        """The program, from what `call` gave; after a failure as `load` has it, with a log from another attempt."""
        if isinstance(result, Fd):
            return self._loaded(result)
        errno, size = -result, FIRST_LOG
        while True:
            log = ctypes.create_string_buffer(size)
            result = self.call(log)
            if isinstance(result, Fd):
                return self._loaded(result, _text(log) if self.log_level else "")
            if self.log_level and not self.log_level & LOG_STEPS and result != -ENOSPC:
                self.log_level |= LOG_INSTRUCTIONS  # the statistics alone do not say what was refused
                continue
            # Each attempt verifies the program once more, which may take seconds.
            if result != -ENOSPC or size >= LAST_LOG or not (self.log_level or older_than(LOG_KEEPS_ITS_END)):
                break
            size *= 8
        if result == -ENOSPC and self.log_level:  # it may be a good program with a log of more than we take
            result = self.call()
            if isinstance(result, Fd):
                return self._loaded(result, _text(log))
        raise self._error(-result if -result != ENOSPC else errno, _text(log))

    def _loaded(self, fd: Fd, log: str = "") -> KernelProgram:
        loaded = KernelProgram(fd, self.program.name)
        loaded.verifier_log, loaded.loaded_code = log, self.code
        if self.usdt_map is not None:
            loaded.expected_attach_type, loaded.usdt_map = self.expected_attach_type, self.usdt_map
        return loaded

    def call(self, log: ctypes.Array[ctypes.c_char] | None = None) -> Fd | int:
        """BPF_PROG_LOAD: a descriptor or -errno."""
        attr = self.attr(log)
        for _ in range(5):
            result = bpf_open(Command.PROG_LOAD, attr)
            if result != -EAGAIN:  # a signal interrupted the verifier
                break
        return result

    def _error(self, errno: int, log: str) -> Exception:
        program, what = self.program, f"program {self.program.name}: load"
        if self.signature:
            refused = signatures.refused(errno, what, self.keyring)
            if refused is not None and not log:
                return refused
        summary = verifier_log.summarize(log)
        elsewhere = environment_error(errno, what, "BPF_PROG_LOAD") if not summary.lines else None
        if elsewhere is not None:
            return elsewhere
        if errno in (EPERM, EACCES) and not summary.lines:
            if program.attach_type == AttachType.TRACE_ITER and self._plain_program_loads():
                return PermissionDenied(
                    f"{what}: the kernel refuses SEC({program.section!r}) on this machine with no reason in its log, though it "
                    "loads other programs: a policy of the machine forbids it (some forbid iterators that may write to elements)",
                    errno=errno,
                    command="BPF_PROG_LOAD",
                )
            if program.type in _TRAMPOLINE_TYPES and program.attach_type is not None and self._plain_program_loads():
                return PermissionDenied(
                    f"{what}: the kernel refuses BPF tracing trampolines (fentry, fexit, fmod_ret, LSM, freplace) on this "
                    "machine, with no reason in its log; the same hook as a tracepoint, tp_btf or kprobe program may work",
                    errno=errno,
                    command="BPF_PROG_LOAD",
                )
            return error_for(errno, Command.PROG_LOAD, what)
        since = program.definition.since if program.definition is not None else None
        # An old kernel that does not know an attach type refuses it, or takes it for one that cannot sleep or that needs a BTF id.
        unknown = not summary.lines or "can be sleepable" in log or "must provide btf_id" in log
        if since is not None and older_than(since) and unknown:
            return NotSupported(
                f"{what}: SEC({program.section!r}) needs Linux {since}, this is {os.uname().release}",
                feature=program.section,
                since=since,
                errno=errno,
                command="BPF_PROG_LOAD",
            )
        if not summary.lines:
            if errno == EINVAL and features.program_type(program.type) is False:
                return NotSupported(
                    f"{what}: this kernel was built without programs of type {program.type.name}",
                    feature=program.section,
                    since=since,
                    errno=errno,
                    command="BPF_PROG_LOAD",
                )
            if errno == E2BIG:
                return BpfOSError(
                    f"{what}: {len(self.code) // 8} instructions are more than this kernel accepts",
                    errno=errno,
                    command="BPF_PROG_LOAD",
                )
            note = f"; it was loaded without types, for {self.btf.warning}" if self.btf.warning else ""
            return BpfOSError(f"{what}: BPF_PROG_LOAD failed without a log{note}", errno=errno, command="BPF_PROG_LOAD")
        source = self._source(summary.instruction) or summary.source
        at = source or self._source(0)
        python = at is not None and ".py:" in at
        if python and source is None:
            source = at
        hint = verifier_log.hint_for(summary, python)
        lines = summary.lines
        if f"#{core.POISON_IMM}" in log and summary.instruction is not None:
            wanted = self.linked.poisoned.get(summary.instruction * 8)
            if wanted is not None:
                lines = [f"CO-RE relocation failed: the kernel has no {wanted}"]
                hint = (
                    f"guard the access: if exists(p.{wanted.rpartition('.')[2]}):"
                    if python
                    else "guard the access with bpf_core_field_exists() or bpf_core_enum_value_exists()"
                )
        if f"#{core.POISON_KFUNC}" in log and summary.instruction is not None:
            missing = self.missing.get(summary.instruction * 8)
            if missing is not None:
                lines = [f"the kernel has no kfunc {missing} (or with another prototype)"]
                hint = (
                    f"guard the call: if exists({missing}):"
                    if python
                    else f"guard the call with bpf_ksym_exists({missing})"
                )
        message = f"{what}: the verifier rejected it: " + "; ".join(lines)
        if summary.reason:
            message += f"\n  reason: {summary.reason}"
        if source is not None:
            message += f"\n  at {source}"
        if summary.instruction is not None:
            message += f"\n  instruction {summary.instruction}: {summary.text}"
        if self.btf.warning:
            message += f"\n  note: it was loaded without types, for {self.btf.warning}"
        if hint is not None:
            message += f"\n  hint: {hint}"
        return VerifierError(
            message,
            log=log,
            summary="\n".join(lines),
            source_line=source,
            hint=hint,
            errno=errno,
            command="BPF_PROG_LOAD",
        )

    def _source(self, instruction: int | None) -> str | None:
        btf: Btf | None = self.spec.types
        if instruction is None or btf is None:
            return None
        line = line_at(self.linked.lines, instruction * 8)
        return source_text(line, btf) if line is not None else None

    @staticmethod
    def _plain_program_loads() -> bool:
        """Whether this process may load programs at all: tries an empty tracepoint program."""
        code = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
        license_text = b"GPL\0"
        attr = struct.pack("<IIQQ", ProgramType.TRACEPOINT, 2, address_of_bytes(code), address_of_bytes(license_text))
        result = bpf(Command.PROG_LOAD, attr)
        if result >= 0:
            os.close(result)
        return result >= 0

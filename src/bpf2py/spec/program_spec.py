"""`ProgramSpec` and `Function`: code as it stands in the object, before linking."""

from __future__ import annotations

from bpf2py._typing import Any, IntEnum, NamedTuple
from bpf2py.spec.btf_ext import CoreReloc, LineInfo
from bpf2py.uapi.program_types import AttachType, ProgramType
from bpf2py.uapi.sections import SectionDef, match


class RefKind(IntEnum):
    """What an instruction refers to, to be filled in by the linker or the backend."""

    MAP = 0
    DATA = 1
    CALL = 2
    FUNC_ADDRESS = 3
    EXTERN_VAR = 4
    EXTERN_CALL = 5


class Ref(NamedTuple):
    """An instruction that refers to something by name.

    Attributes:
        offset: of the instruction, in bytes from the start of its function.
        kind: to what it refers.
        name: the map's, data section's or extern's name; for functions ``""``.
        value: offset in the data section, or the function's offset in section `section`.
        section: ELF index of the function's section.
    """

    offset: int
    kind: RefKind
    name: str
    value: int = 0
    section: int = 0


class Function:
    """A function of the object: a program's entry or a subprogram.

    Attributes:
        name, section_name, section, offset: where it stands (ELF section index, byte offset).
        code: its instructions, 8 bytes each, little-endian.
        refs: what its instructions refer to, by offset.
        lines, core_relocs: records of .BTF.ext with offsets relative to the function.
        type_id: its BTF FUNC type, 0 without BTF.
        is_static: not visible outside its file, so that the verifier checks it with its callers.
    """

    __slots__ = (
        "code",
        "core_relocs",
        "is_static",
        "lines",
        "name",
        "offset",
        "refs",
        "section",
        "section_name",
        "type_id",
    )

    def __init__(self, name: str, section_name: str, section: int, offset: int, code: bytes, is_static: bool) -> None:
        self.name = name
        self.section_name = section_name
        self.section = section
        self.offset = offset
        self.code = code
        self.is_static = is_static
        self.refs: list[Ref] = []
        self.lines: list[LineInfo] = []
        self.core_relocs: list[CoreReloc] = []
        self.type_id = 0

    def __repr__(self) -> str:
        return f"<Function {self.name}: {len(self.code) // 8} instructions in {self.section_name}>"


class ProgramSpec:
    """A program of an object; attributes may be changed before loading.

    Attributes:
        name: the C function's name.
        section: its SEC() name, without a leading ``?``.
        type: the program type (UNSPEC when the section name is unknown: set it before loading).
        attach_type: expected attach type, or None.
        target: what follows the section's prefix, such as ``syscalls/sys_enter_execve``.
        autoload: False: `load()` skips the program.
        autoattach: False: `Object.attach()` skips it.
        flags: BPF_F_* flags of BPF_PROG_LOAD.
        definition: the row of the SEC() table, or None.
        target_program: for freplace, and fentry or fexit of a BPF program: the loaded `Program` whose function `target` names.
    """

    __slots__ = (
        "attach_type",
        "autoattach",
        "autoload",
        "definition",
        "flags",
        "function",
        "name",
        "section",
        "target",
        "target_program",
        "type",
    )

    def __init__(self, function: Function) -> None:
        self.name = function.name
        self.function = function
        self.section = function.section_name.removeprefix("?")
        self.autoload = not function.section_name.startswith("?")
        self.autoattach = True
        self.flags = 0
        self.type: ProgramType = ProgramType.UNSPEC
        self.attach_type: AttachType | None = None
        self.target = ""
        self.target_program: Any = None
        self.definition: SectionDef | None = None
        found = match(function.section_name)
        if found is not None:
            self.definition = found.definition
            self.type = found.definition.program_type
            self.attach_type = found.definition.attach_type
            self.target = found.target
            if found.definition.sleepable:
                self.flags |= BPF_F_SLEEPABLE
            if found.definition.frags:
                self.flags |= BPF_F_XDP_HAS_FRAGS

    def copy(self) -> ProgramSpec:
        """An independent copy; the code is shared."""
        new = ProgramSpec.__new__(ProgramSpec)
        for slot in ProgramSpec.__slots__:
            setattr(new, slot, getattr(self, slot))
        return new

    def __repr__(self) -> str:
        return f"<ProgramSpec {self.name}: {self.type.name} SEC({self.section!r})>"


# include/uapi/linux/bpf.h: flags of BPF_PROG_LOAD.
BPF_F_SLEEPABLE = 1 << 4
BPF_F_XDP_HAS_FRAGS = 1 << 5

"""Filling in what programs expect of the kernel: kfuncs, typed and untyped symbols, kconfig values."""

from __future__ import annotations

import struct

from bpf2py._typing import Any
from bpf2py.btf.names import essential_name
from bpf2py.btf.types import FuncProto, Kind, Ref
from bpf2py.errors import RelocationError
from bpf2py.kernel.ksyms import btf_symbol, ksym_address
from bpf2py.linker.core import POISON_KFUNC
from bpf2py.linker.core_types import types_compatible
from bpf2py.linker.link import LinkedProgram
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.spec.program_spec import Ref as InstructionRef
from bpf2py.spec.program_spec import RefKind
from bpf2py.spec.variable_spec import KCONFIG, ExternSpec

BPF_PSEUDO_BTF_ID, BPF_PSEUDO_KFUNC_CALL, BPF_PSEUDO_MAP_VALUE = 3, 2, 2


class ExternPlacer:
    """Patches the extern references of one program; collects the module BTF descriptors its kfuncs need."""

    def __init__(self, spec: ObjectSpec, kconfig_fd: int, kconfig_offsets: dict[str, int]) -> None:
        self.spec = spec
        self.kconfig_fd = kconfig_fd
        self.kconfig_offsets = kconfig_offsets
        self.fd_array: list[int] = [0]
        self.missing: dict[int, str] = {}

    def place(self, code: bytearray, linked: LinkedProgram, program: str) -> None:
        """Patch `code`. Raises RelocationError for a symbol that is missing and not weak."""
        for ref in linked.refs:
            if ref.kind not in (RefKind.EXTERN_VAR, RefKind.EXTERN_CALL):
                continue
            extern = self.spec.externs.get(ref.name)
            if extern is None:
                raise RelocationError(f"program {program}: {ref.name!r} is defined nowhere", offset=ref.offset)
            if ref.kind == RefKind.EXTERN_CALL:
                self._call(code, ref, extern, program)
            elif extern.section == KCONFIG:
                self._load(code, ref.offset, BPF_PSEUDO_MAP_VALUE, self.kconfig_fd, self.kconfig_offsets[extern.name])
            else:
                self._variable(code, ref, extern, program)

    @staticmethod
    def _load(code: bytearray, at: int, pseudo: int, low: int, high: int) -> None:
        code[at + 1] = code[at + 1] & 0x0F | pseudo << 4
        struct.pack_into("<I", code, at + 4, low & 0xFFFFFFFF)
        struct.pack_into("<I", code, at + 12, high & 0xFFFFFFFF)

    def _fail(self, extern: ExternSpec, program: str, what: str) -> RelocationError:
        return RelocationError(
            f"program {program}: extern {extern.name}: {what}; declare it __weak and test bpf_ksym_exists({extern.name}) "
            "to load without it"
        )

    def _call(self, code: bytearray, ref: InstructionRef, extern: ExternSpec, program: str) -> None:
        if extern.section != ".ksyms":
            raise RelocationError(
                f"program {program}: function {extern.name!r} is called but defined nowhere; load the object that defines it "
                "together with this one (bpf2py.load([...]))",
                offset=ref.offset,
            )
        found = btf_symbol(essential_name(extern.name), Kind.FUNC)
        if found is not None and not self._prototypes_agree(extern, found):
            found = None
        if found is None:
            if not extern.weak:
                raise self._fail(extern, program, "the kernel has no such kfunc (or with another prototype)")
            self.missing[ref.offset] = extern.name
            code[ref.offset + 1] &= 0x0F
            struct.pack_into("<i", code, ref.offset + 4, POISON_KFUNC)
            return
        index = 0
        if found.fd:
            if found.fd not in self.fd_array:
                self.fd_array.append(found.fd)
            index = self.fd_array.index(found.fd)
        code[ref.offset + 1] = code[ref.offset + 1] & 0x0F | BPF_PSEUDO_KFUNC_CALL << 4
        struct.pack_into("<hi", code, ref.offset + 2, index, found.type_id)

    def _prototypes_agree(self, extern: ExternSpec, found: Any) -> bool:
        local = self.spec.types
        function = found.btf.type(found.type_id)
        if local is None or not isinstance(function, Ref) or not isinstance(local.type(extern.type_id), FuncProto):
            return True
        return types_compatible(local, extern.type_id, found.btf, function.type_id)

    def _variable(self, code: bytearray, ref: InstructionRef, extern: ExternSpec, program: str) -> None:
        if not extern.section and not extern.weak:
            raise RelocationError(
                f"program {program}: {extern.name!r} is declared extern but defined nowhere; load the object that defines it "
                "together with this one (bpf2py.load([...])), or declare it __ksym",
                offset=ref.offset,
            )
        local = self.spec.types
        untyped = local is None or not extern.type_id or local.resolved(extern.type_id).kind == Kind.VOID
        if extern.function or not untyped:
            found = btf_symbol(essential_name(extern.name), Kind.FUNC if extern.function else Kind.VAR)
            # A kfunc of another prototype cannot be called, so it is not there.
            if found is not None and (not extern.function or self._prototypes_agree(extern, found)):
                self._load(code, ref.offset, BPF_PSEUDO_BTF_ID, found.type_id, found.fd)
                return
            what = "the kernel's BTF has no such " + ("function" if extern.function else "variable")
        else:
            address = ksym_address(extern.name)
            if address is not None:
                self._load(code, ref.offset, 0, address, address >> 32)
                return
            what = "/proc/kallsyms has no such symbol, or hides addresses (sysctl kernel.kptr_restrict)"
        if not extern.weak:
            raise self._fail(extern, program, what)
        self._load(code, ref.offset, 0, 0, 0)

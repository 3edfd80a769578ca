"""The kernel's types, constants and functions, by its BTF: the front end's only source of them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from bpf2py.btf import types as btf_types
from bpf2py.btf.types import Kind
from bpf2py.errors import BtfError, NotSupported
from bpf2py.lang.types import BOOL, VOID, Array, Field, Int, Ptr, Struct, Type

if TYPE_CHECKING:
    from bpf2py.btf.reader import Btf

__all__ = ["KernelTypes"]

_TYPE_KINDS = (Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.TYPEDEF, Kind.INT)


class KernelTypes:
    """What the running kernel's BTF says; every answer is None where there is no BTF or no such name."""

    def __init__(self) -> None:
        self._structs: dict[int, Struct] = {}
        self._names: dict[str, Type | None] = {}
        self._constants: dict[str, int | None] = {}
        self._functions: dict[str, tuple[list[tuple[str, Type]], Type] | None] = {}

    @cached_property
    def btf(self) -> Btf | None:
        """The kernel's BTF."""
        from bpf2py.btf.vmlinux import vmlinux

        try:
            return vmlinux()
        except NotSupported:
            return None

    @cached_property
    def counts(self) -> bool:
        """Whether it has an iterator over numbers (Linux 6.4); where nothing is known of it, it is taken to have one."""
        return self.btf is None or self.function("bpf_iter_num_new") is not None

    def knows(self, name: str) -> bool:
        """Whether the kernel uses a name for a type, a function or a constant."""
        if self.btf is None:
            return False
        return bool(self.btf.ids_by_name(name)) or self.constant(name) is not None

    def named(self, name: str) -> Type | None:
        """A type by its name without ``struct``, ``union`` or ``enum``."""
        if name not in self._names:
            self._names[name] = self._find(name)
        return self._names[name]

    def _find(self, name: str) -> Type | None:
        if self.btf is None:
            return None
        found = [i for i in self.btf.ids_by_name(name) if self.btf.kind(i) in _TYPE_KINDS]
        found.sort(key=lambda i: _TYPE_KINDS.index(self.btf.kind(i)) if self.btf is not None else 0)
        return self.type(found[0]) if found else None

    def constant(self, name: str) -> int | None:
        """The value of an enumerator."""
        if name not in self._constants:
            self._constants[name] = self._enumerator(name)
        return self._constants[name]

    def _enumerator(self, name: str) -> int | None:
        if self.btf is None:
            return None
        for type_id in self.btf.ids_mentioning(name):
            found = self.btf.type(type_id)
            if isinstance(found, btf_types.Enum):
                for each in found.values:
                    if each.name == name:
                        return each.value
        return None

    def function(self, name: str) -> tuple[list[tuple[str, Type]], Type] | None:
        """Parameters (name, type) and result of a kernel function."""
        if self.btf is None:
            return None
        if name not in self._functions:
            self._functions[name] = self._function(name)
        return self._functions[name]

    def _function(self, name: str) -> tuple[list[tuple[str, Type]], Type] | None:
        assert self.btf is not None
        for type_id in self.btf.ids_by_name(name):
            if self.btf.kind(type_id) == Kind.FUNC:
                function = self.btf.type(type_id)
                assert isinstance(function, btf_types.Ref)
                return self.prototype(function.type_id)
        return None

    def tracepoint(self, name: str) -> list[tuple[str, Type]] | None:
        """Parameters of a tracepoint as tp_btf and raw_tp programs see them."""
        if self.btf is None:
            return None
        for type_id in self.btf.ids_by_name(f"btf_trace_{name}"):
            if self.btf.kind(type_id) == Kind.TYPEDEF:
                found = self.btf.resolved(self.btf.resolve(type_id))
                if isinstance(found, btf_types.Ref) and found.kind == Kind.PTR:
                    prototype = self.prototype(found.type_id)
                    parameters = prototype[0][1:] if prototype is not None else []
                    named = self._trace_names(name, len(parameters))
                    return [(named[i] if named else own or f"arg{i}", t) for i, (own, t) in enumerate(parameters)]
        return None

    def _trace_names(self, name: str, count: int) -> list[str]:
        found = self.function(f"__bpf_trace_{name}") or self.function(f"__traceiter_{name}")
        names = [parameter for parameter, _ in found[0]][1:] if found is not None else []
        return names if len(names) == count and all(names) else []

    def prototype(self, type_id: int) -> tuple[list[tuple[str, Type]], Type] | None:
        """Parameters and result of a function's type."""
        assert self.btf is not None
        found = self.btf.resolved(type_id)
        if not isinstance(found, btf_types.FuncProto):
            return None
        parameters = [(each.name, self.type(each.type_id)) for each in found.params if each.type_id]
        return parameters, self.type(found.return_type_id)

    def member_functions(self, struct: str) -> dict[str, tuple[list[tuple[str, Type]], Type]]:
        """The functions that a struct of the kernel points to, by member: what struct_ops programs implement."""
        result: dict[str, tuple[list[tuple[str, Type]], Type]] = {}
        if self.btf is None:
            return result
        for type_id in self.btf.ids_by_name(struct):
            found = self.btf.type(type_id)
            if isinstance(found, btf_types.Struct):
                for member in found.members:
                    pointer = self.btf.resolved(member.type_id)
                    if isinstance(pointer, btf_types.Ref) and pointer.kind == Kind.PTR:
                        prototype = self.prototype(pointer.type_id)
                        if prototype is not None:
                            result[member.name] = prototype
        return result

    def type(self, type_id: int, name: str = "") -> Type:
        """A BTF type as the language sees it; `name` is the typedef it was reached by."""
        assert self.btf is not None
        btf = self.btf
        found = btf.type(type_id)
        if isinstance(found, btf_types.Int):
            if found.encoding & btf_types.INT_BOOL:
                return BOOL
            return Int(
                found.size * 8, found.signed, name or ("char" if found.name == "char" else _C.get(found.name, ""))
            )
        if isinstance(found, btf_types.Enum):
            return Int(found.size * 8, found.signed, f"enum {found.name}" if found.name else name)
        if isinstance(found, btf_types.Struct):
            return self._struct(type_id, found, name)
        if isinstance(found, btf_types.Array):
            return Array(self.type(found.type_id), found.count)
        if isinstance(found, btf_types.Ref):
            if found.kind == Kind.PTR:
                return Ptr(self._target(found.type_id))
            typedef = found.kind == Kind.TYPEDEF
            return self.type(found.type_id, found.name if typedef else name) if found.type_id else VOID
        if isinstance(found, btf_types.Fwd):
            whole = [i for i in btf.ids_by_name(found.name) if btf.kind(i) in (Kind.STRUCT, Kind.UNION)]
            return self.type(whole[0]) if whole else Struct(found.name, {}, union=found.union, kernel=True)
        if isinstance(found, btf_types.Void):
            return VOID
        return Int(64, False, name)

    def _target(self, type_id: int) -> Type:
        assert self.btf is not None
        target = self.btf.resolved(type_id)
        return VOID if isinstance(target, btf_types.FuncProto) else self.type(type_id)

    def _struct(self, type_id: int, found: btf_types.Struct, name: str) -> Struct:
        known = self._structs.get(type_id)
        if known is None:
            assert self.btf is not None
            try:
                align = self.btf.align_of(type_id)
            except BtfError:
                align = 1
            known = Struct(
                found.name or name, lambda: self._fields(found), union=found.kind == Kind.UNION, kernel=True,
                size=found.size, align=align, typedef=not found.name,
            )  # fmt: skip
            known.padded = True  # not looked at: memory is cleared
            self._structs[type_id] = known
        return known

    def _fields(self, found: btf_types.Struct) -> dict[str, Field]:
        result: dict[str, Field] = {}
        for member in found.members:
            kind = self.type(member.type_id)
            if member.name:
                result[member.name] = Field(member.name, kind, member.bits)
            elif isinstance(kind, Struct):
                result.update(kind.fields)
        return result


# Kernel integers whose C names matter to a compiler that compares pointer types.
_C = {"long int": "long", "long unsigned int": "unsigned long", "long long unsigned int": "", "signed char": ""}

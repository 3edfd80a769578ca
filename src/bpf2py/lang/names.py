"""What names mean in a module: its own, those of the language, and the kernel's."""

from __future__ import annotations

import ast
import builtins
from typing import Any

from bpf2py.isa.helpers import HELPERS_BY_NAME
from bpf2py.lang import constants
from bpf2py.lang.hooks_table import CONTEXT_CLASSES
from bpf2py.lang.kernel_types import KernelTypes
from bpf2py.lang.source import Source, did_you_mean
from bpf2py.lang.tree import OPERATORS, Const, Expr, MapDecl, Program, Str
from bpf2py.lang.types import (
    BOOL,
    INTEGERS,
    LITERAL,
    STRING,
    VOID,
    Array,
    Int,
    MapRef,
    Opt,
    Ptr,
    Struct,
    Type,
    show,
    size_of,
)  # fmt: skip
from bpf2py.uapi.map_types import MapType

__all__ = ["CONSTANTS", "MAP_CLASSES", "EnumType", "Names", "plain"]

MAP_CLASSES: dict[str, MapType] = {
    "Hash": MapType.HASH, "Array": MapType.ARRAY, "ProgArray": MapType.PROG_ARRAY,
    "PerfEventArray": MapType.PERF_EVENT_ARRAY, "PerCpuHash": MapType.PERCPU_HASH, "PerCpuArray": MapType.PERCPU_ARRAY,
    "StackTrace": MapType.STACK_TRACE, "CgroupArray": MapType.CGROUP_ARRAY, "LruHash": MapType.LRU_HASH,
    "LruPerCpuHash": MapType.LRU_PERCPU_HASH, "LpmTrie": MapType.LPM_TRIE, "ArrayOfMaps": MapType.ARRAY_OF_MAPS,
    "HashOfMaps": MapType.HASH_OF_MAPS, "DevMap": MapType.DEVMAP, "SockMap": MapType.SOCKMAP, "CpuMap": MapType.CPUMAP,
    "XskMap": MapType.XSKMAP, "SockHash": MapType.SOCKHASH, "CgroupStorage": MapType.CGROUP_STORAGE,
    "ReuseportSockArray": MapType.REUSEPORT_SOCKARRAY, "PerCpuCgroupStorage": MapType.PERCPU_CGROUP_STORAGE,
    "Queue": MapType.QUEUE, "Stack": MapType.STACK, "SkStorage": MapType.SK_STORAGE, "DevMapHash": MapType.DEVMAP_HASH,
    "RingBuf": MapType.RINGBUF, "InodeStorage": MapType.INODE_STORAGE, "TaskStorage": MapType.TASK_STORAGE,
    "BloomFilter": MapType.BLOOM_FILTER, "UserRingBuf": MapType.USER_RINGBUF, "CgrpStorage": MapType.CGRP_STORAGE,
    "Arena": MapType.ARENA,
}  # fmt: skip
CONSTANTS: dict[str, int] = {name: value for name, value in vars(constants).items() if name.isupper()}
_REFUSALS: dict[type[ast.AST], str] = {
    ast.Try: "there are no exceptions in the kernel: test what a call returns",
    ast.Raise: "there are no exceptions in the kernel: return a value that says so",
    ast.Lambda: "functions have names here: write def",
    ast.List: "there are no lists: write array[u32, 8]() for room for eight, or a map",
    ast.Dict: "there are no dicts: declare a map in the module, as in counts = Hash[u32, u64](max_entries=1024)",
    ast.Set: "there are no sets: declare a map in the module, as in seen = Hash[u32, u8](max_entries=1024)",
    ast.ListComp: "there are no lists: write a loop",
    ast.SetComp: "there are no sets: write a loop",
    ast.DictComp: "there are no dicts: write a loop",
    ast.GeneratorExp: "there are no generators: write a loop",
    ast.Yield: "there are no generators: output events to a ring buffer",
    ast.YieldFrom: "there are no generators: output events to a ring buffer",
    ast.Await: "nothing waits in the kernel",
    ast.AsyncFor: "nothing waits in the kernel",
    ast.AsyncWith: "nothing waits in the kernel",
    ast.AsyncFunctionDef: "nothing waits in the kernel: write def",
    ast.JoinedStr: 'text is formatted for print(f"...") and snprintf(buf, f"...") only',
    ast.FunctionDef: "functions stand in the module, not in other functions",
    ast.ClassDef: "classes stand in the module, not in functions",
    ast.Import: "imports stand at the module's top",
    ast.ImportFrom: "imports stand at the module's top",
    ast.Nonlocal: "there are no closures: write global for a variable of the module",
    ast.Starred: "values are not unpacked: write them one by one",
    ast.Slice: "there are no slices: pass p + n and a length",
}


class EnumType:
    """An IntEnum of the module."""

    def __init__(self, name: str, members: dict[str, int]) -> None:
        self.name = name
        self.members = members
        low, high = min(members.values(), default=0), max(members.values(), default=0)
        self.type = Int(64 if high >= 1 << 32 or low < -(1 << 31) else 32, low < 0, f"enum {name}")


class Names:
    """The names of one module.

    Attributes:
        names: the module's own: structs, enums, variables, maps, functions, constants (an int or bytes).
        aliases: names under which modules of the language were imported.
        imported: names imported from the kernel's types, or from a stub of them, and the kernel's name of each.
        copied: variables of other files that were imported by name, and those files: Python would copy their values.
        foreign: names imported from files that are not programs, and these modules' names.
        qualified: variables of imported modules, as in ``whom.seen``.
        readers: what makes names of such attributes in a syntax tree.
    """

    def __init__(self, source: Source, kernel: KernelTypes) -> None:
        self.source = source
        self.kernel = kernel
        self.names: dict[str, Any] = {}
        self.aliases: set[str] = set()
        self.imported: dict[str, str] = {}
        self.copied: dict[str, str] = {}
        self.foreign: dict[str, str] = {}
        self.qualified: set[str] = set()
        self.readers: list[ast.NodeTransformer] = []
        self.program = Program()
        self.macros: dict[str, int] = {}

    # -- looking up --------------------------------------------------------------------------------------------------

    def lookup(self, name: str, node: ast.AST) -> Any:
        """What a name stands for in an expression: a declaration, an expression that is constant, or None."""
        self.refuse_copy(name, node)
        found = self.names.get(name)
        if isinstance(found, bool):
            return Const(BOOL, int(found), const=int(found))
        if isinstance(found, int):
            return Const(LITERAL, found, const=found)
        if isinstance(found, bytes):
            return Str(STRING, found)
        if isinstance(found, Struct | EnumType | Type):
            self.source.fail(node, f"{name} is a type: {name}(...) makes a value of it")
        if found is not None:
            return found
        return self.kernel_constant(self.imported.get(name, name))

    def refuse_copy(self, name: str, node: ast.AST) -> None:
        """A variable of another file is reached through that file's module. Raises SourceError."""
        if name in self.copied:
            module = self.copied[name]
            self.source.fail(
                node,
                f"{name!r} is a variable of {module}, of which Python would import the value at that time: import the module, and "
                f"write {module}.{name}",
            )

    def kernel_constant(self, name: str) -> Expr | None:
        """An enumerator of the kernel, or one of the constants that its headers define."""
        value = self.kernel.constant(name) if not hasattr(builtins, name) else None
        if value is None:
            value = CONSTANTS.get(name)
            if value is None:
                return None
            self.macros[name] = value
        return Const(LITERAL, value, name, const=value)

    def member(self, base: str, name: str, node: ast.AST) -> Expr | None:
        """``base.name`` where base is an enum or an imported module; None for anything else."""
        found = self.names.get(base)
        if isinstance(found, EnumType):
            if name not in found.members:
                self.source.fail(node, f"{base} has no member {name!r}{did_you_mean(name, found.members)}")
            value = found.members[name]
            return Const(LITERAL, value, f"{found.name}_py__{name}", const=value)
        if base in self.aliases and found is None:
            result = self.lookup(name, node)
            if isinstance(result, Expr):
                return result
            self.source.fail(node, f"{base} has no {name!r} that is a value{did_you_mean(name, CONSTANTS)}")
        return None

    def known_names(self) -> list[str]:
        """What a misspelt name may have meant."""
        return [*self.names, *self.imported, *HELPERS_BY_NAME, *CONSTANTS]

    def hint(self, name: str) -> str:
        """More about a name that is not known."""
        if name in self.foreign:
            return f": {self.foreign[name]}, from which it is imported, is not a program in Python: it does not import bpf2py.lang"
        if name in INTEGERS or name in MAP_CLASSES:
            return ": it is a type"
        if name in HELPERS_BY_NAME:
            return f": it is a helper; call it, as in {name}()"
        if hasattr(builtins, name):
            return ": Python's own functions are not in the kernel"
        return ""

    def refusal(self, node: ast.AST) -> str:
        """Why a piece of Python is not part of the language, and what to write instead."""
        return _REFUSALS.get(type(node), f"{type(node).__name__} is not part of this language")

    def use_kernel_type(self, kind: Type) -> None:
        """The program needs a type of the kernel whole."""
        if isinstance(kind, Struct) and kind.kernel and kind.name:
            self.program.kernel_names.add(kind.name)

    # -- constants ---------------------------------------------------------------------------------------------------

    def constant(self, node: ast.AST, what: str = "this") -> int:
        """An integer that is known before the program runs. Raises SourceError."""
        found = self.fold(node)
        if isinstance(found, int):
            return int(found)
        self.source.fail(node, f"{what} must be an integer constant")

    def fold(self, node: ast.AST) -> int | bytes | None:
        """The value of a constant expression, or None."""
        if isinstance(node, ast.Constant):
            if isinstance(node.value, bool | int):
                return node.value
            if isinstance(node.value, str):
                return node.value.encode()
            return node.value if isinstance(node.value, bytes) else None
        if isinstance(node, ast.Name):
            found = self.names.get(node.id)
            if isinstance(found, int | bytes):
                return found
            if found is not None or hasattr(builtins, node.id):
                return None
            constant = self.kernel_constant(self.imported.get(node.id, node.id))
            return constant.const if constant is not None else None
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            member = self.member(node.value.id, node.attr, node)
            return member.const if member is not None else None
        if isinstance(node, ast.UnaryOp):
            value = self.fold(node.operand)
            if isinstance(value, int):
                return -value if isinstance(node.op, ast.USub) else ~value if isinstance(node.op, ast.Invert) else value
        if isinstance(node, ast.BinOp):
            left, right = self.fold(node.left), self.fold(node.right)
            op = OPERATORS.get(type(node.op))
            if isinstance(left, int) and isinstance(right, int):
                if op is None:
                    if isinstance(node.op, ast.Pow) and 0 <= right <= 128 and abs(left) <= 1 << 64:
                        return int(left**right)
                    return None
                if op in ("<<", ">>") and not 0 <= right < 4096:
                    self.source.fail(node, f"a shift by {right}")
                if op in ("//", "%") and right == 0:
                    self.source.fail(node, "a division by zero")
                return int(eval(f"{left} {op} {right}", {}))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1 and not node.keywords:
            if node.func.id in ("sizeof", "len"):
                try:
                    return size_of(self.annotation(node.args[0]))
                except SyntaxError:
                    return None
            kind = INTEGERS.get(node.func.id)
            value = self.fold(node.args[0])
            if isinstance(kind, Int) and isinstance(value, int):
                return kind.wrap(value)
            if node.func.id == "ord" and isinstance(value, bytes) and len(value) == 1:
                return value[0]
        return None

    # -- types -------------------------------------------------------------------------------------------------------

    def annotation(self, node: ast.AST) -> Type:
        """The type that an annotation stands for. Raises SourceError."""
        if isinstance(node, ast.Constant):
            if node.value is None:
                return VOID
            if isinstance(node.value, str):
                return self._quoted(node)
        if isinstance(node, ast.Name):
            return self._named(node.id, node)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return self._named(node.attr, node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self._optional(node)
        if isinstance(node, ast.Subscript):
            return self._subscript(node)
        self.source.fail(
            node, "this is not a type: write u32, a Struct, Ptr[T], char[16], array[T, 4] or Ptr[T] | None"
        )

    def _quoted(self, node: ast.Constant) -> Type:
        text = str(node.value)
        if text.isidentifier():
            return self._named(text, node)
        try:
            inner = ast.parse(text, mode="eval").body
        except SyntaxError:
            self.source.fail(node, f"{text!r} is not a type")
        for each in ast.walk(inner):
            ast.copy_location(each, node)
        for reader in self.readers:
            inner = reader.visit(inner)
        return self.annotation(inner)

    def _named(self, name: str, node: ast.AST) -> Type:
        found = self.names.get(name)
        if isinstance(found, EnumType):
            return found.type
        if isinstance(found, Type):
            return found
        if found is None:
            if name in CONTEXT_CLASSES:
                struct = self.kernel.named(CONTEXT_CLASSES[name]) if CONTEXT_CLASSES[name] else None
                self.use_kernel_type(struct or VOID)
                return Ptr(struct or VOID)
            if name in INTEGERS and name not in self.imported:
                return INTEGERS[name]
            if name == "Any":
                return VOID
            kernel = self.kernel.named(self.imported.get(name, name))
            if kernel is not None:
                self.use_kernel_type(kernel)
                return kernel
            if name in ("float", "complex"):
                self.source.fail(
                    node, "eBPF has no floats: count in a smaller unit, such as nanoseconds or thousandths"
                )
            if name in ("str", "bytes", "list", "dict", "set", "tuple", "object"):
                self.source.fail(node, f"{name} is not a type here: text and bytes are char[N] or u8[N], more is a map")
            where = "" if self.kernel.btf is not None else " (this kernel has no BTF, so none of its types is known)"
            known = [*INTEGERS, *(n for n, v in self.names.items() if isinstance(v, Type | EnumType))]
            self.source.fail(node, f"there is no type {name!r}{did_you_mean(name, known)}{where}")
        self.source.fail(node, f"{name} is not a type")

    def _optional(self, node: ast.BinOp) -> Type:
        sides = [node.left, node.right]
        rest = [each for each in sides if not (isinstance(each, ast.Constant) and each.value is None)]
        if len(rest) != 1:
            self.source.fail(node, "a type is one type, or a pointer | None")
        kind = self.annotation(rest[0])
        if isinstance(kind, MapRef):
            return kind
        if not isinstance(kind, Ptr):
            self.source.fail(node, f"only pointers may be None: {show(kind)} always has a value")
        return Opt(kind)

    def _subscript(self, node: ast.Subscript) -> Type:
        base = (
            node.value.attr
            if isinstance(node.value, ast.Attribute)
            else node.value.id
            if isinstance(node.value, ast.Name)
            else ""
        )
        if base in ("Ptr", "Optional") and base not in self.names:
            inner = self.annotation(node.slice)
            if base == "Optional":
                if not isinstance(inner, Ptr):
                    self.source.fail(node, f"only pointers may be None: {show(inner)} always has a value")
                return Opt(inner)
            if isinstance(inner, Opt):
                inner = inner.pointer
            target = inner
            return Ptr(target, isinstance(target, Struct) and target.kernel and not plain(target))
        if base in ("Const", "PerCpu", "Final", "Volatile"):
            self.source.fail(node, f"{base} is for variables of the module")
        if base in MAP_CLASSES and base not in self.names:
            return MapRef(self.map_type(node, base), True)
        if base == "array" and base not in self.names:
            if not isinstance(node.slice, ast.Tuple) or len(node.slice.elts) != 2:
                self.source.fail(node, "write array[T, N]: a type and a count")
            element, count = self.annotation(node.slice.elts[0]), self.constant(node.slice.elts[1], "the length")
            return self._array(node, element, count)
        element = self.annotation(node.value)
        count = self.constant(node.slice, "the length of an array")
        if isinstance(element, Array):  # T[2][3]: three elements in each of two, as in C
            inner_counts = []
            while isinstance(element, Array):
                inner_counts.append(element.count)
                element = element.element
            kind = self._array(node, element, count)
            for each in reversed(inner_counts):
                kind = self._array(node, kind, each)
            return kind
        return self._array(node, element, count)

    def _array(self, node: ast.AST, element: Type, count: int) -> Type:
        if isinstance(element, Opt):
            element = element.pointer
        if not 0 <= count < 1 << 30 or size_of(element) * count >= 1 << 32:
            self.source.fail(node, f"an array of {count} elements")
        if element == VOID:
            self.source.fail(node, "None has no arrays")
        return Array(element, count)

    def map_type(self, node: ast.Subscript, base: str) -> MapDecl:
        """``Hash[u32, u64]``: a map as a type."""
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        found = MapDecl("", MAP_CLASSES[base], base, None, None, node=node)
        takes = map_parameters(found.kind)
        if len(parts) != len(takes):
            if not takes:
                self.source.fail(node, f"{base} takes no types: write {base}(...)")
            example = {"key": "u32", "value": "u64", "inner map": "Hash[u32, u64]"}
            what = f"{base}[{', '.join(example[each] for each in takes)}]"
            self.source.fail(
                node,
                f"{base} takes a {' and a '.join(takes).replace('a inner', 'an inner')} type in its brackets, such as {what}",
            )
        for each, part in zip(takes, parts, strict=True):
            kind = self.annotation(part)
            if each == "inner map":
                if not isinstance(kind, MapRef):
                    self.source.fail(part, "the values are maps: write a map's type, such as Hash[u32, u64]")
                found.inner = kind.map
            elif kind == VOID:
                self.source.fail(part, "None is not stored in maps")
            elif each == "key":
                found.key = kind
            else:
                found.value = kind.pointer if isinstance(kind, Opt) else kind
        fixed_key(found)
        return found


def plain(kind: Struct) -> bool:
    """Structs of the kernel that programs have in memory of their own, or in packets."""
    return kind.name.startswith(("bpf_", "__sk_buff", "xdp_md")) or kind.name in _HEADERS


_HEADERS = frozenset(
    "ethhdr vlan_hdr iphdr ipv6hdr tcphdr udphdr icmphdr icmp6hdr arphdr frag_hdr ipv6_opt_hdr gre_base_hdr vxlanhdr "
    "sctphdr iovec sockaddr sockaddr_in sockaddr_in6 in_addr in6_addr ipv6_rt_hdr".split()
)


def map_parameters(kind: MapType) -> list[str]:
    """What stands in the brackets of a map's class."""
    if kind in (MapType.QUEUE, MapType.STACK, MapType.BLOOM_FILTER, MapType.RINGBUF, MapType.USER_RINGBUF,
                MapType.SK_STORAGE, MapType.INODE_STORAGE, MapType.TASK_STORAGE, MapType.CGRP_STORAGE):  # fmt: skip
        return ["value"]
    if kind in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS):
        return ["key", "inner map"]
    if kind in (MapType.PROG_ARRAY, MapType.PERF_EVENT_ARRAY, MapType.STACK_TRACE, MapType.CGROUP_ARRAY, MapType.SOCKMAP,
                MapType.XSKMAP, MapType.REUSEPORT_SOCKARRAY, MapType.ARENA):  # fmt: skip
        return []
    if kind in (MapType.SOCKHASH,):
        return ["key"]
    return ["key", "value"]


def fixed_key(found: MapDecl) -> None:
    """Keys and values that the map's type prescribes."""
    u32 = INTEGERS["u32"]
    if found.kind in (MapType.PROG_ARRAY, MapType.PERF_EVENT_ARRAY, MapType.CGROUP_ARRAY, MapType.XSKMAP, MapType.SOCKMAP,
                      MapType.STACK_TRACE):  # fmt: skip
        found.key, found.value = u32, u32
    if found.kind == MapType.STACK_TRACE:
        found.value = Array(INTEGERS["u64"], 127)
    if found.kind in (MapType.SOCKHASH,):
        found.value = INTEGERS["u64"]
    if found.kind == MapType.REUSEPORT_SOCKARRAY:
        found.key, found.value = u32, INTEGERS["u64"]
    if found.kind in (MapType.SK_STORAGE, MapType.INODE_STORAGE, MapType.TASK_STORAGE, MapType.CGRP_STORAGE):
        found.key = Int(32, True)
    if found.kind in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS):
        found.value = u32
    found.per_cpu = found.kind in (MapType.PERCPU_ARRAY, MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH)

"""BTF as C: a header in which every type has the size and the member offsets it has in the BTF.

Types are written in an order a compiler accepts: what is embedded comes before, what is only pointed to is declared forward.
Layouts C would not give by itself (packed structs, over-aligned members) get `packed` or unnamed bit-fields as padding.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator

from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Array, DeclTag, Enum, FuncProto, Fwd, Kind, Member, Ref, Struct
from bpf2py.errors import BtfError

_UNSIGNED = {1: "unsigned char", 2: "unsigned short", 4: "unsigned int", 8: "unsigned long long"}
_COMPOSITES = (Kind.STRUCT, Kind.UNION)
_ENUMS = (Kind.ENUM, Kind.ENUM64)
_TYPE_KINDS = (*_COMPOSITES, *_ENUMS, Kind.TYPEDEF)
# Compilers define these themselves.
_BUILTIN_TYPEDEFS = frozenset({"__builtin_va_list", "__int128_t", "__uint128_t"})
_BUILTIN_INTS = frozenset(
    {
        "char", "signed char", "unsigned char", "short", "short int", "unsigned short", "short unsigned int", "int",
        "unsigned int", "long", "long int", "unsigned long", "long unsigned int", "long long", "long long int",
        "unsigned long long", "long long unsigned int", "_Bool", "bool", "__int128", "unsigned __int128",
        "__int128 unsigned", "float", "double", "long double", "_Float16", "__bf16", "half",
    }
)  # fmt: skip
# What nearly every program uses without writing it down.
_ALWAYS = (
    "__u8", "__u16", "__u32", "__u64", "__s8", "__s16", "__s32", "__s64", "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64",
    "__be16", "__be32", "__be64", "__le16", "__le32", "__le64", "__sum16", "__wsum", "bool", "size_t", "pid_t",
    "bpf_map_type", "bpf_iter_num", "pt_regs", "user_pt_regs",
)  # fmt: skip
_KEYWORDS = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while".split()
)

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]")

HEAD = """#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

#ifndef __ksym
#define __ksym __attribute__((section(".ksyms")))
#endif

#ifndef __weak
#define __weak __attribute__((weak))
#endif

"""
TAIL = """
#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */
"""


_ARENA = ("bpf_arena_alloc_pages", "bpf_arena_free_pages", "bpf_arena_reserve_pages")
_ARENA_MACRO = (
    "#ifdef __BPF_FEATURE_ADDR_SPACE_CAST",
    "#define __bpf_arena __attribute__((address_space(1)))",
    "#else",
    "#define __bpf_arena",
    "#endif",
)
MANY_BITS = 64 * 256  # no real struct leaves so much unsaid


def vmlinux_header(roots: Iterable[str] | None = None, without: Iterable[str] = ()) -> str:
    """vmlinux.h of the running kernel.

    Args:
        roots: identifiers; only types and enumerators with these names, and what they reach, are written. None: all.
        without: kernel functions whose prototypes are left out, for the source has its own.

    Raises:
        NotSupported: the kernel was built without BTF.
    """
    from bpf2py.btf.vmlinux import vmlinux

    return dump_c(vmlinux(), roots, without)


def declaration(btf: Btf, type_id: int, name: str = "") -> str:
    """A type as C writes it: ``struct event``, ``char [16]``; with a name, a declaration of it."""
    with _finite(btf):
        return _Dumper(btf, frozenset()).declare(type_id, name)


def dump_c(btf: Btf, roots: Iterable[str] | None = None, without: Iterable[str] = ()) -> str:
    """A header with the types of `btf`: all of them, or those reached from names in `roots`. Raises BtfError.

    Kernel functions in `without` get no prototype.
    """
    dumper = _Dumper(btf, None if roots is None else frozenset(roots), frozenset(without))
    with _finite(btf):
        dumper.run()
    return HEAD + "\n".join(dumper.lines) + "\n" + TAIL


@contextlib.contextmanager
def _finite(btf: Btf) -> Iterator[None]:
    """Damaged types may contain themselves in many ways: a chain nobody would write ends as a BtfError."""
    try:
        yield
    except RecursionError:
        raise BtfError(f"{btf.name}: types are nested too deeply") from None


class _Dumper:
    def __init__(self, btf: Btf, roots: frozenset[str] | None, without: frozenset[str] = frozenset()) -> None:
        self.btf = btf
        self.roots = roots
        self.without = without
        self.lines: list[str] = []
        self.defined: set[int] = set()
        self.active: set[int] = set()
        self.forward: set[str] = set()
        self.names: dict[int, str] = {}
        self.tags: dict[str, int] = {}
        self.ordinary: dict[str, int] = {}
        self.pending: list[int] = []
        self.typedefs: dict[int, int] | None = None  # the first typedef of each type
        # Bodies of types without a name are written wherever they are used: damaged ones would be written without end.
        self.left = 100_000 + len(btf.data)

    def run(self) -> None:
        """Write everything the roots ask for."""
        if self.roots is None:
            for type_id, btf_type in self.btf.types():
                if btf_type.kind in _TYPE_KINDS:
                    self.emit(type_id)
            self.kfuncs()
            return
        for name in (*_ALWAYS, *sorted(self.roots.difference(_ALWAYS))):
            for type_id in self.btf.ids_by_name(name):
                if self.btf.kind(type_id) in _TYPE_KINDS:
                    self.emit(type_id)
            for type_id in self.btf.ids_mentioning(name):
                if self.btf.kind(type_id) in _ENUMS:
                    self.emit(type_id)
        while self.pending:
            self.need(self.pending.pop(), strong=True)
        self.kfuncs()
        self.btf.keep_mentions()

    def spend(self) -> None:
        """Count a step of the work. Raises BtfError when there are more than any sound types make."""
        self.left -= 1
        if self.left < 0:
            raise BtfError(f"{self.btf.name}: the types written out are too long")

    def emit(self, type_id: int) -> None:
        """A type of its own, with everything it needs before it."""
        self.need(type_id, strong=True)

    # -- order ---------------------------------------------------------------------------------------------------

    def need(self, type_id: int, strong: bool) -> None:
        """Make sure a type can be named (weak) or embedded (strong)."""
        btf_type = self.btf.type(type_id)
        kind = btf_type.kind
        if isinstance(btf_type, Struct):
            if not strong and btf_type.name:
                self.declare_forward(type_id, btf_type)
            elif not btf_type.name:
                self.need_members(btf_type)
            else:
                self.define_struct(type_id, btf_type)
        elif isinstance(btf_type, Enum):
            self.define_enum(type_id, btf_type)
        elif isinstance(btf_type, Fwd):
            word = f"{'union' if btf_type.union else 'struct'} {c_name(btf_type.name)}"
            if word not in self.forward:
                self.forward.add(word)
                self.lines.append(f"{word};\n")
        elif isinstance(btf_type, FuncProto):
            self.need(btf_type.return_type_id, strong=False)
            for param in btf_type.params:
                self.need(param.type_id, strong=False)
        elif isinstance(btf_type, Array):
            self.need(btf_type.type_id, strong=True)
        elif kind == Kind.PTR:
            assert isinstance(btf_type, Ref)
            self.need(btf_type.type_id, strong=False)
        elif kind == Kind.TYPEDEF:
            assert isinstance(btf_type, Ref)
            self.define_typedef(type_id, btf_type)
            if strong:
                target = self.btf.resolve(type_id)
                if target not in self.active:
                    self.need(target, strong=True)
        elif isinstance(btf_type, Ref):
            self.need(btf_type.type_id, strong)

    def need_members(self, struct: Struct) -> None:
        """Everything a struct's body refers to."""
        for member in struct.members:
            self.spend()
            self.need(member.type_id, strong=True)
            if self.roots is not None and member.name in self.roots:
                self.pending.append(self.pointee(member.type_id))

    def pointee(self, type_id: int) -> int:
        """The type at the end of pointers, arrays and qualifiers."""
        for _ in range(32):
            btf_type = self.btf.resolved(type_id)
            if isinstance(btf_type, Array) or (isinstance(btf_type, Ref) and btf_type.kind == Kind.PTR):
                type_id = btf_type.type_id
            else:
                break
        return type_id

    def declare_forward(self, type_id: int, struct: Struct) -> None:
        """``struct x;`` unless it was declared or defined."""
        word = self.tag(type_id, struct)
        if word not in self.forward and type_id not in self.defined:
            self.forward.add(word)
            self.lines.append(f"{word};\n")

    def define_struct(self, type_id: int, struct: Struct) -> None:
        """The struct's definition, after those of what it embeds."""
        if type_id in self.defined:
            return
        if type_id in self.active:
            raise BtfError(f"{self.btf.name}: struct {struct.name} contains itself")
        self.active.add(type_id)
        self.declare_forward(type_id, struct)
        self.need_members(struct)
        self.active.discard(type_id)
        self.defined.add(type_id)
        self.lines.append(f"{self.tag(type_id, struct)} {self.body(type_id, struct, 0)};\n")

    def define_enum(self, type_id: int, enum: Enum) -> None:
        """An enum's definition; that of one with a typedef alone is the typedef's."""
        if type_id in self.defined:
            return
        typedef_id = self.enum_typedef(type_id, enum)
        if typedef_id:
            typedef = self.btf.type(typedef_id)
            assert isinstance(typedef, Ref)
            self.define_typedef(typedef_id, typedef)
            return
        self.defined.add(type_id)
        word = self.tag(type_id, enum)
        if not any(_identifier(e.name) for e in enum.values):
            # A forward declaration: C has none for enums, compilers accept one that is only pointed to.
            if enum.name:
                self.lines.append(f"{word};\n")
            return
        self.lines.append(f"{word} {self.enum_body(enum)};\n")

    def enum_typedef(self, type_id: int, enum: Enum) -> int:
        """The typedef in which an enum without a name is defined, or 0."""
        if enum.name or not any(_identifier(e.name) for e in enum.values):
            return 0
        if self.typedefs is None:
            self.typedefs = {}
            for typedef_id, target in self.btf.referring(Kind.TYPEDEF):
                self.typedefs.setdefault(target, typedef_id)
        return self.typedefs.get(type_id, 0)

    def define_typedef(self, type_id: int, typedef: Ref) -> None:
        """A typedef, after what it names."""
        if type_id in self.defined or typedef.name in _BUILTIN_TYPEDEFS:
            return
        if type_id in self.active:
            return
        self.active.add(type_id)
        target = self.btf.type(typedef.type_id)
        own_enum = isinstance(target, Enum) and self.enum_typedef(typedef.type_id, target) == type_id
        if not own_enum:
            self.need(typedef.type_id, strong=isinstance(target, Struct) and not target.name)
        self.active.discard(type_id)
        self.defined.add(type_id)
        name = self.unique(self.ordinary, typedef.name, type_id)
        if isinstance(target, Enum) and own_enum:
            self.defined.add(typedef.type_id)
            self.lines.append(f"typedef enum {self.enum_body(target)} {name};\n")
            return
        self.lines.append(f"typedef {self.declare(typedef.type_id, name)};\n")

    def kfuncs(self) -> None:
        """Prototypes of the kernel functions programs may call."""
        functions = []
        for type_id in self.btf.ids_of_kind(Kind.DECL_TAG):
            tag = self.btf.type(type_id)
            if isinstance(tag, DeclTag) and tag.name == "bpf_kfunc":
                function = self.btf.type(tag.type_id)
                wanted = self.roots is None or (isinstance(function, Ref) and function.name in self.roots)
                if (
                    isinstance(function, Ref)
                    and wanted
                    and _identifier(function.name)
                    and function.name not in self.without
                ):
                    functions.append(function)
        if not functions:
            return
        prototypes = []
        for function in sorted(functions, key=lambda f: f.name):
            self.need(function.type_id, strong=False)
            declaration = self.declare(function.type_id, function.name)
            if function.name in _ARENA:
                # Whose pointers are of the arena's address space is not in BTF (kernel/bpf/arena.c: KF_ARENA_*).
                declaration = declaration.replace(f"void *{function.name}", f"void __bpf_arena *{function.name}")
                declaration = declaration.replace("(void *, void *,", "(void *, void __bpf_arena *,")
            prototypes.append(f"extern {declaration} __weak __ksym;")
        self.lines += ["#ifndef BPF_NO_KFUNC_PROTOTYPES", *_ARENA_MACRO, *prototypes, "#endif\n"]

    # -- names ---------------------------------------------------------------------------------------------------

    def unique(self, space: dict[str, int], name: str, type_id: int) -> str:
        """The name, or with a flavour after it when another type has it already."""
        known = self.names.get(type_id)
        if known is not None:
            return known
        name = c_name(name)
        count = space.get(name, 0) + 1
        space[name] = count
        chosen = name if count == 1 else f"{name}___{count}"
        self.names[type_id] = chosen
        return chosen

    def tag(self, type_id: int, btf_type: Struct | Enum) -> str:
        """``struct x``, ``enum y``; the word alone for anonymous ones."""
        word = {Kind.STRUCT: "struct", Kind.UNION: "union"}.get(btf_type.kind, "enum")
        if not btf_type.name:
            return word
        return f"{word} {self.unique(self.tags, btf_type.name, type_id)}"

    def enumerator(self, name: str) -> str:
        """An enumerator's name, made unique."""
        count = self.ordinary.get(name, 0) + 1
        self.ordinary[name] = count
        return name if count == 1 else f"{name}___{count}"

    # -- declarations --------------------------------------------------------------------------------------------

    def declare(self, type_id: int, inner: str, depth: int = 0) -> str:
        """``T inner`` in C's inside-out syntax."""
        self.spend()
        qualifiers = ""
        btf_type = self.btf.type(type_id)
        for _ in range(64):
            kind = btf_type.kind
            if kind not in (Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG):
                break
            assert isinstance(btf_type, Ref)
            qualifiers += {Kind.CONST: "const ", Kind.VOLATILE: "volatile ", Kind.RESTRICT: "restrict "}.get(kind, "")
            type_id = btf_type.type_id
            btf_type = self.btf.type(type_id)
        if isinstance(btf_type, Ref) and btf_type.kind == Kind.PTR:
            pointer = f"*{qualifiers}{inner}".rstrip()
            if isinstance(self._behind_qualifiers(btf_type.type_id), Array | FuncProto):
                pointer = f"({pointer})"
            return self.declare(btf_type.type_id, pointer, depth)
        if isinstance(btf_type, Array):
            # A qualified array is an array of qualified elements.
            text = self.declare(btf_type.type_id, f"{inner}[{btf_type.count}]", depth)
            return text if text.startswith(qualifiers) else f"{qualifiers}{text}"
        if isinstance(btf_type, FuncProto):
            params = [self.declare(p.type_id, "", depth) if p.type_id or p.name else "..." for p in btf_type.params]
            return self.declare(btf_type.return_type_id, f"{inner}({', '.join(params) or 'void'})", depth)
        return f"{qualifiers}{self.base(type_id, depth)} {inner}".rstrip()

    def _behind_qualifiers(self, type_id: int) -> object:
        btf_type = self.btf.type(type_id)
        while isinstance(btf_type, Ref) and btf_type.kind in (Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG):
            btf_type = self.btf.type(btf_type.type_id)
        return btf_type

    def base(self, type_id: int, depth: int) -> str:
        """The type specifier of a type that is not a pointer, array or function."""
        btf_type = self.btf.type(type_id)
        if isinstance(btf_type, Struct):
            return (
                self.tag(type_id, btf_type)
                if btf_type.name
                else f"{self.tag(type_id, btf_type)} {self.body(type_id, btf_type, depth)}"
            )
        if isinstance(btf_type, Enum):
            if btf_type.name and btf_type.values:
                return self.tag(type_id, btf_type)
            typedef_id = self.enum_typedef(type_id, btf_type)
            if typedef_id in self.defined:
                return self.names[typedef_id]
            return "int" if btf_type.size == 4 and btf_type.signed else _UNSIGNED.get(btf_type.size, "unsigned int")
        if isinstance(btf_type, Fwd):
            return f"{'union' if btf_type.union else 'struct'} {c_name(btf_type.name)}"
        if btf_type.kind == Kind.VOID:
            return "void"
        if btf_type.kind == Kind.TYPEDEF:
            return self.names.get(type_id) or c_name(btf_type.name)
        if btf_type.kind in (Kind.INT, Kind.FLOAT):
            if btf_type.name in _BUILTIN_INTS:
                return (
                    "_Bool"
                    if btf_type.name == "bool"
                    else "unsigned __int128"
                    if btf_type.name == "__int128 unsigned"
                    else btf_type.name
                )
            return _UNSIGNED.get(self.btf.size_of(type_id), "unsigned __int128")
        raise BtfError(f"{self.btf.name}: a {btf_type.kind.name} is not a C type")

    # -- bodies --------------------------------------------------------------------------------------------------

    def enum_body(self, enum: Enum) -> str:
        """``{ A = 0, ... }`` with the attribute that gives the enum its size."""
        rows = "".join(
            f"\t{self.enumerator(e.name)} = {e.value}{_suffix(e.value, enum)},\n"
            for e in enum.values
            if _identifier(e.name)
        )
        attribute = {
            1: " __attribute__((mode(byte)))",
            2: " __attribute__((mode(HI)))",
            8: " __attribute__((mode(DI)))",
        }
        wide = any(e.value > 0x7FFFFFFFFFFFFFFF or not -(1 << 31) <= e.value < 1 << 32 for e in enum.values)
        return (
            "{\n" + rows + "}" + ("" if enum.size == 4 or (enum.size == 8 and wide) else attribute.get(enum.size, ""))
        )

    def body(self, type_id: int, struct: Struct, depth: int) -> str:
        """``{ members }``, padded to the offsets BTF says."""
        tab = "\t" * (depth + 1)
        packed = self.is_packed(type_id, struct)
        out: list[str] = []
        at = 0
        for member in struct.members:
            if struct.kind == Kind.STRUCT:
                natural = self.natural(at, member, packed)
                if natural != member.bit_offset:
                    self.pad(out, tab, at, member.bit_offset)
            out.append(f"{tab}{self.member(member, depth + 1)};\n")
            at = member.bit_offset + (member.bits or self.size(member.type_id) * 8)
        if struct.kind == Kind.STRUCT:
            align = 1 if packed else self.btf.align_of(type_id)
            natural_end = -(-at // (align * 8)) * align * 8
            if natural_end < struct.size * 8:
                self.pad(out, tab, at, struct.size * 8)
        text = "{\n" + "".join(out) + "\t" * depth + "}"
        if packed:
            return f"{text} __attribute__((packed))"
        if struct.kind == Kind.UNION and struct.members and self._union_size(struct) < struct.size:
            return f"{text} __attribute__((aligned({struct.size & -struct.size})))"
        return text

    def _union_size(self, union: Struct) -> int:
        size = max(self.size(m.type_id) for m in union.members)
        align = max(self.btf.align_of(m.type_id) for m in union.members)
        return -(-size // align) * align

    def member(self, member: Member, depth: int) -> str:
        """One member's declaration without the semicolon."""
        if not member.name and not member.bits:
            inner_id = self.btf.resolve(member.type_id)
            inner = self.btf.type(inner_id)
            if isinstance(inner, Struct) and inner.name:
                # ``struct tag;`` in a struct, as Linux 6.19 has it, is an extension of compilers; C11 has members without a tag.
                word = "union" if inner.kind == Kind.UNION else "struct"
                return f"{word} {self.body(inner_id, inner, depth)}"
        text = self.declare(member.type_id, c_name(member.name), depth)
        return f"{text}: {member.bits}" if member.bits else text

    def size(self, type_id: int) -> int:
        """sizeof(), 0 for flexible arrays of incomplete types."""
        try:
            return self.btf.size_of(type_id)
        except BtfError:
            return 0

    def natural(self, at: int, member: Member, packed: bool) -> int:
        """Where C puts a member after bit `at`."""
        if member.bits:
            unit = self.size(member.type_id) * 8
            if packed or at % unit + member.bits <= unit:
                return at
            return -(-at // unit) * unit
        align = 8 if packed else self.btf.align_of(member.type_id) * 8
        return -(-at // align) * align

    @staticmethod
    def pad(out: list[str], tab: str, at: int, end: int) -> None:
        """Unnamed bit-fields from bit `at` to bit `end`; an array where these would be very many."""
        while at < end:
            if at % 8 == 0 and end - at > MANY_BITS:
                out.append(f"{tab}unsigned char __padding_{at // 8}[{(end - at) // 8}];\n")
                at += (end - at) // 8 * 8
                continue
            if at % 8:
                bits, word = min(8 - at % 8, end - at), "unsigned char"
            else:
                bits, word = next(
                    (b, w)
                    for b, w in ((64, "long long"), (32, "int"), (16, "short"), (8, "char"), (0, "char"))
                    if b == 0 or (at % b == 0 and end - at >= b)
                )
                bits = bits or end - at
            out.append(f"{tab}{word} : {bits};\n")
            at += bits

    def is_packed(self, type_id: int, struct: Struct) -> bool:
        """Whether C needs the packed attribute to get this layout."""
        if struct.kind == Kind.UNION:
            return bool(struct.members) and any(struct.size % self.btf.align_of(m.type_id) for m in struct.members)
        for member in struct.members:
            align = self.btf.align_of(member.type_id)
            if struct.size % align:
                return True
            if not member.bits and member.bit_offset % (align * 8):
                return True
            if member.bits:
                unit = self.size(member.type_id) * 8
                if not unit:
                    raise BtfError(
                        f"{self.btf.name}: struct {struct.name}: bit-field {member.name} has a type without size"
                    )
                if member.bit_offset % unit + member.bits > unit:
                    return True
        return False


def _suffix(value: int, enum: Enum) -> str:
    if -(1 << 31) <= value < 1 << 31:
        return ""
    return "LL" if enum.signed else "ULL" if enum.size == 8 else "U"


def c_name(name: str) -> str:
    """A name as C may have it: other languages' names have other letters, and a damaged object's may be anything.

    >>> c_name("next"), c_name("int"), c_name("Option<u32>"), c_name("")
    ('next', 'int_', 'Option_u32_', '')
    """
    if not name or _identifier(name):
        return name
    plain = _NOT_IN_NAMES.sub("_", name)
    return f"{plain}_" if plain in _KEYWORDS else f"_{plain}" if plain[0].isdigit() else plain


def _identifier(name: str) -> bool:
    return name.isidentifier() and name.isascii() and name not in _KEYWORDS

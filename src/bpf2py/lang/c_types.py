"""Types and names as C writes them."""

from __future__ import annotations

import re

from bpf2py.lang.kernel_types import KernelTypes
from bpf2py.lang.types import BOOL, LITERAL, VOID, Array, Int, MapRef, Opt, Ptr, Struct, Type

_TEMPORARY = re.compile(r"tmp\d+_")
__all__ = ["PREFIX", "CNames", "number"]

PREFIX = "py__"  # before names that C or the kernel has a use for; `names_of_python` takes it away again
_RESERVED = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while _Bool bool true "
    "false NULL SEC asm typeof u8 u16 u32 u64 s8 s16 s32 s64 size_t barrier barrier_var offsetof container_of __weak "
    "unix linux i386 LICENSE bpf_for bpf_printk ctx_ value_ key_ index_ result_".split()
)


class CNames:
    """What the module's names are called in C."""

    def __init__(self, kernel: KernelTypes, taken: frozenset[str] = frozenset()) -> None:
        self.kernel = kernel
        self.taken = taken
        self._known: dict[str, str] = {}

    def of(self, name: str) -> str:
        """A name with file scope: prefixed where the kernel or C has it."""
        if name not in self._known:
            meets = (
                name in _RESERVED or name.startswith(("bpf_", "__")) or name.endswith("_") or self.kernel.knows(name)
            )
            self._known[name] = PREFIX + name if meets else name
        return self._known[name]

    @staticmethod
    def inner(name: str) -> str:
        """A field or a local name."""
        own = name.endswith("_") and not _TEMPORARY.fullmatch(name)  # names that end so are the printer's
        return PREFIX + name if own or name in _RESERVED or name.startswith("bpf_") else name

    def tag(self, kind: Struct) -> str:
        """``struct event``, ``union address``."""
        if kind.typedef:
            return kind.name
        return f"{'union' if kind.union else 'struct'} {kind.name if kind.kernel else self.of(kind.name)}"

    def declare(self, kind: Type, name: str = "", exact: bool = False) -> str:
        """A declaration of `name`; without one, the type as a cast has it. `exact`: integers by the kernel's own names."""
        if isinstance(kind, Int):
            return f"{self.integer(kind, exact)} {name}".rstrip()
        if isinstance(kind, Array):
            return self.declare(kind.element, f"{name}[{kind.count}]", exact)
        if isinstance(kind, Opt):
            return self.declare(kind.pointer, name, exact)
        if isinstance(kind, Ptr):
            if isinstance(kind.target, Array):
                return self.declare(kind.target, f"(*{name})", True)
            if kind.arena:
                return self.declare(kind.target, f"__arena *{name}", True)
            return self.declare(kind.target, f"*{name}", True)
        if isinstance(kind, Struct):
            return f"{self.tag(kind)} {name}".rstrip()
        if kind == BOOL:
            return f"bool {name}".rstrip()
        if isinstance(kind, MapRef) or kind == VOID:
            return f"void {'*' if isinstance(kind, MapRef) else ''}{name}".rstrip()
        return f"{'s64' if kind == LITERAL else 'void'} {name}".rstrip()

    def integer(self, kind: Int, exact: bool = False) -> str:
        """An integer type."""
        if kind.name == "char" or (kind.name.startswith("__be") and exact):
            return kind.name
        if kind.name.startswith("enum ") and exact and not self.kernel.knows(kind.name[5:]):
            return f"enum {self.of(kind.name[5:])}"
        if exact and kind.name in ("long", "unsigned long"):
            return kind.name
        if kind.bits == 128:
            return "__int128" if kind.signed else "unsigned __int128"
        return f"{'s' if kind.signed else 'u'}{kind.bits}"


def number(value: int, kind: Type, typed: bool = False) -> str:
    """An integer constant; `typed`: of exactly this type, where it matters to what stands beside it."""
    if kind == BOOL:
        return "true" if value else "false"
    bits = kind.bits if isinstance(kind, Int) else 64
    signed = kind.signed if isinstance(kind, Int) else True
    suffix = ("" if signed else "U") + ("LL" if bits == 64 else "")
    if value == -(1 << bits - 1) and signed and bits >= 32:
        return f"(-{(1 << bits - 1) - 1}{suffix} - 1)"
    small = -(1 << 31) < value < 1 << 31
    text = hex(value) if value > 0xFFFF and (value & 0xFFF == 0 or value & 0xFFF == 0xFFF) else str(value)
    if small and not (typed and bits >= 32):
        return text
    if bits < 32:
        return text
    if not small and bits == 32:
        suffix = "U"
    if not small and bits == 64:
        suffix = "LL" if signed else "ULL"
    return text + suffix

"""Whose registers a source means: ``__TARGET_ARCH_x86`` or ``__TARGET_ARCH_arm64``, as a flag or in the source itself."""

from __future__ import annotations

from collections.abc import Sequence

from bpf2py._lazy import pattern
from bpf2py.errors import CompileError
from bpf2py.uapi.cpus import host_arch

__all__ = ["KNOWN", "host_arch", "target_arch"]

KNOWN = ("x86", "arm64")  # whose registers bpf_tracing.h knows
_NAME = "__TARGET_ARCH_"
_DEFINED = pattern(rb"(?m)^[ \t]*#[ \t]*define[ \t]+__TARGET_ARCH_(\w+)")


def _of_flags(cflags: Sequence[str]) -> set[str]:
    found: set[str] = set()
    flags = iter(cflags)
    for flag in flags:
        kind, rest = flag[:2], flag[2:]
        if kind not in ("-D", "-U"):
            continue
        name = (rest or next(flags, "")).split("=")[0]
        if name.startswith(_NAME):
            arch = name.removeprefix(_NAME)
            found = found | {arch} if kind == "-D" else found - {arch}
    return found


def target_arch(cflags: Sequence[str], text: bytes, wanted: str | None) -> tuple[str, bool]:
    """(the architecture a source is compiled for, whether it has to be defined for it).

    What the caller's flags or the source define decides, as it does where libbpf's headers are used.

    Args:
        cflags: the caller's flags.
        text: the source.
        wanted: what the caller asked for by name, or None.

    Raises:
        CompileError: two architectures are asked for at once.
    """
    defined = _of_flags(cflags) | {match.decode() for match in _DEFINED.findall(text)}
    asked = defined | ({wanted} if wanted is not None else set())
    if len(asked) > 1:
        names = " and ".join(sorted(asked))
        raise CompileError(
            f"the source is to be compiled for {names} at once: define one __TARGET_ARCH_ only, or leave arch= out"
        )
    arch = asked.pop() if asked else host_arch()
    return arch, not defined

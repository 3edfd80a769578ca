"""Which functions of the kernel a program is attached to that takes many: by a pattern, or by their names with cookies."""

from __future__ import annotations

import ctypes
import fnmatch
from collections.abc import Callable, Sequence

from bpf2py._typing import Any, NamedTuple
from bpf2py.errors import AttachError
from bpf2py.kernel.attach import no_more_options
from bpf2py.kernel.attach.kprobe import available_functions
from bpf2py.spec.program_spec import ProgramSpec


class Chosen(NamedTuple):
    """The functions, an array with a cookie for each or None, and what the link's hook is called."""

    symbols: Sequence[str]
    cookies: ctypes.Array[ctypes.c_uint64] | None
    hook: str


def choose(
    spec: ProgramSpec,
    options: dict[str, Any],
    what: str,
    is_known: Callable[[str], object] = lambda name: True,
    module: str = "",
) -> Chosen:
    """From the options ``target`` (a name, or a pattern with ``*`` and ``?``), ``symbols`` and ``cookies``.

    Args:
        spec: the program; its section has the pattern where no option has.
        options: those that are left; others than these are refused.
        what: of what kind the functions are, for messages.
        is_known: whether a function that matches a pattern is one of that kind.
        module: with which and a colon patterns may begin.

    Raises AttachError.
    """
    begin = f"program {spec.name}: attach"
    pattern = options.pop("target", None) or spec.target
    symbols: Sequence[str] | None = options.pop("symbols", None)
    cookies: Sequence[int] | None = options.pop("cookies", None)
    no_more_options(spec, options)
    if symbols is None:
        if not pattern:
            raise AttachError(f"{begin}: SEC({spec.section!r}) names no function; give symbols=[...]")
        name = pattern.removeprefix(f"{module}:") if module else pattern
        symbols = [name]
        if any(char in name for char in "*?["):
            symbols = [each for each in sorted(set(fnmatch.filter(available_functions(), name))) if is_known(each)]
    if not symbols:
        raise AttachError(f"{begin}: no {what} matches {pattern!r}")
    if cookies is not None and len(cookies) != len(symbols):
        raise AttachError(f"{begin}: {len(cookies)} cookies for {len(symbols)} functions")
    hook = f"{spec.section.split('/', 1)[0]}/{pattern or ', '.join(symbols[:3])}"
    return Chosen(symbols, (ctypes.c_uint64 * len(symbols))(*cookies) if cookies is not None else None, hook)

"""Attaching, one file per hook; the hook follows from the program's type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bpf2py.errors import AttachError, NotSupported
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.program import KernelProgram
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.program_types import ProgramType

Attacher = Callable[[KernelProgram, ProgramSpec, dict[str, Any]], list[KernelLink]]


def attacher(spec: ProgramSpec) -> Attacher | None:
    """The function that attaches programs like `spec`, or None when they have no hook to be attached to by name."""
    if spec.type == ProgramType.TRACEPOINT:
        from bpf2py.kernel.attach import tracepoint

        return tracepoint.attach
    if spec.type == ProgramType.RAW_TRACEPOINT or (
        spec.type == ProgramType.TRACING and spec.attach_type is not None and spec.attach_type.name == "TRACE_RAW_TP"
    ):
        from bpf2py.kernel.attach import raw_tracepoint

        return raw_tracepoint.attach
    return None


def attach(program: KernelProgram, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach a program to the hook its section names, or `options` name.

    Raises:
        AttachError: the hook does not exist or refused the program.
        NotSupported: programs of this type cannot be attached by this backend.
    """
    function = attacher(spec)
    if function is None:
        raise NotSupported(
            f"program {spec.name}: attach: SEC({spec.section!r}) has no hook this backend attaches to",
            feature=f"attach {spec.type.name}",
        )
    return function(program, spec, options)


def target_of(spec: ProgramSpec, options: dict[str, Any], form: str) -> str:
    """The hook's name: the option ``target``, or what stands behind the section's slash."""
    target = options.pop("target", None) or spec.target
    if not target:
        raise AttachError(
            f"program {spec.name}: attach: SEC({spec.section!r}) names no target; write SEC({form!r}) or give target="
        )
    return str(target)


def no_more_options(spec: ProgramSpec, options: dict[str, Any]) -> None:
    """Refuse options a hook does not know."""
    if options:
        names = ", ".join(sorted(options))
        raise AttachError(f"program {spec.name}: attach: {spec.type.name} does not take the option {names}")

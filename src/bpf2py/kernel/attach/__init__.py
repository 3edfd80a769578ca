"""Attaching, one file per hook; the hook follows from the program's type and attach type."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from bpf2py._typing import Any
from bpf2py.errors import AttachError, NotSupported
from bpf2py.kernel.link import KernelLink, link_create
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.kernel.syscall import Fd, environment_error, error_for, older_than
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.attach_options import Hook, check, hook_of
from bpf2py.uapi.commands import Command
from bpf2py.uapi.errno import EACCES, EEXIST, EINVAL, EPERM

Attacher = Callable[[ProgramFd, ProgramSpec, dict[str, Any]], list[KernelLink]]


def hook_for(spec: ProgramSpec) -> Hook | None:
    """How programs like `spec` are attached, or None when they have no hook of their own."""
    return hook_of(spec.type, spec.attach_type, spec.section)


def can_attach_by_name(spec: ProgramSpec) -> bool:
    """Whether the section name says where the program belongs."""
    hook = hook_for(spec)
    return hook is not None and hook.by_name and bool(spec.target)


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach a program to the hook its section names, or `options` name.

    Raises:
        AttachError: the hook does not exist or refused the program.
        NotSupported: programs of this type cannot be attached by this backend.
    """
    what = f"program {spec.name}: attach"
    if "\0" in spec.target:
        raise AttachError(f"{what}: target {spec.target!r} contains a NUL character", errno=EINVAL)
    hook = hook_for(spec)
    if hook is None:
        raise NotSupported(
            f"{what}: SEC({spec.section!r}) has no hook this backend attaches to", feature=f"attach {spec.type.name}"
        )
    options = check(what, spec.type.name, options, hook.names)
    module = "tc" if hook.name == "tcx" and _by_qdisc(spec, options) else hook.name
    function: Attacher = import_module(f"bpf2py.kernel.attach.{module}").attach
    return function(program, spec, options)


def _by_qdisc(spec: ProgramSpec, options: dict[str, Any]) -> bool:
    # What only tcx has is not silently replaced by something else.
    wants_tcx = spec.section.startswith(("tcx/", "netkit/")) or "before" in options or "after" in options
    return "qdisc" in options or (older_than("6.6") and not wants_tcx)


def target_of(spec: ProgramSpec, options: dict[str, Any], form: str) -> str:
    """The hook's name: the option ``target``, or the part of the section name after the slash."""
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


def required(spec: ProgramSpec, options: dict[str, Any], name: str, example: str) -> Any:
    """An option that must be given."""
    value = options.pop(name, None)
    if value is None:
        raise AttachError(f"program {spec.name}: attach: say where: .attach({name}={example})")
    return value


def make_link(
    program: ProgramFd,
    spec: ProgramSpec,
    target_fd: int,
    attach_type: int,
    hook: str,
    *,
    flags: int = 0,
    extra: bytes = b"",
    reasons: dict[int, str] | None = None,
) -> KernelLink:
    """BPF_LINK_CREATE. Raises PermissionDenied, NotSupported or AttachError; `reasons` explains errnos of this hook."""
    result = link_create(program.fd, target_fd, attach_type, flags, extra)
    if isinstance(result, Fd):
        return KernelLink(result, hook)
    errno, what = -result, f"program {spec.name}: attach"
    found = hook_for(spec)
    if reasons is not None and errno in reasons:
        raise AttachError(f"{what}: {hook}: {reasons[errno]}", errno=errno, command="BPF_LINK_CREATE")
    if errno in (EPERM, EACCES):
        raise error_for(errno, Command.LINK_CREATE, what)
    elsewhere = environment_error(errno, what, "BPF_LINK_CREATE")
    if elsewhere is not None:
        raise elsewhere
    if errno == EEXIST:
        raise AttachError(f"{what}: the program is attached to {hook} already", errno=errno, command="BPF_LINK_CREATE")
    if errno == EINVAL and found is not None and older_than(found.since):
        raise NotSupported(
            f"{what}: {hook} needs Linux {found.since}",
            feature=hook,
            since=found.since,
            errno=errno,
            command="BPF_LINK_CREATE",
        )
    raise AttachError(f"{what}: {hook} refused the program", errno=errno, command="BPF_LINK_CREATE")

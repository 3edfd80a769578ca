"""Attaching, one file per hook; the hook follows from the program's type and attach type."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from bpf2py.errors import AttachError, NotSupported
from bpf2py.kernel.link import KernelLink, link_create
from bpf2py.kernel.program import KernelProgram
from bpf2py.kernel.syscall import EACCES, EEXIST, EINVAL, EPERM, Fd, environment_error, error_for, older_than
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.commands import Command
from bpf2py.uapi.program_types import AttachType as A
from bpf2py.uapi.program_types import ProgramType as P

Attacher = Callable[[KernelProgram, ProgramSpec, dict[str, Any]], list[KernelLink]]


class Hook(NamedTuple):
    """How programs of a kind are attached.

    Attributes:
        module: the file in this package whose ``attach`` does it.
        by_name: whether the section name alone can say where (`Object.attach()` then attaches them).
        command: what `BPF_LINK_CREATE` on this hook needs at least, as a kernel version.
    """

    module: str
    by_name: bool = False
    since: str = "5.10"


_TRAMPOLINES = (A.TRACE_FENTRY, A.TRACE_FEXIT, A.MODIFY_RETURN, A.TRACE_FSESSION)
_BY_TYPE: dict[P, Hook] = {
    P.TRACEPOINT: Hook("tracepoint", True),
    P.RAW_TRACEPOINT: Hook("raw_tracepoint", True),
    P.RAW_TRACEPOINT_WRITABLE: Hook("raw_tracepoint", True),
    P.TRACING: Hook("raw_tracepoint", True),
    P.LSM: Hook("raw_tracepoint", True),
    P.EXT: Hook("raw_tracepoint", True),
    P.KPROBE: Hook("kprobe", True),
    P.XDP: Hook("xdp"),
    P.SCHED_CLS: Hook("tcx", since="6.6"),
    P.PERF_EVENT: Hook("perf_event"),
    P.CGROUP_SKB: Hook("cgroup"),
    P.CGROUP_SOCK: Hook("cgroup"),
    P.CGROUP_SOCK_ADDR: Hook("cgroup"),
    P.CGROUP_SOCKOPT: Hook("cgroup"),
    P.CGROUP_SYSCTL: Hook("cgroup"),
    P.CGROUP_DEVICE: Hook("cgroup"),
    P.SOCK_OPS: Hook("cgroup"),
    P.SK_LOOKUP: Hook("netns"),
    P.FLOW_DISSECTOR: Hook("netns"),
    P.SK_SKB: Hook("sockmap"),
    P.SK_MSG: Hook("sockmap"),
    P.SOCKET_FILTER: Hook("socket"),
    P.SK_REUSEPORT: Hook("socket"),
    P.NETFILTER: Hook("netfilter", since="6.4"),
}
_BY_ATTACH_TYPE: dict[A, Hook] = {
    A.TRACE_ITER: Hook("iterator", True),
    A.LSM_CGROUP: Hook("cgroup", since="6.0"),
    A.TRACE_KPROBE_MULTI: Hook("kprobe_multi", True, "5.18"),
    A.TRACE_KPROBE_SESSION: Hook("kprobe_multi", True, "6.10"),
    A.TRACE_UPROBE_MULTI: Hook("uprobe_multi", True, "6.6"),
    A.TRACE_UPROBE_SESSION: Hook("uprobe_multi", True, "6.13"),
    A.NETKIT_PRIMARY: Hook("tcx", since="6.7"),
    A.NETKIT_PEER: Hook("tcx", since="6.7"),
}
# Both are KPROBE programs; the section name tells them from kernel probes.
_USER_PROBES = ("uprobe", "uretprobe")


def hook_for(spec: ProgramSpec) -> Hook | None:
    """How programs like `spec` are attached, or None when they have no hook of their own."""
    if spec.type == P.KPROBE and spec.attach_type is None:
        kind = spec.section.split("/", 1)[0].split(".", 1)[0]
        if kind == "usdt":
            return Hook("usdt", True, "5.15")
        return Hook("uprobe", True) if kind in _USER_PROBES else Hook("kprobe", True)
    if spec.attach_type is not None and spec.attach_type in _BY_ATTACH_TYPE:
        return _BY_ATTACH_TYPE[spec.attach_type]
    return _BY_TYPE.get(spec.type)


def can_attach_by_name(spec: ProgramSpec) -> bool:
    """Whether the section name says where the program belongs."""
    hook = hook_for(spec)
    return hook is not None and hook.by_name and bool(spec.target)


def attach(program: KernelProgram, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach a program to the hook its section names, or `options` name.

    Raises:
        AttachError: the hook does not exist or refused the program.
        NotSupported: programs of this type cannot be attached by this backend.
    """
    for name, text in (("target", spec.target), *options.items()):
        if isinstance(text, str | os.PathLike) and "\0" in os.fspath(text):
            raise AttachError(
                f"program {spec.name}: attach: {name} {os.fspath(text)!r} contains a NUL character", errno=EINVAL
            )
    hook = hook_for(spec)
    if hook is None:
        raise NotSupported(
            f"program {spec.name}: attach: SEC({spec.section!r}) has no hook this backend attaches to",
            feature=f"attach {spec.type.name}",
        )
    _check_names(spec, hook.module, options)
    module = "tc" if hook.module == "tcx" and _by_qdisc(spec, options) else hook.module
    function: Attacher = import_module(f"bpf2py.kernel.attach.{module}").attach
    return function(program, spec, options)


# What attach() takes, by the module that does it.
OPTIONS = {
    "cgroup": ("cgroup", "direction"),
    "iterator": ("target", "map", "pid", "tid", "cgroup", "order"),
    "kprobe": ("target", "retprobe", "cookie"),
    "kprobe_multi": ("target", "symbols", "cookies", "retprobe"),
    "netfilter": ("family", "hook", "priority", "defragment"),
    "netns": ("netns",),
    "perf_event": ("event", "frequency", "period", "pid", "cpu", "breakpoint", "length", "access", "cookie"),
    "raw_tracepoint": ("target", "cookie"),
    "socket": ("socket",),
    "sockmap": ("map",),
    "tcx": ("device", "direction", "before", "after", "qdisc", "priority", "handle"),  # the last three: of tc
    "tracepoint": ("target", "cookie"),
    "uprobe": ("target", "binary", "symbol", "offset", "pid", "retprobe", "ref_ctr_offset", "cookie"),
    "uprobe_multi": ("target", "binary", "symbol", "offset", "symbols", "offsets", "cookies", "pid", "retprobe"),
    "usdt": ("target", "binary", "provider", "name", "pid", "cookie"),
    "xdp": ("device", "mode", "netlink"),
}


def _check_names(spec: ProgramSpec, module: str, options: dict[str, Any]) -> None:
    """Refuse a misspelt option before another one is missed in its place."""
    known = OPTIONS[module]
    for name in options:
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}=?" if near else ""
            raise AttachError(
                f"program {spec.name}: attach: {spec.type.name} does not take the option {name}; it takes {', '.join(known)}{hint}",
                errno=EINVAL,
            )


def _by_qdisc(spec: ProgramSpec, options: dict[str, Any]) -> bool:
    # What only tcx has is not silently replaced by something else.
    wants_tcx = spec.section.startswith(("tcx/", "netkit/")) or "before" in options or "after" in options
    return "qdisc" in options or (older_than("6.6") and not wants_tcx)


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


def required(spec: ProgramSpec, options: dict[str, Any], name: str, example: str) -> Any:
    """An option that must be given."""
    value = options.pop(name, None)
    if value is None:
        raise AttachError(f"program {spec.name}: attach: say where: .attach({name}={example})")
    return value


def make_link(
    program: KernelProgram,
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

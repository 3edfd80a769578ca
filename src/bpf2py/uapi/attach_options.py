"""What `Program.attach` takes: a table of hooks and their options, which both backends, the command line and the docs use.

An option's type stands once, in `AttachOptions`; what it means for a hook, and which kernel brought it there, in `HOOKS`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from operator import index
from typing import Any, Literal, NamedTuple, Protocol, TypedDict, get_args, get_origin, get_type_hints

from bpf2py.errors import AttachError
from bpf2py.uapi.program_types import AttachType as A
from bpf2py.uapi.program_types import ProgramType as P

__all__ = ["HOOKS", "AttachOptions", "Hook", "HookOption", "check", "choices", "hook_of", "parse_option"]


class HasFileno(Protocol):
    """Something open: a Map, Program or Link, a socket, a file."""

    def fileno(self) -> int:
        """The descriptor."""


class AttachOptions(TypedDict, total=False):
    """The keyword arguments of `Program.attach`; which of them a program takes follows from its hook.

    An option that is None counts as not given.
    """

    access: Literal["r", "w", "rw", "x"] | None
    after: HasFileno | None
    before: HasFileno | None
    binary: str | os.PathLike[str] | None
    breakpoint: int | None
    cgroup: str | os.PathLike[str] | int | HasFileno | None
    cookie: int | None
    cookies: Sequence[int] | None
    cpu: int | None
    defragment: bool | None
    device: str | int | None
    direction: Literal["ingress", "egress"] | None
    event: str | tuple[int, int] | None
    family: Literal["ipv4", "ipv6"] | None
    frequency: int | None
    handle: int | None
    hook: Literal["prerouting", "input", "forward", "output", "postrouting"] | None
    length: int | None
    map: HasFileno | None
    mode: Literal["native", "generic", "offload"] | None
    name: str | None
    netlink: bool | None
    netns: str | os.PathLike[str] | None
    offset: int | None
    offsets: Sequence[int] | None
    order: Literal["self", "descendants_pre", "descendants_post", "ancestors_up"] | None
    period: int | None
    pid: int | None
    priority: int | None
    provider: str | None
    qdisc: Literal["clsact"] | None
    ref_ctr_offset: int | None
    retprobe: bool | None
    socket: int | HasFileno | None
    symbol: str | None
    symbols: Sequence[str] | None
    target: str | None
    tid: int | None


class HookOption(NamedTuple):
    """What an option means for a hook.

    Attributes:
        name: the keyword of `Program.attach`.
        meaning: a sentence without its full stop.
        since: the kernel that brought it, where that is newer than the hook and than Linux 5.10.
    """

    name: str
    meaning: str
    since: str | None = None


class Hook(NamedTuple):
    """How programs of a kind are attached.

    Attributes:
        name: the hook's name, in the kernel backend that of the file that attaches to it.
        title: the hook for people.
        sections: the SEC() names that belong there.
        options: what `Program.attach` takes.
        by_name: whether the section name alone can say where (`Object.attach()` then attaches the program).
        since: the kernel that has it, 5.10 for all older ones.
    """

    name: str
    title: str
    sections: tuple[str, ...]
    options: tuple[HookOption, ...]
    by_name: bool = False
    since: str = "5.10"

    @property
    def names(self) -> tuple[str, ...]:
        """The options' names, in their order."""
        return tuple(option.name for option in self.options)


_COOKIE = "A number that `bpf_get_attach_cookie` gives the program"
_PID = "Only this process; all without it"
_ON_RETURN = "Probe the function's return; by default as the section name says"
_BINARY = "The program or library: a path, or a name that is looked up as the shell and the loader do"
_SYMBOL = "The function, or its offset in the file as a number"
_OFFSET = "Bytes from the start of the function; without `symbol` an offset in the file"
_DEVICE = "The network interface: its name or index"
_DIRECTION = "Which way packets go, where the section name does not say it"

HOOKS: dict[str, Hook] = {
    hook.name: hook
    for hook in (
        Hook(
            "tracepoint",
            "Tracepoints",
            ("tracepoint/CATEGORY/NAME", "tp/CATEGORY/NAME"),
            (
                HookOption("target", "`category/name` of the tracepoint, instead of the section's"),
                HookOption("cookie", _COOKIE, "5.15"),
            ),
            by_name=True,
        ),
        Hook(
            "raw_tracepoint",
            "Raw tracepoints, and what is bound to a BTF type when it is loaded",
            ("raw_tp/NAME", "tp_btf/NAME", "fentry/FUNCTION", "fexit/FUNCTION", "fmod_ret/FUNCTION", "lsm/HOOK", "freplace/NAME"),
            (
                HookOption("target", "The raw tracepoint's name, instead of the section's; the others are bound at load"),
                HookOption("cookie", _COOKIE, "6.10"),
            ),
            by_name=True,
        ),
        Hook(
            "kprobe",
            "Kernel functions and system calls",
            ("kprobe/FUNCTION+OFFSET", "kretprobe/FUNCTION", "ksyscall/NAME", "kretsyscall/NAME"),
            (
                HookOption("target", "`function` or `function+offset`, instead of the section's; the name of a system call"),
                HookOption("retprobe", _ON_RETURN),
                HookOption("cookie", _COOKIE, "5.15"),
            ),
            by_name=True,
        ),
        Hook(
            "kprobe_multi",
            "Many kernel functions at once",
            ("kprobe.multi/PATTERN", "kretprobe.multi/PATTERN", "kprobe.session/PATTERN"),
            (
                HookOption("target", "A function, or a pattern with `*` and `?`, instead of the section's"),
                HookOption("symbols", "The functions' names, instead of a pattern"),
                HookOption("cookies", "A number for each function, which `bpf_get_attach_cookie` gives the program"),
                HookOption("retprobe", _ON_RETURN),
            ),
            by_name=True,
            since="5.18",
        ),
        Hook(
            "tracing_multi",
            "Many kernel functions by one trampoline program",
            ("fentry.multi/PATTERN", "fexit.multi/PATTERN", "fsession.multi/PATTERN"),
            (
                HookOption("target", "A function, or a pattern with `*` and `?`, instead of the section's"),
                HookOption("symbols", "The functions' names, instead of a pattern"),
                HookOption("cookies", "A number for each function, which `bpf_get_attach_cookie` gives the program"),
            ),
            by_name=True,
            since="7.2",
        ),
        Hook(
            "uprobe",
            "Functions of programs and libraries",
            ("uprobe/BINARY:FUNCTION+OFFSET", "uretprobe/BINARY:FUNCTION"),
            (
                HookOption("target", "`binary:function+offset`, instead of the section's"),
                HookOption("binary", _BINARY),
                HookOption("symbol", _SYMBOL),
                HookOption("offset", _OFFSET),
                HookOption("pid", _PID),
                HookOption("retprobe", _ON_RETURN),
                HookOption("ref_ctr_offset", "Offset in the file of a counter that is raised while attached, as a USDT semaphore"),
                HookOption("cookie", _COOKIE, "5.15"),
            ),
            by_name=True,
        ),
        Hook(
            "uprobe_multi",
            "Many functions of a program or library at once",
            ("uprobe.multi/BINARY:PATTERN", "uretprobe.multi/BINARY:PATTERN", "uprobe.session/BINARY:PATTERN"),
            (
                HookOption("target", "`binary:function`, or `binary:pattern` with `*` and `?`, instead of the section's"),
                HookOption("binary", _BINARY),
                HookOption("symbol", _SYMBOL),
                HookOption("offset", _OFFSET),
                HookOption("symbols", "Several functions of `binary`"),
                HookOption("offsets", "Several offsets in the file `binary`"),
                HookOption("cookies", "A number for each place, which `bpf_get_attach_cookie` gives the program"),
                HookOption("pid", _PID),
                HookOption("retprobe", _ON_RETURN),
            ),
            by_name=True,
            since="6.6",
        ),
        Hook(
            "usdt",
            "User-space statically defined tracepoints",
            ("usdt/BINARY:PROVIDER:NAME",),
            (
                HookOption("target", "`binary:provider:name`, instead of the section's"),
                HookOption("binary", _BINARY),
                HookOption("provider", "The probe's provider"),
                HookOption("name", "The probe's name"),
                HookOption("pid", _PID),
                HookOption("cookie", "A number that `bpf_usdt_cookie(ctx)` gives the program"),
            ),
            by_name=True,
            since="5.15",
        ),
        Hook(
            "perf_event",
            "Perf events: sampling, counters, hardware breakpoints",
            ("perf_event",),
            (
                HookOption("event", "A name such as `page-faults`, or a pair (type, config); `cpu-clock` without it"),
                HookOption("frequency", "Samples a second"),
                HookOption("period", "Events from one sample to the next, instead of a frequency"),
                HookOption("pid", "Only this process; without it an event on each CPU"),
                HookOption("cpu", "Only this CPU"),
                HookOption("breakpoint", "An address; the event is an access to it"),
                HookOption("length", "Bytes from `breakpoint` on that are watched: 1, 2, 4 or 8, which is the default"),
                HookOption("access", "Which accesses to `breakpoint`: read, write (the default), both, or execution"),
                HookOption("cookie", _COOKIE, "5.15"),
            ),
        ),
        Hook(
            "iterator",
            "Iterators",
            ("iter/TYPE",),
            (
                HookOption("target", "The iterator's type, instead of the section's"),
                HookOption("map", "Of `iter/bpf_map_elem` and the like: whose elements"),
                HookOption("pid", "Of task iterators: only this process", "6.1"),
                HookOption("tid", "Of task iterators: only this thread", "6.1"),
                HookOption("cgroup", "Of `iter/cgroup`: where to begin", "6.1"),
                HookOption("order", "Of `iter/cgroup`: which way to go on; `descendants_pre` without it", "6.1"),
            ),
            by_name=True,
        ),
        Hook(
            "xdp",
            "XDP",
            ("xdp", "xdp.frags"),
            (
                HookOption("device", _DEVICE),
                HookOption("mode", "In the driver, after it (any device can), or on the device; in the driver if it can"),
                HookOption("netlink", "Attach by netlink, without a link object: beside tools that do the same"),
            ),
        ),
        Hook(
            "tcx",
            "Traffic control",
            ("tcx/ingress", "tcx/egress", "tc/ingress", "tc/egress", "tc", "classifier", "netkit/primary", "netkit/peer"),
            (
                HookOption("device", _DEVICE),
                HookOption("direction", _DIRECTION),
                HookOption("before", "Run before this Link or Program"),
                HookOption("after", "Run after this Link or Program; last of all without it"),
                HookOption("qdisc", "Use a classifier of the clsact qdisc rather than tcx; before Linux 6.6 there is nothing else"),
                HookOption("priority", "Of a classifier: lower ones run first; before those that are there without it"),
                HookOption("handle", "Of a classifier: its number within the priority"),
            ),
            since="6.6",
        ),
        Hook(
            "cgroup",
            "Control groups",
            ("cgroup_skb/ingress", "cgroup_skb/egress", "cgroup/skb", "cgroup/...", "sockops", "lsm_cgroup/HOOK"),
            (
                HookOption("cgroup", "A path, full or below the mount point of cgroup2, or an open directory"),
                HookOption("direction", _DIRECTION),
            ),
        ),
        Hook(
            "netns",
            "Network namespaces",
            ("sk_lookup", "flow_dissector"),
            (HookOption("netns", "Path of a network namespace; that of the calling thread without it"),),
        ),
        Hook(
            "sockmap",
            "Socket maps",
            ("sk_skb/stream_parser", "sk_skb/stream_verdict", "sk_skb/verdict", "sk_msg"),
            (HookOption("map", "The SOCKMAP or SOCKHASH whose sockets the program sees"),),
        ),
        Hook(
            "socket",
            "Single sockets",
            ("socket", "sk_reuseport"),
            (HookOption("socket", "A socket object or its descriptor"),),
        ),
        Hook(
            "netfilter",
            "Netfilter",
            ("netfilter",),
            (
                HookOption("family", "Which packets; `ipv4` without it"),
                HookOption("hook", "Where they are seen; `input` without it"),
                HookOption("priority", "Lower ones run first; 0 without it; the extremes are refused"),
                HookOption("defragment", "See whole packets, not fragments", "6.6"),
            ),
            since="6.4",
        ),
    )
}  # fmt: skip

_BY_TYPE: dict[P, str] = {
    P.TRACEPOINT: "tracepoint",
    P.RAW_TRACEPOINT: "raw_tracepoint",
    P.RAW_TRACEPOINT_WRITABLE: "raw_tracepoint",
    P.TRACING: "raw_tracepoint",
    P.LSM: "raw_tracepoint",
    P.EXT: "raw_tracepoint",
    P.KPROBE: "kprobe",
    P.XDP: "xdp",
    P.SCHED_CLS: "tcx",
    P.PERF_EVENT: "perf_event",
    P.CGROUP_SKB: "cgroup",
    P.CGROUP_SOCK: "cgroup",
    P.CGROUP_SOCK_ADDR: "cgroup",
    P.CGROUP_SOCKOPT: "cgroup",
    P.CGROUP_SYSCTL: "cgroup",
    P.CGROUP_DEVICE: "cgroup",
    P.SOCK_OPS: "cgroup",
    P.SK_LOOKUP: "netns",
    P.FLOW_DISSECTOR: "netns",
    P.SK_SKB: "sockmap",
    P.SK_MSG: "sockmap",
    P.SOCKET_FILTER: "socket",
    P.SK_REUSEPORT: "socket",
    P.NETFILTER: "netfilter",
}
# Where the attach type says more than the program type: the hook, and what of the kernel's releases it needs.
_BY_ATTACH_TYPE: dict[A, tuple[str, str]] = {
    A.TRACE_ITER: ("iterator", "5.10"),
    A.LSM_CGROUP: ("cgroup", "6.0"),
    A.TRACE_KPROBE_MULTI: ("kprobe_multi", "5.18"),
    A.TRACE_KPROBE_SESSION: ("kprobe_multi", "6.10"),
    A.TRACE_UPROBE_MULTI: ("uprobe_multi", "6.6"),
    A.TRACE_UPROBE_SESSION: ("uprobe_multi", "6.13"),
    A.TRACE_FENTRY_MULTI: ("tracing_multi", "7.2"),
    A.TRACE_FEXIT_MULTI: ("tracing_multi", "7.2"),
    A.TRACE_FSESSION_MULTI: ("tracing_multi", "7.2"),
    A.TCX_INGRESS: ("tcx", "6.6"),
    A.TCX_EGRESS: ("tcx", "6.6"),
    A.NETKIT_PRIMARY: ("tcx", "6.7"),
    A.NETKIT_PEER: ("tcx", "6.7"),
}
# All of them are KPROBE programs without an attach type; the section name tells them apart.
_PROBES = {"usdt": "usdt", "uprobe": "uprobe", "uretprobe": "uprobe"}

_U32, _U64, _PIDS = (0, (1 << 32) - 1), (0, (1 << 64) - 1), (-1, (1 << 31) - 1)
# What the kernel's fields for them hold.
_RANGES = {
    "cookie": _U64, "cookies": _U64, "offset": _U64, "offsets": _U64, "ref_ctr_offset": _U32, "breakpoint": _U64, "pid": _PIDS,
    "tid": _PIDS, "cpu": _PIDS, "priority": (-(1 << 31), (1 << 31) - 1), "handle": _U32, "period": (1, (1 << 63) - 1),
    "frequency": (1, (1 << 63) - 1), "length": (1, 8),
}  # fmt: skip


def hook_of(program_type: P, attach_type: A | None, section: str) -> Hook | None:
    """Where programs like that are attached, or None when they have no hook of their own.

    >>> hook_of(P.KPROBE, None, "uprobe/libc:malloc").name
    'uprobe'
    """
    if program_type == P.KPROBE and attach_type is None:
        return HOOKS[_PROBES.get(section.partition("/")[0].partition(".")[0], "kprobe")]
    if attach_type is not None and attach_type in _BY_ATTACH_TYPE:
        name, since = _BY_ATTACH_TYPE[attach_type]
        return HOOKS[name]._replace(since=since)
    found = _BY_TYPE.get(program_type)
    return HOOKS[found] if found is not None else None


@cache
def _hints() -> dict[str, Any]:
    return get_type_hints(AttachOptions)


@cache
def _forms(name: str) -> tuple[Any, ...]:
    """The types an option may have, None left out."""
    return tuple(form for form in get_args(_hints()[name]) if form is not type(None))


def choices(name: str) -> tuple[str, ...]:
    """The words an option may be, in their order; empty when it is not one of a few words."""
    return next((get_args(form) for form in _forms(name) if get_origin(form) is Literal), ())


def check(what: str, kind: str, options: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """The options that are given, after a look at their names and values.

    Args:
        what: the beginning of messages, such as ``"program count: attach"``.
        kind: the kind of program, for messages.
        options: what `Program.attach` was given.
        known: the names it takes for this program.

    Raises AttachError, with the names or values that are right.
    """
    names = tuple(known)
    for name in options:
        if name not in names:
            near = get_close_matches(name, names, 1)
            hint = f"; did you mean {near[0]}=?" if near else ""
            takes = f"it takes {', '.join(names)}" if names else "it takes none"
            raise AttachError(f"{what}: {kind} does not take the option {name}; {takes}{hint}", errno=errno.EINVAL)
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        wrong = _fault(name, value)
        if wrong is not None:
            raise AttachError(f"{what}: {name} {wrong}", errno=errno.EINVAL)
    return given


def _fault(name: str, value: Any) -> str | None:
    """What is wrong with an option's value, or None."""
    forms = _forms(name)
    several = any(get_origin(form) is Sequence for form in forms)
    try:
        items = list(value) if several and not isinstance(value, str | bytes) else [value]
    except TypeError:
        items = [value]
    wanted = [get_args(form)[0] if get_origin(form) is Sequence else form for form in forms]
    for item in items:
        if (several and items[0] is value) or not any(_fits(item, form) for form in wanted):
            words = " or ".join(dict.fromkeys(_in_words(name, form) for form in forms))
            return f"must be {words}; is {item!r}"
        text = os.fspath(item) if isinstance(item, os.PathLike) else item
        if isinstance(text, str) and "\0" in text:
            return f"{text!r} contains a NUL character"
        low, high = _RANGES.get(name, (None, None))
        if low is not None and high is not None and not low <= index(item) <= high:
            return f"must be {low}..{high}, is {item}"
    return None


def _fits(value: Any, form: Any) -> bool:
    origin = get_origin(form)
    if origin is Literal:
        return value in get_args(form)
    if origin is tuple:
        return isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(number, int) for number in value)
    if form is HasFileno:
        return hasattr(value, "fileno")
    if form is int:
        return hasattr(value, "__index__")
    return isinstance(value, bool | int if form is bool else origin or form)


def _in_words(name: str, form: Any) -> str:
    origin = get_origin(form)
    if origin is Literal:
        words = get_args(form)
        return f"one of {', '.join(words)}" if len(words) > 1 else repr(words[0])
    if origin is Sequence:
        return f"a list of {'integers' if int in get_args(form) else 'names'}"
    if form is HasFileno:
        return {"map": "an open Map", "before": "a Link or Program", "after": "a Link or Program"}.get(
            name, "something open"
        )
    return {int: "an integer", bool: "True or False", tuple: "(type, config)"}.get(origin or form, "a name")


def parse_option(name: str, text: str) -> Any:
    """The value of an option written as text: ``0x10``, ``yes``, ``lo``; lists with ``+`` between, events also as ``TYPE:CONFIG``.

    >>> parse_option("device", "lo"), parse_option("pid", "12"), parse_option("symbols", "malloc+free")
    ('lo', 12, ['malloc', 'free'])

    Raises ValueError for text that is not such a value, and KeyError for unknown options.
    """
    forms = _forms(name)
    if any(get_origin(form) is Sequence for form in forms):
        numbers = Sequence[int] in forms
        return [int(item, 0) if numbers else item for item in text.split("+")]
    if bool in forms:
        return {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}.get(text.lower(), text)
    if any(get_origin(form) is tuple for form in forms) and ":" in text:
        kind, _, config = text.partition(":")
        return int(kind, 0), int(config, 0)
    if int in forms and (str not in forms or text.isdecimal()):
        return int(text, 0)
    return text

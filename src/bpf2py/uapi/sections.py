"""The table of SEC() names: which program type, attach type and flags a section name stands for.

Source of facts: the section names the kernel's documentation lists for libbpf (Documentation/bpf/libbpf/program_types),
so that an object written for libbpf means the same here. A name is matched in one of two ways:

* ``exact``: the whole section name, such as ``xdp`` or ``cgroup/connect4``;
* ``prefix``: the name alone or with a target behind a slash: ``tracepoint``, ``tracepoint/sched/sched_switch``.

A leading ``?`` means that the program is not loaded unless asked for.
"""

from __future__ import annotations

from bpf2py._typing import NamedTuple
from bpf2py.uapi.program_types import AttachType as A
from bpf2py.uapi.program_types import ProgramType as P

__all__ = ["SECTIONS", "SectionDef", "SectionMatch", "lookup", "match", "unknown"]


class SectionDef(NamedTuple):
    """What one SEC() name stands for.

    Attributes:
        name: the section name without target, such as ``"tracepoint"``.
        program_type: the program type to load with.
        attach_type: ``expected_attach_type`` to load with, and the attach type to attach with; None where there is none
            (the kernel is given 0).
        prefix: True when a target may follow behind a slash.
        sleepable: load with BPF_F_SLEEPABLE.
        attach_btf: the target is a BTF function (or tracepoint, hook, iterator), given to the kernel as attach_btf_id.
        frags: load with BPF_F_XDP_HAS_FRAGS.
        attach_type_optional: kernels before 4.17 do not know the attach type at load; they need it at attach alone.
        since: the first kernel release that loads such a program, such as ``"4.7"``.
    """

    name: str
    program_type: P
    attach_type: A | None = None
    prefix: bool = False
    sleepable: bool = False
    attach_btf: bool = False
    frags: bool = False
    attach_type_optional: bool = False
    since: str = "5.10"

    @property
    def expected_attach_type(self) -> int:
        """The number BPF_PROG_LOAD wants in ``expected_attach_type``: 0 where the section has none."""
        return 0 if self.attach_type is None else int(self.attach_type)

    @property
    def pattern(self) -> str:
        """The name as libbpf's documentation writes it: with a ``+`` behind it when a target may follow."""
        return f"{self.name}+" if self.prefix else self.name


class SectionMatch(NamedTuple):
    """A section name taken apart.

    Attributes:
        definition: the row of the table.
        target: the part after the name and its slash (``"sched/sched_switch"``), or an empty string.
        autoload: False when the section name began with ``?``.
    """

    definition: SectionDef
    target: str
    autoload: bool


def _probe(name: str, since: str, attach: A | None = None, *, sleepable: bool = False) -> SectionDef:
    return SectionDef(name, P.KPROBE, attach, prefix=True, sleepable=sleepable, since=since)


def _trace(name: str, program: P, attach: A | None, since: str, *, sleepable: bool = False) -> SectionDef:
    return SectionDef(name, program, attach, prefix=True, sleepable=sleepable, attach_btf=True, since=since)


def _exact(name: str, program: P, attach: A | None, since: str, *, optional: bool = False) -> SectionDef:
    return SectionDef(name, program, attach, attach_type_optional=optional, since=since)


def _xdp(name: str, attach: A, since: str, *, frags: bool = False, optional: bool = False) -> SectionDef:
    return SectionDef(name, P.XDP, attach, frags=frags, attach_type_optional=optional, since=since)


SECTIONS: tuple[SectionDef, ...] = (
    # Socket filters and reuseport
    _exact("socket", P.SOCKET_FILTER, None, "3.19"),
    _exact("sk_reuseport/migrate", P.SK_REUSEPORT, A.SK_REUSEPORT_SELECT_OR_MIGRATE, "5.14"),
    _exact("sk_reuseport", P.SK_REUSEPORT, A.SK_REUSEPORT_SELECT, "4.19"),
    # Probes
    _probe("kprobe", "4.1"),
    _probe("uprobe", "4.1"),
    _probe("uprobe.s", "6.0", sleepable=True),
    _probe("kretprobe", "4.1"),
    _probe("uretprobe", "4.1"),
    _probe("uretprobe.s", "6.0", sleepable=True),
    _probe("kprobe.multi", "5.18", A.TRACE_KPROBE_MULTI),
    _probe("kretprobe.multi", "5.18", A.TRACE_KPROBE_MULTI),
    _probe("kprobe.session", "6.10", A.TRACE_KPROBE_SESSION),
    _probe("uprobe.multi", "6.6", A.TRACE_UPROBE_MULTI),
    _probe("uretprobe.multi", "6.6", A.TRACE_UPROBE_MULTI),
    _probe("uprobe.session", "6.13", A.TRACE_UPROBE_SESSION),
    _probe("uprobe.multi.s", "6.6", A.TRACE_UPROBE_MULTI, sleepable=True),
    _probe("uretprobe.multi.s", "6.6", A.TRACE_UPROBE_MULTI, sleepable=True),
    _probe("uprobe.session.s", "6.13", A.TRACE_UPROBE_SESSION, sleepable=True),
    _probe("ksyscall", "4.1"),
    _probe("kretsyscall", "4.1"),
    _probe("usdt", "4.1"),
    _probe("usdt.s", "6.0", sleepable=True),
    # Traffic control. tc/ingress and tc/egress mean tcx; the bare names are the classic qdisc hooks.
    _exact("tc/ingress", P.SCHED_CLS, A.TCX_INGRESS, "6.6"),
    _exact("tc/egress", P.SCHED_CLS, A.TCX_EGRESS, "6.6"),
    _exact("tcx/ingress", P.SCHED_CLS, A.TCX_INGRESS, "6.6"),
    _exact("tcx/egress", P.SCHED_CLS, A.TCX_EGRESS, "6.6"),
    _exact("tc", P.SCHED_CLS, None, "4.1"),
    _exact("classifier", P.SCHED_CLS, None, "4.1"),
    _exact("action", P.SCHED_ACT, None, "4.1"),
    _exact("netkit/primary", P.SCHED_CLS, A.NETKIT_PRIMARY, "6.7"),
    _exact("netkit/peer", P.SCHED_CLS, A.NETKIT_PEER, "6.7"),
    # Tracepoints
    SectionDef("tracepoint", P.TRACEPOINT, prefix=True, since="4.7"),
    SectionDef("tp", P.TRACEPOINT, prefix=True, since="4.7"),
    SectionDef("raw_tracepoint", P.RAW_TRACEPOINT, prefix=True, since="4.17"),
    SectionDef("raw_tp", P.RAW_TRACEPOINT, prefix=True, since="4.17"),
    SectionDef("raw_tracepoint.w", P.RAW_TRACEPOINT_WRITABLE, prefix=True, since="5.2"),
    SectionDef("raw_tp.w", P.RAW_TRACEPOINT_WRITABLE, prefix=True, since="5.2"),
    # Trampolines, LSM, iterators: everything the kernel finds by a BTF id
    _trace("tp_btf", P.TRACING, A.TRACE_RAW_TP, "5.5"),
    _trace("fentry", P.TRACING, A.TRACE_FENTRY, "5.5"),
    _trace("fmod_ret", P.TRACING, A.MODIFY_RETURN, "5.7"),
    _trace("fexit", P.TRACING, A.TRACE_FEXIT, "5.5"),
    _trace("fsession", P.TRACING, A.TRACE_FSESSION, "7.0"),
    _trace("fentry.s", P.TRACING, A.TRACE_FENTRY, "5.10", sleepable=True),
    _trace("fmod_ret.s", P.TRACING, A.MODIFY_RETURN, "5.10", sleepable=True),
    _trace("fexit.s", P.TRACING, A.TRACE_FEXIT, "5.10", sleepable=True),
    _trace("fsession.s", P.TRACING, A.TRACE_FSESSION, "7.0", sleepable=True),
    SectionDef("fentry.multi", P.TRACING, A.TRACE_FENTRY_MULTI, prefix=True, since="7.2"),
    SectionDef("fexit.multi", P.TRACING, A.TRACE_FEXIT_MULTI, prefix=True, since="7.2"),
    SectionDef("fsession.multi", P.TRACING, A.TRACE_FSESSION_MULTI, prefix=True, since="7.2"),
    SectionDef("fentry.multi.s", P.TRACING, A.TRACE_FENTRY_MULTI, prefix=True, sleepable=True, since="7.2"),
    SectionDef("fexit.multi.s", P.TRACING, A.TRACE_FEXIT_MULTI, prefix=True, sleepable=True, since="7.2"),
    SectionDef("fsession.multi.s", P.TRACING, A.TRACE_FSESSION_MULTI, prefix=True, sleepable=True, since="7.2"),
    _trace("freplace", P.EXT, None, "5.6"),
    _trace("lsm", P.LSM, A.LSM_MAC, "5.7"),
    _trace("lsm.s", P.LSM, A.LSM_MAC, "5.10", sleepable=True),
    _trace("lsm_cgroup", P.LSM, A.LSM_CGROUP, "6.0"),
    _trace("iter", P.TRACING, A.TRACE_ITER, "5.8"),
    _trace("iter.s", P.TRACING, A.TRACE_ITER, "6.0", sleepable=True),
    SectionDef("syscall", P.SYSCALL, sleepable=True, since="5.14"),
    # XDP
    _xdp("xdp.frags/devmap", A.XDP_DEVMAP, "5.18", frags=True),
    _xdp("xdp/devmap", A.XDP_DEVMAP, "5.8"),
    _xdp("xdp.frags/cpumap", A.XDP_CPUMAP, "5.18", frags=True),
    _xdp("xdp/cpumap", A.XDP_CPUMAP, "5.9"),
    _xdp("xdp.frags", A.XDP, "5.18", frags=True),
    _xdp("xdp", A.XDP, "4.8", optional=True),
    # Perf events, lightweight tunnels
    _exact("perf_event", P.PERF_EVENT, None, "4.9"),
    _exact("lwt_in", P.LWT_IN, None, "4.10"),
    _exact("lwt_out", P.LWT_OUT, None, "4.10"),
    _exact("lwt_xmit", P.LWT_XMIT, None, "4.10"),
    _exact("lwt_seg6local", P.LWT_SEG6LOCAL, None, "4.18"),
    # Sockets
    _exact("sockops", P.SOCK_OPS, A.CGROUP_SOCK_OPS, "4.13", optional=True),
    _exact("sk_skb/stream_parser", P.SK_SKB, A.SK_SKB_STREAM_PARSER, "4.14", optional=True),
    _exact("sk_skb/stream_verdict", P.SK_SKB, A.SK_SKB_STREAM_VERDICT, "4.14", optional=True),
    _exact("sk_skb/verdict", P.SK_SKB, A.SK_SKB_VERDICT, "5.13", optional=True),
    _exact("sk_skb", P.SK_SKB, None, "4.14"),
    _exact("sk_msg", P.SK_MSG, A.SK_MSG_VERDICT, "4.17", optional=True),
    _exact("lirc_mode2", P.LIRC_MODE2, A.LIRC_MODE2, "4.18", optional=True),
    _exact("flow_dissector", P.FLOW_DISSECTOR, A.FLOW_DISSECTOR, "4.20", optional=True),
    # Control groups
    _exact("cgroup_skb/ingress", P.CGROUP_SKB, A.CGROUP_INET_INGRESS, "4.10", optional=True),
    _exact("cgroup_skb/egress", P.CGROUP_SKB, A.CGROUP_INET_EGRESS, "4.10", optional=True),
    _exact("cgroup/skb", P.CGROUP_SKB, None, "4.10"),
    _exact("cgroup/sock_create", P.CGROUP_SOCK, A.CGROUP_INET_SOCK_CREATE, "4.10"),
    _exact("cgroup/sock_release", P.CGROUP_SOCK, A.CGROUP_INET_SOCK_RELEASE, "5.9"),
    _exact("cgroup/sock", P.CGROUP_SOCK, A.CGROUP_INET_SOCK_CREATE, "4.10", optional=True),
    _exact("cgroup/post_bind4", P.CGROUP_SOCK, A.CGROUP_INET4_POST_BIND, "4.17"),
    _exact("cgroup/post_bind6", P.CGROUP_SOCK, A.CGROUP_INET6_POST_BIND, "4.17"),
    _exact("cgroup/bind4", P.CGROUP_SOCK_ADDR, A.CGROUP_INET4_BIND, "4.17"),
    _exact("cgroup/bind6", P.CGROUP_SOCK_ADDR, A.CGROUP_INET6_BIND, "4.17"),
    _exact("cgroup/connect4", P.CGROUP_SOCK_ADDR, A.CGROUP_INET4_CONNECT, "4.17"),
    _exact("cgroup/connect6", P.CGROUP_SOCK_ADDR, A.CGROUP_INET6_CONNECT, "4.17"),
    _exact("cgroup/connect_unix", P.CGROUP_SOCK_ADDR, A.CGROUP_UNIX_CONNECT, "6.7"),
    _exact("cgroup/sendmsg4", P.CGROUP_SOCK_ADDR, A.CGROUP_UDP4_SENDMSG, "4.18"),
    _exact("cgroup/sendmsg6", P.CGROUP_SOCK_ADDR, A.CGROUP_UDP6_SENDMSG, "4.18"),
    _exact("cgroup/sendmsg_unix", P.CGROUP_SOCK_ADDR, A.CGROUP_UNIX_SENDMSG, "6.7"),
    _exact("cgroup/recvmsg4", P.CGROUP_SOCK_ADDR, A.CGROUP_UDP4_RECVMSG, "5.2"),
    _exact("cgroup/recvmsg6", P.CGROUP_SOCK_ADDR, A.CGROUP_UDP6_RECVMSG, "5.2"),
    _exact("cgroup/recvmsg_unix", P.CGROUP_SOCK_ADDR, A.CGROUP_UNIX_RECVMSG, "6.7"),
    _exact("cgroup/getpeername4", P.CGROUP_SOCK_ADDR, A.CGROUP_INET4_GETPEERNAME, "5.8"),
    _exact("cgroup/getpeername6", P.CGROUP_SOCK_ADDR, A.CGROUP_INET6_GETPEERNAME, "5.8"),
    _exact("cgroup/getpeername_unix", P.CGROUP_SOCK_ADDR, A.CGROUP_UNIX_GETPEERNAME, "6.7"),
    _exact("cgroup/getsockname4", P.CGROUP_SOCK_ADDR, A.CGROUP_INET4_GETSOCKNAME, "5.8"),
    _exact("cgroup/getsockname6", P.CGROUP_SOCK_ADDR, A.CGROUP_INET6_GETSOCKNAME, "5.8"),
    _exact("cgroup/getsockname_unix", P.CGROUP_SOCK_ADDR, A.CGROUP_UNIX_GETSOCKNAME, "6.7"),
    _exact("cgroup/sysctl", P.CGROUP_SYSCTL, A.CGROUP_SYSCTL, "5.2"),
    _exact("cgroup/getsockopt", P.CGROUP_SOCKOPT, A.CGROUP_GETSOCKOPT, "5.3"),
    _exact("cgroup/setsockopt", P.CGROUP_SOCKOPT, A.CGROUP_SETSOCKOPT, "5.3"),
    _exact("cgroup/dev", P.CGROUP_DEVICE, A.CGROUP_DEVICE, "4.15", optional=True),
    # Kernel interfaces implemented in BPF, socket lookup, netfilter
    SectionDef("struct_ops", P.STRUCT_OPS, prefix=True, since="5.6"),
    SectionDef("struct_ops.s", P.STRUCT_OPS, prefix=True, sleepable=True, since="5.19"),
    _exact("sk_lookup", P.SK_LOOKUP, A.SK_LOOKUP, "5.9"),
    _exact("netfilter", P.NETFILTER, A.NETFILTER, "6.4"),
)

_BY_NAME: dict[str, SectionDef] = {definition.name: definition for definition in SECTIONS}


def match(section_name: str) -> SectionMatch | None:
    """Take a section name apart; None when it does not name a program.

    >>> found = match("?tp/sched/sched_switch")
    >>> found.definition.program_type.name, found.target, found.autoload
    ('TRACEPOINT', 'sched/sched_switch', False)
    """
    autoload = not section_name.startswith("?")
    name = section_name if autoload else section_name[1:]
    exact = _BY_NAME.get(name)
    if exact is not None:
        return SectionMatch(exact, "", autoload)
    head, slash, target = name.partition("/")
    definition = _BY_NAME.get(head)
    if definition is None or not slash or not definition.prefix:
        return None
    return SectionMatch(definition, target, autoload)


def unknown(section_name: str) -> str:
    """What to do about a section name that means nothing, as a clause to put after a semicolon.

    >>> unknown("tracepont/sched/sched_switch")
    'did you mean SEC("tracepoint/sched/sched_switch")?'
    """
    import difflib

    head, slash, target = section_name.removeprefix("?").partition("/")
    whole = difflib.get_close_matches(section_name.removeprefix("?"), _BY_NAME, 1, 0.8)
    near = difflib.get_close_matches(head, [name for name, each in _BY_NAME.items() if each.prefix == bool(slash)], 1)
    if (whole or near) and match(section_name) is None:
        return f'did you mean SEC("{whole[0] if whole else near[0] + slash + target}")?'
    return "correct SEC(...) or set the program's `type` before loading"


def lookup(section_name: str) -> SectionDef | None:
    """The definition a section name stands for (its target and a leading ``?`` left aside), or None.

    >>> lookup("xdp.frags/devmap").attach_type.name
    'XDP_DEVMAP'
    >>> lookup(".text") is None
    True
    """
    found = match(section_name)
    return found.definition if found is not None else None

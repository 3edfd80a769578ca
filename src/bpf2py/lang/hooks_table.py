"""Hooks: the decorator of each SEC() name in the section table, and what its programs are given."""

from __future__ import annotations

import re

from bpf2py.uapi.program_types import ProgramType as P
from bpf2py.uapi.sections import SECTIONS, SectionDef

__all__ = ["CONTEXTS", "CONTEXT_CLASSES", "HOOKS", "context_struct", "decorator_name", "macro_of"]


def decorator_name(section: str) -> str:
    """The Python name of a section's decorator: ``cgroup/connect4`` is ``cgroup_connect4``, ``fentry.s`` ``fentry_s``."""
    return re.sub(r"[./]", "_", section)


HOOKS: dict[str, SectionDef] = {decorator_name(each.name): each for each in SECTIONS}

# The context's struct by program type, as the UAPI header linux/bpf.h documents it.
CONTEXTS: dict[P, str] = {
    P.XDP: "xdp_md", P.SCHED_CLS: "__sk_buff", P.SCHED_ACT: "__sk_buff", P.SOCKET_FILTER: "__sk_buff",
    P.CGROUP_SKB: "__sk_buff", P.LWT_IN: "__sk_buff", P.LWT_OUT: "__sk_buff", P.LWT_XMIT: "__sk_buff",
    P.LWT_SEG6LOCAL: "__sk_buff", P.SK_SKB: "__sk_buff", P.FLOW_DISSECTOR: "__sk_buff", P.SOCK_OPS: "bpf_sock_ops",
    P.SK_MSG: "sk_msg_md", P.CGROUP_SOCK: "bpf_sock", P.CGROUP_SOCK_ADDR: "bpf_sock_addr", P.CGROUP_SYSCTL: "bpf_sysctl",
    P.CGROUP_SOCKOPT: "bpf_sockopt", P.CGROUP_DEVICE: "bpf_cgroup_dev_ctx", P.SK_LOOKUP: "bpf_sk_lookup",
    P.SK_REUSEPORT: "sk_reuseport_md", P.NETFILTER: "bpf_nf_ctx", P.PERF_EVENT: "bpf_perf_event_data", P.KPROBE: "pt_regs",
    P.RAW_TRACEPOINT: "bpf_raw_tracepoint_args", P.RAW_TRACEPOINT_WRITABLE: "bpf_raw_tracepoint_args",
}  # fmt: skip


# The same by the classes that programs annotate their contexts with; empty where the hook alone says what it is.
CONTEXT_CLASSES: dict[str, str] = {
    "Context": "", "TracepointContext": "", "IterContext": "", "XdpContext": "xdp_md", "SkbContext": "__sk_buff",
    "KprobeContext": "pt_regs", "RawTracepointContext": "bpf_raw_tracepoint_args", "SockOpsContext": "bpf_sock_ops",
    "SkMsgContext": "sk_msg_md", "SockContext": "bpf_sock", "SockAddrContext": "bpf_sock_addr",
    "SysctlContext": "bpf_sysctl", "SockoptContext": "bpf_sockopt", "DeviceContext": "bpf_cgroup_dev_ctx",
    "SkLookupContext": "bpf_sk_lookup", "ReuseportContext": "sk_reuseport_md", "NetfilterContext": "bpf_nf_ctx",
    "PerfEventContext": "bpf_perf_event_data",
}  # fmt: skip


def context_struct(definition: SectionDef, target: str) -> list[str]:
    """Names that the kernel's BTF may have of the context's struct, the likeliest first."""
    if definition.program_type == P.TRACEPOINT:
        category, _, event = target.partition("/")
        if category == "syscalls":
            return [f"trace_event_raw_sys_{'exit' if event.startswith('sys_exit') else 'enter'}"]
        return [f"trace_event_raw_{event}", f"trace_event_raw_{event}_template", *_classes(event)]
    if definition.name.startswith("iter"):
        return [f"bpf_iter__{target}"]
    found = CONTEXTS.get(definition.program_type)
    return [found] if found is not None else []


def _classes(event: str) -> list[str]:
    # Events of one class share its struct: sched_wakeup has that of sched_wakeup_template.
    parts = event.split("_")
    return [
        f"trace_event_raw_{'_'.join(parts[:n])}{tail}"
        for n in range(len(parts) - 1, 0, -1)
        for tail in ("", "_template")
    ]


def macro_of(definition: SectionDef) -> str:
    """The macro that gives a program its hook's arguments one by one; empty where it is given its context only."""
    kind = definition.program_type
    if kind in (
        P.TRACING,
        P.LSM,
        P.STRUCT_OPS,
        P.RAW_TRACEPOINT,
        P.RAW_TRACEPOINT_WRITABLE,
    ) and not definition.name.startswith("iter"):
        return "BPF_PROG"
    if kind == P.KPROBE:
        name = definition.name
        if name.startswith("usdt"):
            return "BPF_USDT"
        if name.startswith("ksyscall"):
            return "BPF_KSYSCALL"
        if name.startswith(("kret", "uret")):
            return "BPF_KRETPROBE"
        return "BPF_KPROBE"
    return ""

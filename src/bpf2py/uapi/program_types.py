"""Program types and attach types by the kernel's own names and numbers.

Source of facts: ``enum bpf_prog_type`` and ``enum bpf_attach_type`` of the UAPI header linux/bpf.h; the versions
are those of the first kernel release that has the enumerator.
"""

from __future__ import annotations

from bpf2py.uapi.enums import KernelEnum

__all__ = ["TRACING_MULTI", "AttachType", "ProgramType", "program_type_name"]


class ProgramType(KernelEnum):
    """``enum bpf_prog_type``: what a program is given as its context and which helpers it may call."""

    UNSPEC = 0
    SOCKET_FILTER = 1
    KPROBE = 2
    SCHED_CLS = 3
    SCHED_ACT = 4
    TRACEPOINT = 5
    XDP = 6
    PERF_EVENT = 7
    CGROUP_SKB = 8
    CGROUP_SOCK = 9
    LWT_IN = 10
    LWT_OUT = 11
    LWT_XMIT = 12
    SOCK_OPS = 13
    SK_SKB = 14
    CGROUP_DEVICE = 15
    SK_MSG = 16
    RAW_TRACEPOINT = 17
    CGROUP_SOCK_ADDR = 18
    LWT_SEG6LOCAL = 19
    LIRC_MODE2 = 20
    SK_REUSEPORT = 21
    FLOW_DISSECTOR = 22
    CGROUP_SYSCTL = 23
    RAW_TRACEPOINT_WRITABLE = 24
    CGROUP_SOCKOPT = 25
    TRACING = 26
    STRUCT_OPS = 27
    EXT = 28
    LSM = 29
    SK_LOOKUP = 30
    SYSCALL = 31
    NETFILTER = 32

    @property
    def since(self) -> str | None:
        """The first kernel release that has this program type, such as ``"4.7"``; None for UNSPEC."""
        return _PROGRAM_SINCE.get(self.value)

    @property
    def kernel_name(self) -> str:
        """The enumerator's full name, such as ``"BPF_PROG_TYPE_XDP"``."""
        return f"BPF_PROG_TYPE_{self.name}"


class AttachType(KernelEnum):
    """``enum bpf_attach_type``: the hook a program is written for, where its program type alone does not say."""

    CGROUP_INET_INGRESS = 0
    CGROUP_INET_EGRESS = 1
    CGROUP_INET_SOCK_CREATE = 2
    CGROUP_SOCK_OPS = 3
    SK_SKB_STREAM_PARSER = 4
    SK_SKB_STREAM_VERDICT = 5
    CGROUP_DEVICE = 6
    SK_MSG_VERDICT = 7
    CGROUP_INET4_BIND = 8
    CGROUP_INET6_BIND = 9
    CGROUP_INET4_CONNECT = 10
    CGROUP_INET6_CONNECT = 11
    CGROUP_INET4_POST_BIND = 12
    CGROUP_INET6_POST_BIND = 13
    CGROUP_UDP4_SENDMSG = 14
    CGROUP_UDP6_SENDMSG = 15
    LIRC_MODE2 = 16
    FLOW_DISSECTOR = 17
    CGROUP_SYSCTL = 18
    CGROUP_UDP4_RECVMSG = 19
    CGROUP_UDP6_RECVMSG = 20
    CGROUP_GETSOCKOPT = 21
    CGROUP_SETSOCKOPT = 22
    TRACE_RAW_TP = 23
    TRACE_FENTRY = 24
    TRACE_FEXIT = 25
    MODIFY_RETURN = 26
    LSM_MAC = 27
    TRACE_ITER = 28
    CGROUP_INET4_GETPEERNAME = 29
    CGROUP_INET6_GETPEERNAME = 30
    CGROUP_INET4_GETSOCKNAME = 31
    CGROUP_INET6_GETSOCKNAME = 32
    XDP_DEVMAP = 33
    CGROUP_INET_SOCK_RELEASE = 34
    XDP_CPUMAP = 35
    SK_LOOKUP = 36
    XDP = 37
    SK_SKB_VERDICT = 38
    SK_REUSEPORT_SELECT = 39
    SK_REUSEPORT_SELECT_OR_MIGRATE = 40
    PERF_EVENT = 41
    TRACE_KPROBE_MULTI = 42
    LSM_CGROUP = 43
    STRUCT_OPS = 44
    NETFILTER = 45
    TCX_INGRESS = 46
    TCX_EGRESS = 47
    TRACE_UPROBE_MULTI = 48
    CGROUP_UNIX_CONNECT = 49
    CGROUP_UNIX_SENDMSG = 50
    CGROUP_UNIX_RECVMSG = 51
    CGROUP_UNIX_GETPEERNAME = 52
    CGROUP_UNIX_GETSOCKNAME = 53
    NETKIT_PRIMARY = 54
    NETKIT_PEER = 55
    TRACE_KPROBE_SESSION = 56
    TRACE_UPROBE_SESSION = 57
    TRACE_FSESSION = 58
    TRACE_FENTRY_MULTI = 59
    TRACE_FEXIT_MULTI = 60
    TRACE_FSESSION_MULTI = 61

    @property
    def since(self) -> str | None:
        """The first kernel release that has this attach type; None when unknown."""
        return _ATTACH_SINCE.get(self.value)

    @property
    def kernel_name(self) -> str:
        """The enumerator's full name, such as ``"BPF_TRACE_FENTRY"``."""
        return f"BPF_{self.name}"


# Trampoline programs that one link attaches to many functions.
TRACING_MULTI = (AttachType.TRACE_FENTRY_MULTI, AttachType.TRACE_FEXIT_MULTI, AttachType.TRACE_FSESSION_MULTI)

# Newest first would be easier to extend, but the enum's own order is easier to check against the header.
_PROGRAM_SINCE: dict[int, str] = {
    1: "3.19",
    2: "4.1",
    3: "4.1",
    4: "4.1",
    5: "4.7",
    6: "4.8",
    7: "4.9",
    **dict.fromkeys(range(8, 13), "4.10"),
    13: "4.13",
    14: "4.14",
    15: "4.15",
    16: "4.17",
    17: "4.17",
    18: "4.17",
    19: "4.18",
    20: "4.18",
    21: "4.19",
    22: "4.20",
    23: "5.2",
    24: "5.2",
    25: "5.3",
    26: "5.5",
    27: "5.6",
    28: "5.6",
    29: "5.7",
    30: "5.9",
    31: "5.14",
    32: "6.4",
}

_ATTACH_SINCE: dict[int, str] = {
    0: "4.10",
    1: "4.10",
    2: "4.10",
    3: "4.13",
    4: "4.14",
    5: "4.14",
    6: "4.15",
    **dict.fromkeys(range(7, 14), "4.17"),
    14: "4.18",
    15: "4.18",
    16: "4.18",
    17: "4.20",
    18: "5.2",
    19: "5.2",
    20: "5.2",
    21: "5.3",
    22: "5.3",
    23: "5.5",
    24: "5.5",
    25: "5.5",
    26: "5.7",
    27: "5.7",
    **dict.fromkeys(range(28, 34), "5.8"),
    **dict.fromkeys(range(34, 38), "5.9"),
    38: "5.13",
    39: "5.14",
    40: "5.14",
    41: "5.15",
    42: "5.18",
    43: "6.0",
    44: "6.4",
    45: "6.4",
    46: "6.6",
    47: "6.6",
    48: "6.6",
    **dict.fromkeys(range(49, 56), "6.7"),
    56: "6.10",
    57: "6.13",
    58: "7.0",
    **dict.fromkeys(range(59, 62), "7.2"),
}


def program_type_name(number: int) -> str:
    """The name of a program type; the number of one that is newer than this library."""
    try:
        return ProgramType(number).name
    except ValueError:
        return str(number)

"""``bpf2py run -e``: C text without the lines every program begins with, and ``SEC("...") { body }`` in place of functions."""

from __future__ import annotations

import re

from bpf2py.btf.vmlinux import vmlinux
from bpf2py.errors import BpfError
from bpf2py.uapi.program_types import ProgramType as P
from bpf2py.uapi.sections import match

__all__ = ["program"]

_BODY = re.compile(r'SEC\s*\(\s*"(?P<section>[^"\n]+)"\s*\)\s*\{')
_LICENSE = re.compile(r'SEC\s*\(\s*"license"\s*\)')
# What the context is for a program type, where it is always the same.
_CONTEXTS = {
    P.KPROBE: "struct pt_regs", P.XDP: "struct xdp_md", P.SCHED_CLS: "struct __sk_buff", P.SOCKET_FILTER: "struct __sk_buff",
    P.CGROUP_SKB: "struct __sk_buff", P.SK_SKB: "struct __sk_buff", P.RAW_TRACEPOINT: "struct bpf_raw_tracepoint_args",
    P.PERF_EVENT: "struct bpf_perf_event_data", P.SOCK_OPS: "struct bpf_sock_ops", P.CGROUP_SOCK: "struct bpf_sock",
    P.CGROUP_SOCK_ADDR: "struct bpf_sock_addr", P.CGROUP_SOCKOPT: "struct bpf_sockopt", P.CGROUP_SYSCTL: "struct bpf_sysctl",
    P.CGROUP_DEVICE: "struct bpf_cgroup_dev_ctx", P.SK_LOOKUP: "struct bpf_sk_lookup", P.SK_MSG: "struct sk_msg_md",
    P.TRACING: "unsigned long long", P.LSM: "unsigned long long",
}  # fmt: skip
# What a body that does not return means: let it pass.
_RETURNS = {
    P.XDP: "2", P.SCHED_CLS: "-1", P.SOCKET_FILTER: "0x7fffffff", P.CGROUP_SKB: "1", P.CGROUP_SOCK: "1", P.CGROUP_SOCK_ADDR: "1",
    P.CGROUP_SOCKOPT: "1", P.CGROUP_SYSCTL: "1", P.CGROUP_DEVICE: "1", P.SOCK_OPS: "1", P.SK_LOOKUP: "1",
    P.SK_MSG: "1", P.SK_SKB: "1",
}  # fmt: skip
_TRACEPOINTS = {"sys_enter_": "struct trace_event_raw_sys_enter", "sys_exit_": "struct trace_event_raw_sys_exit"}
_KERNEL_TYPES = '#include "vmlinux.h"'
_NO_KERNEL_TYPES = "#include <linux/bpf.h>\n#include <linux/ptrace.h>"
_HEADERS = """\
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
"""


def program(text: str) -> str:
    """The whole source.

    A body gets its context as ``ctx``, typed as its section says, and lets everything pass where it does not return. The kernel's
    types are there where it has BTF, else those of ``<linux/bpf.h>``.

    Raises BpfError for a section without a meaning, or braces that do not match.
    """
    types = _kernel_types()
    parts, at, number = [], 0, 0
    while (found := _BODY.search(text, at)) is not None:
        end = _closing(text, found.end())
        name = f"program_{number}" if number else "program"
        parts += [text[at : found.start()], _function(found["section"], name, text[found.end() : end - 1], types)]
        at, number = end, number + 1
    parts.append(text[at:])
    body = "".join(parts)
    license_ = "" if _LICENSE.search(body) else '\nchar LICENSE[] SEC("license") = "GPL";\n'
    head = _KERNEL_TYPES if types is not None else _NO_KERNEL_TYPES
    return f'{head}\n{_HEADERS}#line 1 "-e"\n{body}\n{license_}'


def _kernel_types() -> set[str] | None:
    """The names of the structs of tracepoints, None where the kernel has no BTF."""
    try:
        return set(vmlinux().names_with_prefix("trace_event_raw_"))
    except (BpfError, OSError):
        return None


def _closing(text: str, at: int) -> int:
    """Where the block that begins before `at` ends; strings, characters and comments are skipped."""
    depth, skip = 1, re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|//[^\n]*|/\*.*?\*/|[{}]', re.DOTALL)
    for found in skip.finditer(text, at):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if not depth:
            return found.end()
    raise BpfError("-e: a { is not closed")


def _function(section: str, name: str, body: str, types: set[str] | None) -> str:
    found = match(section)
    if found is None:
        raise BpfError(f"-e: SEC({section!r}) is not the section name of a program")
    kind = found.definition.program_type
    context = _context(kind, found.target, types)
    result = _RETURNS.get(kind, "0")
    return f'SEC("{section}") int {name}({context} *ctx) {{ {body}; return {result}; }}\n'


def _context(kind: P, target: str, types: set[str] | None) -> str:
    if kind != P.TRACEPOINT:
        return _CONTEXTS.get(kind, "void")
    event = target.rpartition("/")[2]
    if types is not None:
        for prefix, struct in _TRACEPOINTS.items():
            if event.startswith(prefix):
                return struct
        if f"trace_event_raw_{event}" in types:
            return f"struct trace_event_raw_{event}"
    return "void"

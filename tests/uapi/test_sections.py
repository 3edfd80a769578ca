from __future__ import annotations

import importlib.util
import re
from enum import IntEnum
from pathlib import Path

import pytest

from bpf2py.uapi.program_types import AttachType, ProgramType
from bpf2py.uapi.sections import SECTIONS, lookup, match


def uapi_header() -> str:
    spec = importlib.util.find_spec("ziglang")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    root = Path(spec.submodule_search_locations[0])
    return (root / "lib/libc/include/any-linux-any/linux/bpf.h").read_text()


def header_enum(name: str) -> list[str]:
    found = re.search(rf"enum {name} \{{(.*?)\}};", uapi_header(), re.DOTALL)
    assert found is not None
    body = re.sub(r"/\*.*?\*/", "", found[1], flags=re.DOTALL)
    return [item.strip() for item in body.split(",") if item.strip() and "MAX" not in item]


@pytest.mark.parametrize(
    ("enum", "kernel_enum"), [(ProgramType, "bpf_prog_type"), (AttachType, "bpf_attach_type")], ids=["prog", "attach"]
)
def test_numbers_are_those_of_the_uapi_header(enum: type[IntEnum], kernel_enum: str) -> None:
    ours = {member.kernel_name: int(member) for member in enum}  # type: ignore[attr-defined]
    theirs = {name: number for number, name in enumerate(header_enum(kernel_enum)) if "=" not in name}
    newest_known = len(ours)
    # A newer header may have more; what it has in our range must be the same.
    assert {name: number for name, number in theirs.items() if number < newest_known} == ours


def test_every_type_has_a_version() -> None:
    assert [t.name for t in ProgramType if t.since is None] == ["UNSPEC"]
    assert [t.name for t in AttachType if t.since is None] == []
    assert ProgramType.SYSCALL.since == "5.14"
    assert AttachType.NETKIT_PEER.since == "6.7"


@pytest.mark.parametrize(
    ("section", "program", "attach", "target"),
    [
        ("tracepoint/syscalls/sys_enter_openat", "TRACEPOINT", None, "syscalls/sys_enter_openat"),
        ("tp/sched/sched_switch", "TRACEPOINT", None, "sched/sched_switch"),
        ("tp", "TRACEPOINT", None, ""),
        ("raw_tp/sys_enter", "RAW_TRACEPOINT", None, "sys_enter"),
        ("raw_tracepoint.w/x", "RAW_TRACEPOINT_WRITABLE", None, "x"),
        ("tp_btf/sched_switch", "TRACING", "TRACE_RAW_TP", "sched_switch"),
        ("kprobe/do_unlinkat+0x10", "KPROBE", None, "do_unlinkat+0x10"),
        ("kprobe.multi/tcp_*", "KPROBE", "TRACE_KPROBE_MULTI", "tcp_*"),
        ("uprobe//usr/bin/bash:readline", "KPROBE", None, "/usr/bin/bash:readline"),
        ("xdp", "XDP", "XDP", ""),
        ("xdp.frags/cpumap", "XDP", "XDP_CPUMAP", ""),
        ("tc", "SCHED_CLS", None, ""),
        ("tc/ingress", "SCHED_CLS", "TCX_INGRESS", ""),
        ("cgroup/connect_unix", "CGROUP_SOCK_ADDR", "CGROUP_UNIX_CONNECT", ""),
        ("cgroup_skb/egress", "CGROUP_SKB", "CGROUP_INET_EGRESS", ""),
        ("sk_skb", "SK_SKB", None, ""),
        ("struct_ops.s/init", "STRUCT_OPS", None, "init"),
        ("lsm_cgroup/socket_bind", "LSM", "LSM_CGROUP", "socket_bind"),
    ],
)
def test_match(section: str, program: str, attach: str | None, target: str) -> None:
    found = match(section)
    assert found is not None
    assert found.definition.program_type.name == program
    assert (found.definition.attach_type.name if found.definition.attach_type is not None else None) == attach
    assert found.target == target
    assert found.autoload
    optional = match("?" + section)
    assert optional == found._replace(autoload=False)


@pytest.mark.parametrize("section", [".text", ".maps", "license", "xdp/foo", "tc/foo", "xdpx", "tpx/a", "", "?", "/tp"])
def test_other_sections_are_no_programs(section: str) -> None:
    assert lookup(section) is None


def test_flags() -> None:
    syscall, iter_s, frags = lookup("syscall"), lookup("iter.s/task"), lookup("xdp.frags")
    assert syscall is not None
    assert iter_s is not None
    assert frags is not None
    assert syscall.sleepable
    assert not syscall.attach_btf
    assert iter_s.sleepable
    assert iter_s.attach_btf
    assert frags.frags
    sleepable = {d.name for d in SECTIONS if d.sleepable}
    assert {name for name in (d.name for d in SECTIONS) if name.endswith(".s")} == sleepable - {"syscall"}
    assert all(d.prefix for d in SECTIONS if d.attach_btf)


def test_a_section_is_not_older_than_its_types() -> None:
    def key(version: str | None) -> tuple[int, ...]:
        return tuple(int(part) for part in (version or "0").split("."))

    assert len({d.name for d in SECTIONS}) == len(SECTIONS) >= 105
    for d in SECTIONS:
        assert key(d.since) >= key(d.program_type.since), d
        # The older of these hooks loaded without an attach type before the kernel had a name for it.
        if d.attach_type is not None and d.name not in {"xdp", "sk_reuseport"}:
            assert key(d.since) >= key(d.attach_type.since), d

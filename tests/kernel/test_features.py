"""Feature probes agree with the kernel's version."""

from __future__ import annotations

import pytest

from bpf2py import features
from bpf2py.btf.vmlinux import vmlinux
from bpf2py.kernel.syscall import older_than
from bpf2py.uapi.map_types import MAP_TYPE_INFO, MapType
from bpf2py.uapi.program_types import ProgramType

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("kind", MAP_TYPE_INFO, ids=lambda kind: kind.name)
def test_map_types(kind: MapType) -> None:
    answer = features.map_type(kind)
    assert answer is not None
    assert answer is not older_than(MAP_TYPE_INFO[kind].since)


@pytest.mark.parametrize("name", ["xdp", "tracepoint", "sched_cls", "tracing", "sk_lookup", "syscall", "netfilter"])
def test_program_types(name: str) -> None:
    since = ProgramType[name.upper()].since
    assert since is not None
    assert features.program_type(name) is not older_than(since)


def test_helpers_by_program_type() -> None:
    assert features.helper("bpf_map_lookup_elem", "xdp") is True
    assert features.helper("bpf_skb_load_bytes", "xdp") is False
    assert features.helper("bpf_ringbuf_output", "tracepoint") is True
    assert features.helper("bpf_get_current_task_btf", "tracing") is True
    assert features.helper("bpf_skb_store_bytes", "tracing") is False


@pytest.mark.since("6.2")
def test_kernel_functions() -> None:
    # Whether functions are marked in BTF depends on what the kernel was built with, from 6.10 on.
    marked = bool(vmlinux().ids_by_name("bpf_kfunc"))
    assert features.kfunc("bpf_rcu_read_lock") is (True if marked else None)
    assert features.kfunc("schedule") is (False if marked else None), "a function, but none for programs"
    assert features.kfunc("there_is_no_such_function") is False


def test_map_flags() -> None:
    assert features.map_flag("mmapable", "array") is True
    assert features.map_flag("no_prealloc", "array") is False


def test_unknown_names() -> None:
    with pytest.raises(KeyError):
        features.map_type("no such type")

"""What kernels after 6.18 brought, in a virtual machine with Linux 7.2; and the oldest kernel that is supported, 5.10."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import bpf2py
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import DeclTag, Kind
from bpf2py.errors import GuestError
from bpf2py.spec.needs import release_key
from bpf2py.testing import Guest
from bpf2py.uapi.kfuncs import KFUNC_SINCE

HERE = Path(__file__).parent
SOURCE, WRONG, PRINTING = "/root/newest.o", "/root/wrong.o", "/root/streams.bpf.o"
BY_CONTEXT = """#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
SEC("fentry.multi/vfs_unlink") int BPF_PROG(f, u64 first) { return first == 1; }
char LICENSE[] SEC("license") = "GPL";
"""
STREAMS = """#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
int failed;
SEC("syscall") int print(void *ctx)
{
    failed |= bpf_stream_printk(BPF_STDOUT, "plain\\n");
    failed |= bpf_stream_printk(BPF_STDOUT, "%d %s %llx\\n", -7, "text", 1ULL << 40);
    failed |= bpf_stream_printk(BPF_STDERR, "wrong\\n");
    return 0;
}
SEC("tp/syscalls/sys_enter_getppid") int on_getppid(void *ctx)
{
    return bpf_stream_printk(BPF_STDOUT, "somebody asks\\n");
}
char LICENSE[] SEC("license") = "GPL";
"""
EXAMPLES = sorted((HERE.parents[1] / "examples").glob("*.bpf.c"))


def started(start_guest: Callable[..., Guest], kernel: str, **options: Any) -> Guest:
    try:
        return start_guest(kernel, **options)
    except GuestError as error:
        if "no release of Debian has it" not in str(error):
            raise
        pytest.skip(str(error))  # releases come and go


@pytest.fixture(scope="module")
def newest(start_guest: Callable[..., Guest]) -> Iterator[Guest]:
    files: dict[str, bytes | Path] = {
        SOURCE: bpf2py.compile(HERE / "newest.bpf.c"),
        WRONG: bpf2py.compile(BY_CONTEXT),
        PRINTING: bpf2py.compile(STREAMS),
        "/opt/bpf2py/in_newest_guest.py": HERE / "in_newest_guest.py",
    }
    with started(start_guest, "7.2", files=files, packages=["numpy"]) as guest:
        yield guest


@pytest.fixture(scope="module")
def call(newest: Guest) -> Callable[..., Any]:
    return lambda function, **arguments: cast("Any", newest.call(f"in_newest_guest:{function}", **arguments))


def test_trampolines_of_many_functions_and_sessions(call: Callable[..., Any]) -> None:
    found = call("trampolines", source=SOURCE)
    assert {name: found[name] for name in ("entries", "exits", "sessions", "returned", "arguments")} == {
        "entries": 1,
        "exits": 1,
        "sessions": 202,  # one call of each when it is entered, one when it returns
        "returned": 0,
        "arguments": 4,
    }
    assert found["pointer"]
    assert found["links"] == [
        ["fentry.multi/vfs_unlin*", "tracing_multi"],
        ["fexit.multi/vmlinux:security_path_unlink", "tracing_multi"],
        ["fsession/security_path_unlink", "tracing"],
        ["fsession.multi/security_path_unlink", "tracing_multi"],
    ]
    assert found["count"] in (None, 2)  # which Linux tells since 7.3
    assert (found["both cookies"], found["counted"]) == (11, 3)
    refused = list(found["refused"].values())
    assert "the kernel has no function 'no_such' in its BTF" in refused[0]
    assert "2 cookies for 1 functions" in refused[1]
    assert "no kernel function with a type in BTF matches 'nothing_like_*'" in refused[2]
    assert "a function is named twice" in refused[3]


def test_what_the_verifier_says_of_their_arguments(call: Callable[..., Any]) -> None:
    assert "read them by bpf_get_func_arg(ctx, n, &value)" in call("arguments_by_the_context", source=WRONG)


def test_a_resizable_hash_is_a_hash_map(call: Callable[..., Any]) -> None:
    found = call("resizable_hash")
    assert found.pop("full").startswith("MapFull: ")
    assert found == {"count": 100, "sum": 14850, "5": None, "array": 100, "popped": 21, "left": 0}


def test_what_programs_print_into_their_streams(call: Callable[..., Any]) -> None:
    found = call("streams", source=PRINTING)
    plain = "plain\n-7 text 10000000000\n"
    assert (found["failed"], found["stdout"], found["stderr"], found["again"]) == (0, plain, "wrong\n", "")
    assert 50_000 < found["most"] <= 100_000  # what is printed into a full stream is lost
    assert found["command"].startswith(plain)
    assert ["on_getppid", "stdout", "somebody asks"] in found["run"]


def test_the_examples_load_and_attach_to_the_newest(newest: Guest) -> None:
    for path in EXAMPLES:
        for report in newest.verify(path, attach=True):
            assert report.loads, report.error
            assert report.attached in (True, None), report.attach_error


def test_the_oldest_linux(start_guest: Callable[..., Guest]) -> None:
    """Programs load there, or the reason names what they need; larger maps than RLIMIT_MEMLOCK allows included."""
    with started(start_guest, "5.10") as guest:
        for path in EXAMPLES:
            for report in guest.verify(path, attach=True):
                if report.needs:
                    assert not report.loads
                    assert report.error
                else:
                    assert report.loads, f"{path.name} {report.program}: {report.error}"
                    assert report.attached in (True, None), report.attach_error


def test_the_table_of_kfuncs_is_what_the_newest_has(newest: Guest) -> None:
    """Those of the core, whatever its configuration; and none that the table says came later."""
    types = Btf(newest.read("/sys/kernel/btf/vmlinux"), None, "vmlinux")
    there = set()
    for number in types.ids_of_kind(Kind.DECL_TAG):
        tag = types.type(number)
        if isinstance(tag, DeclTag) and tag.name == "bpf_kfunc":
            there.add(types.type(tag.type_id).name)
    here = release_key(newest.release)
    later = {name for name, since in KFUNC_SINCE.items() if release_key(since) > here}
    assert there & later == set()
    new = {name for name, since in KFUNC_SINCE.items() if (6, 19) <= release_key(since) <= here}
    # Functions of schedulers, networking and power management come and go with the configuration.
    core = {
        name for name in new if name.startswith(("bpf_list", "bpf_obj", "bpf_percpu", "bpf_str", "bpf_task", "bpf_wq"))
    }
    assert len(core) > 15
    assert core - there == set()

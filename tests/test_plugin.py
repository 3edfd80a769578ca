"""The pytest plugin, as test authors use it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PROGRAM = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 10);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");
int opens;
SEC("tracepoint/syscalls/sys_enter_openat") int count(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 now = bpf_ktime_get_ns();

	opens++;
	bpf_printk("pid %d", pid);
	return bpf_map_update_elem(&seen, &pid, &now, BPF_ANY);
}
SEC("xdp") int drop(struct xdp_md *ctx) { return XDP_DROP; }
char LICENSE[] SEC("license") = "GPL";
"""
TESTS = """
import pytest
from bpf2py.engine import Task

def test_five_lines(bpf2py):
    obj = bpf2py.load("opens.bpf.c")
    bpf2py.fire("tracepoint/syscalls/sys_enter_openat")
    assert obj.variables["opens"].value == 1

def test_maps_are_fresh_and_time_stands_still(bpf2py):
    obj = bpf2py.load("opens.bpf.c")
    assert obj.variables["opens"].value == 0
    bpf2py.advance(2.5)
    bpf2py.fire("tp/syscalls/sys_enter_openat")
    assert dict(obj.maps["seen"].items()) == {1000: 3_500_000_000}
    assert bpf2py.now == 3_500_000_000
    assert bpf2py.trace == ["pid 1000"]

def test_the_package_is_not_hidden(bpf2py):
    obj = bpf2py.load("opens.bpf.c", variables={"opens": 5}, max_entries={"seen": 3})
    with pytest.raises(bpf2py.KeyNotFound):
        obj.maps["seen"][1]
    assert isinstance(obj.maps["seen"], bpf2py.maps.LruHashMap)
    assert (obj.variables["opens"].value, obj.maps["seen"].max_entries) == (5, 3)
    with pytest.raises(AttributeError):
        bpf2py.nonsense

def test_another_task(bpf2py):
    obj = bpf2py.load("opens.bpf.c")
    bpf2py.task = Task(7)
    bpf2py.fire("tp/syscalls/sys_enter_openat")
    assert list(obj.maps["seen"]) == [7]

@pytest.mark.bpf2py(kernel="6.1", possible_cpus=6)
def test_another_machine(bpf2py):
    obj = bpf2py.load("opens.bpf.c")
    for pid in range(11):
        bpf2py.task = Task(pid)
        bpf2py.fire("tp/syscalls/sys_enter_openat")
    assert list(obj.maps["seen"]) == [10]  # the old LRU lists keep one of ten

def test_a_packet(bpf2py):
    bpf2py.load("opens.bpf.c")
    with bpf2py.cpu(2):
        assert bpf2py.run("drop", data=bytes(64)).return_value == 1

def test_what_is_not_there(bpf2py):
    bpf2py.load("opens.bpf.c")
    with pytest.raises(LookupError, match="no program is attached to kprobe/x; there are: tracepoint/syscalls/sys_enter_openat"):
        bpf2py.fire("kprobe/x")
    with pytest.raises(KeyError, match="no program 'pass'"):
        bpf2py.run("pass")
    with pytest.raises(FileNotFoundError):
        bpf2py.load("none.bpf.c")
"""


def test_the_fixture(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makefile(".bpf.c", opens=PROGRAM)
    pytester.makepyfile(TESTS)
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--strict-markers", "-W", "error")
    done.assert_outcomes(passed=7)


def test_the_settings(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nbpf2py_kernel = 6.6\nbpf2py_cpus = 2\n")
    pytester.makepyfile(
        "def test_machine(bpf2py): assert (bpf2py.engine.kernel, bpf2py.engine.possible_cpus) == ('6.6', 2)"
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_the_example_project() -> None:
    """Its tests run among this project's own: examples/testing is in pytest's `testpaths`."""
    assert (Path(__file__).parents[1] / "examples" / "testing" / "test_opens.py").exists()

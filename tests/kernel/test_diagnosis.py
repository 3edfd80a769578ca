"""What is wrong with the process or the machine is not blamed on the map, the program or the kernel's version."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bpf2py

pytestmark = pytest.mark.kernel

LIMIT = """
import os, resource, sys, warnings
import bpf2py, bpf2py.maps, bpf2py.kernel.attach.tracepoint, bpf2py.kernel.attach.uprobe, bpf2py.maps.hash
data = open(sys.argv[1], "rb").read()
bpf2py.load(data).close()
obj = bpf2py.load(data)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
taken = []
while True:
    try:
        taken.append(os.dup(0))
    except OSError:
        break
def create(): bpf2py.Map.create("HASH", key="u32", value="u64", max_entries=4)
def tracepoint(): obj.programs["traced"].attach()
def probe(): obj.programs["probed"].attach(binary="/bin/sh", offset=64)
def load(): bpf2py.load(data)
for action in (create, tracepoint, probe, load):
    try:
        action()
    except bpf2py.BpfError as error:
        assert "RLIMIT_NOFILE is 100" in str(error), (action, error)
        assert error.errno == 24 and not isinstance(error, (bpf2py.PermissionDenied, bpf2py.NotSupported)), repr(error)
    else:
        raise SystemExit(f"{action} worked")
for fd in taken:
    os.close(fd)
create()  # nothing wrong was remembered
assert bpf2py.features.map_type("hash") is True
obj.programs["traced"].attach().close()
print("fine")
"""
PROGRAMS = """
SEC("tracepoint/syscalls/sys_enter_getppid") int traced(void *ctx) { return 0; }
SEC("uprobe") int probed(void *ctx) { return 0; }
"""


def run(script: str, *arguments: str) -> str:
    env = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, env=env, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_at_the_limit_of_descriptors(compile_object: Callable[[str], bytes], tmp_path: Path) -> None:
    (tmp_path / "programs.o").write_bytes(compile_object(PROGRAMS))
    assert run(LIMIT, str(tmp_path / "programs.o")) == "fine\n"


NO_BPF = """
import ctypes, platform, struct
import bpf2py
from bpf2py.kernel.environment import Environment
from bpf2py.kernel.findings import findings
from bpf2py.kernel.probes import Probes
libc = ctypes.CDLL(None, use_errno=True)
number = {"x86_64": 321, "aarch64": 280}[platform.machine()]
# load the system call's number; bpf() gives ENOSYS, all others are allowed
rows = ((0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, 0x50000 | 38), (6, 0, 0, 0x7FFF0000))
code = b"".join(struct.pack("<HBBI", *row) for row in rows)
buffer = ctypes.create_string_buffer(code)
program = struct.pack("<H6xQ", 4, ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0) == 0
try:
    bpf2py.Map.create("HASH", key="u32", value="u64", max_entries=4)
except bpf2py.NotSupported as error:
    assert "seccomp" in str(error) and "CONFIG_BPF_SYSCALL" in str(error) and "needs Linux" not in str(error), error
else:
    raise SystemExit("created")
assert bpf2py.features.map_type("hash") is None and bpf2py.features.program_type("xdp") is None
rows = {row.name: row for row in findings(Environment.read(), Probes.run())}
assert "seccomp" in rows["bpf()"].effect, rows["bpf()"]
print("fine")
"""


def test_a_kernel_without_the_system_call() -> None:
    assert run(NO_BPF) == "fine\n"


UNMOUNTED = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0 and libc.mount(b"none", b"/", None, 1 << 14 | 1 << 18, None) == 0
while libc.umount2(sys.argv[1].encode(), 2) == 0:
    pass
import bpf2py
from bpf2py.kernel.environment import Environment
from bpf2py.kernel.findings import findings
from bpf2py.kernel.probes import Probes
"""
NO_SYS = (
    UNMOUNTED
    + """
with bpf2py.Map.create("HASH", key="u32", value="u64", max_entries=4) as found:
    found[1] = 2
    assert dict(found.items()) == {1: 2}
for action, words in (
    (lambda: bpf2py.Map.create("PERCPU_HASH", key="u32", value="u64", max_entries=4), "mount -t sysfs sysfs /sys"),
    (bpf2py.btf.vmlinux.vmlinux, "/sys is not mounted"),
):
    try:
        action()
    except bpf2py.BpfError as error:
        assert words in str(error), error
    else:
        raise SystemExit("worked")
rows = {row.name: row for row in findings(Environment.read(), Probes.run())}
assert rows["sysfs"].state == "missing" and "BTF of the kernel" not in rows, rows
print("fine")
"""
)
NO_BPFFS = (
    UNMOUNTED
    + """
import os
with bpf2py.Map.create("HASH", key="u32", value="u64", max_entries=4) as found:
    for path in ("/sys/fs/bpf/counts", "/sys/fs/bpf/some/where"):
        try:
            found.pin(path)
        except bpf2py.BpfError as error:
            assert "mount -t bpf bpf /sys/fs/bpf" in str(error), error
        else:
            raise SystemExit("pinned")
print("fine")
"""
)


def test_without_sysfs() -> None:
    assert run("import bpf2py.btf.vmlinux\n" + NO_SYS, "/sys") == "fine\n"


def test_without_a_bpf_file_system() -> None:
    assert run(NO_BPFFS, "/sys/fs/bpf") == "fine\n"


MISSING_KFUNC = """#include "vmlinux.h"
extern int bpf_no_such_function_anywhere(int) __ksym __weak;
SEC("syscall") int p(void *ctx) { return bpf_no_such_function_anywhere(1); }
"""


@pytest.mark.since("5.19")
def test_a_kernel_function_that_is_missing(
    build: Callable[[str], bpf2py.ObjectSpec], refused: Callable[..., Any]
) -> None:
    with refused(
        bpf2py.VerifierError, 22, "the kernel has no kfunc bpf_no_such_function_anywhere", "guard the call with"
    ):
        bpf2py.load(build(MISSING_KFUNC))


@pytest.mark.parametrize("section", ["tracepoint/syscalls/sys_enter_getppid"])
def test_attaching_twice(build: Callable[[str], bpf2py.ObjectSpec], section: str) -> None:
    with bpf2py.load(build(f'SEC("{section}") int p(void *ctx) {{ return 0; }}\n')) as obj:
        program = obj.programs["p"]
        with program.attach(), pytest.raises(bpf2py.AttachError, match=f"the program is attached to {section} already"):
            program.attach()
        program.attach().close()


@pytest.mark.parametrize(
    ("section", "option", "words"),
    [
        (
            "xdp",
            {"devic": "lo"},
            r"XDP does not take the option devic; it takes device, mode, netlink; did you mean device=\?",
        ),
        ("xdp", {"interface": "lo"}, "it takes device, mode, netlink"),
        ("tcx/ingress", {"device": "lo", "befor": None}, r"did you mean before=\?"),
        ("cgroup_skb/egress", {"cgrop": "/"}, r"did you mean cgroup=\?"),
        ("tracepoint/a/b", {"cooky": 1}, r"it takes target, cookie; did you mean cookie=\?"),
        ("uprobe", {"binary": "libc", "function": "x"}, "it takes target, binary, symbol"),
        ("perf_event", {"freq": 9}, r"did you mean frequency=\?|it takes event"),
        ("socket", {"sock": 3}, r"did you mean socket=\?"),
        ("sk_lookup", {"namespace": "x"}, "it takes netns"),
    ],
)
def test_misspelt_options_are_named_with_those_there_are(
    build: Callable[[str], bpf2py.ObjectSpec], section: str, option: dict[str, Any], words: str
) -> None:
    source = f'SEC("{section}") int p(void *ctx) {{ return 1; }}\n'
    with bpf2py.load(build(source)) as obj, pytest.raises(bpf2py.AttachError, match=words):
        obj.programs["p"].attach(**option)


@pytest.mark.parametrize("device", [-1, 0, 1 << 40])
def test_an_index_no_device_has(build: Callable[[str], bpf2py.ObjectSpec], device: int) -> None:
    message = f"{device} is not the index of a network device"
    source = 'SEC("xdp") int p(void *ctx) { return 1; }\n'
    with bpf2py.load(build(source)) as obj, pytest.raises(bpf2py.AttachError, match=message):
        obj.programs["p"].attach(device=device)

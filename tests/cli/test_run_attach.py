"""`bpf2py run`: where programs are attached that do not say it themselves."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.cli.command_line import run as in_process

from bpf2py.cli.attaching import parse
from bpf2py.errors import BpfError

BACKENDS = ["engine", pytest.param("kernel", marks=pytest.mark.kernel)]
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
__u64 packets, classified, faults, calls;
SEC("xdp") int count(struct xdp_md *ctx) { packets++; return XDP_PASS; }
SEC("tc") int classify(struct __sk_buff *skb) { classified++; return -1; }
SEC("perf_event") int fault(void *ctx) { faults++; return 0; }
SEC("uprobe") int called(void *ctx) { calls++; return 0; }
SEC("uprobe") int called_too(void *ctx) { return 0; }
SEC("syscall") int by_hand(void *ctx) { return 0; }
char LICENSE[] SEC("license") = "GPL";
"""
PING = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('127.0.0.1', 9))"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("attach") / "attach.bpf.c"
    path.write_text(SOURCE)
    return str(path)


def run(backend: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "bpf2py", "run", "--backend", backend, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


@pytest.mark.kernel
def test_options_attach_programs_of_every_kind(source: str) -> None:
    options = ["--attach", "count:device=lo,mode=generic", "--attach", "classify:direction=ingress", "--device", "lo"]
    options += ["--event", "page-faults", "--attach", "called:binary=libc.so.6,symbol=getppid"]
    done = run("kernel", source, *options, "--json", "--", sys.executable, "-c", PING + "; import os; os.getppid()")
    assert done.returncode == 0, done.stderr
    assert "attached 4 of 6 programs: xdp/lo, " in done.stderr
    assert "libc.so.6:getppid, perf_event/page-faults" in done.stderr
    assert "warning: not attached: called_too" in done.stderr
    assert "by_hand" not in done.stderr  # it has no hook
    variables = json.loads(done.stdout)["variables"]
    assert all(variables[name] >= 1 for name in ("packets", "classified", "faults", "calls")), variables


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "the section names do not say where to attach: write --attach PROGRAM:option=value; "
             "count (SEC('xdp')) takes device, mode, netlink; classify"),
        (["--attach", "cont:device=lo"], "there is no program 'cont': count, classify, fault"),
        (["--attach", "count:devic=lo"], "it takes device, mode, netlink"),
        (["--attach", "count:devic=lo"], "did you mean device=?"),
        (["--attach", "count:lo"], "'lo' is not option=value; write --attach PROGRAM:option=value,option=value"),
        (["--attach", "count:device=lo,mode=fast"], "mode must be one of native, generic, offload; is 'fast'"),
        (["--attach", "fault:frequency=often"], "frequency must be an integer; is 'often'"),
        (["--cgroup", "/"], "--cgroup: no program takes it; count (SEC('xdp')) takes device"),
        (["--symbol", "malloc", "--binary", "libc.so.6"], "--symbol: several programs take it: called, called_too"),
    ],
)  # fmt: skip
def test_wrong_options_list_the_right_ones(source: str, backend: str, options: list[str], words: str) -> None:
    if backend == "engine" and not options:
        pytest.skip("any name will do on the engine, none as well")
    done = in_process("run", "--backend", backend, source, *options, "--", "true")
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_values_may_have_commas_and_colons() -> None:
    assert parse("p:cgroup=/a,b,order=self") == ("p", {"cgroup": "/a,b", "order": "self"})
    assert parse("p:target=/bin/x:demo:probe") == ("p", {"target": "/bin/x:demo:probe"})
    assert parse("p") == ("p", {})
    with pytest.raises(BpfError, match="is not option=value"):
        parse("p:=1")

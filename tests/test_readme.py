"""The README's Python code runs as it stands."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.attach.conftest import cgroup  # noqa: F401
from tests.attach.network import in_new_network, udp

import bpf2py

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
# Fragments that need a network card or a process of the reader's.
RUNNABLE = [block for block in BLOCKS if "eth0" not in block]


@pytest.mark.kernel
@pytest.mark.parametrize("block", RUNNABLE, ids=range(len(RUNNABLE)))
def test_block_runs(block: str) -> None:
    code = block if "import bpf2py" in block else f"import bpf2py\n{block}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr


ATTACHED = """
#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
__u64 runs[5];
#define COUNT(section, name, number, result) \
SEC(section) int name(void *ctx) { __sync_fetch_and_add(&runs[number], 1); return result; }
COUNT("xdp", count_packets, 0, XDP_PASS)
COUNT("tc", filter, 1, 0)
COUNT("cgroup/connect4", connects, 2, 1)
COUNT("perf_event", samples, 3, 0)
COUNT("uprobe", malloc, 4, 0)
"""


@pytest.mark.kernel
def test_the_lines_on_attaching_attach(compile_bpf: Callable[[str], bytes], cgroup: str) -> None:  # noqa: F811
    """As they stand but for the device, the cgroup and the process: nothing keeps a link."""
    (block,) = [block for block in BLOCKS if "eth0" in block]
    block = block.replace("eth0", "lo").replace('mode="native"', 'mode="generic"')
    block = block.replace("/sys/fs/cgroup/app.slice", cgroup).replace("1234", str(os.getpid()))

    def run() -> None:
        with bpf2py.load(compile_bpf(ATTACHED)) as obj:
            exec(block, {"obj": obj})
            gc.collect()
            assert len(obj.links) == len(block.strip().splitlines())
            before = list(obj.variables["runs"].value)
            for _ in range(5):
                udp()
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.connect(("127.0.0.1", 9))
                ctypes.CDLL(None).malloc(1)
            while obj.variables["runs"].value[3] == before[3]:
                pass  # a perf event counts time
            after = obj.variables["runs"].value
            changes = [new - old for new, old in zip(after, before, strict=True)]
            assert changes[0] == changes[1] == 5
            assert changes[2] >= 5
            assert changes[4] >= 5

    in_new_network(run)


def test_links_work_elsewhere_too() -> None:
    """A package index shows the README by itself: it needs whole addresses, of files that are here, and has no anchors."""
    text = (ROOT / "README.md").read_text()
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    links = re.findall(r"\]\(([^)]*)\)", prose) + re.findall(r'src="([^"]*)"', prose)
    assert len(links) >= 5
    here = ("https://github.com/bpf2py/bpf2py/blob/main/", "https://raw.githubusercontent.com/bpf2py/bpf2py/main/")
    for link in links:
        assert link.startswith("https://"), link
        for root in here:
            assert not link.startswith(root) or (ROOT / link.removeprefix(root)).is_file(), link


def test_there_are_blocks_to_run() -> None:
    assert len(RUNNABLE) >= 3

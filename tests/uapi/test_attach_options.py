"""The table of attach options: complete, true to what the attaching code takes, checked alike on both backends, and typed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine
from bpf2py.uapi.attach_options import HOOKS, AttachOptions, check, choices, hook_of
from bpf2py.uapi.program_types import ProgramType
from bpf2py.uapi.sections import SECTIONS

ATTACH = Path(bpf2py.__file__).parent / "kernel" / "attach"
TAKEN = re.compile(
    r'options\.(?:pop|get)\("(\w+)"|"(\w+)" in options|(?:required|target_of)\(spec, options, (?:"(\w+)")?'
)


def test_every_option_belongs_to_a_hook_and_has_a_type() -> None:
    assert {name for hook in HOOKS.values() for name in hook.names} == set(AttachOptions.__annotations__)
    for hook in HOOKS.values():
        assert len(set(hook.names)) == len(hook.names)


@pytest.mark.parametrize("name", HOOKS)
def test_the_table_says_what_the_code_takes(name: str) -> None:
    # tc stands in for tcx, usdt reads three names in a loop, uprobe_multi lets uprobe read a single place, two hooks share a file.
    files = {
        "tcx": ("tcx", "tc"),
        "uprobe_multi": ("uprobe_multi", "uprobe"),
        "kprobe_multi": ("kprobe_multi", "many_functions"),
        "tracing_multi": ("tracing_multi", "many_functions"),
    }.get(name, (name,))
    text = "".join((ATTACH / f"{file}.py").read_text() for file in files)
    taken = {found for names in TAKEN.findall(text) for found in names if found}
    taken |= {"target"} if "target_of(" in text else set()
    taken |= {"binary", "provider", "name"} if name == "usdt" else set()
    taken -= {"ref_ctr_offset", "cookie"} if name == "uprobe_multi" else set()
    assert taken == set(HOOKS[name].names)


def test_every_section_has_a_hook_or_none_by_nature() -> None:
    hookless = {row.program_type for row in SECTIONS if hook_of(row.program_type, row.attach_type, row.name) is None}
    P = ProgramType
    lightweight = {P.LWT_IN, P.LWT_OUT, P.LWT_XMIT, P.LWT_SEG6LOCAL}
    assert hookless == {P.SYSCALL, P.STRUCT_OPS, P.SCHED_ACT, P.LIRC_MODE2} | lightweight


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("mode", "generik", "mode must be one of native, generic, offload; is 'generik'"),
        ("device", 2.5, "device must be a name or an integer; is 2.5"),
        ("device", "e\0th", r"device 'e\\x00th' contains a NUL character"),
        ("netlink", "yes", "netlink must be True or False; is 'yes'"),
        ("cookie", -1, r"cookie must be 0\.\.18446744073709551615, is -1"),
        ("cookie", "5", "cookie must be an integer; is '5'"),
        ("cookies", 5, "cookies must be a list of integers; is 5"),
        ("cookies", [1, 1 << 64], r"cookies must be 0\.\.\d+, is 18446744073709551616"),
        ("symbols", "malloc", "symbols must be a list of names; is 'malloc'"),
        ("symbols", ["malloc", 5], "symbols must be a list of names; is 5"),
        ("map", 5, "map must be an open Map; is 5"),
        ("before", "other", "before must be a Link or Program; is 'other'"),
        ("event", (1, "x"), r"event must be a name or \(type, config\); is \(1, 'x'\)"),
    ],
)
def test_wrong_values(option: str, value: Any, message: str) -> None:
    with pytest.raises(bpf2py.AttachError, match=f"^program p: attach: {message}") as caught:
        check("program p: attach", "XDP", {option: value}, AttachOptions.__annotations__)
    assert caught.value.errno == 22


def test_right_values_come_back_without_those_not_given() -> None:
    given = {"device": 2, "mode": None, "event": (1, 0), "symbols": ("a", "b"), "cgroup": Path("/"), "cookie": True}
    known = AttachOptions.__annotations__
    assert check("p", "XDP", given, known) == {name: value for name, value in given.items() if value is not None}
    assert choices("mode") == ("native", "generic", "offload")
    assert choices("device") == ()


SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int pass(struct xdp_md *ctx) { return XDP_PASS; }
SEC("raw_tp/sys_enter") int entered(void *ctx) { return 0; }
SEC("perf_event") int sampled(void *ctx) { return 0; }
char LICENSE[] SEC("license") = "GPL";
"""
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("pass", {"mode": "generik", "device": "lo"}), ("pass", {"binary": "libc"}), ("pass", {"device": []}),
    ("entered", {"device": "lo"}), ("entered", {"cookie": "x"}), ("sampled", {"frequency": 0}), ("sampled", {"pid": "1"}),
]  # fmt: skip


@pytest.mark.kernel
def test_kernel_and_engine_refuse_the_same(compile_bpf: Callable[[str], bytes]) -> None:
    spec = bpf2py.ObjectSpec.from_bytes(compile_bpf(SOURCE))
    with bpf2py.load(spec, "kernel") as kernel, bpf2py.load(spec, Engine()) as engine:
        for program, options in WRONG:
            said = []
            for obj in (kernel, engine):
                with pytest.raises(bpf2py.AttachError) as caught:
                    obj.programs[program].attach(**options)
                said.append((str(caught.value).split("; it takes")[0], caught.value.errno))
            assert said[0] == said[1]
            assert not kernel.links
            assert not engine.links
        kernel.programs["pass"].attach(device="lo", mode=None, netlink=None).close()


USER = """\
import bpf2py

def attach(program: bpf2py.Program, options: bpf2py.AttachOptions, found: bpf2py.Map[int, int]) -> None:
    program.attach(device="lo", mode="generic", netlink=True)
    program.attach(event=(1, 2), pid=5, cgroup="/x", map=found, symbols=["a"], cookies=[1], mode=None)
    program.attach(**options)
    program.attach(devcie="lo")  # wrong
    program.attach(mode="generik")  # wrong
    program.attach(pid="1")  # wrong
    program.attach(cookies=1)  # wrong
"""
WRONG_LINES = {number for number, line in enumerate(USER.splitlines(), 1) if line.endswith("# wrong")}


@pytest.mark.parametrize(
    "checker", [["mypy", "--strict", "--no-error-summary"], ["basedpyright", "--pythonpath", sys.executable]]
)
def test_type_checkers_flag_wrong_options(checker: list[str], tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard", "pythonVersion": "3.11"}')
    done = subprocess.run(
        [sys.executable, "-m", *checker, "user.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    flagged = {int(number) for number in re.findall(r"user\.py:(\d+):(?:\d+)?.* error", done.stdout)}
    assert flagged == WRONG_LINES, done.stdout + done.stderr

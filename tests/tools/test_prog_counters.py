"""Perf events counted while a program runs: hardware's where there are some, the kernel's own everywhere."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

import bpf2py
from bpf2py.errors import EncodeError, NotSupported, ObjectError
from bpf2py.tools.prog_counters import COUNTERS, ProgCounters

pytestmark = pytest.mark.kernel
UNTYPED = 'SEC("socket") int untyped(void *ctx) { return 0; }'
SOURCE = """#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
int ran;
SEC("syscall") int a_program_of_a_long_name(void *ctx) {
    ran++;
    return 0;
}
SEC("raw_tp/sys_enter") int of_another_type(void *ctx) {
    ran++;
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture
def spec(compile_bpf: Callable[[str], bytes]) -> bpf2py.ObjectSpec:
    return bpf2py.ObjectSpec.from_bytes(compile_bpf(SOURCE), "measured")


@pytest.mark.kprobe
def test_every_run_is_counted(spec: bpf2py.ObjectSpec) -> None:
    with bpf2py.load(spec) as obj:
        program = obj.programs["a_program_of_a_long_name"]
        began = time.monotonic_ns()
        with ProgCounters(program, ["task-clock", "page-faults", "task-clock"]) as counters:
            assert counters.read() == (0, {"task-clock": 0, "page-faults": 0}, 0)
            for _ in range(250):
                program.test_run()
            runs, found, unread = counters.read()
        assert (runs, found["page-faults"], unread) == (250, 0, 0)
        assert 0 < found["task-clock"] < time.monotonic_ns() - began
        program.test_run()
        with ProgCounters(obj.programs["of_another_type"], ["cpu-clock"]) as counters:
            obj.programs["of_another_type"].test_run()
            program.test_run()  # another one
            assert counters.read().runs == 1


@pytest.mark.kprobe
def test_by_id_and_from_the_command_line(spec: bpf2py.ObjectSpec) -> None:
    """A program that was opened has 15 letters of its name; its function in BTF has all."""
    with bpf2py.load(spec) as obj:
        program = obj.programs["of_another_type"]
        other = obj.programs["a_program_of_a_long_name"]
        with bpf2py.Program.from_id(other.info.id) as opened, ProgCounters(opened, ["task-clock"]) as counters:
            other.test_run()
            assert counters.read().runs == 1
        program.attach()
        command = [
            sys.executable,
            "-m",
            "bpf2py",
            "prog",
            "profile",
            str(program.info.id),
            "task-clock",
            "--duration",
            "0.5",
        ]
        row = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
        assert row["counted_runs"] > 0
        assert row["counters"]["task-clock"]["total"] > 0
        assert row["counters"]["task-clock"]["per_run"] > 0
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert " task-clock " in told
        assert told.rstrip().endswith("a run")


@pytest.mark.kprobe
def test_nothing_is_left(
    spec: bpf2py.ObjectSpec, assert_no_leaks: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    with bpf2py.load(spec) as obj:
        program = obj.programs["a_program_of_a_long_name"]
        ProgCounters(program, ["task-clock"]).close()
        with assert_no_leaks():
            ProgCounters(program, ["task-clock", "cpu-clock"]).close()


@pytest.mark.kprobe
def test_hardware_that_counts_nothing_is_named(spec: bpf2py.ObjectSpec) -> None:
    with bpf2py.load(spec) as obj:
        program = obj.programs["a_program_of_a_long_name"]
        try:
            counters = ProgCounters(program, ["cycles", "instructions"])
        except NotSupported as error:
            message = str(error)
        else:
            with counters:
                program.test_run()
                assert all(number > 0 for number in counters.read().counters.values())
            return
        assert "this machine does not count that" in message
        assert "cpu-clock, task-clock, page-faults" in message


def test_wrong_counters(spec: bpf2py.ObjectSpec) -> None:
    with bpf2py.load(spec) as obj:
        program = obj.programs["a_program_of_a_long_name"]
        with pytest.raises(EncodeError, match="unknown counter 'cycels'; known are branch-instructions, "):
            ProgCounters(program, ["cycles", "cycels"])
        for counters in ([], list(COUNTERS)):
            with pytest.raises(EncodeError, match="1 to 8 can be read at once"):
                ProgCounters(program, counters)


def test_a_program_without_btf() -> None:
    data = bpf2py.compile("#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n" + UNTYPED, cflags=["-g0"])
    with bpf2py.load(data) as obj, pytest.raises(ObjectError, match="has no BTF"):
        ProgCounters(obj.programs["untyped"], ["task-clock"])

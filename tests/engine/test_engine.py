"""The simulated machine: what programs do on it, who they run as, what time it is, and how they are stopped."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.btf.declare import codec_of
from bpf2py.engine import Engine, Task
from bpf2py.errors import ClosedError, EncodeError, ProgramFault

SOURCE = Path(__file__).parent / "features.bpf.c"


@pytest.fixture(scope="module")
def spec(compile_bpf: Callable[[str], bytes]) -> bpf2py.ObjectSpec:
    return bpf2py.ObjectSpec.from_bytes(compile_bpf(SOURCE.read_text()), "features")


@pytest.fixture(params=["native", "python"])
def engine(request: pytest.FixtureRequest) -> Engine:
    task = Task(7, 5, ppid=2, uid=1000, gid=100, comm="worker")
    return Engine(translator=request.param, clock=10, seed=1, task=task, fuel=100_000)


@pytest.fixture
def obj(spec: bpf2py.ObjectSpec, engine: Engine) -> Iterator[Any]:
    with bpf2py.load(spec, backend=engine) as loaded:
        yield loaded


def test_tail_calls(obj: Any) -> None:
    assert obj.programs["tail"].run().return_value == 17
    assert obj.variables["result"].value == 1001
    assert obj.programs["no_tail"].run().return_value == 3
    assert obj.variables["result"].value == 1


def test_at_most_33_tail_calls(obj: Any) -> None:
    obj.maps["jumps"][0] = obj.programs["endless"]
    obj.variables["result"].value = 0
    assert obj.programs["endless"].run().return_value == 3
    assert obj.variables["result"].value == 34


def test_arguments_and_registers(obj: Any) -> None:
    obj.programs["arguments"].run(1, -2, 3, 1 << 63, 5)
    assert obj.variables["numbers"].value[:5] == [1, -2, 3, -(1 << 63), 5]
    obj.programs["probe"].run(-1, 1 << 40, 3)
    assert obj.variables["numbers"].value[:3] == [-1, 1 << 40, 3]
    obj.programs["probe_return"].run(99)
    assert obj.variables["result"].value == 99


def test_structs_behind_pointers(obj: Any) -> None:
    obj.programs["traced"].run({"__type__": "file", "size": 40, "name": "/etc/passwd"}, 2)
    assert obj.variables["result"].value == 42
    assert obj.variables["text"].value == "/etc/passwd"
    with pytest.raises(EncodeError, match="no member 'sise'"):
        obj.programs["traced"].run({"__type__": "file", "sise": 40}, 2)
    with pytest.raises(EncodeError, match="say which struct it is"):
        obj.programs["traced"].run({"size": 40}, 2)


def test_callbacks(obj: Any) -> None:
    for key in range(5):
        obj.maps["seen"][key] = 10**key
    obj.programs["callbacks"].run()
    assert obj.variables["numbers"].value[:4] == [10, 5, 45, 11111]


def test_who_and_when(obj: Any, engine: Engine) -> None:
    with engine.cpu(3):
        obj.programs["who"].run()
    pid_tgid, uid_gid, cpu, now, first = obj.variables["numbers"].value[:5]
    assert (pid_tgid, uid_gid, cpu, now) == (5 << 32 | 7, 100 << 32 | 1000, 3, 10)
    assert obj.variables["text"].value == "worker"
    assert list(obj.maps["per_cpu"][0].values) == [0, 0, 0, 1]
    obj.programs["who"].run(cpu=1)
    assert obj.variables["numbers"].value[4] != first
    assert engine.current_cpu == 0
    with pytest.raises(EncodeError, match="there is no CPU 4"), engine.cpu(4):
        pass


def test_the_same_seed_gives_the_same_numbers(spec: bpf2py.ObjectSpec) -> None:
    found = []
    for seed in (1, 1, 2):
        with bpf2py.load(spec, backend=Engine(seed=seed)) as obj:
            obj.programs["who"].run()
            found.append(obj.variables["numbers"].value[4])
    assert found[0] == found[1] != found[2]


def test_the_current_task(obj: Any) -> None:
    obj.programs["current_task"].run()
    assert obj.variables["numbers"].value[:2] == [7, 2]
    assert obj.variables["text"].value == "worker"


def test_storage_belongs_to_its_task(obj: Any, engine: Engine) -> None:
    for pid, wanted in ((7, 1), (7, 2), (8, 1), (7, 3)):
        engine.task = Task(pid)
        obj.programs["store_in_task"].run()
        assert obj.variables["result"].value == wanted
    engine.task = Task(os.getpid())
    obj.programs["store_in_task"].run()
    assert obj.maps["of_task"][os.getpid()] == 1  # a command finds what the program stored


def test_timers(obj: Any, engine: Engine) -> None:
    for key in (2, 0):
        obj.programs["start_timer"].run(bytes(8) + key.to_bytes(4, "little") + bytes(180), data=bytes(64))
        assert obj.variables["numbers"].value[4:6] == [0, 0]
    assert engine.advance(999) == 0
    assert engine.advance(1) == 1
    assert obj.variables["numbers"].value[:3] == [1, 0, 0]
    assert obj.maps["timers"][0].fired == 1010
    assert engine.advance(10_000) == 1
    assert obj.variables["numbers"].value[:3] == [1, 0, 1]
    assert engine.now() == 11_010


def test_spin_locks(obj: Any) -> None:
    assert obj.programs["lock"].run(data=bytes(64)).return_value == 0
    assert obj.maps["locks"][0].value == 1


def test_rings_and_stacks(obj: Any, engine: Engine) -> None:
    engine.task.user_stack, engine.task.kernel_stack = [0x400000, 0x400010], [0xFFFFFFFF81000000]
    with bpf2py.RingReader(obj.maps["ring"], type=codec_of("u64")) as ring:
        for value in (1, 2, 3):
            with engine.cpu(value):
                obj.programs["events"].run(value)
        assert [event for batch in ring.flush() for event in batch.events()] == [1, 2, 3]
    _, kernel, user = obj.variables["numbers"].value[:3]
    assert obj.maps["stacks"][user] == [0x400000, 0x400010]
    assert obj.maps["stacks"][kernel] == [0xFFFFFFFF81000000]


def test_a_null_pointer_reads_as_zero_where_the_kernel_probes(obj: Any) -> None:
    obj.variables["numbers"].value = [0, 1, *[0] * 6]
    obj.programs["null"].run()
    assert obj.variables["numbers"].value[1] == 0


@pytest.mark.parametrize("address", [0, 8, 0x1000, 1 << 29, 0x7FFFFFFF, 1 << 63, (1 << 64) - 8])
def test_bad_addresses_stop_the_program(obj: Any, address: int) -> None:
    address = address - (1 << 64) if address >> 63 else address
    obj.variables["numbers"].value = [address, *[0] * 7]
    if address == 1 << 29:
        return  # the first public address: a stack
    with pytest.raises(ProgramFault, match=r"program store: run: the engine stopped it: it read or wrote") as caught:
        obj.programs["store"].run()
    fault = caught.value
    assert (fault.kind, fault.address, fault.program) == ("memory", address & (1 << 64) - 1, "store")
    assert fault.source_line is not None
    assert "*(u64 *)" in str(fault)
    obj.programs["who"].run()  # the engine goes on


def test_a_loop_without_end_is_stopped(obj: Any) -> None:
    with pytest.raises(ProgramFault, match="more than 100000 instructions in loops") as caught:
        obj.programs["forever"].run()
    assert caught.value.kind == "fuel"


def test_hooks_and_links(obj: Any, engine: Engine) -> None:
    links = obj.attach()
    assert engine.fire("raw_tracepoint/args", 5, 4, 3, 2, 1) == [0]
    assert obj.variables["numbers"].value[:5] == [5, 4, 3, 2, 1]
    assert engine.fire("kprobe/do_thing", 8, 9) == [0]
    assert engine.fire("kprobe/another_thing", 8, 9) == []
    link = next(link for link in links if link.hook == "kprobe/do_thing")
    link.close()
    assert engine.fire("kprobe/do_thing", 8, 9) == []


def test_programs_go_with_their_last_user(obj: Any, engine: Engine) -> None:
    program = obj.programs["target"]
    link = program.attach()
    program.close()
    assert engine.fire("raw_tp/one") == [17]
    link.close()
    assert engine.fire("raw_tp/one") == []
    with pytest.raises(ClosedError):
        program.run()


def test_nothing_is_left_of_closed_objects(spec: bpf2py.ObjectSpec) -> None:
    engine = Engine()
    for _ in range(3):
        with bpf2py.load(spec, backend=engine) as obj:
            obj.attach()
            obj.programs["who"].run()
        del obj
    gc.collect()  # slots of maps of objects refer to themselves
    assert (dict(engine.maps), engine.programs, engine.hooks, len(engine.timers)) == ({}, {}, [], 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kernel": "six"}, "kernel must be a version"),
        ({"possible_cpus": 0}, "possible_cpus must be 1 to 8192"),
        ({"translator": "interpreter"}, "must be native or python"),
    ],
)
def test_machines_that_cannot_be(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(EncodeError, match=words):
        Engine(**arguments)


def test_versions_of_kernels() -> None:
    from bpf2py.engine.version import has_fixed_lru, parse_version

    fixed = ["6.1", "5.10", "6.8", "6.6.98", "6.12.38", "6.15.6", "6.14"]
    adaptive = ["6.18", "6.16", "6.12", "6.12.39", "6.6", "6.6.99", "6.15.7", "7.0"]
    assert parse_version("7.2.11+deb13-amd64") == (7, 2, 11)
    assert [has_fixed_lru(parse_version(text)) for text in fixed] == [True] * len(fixed)
    assert [has_fixed_lru(parse_version(text)) for text in adaptive] == [False] * len(adaptive)


def test_the_engine_by_name(spec: bpf2py.ObjectSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BPF2PY_BACKEND", "engine")
    with bpf2py.load(spec) as obj:
        assert obj.backend.name == "engine"
        assert obj.programs["target"].run().return_value == 17


def test_misspelt_options_of_attach(compile_bpf: Callable[[str], bytes]) -> None:
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int pass(struct xdp_md *ctx) { return XDP_PASS; }
"""
    with bpf2py.load(compile_bpf(source), backend=Engine()) as obj:
        message = r"XDP does not take the option devcie; it takes device, mode, netlink, target, cookie; did you mean device=\?"
        with pytest.raises(bpf2py.AttachError, match=message):
            obj.programs["pass"].attach(devcie="eth0")  # type: ignore[call-arg]
        assert obj.programs["pass"].attach(device="eth0", mode="native").hook == "xdp/eth0"

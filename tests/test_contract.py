"""The seam as users meet it: every operation of the public API, rightly and wrongly used, ends alike on both backends.

An engine may also say NotSupported. Nothing may end in AttributeError, TypeError or an assertion of the library's own, and every
method of every protocol is called.
"""

from __future__ import annotations

import inspect
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

import bpf2py
from bpf2py import Link, Map, MapType, PerfReader, Program, RingReader
from bpf2py.engine import Engine
from bpf2py.seam import protocol

pytestmark = pytest.mark.kernel

SOURCE = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
struct event { u32 pid; u32 number; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, u32); __type(value, u64); } hash SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, u32); __type(value, u64);
    __uint(map_flags, BPF_F_MMAPABLE); } array SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 8); __type(key, u32); __type(value, u64); }
    percpu SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 2); __type(value, u32); } queue SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct event); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __type(key, int); __type(value, struct event); } perf SEC(".maps");
struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, u32); __type(value, u32); } first SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS); __uint(max_entries, 2); __type(key, u32); __array(values, struct inner); }
    outer SEC(".maps");
u64 calls;
const volatile u32 answer = 42;
SEC("raw_tp/sched_switch") int traced(void *ctx)
{
    struct event event = {.number = calls};

    calls++;
    bpf_ringbuf_output(&ring, &event, sizeof(event), 0);
    bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event));
    return answer;
}
SEC("raw_tp/sched_switch") int other(void *ctx) { return 7; }
SEC("xdp") int packet(struct xdp_md *ctx) { return ctx->data_end - ctx->data > 20 ? XDP_PASS : XDP_DROP; }
SEC("iter/bpf_map") int listed(struct bpf_iter__bpf_map *ctx)
{
    if (ctx->meta->seq_num == 0)
        bpf_seq_write(ctx->meta->seq, "maps", 4);
    return 0;
}
"""


class World(NamedTuple):
    """An object on a backend, and where to put things."""

    obj: bpf2py.Object
    backend: Any
    directory: Path


Case = Callable[[World], Any]


def _load_exclusively(w: World, program: str) -> int:
    with bpf2py.load(w.obj.spec, w.backend, exclusive={"queue": program}) as obj:
        return obj.maps["queue"].max_entries


CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


def cases(**functions: Case) -> None:
    CASES.update(functions)


def maps(world: World) -> Any:
    return world.obj.maps


cases(
    # one element
    set_and_get=lambda w: (maps(w)["hash"].__setitem__(1, 2), maps(w)["hash"][1], dict(maps(w)["hash"].items())),
    key_missing=lambda w: maps(w)["hash"][99],
    key_too_large=lambda w: maps(w)["hash"][1 << 32],
    key_negative=lambda w: maps(w)["hash"].get(-1),
    key_of_another_type=lambda w: maps(w)["hash"]["x"],
    value_too_large=lambda w: maps(w)["hash"].__setitem__(1, 1 << 64),
    value_none=lambda w: maps(w)["hash"].__setitem__(1, None),
    delete_missing=lambda w: maps(w)["hash"].delete(99),
    pop_missing=lambda w: maps(w)["hash"].pop(99),
    pop=lambda w: (maps(w)["hash"].put(5, 6), maps(w)["hash"].pop(5), 5 in maps(w)["hash"]),
    noexist_twice=lambda w: [maps(w)["hash"].put(3, 1, bpf2py.UpdateFlags.NOEXIST) for _ in range(2)],
    exist_missing=lambda w: maps(w)["hash"].put(77, 1, bpf2py.UpdateFlags.EXIST),
    unknown_flag=lambda w: maps(w)["hash"].put(3, 1, 1 << 20),
    full=lambda w: maps(w)["hash"].update({number: number for number in range(100, 120)}),
    next_key_of_empty=lambda w: (maps(w)["hash"].clear(), maps(w)["hash"].next_key()),
    array_beyond=lambda w: maps(w)["array"][4],
    array_delete=lambda w: maps(w)["array"].__delitem__(1),
    array_noexist=lambda w: maps(w)["array"].put(1, 1, bpf2py.UpdateFlags.NOEXIST),
    queue_overflow=lambda w: [maps(w)["queue"].push(number) for number in range(3)],
    queue_empty=lambda w: (list(maps(w)["queue"].drain()), maps(w)["queue"].pop()),
    queue_peek=lambda w: (maps(w)["queue"].push(9), maps(w)["queue"].peek(), maps(w)["queue"].pop()),
    queue_has_no_keys=lambda w: iter(maps(w)["queue"]),
    ring_has_no_elements=lambda w: maps(w)["ring"].log2_hist(),
    # many
    batch=lambda w: (maps(w)["hash"].clear(), maps(w)["hash"].update({1: 2, 3: 4}), sorted(maps(w)["hash"].items())),
    delete_many=lambda w: maps(w)["hash"].delete_many([1, 2, 3]),
    drain=lambda w: (maps(w)["hash"].update({1: 2}), sorted(maps(w)["hash"].drain()), maps(w)["hash"].count()),
    count_of_many=lambda w: many(w),
    count_and_pressure=lambda w: (maps(w)["hash"].count(), maps(w)["hash"].pressure(), len(maps(w)["array"])),
    to_numpy=lambda w: maps(w)["array"].to_numpy().tolist(),
    per_cpu=lambda w: (maps(w)["percpu"].__setitem__(1, 3), maps(w)["percpu"][1].max()),
    one_cpu=lambda w: (maps(w)["percpu"].__setitem__(1, 3), maps(w)["percpu"].lookup_cpu(1, 0)),
    values_of_one_cpu=lambda w: (maps(w)["percpu"].__setitem__(1, 3), dict(maps(w)["percpu"].on_cpu(0).items())),
    set_on_one_cpu=lambda w: maps(w)["percpu"].on_cpu(0).update({1: 7}),
    flags_of_one_cpu=lambda w: maps(w)["percpu"].lookup(1, bpf2py.UpdateFlags.CPU),
    one_cpu_that_is_not=lambda w: maps(w)["percpu"].lookup_cpu(1, 1 << 20),
    per_cpu_wrong_count=lambda w: maps(w)["percpu"].__setitem__(1, [1] * 1000),
    histogram=lambda w: [bucket.count for bucket in maps(w)["array"].log2_hist().buckets],
    # memory
    mapped=lambda w: (maps(w)["array"].__setitem__(0, 5), maps(w)["array"].mmap()[0].item()),
    freeze_a_hash=lambda w: frozen(w),
    variable=lambda w: [write(w, "calls", number) for number in (3, 4)],
    constant=lambda w: write(w, "answer", 3),
    variable_too_large=lambda w: write(w, "calls", -1),
    # maps of maps
    inner=lambda w: (maps(w)["outer"].__setitem__(1, maps(w)["first"]), maps(w)["outer"][1].max_entries),
    inner_missing=lambda w: maps(w)["outer"][2],
    inner_of_another_kind=lambda w: maps(w)["outer"].__setitem__(1, maps(w)["queue"]),
    inner_not_a_map=lambda w: maps(w)["outer"].__setitem__(1, "first"),
    # opening
    map_by_id=lambda w: Map.from_id(maps(w)["hash"].id, key="u32", value="u64", backend=w.backend).name,
    map_by_id_gone=lambda w: Map.from_id((1 << 31) - 1, backend=w.backend),
    map_by_id_negative=lambda w: Map.from_id(-1, backend=w.backend),
    map_by_number=lambda w: Map.from_fd(maps(w)["hash"].fileno(), backend=w.backend).max_entries,
    map_by_number_closed=lambda w: Map.from_fd(1 << 20, backend=w.backend),
    map_by_pin=lambda w: Map.from_pin(w.directory / "none", backend=w.backend),
    map_pin=lambda w: (maps(w)["hash"].pin(w.directory / "map"), maps(w)["hash"].unpin(w.directory / "map")),
    map_with_a_wrong_type=lambda w: Map.from_id(maps(w)["hash"].id, key="u64", backend=w.backend),
    program_by_id=lambda w: Program.from_id(w.obj.programs["traced"].info.id, backend=w.backend).name,
    program_by_id_gone=lambda w: Program.from_id((1 << 31) - 1, backend=w.backend),
    program_by_pin=lambda w: Program.from_pin(w.directory / "none", backend=w.backend),
    program_pin=lambda w: [getattr(w.obj.programs["traced"], do)(w.directory / "program") for do in ("pin", "unpin")],
    program_unpin_nothing=lambda w: w.obj.programs["traced"].unpin(w.directory / "none"),
    program_digest=lambda w: len(w.obj.programs["other"].digest),
    load_with_a_map_of_one_program=lambda w: _load_exclusively(w, "other"),
    load_with_a_map_of_no_program=lambda w: _load_exclusively(w, "nobody"),
    link_by_id_gone=lambda w: Link.from_id((1 << 31) - 1, backend=w.backend),
    link_by_pin=lambda w: Link.from_pin(w.directory / "none", backend=w.backend),
    # making
    create=lambda w: Map.create("HASH", key="u32", value="u32", max_entries=3, backend=w.backend).max_entries,
    create_empty=lambda w: Map.create(MapType.HASH, 4, 4, 0, backend=w.backend),
    create_negative=lambda w: Map.create(MapType.HASH, -1, 4, 1, backend=w.backend),
    create_unknown=lambda w: Map.create("HASHH", 4, 4, 1, backend=w.backend),
    create_of_maps=lambda w: (
        Map.create("ARRAY_OF_MAPS", max_entries=1, inner=w.obj.spec.maps["first"], backend=w.backend).max_entries
    ),
    create_a_ring_of_odd_size=lambda w: Map.create("RINGBUF", max_entries=1000, backend=w.backend),
    # programs
    test_run=lambda w: w.obj.programs["packet"].test_run(bytes(64)).return_value,
    test_run_short=lambda w: w.obj.programs["packet"].test_run(b"x"),
    test_run_live=lambda w: w.obj.programs["packet"].test_run(bytes(64), live_frames=True, batch_size=1 << 20),
    test_run_flags=lambda w: w.obj.programs["packet"].test_run(bytes(64), flags=1 << 20),
    test_run_cpu=lambda w: w.obj.programs["traced"].test_run(cpu=1 << 20),
    test_run_of_an_iterator=lambda w: w.obj.programs["listed"].test_run(),
    run=lambda w: w.obj.programs["traced"].run(1, 2, 3).return_value,
    run_text=lambda w: w.obj.programs["packet"].run(object()),
    xlated=lambda w: len(w.obj.programs["traced"].xlated()) > 0,
    jited=lambda w: type(w.obj.programs["traced"].jited()),
    disassembled=lambda w: "exit" in w.obj.programs["traced"].disassemble(source=True),
    info=lambda w: (w.obj.programs["packet"].info.type, w.obj.programs["packet"].info.gpl_compatible),
    stdout=lambda w: w.obj.programs["traced"].stdout(),
    stream_of_none=lambda w: w.obj.programs["traced"].stream(9),
    # readers
    ring=lambda w: [(event.pid, event.number) for event in read(w, RingReader(maps(w)["ring"]))],
    perf=lambda w: [(event.pid, event.number) for event in read(w, PerfReader(maps(w)["perf"]))],
    ring_of_a_hash=lambda w: RingReader(maps(w)["hash"]),
    perf_of_a_cpu_that_is_not=lambda w: PerfReader(maps(w)["perf"], cpus=[1 << 20]),
    perf_of_odd_pages=lambda w: PerfReader(maps(w)["perf"], pages=3),
    perf_of_too_many_events=lambda w: PerfReader(maps(w)["perf"], wakeup_events=-1),
    poll=lambda w: [sum(len(batch) for batch in batches) for batches in polled(w, 0)],
    poll_nothing=lambda w: polled(w, 0.01),
    poll_nan=lambda w: polled(w, math.nan),
    snapshot=lambda w: overwritten(w),
    # loading
    loaded_as=lambda w: type(w.obj.backend.name),
    load_with_another_map=lambda w: bpf2py.load(w.obj.spec, w.backend, maps={"hash": maps(w)["array"]}),
    load_with_a_map=lambda w: loaded_with(w),
    load_kernel_version=lambda w: kernel_version(w),
    attach_all=lambda w: attached(w),
    load_with_no_such_map=lambda w: bpf2py.load(w.obj.spec, w.backend, maps={"hush": maps(w)["hash"]}),
    load_with_a_token=lambda w: bpf2py.load(w.obj.spec, w.backend, token_path="/none"),
    load_with_odd_chars=lambda w: bpf2py.load(w.obj.spec, w.backend, chars="utf-8"),
    statistics=lambda w: counted(w),
)


def write(world: World, name: str, value: int) -> int:
    world.obj.variables[name].value = value
    return int(world.obj.variables[name].value)


def many(world: World) -> int:
    with Map.create("HASH", key="u32", value="u32", max_entries=5000, backend=world.backend) as made:
        made.update({number: number for number in range(4500)})
        return made.count()


def loaded_with(world: World) -> int:
    with bpf2py.load(world.obj.spec, world.backend, maps={"hash": world.obj.maps["hash"]}) as again:
        again.maps["hash"][6] = 7
        return int(world.obj.maps["hash"].pop(6))


def kernel_version(world: World) -> int:
    source = bpf2py.compile("""
    #include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    extern int LINUX_KERNEL_VERSION __kconfig;
    SEC("xdp") int version(void *ctx) { return LINUX_KERNEL_VERSION >> 8; }
    char LICENSE[] SEC("license") = "GPL";
    """)
    with bpf2py.load(source, world.backend) as obj:
        return obj.programs["version"].test_run(bytes(64)).return_value


def attached(world: World) -> int:
    with bpf2py.load(world.obj.spec, world.backend) as again:
        return len(again.attach())


@case
def unpin_what_is_pinned_by_others(world: World) -> Any:
    path = world.directory / "others"
    with Map.create("ARRAY", 4, 4, 1, backend="kernel") as other, world.obj.programs["traced"].attach() as link:
        other.pin(path)
        ends = []
        try:
            for owner in (world.obj.maps["hash"], world.obj.programs["traced"], link):
                try:
                    owner.unpin(path)
                except bpf2py.BpfError as error:
                    ends.append(error)
        finally:
            os.unlink(path)
        assert len(ends) == 3
        raise ends[0]


def polled(world: World, timeout: float) -> list[Any]:
    with RingReader(maps(world)["ring"]) as ring, PerfReader(maps(world)["perf"]) as perf:
        return [ring.poll(timeout), perf.poll(timeout)]


def frozen(world: World) -> Any:
    with Map.create("HASH", key="u32", value="u32", max_entries=2, backend=world.backend) as made:
        made[1] = 1
        made.freeze()
        made[1] = 2


def read(world: World, reader: Any) -> list[Any]:
    world.obj.variables["calls"].value = 5
    with reader:
        world.obj.programs["traced"].test_run(cpu=min(os.sched_getaffinity(0)))
        return list(reader.events(timeout=0))


def overwritten(world: World) -> Any:
    with PerfReader(maps(world)["perf"], overwritable=True) as reader:
        world.obj.programs["traced"].test_run(cpu=min(os.sched_getaffinity(0)))
        reader.pause()
        reader.resume()
        return sum(len(batch) for batch in reader.snapshot())


def counted(world: World) -> Any:
    before = world.obj.programs["packet"].info
    with bpf2py.enable_stats(world.backend):  # others may have them enabled anyway
        world.obj.programs["packet"].test_run(bytes(64))
        after = world.obj.programs["packet"].info
    return after.run_count - before.run_count, after.run_time_ns > before.run_time_ns


@case
def links(world: World) -> Any:
    obj = world.obj
    with obj.programs["traced"].attach() as link:
        other = Link.from_id(link.info["id"], backend=world.backend)
        found = other.info["id"] == link.info["id"]
        other.close()
        return found, link.closed, link.info["prog_id"] == obj.programs["traced"].info.id


@case
def link_open_of_no_iterator(world: World) -> Any:
    with world.obj.programs["traced"].attach() as link:
        link.open()


@case
def link_of_an_iterator(world: World) -> Any:
    with world.obj.programs["listed"].attach() as link, link.open() as file:
        return file.read()[:4]


@case
def link_update(world: World) -> Any:
    with world.obj.programs["listed"].attach() as link:
        link.update(world.obj.programs["traced"])


@case
def link_detach(world: World) -> Any:
    with world.obj.programs["listed"].attach() as link:
        link.detach()


@case
def link_pin(world: World) -> Any:
    with world.obj.programs["traced"].attach() as link:
        link.pin(world.directory / "link")
        link.unpin(world.directory / "link")


@case
def attach_with_an_option_of_another_hook(world: World) -> Any:
    world.obj.programs["traced"].attach(device="lo")


@case
def attach_with_no_such_option(world: World) -> Any:
    world.obj.programs["traced"].attach(devise="lo")  # type: ignore[call-arg]


@case
def struct_ops(world: World) -> Any:
    source = bpf2py.compile("""
    #include "vmlinux.h"
    #include <bpf/bpf_helpers.h>
    #include <bpf/bpf_tracing.h>
    char LICENSE[] SEC("license") = "GPL";
    SEC("struct_ops/undo") u32 BPF_PROG(undo, struct sock *sk) { return 3; }
    SEC("struct_ops/ssthresh") u32 BPF_PROG(ssthresh, struct sock *sk) { return 4; }
    SEC("struct_ops/avoid") void BPF_PROG(avoid, struct sock *sk, u32 ack, u32 acked) {}
    SEC(".struct_ops.link") struct tcp_congestion_ops contract = {
        .undo_cwnd = (void *)undo, .ssthresh = (void *)ssthresh, .cong_avoid = (void *)avoid, .name = "bpf_contract",
    };
    """)
    with bpf2py.load(source, world.backend) as obj:
        return [link.hook for link in obj.attach()]


@case
def closed(world: World) -> Any:
    made = Map.create("HASH", key="u32", value="u32", max_entries=2, backend=world.backend)
    made.close()
    made[1] = 1


class Outcome(NamedTuple):
    """How a case ended: a value, or an error's class and errno."""

    value: Any
    error: BaseException | None

    def kind(self) -> tuple[str, Any]:
        if self.error is None:
            return "value", self.value
        return type(self.error).__name__, getattr(self.error, "errno", None)


def outcome(world: World, function: Case) -> Outcome:
    try:
        return Outcome(function(world), None)
    except Exception as error:
        return Outcome(None, error)


PROTOCOLS = {
    "KernelBackend Engine": protocol.Backend,
    "KernelLoading EngineLoading": protocol.Loading,
    "KernelMap EngineMap": protocol.MapHandle,
    "KernelSlot": protocol.MapSlot,
    "KernelProgram EngineProgram": protocol.ProgramHandle,
    "KernelLink EngineLink": protocol.LinkHandle,
    "PerfBuffer": protocol.PerfBuffer,
    "KernelStructOps": protocol.StructOpsHandle,
}


@contextmanager
def recording() -> Iterator[set[tuple[str, str]]]:
    """(module, qualified name) of every function of a backend that is called."""
    called: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            module = frame.f_globals.get("__name__", "")
            if module.startswith(("bpf2py.kernel", "bpf2py.engine")):
                called.add((module, frame.f_code.co_qualname))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(before)


@pytest.fixture(scope="module")
def code(compile_bpf: Callable[[str], bytes]) -> bytes:
    return compile_bpf(SOURCE)


def run_all(code: bytes, backend: Any, directory: Path) -> dict[str, Outcome]:
    found = {}
    with bpf2py.load(code, backend) as obj:
        for name, function in CASES.items():
            found[name] = outcome(World(obj, backend, directory), function)
    return found


def test_every_operation_ends_alike(code: bytes, bpffs: Path) -> None:
    wrong = []
    with recording() as called:
        kernel, engine = run_all(code, "kernel", bpffs), run_all(code, Engine(kernel=os.uname().release), bpffs)
    for name in CASES:
        one, two = kernel[name], engine[name]
        for backend, end in (("kernel", one), ("engine", two)):
            if isinstance(end.error, AttributeError | AssertionError) or (
                isinstance(end.error, TypeError) and not isinstance(end.error, bpf2py.BpfError)
            ):
                wrong.append(f"{name} on the {backend}: {end.error!r}")
        if isinstance(two.error, bpf2py.NotSupported):
            continue
        if one.kind() != two.kind():
            wrong.append(f"{name}: kernel {one.kind()} {one.error}; engine {two.kind()} {two.error}")
    assert not wrong, "\n".join(wrong)

    qualified = {name for _, name in called}
    missing = []
    for classes, declared in PROTOCOLS.items():
        wanted = {
            name
            for base in declared.__mro__
            if base.__module__ == protocol.__name__
            for name, member in vars(base).items()
            if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
        }
        for cls in classes.split():
            calls = {name.split(".")[-1] for name in qualified if name.split(".")[0] in (cls, *BASES.get(cls, ()))}
            # Attributes, and what only another thread or loop calls.
            data = {
                name
                for name in wanted
                if name
                in (
                    "warning",
                    "fast_lookup",
                    "fast_update",
                    "possible_cpus",
                    "value_bytes",
                    "cpu",
                    "fd",
                    "loaded_code",
                    "verifier_log",
                )
            }
            missing += [f"{cls}.{name}" for name in sorted(wanted - calls - data)]
    assert not missing, " ".join(missing)


BASES = {
    "Engine": ("Machine", "System"),
    "EngineProgram": ("LoadedProgram",),
    "KernelProgram": ("ProgramFd",),
    "KernelStructOps": ("KernelMap",),
    "EngineLink": ("OpenedLink",),
    "PerfBuffer": ("DescriptorSource",),
}

"""Helpers that the library answers in the usual case give what their Python functions give: results, memory, faults."""

from __future__ import annotations

import os
import random
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.engine.raw_programs import RawProgram

import bpf2py
from bpf2py.engine import Engine, Task
from bpf2py.engine.code.code import Op
from bpf2py.engine.code.control import FIRST_CALL
from bpf2py.engine.code.native import can_run
from bpf2py.engine.helpers import _QUICK
from bpf2py.engine.memory import PUBLIC
from bpf2py.engine.programs.packet import Packet, SkBuff, XdpBuff
from bpf2py.engine.run import Run
from bpf2py.errors import ProgramFault
from bpf2py.isa import opcodes as isa
from bpf2py.isa.helpers import HELPERS_BY_NAME

pytestmark = pytest.mark.skipif(not can_run(), reason="no machine code on this processor")

SEED = 20261128
SIZE, HASH = 4096, 68
M64 = (1 << 64) - 1
CLOCKS = ("ktime_get_ns", "ktime_get_boot_ns", "ktime_get_coarse_ns", "ktime_get_tai_ns", "jiffies64")
APART = {
    *CLOCKS,
    "perf_event_output",
    "get_current_task",
    "get_current_task_btf",
    "get_ns_current_pid_tgid",
    "task_storage_get",
}
FORMATS = [
    b"%d %s", b"%u|%x|%X|%i", b"%ld %lu %llx %lld", b"%c%c%%", b"plain", b"", b"%5d", b"%", b"%q", b"%s%s%s", b"%sa", b"%s.",
    b"%d\x7f",
    b"\t%d\n", b"\x01", b"%p", b"%hd", b"%l", b"%lls", b"%dabc", b"%pI4", b"%lc", b"%s\xff",
]  # fmt: skip
TEXTS = [b"12", b"-12", b" 0x1F", b"077", b"08", b"", b"-", b"0x", b"9" * 25, b"word", b"x" * 600, b"-0", b"\t\n7z"]
PACKET = bytes(12) + b"\x08\x00" + bytes(range(86))


def program(engine: Engine, name: str) -> RawProgram:
    """Calls a helper with the five numbers in its context."""
    words = [Op(isa.BPF_ALU64 | isa.BPF_MOV | isa.BPF_X, 6, 1, 0, 0)]
    words += [
        Op(isa.BPF_LDX | isa.BPF_MEM | isa.BPF_DW, register, 6, 8 * (register - 1), 0) for register in range(1, 6)
    ]
    words += [Op(isa.CALL, 0, 0, 0, HELPERS_BY_NAME[name].id), Op(isa.EXIT, 0, 0, 0, 0)]
    code = b"".join(struct.pack("<BBhi", op.opcode, op.dst | op.src << 4, op.offset, op.imm) for op in words)
    return RawProgram(engine, code)


class Side:
    """An engine with memory to work on, a packet, and a program for the helper."""

    def __init__(self, translator: str, name: str, xdp: bool = False, **options: object) -> None:
        self.engine = Engine(translator=translator, task=Task(7, 5, uid=3, gid=4, comm="a name of many"), **options)  # type: ignore[arg-type]
        memory = self.engine.memory
        self.context, self.memory = memory.allocate(64), memory.allocate(SIZE)
        self.packet: Packet = (XdpBuff if xdp or name.startswith("xdp") else SkBuff)(memory, PACKET)
        self.packet.runs = True
        self.program = program(self.engine, name)
        self.left_to_python = 0
        callback = self.engine.code.callback

        def counted(*arguments: int) -> int:
            self.left_to_python += arguments[5] < FIRST_CALL
            result: int = callback(*arguments)
            return result

        self.engine.code.callback = counted

    def call(self, arguments: list[int], content: bytes) -> tuple[object, ...]:
        """What a call gives and leaves."""
        memory, packet = self.engine.memory, self.packet
        memory.write(self.context, struct.pack("<5Q", *arguments))
        memory.write(self.memory, content)
        memory.write(packet.data, PACKET)
        if isinstance(packet, SkBuff):
            packet.set_number(HASH, 0)

        def prepare(run: Run) -> None:
            run.packet = packet
            run.cookie = 99

        result: object
        try:
            result = self.engine.execute(self.program, self.context, prepare)  # type: ignore[arg-type]
        except ProgramFault as fault:
            result = str(fault)
        return (
            result,
            memory.read(self.memory, SIZE),
            packet.content(),
            list(self.engine.trace),
            packet.number(HASH) if isinstance(packet, SkBuff) else 0,
        )


@pytest.fixture
def sides() -> Callable[[str], tuple[Side, Side]]:
    def make(name: str) -> tuple[Side, Side]:
        native, python = Side("native", name), Side("python", name)
        assert (native.memory, native.context, native.packet.data) == (
            python.memory,
            python.context,
            python.packet.data,
        )
        return native, python

    return make


def content(random_: random.Random) -> bytes:
    """Formats, texts and noise, each at a multiple of 64."""
    pieces = [
        random_.choice((random_.choice(FORMATS), random_.choice(TEXTS), random_.randbytes(64)))
        for _ in range(SIZE // 64)
    ]
    return b"".join(piece[:63].ljust(64, b"\0") if len(piece) < 64 else piece[:64] for piece in pieces)


def argument(random_: random.Random, memory: int, end: int) -> int:
    """An address, a size, flags, or what is none of them."""
    place = memory + 64 * random_.randrange(SIZE // 64)
    return random_.choice((
        place, place, place, place + random_.randrange(64), memory + 128, 0, 1, 2, 4, 8, 15, 16, 16, 17, 20, 40, 64, 128,
        1 << 32 | 16, (1 << 32) - 1, M64, end - 8, end, PUBLIC - 1, PUBLIC, random_.getrandbits(64), random_.randrange(100), 0xFFFF,
        10, 0x80000000,
    ))  # fmt: skip


@pytest.mark.parametrize("name", sorted(_QUICK - APART))
def test_the_library_and_python_agree(sides: Callable[[str], tuple[Side, Side]], name: str) -> None:
    native, python = sides(name)
    random_ = random.Random(f"{SEED} {name}")
    end = native.engine.memory.size
    for _ in range(600):
        arguments = [argument(random_, native.memory, end) for _ in range(5)]
        if random_.random() < 0.7:  # what is likely to be right
            for position, parameter in enumerate(HELPERS_BY_NAME[name].parameters):
                if "*" in parameter.type:
                    arguments[position] = native.memory + 64 * random_.randrange(SIZE // 64 - 20)
                elif "size" in parameter.name or parameter.name in ("len", "sz"):
                    arguments[position] = random_.choice((2, 4, 8, 16, 24, 40, 64))
                elif parameter.name in ("flags", "start_header"):
                    arguments[position] = random_.choice((0, 0, 1, 2, 10, 16))
                elif parameter.name in ("offset", "len"):
                    arguments[position] = random_.randrange(110)
        found = content(random_)
        expected = python.call(arguments, found)
        assert native.call(arguments, found) == expected, (name, [hex(each) for each in arguments])
    assert native.left_to_python < 585, "hardly a call was one that the library answers"
    assert python.left_to_python == 600


@pytest.mark.parametrize("name", ["snprintf", "trace_vprintk"])
def test_formats(sides: Callable[[str], tuple[Side, Side]], name: str) -> None:
    native, python = sides(name)
    random_ = random.Random(SEED)
    at = native.memory
    for _ in range(1500):
        form = random_.choice(FORMATS) + random_.choice((b"", b"x", random_.choice(FORMATS)))
        texts = [at + 1024 + 640 * i for i in range(3)]
        values = [random_.choice((*texts, 0, 65, M64, 1 << 31, 1 << 63, random_.getrandbits(64), 9)) for _ in range(6)]
        data = bytearray(SIZE)
        data[: len(form)] = form
        struct.pack_into("<6Q", data, 512, *values)
        for i in range(3):
            text = random_.choice(TEXTS)
            data[1024 + 640 * i : 1024 + 640 * i + len(text)] = text
        used = 8 * random_.randrange(7)
        out, size = random_.choice(
            ((at + 3200, 64), (at + 3200, 8), (at + 3200, 1), (at + 3200, 0), (at + 2, 64), (at + 1030, 32))
        )
        arguments = (
            [out, size, at, at + 512, used]
            if name == "snprintf"
            else [at, random_.choice((64, 200, 3)), at + 512, used, 0]
        )
        assert native.call(arguments, bytes(data)) == python.call(arguments, bytes(data)), (form, used, out - at, size)


@pytest.mark.parametrize("name", ["strtol", "strtoul"])
def test_numbers_that_are_stored_into_their_text(sides: Callable[[str], tuple[Side, Side]], name: str) -> None:
    native, python = sides(name)
    for distance in (-8, -7, -1, 0, 1, 3, 4, 8):
        arguments = [native.memory + 64, 4, 10, native.memory + 64 + distance, 0]
        data = bytes(64) + b"1234" + bytes(60)
        assert native.call(arguments, data) == python.call(arguments, data), distance


@pytest.mark.parametrize("name", CLOCKS)
def test_clocks(name: str) -> None:
    divisor = 4_000_000 if name == "jiffies64" else 1
    for clock in (0, 8_000_000, (1 << 64) - 1):
        side = Side("native", name, clock=clock)
        assert side.call([0] * 5, b"")[0] == clock // divisor
    ticks = iter(range(4_000_000, 1 << 62, 4_000_000))
    side = Side("native", name, clock=lambda: next(ticks))
    assert [side.call([0] * 5, b"")[0] for _ in range(3)] == [
        each // divisor for each in (4_000_000, 8_000_000, 12_000_000)
    ]
    side.engine.clock = 4_000_000
    assert side.call([0] * 5, b"")[0] == 4_000_000 // divisor


@pytest.mark.parametrize(
    ("name", "clock"),
    [
        ("ktime_get_ns", time.CLOCK_MONOTONIC),
        ("ktime_get_boot_ns", time.CLOCK_BOOTTIME),
        ("ktime_get_tai_ns", time.CLOCK_TAI),
    ],
)
def test_the_real_clocks(name: str, clock: int) -> None:
    side = Side("native", name)
    times = [time.clock_gettime_ns(clock), side.call([0] * 5, b"")[0], time.clock_gettime_ns(clock)]
    assert times == sorted(times)  # type: ignore[type-var]


NESTED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
struct facts { __u64 pid_tgid; char comm[16]; __u32 first; } before, inside, after;
static __always_inline void note(struct __sk_buff *skb, struct facts *facts)
{
	facts->pid_tgid = bpf_get_current_pid_tgid();
	bpf_get_current_comm(facts->comm, sizeof(facts->comm));
	bpf_skb_load_bytes(skb, 0, &facts->first, 4);
}
SEC("tc") int outer(struct __sk_buff *skb)
{
	note(skb, &before);
	bpf_get_prandom_u32();
	note(skb, &after);
	return 0;
}
SEC("tc") int inner(struct __sk_buff *skb) { note(skb, &inside); return 0; }
"""


def test_runs_within_runs_have_facts_of_their_own() -> None:
    """After a helper of the user's ran another program, the first one's facts are there again."""
    engine = Engine(task=Task(7, 5, comm="outer"))

    def run_inner(machine: Engine) -> int:
        outer, machine.task = machine.task, Task(70, 50, comm="inner")
        try:
            obj.programs["inner"].test_run(b"inner" + bytes(60))
        finally:
            machine.task = outer
        return 0

    engine.helpers["get_prandom_u32"] = run_inner
    with bpf2py.load(bpf2py.compile(NESTED), backend=engine) as obj:
        obj.programs["outer"].test_run(b"outer" + bytes(60))
        found = {name: obj.variables[name].value for name in ("before", "inside", "after")}
    assert found["before"] == found["after"]
    assert [(each.pid_tgid, each.comm, each.first) for each in (found["before"], found["inside"])] == [
        (5 << 32 | 7, "outer", int.from_bytes(b"oute", "little")),
        (50 << 32 | 70, "inner", int.from_bytes(b"inne", "little")),
    ]


def test_lines_of_trace_printk_keep_their_order() -> None:
    """Those the library keeps and those Python makes, more than the library has room for."""
    native, python = Side("native", "trace_printk"), Side("python", "trace_printk")
    for number in range(3000):
        form = b"%5d wide" if number % 7 == 0 else b"%d and a text as long as that of most lines"
        arguments = [native.memory, 64, number, 0, 0]
        data = form.ljust(64, b"\0")
        assert native.call(arguments, data)[0] == python.call(arguments, data)[0]
    assert native.engine.trace == python.engine.trace
    assert len(native.engine.trace) == 3000


OF_TASKS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
struct task_struct { int pid; };
struct { __uint(type, BPF_MAP_TYPE_TASK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, int); __type(value, __u64); }
	tasks SEC(".maps");
struct bpf_pidns_info ids;
__u64 device, inode, count;
long result;
SEC("tp_btf/sys_enter") int run(__u64 *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	__u64 *value = bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (value)
		count = ++*value;
	result = bpf_get_ns_current_pid_tgid(device, inode, &ids, sizeof(ids));
	return 0;
}
"""


def test_facts_of_the_task_are_asked_for_once() -> None:
    """Where the task is and which PID namespace there is Python says the first time; its storage goes with its pid."""
    engine = Engine(task=Task(7, 5))
    found = os.stat("/proc/self/ns/pid")
    with bpf2py.load(bpf2py.compile(OF_TASKS), backend=engine) as obj:
        obj.variables["device"].value, obj.variables["inode"].value = found.st_dev, found.st_ino
        for pid, expected in ((7, 1), (7, 2), (8, 1), (7, 3), (8, 2)):
            engine.task = Task(pid, 5)
            obj.programs["run"].run()
            assert obj.variables["count"].value == expected
            assert obj.variables["result"].value == 0
            assert (obj.variables["ids"].value.pid, obj.variables["ids"].value.tgid) == (pid, 5)
        obj.variables["inode"].value = found.st_ino + 1
        obj.programs["run"].run()
        assert obj.variables["result"].value == -22


def test_the_library_leaves_calls_to_the_right_helper() -> None:
    """The numbers in its sources are those of the functions they are in."""
    numbers = {}
    for path in (Path(bpf2py.__file__).parent / "engine" / "sources").glob("*.h"):
        name = ""
        for line in path.read_text().splitlines():
            if match := re.match(r"EXPORT .*?(\w+)\(", line):
                name = match[1]
            for number in re.findall(r"(?:PYTHON\(|clock\(\w+, )(\d+)\)", line):
                numbers[name, int(number)] = HELPERS_BY_NAME[name].id
    assert len(numbers) > 30
    assert all(number == expected for (_, number), expected in numbers.items()), numbers


@pytest.mark.parametrize("xdp", [False, True])
def test_verdicts_of_redirect(xdp: bool) -> None:
    native, python = Side("native", "redirect", xdp), Side("python", "redirect", xdp)
    for flags in (0, 1, 2, 1 << 32, M64):
        assert native.call([3, flags, 0, 0, 0], b"")[0] == python.call([3, flags, 0, 0, 0], b"")[0]
    assert native.call([3, 0, 0, 0, 0], b"")[0] == (4 if xdp else 7)


def test_a_packet_that_moved_is_found() -> None:
    """The library knows of the packet's new place and length when Python changed them."""
    engine = Engine()
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
unsigned char first[4];
long results[3];
SEC("xdp") int frame(struct xdp_md *xdp)
{
	results[0] = bpf_xdp_adjust_head(xdp, 4);
	results[1] = bpf_xdp_load_bytes(xdp, 0, first, 4);
	results[2] = bpf_xdp_get_buff_len(xdp);
	return 0;
}
SEC("tc") int packet(struct __sk_buff *skb)
{
	results[0] = bpf_skb_change_head(skb, 8000, 0);
	results[1] = bpf_skb_load_bytes(skb, 8004, first, 4);
	results[2] = bpf_skb_load_bytes(skb, 8097, first, 4);
	return 0;
}
"""
    data = bytes(range(100))
    with bpf2py.load(bpf2py.compile(source), backend=engine) as obj:
        for name, results in (("frame", [0, 0, 96]), ("packet", [0, 0, -14])):
            obj.programs[name].test_run(data)
            assert obj.variables["results"].value == results
            if name == "frame":
                assert obj.variables["first"].value == data[4:8]

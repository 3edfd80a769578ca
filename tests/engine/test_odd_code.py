"""Odd and damaged code, and runs without end: a typed error that says what is wrong, and bounded time and memory."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine
from bpf2py.engine.trace.pcap import PcapWriter, read_packets
from bpf2py.errors import EncodeError, ObjectError, ProgramFault, VerifierError
from bpf2py.isa import opcodes as isa
from bpf2py.spec.program_spec import Ref, RefKind

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
extern int bpf_strlen(const char *text) __ksym;
__u64 turns;
SEC("syscall") int program(void *ctx) { return bpf_strlen("abc") + (turns == 5); }
SEC("syscall") __attribute__((naked)) int first(void)
{
	asm volatile("0: r1 = %[turns] ll; r2 = *(u64 *)(r1 + 0); r2 += 1; *(u64 *)(r1 + 0) = r2; if r2 < 5 goto 0b;"
	"r0 = 7; exit;" :: [turns] "i"(&turns) : "r0", "r1", "r2");
}
static long call(__u32 index, void *ctx) { bpf_printk("line %d", index); return 0; }
SEC("syscall") int print(__u32 *count) { return bpf_loop(*count, call, 0, 0); }
static long spin(__u32 index, void *ctx) { char name[8]; bpf_get_current_comm(name, sizeof(name)); return 0; }
SEC("syscall") int helpers(__u32 *count) { return bpf_loop(*count, spin, 0, 0); }
SEC("syscall") int wide(__u32 *count)
{
	static const char form[] = "%999999999d|%8388607d|%-8388600s|";
	char out[32];
	__u64 values[] = {1, 2, (__u64)form};

	bpf_printk("%999999999d|%8388607d", 1, 2);
	*count = bpf_snprintf(out, sizeof(out), form, values, sizeof(values));
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""
TRANSLATORS = ["native", "python"]


@pytest.fixture
def spec(compile_bpf: Callable[[str], bytes]) -> bpf2py.ObjectSpec:
    return bpf2py.ObjectSpec.from_bytes(compile_bpf(SOURCE), "odd")


def only(spec: bpf2py.ObjectSpec, name: str) -> bpf2py.ObjectSpec:
    found = spec.copy()
    for program in found.programs.values():
        program.autoload = program.name == name
    return found


def test_a_kfunc_call_without_its_relocation(spec: bpf2py.ObjectSpec) -> None:
    damaged = only(spec, "program")
    function = damaged.programs["program"].function
    function.refs = [ref for ref in function.refs if ref.kind != RefKind.EXTERN_CALL]
    call = next(at for at in range(0, len(function.code), 8) if function.code[at] == isa.CALL)
    function.code = function.code[: call + 1] + b"\x20" + function.code[call + 2 :]
    with pytest.raises(VerifierError, match="kernel function btf_id"):
        bpf2py.load(damaged, backend=Engine())


def test_a_relocation_beside_its_instruction(spec: bpf2py.ObjectSpec) -> None:
    damaged = only(spec, "program")
    function = damaged.programs["program"].function
    refs = function.refs
    for shift in (-8, 8, 16, 1 << 20):
        function.refs = [
            Ref(ref.offset + shift, *ref[1:]) if ref.kind in (RefKind.DATA, RefKind.EXTERN_CALL) else ref
            for ref in refs
        ]
        with pytest.raises(bpf2py.BpfError):
            bpf2py.load(damaged, backend=Engine())


@pytest.mark.parametrize("register", [10, 11, 15])
def test_a_call_through_a_register_there_is_not(spec: bpf2py.ObjectSpec, register: int) -> None:
    for fields in ((register, 0), (0, register)):
        damaged = only(spec, "first")
        damaged.programs["first"].function.code = struct.pack("<BBhi", isa.CALLX, fields[0], 0, fields[1]) + bytes(
            [0x95, *bytes(7)]
        )
        damaged.programs["first"].function.refs = []
        with pytest.raises(VerifierError):
            bpf2py.load(damaged, backend=Engine())


@pytest.mark.parametrize("translator", TRANSLATORS)
def test_a_loop_back_to_the_first_instruction(spec: bpf2py.ObjectSpec, translator: str) -> None:
    looped = only(spec, "first")
    with bpf2py.load(looped, backend=Engine(translator=translator)) as obj:
        assert obj.programs["first"].run().return_value == 7
        assert obj.variables["turns"].value == 5


@pytest.mark.parametrize("name", ["²", "7th", "", "a b\n", "class", "é", "\udc80"])
def test_any_name_of_a_function(spec: bpf2py.ObjectSpec, name: str) -> None:
    odd = only(spec, "print")
    for function in odd.functions.values():
        if function.name == "call":
            function.name = name
    odd.programs["print"].name = name
    engine = Engine(translator="python")
    with bpf2py.load(odd, backend=engine) as obj:
        assert next(iter(obj.programs.values())).run(struct.pack("<I", 3)).return_value == 3
    assert engine.trace == ["line 0", "line 1", "line 2"]


def test_the_trace_is_bounded(spec: bpf2py.ObjectSpec) -> None:
    engine = Engine()
    with bpf2py.load(only(spec, "print"), backend=engine) as obj:
        obj.programs["print"].run(struct.pack("<I", 200_000))
    assert 1 << 16 <= len(engine.trace) < 1 << 17
    assert engine.trace[-1] == "line 199999"
    assert engine.trace.dropped == 200_000 - len(engine.trace)


@pytest.mark.parametrize("translator", TRANSLATORS)
def test_helpers_cost_fuel(spec: bpf2py.ObjectSpec, translator: str) -> None:
    """A run of helpers alone ends about when one of plain instructions does."""
    engine = Engine(translator=translator)
    with bpf2py.load(only(spec, "helpers"), backend=engine) as obj:
        with pytest.raises(ProgramFault, match=r"Engine\(fuel=...\) allows more") as caught:
            obj.programs["helpers"].run(struct.pack("<I", 8 << 20))
        assert caught.value.kind == "fuel"
        engine.fuel = 1 << 50
        assert obj.programs["helpers"].run(struct.pack("<I", 1 << 15)).return_value == 1 << 15


def test_the_default_fuel_is_that_of_the_translator() -> None:
    assert Engine(translator="python").fuel < Engine(translator="native").fuel
    assert Engine(fuel=5).fuel == 5


@pytest.mark.parametrize("where", ["engine", pytest.param("kernel", marks=pytest.mark.kernel)])
def test_widths_without_bounds(spec: bpf2py.ObjectSpec, where: str) -> None:
    backend: Any = Engine() if where == "engine" else "kernel"
    with bpf2py.load(only(spec, "wide"), backend=backend) as obj:
        result = obj.programs["wide"].test_run(context=bytes(4))
        assert struct.unpack("<I", result.context)[0] == 8388607 + 1 + 8388607 + 1 + 8388600 + 1 + 1
    if where == "engine":
        assert backend.trace == [" " * 1023]


def test_large_perf_buffers_take_no_memory_until_written() -> None:
    engine = Engine()
    with bpf2py.Map.create("PERF_EVENT_ARRAY", key="u32", value="u32", max_entries=4, backend=engine) as perf_map:
        before = resident()
        with bpf2py.PerfReader(perf_map, pages=1 << 18):
            assert resident() - before < 64 << 10
        with pytest.raises(bpf2py.BpfError):
            bpf2py.PerfReader(perf_map, pages=1 << 20)


def resident() -> int:
    """KiB."""
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1])


@pytest.mark.parametrize("clock", [-1, 1 << 64])
def test_clocks_that_no_number_holds(clock: int) -> None:
    with pytest.raises(EncodeError):
        Engine(clock=clock)
    with pytest.raises(EncodeError):
        Engine(clock=5).clock = clock


def test_times_of_packets_that_do_not_fit(tmp_path: Path) -> None:
    section = struct.pack("<IIIHHq", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1) + struct.pack("<I", 28)
    interface = struct.pack("<IIHHI", 1, 32, 1, 0, 0) + struct.pack("<HHB3xI", 9, 1, 0, 0) + struct.pack("<I", 32)
    packet = struct.pack("<IIIIIII", 6, 32, 0, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0) + struct.pack("<I", 32)
    path = tmp_path / "far.pcapng"
    path.write_bytes(section + interface + packet)
    with pytest.raises(ObjectError, match="a packet's time"):
        list(read_packets(path))
    with PcapWriter(tmp_path / "far.pcap") as writer:
        for time_ns in (-1, 1 << 63):
            with pytest.raises(EncodeError):
                writer.write(b"", time_ns)

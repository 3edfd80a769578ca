"""Objects: programs, variables, externs, copies, and files that are none."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bpf2py.btf.values import plain
from bpf2py.elf.object_file import ElfFile
from bpf2py.errors import EncodeError, ObjectError, RelocationError
from bpf2py.spec.object_spec import ObjectSpec, object_name
from bpf2py.spec.program_spec import RefKind
from bpf2py.uapi.map_types import MapFlags, MapType
from bpf2py.uapi.program_types import AttachType, ProgramType

Read = Callable[[str], ObjectSpec]

PROGRAMS = """
static __noinline int in_text(int x) { return x * 3 + bpf_get_prandom_u32(); }
__noinline int global_in_text(int x) { return in_text(x); }
static __noinline int beside(int x);
SEC("tracepoint/sched/sched_switch") int on_switch(void *ctx) { return global_in_text(1); }
SEC("?kprobe/do_exit") int optional(void *ctx) { return beside(3); }
SEC("?kprobe/do_exit") static __noinline int beside(int x) { return in_text(x); }
SEC("xdp.frags") int packets(void *ctx) { return 2; }
SEC("xdp.frags") int more_packets(void *ctx) { return 1; }
SEC("fentry.s/bpf_prog_load") int sleeps(void *ctx) { return 0; }
SEC("my_own_section") int unknown(void *ctx) { return 0; }
char LICENSE[] SEC("license") = "Dual BSD/GPL";
unsigned int VERSION SEC("version") = 0x060c01;
"""


def test_programs(read: Read) -> None:
    spec = read(PROGRAMS)
    assert list(spec.programs) == ["on_switch", "optional", "packets", "more_packets", "sleeps", "unknown"]
    on_switch, optional, packets, sleeps, unknown = (
        spec.programs[name] for name in ("on_switch", "optional", "packets", "sleeps", "unknown")
    )
    assert (on_switch.type, on_switch.target, on_switch.autoload) == (
        ProgramType.TRACEPOINT,
        "sched/sched_switch",
        True,
    )
    assert (optional.type, optional.target, optional.autoload) == (ProgramType.KPROBE, "do_exit", False)
    assert optional.section == "kprobe/do_exit"
    assert (packets.type, packets.attach_type, packets.flags) == (ProgramType.XDP, AttachType.XDP, 1 << 5)
    assert (sleeps.flags, sleeps.target) == (1 << 4, "bpf_prog_load")
    assert (unknown.type, unknown.section, unknown.definition) == (ProgramType.UNSPEC, "my_own_section", None)
    assert (spec.license, spec.kernel_version) == ("Dual BSD/GPL", 0x060C01)
    functions = {function.name: function for function in spec.functions.values()}
    assert {"in_text", "global_in_text", "beside"} < set(functions)
    assert functions["in_text"].is_static
    assert not functions["global_in_text"].is_static
    assert functions["packets"].section == functions["more_packets"].section
    assert functions["more_packets"].offset == len(functions["packets"].code)
    assert all(function.type_id and function.lines for function in functions.values())
    (call,) = functions["optional"].refs
    assert (call.kind, spec.functions[(call.section, call.value)].name) == (RefKind.CALL, "beside")


VARIABLES = """
struct config { int level; char name[8]; struct { short x, y; } place; };
const volatile int limit = 7;
const volatile struct config config = { 3, "abc", { 1, -2 } };
int counter = -5;
static volatile long hidden = 9;
unsigned char zeros[300];
static int table[4] = { 1, 2, 3, 4 };
_Bool ready;
__u64 own_section SEC(".data.own") = 11;
struct { int n; short tail[]; } flexible = { 2, { 5, 6, 7 } };
SEC("socket") int use(void *ctx) {
    static int calls;
    __u64 *p = &own_section;
    hidden += limit + config.level + counter + zeros[limit & 255] + table[limit & 3] + ready + *p;
    return calls++ + hidden;
}
"""


def test_variables(read: Read) -> None:
    spec = read(VARIABLES)
    values = {
        "limit": 7,
        "config": {"level": 3, "name": "abc", "place": {"x": 1, "y": -2}},
        "counter": -5,
        "hidden": 9,
        "zeros": bytes(300),
        "ready": False,
        "own_section": 11,
        "use.calls": 0,
        "flexible": {"n": 2, "tail": [5, 6, 7]},
    }
    assert {name: plain(spec.variables[name].value) for name in values} == values
    sections = {name: spec.variables[name].map.name for name in values}
    assert sections["limit"] == sections["config"] == ".rodata"
    assert sections["counter"] == sections["hidden"] == ".data"
    assert sections["zeros"] == sections["ready"] == sections["use.calls"] == ".bss"
    assert sections["own_section"] == ".data.own"
    assert spec.variables["limit"].constant
    assert not spec.variables["counter"].constant
    rodata, bss = spec.maps[".rodata"], spec.maps[".bss"]
    assert (rodata.type, rodata.key_size, rodata.max_entries, rodata.frozen) == (MapType.ARRAY, 4, 1, True)
    assert rodata.flags == MapFlags.MMAPABLE | MapFlags.RDONLY_PROG
    assert (bss.flags, bss.frozen, bss.value_size) == (MapFlags.MMAPABLE, False, len(bss.data or b""))


def test_setting_variables(read: Read) -> None:
    spec = read(VARIABLES)
    size = len(spec.maps[".rodata"].data or b"")
    changes: dict[str, Any] = {
        "limit": 100,
        "config": {"level": 1, "name": "xyz"},
        "counter": 1 << 30,
        "zeros": b"\1\2",
        "use.calls": 4,
        "ready": True,
    }
    for name, value in changes.items():
        spec.variables[name].value = value
    assert spec.variables["limit"].value == 100
    assert spec.variables["config"].value == {"level": 1, "name": "xyz", "place": {"x": 0, "y": 0}}
    assert spec.variables["zeros"].value == b"\1\2" + bytes(298)
    assert spec.variables["ready"].value is True
    assert spec.variables["hidden"].value == 9
    assert len(spec.maps[".rodata"].data or b"") == size
    spec.variables["flexible"].value = {"n": 8}  # the tail stays, and so does what lies behind
    assert spec.variables["flexible"].value == {"n": 8, "tail": [5, 6, 7]}
    with pytest.raises(EncodeError, match="variable limit: 4294967296 does not fit int"):
        spec.variables["limit"].value = 1 << 32
    with pytest.raises(EncodeError, match=r"variable config: \.place\.x: 'a' is not a valid short"):
        spec.variables["config"].value = {"place": {"x": "a"}}


def test_references_to_variables(read: Read) -> None:
    spec = read(VARIABLES)
    data = {(ref.name, ref.value) for ref in spec.programs["use"].function.refs if ref.kind == RefKind.DATA}
    for name in ("limit", "counter", "hidden", "zeros", "own_section", "use.calls"):
        variable = spec.variables[name]
        assert (variable.map.name, variable.offset) in data, name


def test_externs(read: Read) -> None:
    spec = read("""
extern int CONFIG_HZ __kconfig;
extern _Bool CONFIG_MAYBE __kconfig __weak;
extern const void jiffies __ksym;
extern void bpf_rcu_read_lock(void) __ksym __weak;
SEC("socket") int use(void *ctx) {
    if (bpf_rcu_read_lock) bpf_rcu_read_lock();
    return CONFIG_HZ + CONFIG_MAYBE + (long)&jiffies;
}
""")
    found = {name: (extern.section, extern.weak, extern.function) for name, extern in spec.externs.items()}
    assert found == {
        "CONFIG_HZ": (".kconfig", False, False),
        "CONFIG_MAYBE": (".kconfig", True, False),
        "jiffies": (".ksyms", False, False),
        "bpf_rcu_read_lock": (".ksyms", True, True),
    }
    refs = {(ref.kind, ref.name) for ref in spec.programs["use"].function.refs}
    assert (RefKind.EXTERN_CALL, "bpf_rcu_read_lock") in refs
    assert (RefKind.EXTERN_VAR, "CONFIG_HZ") in refs
    assert (RefKind.EXTERN_VAR, "jiffies") in refs


def test_copies_are_independent(read: Read) -> None:
    spec = read(
        VARIABLES
        + 'struct { __uint(type, 1); __uint(max_entries, 1); __type(key, int); __type(value, int); } m SEC(".maps");\n'
    )
    copy = spec.copy()
    copy.maps["m"].max_entries = 99
    copy.maps["m"].contents.append((1, 2))
    copy.programs["use"].autoload = False
    copy.variables["limit"].value = 1
    copy.variables["zeros"].value = b"\xff" * 300
    del copy.maps["m"]
    assert (spec.maps["m"].max_entries, spec.maps["m"].contents) == (1, [])
    assert spec.programs["use"].autoload
    assert (spec.variables["limit"].value, spec.variables["zeros"].value) == (7, bytes(300))
    spec.variables["counter"].value = 8
    assert copy.variables["counter"].value == -5
    assert copy.variables["limit"].map is copy.maps[".rodata"]


def test_objects_without_btf_give_bytes(compile_bpf: Callable[[str], bytes]) -> None:
    from bpf2py.toolchain.compiler import compile

    spec = ObjectSpec.from_bytes(compile("int counter = 5;\nchar text[3] = {1, 2, 3};\n", cflags=["-g0"]))
    assert spec.types is None
    assert spec.variables["counter"].value == b"\5\0\0\0"
    spec.variables["counter"].value = 7
    assert (spec.variables["counter"].value, spec.variables["text"].value) == (b"\7\0\0\0", b"\1\2\3")


def test_files(tmp_path: Path, compile_bpf: Callable[[str], bytes]) -> None:
    path = tmp_path / "counter.bpf.o"
    path.write_bytes(compile_bpf("int a;\nint b;\n"))
    assert ObjectSpec.from_file(path).name == "counter"
    assert object_name("/x/y.z.o") == "y.z"
    with pytest.raises(FileNotFoundError):
        ObjectSpec.from_file(tmp_path / "none.o")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an ELF file"),
        (b"int main(void) {}", r"not an ELF file \(an object compiled with clang -target bpf is expected\)"),
        (b"\x7fELF", "cut short: 4 bytes"),
        (b"\x7fELF\1\1" + bytes(80), "not a 32-bit one"),
        (b"\x7fELF\2\2" + bytes(80), "big-endian objects are not supported"),
        (b"\x7fELF\2\1" + bytes(80), "no section headers"),
    ],
)
def test_no_objects(data: bytes, message: str) -> None:
    with pytest.raises(ObjectError, match=message):
        ObjectSpec.from_bytes(data)


def test_a_program_of_this_machine() -> None:
    import sys

    with pytest.raises(ObjectError, match="not a BPF object: the ELF machine is"):
        ObjectSpec.from_file(sys.executable)


def patched_section(data: bytes, name: str, field: int, value: int) -> bytes:
    """The object with one 64-bit word of a section's header replaced."""
    (start,) = struct.unpack_from("<Q", data, 0x28)
    number = next(section.number for section in ElfFile(data).sections if section.name == name)
    changed = bytearray(data)
    struct.pack_into("<Q", changed, start + number * 64 + field, value)
    return bytes(changed)


def test_a_huge_bss_costs_nothing_until_it_is_used(compile_bpf: Callable[[str], bytes]) -> None:
    import tracemalloc

    data = patched_section(compile_bpf("int zero;\nchar more[100];\n"), ".bss", 0x20, 1 << 30)
    tracemalloc.start()
    spec = ObjectSpec.from_bytes(data).copy()
    assert spec.variables["zero"].value == 0
    assert spec.maps[".bss"].value_size == 1 << 30
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()
    with pytest.raises(ObjectError, match="not plausible"):
        ObjectSpec.from_bytes(patched_section(data, ".bss", 0x20, (1 << 30) + 1))


def test_damage_names_its_place(compile_bpf: Callable[[str], bytes]) -> None:
    source = 'int a = 5;\n__attribute__((section("socket"))) int p(void *ctx) { return a; }\n'
    data = compile_bpf(source)
    with pytest.raises(ObjectError, match=r"lies outside the file; is it truncated\? \(section \.data, offset"):
        ObjectSpec.from_bytes(patched_section(data, ".data", 0x18, 1 << 20))
    with pytest.raises(ObjectError, match=r"not made of 8-byte instructions|wrong place or size"):
        ObjectSpec.from_bytes(patched_section(data, "socket", 0x20, 9))
    with pytest.raises(ObjectError, match="relocations are cut short"):
        ObjectSpec.from_bytes(patched_section(data, ".relsocket", 0x20, 9))


def test_a_common_symbol_is_explained() -> None:
    from bpf2py.toolchain.compiler import compile

    source = 'int a;\n__attribute__((section("socket"))) int p(void *ctx) { return a; }\n'
    with pytest.raises(RelocationError, match=r"program p: symbol 'a': .* initialise the variable"):
        ObjectSpec.from_bytes(compile(source, cflags=["-fcommon"]))


def test_sections_that_overlap_many_times() -> None:
    count, size = 3000, 300_000
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 1, 247, 1, 0, 0, size, 0, 64, 0, 0, 64, count, 1)
    sections = bytes(64) + struct.pack("<IIQQQQIIQQ", 0, 1, 0, 0, 0, size, 0, 0, 1, 0) * (count - 1)
    with pytest.raises(ObjectError, match="the sections overlap"):
        ObjectSpec.from_bytes(header.ljust(size, b"\0") + sections)

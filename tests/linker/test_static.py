"""Static linking: objects that call each other and share variables and maps, loaded as one."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.btf.types import DataSec, Kind, Var
from bpf2py.linker.static import link_objects

Compile = Callable[[str], bytes]
# No vmlinux.h: what is compiled once serves every kernel.
HEAD = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n#include <bpf/bpf_core_read.h>\n"
GPL = 'char LICENSE[] SEC("license") = "GPL";\n'
MAP = "struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, int); __type(value, long); }"

FIRST = (
    HEAD
    + MAP
    + """ shared SEC(".maps");
struct ring_node { struct ring_node *next; int number; };
struct ring_node first_node = {0, 3};
long counter = 5;
int padding[3] = {1, 2, 3};
const volatile char tag = 't';
int zeros, table[8] = {10, 11, 12, 13, 14, 15, 16, 17};
static long hidden_from_others = 7;
static __noinline long same_name(long x) { return x + hidden_from_others; }
extern long from_second(long x);
extern long callback_of_second(__u32 i, void *ctx);
long from_first(long x) { return same_name(x) + from_second(x); }
__weak long choose(long x) { return x + 1; }
__weak long settings = 1;
SEC("syscall") int run_first(void *ctx)
{
    int key = 1;
    long *value = bpf_map_lookup_elem(&shared, &key);

    if (value)
        *value += 1;
    counter += 1;
    zeros = choose(from_first(100)) + settings;
    bpf_loop(3, callback_of_second, 0, 0);
    return 0;
}
"""
    + GPL
)
SECOND = (
    HEAD
    + "extern "
    + MAP
    + """ shared SEC(".maps");
struct ring_node { struct ring_node *next; int number; };
extern struct ring_node first_node;
struct task_struct { int tgid; } __attribute__((preserve_access_index));
extern long counter;
extern int table[8];
char odd = 9;
long aligned_data __attribute__((aligned(64))) = 0x1234;
static long hidden_from_others = 1000;
long loops, seen_tag, element;
extern const volatile char tag;
static __noinline long same_name(long x) { return x + hidden_from_others; }
long from_second(long x) { return same_name(x) + first_node.number; }
__hidden long callback_of_second(__u32 i, void *ctx) { loops += 1; return 0; }
long choose(long x) { return x + 2; }
long settings = 40;
SEC("syscall") int run_second(void *ctx)
{
    int key = 1;
    long *value = bpf_map_lookup_elem(&shared, &key);
    struct task_struct *task = (void *)bpf_get_current_task();
    int *entry;

    if (value)
        *value += 100;
    counter += 10;
    seen_tag = tag;
    element = table[5];
    if (BPF_CORE_READ(task, tgid) == bpf_get_current_pid_tgid() >> 32)
        element += 1000;
    asm volatile("%0 = table + 8 ll" : "=r"(entry));
    element += *entry * 10000;
    return 0;
}
"""
    + GPL
)


def compiled(compile_bpf: Compile, *sources: str) -> list[bpf2py.ObjectSpec]:
    return [bpf2py.ObjectSpec.from_bytes(compile_bpf(source), f"part{i + 1}") for i, source in enumerate(sources)]


def link(compile_bpf: Compile, *sources: str) -> bpf2py.ObjectSpec:
    return link_objects(compiled(compile_bpf, *sources))


def value(obj: Any, name: str) -> Any:
    return obj.variables[name].value


@pytest.mark.kernel
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_functions_variables_and_maps_across_objects(compile_bpf: Compile, order: tuple[int, int]) -> None:
    objects = [compile_bpf((FIRST, SECOND)[i]) for i in order]
    with bpf2py.load(objects) as obj:
        assert not obj.warnings, "the kernel takes the merged BTF"
        obj.programs["run_first"].test_run()
        obj.programs["run_second"].test_run()
        assert obj.maps["shared"][1] == 101
        assert value(obj, "counter") == 5 + 1 + 10
        # same_name is static in both: 107 + (1100 + 3); the strong choose() adds 2, the strong settings is 40
        assert value(obj, "zeros") == 107 + 1103 + 2 + 40
        assert value(obj, "loops") == 3, "the address of a function of the other object"
        assert value(obj, "seen_tag") == ord("t")
        # table[5], CO-RE in the second object, and a reference into the middle of the table: table[2]
        assert value(obj, "element") == 15 + 1000 + 12 * 10000
        assert value(obj, "settings") == 40
        assert [value(obj, "odd"), value(obj, "aligned_data")] == [9, 0x1234]
        assert obj.spec.variables["aligned_data"].offset % 64 == 0
        assert list(value(obj, "padding")) == [1, 2, 3]
        assert value(obj, "first_node")["number"] == 3


@pytest.mark.kernel
def test_the_kernel_gets_what_bpftool_would_give_it(compile_bpf: Compile, tmp_path: Path) -> None:
    bpftool = shutil.which("bpftool")
    if bpftool is None:
        pytest.skip("bpftool is not installed: nothing to compare with")
    files = []
    for number, source in enumerate((FIRST, SECOND)):
        files.append(tmp_path / f"{number}.o")
        files[-1].write_bytes(compile_bpf(source))
    subprocess.run([bpftool, "gen", "object", tmp_path / "linked.o", *files], check=True)

    def tags(source: Any) -> dict[str, Any]:
        with bpf2py.load(source) as obj:
            return {name: program.info.tag for name, program in obj.programs.items()}

    assert tags(files) == tags(tmp_path / "linked.o")


@pytest.mark.kernel
def test_three_objects_in_a_chain_linked_in_two_steps(compile_bpf: Compile) -> None:
    def source(number: int, callee: str, body: str) -> str:
        return HEAD + f"{callee} int total{number};\n int step{number}(int x) {{ {body} }}\n" + GPL

    last = source(3, "static", "total3 = x; return x + 1;").replace("static int total3", "int total3")
    middle = source(2, "int step3(int x);", "total2 = x; return step3(x * 2);")
    top = (
        HEAD
        + 'int step2(int x); int result; SEC("syscall") int run(void *ctx) { result = step2(5); return 0; }\n'
        + GPL
    )
    a, b, c = compiled(compile_bpf, top, middle, last)
    for spec in (
        link_objects([a, b, c]),
        link_objects([link_objects([a, b]), c]),
        link_objects([a, link_objects([c, b])]),
    ):
        with bpf2py.load(spec) as obj:
            obj.programs["run"].test_run()
            assert [value(obj, name) for name in ("result", "total2", "total3")] == [11, 5, 10]


@pytest.mark.kernel
def test_headers_may_define_weak_hidden_functions_and_maps(compile_bpf: Compile) -> None:
    """As <bpf/usdt.bpf.h> does: each object has a copy, one is kept."""
    common = HEAD + MAP + ' numbers SEC(".maps") __weak;\n__weak __hidden int helper(int x) { return x * 3; }\n'
    one = (
        common
        + 'int a; SEC("syscall") int first(void *ctx) { a = helper(1); bpf_map_delete_elem(&numbers, &a); return 0; }\n'
    )
    two = (
        common
        + 'int b; SEC("syscall") int second(void *ctx) { b = helper(2); bpf_map_delete_elem(&numbers, &b); return 0; }\n'
    )
    spec = link(compile_bpf, one + GPL, two + GPL)
    assert [function.name for function in spec.functions.values()].count("helper") == 1
    with bpf2py.load(spec) as obj:
        for name in obj.programs:
            obj.programs[name].test_run()
        assert [value(obj, "a"), value(obj, "b")] == [3, 6]


@pytest.mark.kernel
def test_changes_made_before_linking_hold(compile_bpf: Compile) -> None:
    first, second = compiled(compile_bpf, FIRST, SECOND)
    first.variables["counter"].value = 500
    second.variables["loops"].value = 70
    second.programs["run_second"].autoload = False
    with bpf2py.load([first, second]) as obj:
        assert list(obj.programs) == ["run_first"]
        obj.programs["run_first"].test_run()
        assert [value(obj, "counter"), value(obj, "loops")] == [501, 73]
    assert first.variables["counter"].offset == compiled(compile_bpf, FIRST)[0].variables["counter"].offset
    assert second.variables["loops"].value == 70


@pytest.mark.kernel
def test_errors_of_the_verifier_name_the_line(compile_bpf: Compile) -> None:
    bad = HEAD + (
        "long counter;\nextern long from_second(long x);\n"
        'SEC("syscall") int bad(void *ctx)\n{\n    long *p = (void *)from_second(1);\n    return *p; /* here */\n}\n'
    )
    other = HEAD + "long from_second(long x) { return x; }\n"
    with pytest.raises(bpf2py.VerifierError) as caught:
        bpf2py.load([compile_bpf(other + GPL), compile_bpf(bad + GPL)])
    assert "/* here */" in (caught.value.source_line or "")


def test_types_are_merged(compile_bpf: Compile) -> None:
    first, second = compiled(compile_bpf, FIRST, SECOND)
    spec = link_objects([first, second])
    assert spec.types is not None
    assert first.types is not None
    assert second.types is not None
    structs = [t for i in spec.types.ids_by_name("ring_node") if (t := spec.types.type(i)).kind == Kind.STRUCT]
    assert len(structs) == 1, "a type that refers to itself is there once"
    assert len(spec.types) < len(first.types) + len(second.types)
    for name in ("int", "long"):
        assert len(spec.types.ids_by_name(name)) == 1
    for name in ("counter", "choose", "shared", "settings"):
        assert len(spec.types.ids_by_name(name)) == 1, "declarations give way to the definition"
    for type_id in spec.types.ids_of_kind(Kind.DATASEC):
        section = spec.types.type(type_id)
        assert isinstance(section, DataSec)
        assert len(spec.types.ids_by_name(section.name)) == 1
        for row in section.variables:
            var = spec.types.type(row.type_id)
            assert isinstance(var, Var)
            assert row.offset + row.size <= section.size
            if section.name in spec.maps and var.name in spec.variables and var.linkage:
                assert spec.variables[var.name].offset == row.offset
    for function in spec.functions.values():
        assert spec.types.type(function.type_id).name == function.name
        for line in function.lines:
            spec.types.string(line.line_off)


def test_one_object_stays_what_it_is(compile_bpf: Compile) -> None:
    (spec,) = compiled(compile_bpf, FIRST)
    linked = link_objects([spec])
    assert list(linked.maps) == list(spec.maps)
    assert list(linked.programs) == list(spec.programs)
    assert {n: (v.map.name, v.offset, v.value) for n, v in linked.variables.items()} == {
        n: (v.map.name, v.offset, v.value) for n, v in spec.variables.items()
    }
    assert linked.externs.keys() == spec.externs.keys()


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        ("int f(int x) { return x; }", "int f(int x) { return 1; }", "function f is defined both in part1 and in part2; make"),
        ("int v = 1;", "int v = 2;", "variable v is defined both in part1 and in part2"),
        (MAP + ' m SEC(".maps");', MAP + ' m SEC(".maps");', "map m is defined both in part1 and in part2"),
        ("int x(int a) { return a; }", "int x = 1;", "x is variable in part2, but function in part1"),
        (
            MAP + ' m SEC(".maps");',
            "extern " + MAP.replace("long", "int") + ' m SEC(".maps"); SEC("tc") int p(void *c) { int k = 0; '
            + 'return bpf_map_delete_elem(&m, &k); }',
            "map m differs between part2 and part1: value_size is 4 and 8",
        ),
        (
            MAP + ' m SEC(".maps") __weak;',
            MAP.replace("max_entries, 4", "max_entries, 5") + ' m SEC(".maps") __weak;',
            "map m differs between part2 and part1: max_entries is 5 and 4",
        ),
        (
            "long v = 1;",
            'extern int v; SEC("tc") int p(void *c) { return v; }',
            "variable v has 4 bytes in its declaration in part2, but 8 in part1",
        ),
        (
            "int f(int x) { return x; }",
            'extern int f(int x, int y); SEC("tc") int p(void *c) { return f(1, 2); }',
            "function f: its declaration in part2 does not agree with its definition in part1",
        ),
        (
            "int f = 1;",
            'extern int f(int x); SEC("tc") int p(void *c) { return f(1); }',
            "f is declared as a function in part2, but is not a function in part1",
        ),
        (
            "int f(int x) { return x; }",
            'extern int f; SEC("tc") int p(void *c) { return f; }',
            "f is declared as a variable in part2, but is a function in part1",
        ),
        ('SEC("tc") int p(void *c) { return 0; }', 'SEC("tc") int p(void *c) { return 1; }', "function p is defined both"),
    ],
)  # fmt: skip
def test_conflicts(compile_bpf: Compile, one: str, two: str, message: str) -> None:
    with pytest.raises(bpf2py.ObjectError) as caught:
        link(compile_bpf, HEAD + one + "\n" + GPL, HEAD + two + "\n" + GPL)
    assert message in str(caught.value)


def test_licenses_must_agree(compile_bpf: Compile) -> None:
    program = HEAD + 'SEC("tc") int NAME(void *c) { return 0; }\n'
    with pytest.raises(bpf2py.ObjectError, match="part2: the license is 'MIT', but 'GPL' in the objects before it"):
        link(compile_bpf, program.replace("NAME", "a") + GPL, program.replace("NAME", "b") + GPL.replace("GPL", "MIT"))
    assert link(compile_bpf, program.replace("NAME", "a"), program.replace("NAME", "b") + GPL).license == "GPL"


def test_objects_of_the_same_name_are_told_apart(compile_bpf: Compile) -> None:
    data = compile_bpf(HEAD + "int v = 1;\n" + GPL)
    with pytest.raises(bpf2py.ObjectError, match=r"variable v is defined both in object #1 and in object #2"):
        bpf2py.load([data, data])
    with pytest.raises(bpf2py.ObjectError, match="empty list"):
        bpf2py.load([])


@pytest.mark.kernel
@pytest.mark.parametrize("declaration", ["extern long missing(long x);", "extern long missing;"])
def test_what_nobody_defines(compile_bpf: Compile, declaration: str) -> None:
    use = "missing(1)" if "(" in declaration else "missing"
    source = HEAD + declaration + f'\nSEC("syscall") int p(void *c) {{ return {use}; }}\n' + GPL
    with pytest.raises(
        bpf2py.RelocationError, match=r"'missing' is .* defined nowhere; load the object that defines it"
    ):
        bpf2py.load([compile_bpf(source), compile_bpf(HEAD + GPL + "int other = 1;\n")])


def test_damaged_objects_give_typed_errors(compile_bpf: Compile) -> None:
    data, sound = compile_bpf(FIRST), compiled(compile_bpf, SECOND)[0]
    chance, linked = random.Random(5), 0
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 1, 3))):
            at = chance.randrange(len(damaged) - 4)
            word = chance.choice((0, 1, 2, 5, 100, 0x7FFFFFFF, 0xFFFFFFFF))
            damaged[at : at + 4] = word.to_bytes(4, "little")
        try:
            spec = bpf2py.ObjectSpec.from_bytes(damaged)
            link_objects(chance.choice(([spec, sound], [sound, spec])))
            linked += 1
        except bpf2py.ObjectError:
            pass
    assert linked > 100, "most damage is not met by the reader"

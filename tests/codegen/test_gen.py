"""bpf2py gen: modules that check, format, import, load, and come out the same twice."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import bpf2py

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.bpf.c"))

NASTY = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
enum color { RED = -1, GREEN = 5, class_ = 7 };
struct inner { __u8 a; __u64 b; } __attribute__((packed));
union addr { __u32 v4; __u8 v6[16]; };
struct nasty {
    __u32 low : 3, high : 5;
    enum color color;
    union addr addr;
    struct inner list[3];
    union { __u32 x; struct { __u16 lo, hi; }; };
    _Bool yes;
    double ratio;
    char name[7];
    __u32 from;
};
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 8); __type(key, struct inner); __type(value, struct nasty); }
    per_cpu SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, enum color); }
    colors SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 4); __type(value, struct nasty); } queue SEC(".maps");
const volatile int sampling = 7;
struct extra { int only_by_name; };
struct extra *use;
SEC("syscall") int run(void *ctx) { return sampling; }
char LICENSE[] SEC("license") = "GPL";
"""


def gen(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "bpf2py", "gen", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Modules of all examples and of the nasty layouts, in one directory."""
    directory = tmp_path_factory.mktemp("generated")
    (directory / "nasty.bpf.c").write_text(NASTY)
    for source in (*EXAMPLES, directory / "nasty.bpf.c"):
        gen(source.name.removesuffix(".bpf.c"), str(source), "--output-dir", str(directory))
    gen("embedded", str(directory / "nasty.bpf.c"), "--output-dir", str(directory), "--embed", "--type", "extra")
    return directory


def test_modules_pass_strict_type_checks(generated: Path) -> None:
    modules = sorted(str(path) for path in generated.glob("*_bpfel.py"))
    assert len(modules) == len(EXAMPLES) + 2
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(generated / "cache"), *modules],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_modules_are_formatted_and_clean(generated: Path) -> None:
    modules = sorted(str(path) for path in generated.glob("*_bpfel.py"))
    for command in (["format", "--check", "--diff"], ["check", "--select", "E,F,I,UP,B", "--ignore", "E501"]):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "ruff",
                *command,
                "--isolated",
                "--target-version",
                "py311",
                "--line-length",
                "120",
                *modules,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_types_are_exact(generated: Path) -> None:
    module: Any = load_module(generated / "nasty_bpfel.py")
    value = module.Nasty(low=5, high=17, name="abc", x=0x00020001, addr={"v4": 0x0A000001})
    assert (value.low, value.high, value.name, value.lo, value.hi) == (5, 17, "abc", 1, 2)
    assert bytes(value)[0] == 5 | 17 << 3
    assert value.from_ == 0
    assert module.Color.GREEN == 5
    assert module.Color(99) == 99
    assert "double ratio;" not in (module.__doc__ or "")
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = module.Nothing


def test_the_same_twice_and_no_path_inside(generated: Path, tmp_path: Path) -> None:
    for directory in (tmp_path / "a", tmp_path / "b" / "deeper"):
        directory.mkdir(parents=True)
        (directory / "nasty.bpf.c").write_text(NASTY)
        gen("nasty", str(directory / "nasty.bpf.c"), "--output-dir", str(directory))
        for name in ("nasty_bpfel.py", "nasty_bpfel.o"):
            content = (directory / name).read_bytes()
            assert str(directory).encode() not in content
            assert content == (generated / name).read_bytes()


def test_check_fails_when_stale(tmp_path: Path) -> None:
    source = tmp_path / "nasty.bpf.c"
    source.write_text(NASTY)
    arguments = ("nasty", str(source), "--output-dir", str(tmp_path))
    assert "not up to date" in gen(*arguments, "--check", status=1).stderr
    gen(*arguments)
    gen(*arguments, "--check")
    source.write_text(NASTY.replace("char name[7]", "char name[8]"))
    assert "run bpf2py gen again" in gen(*arguments, "--check", status=1).stderr


def test_wrong_input_is_one_line(tmp_path: Path) -> None:
    assert "is no Python identifier" in gen("no-name", str(EXAMPLES[0]), status=1).stderr
    assert "No such file" in gen("x", str(tmp_path / "none.o"), status=1).stderr
    assert "no type named 'missing'" in gen("x", str(EXAMPLES[0]), "--type", "missing", "--check", status=1).stderr


def test_targets_stems_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "nasty.bpf.c"
    source.write_text(NASTY)
    gen("nasty", str(source), "--output-dir", str(tmp_path / "a"), "--target", "bpf", "--output-stem", "other")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["other_bpf.o", "other_bpf.py"]
    gen("nasty", str(source), "--output-dir", str(tmp_path / "b"), "--target", "native")
    assert (tmp_path / "b" / "nasty_bpfel.py").exists()
    assert "little-endian" in gen("nasty", str(source), "--target", "bpfeb", status=1).stderr
    monkeypatch.setenv("BPF2PY_OUTPUT_DIR", str(tmp_path / "c"))
    monkeypatch.setenv("BPF2PY_TARGET", "bpf")
    monkeypatch.setenv("BPF2PY_CFLAGS", "-DUNUSED='1 + 1' -Wno-all")
    gen("nasty", str(source))
    assert (tmp_path / "c" / "nasty_bpf.py").exists()
    monkeypatch.setenv("BPF2PY_CC", "/no/such/compiler")
    assert "no such program" in gen("nasty", str(source), status=1).stderr
    monkeypatch.delenv("BPF2PY_CC")
    assert "no such program" in gen("nasty", str(source), "--cc", "/no/such/compiler", status=1).stderr
    gen("nasty", str(source), "--cc", "ziglang", "--cflags", "-DUNUSED", "--", "-DALSO_UNUSED")


def test_stripping_keeps_what_is_loaded(tmp_path: Path) -> None:
    source = tmp_path / "nasty.bpf.c"
    source.write_text(NASTY)
    for option in ("--strip", "--no-strip"):
        gen(f"nasty{len(option)}", str(source), option, "--output-dir", str(tmp_path))
    small, large = (tmp_path / f"nasty{len(option)}_bpfel.o" for option in ("--strip", "--no-strip"))
    assert small.stat().st_size < large.stat().st_size * 0.7
    assert b"clang version" not in small.read_bytes()
    one, two = bpf2py.ObjectSpec.from_file(small), bpf2py.ObjectSpec.from_file(large)
    assert {name: bytes(f.code) for name, f in one.functions.items()} == {
        n: bytes(f.code) for n, f in two.functions.items()
    }
    assert one.types is not None
    assert two.types is not None
    assert one.types.data == two.types.data
    assert list(one.maps) == list(two.maps)
    if shutil.which("bpftool") is not None:  # what is left is complete for libbpf, too
        linked = ["bpftool", "gen", "object", str(tmp_path / "linked.o"), str(small)]
        done = subprocess.run(linked, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_dependencies_for_make(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "own.h").write_text('#include "further.h"\n')
    (tmp_path / "deep" / "further.h").write_text("")
    source = tmp_path / "deep" / "nasty.bpf.c"
    source.write_text('#include "own.h"\n' + NASTY)
    gen("nasty", str(source), "--output-dir", str(tmp_path / "out"), "--makebase", str(tmp_path))
    rule = (tmp_path / "out" / "nasty_bpfel.d").read_text().replace("\\\n", " ").split()
    assert rule == ["out/nasty_bpfel.py:", "deep/nasty.bpf.c", "deep/further.h", "deep/own.h"]


def test_without_global_types(tmp_path: Path) -> None:
    source = tmp_path / "nasty.bpf.c"
    source.write_text(NASTY)
    gen("nasty", str(source), "--no-global-types", "--type", "extra", "--output-dir", str(tmp_path))
    text = (tmp_path / "nasty_bpfel.py").read_text()
    assert "class Extra" in text
    assert "class Nasty" not in text
    assert "QueueMap[Any]" in text
    mypy = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        str(tmp_path / "cache"),
        str(tmp_path / "nasty_bpfel.py"),
    ]
    done = subprocess.run(mypy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


LAYOUTS = {
    "bitfields": "unsigned a : 3; int b : 5; unsigned long long c : 40; unsigned char d;",
    "packed": "char a; long long b; short c;",
    "unions": "int tag; union { int number; char text[8]; struct { short low, high; }; };",
    "flexible": "int count; short rest[0];",
    "wide_enum": "enum wide { SMALL = -1, LARGE = 1LL << 40 } value; char tail;",
    "nested_arrays": "short table[2][3][4]; struct { char c; int i; } many[2];",
    "aligned": "char a; int b __attribute__((aligned(16))); char c;",
    "zero_size": "struct {} nothing; int a; char none[0]; short b;",
    "typedefs": "chain3 number; const volatile chain2 other; char pad;",
    "pointers": "void *one; struct pointers *self; void *args; int (*call)(int); char **names[2];",
    "odd": "_Bool yes; float small; double large; __int128 huge; unsigned __int128 more; char last;",
}
DECLARED = """
typedef unsigned short chain1; typedef chain1 chain2; typedef const chain2 chain3;
""" + "".join(
    f"struct {name} {{ {body} }}{' __attribute__((packed))' if name == 'packed' else ''};\n"
    for name, body in LAYOUTS.items()
)


def test_layouts_are_those_of_c(tmp_path: Path) -> None:
    """Bytes a C program makes are taken apart and put together again, member by member, without a difference."""
    maps = "".join(f"struct {name} *keep_{name};\n" for name in LAYOUTS)
    source = tmp_path / "layouts.bpf.c"
    source.write_text(f'{DECLARED}{maps}char LICENSE[] __attribute__((section("license"), used)) = "GPL";\n')
    types = [word for name in LAYOUTS for word in ("--type", name)]
    gen("layouts", str(source), "--output-dir", str(tmp_path), *types)
    lines = "".join(
        f"{{ struct {name} *p = (void *)bytes; __builtin_memset(bytes, 0, 256); fill(sizeof(*p)); struct {name} v; "
        f'__builtin_memset(&v, 0, sizeof(v)); copy_{name}(&v, p); show("{name}", &v, sizeof(v)); }}\n'
        for name in LAYOUTS
    )
    copies = {
        "bitfields": "a b c d", "packed": "a b c", "unions": "tag text", "flexible": "count", "wide_enum": "value tail",
        "nested_arrays": "table many", "aligned": "a b c", "zero_size": "a b", "typedefs": "number other pad",
        "pointers": "one self args call names", "odd": "yes small large huge more last",
    }  # fmt: skip
    by_memory = {"text", "table", "names", "number", "other"}
    functions = ""
    for name, members in copies.items():
        body = ""
        for member in members.split():
            if name == "nested_arrays" and member == "many":
                body += (
                    "for (int i = 0; i < 2; i++) { to->many[i].c = from->many[i].c; to->many[i].i = from->many[i].i; }"
                )
            elif member in by_memory:
                body += f"__builtin_memcpy((void *)&to->{member}, (void *)&from->{member}, sizeof(to->{member}));"
            elif member == "yes":
                body += "to->yes = from->yes;"
            else:
                body += f"to->{member} = from->{member};"
        functions += f"static void copy_{name}(struct {name} *to, struct {name} *from) {{ {body} }}\n"
    program = tmp_path / "layouts.c"
    program.write_text(
        f"#include <stdio.h>\n{DECLARED}static unsigned char bytes[256] __attribute__((aligned(16)));\n"
        "static void fill(int n) { for (int i = 0; i < n; i++) bytes[i] = i % 7 == 3 ? 0x81 + i : i + 1;"
        " bytes[0] = 1; }\n"
        'static void show(const char *name, void *p, int n) { printf("%s ", name);'
        ' for (int i = 0; i < n; i++) printf("%02x", ((unsigned char *)p)[i]); printf("\\n"); }\n'
        f"{functions}int main(void) {{ {lines} return 0; }}\n"
    )
    cc = [sys.executable, "-m", "ziglang", "cc"]
    subprocess.run([*cc, "-w", "-O1", "-fno-strict-aliasing", "-o", tmp_path / "layouts", program], check=True)
    said = subprocess.run([tmp_path / "layouts"], check=True, capture_output=True, text=True).stdout
    module: Any = load_module(tmp_path / "layouts_bpfel.py")
    seen = set()
    for line in said.splitlines():
        name, _, text = line.partition(" ")
        seen.add(name)
        raw = bytes.fromhex(text)
        cls = getattr(module, "".join(word.capitalize() for word in name.split("_")))
        codec = cls._codec
        assert codec.size == len(raw), name
        value = codec.decode(raw)
        assert codec.encode(value) == raw, name
        # Rebuilt from plain members alone: nothing is carried along unseen, but the members of unions overlap.
        given: dict[str, Any] = {
            field: getattr(value, field) for field in cls._fields if name != "unions" or field in ("tag", "text")
        }
        assert bytes(cls(**given)) == raw, name
    assert seen == set(LAYOUTS)


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["nasty", "embedded"])
def test_loads_and_is_typed(generated: Path, name: str) -> None:
    module: Any = load_module(generated / f"{name}_bpfel.py")

    def change(spec: bpf2py.ObjectSpec) -> None:
        spec.variables["sampling"].value = 11

    with module.Objects.load(change=change) as obj:
        obj.maps.queue.push(module.Nasty(name="first"))
        assert obj.maps.queue.pop().name == "first"
        obj.maps.colors[1] = module.Color.GREEN
        assert obj.maps.colors[1] == 5
        assert obj.programs.run.test_run().return_value == 11
        assert obj.variables.sampling.value == 11
    assert json.dumps(module.Objects.spec().variables["sampling"].value) == "7"

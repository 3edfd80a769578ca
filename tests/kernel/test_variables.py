from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bpf2py

pytestmark = pytest.mark.kernel

SOURCE = """
enum my_mode { OFF, ON = 5 };
struct my_pair { __u16 a; __s32 b; };
const volatile __u32 limit = 7;
const volatile char label[8] = "start";
const volatile struct my_pair pair = { 1, -2 };
__u8 a8 = 200;
__s8 b8 = -100;
__u16 a16;
__s16 b16;
__u32 a32;
__s32 b32 = -5;
__u64 a64 = 1ULL << 60;
__s64 b64;
_Bool flag = 1;
char text[12];
__u32 list[3] = { 1, 2, 3 };
__u8 octets[4];
enum my_mode mode = ON;
struct my_pair both = { 3, 4 };
static volatile __u64 hidden = 11;
__u64 seen_limit, seen_hidden, large[4096];
SEC("syscall")
int use(void *ctx)
{
    a8++; b8--; a16++; b16--; a32++; b32--; a64++; b64--;
    flag = !flag;
    text[0] = label[0];
    list[1] *= 10;
    octets[3] = 255;
    mode = OFF;
    both.a += pair.a;
    both.b += pair.b;
    seen_limit = limit;
    seen_hidden = hidden;
    large[4095] = 9;
    return 0;
}
"""


@pytest.fixture
def spec(build: Callable[[str], bpf2py.ObjectSpec]) -> bpf2py.ObjectSpec:
    return build(SOURCE)


@pytest.fixture
def obj(spec: bpf2py.ObjectSpec) -> Iterator[bpf2py.Object]:
    with bpf2py.load(spec) as loaded:
        yield loaded


def values(obj: Any, *names: str) -> list[Any]:
    return [obj.variables[name].value for name in names]


def test_initial_values_and_what_the_program_makes_of_them(obj: bpf2py.Object) -> None:
    numbers = ("a8", "b8", "a16", "b16", "a32", "b32", "a64", "b64")
    assert values(obj, *numbers) == [200, -100, 0, 0, 0, -5, 1 << 60, 0]
    assert values(obj, "flag", "text", "list", "octets") == [True, "", [1, 2, 3], bytes(4)]
    assert values(obj, "limit", "label") == [7, "start"]
    assert obj.variables["mode"].value.name == "ON"
    obj.programs["use"].test_run()
    assert values(obj, *numbers) == [201, -101, 1, -1, 1, -6, (1 << 60) + 1, -1]
    assert values(obj, "flag", "text", "list", "octets") == [False, "s", [1, 20, 3], b"\0\0\0\xff"]
    assert obj.variables["mode"].value.name == "OFF"
    assert (obj.variables["both"].value.a, obj.variables["both"].value.b) == (4, 2)
    assert values(obj, "seen_limit", "seen_hidden") == [7, 11]
    assert obj.variables["large"].value[-1] == 9


def test_set_before_load(spec: bpf2py.ObjectSpec) -> None:
    for name, value in {
        "limit": 99, "label": "zero", "pair": {"a": 10, "b": 20}, "a8": 0, "b64": -(1 << 63), "text": "hello",
        "list": [7, 8, 9], "octets": b"\1\2", "mode": "ON", "both": (5, 6), "large": [1] * 4096,
    }.items():  # fmt: skip
        spec.variables[name].value = value
    with bpf2py.load(spec) as obj:
        assert values(obj, "limit", "label", "text", "octets") == [99, "zero", "hello", b"\1\2\0\0"]
        obj.variables["b64"].value = 0
        obj.programs["use"].test_run()
        assert values(obj, "seen_limit", "a8", "list", "b64") == [99, 1, [7, 80, 9], -1]
        assert (obj.variables["both"].value.a, obj.variables["both"].value.b) == (15, 26)
        assert values(obj, "text") == ["zello"]
        assert sum(obj.variables["large"].value) == 4095 + 9
    assert spec.variables["b64"].value == -(1 << 63)  # the object works on a copy


def test_set_after_load(obj: bpf2py.Object) -> None:
    obj.variables["a8"].value = 255
    obj.variables["list"].value = [0, 5, 0]
    obj.variables["text"].value = "abc"
    obj.variables["both"].value = {"a": 1, "b": -1}
    obj.variables["mode"].value = 0
    obj.variables["flag"].value = False
    obj.programs["use"].test_run()
    assert values(obj, "a8", "list", "text", "flag") == [0, [0, 50, 0], "sbc", True]
    assert (obj.variables["both"].value.a, obj.variables["both"].value.b) == (2, -3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("a8", 256), ("a8", -1), ("b8", 128), ("a64", 1 << 64), ("flag", 2), ("text", "x" * 13), ("list", [1, 2, 3, 4]),
     ("mode", "HALF"), ("both", {"c": 1}), ("a32", "x"), ("a32", math.pi)],
)  # fmt: skip
def test_values_that_do_not_fit(
    spec: bpf2py.ObjectSpec, obj: bpf2py.Object, refused: Callable[..., Any], name: str, value: Any
) -> None:
    for owner in (spec, obj):
        before = owner.variables[name].value
        with refused(bpf2py.EncodeError, None, f"variable {name}: "):
            owner.variables[name].value = value
        assert owner.variables[name].value == before


def test_constants_are_frozen(obj: bpf2py.Object, refused: Callable[..., Any]) -> None:
    for name in ("limit", "label", "pair"):
        words = f'variable {name}: it is constant once loaded; set spec.variables["{name}"].value before load()'
        with refused(bpf2py.PermissionDenied, None, words.replace('"', "'")):
            obj.variables[name].value = 5
    section = next(m for m in obj.maps.values() if m.name.startswith(".rodata"))
    with pytest.raises(bpf2py.PermissionDenied, match="frozen"):
        section[0] = bytes(section.value_size)


def test_names(obj: bpf2py.Object) -> None:
    with pytest.raises(KeyError, match="no variable 'limits'; there are: limit"):
        obj.variables["limits"]
    assert "hidden" in obj.variables
    assert "a32: unsigned int in .bss" in repr(obj.variables["a32"])


def test_closed(spec: bpf2py.ObjectSpec, refused: Callable[..., Any], assert_no_leaks: Callable[[], Any]) -> None:
    with assert_no_leaks():
        with bpf2py.load(spec) as obj:
            limit, number = obj.variables["limit"], obj.variables["a32"]
            assert (limit.value, number.value) == (7, 0)
        with refused(bpf2py.ClosedError, None, "the map is closed"):
            _ = number.value
        with refused(bpf2py.ClosedError, None, "the map is closed"):
            number.value = 5


def test_without_mmap(obj: bpf2py.Object, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on kernels before 5.5, where data sections are read and written whole."""
    from bpf2py.kernel.map import KernelMap

    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(KernelMap, "mmap", refuse)
    obj.variables["a8"].value = 5
    obj.variables["a16"].value = 6
    obj.programs["use"].test_run()
    assert values(obj, "a8", "a16", "limit", "b32") == [6, 7, 7, -6]

"""The stand-ins for `typing`: named tuples made by them behave as typing's do."""

from __future__ import annotations

import copy
import enum
import inspect
import json
import pickle
import subprocess
import sys
import typing
from collections.abc import Callable
from typing import Any

import pytest

from bpf2py import _typing
from bpf2py._typing import IntEnum, NamedTuple


class Row(NamedTuple):
    """A row."""

    name: str
    size: int = 4
    flags: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        return self.size + 1

    def __str__(self) -> str:
        return self.name


class Nothing(NamedTuple):
    pass


class Twin(typing.NamedTuple):
    name: str
    size: int = 4
    flags: tuple[int, ...] = ()


class Narrower(Row):
    """A subclass, as of any class."""

    def __new__(cls, name: str) -> Narrower:
        return super().__new__(cls, name, 1)


def test_a_named_tuple_is_a_tuple_with_names() -> None:
    row = Row("a", flags=(1, 2))
    assert tuple(row) == ("a", 4, (1, 2))
    assert (row.name, row.size, row.flags, row.end, str(row)) == ("a", 4, (1, 2), 5, "a")
    assert repr(row) == "Row(name='a', size=4, flags=(1, 2))"
    assert hash(row) == hash(("a", 4, (1, 2)))
    assert Row.__doc__ == "A row."
    assert row._replace(size=9) == Row("a", 9, (1, 2))
    assert row._asdict() == {"name": "a", "size": 4, "flags": (1, 2)}
    assert Row._make(["b", 1, ()]) == Row("b", 1)
    assert len(Nothing()) == 0
    assert Narrower("n") == ("n", 1, ())
    match row:
        case Row(name, size):
            assert (name, size) == ("a", 4)
    with pytest.raises(AttributeError):
        row.size = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        row.other = 5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "field", ["_fields", "_field_defaults", "__match_args__", "__slots__", "__bases__", "__annotations__"]
)
def test_what_a_class_says_of_itself_is_what_typing_says(field: str) -> None:
    expected = getattr(Twin, field)
    if field == "__annotations__":
        expected = {name: each.__forward_arg__ for name, each in expected.items()}
    assert getattr(Row, field) == expected


def test_signatures_are_those_of_typing() -> None:
    shown, expected = inspect.signature(Row), inspect.signature(Twin)
    assert [(each.name, each.default) for each in shown.parameters.values()] == [
        (each.name, each.default) for each in expected.parameters.values()
    ]


@pytest.mark.parametrize(
    "call",
    [
        lambda cls: cls(),
        lambda cls: cls("a", 1, (), 4),
        lambda cls: cls("a", nothing=1),
        lambda cls: cls("a", name="b"),
        lambda cls: cls._make(["a"]),
        lambda cls: cls("a")._replace(nothing=1),
    ],
)
def test_wrong_calls_fail_as_with_typing(call: Callable[[Any], object]) -> None:
    with pytest.raises((TypeError, ValueError)) as ours:
        call(Row)
    with pytest.raises(ours.type) as theirs:
        call(Twin)
    assert str(ours.value).removeprefix("Row.") == str(theirs.value).removeprefix("Twin.")


def test_copies_and_pickles() -> None:
    row = Row("a", flags=(1, 2))
    for made in (copy.copy(row), copy.deepcopy(row), pickle.loads(pickle.dumps(row))):
        assert made == row
        assert type(made) is Row


@pytest.mark.parametrize("count", range(14))
def test_any_number_of_fields(count: int) -> None:
    names = [f"field{i}" for i in range(count)]
    namespace: dict[str, Any] = {"NamedTuple": _typing.NamedTuple, "__name__": __name__}
    body = "\n    ".join(f"{name}: int" for name in names) or "pass"
    exec(f"from __future__ import annotations\nclass Many(NamedTuple):\n    {body}", namespace)
    values = tuple(range(count))
    made = namespace["Many"](*values)
    assert made == values
    assert made == namespace["Many"](**dict(zip(names, values, strict=True)))
    assert [getattr(made, name) for name in names] == list(values)
    with pytest.raises(TypeError):
        namespace["Many"](*values, 1)


def test_a_default_comes_last() -> None:
    namespace: dict[str, Any] = {"NamedTuple": _typing.NamedTuple, "__name__": __name__}
    with pytest.raises(TypeError, match="without a default follows"):
        exec("from __future__ import annotations\nclass Wrong(NamedTuple):\n    a: int = 1\n    b: int", namespace)


class Number(IntEnum):
    """Numbers."""

    NONE = 0
    ONE = 1
    FIVE = 5

    @property
    def odd(self) -> bool:
        return bool(self & 1)


class TwinNumber(enum.IntEnum):
    NONE = 0
    ONE = 1
    FIVE = 5


@pytest.mark.parametrize(
    "ask",
    [
        list,
        len,
        lambda cls: cls(5).name,
        lambda cls: cls["ONE"].value,
        lambda cls: (
            cls.NONE,
            cls.ONE == 1,
            cls.ONE + 1,
            cls.ONE | cls.FIVE,
            f"{cls.FIVE:3}",
            f"{cls.FIVE}",
            str(cls.ONE),
        ),
        lambda cls: list(cls.__members__),
        lambda cls: repr(cls.FIVE).partition(".")[2],
        lambda cls: {cls.ONE: "a"}[1],
        lambda cls: cls(cls.FIVE) is cls.FIVE,
        lambda cls: isinstance(cls.ONE, cls),
        lambda cls: copy.deepcopy(cls.FIVE) is cls.FIVE,
        lambda cls: pickle.loads(pickle.dumps(cls.FIVE)) is cls.FIVE,
        lambda cls: json.dumps([cls.FIVE]),
        lambda cls: (cls.ONE in cls, bool(cls.NONE)),
    ],
)
def test_named_numbers_behave_as_those_of_enum(ask: Callable[[Any], object]) -> None:
    assert ask(Number) == ask(TwinNumber)


@pytest.mark.parametrize(
    "call",
    [lambda cls: cls(2), lambda cls: cls["TWO"], lambda cls: cls.TWO, lambda cls: setattr(cls, "ONE", 2)],
)
def test_named_numbers_refuse_what_enum_refuses(call: Callable[[Any], object]) -> None:
    with pytest.raises((ValueError, KeyError, AttributeError)) as ours:
        call(Number)
    with pytest.raises(ours.type):
        call(TwinNumber)
    assert Number.ONE.odd


FIRST_READ = """
with bpf2py.load(sys.argv[1]) as obj:
    assert obj.maps["my_array_map"][0] == 0
"""
FIRST_COUNT = """
with bpf2py.load(sys.argv[1]) as obj:
    assert obj.maps["my_hash_map"]._handle.count() in (0, None)  # None: before Linux 6.6
"""


@pytest.mark.kernel
@pytest.mark.parametrize("work", [FIRST_READ, FIRST_COUNT])
def test_the_first_read_imports_no_more_than_it_needs(map_basics: str, work: str) -> None:
    code = f"""
import os, sys
before = set(sys.modules)
import bpf2py
{work}
costly = {{"typing", "re", "inspect", "dataclasses", "platform", "socket", "difflib", "copy", "numpy", "contextlib", "weakref"}}
print(sorted(costly & (set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", code, map_basics], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.fixture
def map_basics(tmp_path: Any) -> str:
    import bpf2py

    path = tmp_path / "map_basics.o"
    path.write_bytes(bpf2py.compile("examples/map_basics.bpf.c"))
    return str(path)

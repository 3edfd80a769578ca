"""`KernelEnum` makes enumerations in its own way: nobody can tell them from those `enum` makes."""

from __future__ import annotations

import copy
import enum
import pickle
import types
from typing import Any

import pytest

from bpf2py import AttachType, MapFlags, MapType, ProgramType, UpdateFlags
from bpf2py.uapi import enums
from bpf2py.uapi.enums import KernelEnum

ENUMS = [ProgramType, AttachType, MapType, MapFlags, UpdateFlags]


def plain(cls: Any) -> Any:
    """The same enumeration made by `enum`."""
    kind: Any = enum.IntFlag if issubclass(cls, enum.Flag) else enum.IntEnum
    made = kind(cls.__name__, {name: int(member) for name, member in cls.__members__.items()})
    made.__module__ = cls.__module__
    return made


@pytest.mark.parametrize("cls", ENUMS)
def test_classes_hold_the_same(cls: Any) -> None:
    other = plain(cls)
    assert list(cls.__members__) == list(other.__members__)
    assert [each.name for each in cls] == [each.name for each in other]
    assert len(cls) == len(other)
    for name, value in other.__dict__.items():
        if name in ("__doc__", "__new__", "__module__", "__qualname__"):
            continue
        found = cls.__dict__[name]
        assert type(found) is cls if isinstance(value, other) else type(found) is type(value), name
        if isinstance(value, list | dict):
            assert list(found)[: len(value)] == list(value), name  # joined flags that somebody used come after them
    assert set(dir(other)) <= set(dir(cls))


@pytest.mark.parametrize("cls", ENUMS)
def test_members_are_the_same(cls: Any) -> None:
    for member, other in zip(cls, plain(cls), strict=True):
        assert (member.name, member.value, int(member), hash(member)) == (
            other.name,
            other.value,
            int(other),
            hash(other),
        )
        assert (repr(member), str(member), f"{member}", f"{member:#x}") == (
            repr(other),
            str(other),
            f"{other}",
            f"{other:#x}",
        )
        assert set(member.__dict__) - {"_inverted_"} == set(
            other.__dict__
        )  # that one is there once somebody asked for it
        assert cls(member.value) is cls[member.name] is getattr(cls, member.name) is member
        assert pickle.loads(pickle.dumps(member)) is copy.deepcopy(member) is member
        assert member in cls
        assert type(member.value) is int
        assert member.__objclass__ is cls


@pytest.mark.parametrize("cls", ENUMS)
def test_what_is_refused(cls: Any) -> None:
    if not issubclass(cls, enum.Flag):
        with pytest.raises(ValueError, match=f"9999 is not a valid {cls.__name__}"):
            cls(9999)
    with pytest.raises(KeyError):
        cls["NONE_SUCH"]
    name = next(iter(cls)).name
    with pytest.raises(AttributeError, match="cannot reassign"):
        setattr(cls, name, 1)
    with pytest.raises(TypeError, match="extend"):
        types.new_class("More", (cls,))


@pytest.mark.parametrize("cls", [MapFlags, UpdateFlags])
def test_flags_are_joined_and_taken_apart_alike(cls: Any) -> None:
    other = plain(cls)
    some = [0, 1, 2, 3, 5, 8, 31, 32, 1 << 19, 1 << 40, (1 << 20) - 1, -1, -2]
    for a in some:
        one, two = cls(a), other(a)
        assert (int(one), repr(one), str(one), one.name, one.value) == (
            int(two),
            repr(two),
            str(two),
            two.name,
            two.value,
        )
        assert [int(each) for each in one] == [int(each) for each in two]
        assert (len(one), bool(one), int(~one), repr(~one)) == (len(two), bool(two), int(~two), repr(~two))
        for b in some:
            assert repr(one | cls(b)) == repr(two | other(b))
            assert repr(one & b) == repr(two & b)
            assert repr(one ^ cls(b)) == repr(two ^ other(b))
            assert (cls(b) in one) == (other(b) in two)
    assert pickle.loads(pickle.dumps(cls(3))) is cls(3)


@pytest.mark.parametrize("known", [True, False])
def test_aliases_methods_and_other_pythons(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    monkeypatch.setattr(enums, "KNOWN", known)

    class Some(KernelEnum):
        """Some."""

        ONE = 1
        TWO = 2
        FIRST = 1

        @property
        def half(self) -> float:
            return self.value / 2

    assert [each.name for each in Some] == ["ONE", "TWO"]
    assert list(Some.__members__) == ["ONE", "TWO", "FIRST"]
    assert getattr(Some, "FIRST") is Some.ONE  # noqa: B009
    assert Some(2).half == 1
    assert Some.__doc__ == "Some."

"""What the modules on the way to the first map read need of `typing` and `enum`, at a tenth of the cost.

Importing `typing`, which brings `re` and `contextlib`, and making named tuples with it took a third of the time from
``import bpf2py`` to the first value read. Type checkers see the real names; at run time annotations are
text anyway, and the stand-ins here do what is left: they can be subscripted, joined with ``|`` and inherited from.
Named tuples are the same to whoever uses them, made without generating and compiling source. `IntEnum` is for
numbers of the package's own; enumerations that users see are real ones.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False

if TYPE_CHECKING:
    from enum import IntEnum
    from typing import (
        IO,
        Any,
        BinaryIO,
        ClassVar,
        Generic,
        Literal,
        NamedTuple,
        NoReturn,
        ParamSpec,
        Protocol,
        SupportsBytes,
        TypeAlias,
        TypedDict,
        TypeGuard,
        TypeVar,
        Unpack,
        cast,
        overload,
    )
else:
    from _collections import _tuplegetter  # what collections.namedtuple() uses
    from types import FunctionType, GenericAlias

    class _Form:
        """A name of typing's that is only ever written in annotations, subscripted or inherited from."""

        __class_getitem__ = classmethod(GenericAlias)

        def __init_subclass__(cls, **options):
            pass

    class Generic(_Form):
        """Base of classes with type parameters."""

    IO = Any = BinaryIO = ClassVar = Literal = NoReturn = Protocol = SupportsBytes = TypeAlias = TypeGuard = Unpack = (
        _Form
    )

    class TypedDict(dict):
        """Only ever an annotation."""

        def __init_subclass__(cls, **options):
            pass

    class TypeVar:
        """A type variable, which nothing asks at run time."""

        def __init__(self, name, *constraints, **options):
            self.__name__ = name

        def __repr__(self):
            return f"~{self.__name__}"

    ParamSpec = TypeVar

    def cast(_, value):
        """The value."""
        return value

    def overload(function):
        """The function, which the last one of its name replaces."""
        return function

    _new = tuple.__new__
    # By the number of fields. Another code object with other names of parameters is made in 2 microseconds, source is
    # compiled in 60; tests hold more fields than this to the same behaviour.
    _CONSTRUCTORS = (
        lambda _cls: _new(_cls, ()),
        lambda _cls, a: _new(_cls, (a,)),
        lambda _cls, a, b: _new(_cls, (a, b)),
        lambda _cls, a, b, c: _new(_cls, (a, b, c)),
        lambda _cls, a, b, c, d: _new(_cls, (a, b, c, d)),
        lambda _cls, a, b, c, d, e: _new(_cls, (a, b, c, d, e)),
        lambda _cls, a, b, c, d, e, f: _new(_cls, (a, b, c, d, e, f)),
        lambda _cls, a, b, c, d, e, f, g: _new(_cls, (a, b, c, d, e, f, g)),
        lambda _cls, a, b, c, d, e, f, g, h: _new(_cls, (a, b, c, d, e, f, g, h)),
        lambda _cls, a, b, c, d, e, f, g, h, i: _new(_cls, (a, b, c, d, e, f, g, h, i)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j: _new(_cls, (a, b, c, d, e, f, g, h, i, j)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j, k: _new(_cls, (a, b, c, d, e, f, g, h, i, j, k)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j, k, m: _new(_cls, (a, b, c, d, e, f, g, h, i, j, k, m)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j, k, m, n: _new(_cls, (a, b, c, d, e, f, g, h, i, j, k, m, n)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j, k, m, n, p: _new(_cls, (a, b, c, d, e, f, g, h, i, j, k, m, n, p)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j, k, m, n, p, q: _new(
            _cls, (a, b, c, d, e, f, g, h, i, j, k, m, n, p, q)
        ),
    )

    def _constructor(fields, defaults):
        if len(fields) < len(_CONSTRUCTORS):
            code = _CONSTRUCTORS[len(fields)].__code__.replace(co_varnames=("_cls", *fields), co_name="__new__")
        else:
            names = ", ".join(fields)
            source = eval(f"lambda _cls, {names}: _new(_cls, ({names}))", {})
            code = source.__code__.replace(co_name="__new__")
        return FunctionType(code, {"_new": _new, "__builtins__": {}}, "__new__", defaults)

    def _make(cls, iterable):
        made = _new(cls, iterable)
        if len(made) != len(cls._fields):
            raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
        return made

    def _replace(self, /, **changes):
        made = self._make(map(changes.pop, self._fields, self))
        if changes:  # a TypeError since Python 3.13
            wrong = TypeError if sys.version_info >= (3, 13) else ValueError
            raise wrong(f"Got unexpected field names: {list(changes)!r}")
        return made

    def _asdict(self):
        return dict(zip(self._fields, self, strict=True))

    def _repr(self):
        shown = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
        return f"{self.__class__.__name__}({shown})"

    def _getnewargs(self):
        return tuple(self)

    class _Maker(type):
        def __new__(cls, name, bases, body):
            if not bases:
                return type.__new__(cls, name, bases, body)
            fields = tuple(body.get("__annotations__", ()))
            given = {field: body[field] for field in fields if field in body}
            if (*given,) != fields[len(fields) - len(given) :]:
                raise TypeError(f"{name}: a field without a default follows one with a default")
            made = {
                "_make": classmethod(_make),
                "_replace": _replace,
                "_asdict": _asdict,
                "__repr__": _repr,
                "__getnewargs__": _getnewargs,
            } | body
            for index, field in enumerate(fields):
                made[field] = _tuplegetter(index, f"Alias for field number {index}")
            new = _constructor(fields, tuple(given.values()) or None)
            new.__qualname__ = f"{body['__qualname__']}.__new__"
            made |= {
                "__slots__": (),
                "_fields": fields,
                "__match_args__": fields,
                "_field_defaults": given,
                "__new__": new,
            }
            return type(name, (tuple, *bases[1:]), made)

    class NamedTuple(metaclass=_Maker):
        """Base of named tuples, written as typing's are."""

    class _Members(type):
        def __new__(cls, name, bases, body):
            numbers = {key: value for key, value in body.items() if type(value) is int and not key.startswith("_")}
            made = type.__new__(cls, name, bases, body)
            made.__members__ = {}
            made._of_value = {}
            for key, value in numbers.items():
                member = int.__new__(made, value)
                member.name, member.value = key, value
                type.__setattr__(made, key, member)
                made.__members__[key] = made._of_value[value] = member
            return made

        def __call__(cls, value):
            try:
                return cls._of_value[value]
            except KeyError:
                raise ValueError(f"{value!r} is not a valid {cls.__name__}") from None

        def __iter__(cls):
            return iter(cls.__members__.values())

        def __getitem__(cls, name):
            return cls.__members__[name]

        def __contains__(cls, value):
            return value in cls._of_value

        def __len__(cls):
            return len(cls.__members__)

        def __setattr__(cls, name, value):
            if name in cls.__dict__.get("__members__", ()):
                raise AttributeError(f"cannot reassign member {name!r}")
            type.__setattr__(cls, name, value)

    class IntEnum(int, metaclass=_Members):
        """Named numbers, each value under one name."""

        def __repr__(self):
            return f"<{type(self).__name__}.{self.name}: {self.value}>"

        __str__ = int.__repr__
        __format__ = int.__format__

        def __reduce_ex__(self, protocol):
            return type(self), (self.value,)


__all__ = [
    "IO",
    "TYPE_CHECKING",
    "Any",
    "BinaryIO",
    "ClassVar",
    "Generic",
    "IntEnum",
    "Literal",
    "NamedTuple",
    "NoReturn",
    "ParamSpec",
    "Protocol",
    "SupportsBytes",
    "TypeAlias",
    "TypeGuard",
    "TypeVar",
    "TypedDict",
    "Unpack",
    "cast",
    "overload",
]

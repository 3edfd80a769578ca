"""`KernelEnum`, `KernelFlag`: real enumerations of many members, made in a fifth of the time.

`enum` makes each member with a dozen calls, for what enumerations may have besides numbers: with those of the kernel's types that
is a twentieth of the time from ``import bpf2py`` to the first value read. What is left out here are the questions; what
becomes of each member is the same (``_proto_member`` of Lib/enum.py).
"""

from __future__ import annotations

import enum
import sys

from bpf2py._typing import TYPE_CHECKING, Any

__all__ = ["KernelEnum", "KernelFlag"]

KNOWN = (3, 11) <= sys.version_info < (3, 16)

if TYPE_CHECKING:
    from enum import IntEnum as KernelEnum
    from enum import IntFlag as KernelFlag
else:

    class _KernelEnumType(enum.EnumType):
        @classmethod
        def __prepare__(metaclass, name, bases, **options):
            return {}

        def __new__(metaclass, name, bases, body, **options):
            numbers = {key: value for key, value in body.items() if type(value) is int and key[0] != "_"}
            if not KNOWN:
                numbers = {}
            rest = super().__prepare__(name, bases)
            for key, value in body.items():
                if key not in numbers:
                    rest[key] = value
            made = super().__new__(metaclass, name, bases, rest, **options)
            if numbers:
                _add_members(made, numbers, issubclass(made, enum.Flag))
            return made

    def _add_members(cls: Any, numbers: dict[str, int], flags: bool) -> None:
        new, put = int.__new__, type.__setattr__
        names, members, by_value = cls._member_names_, cls._member_map_, cls._value2member_map_
        every = singles = 0
        for name, value in numbers.items():
            member = by_value.get(value)
            if member is None:
                member = by_value[value] = new(cls, value)
                member.__dict__.update(_value_=value, _name_=name, __objclass__=cls, _sort_order_=len(names))
                every |= value
                if not flags or value.bit_count() == 1:
                    singles |= value
                    names.append(name)
            put(cls, name, member)
            members[name] = member
        if flags:
            for name, value in (
                ("_flag_mask_", every),
                ("_singles_mask_", singles),
                ("_all_bits_", (1 << every.bit_length()) - 1),
            ):
                put(cls, name, value)
        if sys.version_info >= (3, 14):
            cls._hashable_values_ += by_value

    class KernelEnum(enum.IntEnum, metaclass=_KernelEnumType):
        """Base of enumerations of the kernel's numbers."""

    class KernelFlag(enum.IntFlag, metaclass=_KernelEnumType):
        """Base of enumerations of the kernel's bits; in the order of their values."""

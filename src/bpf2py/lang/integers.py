"""The integer types, for Python: to a type checker they are int; when a program is imported they only stand for themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

__all__ = ["be16", "be32", "be64", "s16", "s32", "s64", "s8", "u128", "u16", "u32", "u64", "u8"]

if TYPE_CHECKING:
    u8: TypeAlias = int
    u16: TypeAlias = int
    u32: TypeAlias = int
    u64: TypeAlias = int
    u128: TypeAlias = int
    s8: TypeAlias = int
    s16: TypeAlias = int
    s32: TypeAlias = int
    s64: TypeAlias = int
    be16: TypeAlias = int
    be32: TypeAlias = int
    be64: TypeAlias = int
else:

    class _Integer(type):
        def __getitem__(cls, count: Any) -> Any:
            return cls

        def __call__(cls, value: Any = 0) -> Any:
            return int(value) if not isinstance(value, type) else cls

        def __repr__(cls) -> str:
            return cls.__name__

    u8, u16, u32, u64, u128, s8, s16, s32, s64, be16, be32, be64 = (
        _Integer(name, (), {"__doc__": f"The integer type {name}."})
        for name in ("u8", "u16", "u32", "u64", "u128", "s8", "s16", "s32", "s64", "be16", "be32", "be64")
    )

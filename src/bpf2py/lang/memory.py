"""Structs and pointers, for Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, overload

__all__ = ["Const", "Kconfig", "Ksym", "PerCpu", "Ptr", "Struct", "StructOps", "Union"]

T = TypeVar("T")
S = TypeVar("S")

if TYPE_CHECKING:
    Const = Annotated[T, "set before the program is loaded"]
    PerCpu = Annotated[T, "one value on each CPU"]
    Kconfig = Annotated[T, "an option that the kernel was built with"]
    Ksym = Annotated[T, "a variable of the kernel"]
else:

    class _Marked:
        def __class_getitem__(cls, item: Any) -> Any:
            return item

    class Const(_Marked):
        """``limit: Const[u32] = 10``: constant while the program runs; set before it is loaded."""

    class PerCpu(_Marked):
        """``hits: PerCpu[u64] = 0``: a variable of which each CPU has its own."""

    class Kconfig(_Marked):
        """``CONFIG_HZ: Kconfig[u32]``: an option that the kernel was built with."""

    class Ksym(_Marked):
        """``bpf_prog_active: Ksym[s32]``: a variable of the kernel."""


class Struct:
    """Base of a program's structs: annotated fields, in order, with the layout of C. ``class X(Struct, packed=True)``."""

    def __init__(self, *values: Any, **fields: Any) -> None: ...

    def __init_subclass__(cls, packed: bool = False) -> None: ...

    if not TYPE_CHECKING:

        def __class_getitem__(cls, count: Any) -> Any:
            return cls


class Union(Struct):
    """Base of a program's unions: all fields begin at the same place."""


class StructOps(Generic[T]):
    """``ops = StructOps[tcp_congestion_ops](init=on_init, name="mine")``: functions that the kernel calls through a struct."""

    def __init__(self, **members: Any) -> None: ...

    if not TYPE_CHECKING:

        def __class_getitem__(cls, item: Any) -> Any:
            return cls


class Ptr(Generic[T]):
    """A pointer: to a struct, whose fields are the pointer's attributes, or to something else, which is its `value`."""

    value: T

    def __init__(self, address: Any = 0) -> None: ...

    def cast(self, kind: type[S]) -> Ptr[S]:
        """The same address as a pointer to another type."""
        raise NotImplementedError

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

        def __getitem__(self, index: int) -> T: ...

        def __setitem__(self, index: int, value: T) -> None: ...

        def __add__(self, count: int) -> Ptr[T]: ...

        @overload
        def __sub__(self, other: int) -> Ptr[T]: ...
        @overload
        def __sub__(self, other: Ptr[Any]) -> int: ...
        def __sub__(self, other: Any) -> Any: ...

        def __int__(self) -> int: ...

        def __lt__(self, other: Ptr[Any]) -> bool: ...

        def __le__(self, other: Ptr[Any]) -> bool: ...

        def __gt__(self, other: Ptr[Any]) -> bool: ...

        def __ge__(self, other: Ptr[Any]) -> bool: ...

        def __iter__(self) -> Any: ...
    else:

        def __class_getitem__(cls, item: Any) -> Any:
            return cls

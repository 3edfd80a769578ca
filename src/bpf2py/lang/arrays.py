"""Arrays, for Python. No type checker takes ``T[4]`` for an array: `array` and `char` are what each of them lets pass."""

from __future__ import annotations

from typing import Any

__all__ = ["array", "bits", "char", "list_head", "rb_root"]

MYPY = False
if MYPY:  # mypy takes this to be true: a variable of type Any may stand, with anything in brackets, where a type stands
    array: Any
    bits: Any
    char: Any
    list_head: Any
    rb_root: Any
else:

    class _Memory:
        """Other type checkers take a class with its own ``__class_getitem__`` as it is."""

        def __class_getitem__(cls, item: Any) -> Any:
            return cls

        def __init__(self) -> None: ...

        def __get__(self, owner: Any, kind: Any = None) -> Any:
            return self

        def __set__(self, owner: Any, value: Any) -> None: ...

        def __getitem__(self, index: Any) -> Any: ...

        def __setitem__(self, index: Any, value: Any) -> None: ...

        def __iter__(self) -> Any: ...

    class array(_Memory):
        """``array[u32, 4]``: four of a type."""

        def __class_getitem__(cls, item: Any) -> Any:
            return cls

    class bits(_Memory):
        """``bits[u32, 3]``: a bit-field of a struct."""

        def __class_getitem__(cls, item: Any) -> Any:
            return cls

    class char(_Memory):
        """``char[16]``: text of at most 16 bytes; shorter text ends with a NUL."""

        def __class_getitem__(cls, item: Any) -> Any:
            return cls

    class list_head(_Memory):
        """``list_head[Node, "link"]``: a list of allocated structs, linked by their field `link` (a bpf_list_node)."""

        def __class_getitem__(cls, item: Any) -> Any:
            return cls

    class rb_root(_Memory):
        """``rb_root[Node, "rb"]``: a tree of allocated structs, linked by their field `rb` (a bpf_rb_node)."""

        def __class_getitem__(cls, item: Any) -> Any:
            return cls

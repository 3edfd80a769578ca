"""Names of types, and their flavours."""

from __future__ import annotations

__all__ = ["essential_name"]


def essential_name(name: str) -> str:
    """A name without its flavour: everything from the last ``___`` that stands alone between two names.

    >>> essential_name("task_struct___v2"), essential_name("___x"), essential_name("a____b")
    ('task_struct', '___x', 'a____b')
    """
    at = name.rfind("___")
    while at > 0:
        if name[at - 1] != "_" and name[at + 3 : at + 4] not in ("", "_"):
            return name[:at]
        at = name.rfind("___", 0, at + 2)
    return name

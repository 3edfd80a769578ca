"""What objects of the kernel are opened by: names and paths of pins, and ids, checked before the kernel gets them."""

from __future__ import annotations

import errno
import os

from bpf2py.errors import BpfOSError, EncodeError, MapCreateError


def pin_path(path: str | bytes | os.PathLike[str], what: str, command: str = "BPF_OBJ_PIN") -> str:
    """A path as text. Raises BpfOSError (EINVAL) where it holds a NUL, after which the kernel would not read on."""
    text = os.fsdecode(path)
    if "\0" in text:
        raise BpfOSError(f"{what}: the path {text!r} contains a NUL character", errno=errno.EINVAL, command=command)
    return text


def pin_by_name(directory: str | bytes | os.PathLike[str], name: str) -> str:
    """Where a map that asks to be pinned by its name belongs. Raises MapCreateError for a name that leads elsewhere."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise MapCreateError(
            f"map {name!r}: pin: a map that is pinned by name needs a name that a file in a directory may have",
            errno=errno.EINVAL,
            command="BPF_OBJ_PIN",
        )
    return os.path.join(pin_path(directory, f"map {name}: pin"), name)


def object_id(ident: int, kind: str) -> int:
    """The id of a map, program or link. Raises EncodeError where no object can have it."""
    if not 0 <= ident < 1 << 32:
        raise EncodeError(f"{kind} id {ident}: ids are unsigned 32-bit numbers")
    return ident

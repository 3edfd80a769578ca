"""Kernels to boot: Debian's, taken from its packages and kept, or any image at hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bpf2py.errors import GuestError
from bpf2py.testing.guest_debian import DEBIAN_ARCH, Apt, kernel_directory

__all__ = ["GuestKernel", "find_kernel"]

_SERIES = re.compile(r"\d+\.\d+(\.\d+)?")


class GuestKernel(NamedTuple):
    """A kernel image that can be booted.

    Attributes:
        name: what it was asked for by, such as ``"6.12"``.
        image: path of its vmlinuz or Image.
        arch: ``"x86_64"`` or ``"aarch64"``.
    """

    name: str
    image: Path
    arch: str


def find_kernel(name: str, arch: str, say: Callable[[str], None] = lambda text: None) -> GuestKernel:
    """The kernel of a series such as ``"6.12"``, of an image's path, or of a directory with one.

    Args:
        name: a series, whose newest kernel in Debian's lists is taken, or a path.
        arch: ``"x86_64"`` or ``"aarch64"``.
        say: is told what takes long.

    Raises GuestError when there is none, or it cannot be downloaded.
    """
    if not _SERIES.fullmatch(name):
        return GuestKernel(name, _image_at(Path(name)), arch)
    return GuestKernel(name, _newest(name, arch) or _fetch(name, arch, say), arch)


def _numbers(text: str) -> tuple[int, ...]:
    """The numbers in a name, for comparing versions."""
    return tuple(int(number) for number in re.findall(r"\d+", text))


def _image_at(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise GuestError(f"kernel {path}: it is neither a series such as 6.12, nor an image, nor a directory with one")
    patterns = (
        "vmlinuz",
        "vmlinuz-*",
        "bzImage",
        "Image",
        "boot/vmlinuz-*",
        "arch/*/boot/bzImage",
        "arch/*/boot/Image",
    )
    found = sorted(
        (p for pattern in patterns for p in path.glob(pattern) if p.is_file()), key=lambda p: _numbers(p.name)
    )
    if not found:
        raise GuestError(f"kernel {path}: there is no kernel image in it: {', '.join(patterns)}")
    return found[-1]


def _newest(series: str, arch: str) -> Path | None:
    """The newest unpacked kernel of a series."""
    found = kernel_directory().glob(f"linux-image-{series}[.+-]*{DEBIAN_ARCH[arch]}-unsigned/boot/vmlinuz-*")
    return max(found, key=lambda path: _numbers(path.name), default=None)


def _fetch(series: str, arch: str, say: Callable[[str], None]) -> Path:
    """Path of the kernel image of a series, downloaded."""
    try:
        apt = Apt(arch, say)
    except GuestError as error:
        raise GuestError(f"kernel {series}: {error.message}: give the path of an image") from None
    # The unsigned packages have the same kernel and need no further package.
    expression = rf"^linux-image-{re.escape(series)}[.+-][0-9.+a-z-]*-{apt.arch}-unsigned$"
    names = _generic(apt.search(expression))
    if not names:
        apt.update()
        names = _generic(apt.search(expression))
    if not names:
        raise GuestError(
            f"kernel {series}: apt lists no linux-image-{series}.*-{apt.arch}-unsigned; Debian 12 with its security archive "
            "has 6.1 and 6.12; of others give the path of an image"
        )
    name = max(names, key=_numbers)
    apt.unpack([name], name)
    found = _newest(series, arch)
    if found is None:
        raise GuestError(f"kernel {series}: {name} has no boot/vmlinuz")
    return found


def _generic(names: list[str]) -> list[str]:
    return [name for name in names if not re.search(r"-(cloud|rt|16k)-", name)]

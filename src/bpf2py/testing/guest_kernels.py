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
# Where kernels are looked for after this machine's own lists: backports keep every series since 6.16, the old releases have 5.10
# and 6.1, the next ones what is newer still.
_NEWER = ("stable-backports", "testing", "unstable", "experimental")
_OLDER = ("oldoldstable", "oldstable", "stable", "oldstable-backports")


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


def find_kernel(
    name: str, arch: str, say: Callable[[str], None] = lambda text: None, *, modules: bool = False
) -> GuestKernel:
    """The kernel of a series such as ``"6.12"``, of an image's path, or of a directory with one.

    Args:
        name: a series, whose newest kernel in Debian's releases is taken, or a path.
        arch: ``"x86_64"`` or ``"aarch64"``.
        say: is told what takes long.
        modules: whether its modules are needed, too.

    Raises GuestError when there is none, or it cannot be downloaded.
    """
    if not _SERIES.fullmatch(name):
        return GuestKernel(name, _image_at(Path(name)), arch)
    return GuestKernel(name, _newest(name, arch, modules) or _fetch(name, arch, say, modules), arch)


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


def _newest(series: str, arch: str, modules: bool) -> Path | None:
    """The newest unpacked kernel of a series."""
    pattern = f"linux-{'image' if modules else '*'}-{series}[.+-]*{DEBIAN_ARCH[arch]}-unsigned/boot/vmlinuz-*"
    found = kernel_directory().glob(pattern)
    return max(found, key=lambda path: _numbers(path.name), default=None)


def _fetch(series: str, arch: str, say: Callable[[str], None], modules: bool) -> Path:
    """Path of the kernel image of a series, downloaded."""
    older = _numbers(series) < (6, 13)
    for release in (None, *(_OLDER if older else _NEWER), *(_NEWER if older else _OLDER)):
        try:
            apt = Apt(arch, say, release)
        except GuestError as error:
            raise GuestError(f"kernel {series}: {error.message}: give the path of an image") from None
        # The unsigned packages have the same kernel, and need no further one; since Linux 6.19 modules have packages of their own.
        expression = (
            rf"^linux-(image|binary)(-unsigned)?-{re.escape(series)}([.+-][0-9.+a-z-]*)?-{apt.arch}(-unsigned)?$"
        )
        names = _generic(apt.find(expression))
        if names:
            return _unpack(apt, max(names, key=_preference), series, arch, modules)
    raise GuestError(f"kernel {series}: no release of Debian has it: give the path of an image")


def _unpack(apt: Apt, name: str, series: str, arch: str, modules: bool) -> Path:
    version = name.replace("-unsigned", "").split("-", 2)[2]
    packages = [name, *([f"linux-modules-{version}"] if modules and "-binary-" in name else [])]
    kind = "image" if modules or "-image-" in name else "binary"  # as Debian names the one without modules
    place = apt.unpack(packages, f"linux-{kind}-{version}-unsigned")
    image = next(place.glob("usr/lib/modules/*/vmlinuz*"), None)
    if image is not None and not (place / "boot").exists():
        (place / "boot").mkdir()
        (place / "boot" / f"vmlinuz-{version}").symlink_to(f"../{image.relative_to(place)}")
        (place / "lib").symlink_to("usr/lib")
    found = _newest(series, arch, modules)
    if found is None:
        raise GuestError(f"kernel {series}: {name} has no boot/vmlinuz")
    return found


def _preference(name: str) -> tuple[tuple[int, ...], bool, bool]:
    """The newest, of that the package that has the image, of these the unsigned one."""
    return _numbers(name), "-binary-" in name, "-unsigned" in name


def _generic(names: list[str]) -> list[str]:
    return [name for name in names if not re.search(r"-(cloud|rt|16k)-", name)]

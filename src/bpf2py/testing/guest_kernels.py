"""Kernels to boot: Debian's, taken from its packages and kept, or any image at hand.

A package is downloaded with `apt-get download` and unpacked with `dpkg -x`: nothing is installed, and no rights are needed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bpf2py.errors import GuestError
from bpf2py.user_cache import cache_directory

__all__ = ["GuestKernel", "find_kernel", "kernel_directory"]

# Debian's name of an architecture, by the kernel's.
DEBIAN_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
# Without the option apt warns that its unprivileged user cannot write where we download to.
APT_DOWNLOAD = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root"]
ATTEMPTS = 4
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


def kernel_directory() -> Path:
    """Where unpacked kernels are kept: BPF2PY_KERNEL_DIR, else ``kernels`` in the cache directory."""
    named = os.environ.get("BPF2PY_KERNEL_DIR")
    return Path(named) if named else cache_directory() / "kernels"


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
    kept = kernel_directory()
    return GuestKernel(name, _newest(kept, name, arch) or _fetch(kept, name, arch, say), arch)


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


def _newest(directory: Path, series: str, arch: str) -> Path | None:
    """The newest unpacked kernel of a series."""
    found = directory.glob(f"linux-image-{series}[.+-]*{DEBIAN_ARCH[arch]}-unsigned/boot/vmlinuz-*")
    return max(found, key=lambda path: _numbers(path.name), default=None)


class Apt:
    """Debian's package lists: this machine's own, or for another architecture some kept beside the kernels."""

    def __init__(self, directory: Path, arch: str) -> None:
        self.arch = DEBIAN_ARCH[arch]
        self.options: list[str] = []
        own = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True).stdout.strip()
        if own != self.arch:
            place = directory / f"apt-{self.arch}"
            for each in ("lists/partial", "cache/archives/partial"):
                (place / each).mkdir(parents=True, exist_ok=True)
            self.options = [
                f"-oAPT::Architecture={self.arch}",
                f"-oAPT::Architectures={self.arch}",
                f"-oDir::State::Lists={place / 'lists'}",
                f"-oDir::Cache={place / 'cache'}",
                "-oDir::State::status=/dev/null",
            ]

    def update(self) -> None:
        """Fetch the lists."""
        as_root = [] if os.geteuid() == 0 or self.options else ["sudo", "-n"]
        with contextlib.suppress(OSError):
            subprocess.run([*as_root, "apt-get", "update", "-qq", *self.options], stdin=subprocess.DEVNULL)

    def search(self, expression: str) -> list[str]:
        """Names of packages."""
        answer = subprocess.run(
            ["apt-cache", *self.options, "search", "--names-only", expression], capture_output=True, text=True
        )
        return [line.split(" ", 1)[0] for line in answer.stdout.splitlines()]

    def download(self, names: list[str], directory: Path) -> bool:
        """Fetch packages into a directory; False when that failed."""
        return subprocess.run([*APT_DOWNLOAD, *self.options, *names], cwd=directory).returncode == 0


def _fetch(directory: Path, series: str, arch: str, say: Callable[[str], None]) -> Path:
    """Path of the kernel image of a series, downloaded."""
    missing = [tool for tool in ("apt-get", "apt-cache", "dpkg") if shutil.which(tool) is None]
    if missing:
        raise GuestError(
            f"kernel {series}: there is no {missing[0]} here to download Debian's package with: give the path of an image"
        )
    directory.mkdir(parents=True, exist_ok=True)
    apt = Apt(directory, arch)
    # The unsigned packages have the same kernel and need no further package.
    expression = rf"^linux-image-{re.escape(series)}[.+-][0-9.+a-z-]*-{apt.arch}-unsigned$"
    names = _generic(apt.search(expression))
    if not names:
        say("fetching Debian's package lists")
        apt.update()
        names = _generic(apt.search(expression))
    if not names:
        raise GuestError(
            f"kernel {series}: apt lists no linux-image-{series}.*-{apt.arch}-unsigned; Debian 12 with its security archive "
            "has 6.1 and 6.12; of others give the path of an image"
        )
    name = max(names, key=_numbers)
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        for attempt in range(1, ATTEMPTS + 1):
            say(f"downloading {name}" + (f" (attempt {attempt})" if attempt > 1 else ""))
            if apt.download([name], Path(scratch)):
                break
            if attempt == ATTEMPTS:
                raise GuestError(f"kernel {series}: could not download {name}")
            time.sleep(5 * attempt)
        (archive,) = Path(scratch).glob("*.deb")
        unpacked = Path(scratch) / "unpacked"
        subprocess.run(["dpkg", "-x", archive, unpacked], check=True)
        unpacked.chmod(0o755)
        with contextlib.suppress(OSError):  # somebody else was faster
            unpacked.rename(directory / name)  # in one step: an interrupted run leaves no half kernel
    found = _newest(directory, series, arch)
    if found is None:
        raise GuestError(f"kernel {series}: {name} has no boot/vmlinuz")
    return found


def _generic(names: list[str]) -> list[str]:
    return [name for name in names if not re.search(r"-(cloud|rt|16k)-", name)]

"""Fetch Debian's newer Pythons, whose stacks the tests read: unpacked beside the kernels, nothing is installed.

What cannot be had is said, and left out: the tests run with the interpreters there are.

    python tools/newer_pythons.py
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from bpf2py.errors import GuestError
from bpf2py.testing.guest_debian import DEBIAN_ARCH, Apt, kernel_directory

VERSIONS = ("3.14", "3.15")
RELEASE = "unstable"
LIBRARIES = (
    "libc6", "libgcc-s1", "libexpat1", "zlib1g", "libffi8", "liblzma5", "libbz2-1.0", "libuuid1", "libssl3t64", "libzstd1",
)  # fmt: skip


def fetch(apt: Apt, version: str, target: Path) -> None:
    """Unpack one, with a script that starts it with its own libraries. Raises GuestError."""
    if not apt.search(f"^python{version}-minimal$"):
        apt.update()
    packages = [f"python{version}-minimal", f"libpython{version}-minimal", f"libpython{version}-stdlib", *LIBRARIES]
    tree = apt.unpack(packages, target.name)
    loader = next(iter(sorted(tree.glob("usr/lib*/**/ld-linux-*.so.*"))), None)
    if loader is None:
        raise GuestError(f"there is no dynamic loader in {tree}")
    libraries = next(path.parent for path in sorted(tree.glob("usr/lib/*/libc.so.6")))
    script = tree / "bin" / "python3"
    script.parent.mkdir(exist_ok=True)
    part = script.with_suffix(".part")
    start = f'exec {loader} --library-path {libraries} {tree}/usr/bin/python{version} "$@"'
    part.write_text(f"#!/bin/sh\nPYTHONHOME={tree}/usr\nexport PYTHONHOME\n{start}\n")
    part.chmod(0o755)
    part.rename(script)


def main() -> int:
    """Fetch those that are not there."""
    os.environ.setdefault("BPF2PY_KERNEL_DIR", str(Path(__file__).resolve().parent.parent / ".vm"))
    machine = platform.machine()
    for version in VERSIONS:
        target = kernel_directory() / f"python{version}-debian-{RELEASE}-{DEBIAN_ARCH.get(machine, machine)}"
        if (target / "bin" / "python3").exists():
            continue
        try:
            fetch(Apt(machine, print, RELEASE), version, target)
        except (GuestError, KeyError, StopIteration) as error:
            print(f"newer_pythons: no Python {version}: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

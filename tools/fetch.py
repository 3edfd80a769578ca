"""Fetch from Debian what tests compare with: its newest Pythons, whose stacks are read, Prometheus, and VictoriaMetrics.

All of it is unpacked beside the kernels, nothing is installed. What cannot be had is said, and left out.

    python tools/fetch.py
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bpf2py.errors import GuestError
from bpf2py.testing.guest_debian import DEBIAN_ARCH, Apt, kernel_directory

PYTHONS = ("3.14", "3.15")
LIBRARIES = (
    "libc6", "libgcc-s1", "libexpat1", "zlib1g", "libffi8", "liblzma5", "libbz2-1.0", "libuuid1", "libssl3t64", "libzstd1",
)  # fmt: skip


def unpacked(machine: str, release: str, packages: list[str], name: str) -> Path:
    """A tree with these packages of a release. Raises GuestError."""
    apt = Apt(machine, print, release)
    if not apt.find(f"^{packages[0]}$"):  # without a network, each download would be tried again and again
        raise GuestError(f"Debian {release} lists no {packages[0]}")
    return apt.unpack(packages, f"{name}-debian-{release}-{DEBIAN_ARCH[machine]}")


def python(machine: str, version: str) -> Path:
    """A Python of Debian unstable, with a script that starts it with its own libraries. Raises GuestError."""
    packages = [f"python{version}-minimal", f"libpython{version}-minimal", f"libpython{version}-stdlib", *LIBRARIES]
    tree = unpacked(machine, "unstable", packages, f"python{version}")
    return _script(tree, "python3", f"python{version}", f"PYTHONHOME={tree}/usr\nexport PYTHONHOME\n")


def victoria_metrics(machine: str) -> Path:
    """A receiver of OTLP, with a script that starts it with its own libraries. Raises GuestError."""
    packages = ["victoria-metrics", "libc6", "libzstd1"]
    tree = unpacked(machine, "unstable", packages, "victoria-metrics")
    return _script(tree, "victoria-metrics", "victoria-metrics")


def _script(tree: Path, name: str, program: str, before: str = "") -> Path:
    loader = next(iter(sorted(tree.glob("usr/lib*/**/ld-linux-*.so.*"))), None)
    libc = next(iter(sorted(tree.glob("usr/lib/*/libc.so.6"))), None)
    if loader is None or libc is None:
        raise GuestError(f"there is no C library in {tree}")
    script = tree / "bin" / name
    script.parent.mkdir(exist_ok=True)
    part = script.with_suffix(".part")
    part.write_text(f'#!/bin/sh\n{before}exec {loader} --library-path {libc.parent} {tree}/usr/bin/{program} "$@"\n')
    part.chmod(0o755)
    part.rename(script)
    return script


def main() -> int:
    """Fetch what is not there."""
    os.environ.setdefault("BPF2PY_KERNEL_DIR", str(Path(__file__).resolve().parent.parent / ".vm"))
    machine = platform.machine()
    kept = kernel_directory()
    wanted: dict[str, Callable[[], Path]] = {
        f"python{version}-debian-unstable-*/bin/python3": partial(python, machine, version) for version in PYTHONS
    }
    wanted["victoria-metrics-debian-unstable-*/bin/victoria-metrics"] = partial(victoria_metrics, machine)
    # The one of Debian 12 has promtool with it.
    for release, program in (("bookworm", "promtool"), ("testing", "prometheus")):
        tools = partial(unpacked, machine, release, ["prometheus"], "prometheus")
        wanted[f"prometheus-debian-{release}-*/usr/bin/{program}"] = tools
    for place, fetch in wanted.items():
        if any(kept.glob(place)):
            continue
        try:
            fetch()
        except (GuestError, KeyError) as error:
            print(f"fetch: {place.partition('-')[0]} is left out: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

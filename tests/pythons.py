"""The interpreters of the machine whose stacks can be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bpf2py.testing.guest_debian import kernel_directory


def interpreters(*, builds: bool = False, unpacked: bool = True) -> list[str]:
    """One of each version there is, this one among them.

    Args:
        builds: also a distribution's of a version that is there already.
        unpacked: also those that tools/fetch.py has fetched, which run by a dynamic loader of their own.
    """
    found: dict[tuple[int, int, bool], str] = {(*sys.version_info[:2], False): sys.executable}
    candidates = [Path("/usr/bin/python3"), *Path.home().glob(".pyenv/versions/3.1[1-9]*/bin/python3")]
    if unpacked:
        candidates[:0] = kernel_directory().glob("python3.*-debian-unstable-*/bin/python3")
    for path in candidates:
        if not path.exists():
            continue
        done = subprocess.run(
            [str(path), "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True
        )
        version = tuple(int(part) for part in done.stdout.split())
        if len(version) == 2 and version >= (3, 11):
            found.setdefault((*version, builds and path.is_relative_to("/usr")), str(path))
    return [found[version] for version in sorted(found)]

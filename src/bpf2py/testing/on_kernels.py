"""`verify_on()`: what several objects do on one kernel, which is started once for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from bpf2py.testing.guest import Guest
from bpf2py.testing.verdicts import STATISTICS, ProgramReport, object_of, reports_of, verify

__all__ = ["HOST", "verify_on"]

HOST = "host"


def verify_on(
    kernel: str,
    sources: Iterable[str | os.PathLike[str]],
    *,
    attach: bool = False,
    log_level: int = STATISTICS,
    say: Callable[[str], None] = lambda text: None,
) -> list[ProgramReport]:
    """Reports of every program of some objects on a kernel.

    Args:
        kernel: ``"host"``, the running one; else what `Guest` takes.
        sources: sources or object files.
        attach, log_level: as for `verify`.
        say: is told what takes long.

    Raises what `verify` and `Guest` raise.
    """
    if kernel == HOST:
        return [report for source in sources for report in verify(source, attach=attach, log_level=log_level)]
    objects = [object_of(source) for source in sources]
    # With the guest's other files: its serial line is slow.
    places: dict[str, bytes | Path] = {f"/objects/{n}.o": data for n, (_, data) in enumerate(objects)}
    found: list[ProgramReport] = []
    with Guest(kernel, files=places, say=say) as guest:
        for path, (name, _) in zip(places, objects, strict=True):
            say(f"verifying {name} on Linux {kernel}")
            answer = guest.call(
                "bpf2py.testing.verdicts:reports", name=name, attach=attach, log_level=log_level, path=path
            )
            found += reports_of(answer)
    return found

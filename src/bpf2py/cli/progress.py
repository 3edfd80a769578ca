"""A progress bar for long work, where somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bpf2py._typing import Any
from bpf2py.printable import printable


@contextmanager
def progress(text: str, total: int | None) -> Iterator[Any]:
    """A progress bar on stderr where that is a terminal; yields a function that takes the number done."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(printable(text)), total=total)
        yield lambda done: bar.update(task, completed=done)

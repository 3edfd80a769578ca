"""The live view: blocks that share a terminal's lines, and the keys that scroll it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bpf2py._typing import Any
from bpf2py.cli.render import Block

UP, DOWN, PAGE_UP, PAGE_DOWN, HOME, QUIT = "up", "down", "page up", "page down", "home", "quit"
SOLID = "\u2588"
_KEYS = {
    b"\x1b[A": UP, b"\x1bOA": UP, b"k": UP, b"\x1b[B": DOWN, b"\x1bOB": DOWN, b"j": DOWN, b"\x1b[5~": PAGE_UP,
    b"\x1b[6~": PAGE_DOWN, b" ": PAGE_DOWN, b"\x1b[H": HOME, b"\x1b[1~": HOME, b"g": HOME, b"q": QUIT,
}  # fmt: skip


def share(blocks: Sequence[Block], height: int) -> list[Block]:
    """The blocks cut so that together they take at most so many lines, each about as many as the others.

    A block that needs less than its share leaves the rest to the others.
    """
    fixed = [1 + (block.head is not None) for block in blocks]
    wanted = [len(block.lines) for block in blocks]
    space = height - sum(fixed)
    given = [0] * len(blocks)
    open_ = [i for i, count in enumerate(wanted) if count]
    while open_ and space > 0:
        part = max(1, space // len(open_))
        for i in list(open_):
            more = min(part, wanted[i] - given[i], space)
            given[i] += more
            space -= more
            if given[i] == wanted[i]:
                open_.remove(i)
    return [_cut(block, count) for block, count in zip(blocks, given, strict=True)]


def _cut(block: Block, count: int) -> Block:
    """A block with so many lines; the last of them is needed to say how much is missing."""
    missing = len(block.lines) - count
    if not missing and not block.hidden:
        return block
    count = max(0, count - 1) if count else 0
    return block._replace(lines=block.lines[:count], hidden=block.hidden + len(block.lines) - count)


def rows_of(blocks: Sequence[Block], apart: bool = False) -> list[Any]:
    """The lines of blocks, coloured, for rich; with `apart` an empty one between two of them."""
    from rich.text import Text

    rows: list[Any] = []
    out = getattr(sys.stdout, "rich_proxied_file", sys.stdout)  # the live view's stand-in has no encoding
    solid = (getattr(out, "encoding", None) or "").lower().startswith("utf")
    for block in blocks:
        if rows and apart:
            rows.append(Text())
        rows.append(Text(block.title, style="bold"))
        if block.head is not None:
            rows.append(Text(block.head, style="bold underline"))
        for line in block.lines:
            text = Text(line, no_wrap=True, overflow="ellipsis")
            if block.bars:
                head, bar, rest = line.partition("|")
                if solid:  # blocks look better than stars, where the terminal has them
                    text = Text(
                        f"{head}{bar}{rest.rstrip('| ').replace('*', SOLID)}", no_wrap=True, overflow="ellipsis"
                    )
                text.stylize("cyan", 0, len(head.partition(":")[0]))
                text.stylize("green", len(head) if bar else len(line))
            elif block.key_width:
                text.stylize("cyan", 0, block.key_width)
            rows.append(text)
        if block.hidden:
            rows.append(Text(f"{block.hidden} more", style="dim"))
    return rows


def screen(blocks: Sequence[Block], height: int, offset: int = 0) -> tuple[list[Any], int]:
    """(lines of a view of that height, how far it can be scrolled) from line `offset` of all of them on."""
    everything = rows_of(blocks)
    furthest = max(0, len(everything) - height)
    if offset:
        start = min(offset, furthest)
        return everything[start : start + height], furthest
    if not furthest:
        spread = rows_of(blocks, apart=True)
        return (spread if len(spread) <= height else everything), 0
    return rows_of(share(blocks, height))[:height], furthest


class Keys:
    """Keys pressed on the terminal, without waiting for Enter and without showing them."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._rest = b""

    def pressed(self) -> list[str]:
        """What was pressed since the last call; call it when the descriptor is readable."""
        try:
            self._rest += os.read(self.fd, 64)
        except (BlockingIOError, OSError):
            return []
        found = []
        while self._rest:
            key = next((key for key in sorted(_KEYS, key=len, reverse=True) if self._rest.startswith(key)), None)
            if key is not None:
                found.append(_KEYS[key])
            self._rest = self._rest[len(key) if key is not None else 1 :]
        return found


@contextmanager
def keyboard() -> Iterator[Keys | None]:
    """The keys of the terminal this process reads from and is in the foreground of, else None."""
    import termios
    import tty

    fd = 0
    try:
        mine = sys.stdin is not None and os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp()
        before = termios.tcgetattr(fd) if mine else None
    except (OSError, termios.error):
        before = None
    if before is None:
        yield None
        return
    tty.setcbreak(fd)
    try:
        yield Keys(fd)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def moved(offset: int, key: str, height: int, furthest: int) -> int:
    """Where a key scrolls to."""
    step = {UP: -1, DOWN: 1, PAGE_UP: -max(1, height - 1), PAGE_DOWN: max(1, height - 1)}.get(key)
    return 0 if step is None else min(max(0, offset + step), furthest)

"""``bpf2py --help`` is what typer would print, letter by letter and colour by colour."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpf2py.cli.overview import overview

BPF2PY = str(Path(sys.executable).parent / "bpf2py")
BY_TYPER = """
from bpf2py.cli import COMMANDS, build
build(list(COMMANDS))(["--help"], prog_name="bpf2py")
"""


def environment(**more: str) -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {"PYTHONUTF8": "1"} | more


def on_terminal(argv: list[str], width: int) -> str:
    """What a program prints on a terminal."""
    mine, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", 50, width, 0, 0))
    process = subprocess.Popen(argv, stdin=its, stdout=its, stderr=its, env=environment(TERM="xterm-256color"))
    os.close(its)
    printed = b""
    while True:
        try:
            piece = os.read(mine, 65536)
        except OSError:  # EIO: nobody has the other end any more
            break
        printed += piece
    os.close(mine)
    assert process.wait() == 0
    return printed.decode()


def cells(text: str) -> Iterator[tuple[str, str]]:
    """Each letter with how it looks."""
    style = ""
    for piece in re.split(r"(\x1b\[[\d;]*m)", text):
        if piece.startswith("\x1b"):
            style = piece[2:-1].removeprefix("0").lstrip(";")
        else:
            for letter in piece:
                yield letter, "" if letter.isspace() else style


@pytest.mark.parametrize("width", [65, 70, 77, 80, 103, 140, 240])
def test_on_a_terminal(width: int) -> None:
    ours, theirs = on_terminal([BPF2PY, "--help"], width), on_terminal([sys.executable, "-c", BY_TYPER], width)
    assert re.sub(r"\x1b\[[\d;]*m", "", ours) == re.sub(r"\x1b\[[\d;]*m", "", theirs)
    assert list(cells(ours)) == list(cells(theirs))


def run(*argv: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, env=environment(**more), stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_in_a_pipe(option: str) -> None:
    assert (
        run(BPF2PY, option).stdout
        == run(sys.executable, "-c", BY_TYPER).stdout
        == "\n".join(overview(80, False)) + "\n"
    )


@pytest.mark.parametrize(
    "more",
    [
        {"COLUMNS": "45"},
        {"COLUMNS": "100"},
        {"FORCE_COLOR": "1"},
        {"TERMINAL_WIDTH": "90"},
        {"PYTHONIOENCODING": "ascii"},
    ],
)
def test_what_the_environment_asks_for(more: dict[str, str]) -> None:
    assert run(BPF2PY, "--help", **more).stdout == run(sys.executable, "-c", BY_TYPER, **more).stdout


def test_it_imports_neither_typer_nor_rich() -> None:
    code = """
import sys
from bpf2py.cli import main
main(["--help"])
print({"typer", "rich", "re"} & set(sys.modules), file=sys.stderr)
"""
    assert run(sys.executable, "-c", code).stderr == "set()\n"

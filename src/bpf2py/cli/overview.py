"""``bpf2py --help`` without typer and rich, whose import takes twenty times as long; a test compares it with theirs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping

__all__ = ["overview", "print_overview"]

# First the commands, then the groups, as typer lists them.
SUMMARIES = {
    "run": "Load a program, attach it, run a command (or wait for Ctrl-C), and show what the program says and counts.",
    "examples": "List the programs that come with bpf2py, in C and in Python, print the source of one, or copy them.",
    "new": "Make a project: a program in C, the module generated from it, a test on the engine, and a workflow for CI.",
    "doctor": "Say what this machine allows eBPF programs, what is missing, and how to fix it.",
    "features": "Say which map and program types the running kernel has, or which helpers, by creating and loading some.",
    "gen": "Compile eBPF C and write a typed Python module for its maps, programs, variables and types.",
    "gen-c": "Print the C of a program in Python, with the program's lines as comments.",
    "vmlinux": "Print the kernel's types as a C header, or as stubs for programs in Python.",
    "inspect": "Show maps, programs, variables, externs and CO-RE relocations of an object. Needs no rights and no kernel.",
    "verify": "Load every program of objects into one or several kernels, and say what the verifier makes of it.",
    "events": "Follow a ring buffer or perf buffer. Reading takes the events: another reader of the same ring does not see them.",
    "trace": "Follow what all programs of the machine print with bpf_printk(), until Ctrl-C. Needs the right to read tracefs.",
    "top": "Follow all programs (CPU use, runs per second, time per run) and all maps (how full they are, and how fast they grow).",
    "net": "List the programs of this network namespace: XDP, tcx, netkit and clsact by device, flow dissectors and "
    "socket lookups.",
    "packets": "Run a program on captured packets in the embedded engine, count its verdicts, and show its maps.",
    "export": "Serve metrics for Prometheus until Ctrl-C: of programs that it loads and attaches, or of everything loaded on the "
    "machine.",
    "record": "Record events of a ring or perf buffer, or snapshots of a map, into Parquet files, until Ctrl-C.",
    "replay": "Print a recording, at once or with its pauses.",
    "tool": "Ready-made tools: what the machine, a process or a command does.",
    "map": "Maps of the machine, by id, name or pin path, typed by their BTF.",
    "prog": "Programs of the machine.",
    "link": "Links of the machine: programs where they are attached.",
    "cgroup": "Programs of control groups.",
    "btf": "BTF: types of the kernel, its modules, and of programs and maps.",
    "struct_ops": "Kernel interfaces that programs implement.",
    "lru": "What LRU maps keep, and how large they have to be.",
}
ABOUT = "eBPF for Python: run eBPF programs, read and write the maps of the kernel."
EXIT_STATUS = "Exit status: 0 done, 1 failed (the reason is on stderr), 2 wrong usage, 130 interrupted."
_OPTIONS = (
    ("--version", "", "Print the version and exit."),
    ("--install-completion", "", "Install completion for the current shell."),
    ("--show-completion", "", "Show completion for the current shell, to copy it or customize the installation."),
    ("--help", "-h", "Show this message and exit."),
)
# What changes how typer and rich print, apart from the terminal.
_DECIDES = (
    "COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "JUPYTER_COLUMNS", "NO_COLOR", "PY_COLORS", "TERMINAL_WIDTH", "TTY_COMPATIBLE",
    "TTY_INTERACTIVE", "TYPER_USE_RICH", "UNICODE_VERSION", "_TYPER_FORCE_DISABLE_TERMINAL",
)  # fmt: skip
_LEAST = 70  # characters in a line; rich makes columns narrower where there are less
_BOLD, _DIM, _USAGE, _COMMAND, _SHORT, _KIND, _BRACKET = "1", "2", "1;33", "1;36", "1;32", "1;33", "1;2;33"


def print_overview(environment: Mapping[str, str] = os.environ) -> bool:
    """Print it and say True; False where only typer knows how it would look."""
    out = sys.stdout
    colours = out.isatty()
    if any(name in environment for name in _DECIDES) or (out.encoding or "").lower() not in ("utf-8", "utf8"):
        return False
    if colours and environment.get("TERM", "dumb").lower() in ("dumb", "unknown"):
        return False
    width = 80
    for number in range(3):  # the first that is a terminal, as rich looks for it
        try:
            width = os.get_terminal_size(number).columns or 80
            break
        except OSError:
            pass
    if width < _LEAST:
        return False
    print(*overview(width, colours), sep="\n")
    return True


def overview(width: int, colours: bool) -> Iterator[str]:
    """The lines for so many characters, with the colours of a terminal or without."""

    def styled(style: str, text: str) -> str:
        return f"\033[{style}m{text}\033[0m" if colours and text else text

    def panel(title: str, rows: Iterator[tuple[str, int, str]]) -> Iterator[str]:
        """A frame of rows: what stands to the left, how many characters that are, and text."""
        bar = styled(_DIM, "│")
        yield styled(_DIM, f"╭─ {title} {'─' * (width - len(title) - 5)}╮")
        for left, used, text in rows:
            for number, line in enumerate(wrapped(text, width - used - 4)):
                yield f"{bar} {left if not number else ' ' * used}{line:<{width - used - 4}} {bar}"
        yield styled(_DIM, f"╰{'─' * (width - 2)}╯")

    def options() -> Iterator[tuple[str, int, str]]:
        kind = styled(_BRACKET, "<") + styled(_KIND, "bool") + styled(_BRACKET, ">")
        for long, short, text in _OPTIONS:
            names = f"{styled(_COMMAND, long)}{' ' * (22 - len(long))}{styled(_SHORT, short)}{' ' * (8 - len(short))}"
            yield f"{names}{kind}  ", 38, text

    def commands() -> Iterator[tuple[str, int, str]]:
        for name, text in SUMMARIES.items():
            yield f"{styled(_COMMAND, name)}{' ' * (12 - len(name))}", 12, text

    usage = "Usage: bpf2py [OPTIONS] COMMAND [ARGS]..."
    yield styled(_BOLD, " " * width)
    yield (
        f"{styled(_BOLD, ' ')}{styled(_USAGE, usage[:7])}{styled(_BOLD, usage[7:] + ' ' * (width - 1 - len(usage)))}"
    )
    yield styled(_BOLD, " " * width)
    yield from (f" {line:<{width - 1}}" for line in wrapped(ABOUT, width - 2))
    yield " " * width
    yield from panel("Options", options())
    yield from panel("Commands", commands())
    yield " " * width
    yield from (f" {line:<{width - 1}}" for line in wrapped(f"{EXIT_STATUS} Of run: the command's.", width - 2))
    yield " " * width
    yield ""


def wrapped(text: str, width: int) -> Iterator[str]:
    """The text in lines of at most so many characters, broken at spaces."""
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line

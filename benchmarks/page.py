"""Which rows the table has, and how measured numbers become lines, a table on the terminal and a page of the documentation."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

__all__ = ["ROWS", "SECTIONS", "SIDES", "Facts", "Line", "Numbers", "Row", "lines_of", "page", "terminal"]

Numbers = Mapping[str, float]
Line = dict[str, object]
Facts = Mapping[str, object]
SIDES = ("C", "cilium/ebpf", "pylibbpf", "bpf2py", "engine")
SECTIONS = ("Start and load", "Events", "Single operations and whole maps", "Command line")
NO_ENGINE = "The engine against the kernel"


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        section: of the page it is in.
        what: is measured.
        unit: of it.
        wanted: the bar, as text.
        key: the number in what a side gives, by the side's name: (what was measured, number).
        more: whether more is better.
    """

    section: str
    what: str
    unit: str
    wanted: str
    key: dict[str, tuple[str, str]]
    more: bool = False


def _row(section: int, what: str, unit: str, wanted: str, more: bool = False, **key: tuple[str, str]) -> Row:
    names = {"C": "C", "go": "cilium/ebpf", "peer": "pylibbpf", "own": "bpf2py", "engine": "engine"}
    return Row(SECTIONS[section], what, unit, wanted, {names[side]: number for side, number in key.items()}, more)


ROWS = [
    _row(0, "object file to first map read, import included", "ms", "<= 20", C=("C plain", "ms"), go=("go plain", "ms"),
         peer=("pylibbpf plain", "ms"), own=("plain", "ms"), engine=("engine plain", "ms")),
    _row(0, "the same with CO-RE against vmlinux", "ms", "<= 30", C=("C core", "ms"), go=("go core", "ms"),
         peer=("pylibbpf core", "ms"), own=("core", "ms")),
    _row(0, "the same, for the first time on this kernel", "ms", "", C=("C core", "ms"), go=("go core", "ms"),
         own=("core, empty cache", "ms")),
    _row(0, "memory after the first read (peak)", "MiB", "<= 16", C=("C plain", "mib"), go=("go plain", "mib"),
         peer=("pylibbpf plain", "mib"), own=("plain", "mib"), engine=("engine plain", "mib")),
    _row(0, "200 programs loaded, warm", "ms", "<= 1.3x", C=("C 200", "ms"), go=("go 200", "ms"), own=("200", "ms"),
         engine=("engine 200", "ms")),
    _row(0, "200 programs with CO-RE loaded, warm", "ms", "<= 1.3x", C=("C 200core", "ms"), go=("go 200core", "ms"),
         own=("200core", "ms")),
    _row(0, "a small program's first run, CPU time", "ms", "<= 60", engine=("engine start", "ms")),
    _row(1, "first drain of a 64 MiB ring, 1M records", "M/s", ">= 75", True, C=("C ring", "mps"), go=("go ring", "mps"),
         own=("ring", "mps"), engine=("engine ring", "mps")),
    _row(1, "until such a RingReader is ready", "ms", "", go=("go ring", "ready_ms"), own=("ring", "ready_ms"),
         engine=("engine ring", "ready_ms")),
    _row(1, "first drain of a perf buffer, 200k records", "M/s", ">= 50", True, C=("C perf", "mps"), go=("go perf", "mps"),
         own=("perf", "mps"), engine=("engine perf", "mps")),
    _row(1, "typed events of a ring, for event in reader", "M/s", ">= 3", True, own=("ring typed", "mps"),
         engine=("engine ring typed", "mps")),
    _row(1, "typed events of a perf buffer", "M/s", ">= 3", True, own=("perf typed", "mps"), engine=("engine perf typed", "mps")),
    _row(1, "live, 500k records through 1 MiB, dropped: batches", "%", "0", C=("C live", "percent"),
         own=("live batches", "percent")),
    _row(1, "live, dropped: typed events", "%", "0", C=("C live", "percent"), own=("live events", "percent")),
    _row(2, "lookup, m[key]", "ns", "<= 1.2x", C=("C maps", "lookup"), go=("go maps", "lookup"),
         peer=("pylibbpf maps", "lookup"), own=("maps", "m[key]"),
         engine=("engine maps", "m[key]")),
    _row(2, "update, m[key] = value", "ns", "<= 1.3x", C=("C maps", "update"), go=("go maps", "update"),
         peer=("pylibbpf maps", "update"),
         own=("maps", "m[key] = value"), engine=("engine maps", "m[key] = value")),
    _row(2, "count() of 100k, first call", "ms", "<= 3", own=("maps", "count_ms"), engine=("engine maps", "count_ms")),
    _row(2, "to_numpy() of 100k, an element", "ns", "<= 1.1x", C=("C maps", "lookup_batch"), go=("go maps", "lookup_batch"),
         own=("maps", "m.to_numpy()"), engine=("engine maps", "m.to_numpy()")),
    _row(2, "to_numpy() of 1M, an element", "ns", "<= 1.1x", C=("C maps 1M", "lookup_batch"), go=("go maps 1M", "lookup_batch"),
         own=("maps 1M", "m.to_numpy()")),
    _row(3, "bpf2py map list (C: bpftool), whole process", "ms", "<= 60", C=("bpftool list", "ms"), own=("list", "ms")),
    _row(3, "bpf2py --help, whole process", "ms", "2x import", own=("help", "ms")),
    _row(3, "python -c 'import bpf2py', whole process", "ms", "", own=("import", "ms")),
    _row(3, "python -c pass, whole process", "ms", "", own=("bare", "ms")),
]  # fmt: skip


def lines_of(found: Mapping[str, Sequence[Numbers]]) -> list[Line]:
    """A dict for each row: median and best by side, and how many times slower than C the medians of bpf2py are.

    Args:
        found: what each side gave in each round, by the name of what was measured; what is not there stays empty.
    """
    lines: list[Line] = []
    for row in ROWS:
        line: Line = {"section": row.section, "what": row.what, "unit": row.unit, "wanted": row.wanted}
        medians = {}
        for side, (name, key) in row.key.items():
            values = [numbers[key] for numbers in found.get(name, ()) if key in numbers]
            if values:
                medians[side] = statistics.median(values)
                line[side] = {"median": medians[side], "best": (max if row.more else min)(values)}
        if medians.get("C") and medians.get("bpf2py"):
            a, b = medians["bpf2py"], medians["C"]
            line["ratio"] = b / a if row.more else a / b
        lines.append(line)
    return lines


def _number(value: float) -> str:
    """Three digits, without an exponent."""
    if value == 0:
        return "0"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cell(value: object) -> str:
    return f"{_number(value['median'])} ({_number(value['best'])})" if isinstance(value, dict) else ""


def _ratio(value: object) -> str:
    return f"{_number(value)}x" if isinstance(value, float) else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown, without the columns in which nothing stands."""
    rows = list(rows)
    kept = [at for at, name in enumerate(head) if at == 0 or any(row[at] for row in rows)]
    out = ["| " + " | ".join(head[at] for at in kept) + " |", "|" + "---|" * len(kept)]
    return out + ["| " + " | ".join(row[at] for at in kept) + " |" for row in rows]


def page(lines: Sequence[Line], engine: Sequence[Line], facts: Facts) -> str:
    """The page of the documentation.

    Args:
        lines: of `lines_of`.
        engine: what the engine takes of the kernel's time: dicts with ``what``, ``median``, ``best``, ``wanted``, ``kernel_ns``
            and ``engine_ns``; may be empty.
        facts: of the run.
    """
    notes = facts["notes"]
    assert isinstance(notes, list)
    out = [
        "# How fast",
        "",
        f"Measured on {facts['date']}: {facts['machine']}, Linux {facts['kernel']}, Python {facts['python']}, by `make bench`, "
        "which measures everything in turns in one run, each figure in a fresh process. Figures are medians, and in brackets the "
        f"best, of {facts['rounds']} rounds; *of C* says how many times slower than C bpf2py is. The load average was "
        f"{facts['load']}: on a quiet machine times are shorter, most of all those of whole processes.",
        "",
        *(f"- {note}." for note in notes),
        *([""] if notes else []),
    ]
    heads = {"C": "C with libbpf"}
    for section in SECTIONS:
        head = ["what", "unit", *(heads.get(side, side) for side in SIDES), "of C"]
        rows = [
            [
                str(line["what"]),
                str(line["unit"]),
                *(_cell(line.get(side)) for side in SIDES),
                _ratio(line.get("ratio")),
            ]
            for line in lines
            if line["section"] == section
        ]
        out += [f"## {section}", "", *_table(head, rows), ""]
        if section == SECTIONS[0]:
            out += [
                "What a kernel's types are called is kept in the user's cache directory (`BPF2PY_CACHE_DIR`): the row *for the "
                "first time on this kernel* has none. The engine takes its types from the program, so it has no such rows.",
                "",
            ]
    out += [
        f"## {NO_ENGINE}",
        "",
        "The same bytecode under the kernel's JIT compiler and as the [engine](../engine/index.md) runs it, turn and turn about: "
        "how many times the kernel's time the engine takes, and how long one operation or call of a helper takes.",
        "",
        *_table(
            ["what", "of the kernel's time", "kernel, ns", "engine, ns"],
            (_engine_row(line) for line in engine),
        ),
    ]  # fmt: skip
    if not engine:
        out[-2:] = ["This run did not measure it."]
    return "\n".join(out).rstrip() + "\n"


def _engine_row(line: Line) -> list[str]:
    ratio = f"{_ratio(line['median'])} ({_ratio(line['best'])})"
    return [str(line["what"]), ratio, _ns(line["kernel_ns"]), _ns(line["engine_ns"])]


def _ns(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) and value < 100 else f"{value:.0f}"


def terminal(lines: Sequence[Line], engine: Sequence[Line]) -> str:
    """The same for people who ran it."""
    out = [
        f"{'':50} {'unit':4} {'wanted':9} "
        + " ".join(f"{side:>13}" for side in SIDES)
        + f" {'of C':>7}   median (best)"
    ]
    section = ""
    for line in lines:
        if line["section"] != section:
            section = str(line["section"])
            out.append(section.upper())
        cells = " ".join(f"{_cell(line.get(side)):>13}" for side in SIDES)
        out.append(
            f"{line['what']!s:50} {line['unit']!s:4} {line['wanted']!s:9} {cells} {_ratio(line.get('ratio')):>7}"
        )
    out.append(f"{NO_ENGINE.upper()}, times the kernel's time: median (best), wanted")
    for line in engine:
        out.append(
            f"{line['what']!s:50} {_ratio(line['median']):>8} ({_ratio(line['best'])}) <= {_ratio(line['wanted'])}"
        )
    return "\n".join(out)

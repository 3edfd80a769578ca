"""The page "How fast" says what was measured, and leaves empty what was not."""

from __future__ import annotations

import re
from typing import Any

from benchmarks.bench_engine import WORK
from benchmarks.page import ROWS, SECTIONS, SIDES, lines_of, page, terminal

FACTS: dict[str, Any] = {
    "date": "2026-01-02", "machine": "2 x Some CPU", "kernel": "6.18.1", "python": "3.11.7", "rounds": 7, "load": "0.4",
    "notes": ["pylibbpf is not installed: its column is empty"],
}  # fmt: skip
ENGINE = [
    {"what": work.what, "wanted": work.bar, "median": 1.25, "best": 0.5, "kernel_ns": 10.04, "engine_ns": 1234.5} for work in WORK
]  # fmt: skip


def measured(*sides: str) -> dict[str, list[dict[str, float]]]:
    """Three rounds of everything that some sides measure: 4, 2 and 3 for C, and ten times that for others."""
    found: dict[str, list[dict[str, float]]] = {}
    for row in ROWS:
        for side in sides:
            if side in row.key:
                name, key = row.key[side]
                scale = 1 if side == "C" else 10
                for numbers, value in zip(found.setdefault(name, [{}, {}, {}]), (4, 2, 3), strict=True):
                    numbers[key] = value * scale
    return found


def tables(text: str) -> dict[str, list[list[str]]]:
    """The cells of each section's table, its head first."""
    found: dict[str, list[list[str]]] = {}
    for part in text.split("\n## ")[1:]:
        title, _, body = part.partition("\n")
        lines = [line for line in body.splitlines() if line.startswith("|")]
        found[title] = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in lines if not set(line) <= set("|-")
        ]
    return found


def test_every_row_is_on_the_page() -> None:
    text = page(lines_of(measured(*SIDES)), ENGINE, FACTS)
    found = tables(text)
    assert list(found) == [*SECTIONS, "The engine against the kernel"]
    for section in SECTIONS:
        assert [row[0] for row in found[section][1:]] == [row.what for row in ROWS if row.section == section]
    assert [row[0] for row in found["The engine against the kernel"][1:]] == [work.what for work in WORK]
    for rows in found.values():
        assert {len(row) for row in rows} == {len(rows[0])}, "a cell is missing, or one has a bar in it"
    for fact in ("2026-01-02", "2 x Some CPU", "6.18.1", "3.11.7", "of 7 rounds", "The load average was 0.4"):
        assert fact in text
    assert "- pylibbpf is not installed: its column is empty.\n" in text


def test_medians_bests_and_ratios() -> None:
    lines = lines_of(measured("C", "bpf2py"))
    for row, line in zip(ROWS, lines, strict=True):
        if "C" not in row.key:
            assert "ratio" not in line
            continue
        assert line["C"] == {"median": 3, "best": 4 if row.more else 2}
        assert line["bpf2py"] == {"median": 30, "best": 40 if row.more else 20}
        assert line["ratio"] == (0.1 if row.more else 10)  # how many times slower
    text = page(lines, ENGINE, FACTS)
    drain = next(line for line in text.splitlines() if line.startswith("| first drain of a perf buffer"))
    assert drain == "| first drain of a perf buffer, 200k records | M/s | 3 (4) | 30 (40) | 0.1x |"
    assert "| arithmetic | 1.25x (0.5x) | 10.0 | 1234 |" in text


def test_sides_that_were_not_there_take_no_space() -> None:
    found = tables(page(lines_of(measured("bpf2py")), [], FACTS))
    for section in SECTIONS:
        assert found[section][0] == ["what", "unit", "bpf2py"]
    assert found["The engine against the kernel"] == []
    events = tables(page(lines_of(measured(*SIDES)), ENGINE, FACTS))["Events"]
    assert events[0] == [
        "what",
        "unit",
        "C with libbpf",
        "cilium/ebpf",
        "bpf2py",
        "engine",
        "of C",
    ]  # pylibbpf has none of it
    nothing = page(lines_of({}), [], FACTS | {"notes": []})
    assert not re.search(r"\d \(", nothing)
    assert "This run did not measure it." in nothing


def test_numbers_are_read_without_exponents() -> None:
    big = {
        name: [{key: 4021.0, **numbers} for numbers in rounds for key in numbers]
        for name, rounds in measured("bpf2py").items()
    }
    text = page(lines_of(measured("C", "bpf2py") | big), ENGINE, FACTS)
    assert "e+" not in text
    assert "e+" not in terminal(lines_of(big), ENGINE)


def test_the_terminal_shows_the_same_rows() -> None:
    text = terminal(lines_of(measured(*SIDES)), ENGINE)
    for row in ROWS:
        assert row.what in text
    for work in WORK:
        assert re.search(rf"^{re.escape(work.what)} +1\.25x \(0\.5x\)", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 160

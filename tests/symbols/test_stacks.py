"""Stacks counted, drawn and saved."""

from __future__ import annotations

import gzip
import html
import json
import random
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bpf2py.symbols import Frame, PythonFrame, Stacks, merged

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ODD = [
    "</script><script>alert(1)</script>",
    "quote\"and'",
    "a;b",
    "new\nline",
    "\x1b[31m",
    "größe",
    "x" * 300,
    "\u2028",
    "",
]


def some() -> Stacks:
    stacks = Stacks()
    stacks.add(["read", "load", "main"], 3)
    stacks.add(["load", "main"])
    stacks.add(["idle"], 6)
    return stacks


def test_counting() -> None:
    stacks = some()
    assert (len(stacks), stacks.total) == (3, 10)
    assert stacks.folded() == ["idle 6", "main;load 1", "main;load;read 3"]
    assert stacks.leaves() == Counter(idle=6, read=3, load=1)
    root = stacks.tree()
    load = root.children["main"].children["load"]
    assert (root.value, load.value, load.own) == (10, 4, 1)
    again = Stacks.from_folded(stacks.folded())
    assert again.counts == stacks.counts
    assert Stacks.from_folded(["", "no count", "x -1", "good 2"]).folded() == ["good 2"]
    lines = str(stacks).splitlines()
    assert lines[0] == "10 samples"
    assert [re.sub(r"[^\w.%]+", " ", line).strip() for line in lines[1:]] == [
        "60.0% idle",
        "40.0% main",
        "40.0% load",
        "30.0% read",
    ]
    assert "read" not in stacks.text(0.35)
    assert Stacks().text() == "0 samples"


def test_frames_of_all_kinds() -> None:
    stacks = Stacks()
    frames = [Frame(5, "malloc", 1, "/lib/libc.so.6", "user"), Frame(9, "", 4, "/usr/bin/prog", "user"), Frame(0xFFFF)]
    stacks.add([PythonFrame("/a/b.py", "C.run", 12), *frames], root="prog")
    assert stacks.folded() == ["prog;0xffff;[prog];malloc;C.run (b.py:12) 1"]


def test_names_that_would_be_something_else() -> None:
    stacks = Stacks()
    stacks.add(ODD)
    (line,) = stacks.folded()
    assert line.count(";") == len(ODD) - 1
    assert line.isprintable()
    assert all(text.isprintable() for text in str(stacks).splitlines())
    page = stacks.flame_graph("<b>title</b>")
    assert "<b>title" not in page
    assert page.count("<script") == 2  # its own
    data = json.loads(html.unescape(re.search(r'type="application/json">(.*?)</script>', page, re.S)[1]))  # type: ignore[index]
    assert set(data["names"]) == {"all", *ODD}


def test_deep_stacks() -> None:
    stacks = Stacks()
    stacks.add([f"f{i}" for i in range(5000)])
    assert len(stacks.flame_graph()) > 5000
    assert stacks.folded()[0].count(";") == 4999


def test_speedscope(tmp_path: Path) -> None:
    path = tmp_path / "a.speedscope.json"
    some().save(path, "mine")
    made = json.loads(path.read_text())
    (profile,) = made["profiles"]
    names = [frame["name"] for frame in made["shared"]["frames"]]
    again = {tuple(names[i] for i in s): w for s, w in zip(profile["samples"], profile["weights"], strict=True)}
    assert again == some().counts
    assert (profile["type"], profile["endValue"], profile["name"]) == ("sampled", 10, "mine")


def fields(data: bytes) -> list[tuple[int, Any]]:
    """The fields of a protocol buffer: numbers, and bytes."""
    found: list[tuple[int, Any]] = []
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            found.append((tag >> 3, varint()))
        else:
            assert tag & 7 == 2
            size = varint()
            found.append((tag >> 3, data[at : at + size]))
            at += size
    return found


def test_pprof(tmp_path: Path) -> None:
    some().save(tmp_path / "a.pb.gz")
    top = fields(gzip.decompress((tmp_path / "a.pb.gz").read_bytes()))
    strings = [data.decode() for number, data in top if number == 6]
    functions = {dict(fields(data))[1]: strings[dict(fields(data))[2]] for number, data in top if number == 5}
    locations = {dict(fields(d))[1]: functions[dict(fields(dict(fields(d))[4]))[1]] for number, d in top if number == 4}
    assert strings[0] == ""
    again = {}
    for number, data in top:
        if number == 2:
            sample = dict(fields(data))
            again[tuple(locations[place] for place in reversed(sample[1]))] = sample[2][0]
    assert again == some().counts
    (kind,) = [dict(fields(data)) for number, data in top if number == 1]
    assert (strings[kind[1]], strings[kind[2]]) == ("samples", "count")


def test_saving(tmp_path: Path) -> None:
    some().save(tmp_path / "a.folded")
    assert (tmp_path / "a.folded").read_text() == "idle 6\nmain;load 1\nmain;load;read 3\n"
    some().save(tmp_path / "a.html", "mine", icicle=True)
    assert '"icicle":true' in (tmp_path / "a.html").read_text()
    with pytest.raises(ValueError, match="its name must end with"):
        some().save(tmp_path / "a.png")


def test_merging_with_native_frames() -> None:
    native = [Frame(i, name) for i, name in enumerate(
        ["read", "os_read", "_PyEval_EvalFrameDefault", "sort", "_PyEval_EvalFrameDefault", "main"])]  # fmt: skip
    python = [
        PythonFrame("a.py", "key", 1, True),
        PythonFrame("a.py", "inner", 2),
        PythonFrame("a.py", "<module>", 3, True),
    ]
    assert [getattr(frame, "name", None) or frame.function for frame in merged(native, python)] == [  # type: ignore[union-attr]
        "read", "os_read", "key", "sort", "inner", "<module>", "main",
    ]  # fmt: skip
    assert merged(native[:2], python) == [*native[:2], *python]
    assert merged(native, []) == native


def dom(page: Path, fragment: str = "") -> str:
    """What a browser makes of a page."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1000,700",
        "--virtual-time-budget=5000",
    ]
    done = subprocess.run(
        [*command, "--dump-dom", f"file://{page}{fragment}"], capture_output=True, text=True, timeout=120
    )
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to draw the page")
def test_a_flame_graph_in_a_browser(tmp_path: Path) -> None:
    page = tmp_path / "graph.html"
    stacks = some()
    stacks.add(ODD, 5)
    stacks.save(page, "Mine")

    def boxes(text: str) -> dict[str, tuple[float, str]]:
        found = {}
        for tag in re.findall(r"<button type=\"button\" data-id=[^>]*>", text):
            label = html.unescape(re.search(r'aria-label="(.*?)"', tag, re.S)[1])  # type: ignore[index]
            width = float(re.search(r"width: ([\d.]+)px", tag)[1])  # type: ignore[index]
            found[label.rpartition(": ")[0]] = (width, tag)
        return found

    text = dom(page)
    drawn = boxes(text)
    assert {"all", "idle", "main", "load", "read", *(name for name in ODD if "\n" not in name)} <= set(drawn)
    whole = drawn["all"][0]
    assert drawn["idle"][0] == pytest.approx(whole * 6 / 15, abs=3)
    assert drawn["load"][0] == pytest.approx(whole * 4 / 15, abs=3)
    assert "load: 4 samples, 26.67 %" in html.unescape(drawn["load"][1])
    # Searched: what matches is marked, and counted once where one is within another.
    searched = dom(page, "#search=%5E(load%7Cread)%24")
    assert "2 matching, 26.67 %" in searched
    assert [name for name, (_, tag) in boxes(searched).items() if 'class="hit"' in tag] == ["load", "read"]
    assert "not a regular expression" in dom(page, "#search=(")
    # Zoomed: the function takes the whole width, and those that called it, too.
    number = re.search(r'data-id="(\d+)"', drawn["load"][1])[1]  # type: ignore[index]
    zoomed = boxes(dom(page, f"#zoom={number}"))
    assert zoomed["load"][0] == zoomed["main"][0] == whole
    assert zoomed["read"][0] == pytest.approx(whole * 3 / 4, abs=3)
    assert "idle" not in zoomed


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to draw the page")
def test_a_comparison_in_a_browser(tmp_path: Path) -> None:
    before, after = some(), some()
    after.add(["read", "load", "main"], 10)
    before.add(["only before"], 4)
    after.save(tmp_path / "graph.html", before=before)
    text = html.unescape(dom(tmp_path / "graph.html"))
    assert "read: 13 samples, 65.00 %, +43.57 % (before: 3)" in text
    assert "only before: 0 samples, 0.00 %, −28.57 % (before: 4)" in text


def test_a_graph_of_many_functions() -> None:
    rng = random.Random(3)
    stacks = Stacks()
    for _ in range(20_000):
        stacks.add([f"f{rng.randrange(40)}" for _ in range(rng.randrange(1, 20))])
    assert len(stacks.flame_graph()) < 6_000_000
